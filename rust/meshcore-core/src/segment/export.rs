//! Words carried over to a program of another layout.
//!
//! ```text
//! "meshword", version, seed (2), then for each block:
//! kind (length, text), word format, name (length, bytes), words, column words,
//! pairs of index and value of shared words that are not zero (number, pairs),
//! pairs for the sums over all workers' columns (number, pairs; of what only grows)
//! ```
//! All numbers are 64 bits, little end first. What is held at the moment (gauges, requests in
//! flight) is not carried over. Times in words are those of this machine's monotonic clock.

use super::block::{Block, WORDS_PER_LINE};
use super::error::SegmentError;
use super::kind::Kind;
use super::registry::Segment;
use super::view::{Entry, View};
use super::writer::{Held, Writer};
use crate::sync::Ordering;

const MAGIC: &[u8; 8] = b"meshword";
const VERSION: u64 = 1;

/// One block as it is carried over.
struct Carried<'a> {
    kind: &'a [u8],
    format: u64,
    name: &'a [u8],
    words: u64,
    column: u64,
    shared: Vec<(u64, u64)>,
    sums: Vec<(u64, u64)>,
}

impl Segment {
    /// The words of every block that can be found, for [`import`](Self::import) in a program of
    /// another layout. `format` is the format of each kind's words. O(words).
    ///
    /// # Errors
    /// If this process does not write the registry.
    pub fn export(&self, format: fn(Kind) -> u64) -> Result<Vec<u8>, SegmentError> {
        let writer = self.writer()?;
        let seed = self.origin().seed;
        let mut out = MAGIC.to_vec();
        for number in [VERSION, seed[0], seed[1]] {
            put(&mut out, number);
        }
        for (&at, held) in writer.held.iter().filter(|(_, held)| held.retired.is_none()) {
            if held.kind != Kind::Gauges {
                carry(&mut out, self.view(), (at, held), format(held.kind));
            }
        }
        Ok(out)
    }

    /// Makes blocks with the words of an [`export`](Self::export), before any configuration.
    /// Sums go to the column of the first worker. How many were kept: what has another format or
    /// shape here, or no room, is not.
    ///
    /// # Errors
    /// [`SegmentError::BadExport`], or if this process does not write the registry.
    pub fn import(&self, data: &[u8], format: fn(Kind) -> u64) -> Result<usize, SegmentError> {
        let mut input = Input(data);
        input.start()?;
        let mut all = Vec::new();
        while !input.0.is_empty() {
            all.push(input.carried()?);
        }
        let mut writer = self.writer()?;
        writer.keeps_unused = true;
        let kept = all.iter().filter(|carried| keep(&mut writer, self.view(), carried, format));
        Ok(kept.count())
    }

    /// The key of the tables in an export, without which their words mean nothing.
    ///
    /// # Errors
    /// [`SegmentError::BadExport`].
    pub fn seed_of(data: &[u8]) -> Result<[u64; 2], SegmentError> {
        Input(data).start()
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

/// Whether a block was made of what was carried over.
fn keep(writer: &mut Writer, view: &View, carried: &Carried<'_>, format: fn(Kind) -> u64) -> bool {
    let kind = Kind::ALL.iter().find(|kind| kind.code().as_bytes() == carried.kind);
    let Some(&kind) = kind.filter(|&&kind| format(kind) == carried.format) else { return false };
    let Ok(name) = str::from_utf8(carried.name) else { return false };
    let most = (view.lines() * WORDS_PER_LINE) as u64;
    if carried.words > most || carried.column > most {
        return false;
    }
    let (words, column) = (carried.words as usize, carried.column as usize);
    let wanted = if kind.only_grows() { column } else { words };
    let shape = kind.shape(wanted);
    if (shape.words, shape.column) != (words, column) {
        return false;
    }
    let Ok(block) = writer.block(view, (kind, name, wanted)) else { return false };
    fill(&block, carried);
    true
}

/// # Orderings
/// `Relaxed`: nobody looks for the block before a configuration names it, which comes later.
fn fill(block: &Block, carried: &Carried<'_>) {
    for &(i, value) in carried.shared.iter().filter(|(i, _)| *i < carried.words) {
        block.word(i as usize).store(value, Ordering::Relaxed);
    }
    for &(i, value) in carried.sums.iter().filter(|(i, _)| *i < carried.column) {
        block.column(0, i as usize).store(value, Ordering::Relaxed);
    }
}

/// What is left to read.
struct Input<'a>(&'a [u8]);

impl<'a> Input<'a> {
    fn take(&mut self, length: u64) -> Result<&'a [u8], SegmentError> {
        let length = usize::try_from(length).ok();
        let taken = length.and_then(|length| self.0.split_at_checked(length));
        let (taken, rest) = taken.ok_or(SegmentError::BadExport("it ends too early"))?;
        self.0 = rest;
        Ok(taken)
    }

    fn number(&mut self) -> Result<u64, SegmentError> {
        let mut bytes = [0; 8];
        bytes.copy_from_slice(self.take(8)?);
        Ok(u64::from_le_bytes(bytes))
    }

    fn bytes(&mut self) -> Result<&'a [u8], SegmentError> {
        let length = self.number()?;
        self.take(length)
    }

    fn pairs(&mut self) -> Result<Vec<(u64, u64)>, SegmentError> {
        let count = self.number()?;
        if count > self.0.len() as u64 / 16 {
            return Err(SegmentError::BadExport("it ends too early"));
        }
        (0..count).map(|_| Ok((self.number()?, self.number()?))).collect()
    }

    /// The head; gives the key of the tables.
    fn start(&mut self) -> Result<[u64; 2], SegmentError> {
        if self.take(8)? != MAGIC {
            return Err(SegmentError::BadExport("it begins with something else"));
        }
        if self.number()? != VERSION {
            return Err(SegmentError::BadExport("of a version that is not known here"));
        }
        Ok([self.number()?, self.number()?])
    }

    fn carried(&mut self) -> Result<Carried<'a>, SegmentError> {
        Ok(Carried {
            kind: self.bytes()?,
            format: self.number()?,
            name: self.bytes()?,
            words: self.number()?,
            column: self.number()?,
            shared: self.pairs()?,
            sums: self.pairs()?,
        })
    }
}
