//! Writing a field block.

use super::huffman;
use super::integer::write;
use super::table::{ENTRY_BYTES, STATIC, TABLE_BYTES, Table};

/// Places to look for a field that was sent before. A list has a dozen fields, and two lists with
/// the same come soon one after the other.
const SEEN: usize = 128;

/// The writing side of a connection.
#[derive(Debug)]
pub(in crate::codec) struct Encoder {
    table: Table,
    /// Numbers of the entries of the table, by a hash of the field.
    seen: Box<[u32; SEEN]>,
    /// The smallest size since the last block, and the size now, for the next one to tell.
    resized: Option<(usize, usize)>,
}

impl Default for Encoder {
    fn default() -> Self {
        Self { table: Table::new(), seen: Box::new([0; SEEN]), resized: None }
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
        if let Some(index) = named.and_then(|first| static_field(first, name, value)) {
            return write(out, 0x80, 7, index);
        }
        let place = &mut self.seen[hash(name, value) as usize % SEEN];
        if let Some(index) = self.table.index_of(u64::from(*place), name, value) {
            return write(out, 0x80, 7, index);
        }
        if name.len() + value.len() + ENTRY_BYTES > self.table.max() / 4 || differs(name) {
            return literal(out, 0x00, 4, (named, name), value);
        }
        literal(out, 0x40, 6, (named, name), value);
        self.table.insert(name, value);
        // After four thousand million entries it finds nothing any more, and is right all the same.
        *place = u32::try_from(self.table.inserted()).unwrap_or(0);
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

/// FNV-1a over the ends of both: cheap, and a collision costs only bytes on the wire.
fn hash(name: &[u8], value: &[u8]) -> u32 {
    let mut hash = 0x811C_9DC5u32;
    let mut mix = |byte: u8| hash = (hash ^ u32::from(byte)).wrapping_mul(0x0100_0193);
    name.iter().rev().take(8).for_each(|&b| mix(b));
    mix(name.len() as u8);
    value.iter().rev().take(16).for_each(|&b| mix(b));
    mix(value.len() as u8);
    hash ^ hash >> 15
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
    candidates.iter().copied().find(|&i| STATIC[i - 1].0 == name)
}

/// The number of this very field, if it is one of those of its name.
fn static_field(first: usize, name: &[u8], value: &[u8]) -> Option<usize> {
    let same = STATIC[first - 1..].iter().take_while(|(n, _)| *n == name);
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
            assert_eq!(static_field(first, name, value), Some(i + 1));
        }
        assert_eq!(static_name(b"x-a"), None);
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
