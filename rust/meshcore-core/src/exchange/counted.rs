//! What Python counts: it names the counts in the configuration, and adds to them by their places.

use super::compiler::Compiler;
use super::key::Key;
use crate::segment::BlockKind;
use crate::snapshot::Count;
use crate::telemetry::{Counters, Exposition};

/// The counts of one object, by their places in the list of its kind.
///
/// Each has a block of its own, which is found by its name: programs with other lists share those
/// that both have.
#[derive(Debug, Default)]
pub struct Counted(Box<[Counters]>);

impl Counted {
    /// Adds `n` to the count at a place; false if there is none.
    pub fn add(&self, place: usize, n: u64) -> bool {
        self.0.get(place).map(|count| count.add(0, n)).is_some()
    }

    /// The count at a place, over all workers; 0 if there is none. O(workers).
    #[must_use]
    pub fn get(&self, place: usize) -> u64 {
        self.0.get(place).map_or(0, |count| count.get(0))
    }
}

impl Compiler {
    /// The counts of the upstream, or of the program.
    pub(super) fn counted(
        &self,
        counts: &[Count],
        upstream: Option<&str>,
    ) -> Result<Counted, String> {
        let blocks = counts.iter().map(|count| {
            let key = Key::Count { upstream, name: &count.name };
            let block = self.block(BlockKind::Counters, key, 1)?;
            Ok(Counters::new(block, self.worker_slot))
        });
        blocks.collect::<Result<_, String>>().map(Counted)
    }
}

/// A family for each count, with the objects that have it.
pub(super) fn render<'a, const N: usize>(
    text: Exposition,
    counts: &[Count],
    owners: &[([(&'a str, &'a str); N], &'a Counted)],
) -> Exposition {
    counts.iter().enumerate().fold(text, |text, (place, count)| {
        let samples = owners.iter().map(|&(labels, counted)| (labels, counted.get(place)));
        text.counter(&count.name, &count.help, samples)
    })
}
