//! The Huffman code of RFC 7541, Appendix B.
//!
//! The code is canonical: codes of one length are consecutive, in the order of their symbols. So
//! the lengths say everything, and the tables are made of them when this is compiled.

use super::decode::HpackError;

/// End of string: it may only stand as padding.
const EOS: usize = 256;
const LONGEST: usize = 30;

/// Bits of each byte's code, and of EOS (facts of RFC 7541, Appendix B).
#[rustfmt::skip]
const LENGTHS: [u8; 257] = [
    13, 23, 28, 28, 28, 28, 28, 28, 28, 24, 30, 28, 28, 30, 28, 28,
    28, 28, 28, 28, 28, 28, 30, 28, 28, 28, 28, 28, 28, 28, 28, 28,
    6, 10, 10, 12, 13, 6, 8, 11, 10, 10, 8, 11, 8, 6, 6, 6,
    5, 5, 5, 6, 6, 6, 6, 6, 6, 6, 7, 8, 15, 6, 12, 10,
    13, 6, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7,
    7, 7, 7, 7, 7, 7, 7, 7, 8, 7, 8, 13, 19, 13, 14, 6,
    15, 5, 6, 5, 6, 5, 6, 6, 6, 5, 7, 7, 6, 6, 6, 5,
    6, 7, 6, 5, 5, 6, 7, 7, 7, 7, 7, 15, 11, 14, 13, 28,
    20, 22, 20, 20, 22, 22, 22, 23, 22, 23, 23, 23, 23, 23, 24, 23,
    24, 24, 22, 23, 24, 23, 23, 23, 23, 21, 22, 23, 22, 23, 23, 24,
    22, 21, 20, 22, 22, 23, 23, 21, 23, 22, 22, 24, 21, 22, 23, 23,
    21, 21, 22, 21, 23, 22, 23, 23, 20, 22, 22, 22, 23, 22, 22, 23,
    26, 26, 20, 19, 22, 23, 22, 25, 26, 26, 26, 27, 27, 26, 24, 25,
    19, 21, 26, 27, 27, 26, 27, 24, 21, 21, 26, 26, 28, 27, 27, 27,
    20, 24, 20, 21, 22, 21, 21, 23, 22, 22, 25, 25, 24, 24, 26, 23,
    26, 27, 26, 26, 27, 27, 27, 27, 27, 28, 27, 27, 27, 27, 27, 26,
    30,
];

/// Bits that the first look-up takes: every character of ordinary fields has a shorter code.
const QUICK_BITS: usize = 8;

struct Tables {
    /// Code of each symbol.
    codes: [u32; 257],
    /// By length: the first code, where its symbols begin in `sorted`, and how many there are.
    first: [u32; LONGEST + 1],
    start: [u16; LONGEST + 1],
    count: [u16; LONGEST + 1],
    /// Symbols by length, then by value.
    sorted: [u16; 257],
    /// By the next eight bits: the symbol and its length; length 0: the code is longer.
    quick: [(u8, u8); 1 << QUICK_BITS],
}

const fn tables() -> Tables {
    let mut t = Tables {
        codes: [0; 257],
        first: [0; LONGEST + 1],
        start: [0; LONGEST + 1],
        count: [0; LONGEST + 1],
        sorted: [0; 257],
        quick: [(0, 0); 1 << QUICK_BITS],
    };
    let (mut code, mut place, mut len) = (0u32, 0, 1);
    while len <= LONGEST {
        t.first[len] = code;
        t.start[len] = place as u16;
        let mut symbol = 0;
        while symbol <= EOS {
            if LENGTHS[symbol] as usize == len {
                t.codes[symbol] = code;
                t.sorted[place] = symbol as u16;
                if len <= QUICK_BITS {
                    let low = (code as usize) << (QUICK_BITS - len);
                    let mut i = 0;
                    while i < 1 << (QUICK_BITS - len) {
                        t.quick[low + i] = (symbol as u8, len as u8);
                        i += 1;
                    }
                }
                code += 1;
                place += 1;
                t.count[len] += 1;
            }
            symbol += 1;
        }
        code <<= 1;
        len += 1;
    }
    t
}

static TABLES: Tables = tables();

/// Appends the text that `src` stands for; refuses more than `max` bytes of it by cutting it off:
/// then it gives false.
///
/// # Errors
/// EOS inside of it, or padding that is not its beginning or is longer than seven bits (§5.2).
pub(super) fn decode(src: &[u8], max: usize, out: &mut Vec<u8>) -> Result<bool, HpackError> {
    let end = out.len() + max;
    let (mut bits, mut have) = (0u64, 0usize);
    let mut bytes = src.iter();
    loop {
        while have <= 56 {
            let Some(&byte) = bytes.next() else { break };
            bits |= u64::from(byte) << (56 - have);
            have += 8;
        }
        if have == 0 {
            return Ok(true);
        }
        let (symbol, len) = TABLES.quick[(bits >> (64 - QUICK_BITS)) as usize];
        let (symbol, len) = match len {
            0 => match long(bits, have) {
                Some(found) => found,
                None => return padding(bits, have),
            },
            len => (symbol, usize::from(len)),
        };
        if len > have {
            return padding(bits, have);
        }
        if out.len() == end {
            return Ok(false);
        }
        out.push(symbol);
        bits <<= len;
        have -= len;
    }
}

/// A symbol whose code is longer than the first look-up; `None`: EOS, or too few bits.
fn long(bits: u64, have: usize) -> Option<(u8, usize)> {
    for len in QUICK_BITS + 1..=LONGEST.min(have) {
        let code = (bits >> (64 - len)) as u32;
        let at = code.wrapping_sub(TABLES.first[len]);
        if code >= TABLES.first[len] && at < u32::from(TABLES.count[len]) {
            let symbol = TABLES.sorted[usize::from(TABLES.start[len]) + at as usize];
            return (symbol as usize != EOS).then_some((symbol as u8, len));
        }
    }
    None
}

/// What is left is padding: up to seven bits, all set.
fn padding(bits: u64, have: usize) -> Result<bool, HpackError> {
    let ones = !0u64 << (64 - have.max(1));
    if have < 8 && bits & ones == ones { Ok(true) } else { Err(HpackError) }
}

/// How many bytes `text` takes.
pub(super) fn encoded_len(text: &[u8]) -> usize {
    text.iter().map(|&b| usize::from(LENGTHS[usize::from(b)])).sum::<usize>().div_ceil(8)
}

/// Appends the code of `text`.
pub(super) fn encode(text: &[u8], out: &mut Vec<u8>) {
    let (mut bits, mut have) = (0u64, 0u32);
    for &byte in text {
        let len = u32::from(LENGTHS[usize::from(byte)]);
        bits = bits << len | u64::from(TABLES.codes[usize::from(byte)]);
        have += len;
        if have >= 32 {
            have -= 32;
            out.extend_from_slice(&((bits >> have) as u32).to_be_bytes());
        }
    }
    // Padded by ones to whole bytes.
    let bits = bits << 8 | 0xFF;
    let rest = ((bits << 24 >> have) as u32).to_be_bytes();
    out.extend_from_slice(&rest[..have.div_ceil(8) as usize]);
}

#[cfg(test)]
mod tests {
    use super::*;

    fn decoded(bytes: &[u8]) -> Result<Vec<u8>, HpackError> {
        let mut out = Vec::new();
        decode(bytes, 1 << 20, &mut out).map(|_| out)
    }

    #[test]
    fn the_examples_of_rfc_7541() {
        for (text, code) in [
            (
                "www.example.com",
                &[0xf1, 0xe3, 0xc2, 0xe5, 0xf2, 0x3a, 0x6b, 0xa0, 0xab, 0x90, 0xf4, 0xff][..],
            ),
            ("no-cache", &[0xa8, 0xeb, 0x10, 0x64, 0x9c, 0xbf]),
            ("302", &[0x64, 0x02]),
        ] {
            let mut out = Vec::new();
            encode(text.as_bytes(), &mut out);
            assert_eq!(out, code);
            assert_eq!(decoded(code).as_deref(), Ok(text.as_bytes()));
            assert_eq!(encoded_len(text.as_bytes()), code.len());
        }
    }

    #[test]
    fn every_byte_there_and_back() {
        let all: Vec<u8> = (0..=255).chain((0..=255).rev()).collect();
        let mut out = Vec::new();
        encode(&all, &mut out);
        assert_eq!(decoded(&out), Ok(all));
        for byte in 0..=255u8 {
            let mut out = Vec::new();
            encode(&[byte], &mut out);
            assert_eq!(decoded(&out), Ok(vec![byte]));
        }
    }

    #[test]
    fn bad_ends() {
        // Eight bits of padding; padding that is not all ones; EOS.
        for bytes in [&[0xFF][..], &[0x64, 0x02, 0xFF], &[0x00], &[0xFF, 0xFF, 0xFF, 0xFC]] {
            assert_eq!(decoded(bytes), Err(HpackError), "{bytes:x?}");
        }
        assert_eq!(decoded(&[0x07]), Ok(b"0".to_vec()), "five bits, and three of padding");
    }

    #[test]
    fn a_text_that_is_too_long_is_cut() {
        let mut out = Vec::new();
        assert_eq!(decode(&[0x00, 0x00, 0x07], 2, &mut out), Ok(false));
        assert_eq!(out, b"00");
    }
}
