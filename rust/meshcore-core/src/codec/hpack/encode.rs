//! Writing a field block.

use super::huffman;
use super::integer::write;
use super::table::{ENTRY_BYTES, STATIC, TABLE_BYTES, Table};

/// Places to look for a field that was sent before, two for each hash: a list has a dozen fields,
/// and where two of them had one place, each would put the other out in every list.
const SEEN: usize = 64;

/// The writing side of a connection.
#[derive(Debug)]
pub(in crate::codec) struct Encoder {
    table: Table,
    /// Numbers of the entries of the table, by a hash of the field; the newer one first.
    seen: Box<[[u32; 2]; SEEN]>,
    /// The smallest size since the last block, and the size now, for the next one to tell.
    resized: Option<(usize, usize)>,
}

impl Default for Encoder {
    fn default() -> Self {
        Self { table: Table::new(), seen: Box::new([[0; 2]; SEEN]), resized: None }
    }
}

impl Encoder {
    /// The peer's SETTINGS_HEADER_TABLE_SIZE.
    pub(in crate::codec) fn set_max_size(&mut self, bytes: u32) {
        let size = (bytes as usize).min(TABLE_BYTES);
        if size != self.table.max() {
            self.table.resize(size);
            let smallest = self.resized.map_or(size, |(smallest, _)| smallest.min(size));
            self.resized = Some((smallest, size));
        }
    }

    /// Begins a block.
    pub(in crate::codec) fn begin(&mut self, out: &mut Vec<u8>) {
        if let Some((smallest, now)) = self.resized.take() {
            // §4.2: the smallest, if there were several.
            if smallest < now {
                write(out, 0x20, 5, smallest);
            }
            write(out, 0x20, 5, now);
        }
    }

    /// Writes a field. `private`: it is never put into a table, by no one (RFC 7541 §7.1.3).
    pub(in crate::codec) fn field(
        &mut self,
        out: &mut Vec<u8>,
        name: &[u8],
        value: &[u8],
        private: bool,
    ) {
        let named = static_name(name);
        if private {
            return literal(out, 0x10, 4, (named, name), value);
        }
        if let Some(index) = named.and_then(|first| static_field(first, value)) {
            return write(out, 0x80, 7, index);
        }
        let places = &mut self.seen[hash(name, value) % SEEN];
        for place in *places {
            if let Some(index) = self.table.index_of(u64::from(place), name, value) {
                return write(out, 0x80, 7, index);
            }
        }
        if name.len() + value.len() + ENTRY_BYTES > self.table.max() / 4 || differs(name) {
            return literal(out, 0x00, 4, (named, name), value);
        }
        literal(out, 0x40, 6, (named, name), value);
        self.table.insert(name, value);
        // After four thousand million entries it finds nothing any more, and is right all the same.
        *places = [u32::try_from(self.table.inserted()).unwrap_or(0), places[0]];
    }
}

/// Whether a field seldom has the same value twice: it would only push out what has.
fn differs(name: &[u8]) -> bool {
    matches!(
        name,
        b":path"
            | b"age"
            | b"content-length"
            | b"etag"
            | b"if-modified-since"
            | b"if-none-match"
            | b"last-modified"
            | b"location"
            | b"traceparent"
            | b"grpc-timeout"
    )
}

fn literal(
    out: &mut Vec<u8>,
    pattern: u8,
    prefix: u32,
    (index, name): (Option<usize>, &[u8]),
    value: &[u8],
) {
    write(out, pattern, prefix, index.unwrap_or(0));
    if index.is_none() {
        text(out, name);
    }
    text(out, value);
}

/// A text, Huffman-coded where that is shorter.
fn text(out: &mut Vec<u8>, text: &[u8]) {
    let coded = huffman::encoded_len(text);
    if coded < text.len() {
        write(out, 0x80, 7, coded);
        huffman::encode(text, out);
    } else {
        write(out, 0x00, 7, text.len());
        out.extend_from_slice(text);
    }
}

/// Over the ends of both, eight bytes at a time: cheap, and a collision costs only bytes on the
/// wire.
fn hash(name: &[u8], value: &[u8]) -> usize {
    let before = &value[..value.len().saturating_sub(8)];
    let lengths = (name.len() << 32 ^ value.len()) as u64;
    let words = [lengths, last_word(name), last_word(value), last_word(before)];
    // The multiplier is 2^64 divided by the golden ratio (Knuth, TAOCP 3, 6.4).
    let mix =
        |hash: u64, word: u64| (hash.rotate_left(23) ^ word).wrapping_mul(0x9E37_79B9_7F4A_7C15);
    (words.into_iter().fold(0, mix) >> 32) as usize
}

/// The last eight bytes, or what there is.
fn last_word(text: &[u8]) -> u64 {
    match text.last_chunk() {
        Some(&word) => u64::from_le_bytes(word),
        None => text.iter().fold(0, |word, &byte| word << 8 | u64::from(byte)),
    }
}

/// The first number in the static table of a field with this name.
fn static_name(name: &[u8]) -> Option<usize> {
    let candidates: &[usize] = match name.len() {
        3 => &[21, 60],
        4 => &[33, 34, 37, 38, 45, 59],
        5 => &[4, 22, 50],
        6 => &[19, 32, 35, 54],
        7 => &[2, 6, 8, 36, 51, 52],
        8 => &[39, 42, 46],
        10 => &[1, 55, 58],
        11 => &[53],
        12 => &[31, 47],
        13 => &[18, 23, 24, 30, 41, 44],
        14 => &[15, 28],
        15 => &[16, 17],
        16 => &[26, 27, 29, 61],
        17 => &[40, 57],
        18 => &[48],
        19 => &[25, 43, 49],
        25 => &[56],
        27 => &[20],
        _ => &[],
    };
    // The last byte alone tells most of one length apart.
    let same = |known: &[u8]| known.last() == name.last() && known == name;
    candidates.iter().copied().find(|&i| same(STATIC[i - 1].0))
}

/// The number of this very field, if it is one of those of its name.
fn static_field(first: usize, value: &[u8]) -> Option<usize> {
    // All others stand there once.
    let count = match first {
        2 | 4 | 6 => 2,
        8 => 7,
        _ => 1,
    };
    let same = STATIC[first - 1..].iter().take(count);
    same.zip(first..).find(|((_, v), _)| *v == value).map(|(_, index)| index)
}

#[cfg(test)]
mod tests {
    use super::super::decode::Decoder;
    use super::*;

    #[test]
    fn every_static_name_is_found() {
        for (i, (name, value)) in STATIC.iter().enumerate() {
            let first = static_name(name).expect("a static name");
            assert_eq!(STATIC[first - 1].0, *name);
            assert!(first <= i + 1);
            assert_eq!(static_field(first, value), Some(i + 1));
        }
        assert_eq!(static_name(b"x-a"), None);
    }

    #[test]
    fn two_fields_with_one_hash_are_both_found_again() {
        let place = |name: &String| hash(name.as_bytes(), b"1") % SEEN;
        let names: Vec<_> = (0..).map(|n| format!("x-{n}")).take(SEEN + 1).collect();
        let pairs =
            names.iter().enumerate().flat_map(|(i, a)| names[..i].iter().map(move |b| (a, b)));
        let (a, b) = pairs.into_iter().find(|(a, b)| place(a) == place(b)).expect("one too many");
        let mut encoder = Encoder::default();
        for round in 0..3 {
            let mut block = Vec::new();
            for name in [a, b] {
                encoder.field(&mut block, name.as_bytes(), b"1", false);
            }
            assert!(round == 0 || block.len() == 2, "{block:?}");
        }
    }

    #[test]
    fn what_is_written_reads_back_and_gets_shorter() {
        let (mut encoder, mut decoder) = (Encoder::default(), Decoder::default());
        let list: [(&[u8], &[u8], bool); 6] = [
            (b":status", b"200", false),
            (b"server", b"bench", false),
            (b"x-request-id", b"0190163d8694739b9ea2acd60ad8d7e1", true),
            (b"x-long", &[b'a'; 2000], false),
            (b"content-length", b"66", false),
            (b"", b"\xff\x00", false),
        ];
        let mut lengths = Vec::new();
        for round in 0..3 {
            if round == 2 {
                encoder.set_max_size(0);
                encoder.set_max_size(100);
            }
            let mut block = Vec::new();
            encoder.begin(&mut block);
            for (name, value, private) in list {
                encoder.field(&mut block, name, value, private);
            }
            let mut back = Vec::new();
            let take = |n: &[u8], v: &[u8]| back.push((n.to_vec(), v.to_vec()));
            decoder.decode(&block, 1 << 16, take).unwrap();
            let sent: Vec<_> = list.iter().map(|(n, v, _)| (n.to_vec(), v.to_vec())).collect();
            assert_eq!(back, sent);
            lengths.push(block.len());
        }
        assert!(lengths[1] < lengths[0], "{lengths:?}");
    }
}
