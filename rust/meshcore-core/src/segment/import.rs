//! What another program exported, as blocks of this one.

use super::block::{Block, WORDS_PER_LINE};
use super::error::SegmentError;
use super::export::{MAGIC, VERSION};
use super::kind::BlockKind;
use super::registry::Segment;
use crate::sync::Ordering;

/// An [`export`](Segment::export), as it was read.
#[derive(Clone, Debug)]
pub struct Exported {
    /// The key of the tables, without which their words mean nothing.
    pub seed: [u64; 2],
    /// Its blocks, but for those of kinds that are not known here.
    pub blocks: Vec<Carried>,
}

/// One block as it is carried over.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Carried {
    /// Its kind.
    pub kind: BlockKind,
    /// Its name there.
    pub name: String,
    /// The format of its words there.
    pub format: u64,
    words: u64,
    column: u64,
    shared: Vec<(u64, u64)>,
    sums: Vec<(u64, u64)>,
}

impl Exported {
    /// Reads an export. O(bytes).
    ///
    /// # Errors
    /// [`SegmentError::BadExport`].
    pub fn read(data: &[u8]) -> Result<Self, SegmentError> {
        let mut input = Input(data);
        let seed = input.start()?;
        let mut blocks = Vec::new();
        while !input.0.is_empty() {
            blocks.extend(input.carried()?);
        }
        Ok(Self { seed, blocks })
    }

    /// The key of the tables of an export, whose blocks are not looked at.
    ///
    /// # Errors
    /// [`SegmentError::BadExport`].
    pub fn seed_of(data: &[u8]) -> Result<[u64; 2], SegmentError> {
        Input(data).start()
    }
}

impl Carried {
    /// The words that [`Segment::block`] is to be asked for, if its shape is that of its kind here.
    fn wanted(&self) -> Option<usize> {
        let (words, column) =
            (usize::try_from(self.words).ok()?, usize::try_from(self.column).ok()?);
        let wanted = if self.kind.only_grows() { column } else { words };
        let shape = self.kind.shape(wanted);
        ((shape.words, shape.column) == (words, column)).then_some(wanted)
    }

    /// Whether it holds as many words as a block of its kind that is asked for `words`.
    #[must_use]
    pub fn has(&self, words: usize) -> bool {
        self.wanted() == Some(words)
    }

    /// Writes the words that it holds into a block which [`has`](Self::has) as many.
    ///
    /// # Orderings
    /// `Relaxed`: the block is not looked for before a configuration names it, which comes later.
    pub fn fill(&self, block: &Block) {
        for &(i, value) in self.shared.iter().filter(|(i, _)| *i < self.words) {
            block.word(i as usize).store(value, Ordering::Relaxed);
        }
        for &(i, value) in self.sums.iter().filter(|(i, _)| *i < self.column) {
            block.column(0, i as usize).store(value, Ordering::Relaxed);
        }
    }
}

impl Segment {
    /// Makes blocks with the words of an [`export`](Self::export), before any configuration, under
    /// the name that `name` gives to each; none is made for `None`. Sums go to the column of the
    /// first worker. How many were kept: what has another shape here, or no room, is not.
    ///
    /// # Errors
    /// If this process does not write the registry.
    pub fn import(
        &self,
        exported: &Exported,
        name: impl Fn(&Carried) -> Option<String>,
    ) -> Result<usize, SegmentError> {
        let view = self.view();
        let mut writer = self.writer()?;
        writer.keeps_unused = true;
        let most = (view.lines() * WORDS_PER_LINE) as u64;
        let fits = |carried: &&Carried| carried.words <= most && carried.column <= most;
        let kept = exported.blocks.iter().filter(fits).filter(|carried| {
            let (Some(words), Some(name)) = (carried.wanted(), name(carried)) else { return false };
            let Ok(block) = writer.block(view, (carried.kind, &name), carried.kind.shape(words))
            else {
                return false;
            };
            carried.fill(&block);
            true
        });
        Ok(kept.count())
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

    /// The next block; `None` if its kind or its name is none that is known here.
    fn carried(&mut self) -> Result<Option<Carried>, SegmentError> {
        let kind = self.bytes()?;
        let kind = BlockKind::ALL.iter().find(|known| known.code().as_bytes() == kind);
        let format = self.number()?;
        let name = str::from_utf8(self.bytes()?).ok();
        let (words, column) = (self.number()?, self.number()?);
        let (shared, sums) = (self.pairs()?, self.pairs()?);
        let known = kind.zip(name);
        Ok(known.map(|(&kind, name)| Carried {
            kind,
            name: name.to_owned(),
            format,
            words,
            column,
            shared,
            sums,
        }))
    }
}
