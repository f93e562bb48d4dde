//! Words carried over to a program of another layout; [`super::import`] reads them.
//!
//! ```text
//! "meshword", version, seed (2), then for each block:
//! kind (length, text), word format, name (length, bytes), words, column words,
//! pairs of index and value of shared words that are not zero (number, pairs),
//! pairs for the sums over all workers' columns (number, pairs; of what only grows)
//! ```
//! All numbers are 64 bits, little end first. What is held at the moment (gauges, requests in
//! flight) is not carried over. Times in words are those of this machine's monotonic clock.

use super::error::SegmentError;
use super::kind::BlockKind;
use super::registry::Segment;
use super::view::{Entry, View};
use super::writer::Held;
use crate::sync::Ordering;

pub(super) const MAGIC: &[u8; 8] = b"meshword";
pub(super) const VERSION: u64 = 1;

impl Segment {
    /// The words of every block that can be found, for [`import`](Self::import) in a program of
    /// another layout. `format` is the format of each kind's words. O(words).
    ///
    /// # Errors
    /// If this process does not write the registry.
    pub fn export(&self, format: fn(BlockKind) -> u64) -> Result<Vec<u8>, SegmentError> {
        let writer = self.writer()?;
        let seed = self.origin().seed;
        let mut out = MAGIC.to_vec();
        for number in [VERSION, seed[0], seed[1]] {
            put(&mut out, number);
        }
        for (&at, held) in writer.held.iter().filter(|(_, held)| held.retired.is_none()) {
            if held.kind != BlockKind::Gauges {
                carry(&mut out, self.view(), (at, held), format(held.kind));
            }
        }
        Ok(out)
    }
}

fn put(out: &mut Vec<u8>, number: u64) {
    out.extend_from_slice(&number.to_le_bytes());
}

fn put_bytes(out: &mut Vec<u8>, bytes: &[u8]) {
    put(out, bytes.len() as u64);
    out.extend_from_slice(bytes);
}

fn put_pairs(out: &mut Vec<u8>, values: impl Iterator<Item = u64>) {
    let pairs = values.zip(0_u64..).filter(|(value, _)| *value != 0);
    let pairs: Vec<_> = pairs.collect();
    put(out, pairs.len() as u64);
    for (value, i) in pairs {
        put(out, i);
        put(out, value);
    }
}

/// # Orderings
/// `Relaxed`: workers go on writing, and each word is carried over as it is at some moment.
fn carry(out: &mut Vec<u8>, view: &View, (at, held): (usize, &Held), format: u64) {
    let Some(entry) = Entry::read(view, at) else { return };
    let block = &held.block;
    put_bytes(out, held.kind.code().as_bytes());
    put(out, format);
    put_bytes(out, &entry.name(view));
    put(out, entry.words as u64);
    put(out, entry.column_words() as u64);
    put_pairs(out, (0..entry.words).map(|i| block.word(i).load(Ordering::Relaxed)));
    let sum = |i| {
        let columns = (0..block.workers()).map(|slot| block.column(slot, i));
        columns.map(|word| word.load(Ordering::Relaxed)).fold(0, u64::wrapping_add)
    };
    let grows = if held.kind.only_grows() { block.column_words() } else { 0 };
    put_pairs(out, (0..grows).map(sum));
}
