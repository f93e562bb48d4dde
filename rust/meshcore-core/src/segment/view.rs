//! What every process sees of a segment: the header, and entries found by name.

use std::collections::BTreeSet;
use std::sync::Arc;

use siphasher::sip::SipHasher13;

use super::block::{Block, Line, Strip, WORDS_PER_LINE};
use super::error::SegmentError;
use super::kind::BlockKind;
use super::layout::{
    BUCKETS, BUCKETS_AT, LAST_MADE_FOR, MAGIC, MAX_NAME, POOL_AT, REGION_KIND, REMOVALS, VERSION,
    WORK_AT, entry, with_own, word,
};
use super::memory::Memory;
use crate::sync::{AtomicU64, Ordering, fence};

/// How often a look-up is repeated that ran into removals.
const TRIES: usize = 1_000;

/// What a new segment is told.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Origin {
    /// The key of the limiters' tables and of the registry.
    pub seed: [u64; 2],
    /// The hash of what the words mean; programs that share a segment agree on it.
    pub layout: u64,
    /// When it was made.
    pub created_ns: u64,
}

/// The mapping, and what of the header never changes (read once, so that it cannot change).
#[derive(Clone, Debug)]
pub(super) struct View {
    pub(super) memory: Arc<Memory>,
    pub(super) workers: usize,
    pub(super) origin: Origin,
}

impl View {
    /// Writes the header of a new segment; the magic comes last.
    ///
    /// # Orderings
    /// `Release` for the magic: who reads it with `Acquire` sees the rest of the header.
    pub(super) fn create(memory: Memory, workers: usize, origin: Origin) -> Self {
        let header = &memory.lines()[0];
        let lines = memory.lines().len() as u64;
        for (i, value) in [
            (word::VERSION, VERSION),
            (word::LAYOUT, with_own(origin.layout)),
            (word::LINES, lines),
            (word::WORKERS, workers as u64),
            (word::SEED[0], origin.seed[0]),
            (word::SEED[1], origin.seed[1]),
            (word::CREATED, origin.created_ns),
        ] {
            header.0[i].store(value, Ordering::Relaxed);
        }
        header.0[word::MAGIC].store(MAGIC, Ordering::Release);
        Self { memory: Arc::new(memory), workers, origin }
    }

    /// Checks the header of a mapping that another process made.
    ///
    /// # Orderings
    /// `Acquire` pairs with [`create`](Self::create).
    #[cfg(not(feature = "loom"))]
    pub(super) fn open(memory: Memory, layout: u64) -> Result<Self, SegmentError> {
        let lines = memory.lines().len();
        let no = SegmentError::NotASegment;
        if lines <= POOL_AT {
            return Err(no("too short"));
        }
        let header = &memory.lines()[0].0;
        let read = |i: usize| header[i].load(Ordering::Relaxed);
        if header[word::MAGIC].load(Ordering::Acquire) != MAGIC {
            return Err(no("no header"));
        }
        let (found, ours) = (read(word::LAYOUT), with_own(layout));
        if read(word::VERSION) != VERSION || found != ours {
            return Err(SegmentError::OtherLayout { found, ours });
        }
        if read(word::LINES) != lines as u64 {
            return Err(no("its size is not what its header says"));
        }
        let workers = read(word::WORKERS);
        if workers == 0 || workers > super::MAX_WORKERS as u64 {
            return Err(no("its header has no sane number of workers"));
        }
        let seed = word::SEED.map(read);
        let origin = Origin { seed, layout, created_ns: read(word::CREATED) };
        Ok(Self { memory: Arc::new(memory), workers: workers as usize, origin })
    }

    pub(super) fn lines(&self) -> usize {
        self.memory.lines().len()
    }

    /// A line of the pool, if there is one with this number.
    pub(super) fn pool_line(&self, at: usize) -> Option<&Line> {
        if at < POOL_AT { None } else { self.memory.lines().get(at) }
    }

    pub(super) fn work_word(&self, i: usize) -> &AtomicU64 {
        &self.memory.lines()[WORK_AT].0[i]
    }

    /// The head of the chain for a hash.
    pub(super) fn bucket(&self, hash: u64) -> &AtomicU64 {
        self.nth_bucket(hash as usize % BUCKETS)
    }

    pub(super) fn nth_bucket(&self, i: usize) -> &AtomicU64 {
        &self.memory.lines()[BUCKETS_AT + i / WORDS_PER_LINE].0[i % WORDS_PER_LINE]
    }

    pub(super) fn hash(&self, kind: u8, name: &[u8]) -> u64 {
        let seed = self.origin.seed;
        SipHasher13::new_with_keys(seed[0] ^ u64::from(kind), seed[1]).hash(name)
    }

    /// The newest entry of this kind and name, and of this many shared and column words if told.
    ///
    /// # Orderings
    /// `Acquire` on heads and links pairs with the writer's `Release` when it publishes: a thread
    /// that sees an entry sees all of it. An entry may be taken out and its lines used again while
    /// we stand on it. Before a line is used again the writer counts the removal and fences
    /// (`Release`); so if a load here saw such a line's new words, the fence below (`Acquire`)
    /// makes the second load of the count see the removal, and what was read is not believed.
    pub(super) fn find(
        &self,
        kind: BlockKind,
        name: &str,
        shape: Option<(usize, usize)>,
    ) -> Result<Option<Entry>, SegmentError> {
        self.undisturbed(|| self.look_up(kind as u8, name.as_bytes(), shape))
    }

    /// The names of a kind that can be found, each once. O(blocks).
    ///
    /// # Orderings
    /// As [`find`](Self::find).
    pub(super) fn names(&self, kind: BlockKind) -> Result<BTreeSet<Vec<u8>>, SegmentError> {
        self.undisturbed(|| {
            let mut names = BTreeSet::new();
            // All chains together are no longer than there are lines.
            let mut steps = 0..self.lines();
            for bucket in 0..BUCKETS {
                let mut at = self.nth_bucket(bucket).load(Ordering::Acquire) as usize;
                while at != 0 {
                    let found = Entry::read(self, at).filter(|_| steps.next().is_some());
                    let found = found.ok_or(SegmentError::Corrupt(at))?;
                    if found.kind == kind as u8 && found.retired == 0 {
                        names.insert(found.name(self));
                    }
                    let line = self.pool_line(at).ok_or(SegmentError::Corrupt(at))?;
                    at = line.0[entry::NEXT].load(Ordering::Acquire) as usize;
                }
            }
            Ok(names)
        })
    }

    /// What was read while nothing was taken out.
    fn undisturbed<T>(
        &self,
        read: impl Fn() -> Result<T, SegmentError>,
    ) -> Result<T, SegmentError> {
        let removals = self.work_word(REMOVALS);
        for _ in 0..TRIES {
            let before = removals.load(Ordering::Acquire);
            let found = read();
            fence(Ordering::Acquire);
            if removals.load(Ordering::Relaxed) == before {
                return found;
            }
        }
        Err(SegmentError::Busy)
    }

    fn look_up(
        &self,
        kind: u8,
        name: &[u8],
        shape: Option<(usize, usize)>,
    ) -> Result<Option<Entry>, SegmentError> {
        let hash = self.hash(kind, name);
        let mut at = self.bucket(hash).load(Ordering::Acquire) as usize;
        // A chain is no longer than there are lines; a damaged one may go round.
        for _ in 0..self.lines() {
            if at == 0 {
                return Ok(None);
            }
            let line = self.pool_line(at).ok_or(SegmentError::Corrupt(at))?;
            if line.0[entry::HASH].load(Ordering::Relaxed) == hash {
                let found = Entry::read(self, at).ok_or(SegmentError::Corrupt(at))?;
                let (words, columns) = shape.unwrap_or((found.words, found.column_words()));
                let same = found.kind == kind && found.words == words;
                if same
                    && found.column_words() == columns
                    && found.retired == 0
                    && found.is_named(self, name)
                {
                    return Ok(Some(found));
                }
            }
            at = line.0[entry::NEXT].load(Ordering::Acquire) as usize;
        }
        Err(SegmentError::Corrupt(at))
    }

    /// The block of an entry, with a pin of its own.
    pub(super) fn block(&self, found: &Entry) -> Block {
        let lines = found.words.div_ceil(WORDS_PER_LINE);
        Block::in_segment(&self.memory, (found.data_at(), lines), found.strip, self.workers)
    }
}

/// What the first line of an entry says; everything lies within the mapping.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Entry {
    pub(super) at: usize,
    pub(super) kind: u8,
    pub(super) name_bytes: usize,
    pub(super) words: usize,
    pub(super) strip: Option<Strip>,
    /// The first version that may have used it.
    pub(super) made_for: u64,
    /// Zero, or the last version that used it plus one.
    pub(super) retired: u64,
}

impl Entry {
    /// The word that tells kind, length of the name and first version. A version that has no room
    /// is said to be older than it is.
    pub(super) fn kind_word(kind: u8, name_bytes: usize, made_for: u64) -> u64 {
        made_for.min(LAST_MADE_FOR) << 24 | (name_bytes as u64) << 8 | u64::from(kind)
    }

    /// Reads and checks an entry. `None` if there is none that could be.
    pub(super) fn read(view: &View, at: usize) -> Option<Self> {
        let line = view.pool_line(at)?;
        let read = |i: usize| line.0[i].load(Ordering::Relaxed);
        let kind = read(entry::KIND) as u8;
        let (name_bytes, made_for) =
            (read(entry::KIND) as u32 >> 8 & 0xFFFF, read(entry::KIND) >> 24);
        let words = usize::try_from(read(entry::WORDS)).ok()?;
        let column = usize::try_from(read(entry::COLUMN)).ok()?;
        let name_bytes = name_bytes as usize;
        if kind != REGION_KIND && BlockKind::from_number(kind).is_none() || name_bytes > MAX_NAME {
            return None;
        }
        let (base, place) = (usize::try_from(read(entry::REGION)).ok()?, read(entry::PLACE));
        let (stride, start) = ((place >> 32) as usize, place as u32 as usize);
        let strip = (column > 0).then_some(Strip { base, stride, start, words: column });
        let retired = read(entry::RETIRED);
        let found = Self { at, kind, name_bytes, words, strip, made_for, retired };
        let sane = words <= view.lines() * WORDS_PER_LINE
            && at + found.lines() <= view.lines()
            && strip.is_none_or(|strip| {
                base >= POOL_AT && stride > 0 && strip.is_within(view.lines(), view.workers)
            });
        sane.then_some(found)
    }

    /// Lines of the whole entry: its first, its name, its words.
    pub(super) fn lines(&self) -> usize {
        1 + name_lines(self.name_bytes) + self.words.div_ceil(WORDS_PER_LINE)
    }

    pub(super) fn data_at(&self) -> usize {
        self.at + 1 + name_lines(self.name_bytes)
    }

    pub(super) fn column_words(&self) -> usize {
        self.strip.map_or(0, |strip| strip.words)
    }

    fn name_word(&self, view: &View, i: usize) -> u64 {
        let line = &view.memory.lines()[self.at + 1 + i / WORDS_PER_LINE];
        line.0[i % WORDS_PER_LINE].load(Ordering::Relaxed)
    }

    fn is_named(&self, view: &View, name: &[u8]) -> bool {
        self.name_bytes == name.len()
            && words_of(name).enumerate().all(|(i, word)| self.name_word(view, i) == word)
    }

    /// The name as it is stored.
    pub(super) fn name(&self, view: &View) -> Vec<u8> {
        let words = (0..self.name_bytes.div_ceil(8)).map(|i| self.name_word(view, i));
        let mut bytes: Vec<u8> = words.flat_map(u64::to_le_bytes).collect();
        bytes.truncate(self.name_bytes);
        bytes
    }
}

pub(super) const fn name_lines(bytes: usize) -> usize {
    bytes.div_ceil(size_of::<u64>() * WORDS_PER_LINE)
}

/// A name as words, the last one filled up with zeros.
pub(super) fn words_of(name: &[u8]) -> impl Iterator<Item = u64> {
    name.chunks(8).map(|part| {
        let mut word = [0; 8];
        word[..part.len()].copy_from_slice(part);
        u64::from_le_bytes(word)
    })
}
