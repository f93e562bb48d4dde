//! Blocks by kind and name.

use hashbrown::HashMap;

use super::arena::{Arena, Place, SegmentError, zero_column};
use super::block::{Block, Shape};

/// The most worker slots: a sum over columns reads this many lines at worst.
pub const MAX_WORKERS: usize = 64;

/// What a block is for. The same name under two kinds is two blocks.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[repr(u8)]
pub enum Kind {
    /// A token bucket.
    Bucket,
    /// A table of buckets by client or key.
    ClientTable,
    /// A breaker.
    Breaker,
    /// What belongs to an upstream or a cap as a whole: turns, requests and retries in flight.
    Upstream,
    /// An endpoint.
    Endpoint,
    /// Counts that only grow; all words are in the workers' columns.
    Counters,
    /// Counts that come down again; all words are in the workers' columns.
    Gauges,
    /// A histogram; all words are in the workers' columns.
    Histogram,
}

impl Kind {
    /// The shape of a block of this kind with `words` words.
    #[must_use]
    pub const fn shape(self, words: usize) -> Shape {
        match self {
            Self::Counters | Self::Gauges | Self::Histogram => Shape::column(words),
            Self::Bucket | Self::ClientTable | Self::Breaker | Self::Upstream | Self::Endpoint => {
                Shape::words(words)
            }
        }
    }

    /// Whether a worker's column tells of what it holds now, and so is void when it is dead.
    const fn comes_down(self) -> bool {
        !matches!(self, Self::Counters | Self::Histogram)
    }
}

/// What a segment may take.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SegmentConfig {
    /// The most memory, in bytes (`segment_max`). Pages that are never written cost nothing.
    pub max_bytes: usize,
    /// Columns of every block: the workers and some spare ones, 1 to [`MAX_WORKERS`].
    pub worker_slots: usize,
}

#[derive(Debug)]
struct Entry {
    block: Block,
    place: Place,
    shape: Shape,
}

/// All shared words of a mesh, by name. Control owns it: whoever may change the registry has
/// `&mut`, and workers only hold blocks.
#[derive(Debug)]
pub struct Segment {
    arena: Arena,
    /// Kind, then name. A few kinds, so a look-up by `&str` needs no key of its own.
    blocks: HashMap<Kind, HashMap<Box<str>, Entry, Hasher>, Hasher>,
    /// No longer to be found by name, perhaps still held.
    retired: Vec<(Kind, Entry)>,
}

type Hasher = foldhash::fast::RandomState;

impl Segment {
    /// A segment in memory of this process alone.
    ///
    /// # Errors
    /// If `worker_slots` is out of range. No memory is taken yet.
    pub fn anonymous(config: SegmentConfig) -> Result<Self, SegmentError> {
        if config.worker_slots == 0 || config.worker_slots > MAX_WORKERS {
            return Err(SegmentError::Workers(config.worker_slots));
        }
        let arena = Arena::new(config.max_bytes, config.worker_slots);
        Ok(Self { arena, blocks: HashMap::default(), retired: Vec::new() })
    }

    /// The block of this kind and name, as it is, or a new one full of zeros. O(1) expected.
    ///
    /// If `words` has changed, the old block is retired: whoever holds it goes on with it, and the
    /// name means a new one.
    ///
    /// # Errors
    /// If memory is at its limit; the message names the limit to set. Nothing is changed then.
    pub fn block(&mut self, kind: Kind, name: &str, words: usize) -> Result<Block, SegmentError> {
        let shape = kind.shape(words);
        if let Some(entry) = self.blocks.get(&kind).and_then(|named| named.get(name))
            && entry.shape == shape
        {
            return Ok(entry.block.clone());
        }
        let place = self.place(shape)?;
        let block = self.arena.block(place, shape);
        let entry = Entry { block: block.clone(), place, shape };
        if let Some(old) = self.blocks.entry(kind).or_default().insert(name.into(), entry) {
            self.retired.push((kind, old));
        }
        Ok(block)
    }

    fn place(&mut self, shape: Shape) -> Result<Place, SegmentError> {
        if let Some(place) = self.arena.take(shape) {
            return Ok(place);
        }
        if self.collect() > 0
            && let Some(place) = self.arena.take(shape)
        {
            return Ok(place);
        }
        self.arena.grow(shape)?;
        // The chunks that were missing are there, so this place exists.
        self.arena.take(shape).ok_or_else(|| {
            SegmentError::Memory(std::io::Error::other("a new chunk has no room for its block"))
        })
    }

    /// Retires a block: its name is free, its words stay until nobody holds them. Whether there
    /// was one.
    pub fn retire(&mut self, kind: Kind, name: &str) -> bool {
        let entry = self.blocks.get_mut(&kind).and_then(|named| named.remove(name));
        entry.map(|entry| self.retired.push((kind, entry))).is_some()
    }

    /// Retires every block that nobody holds: what the last configuration left over. How many.
    /// O(blocks).
    pub fn retire_unused(&mut self) -> usize {
        let before = self.retired.len();
        for (&kind, named) in &mut self.blocks {
            let unused = named.extract_if(|_, entry| entry.block.is_unshared());
            self.retired.extend(unused.map(|(_, entry)| (kind, entry)));
        }
        self.retired.len() - before
    }

    /// Frees the retired blocks that nobody holds any more. How many. O(retired).
    ///
    /// Called by [`block`](Self::block) before memory grows, so it need not be called at all.
    pub fn collect(&mut self) -> usize {
        let before = self.retired.len();
        let arena = &mut self.arena;
        self.retired.retain_mut(|(_, entry)| {
            let unused = entry.block.is_unshared();
            if unused {
                arena.give(entry.place, &entry.block);
            }
            !unused
        });
        before - self.retired.len()
    }

    /// Forgets what the worker in `slot` held when it died: requests in flight and the like.
    /// Counters and histograms stay, since what was counted did happen. O(blocks).
    pub fn clear_worker(&mut self, slot: usize) {
        if slot >= self.arena.workers() {
            return;
        }
        let named = self
            .blocks
            .iter()
            .flat_map(|(kind, named)| named.values().map(move |entry| (*kind, entry)));
        let retired = self.retired.iter().map(|(kind, entry)| (*kind, entry));
        for (_, entry) in named.chain(retired).filter(|(kind, _)| kind.comes_down()) {
            zero_column(&entry.block, slot);
        }
    }

    /// Blocks that can be found by name.
    #[must_use]
    pub fn len(&self) -> usize {
        self.blocks.values().map(HashMap::len).sum()
    }

    /// Whether no block can be found by name.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Blocks that are retired and still held, as of the last [`collect`](Self::collect).
    #[must_use]
    pub fn retired(&self) -> usize {
        self.retired.len()
    }

    /// Bytes taken from the system, at most `max_bytes`.
    #[must_use]
    pub fn reserved_bytes(&self) -> usize {
        self.arena.reserved_bytes()
    }

    /// Columns of every block.
    #[must_use]
    pub fn worker_slots(&self) -> usize {
        self.arena.workers()
    }
}
