//! Reading a field block.

use super::huffman;
use super::integer::read;
use super::table::{TABLE_BYTES, Table};

/// The block is not HPACK, and the tables of the two sides are no longer the same: the connection
/// ends with COMPRESSION_ERROR (RFC 9113 §4.3).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::codec) struct HpackError;

/// The reading side of a connection.
#[derive(Debug)]
pub(in crate::codec) struct Decoder {
    table: Table,
    name: Vec<u8>,
    value: Vec<u8>,
}

impl Default for Decoder {
    fn default() -> Self {
        Self { table: Table::new(), name: Vec::new(), value: Vec::new() }
    }
}

impl Decoder {
    /// Hands every field of a block to `take`, in order, as it was sent. `max_bytes`, or the
    /// size of the table, bounds the texts of one field: what is longer is handed over cut, and is too
    /// large for any list.
    ///
    /// # Errors
    /// The block is no HPACK; fields before the fault were handed over.
    pub(in crate::codec) fn decode(
        &mut self,
        mut block: &[u8],
        max_bytes: usize,
        mut take: impl FnMut(&[u8], &[u8]),
    ) -> Result<(), HpackError> {
        // What is cut must be larger than the table, whatever is allowed.
        let max_bytes = max_bytes.max(TABLE_BYTES);
        let mut may_resize = true;
        while let Some(&first) = block.first() {
            match first {
                // §6.1: a field of a table.
                0x80.. => {
                    let (index, rest) = read(block, 7)?;
                    let (name, value) = self.table.get(index).ok_or(HpackError)?;
                    take(name, value);
                    block = rest;
                }
                // §6.2.1: a literal that goes into the table.
                0x40.. => block = self.literal(block, 6, max_bytes, true, &mut take)?,
                // §6.3: the table's size; §4.2: only at the beginning of a block.
                0x20.. => {
                    let (size, rest) = read(block, 5)?;
                    if size > TABLE_BYTES || !may_resize {
                        return Err(HpackError);
                    }
                    self.table.resize(size);
                    block = rest;
                    continue;
                }
                // §6.2.2, §6.2.3: a literal that does not.
                _ => block = self.literal(block, 4, max_bytes, false, &mut take)?,
            }
            may_resize = false;
        }
        Ok(())
    }

    fn literal<'a>(
        &mut self,
        block: &'a [u8],
        prefix: u32,
        max_bytes: usize,
        insert: bool,
        take: &mut impl FnMut(&[u8], &[u8]),
    ) -> Result<&'a [u8], HpackError> {
        let (index, mut rest) = read(block, prefix)?;
        let mut whole = true;
        if index == 0 {
            (whole, rest) = text(rest, max_bytes, &mut self.name)?;
        } else {
            let (name, _) = self.table.get(index).ok_or(HpackError)?;
            self.name.clear();
            self.name.extend_from_slice(name);
        }
        let (value_whole, rest) = text(rest, max_bytes, &mut self.value)?;
        take(&self.name, &self.value);
        if insert && whole && value_whole {
            self.table.insert(&self.name, &self.value);
        } else if insert {
            // Larger than any table: it empties it.
            let max = self.table.max();
            self.table.resize(0);
            self.table.resize(max);
        }
        Ok(rest)
    }
}

/// A text (§5.2), cut at `max` bytes; whether all of it is there, and what follows.
fn text<'a>(src: &'a [u8], max: usize, out: &mut Vec<u8>) -> Result<(bool, &'a [u8]), HpackError> {
    let coded = src.first().is_some_and(|b| b & 0x80 != 0);
    let (len, rest) = read(src, 7)?;
    let (bytes, rest) = rest.split_at_checked(len).ok_or(HpackError)?;
    out.clear();
    if coded {
        return Ok((huffman::decode(bytes, max, out)?, rest));
    }
    out.extend_from_slice(&bytes[..len.min(max)]);
    Ok((len <= max, rest))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn fields(decoder: &mut Decoder, block: &[u8]) -> Result<Vec<(String, String)>, HpackError> {
        let mut list = Vec::new();
        let text = |b: &[u8]| String::from_utf8_lossy(b).into_owned();
        decoder.decode(block, 1 << 16, |n, v| list.push((text(n), text(v))))?;
        Ok(list)
    }

    #[test]
    fn the_requests_of_rfc_7541_c4() {
        let mut decoder = Decoder::default();
        let first = [
            0x82, 0x86, 0x84, 0x41, 0x8c, 0xf1, 0xe3, 0xc2, 0xe5, 0xf2, 0x3a, 0x6b, 0xa0, 0xab,
            0x90, 0xf4, 0xff,
        ];
        let second = [0x82, 0x86, 0x84, 0xbe, 0x58, 0x86, 0xa8, 0xeb, 0x10, 0x64, 0x9c, 0xbf];
        let got = fields(&mut decoder, &first).unwrap();
        assert_eq!(got[3], (":authority".to_owned(), "www.example.com".to_owned()));
        let got = fields(&mut decoder, &second).unwrap();
        assert_eq!(got[3], (":authority".to_owned(), "www.example.com".to_owned()));
        assert_eq!(got[4], ("cache-control".to_owned(), "no-cache".to_owned()));
        assert_eq!(decoder.table.get(62), Some((&b"cache-control"[..], &b"no-cache"[..])));
    }

    #[test]
    fn what_is_no_block() {
        for block in [
            &[0x80][..],               // index 0
            &[0xFF, 0xFF, 0xFF],       // an integer that does not end
            &[0xBE],                   // nothing in the dynamic table
            &[0x40, 0x05, b'a'],       // a name that does not end
            &[0x00, 0x01, b'a'],       // no value
            &[0x82, 0x20],             // a size behind a field
            &[0x3F, 0xE2, 0x1F],       // a size beyond what SETTINGS allow
            &[0x00, 0x81, 0x00, 0x00], // bad padding
        ] {
            assert_eq!(fields(&mut Decoder::default(), block), Err(HpackError), "{block:x?}");
        }
    }

    #[test]
    fn a_table_that_shrinks_and_grows_again() {
        let mut decoder = Decoder::default();
        let insert = [0x40, 0x01, b'a', 0x01, b'b'];
        fields(&mut decoder, &insert).unwrap();
        assert_eq!(fields(&mut decoder, &[0x20, 0x3F, 0xE1, 0x1F, 0x82]).unwrap().len(), 1);
        assert_eq!(fields(&mut decoder, &[0xBE]), Err(HpackError));
    }

    #[test]
    fn a_field_that_is_too_long_is_cut_and_the_tables_stay_in_step() {
        let mut decoder = Decoder::default();
        fields(&mut decoder, &[0x40, 0x01, b'a', 0x01, b'b']).unwrap();
        let long = [&[0x40, 0x01, b'x', 0x7F, 0xE9, 0x0A][..], &[b'v'; 1512]].concat();
        decoder.decode(&long, 100, |_, _| ()).unwrap();
        assert_eq!(fields(&mut decoder, &[0xBF]).unwrap()[0].0, "a");
        let mut block = vec![0x40, 0x01, b'a', 0x7F, 0xE9, 0x27];
        block.extend(vec![b'v'; 127 + 0x69 + (0x27 << 7)]);
        block.push(0x82);
        let mut seen = Vec::new();
        decoder.decode(&block, 100, |n, v| seen.push((n.len(), v.len()))).unwrap();
        assert_eq!(seen, [(1, 4096), (7, 3)]);
        assert_eq!(fields(&mut decoder, &[0xBE]), Err(HpackError));
    }
}
