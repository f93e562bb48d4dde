//! What layers in Python count themselves, by names that their classes give.
//!
//! A block is made before any worker imports the class, so nobody knows the names then. Each has a
//! place in a table of the block that all workers share: whichever counts it first takes one, by the
//! name's digest, and all others find it there. A place is never given back, so what was found stays
//! so, and a worker that dies leaves nothing half done.

use siphasher::sip::SipHasher13;

use super::compiled::{Compiled, Map};
use super::compiler::Compiler;
use super::key::Key;
use super::layer::Op;
use crate::segment::{Block, BlockKind};
use crate::sync::{AtomicU64, Ordering};
use crate::telemetry::Counters;

/// The counts of one layer, as the configuration names it; its objects share them.
#[derive(Clone, Debug)]
pub struct LayerCounts {
    block: Block,
    counts: Counters,
}

/// What a word of the table is to who looks for a digest.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Place {
    Own,
    Free,
    Taken,
}

const FREE: u64 = 0;

const fn place(word: u64, digest: u64) -> Place {
    match word {
        FREE => Place::Free,
        word if word == digest => Place::Own,
        _ => Place::Taken,
    }
}

/// The same in every process and version: the keys are zero.
fn digest(name: &str) -> u64 {
    SipHasher13::new().hash(name.as_bytes()).max(FREE + 1)
}

impl LayerCounts {
    /// How many names there may be until the layer leaves the configuration, or the program ends:
    /// also those that an earlier version of its class had.
    pub const WORDS: usize = 64;

    /// The counts in `block`, of [`BlockKind::NamedCounters`], as a worker adds to them.
    #[must_use]
    pub fn new(block: Block, worker_slot: usize) -> Self {
        Self { counts: Counters::new(block.clone(), worker_slot), block }
    }

    /// Adds to a count; false if all places are other names'. O(1) expected.
    ///
    /// # Orderings
    /// `Relaxed`: a place publishes nothing but itself, and who does not see it yet reads no count.
    pub fn add(&self, name: &str, n: u64) -> bool {
        let digest = digest(name);
        let found = self.probe(digest).find(|&at| take(self.block.word(at), digest));
        found.inspect(|&at| self.counts.add(at, n)).is_some()
    }

    /// A count over all workers; 0 of a name that was not counted yet. O(workers).
    #[must_use]
    pub fn get(&self, name: &str) -> u64 {
        let digest = digest(name);
        let is = |at: usize| place(self.block.word(at).load(Ordering::Relaxed), digest);
        let found = self.probe(digest).find(|&at| is(at) != Place::Taken);
        found.filter(|&at| is(at) == Place::Own).map_or(0, |at| self.counts.get(at))
    }

    /// Where to look for a digest, in order.
    fn probe(&self, digest: u64) -> impl Iterator<Item = usize> {
        let first = digest as usize % Self::WORDS;
        (0..Self::WORDS).map(move |step| (first + step) % Self::WORDS)
    }
}

/// Whether a place is a digest's, which takes it if it is free.
fn take(word: &AtomicU64, digest: u64) -> bool {
    let mut seen = word.load(Ordering::Relaxed);
    loop {
        match place(seen, digest) {
            Place::Own => return true,
            Place::Taken => return false,
            Place::Free => {
                match word.compare_exchange(seen, digest, Ordering::Relaxed, Ordering::Relaxed) {
                    Ok(_) => return true,
                    Err(other) => seen = other,
                }
            }
        }
    }
}

impl Compiler {
    /// The counts of all layers in Python that a configuration has, by what it calls them: what
    /// stands before a blank in their names.
    pub(super) fn layer_counts(&self, new: &Compiled) -> Result<Map<String, LayerCounts>, String> {
        let mut found = Map::default();
        if new.layers.is_empty() {
            return Ok(found);
        }
        for op in new.ops() {
            let Op::Python(number) = op else { continue };
            let Some(layer) = new.layers.get(**number as usize) else { continue };
            let name = layer.called();
            if !found.contains_key(name) {
                let key = Key::LayerCounts(name);
                let block = self.block(BlockKind::NamedCounters, key, LayerCounts::WORDS)?;
                found.insert(name.to_owned(), LayerCounts::new(block, self.worker_slot));
            }
        }
        Ok(found)
    }
}

impl Compiled {
    /// What a layer in Python counts; `None` of one that the configuration does not have.
    #[must_use]
    pub fn layer_counts(&self, layer: &str) -> Option<&LayerCounts> {
        self.layer_counts.get(layer)
    }
}

#[cfg(all(test, not(feature = "loom")))]
mod tests {
    use super::*;
    use crate::segment::{Segment, SegmentConfig};

    fn two_workers() -> [LayerCounts; 2] {
        let config = SegmentConfig { max_bytes: 1 << 20, worker_slots: 2 };
        let segment = Segment::anonymous(config).expect("2 slots");
        let block = segment.block(BlockKind::NamedCounters, "x", LayerCounts::WORDS).expect("room");
        [0, 1].map(|slot| LayerCounts::new(block.clone(), slot))
    }

    #[test]
    fn counts_of_one_name_add_up_over_workers_whoever_is_first() {
        let [a, b] = two_workers();
        assert_eq!(a.get("x"), 0);
        assert!(a.add("x", 1) && b.add("y", 5) && b.add("x", 2) && a.add("y", 0));
        for each in [a, b] {
            assert_eq!((each.get("x"), each.get("y"), each.get("z")), (3, 5, 0));
        }
    }

    #[test]
    fn there_are_as_many_names_as_places_and_no_more() {
        let [a, b] = two_workers();
        let names: Vec<_> = (0..LayerCounts::WORDS).map(|i| format!("n{i}")).collect();
        for (i, name) in names.iter().enumerate() {
            assert!(if i % 2 == 0 { &a } else { &b }.add(name, i as u64 + 1));
        }
        assert!(!a.add("another", 1));
        assert_eq!(a.get("another"), 0);
        for (i, name) in names.iter().enumerate() {
            assert!(b.add(name, 1));
            assert_eq!(b.get(name), i as u64 + 2);
        }
    }

    #[test]
    fn many_at_once_take_one_place_for_a_name() {
        let [a, _] = two_workers();
        std::thread::scope(|scope| {
            for _ in 0..4 {
                scope.spawn(|| (0..1_000).for_each(|i| assert!(a.add(&format!("n{}", i % 64), 1))));
            }
        });
        let sum: u64 = (0..64).map(|i| a.get(&format!("n{i}"))).sum();
        assert_eq!(sum, 4_000);
    }
}
