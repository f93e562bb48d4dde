//! Regions of columns: which words of the workers' columns are free.

use super::block::{COLUMN_WORDS, Strip};
use super::layout::{FIRST_REGION, MOST_REGION, PAIR, UNITS_PER_LINE};
use super::runs::Runs;

/// Words of a region's columns, in units of [`COLUMN_WORDS`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Taken {
    pub(super) region: usize,
    pub(super) start: usize,
    pub(super) units: usize,
}

#[derive(Debug)]
pub(super) struct Region {
    /// Its first line.
    pub(super) base: usize,
    pub(super) lines: usize,
    /// Lines of one worker's column.
    pub(super) stride: usize,
    pub(super) free: Runs,
}

/// All regions of a segment.
#[derive(Debug, Default)]
pub(super) struct Regions(Vec<Region>);

/// A region to add: how many lines at least, and how many if there is room.
#[derive(Clone, Copy, Debug)]
pub(super) struct Missing {
    pub(super) least: usize,
    pub(super) rather: usize,
}

impl Regions {
    /// A region of `lines` lines from `base` on, all free.
    pub(super) fn add(&mut self, base: usize, lines: usize, workers: usize) {
        let stride = lines / workers;
        let free = Runs::new(0, stride * UNITS_PER_LINE);
        self.0.push(Region { base, lines, stride, free });
    }

    pub(super) fn take(&mut self, units: usize) -> Option<Taken> {
        let mut all = self.0.iter_mut().enumerate();
        all.find_map(|(region, r)| r.free.take(units).map(|start| Taken { region, start, units }))
    }

    /// Takes just what an entry says that it has; `None` if it cannot have it.
    pub(super) fn take_at(&mut self, strip: &Strip) -> Option<Taken> {
        let region = self.0.iter().position(|region| region.base == strip.base)?;
        let found = &mut self.0[region];
        let start = strip.start / COLUMN_WORDS;
        let units = strip.words.div_ceil(COLUMN_WORDS);
        let sane = found.stride == strip.stride && strip.start.is_multiple_of(COLUMN_WORDS);
        (sane && found.free.take_at(start, units)).then_some(Taken { region, start, units })
    }

    pub(super) fn give(&mut self, taken: &Taken) {
        self.0[taken.region].free.give(taken.start, taken.units);
    }

    /// Where `words` words lie that were taken.
    pub(super) fn strip(&self, taken: &Taken, words: usize) -> Strip {
        let region = &self.0[taken.region];
        let (base, stride) = (region.base, region.stride);
        Strip { base, stride, start: taken.start * COLUMN_WORDS, words }
    }

    /// The region that is missing before `units` can be taken.
    pub(super) fn missing(&mut self, units: usize, workers: usize) -> Option<Missing> {
        if units == 0 {
            return None;
        }
        if let Some(taken) = self.take(units) {
            self.give(&taken);
            return None;
        }
        let step = workers * PAIR;
        let least = units.div_ceil(UNITS_PER_LINE).next_multiple_of(PAIR) * workers;
        let largest = self.0.iter().map(|region| region.lines).max();
        let doubled = largest.map_or(FIRST_REGION.next_multiple_of(step), |lines| lines * 2);
        let rather = doubled.min(MOST_REGION.next_multiple_of(step)).max(least);
        Some(Missing { least, rather })
    }
}
