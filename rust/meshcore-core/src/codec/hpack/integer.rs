//! Integers with a prefix (RFC 7541 §5.1).

use super::decode::HpackError;

/// Reads an integer whose first byte has `prefix` bits for it; gives what follows.
///
/// Five bytes of continuation hold 35 bits: whatever is counted here is far below 2^32, and a
/// longer one is an attack or a fault.
pub(super) fn read(src: &[u8], prefix: u32) -> Result<(usize, &[u8]), HpackError> {
    let (&first, mut rest) = src.split_first().ok_or(HpackError)?;
    let mask = (1usize << prefix) - 1;
    let mut value = usize::from(first) & mask;
    if value < mask {
        return Ok((value, rest));
    }
    for shift in (0..28).step_by(7) {
        let (&byte, behind) = rest.split_first().ok_or(HpackError)?;
        rest = behind;
        value += usize::from(byte & 0x7F) << shift;
        if byte & 0x80 == 0 {
            return Ok((value, rest));
        }
    }
    Err(HpackError)
}

/// Writes an integer behind the bits of `pattern` above its prefix.
pub(super) fn write(out: &mut Vec<u8>, pattern: u8, prefix: u32, mut value: usize) {
    let mask = (1usize << prefix) - 1;
    if value < mask {
        return out.push(pattern | value as u8);
    }
    out.push(pattern | mask as u8);
    value -= mask;
    while value >= 0x80 {
        out.push(value as u8 | 0x80);
        value >>= 7;
    }
    out.push(value as u8);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_examples_of_rfc_7541() {
        // Appendix C.1: 10 and 1337 with a prefix of 5 bits, 42 with one of 8.
        for (prefix, value, bytes) in
            [(5, 10, &[10u8][..]), (5, 1337, &[31, 154, 10]), (8, 42, &[42])]
        {
            let mut out = Vec::new();
            write(&mut out, 0, prefix, value);
            assert_eq!(out, bytes);
            assert_eq!(read(bytes, prefix), Ok((value, &[][..])));
        }
    }

    #[test]
    fn there_and_back() {
        for value in (0..300).chain([16_383, 16_384, 1 << 20, (1 << 28) - 1]) {
            for prefix in 1..=8 {
                let mut out = Vec::new();
                write(&mut out, 0, prefix, value);
                out.push(9);
                assert_eq!(read(&out, prefix), Ok((value, &[9][..])));
            }
        }
    }

    #[test]
    fn what_does_not_end_or_is_too_long() {
        for bytes in [&[][..], &[31], &[31, 0x80], &[31, 0xFF, 0xFF, 0xFF, 0xFF, 0x0F]] {
            assert_eq!(read(bytes, 5), Err(HpackError));
        }
    }
}
