//! The registry as its one writer changes it.
//!
//! What is free is kept in the writer's own memory and follows from the entries, so that the next
//! writer finds it out (see [`super::adopt`]). Each change is published by one store.

use std::collections::BTreeMap;

use super::block::{Block, COLUMN_WORDS, Line, Shape, Strip, WORDS_PER_LINE};
use super::error::SegmentError;
use super::kind::BlockKind;
use super::layout::{MAX_NAME, PAIR, POOL_AT, REGION_KIND, REMOVALS, USED, entry};
use super::regions::{Regions, Taken};
use super::runs::Runs;
use super::view::{Entry, View, name_lines, words_of};
use crate::sync::{Ordering, fence};

/// An entry as the writer knows it.
#[derive(Debug)]
pub(super) struct Held {
    pub(super) kind: BlockKind,
    pub(super) block: Block,
    /// Lines of the whole entry.
    pub(super) lines: usize,
    pub(super) column: Option<Taken>,
    /// The first version that may have used it.
    pub(super) made_for: u64,
    /// The last version that used it, once it cannot be found any more.
    pub(super) retired: Option<u64>,
}

/// What only the writer knows.
#[derive(Debug)]
pub(super) struct Writer {
    pub(super) free: Runs,
    pub(super) regions: Regions,
    /// By the entry's first line.
    pub(super) held: BTreeMap<usize, Held>,
    /// The first lines of those that are retired.
    pub(super) retired: Vec<usize>,
    /// Whether something was retired since what could be freed was freed.
    pub(super) uncollected: bool,
    /// Lines from here on are as the kernel gave them: zero.
    pub(super) used: usize,
    /// The newest version that any block may have been used by.
    pub(super) version: u64,
    /// The version that blocks are asked for by.
    pub(super) making: u64,
    /// Entries that were here before us are not unused before a configuration has had its say.
    pub(super) keeps_unused: bool,
    /// Another process writes the registry now; what we knew still tells whose columns are where.
    pub(super) ended: bool,
}

impl Writer {
    /// The writer of an empty segment.
    pub(super) fn new(view: &View) -> Self {
        Self {
            free: Runs::new(POOL_AT, view.lines() - POOL_AT),
            regions: Regions::default(),
            held: BTreeMap::new(),
            retired: Vec::new(),
            uncollected: false,
            used: POOL_AT,
            version: 0,
            making: 0,
            keeps_unused: false,
            ended: false,
        }
    }

    /// A writer that knows of no entry, and of the room behind all of them. It makes what has no
    /// columns.
    ///
    /// # Orderings
    /// `Acquire` pairs with the `Release` of who wrote before it.
    pub(super) fn behind_all(view: &View) -> Self {
        let said = view.work_word(USED).load(Ordering::Acquire) as usize;
        let used = said.clamp(POOL_AT, view.lines());
        Self { free: Runs::new(used, view.lines() - used), used, ..Self::new(view) }
    }

    /// What is retired is never freed by this writer.
    pub(super) fn keep_retired(&mut self) {
        self.retired.clear();
        self.uncollected = false;
    }

    /// The block of this kind, name and number of words, found or made.
    pub(super) fn block(
        &mut self,
        view: &View,
        (kind, name): (BlockKind, &str),
        shape: Shape,
    ) -> Result<Block, SegmentError> {
        if name.len() > MAX_NAME {
            return Err(SegmentError::LongName(name.len()));
        }
        if let Some(found) = view.find(kind, name, Some((shape.words, shape.column)))? {
            let held = self.held.get_mut(&found.at).ok_or(SegmentError::Corrupt(found.at))?;
            // It never happens while versions go up.
            if self.making < held.made_for {
                held.made_for = self.making;
                let word = Entry::kind_word(found.kind, found.name_bytes, self.making);
                view.memory.lines()[found.at].0[entry::KIND].store(word, Ordering::Release);
            }
            return Ok(held.block.clone());
        }
        let lines = 1 + name_lines(name.len()) + shape.lines();
        let (at, column) = self.place(view, lines, shape)?;
        let strip = column.as_ref().map(|taken| self.regions.strip(taken, shape.column));
        self.write(view, at, (kind as u8, name.as_bytes()), shape, strip);
        let (number, name_bytes) = (kind as u8, name.len());
        let (words, made_for) = (shape.words, self.making);
        let new = Entry { at, kind: number, name_bytes, words, strip, made_for, retired: 0 };
        let block = view.block(&new);
        let held = Held { kind, block: block.clone(), lines, column, made_for, retired: None };
        self.held.insert(at, held);
        Ok(block)
    }

    /// Room for an entry, if need be after freeing what is retired.
    fn place(
        &mut self,
        view: &View,
        lines: usize,
        shape: Shape,
    ) -> Result<(usize, Option<Taken>), SegmentError> {
        let units = shape.column.div_ceil(COLUMN_WORDS);
        let place = self.take(lines, units);
        // What was retired goes before what was never used.
        let fresh = place.as_ref().is_none_or(|&(at, _)| at + lines > self.used);
        if !fresh || !self.uncollected {
            if let Some(place) = place {
                return Ok(place);
            }
        } else if let Some((at, column)) = place {
            self.free.give(at, lines);
            column.iter().for_each(|taken| self.regions.give(taken));
        }
        self.collect(view);
        if let Some(place) = self.take(lines, units) {
            return Ok(place);
        }
        self.add_region(view, lines, units)?;
        self.take(lines, units).ok_or_else(|| self.full(view, lines))
    }

    /// A place without growing, if there is one.
    fn take(&mut self, lines: usize, units: usize) -> Option<(usize, Option<Taken>)> {
        let column = if units > 0 { Some(self.regions.take(units)?) } else { None };
        let Some(at) = self.free.take(lines) else {
            if let Some(taken) = column {
                self.regions.give(&taken);
            }
            return None;
        };
        Some((at, column))
    }

    /// Adds the region of columns that is missing, if one is.
    fn add_region(&mut self, view: &View, lines: usize, units: usize) -> Result<(), SegmentError> {
        let Some(missing) = self.regions.missing(units, view.workers) else { return Ok(()) };
        // With the line of its entry, and what it takes to begin with a pair.
        let around = 2 * PAIR - 1;
        let least = missing.least + around + lines;
        let spare = self.free.tail(view.lines()).checked_sub(least);
        let spare = spare.ok_or_else(|| self.full(view, least))?;
        let step = view.workers * PAIR;
        let extra = (missing.rather - missing.least).min(spare) / step * step;
        let size = missing.least + extra;
        // Its entry stands on the last line of a pair, so that the columns begin with the next.
        let first = self.free.take_aligned(PAIR + size, PAIR);
        let first = first.ok_or_else(|| self.full(view, least))?;
        self.free.give(first, PAIR - 1);
        let at = first + PAIR - 1;
        let shape = Shape { words: size * WORDS_PER_LINE, column: 0 };
        self.write(view, at, (REGION_KIND, b""), shape, None);
        self.regions.add(at + 1, size, view.workers);
        Ok(())
    }

    fn full(&self, view: &View, lines: usize) -> SegmentError {
        let max_bytes = view.lines() * size_of::<Line>();
        let needed = view.lines() - self.free.tail(view.lines()) + lines;
        let needed_bytes = (needed * size_of::<Line>()).next_multiple_of(1 << 20);
        SegmentError::Full { max_bytes, needed_bytes }
    }

    /// Writes an entry and makes it the first of its chain.
    ///
    /// # Orderings
    /// All of the entry is written before the head is stored with `Release`; who loads the head
    /// with `Acquire` sees it. What was in these lines before was taken out and counted, see
    /// [`collect`](Self::collect).
    fn write(
        &mut self,
        view: &View,
        at: usize,
        (kind, name): (u8, &[u8]),
        shape: Shape,
        strip: Option<Strip>,
    ) {
        let lines = 1 + name_lines(name.len()) + shape.lines();
        let end = at + lines;
        let was_used = self.used;
        if end > self.used {
            self.used = end;
            view.work_word(USED).store(end as u64, Ordering::Release);
        }
        let all = &view.memory.lines()[at..end];
        zero(&all[..was_used.saturating_sub(at).min(lines)]);
        for (i, word) in words_of(name).enumerate() {
            all[1 + i / WORDS_PER_LINE].0[i % WORDS_PER_LINE].store(word, Ordering::Relaxed);
        }
        let hash = view.hash(kind, name);
        let head = view.bucket(hash);
        let place = strip.map_or(0, |s| (s.stride as u64) << 32 | s.start as u64);
        for (i, value) in [
            (entry::HASH, hash),
            (entry::NEXT, head.load(Ordering::Relaxed)),
            (entry::KIND, Entry::kind_word(kind, name.len(), self.making)),
            (entry::WORDS, shape.words as u64),
            (entry::COLUMN, shape.column as u64),
            (entry::REGION, strip.map_or(0, |s| s.base as u64)),
            (entry::PLACE, place),
            (entry::RETIRED, 0),
        ] {
            all[0].0[i].store(value, Ordering::Relaxed);
        }
        head.store(at as u64, Ordering::Release);
    }

    /// Marks an entry as not to be found any more. Whether it was to be found.
    ///
    /// # Orderings
    /// `Release`: nothing but the mark itself is published.
    pub(super) fn retire(&mut self, view: &View, at: usize) -> bool {
        let held = self.held.get_mut(&at).filter(|held| held.retired.is_none());
        let Some(held) = held else { return false };
        // The process that it was made for may have used it.
        let last = self.version.max(held.made_for);
        held.retired = Some(last);
        self.retired.push(at);
        self.uncollected = true;
        let mark = last.saturating_add(1);
        view.memory.lines()[at].0[entry::RETIRED].store(mark, Ordering::Release);
        true
    }

    /// Retires what no configuration of this process holds. How many.
    pub(super) fn retire_unused(&mut self, view: &View) -> usize {
        if self.keeps_unused {
            return 0;
        }
        let all = self.held.iter_mut().filter(|(_, held)| held.retired.is_none());
        let unused = all.filter_map(|(&at, held)| held.block.is_unshared().then_some(at));
        let unused: Vec<_> = unused.collect();
        unused.into_iter().filter(|&at| self.retire(view, at)).count()
    }

    /// Frees the retired entries that are not held. How many.
    ///
    /// # Orderings
    /// The removals are counted and fenced (`Release`) before a line of an entry is written
    /// again; [`View::find`] says what for. The count itself is stored with `Release`, so that a
    /// reader which begins with the new count does not find what was taken out.
    pub(super) fn collect(&mut self, view: &View) -> usize {
        self.uncollected = false;
        let workers = view.holders();
        let (mut freed, mut left) = (Vec::new(), Vec::new());
        for at in std::mem::take(&mut self.retired) {
            let unused = self.held.get_mut(&at).is_some_and(|held| {
                let used = held.made_for..=held.retired.unwrap_or(u64::MAX);
                !workers.iter().any(|w| w.holds_any(&used)) && held.block.is_unshared()
            });
            if unused && self.take_out(view, at) {
                freed.push(at);
            } else {
                left.push(at);
            }
        }
        self.retired = left;
        if !freed.is_empty() {
            let removals = view.work_word(REMOVALS);
            let count = removals.load(Ordering::Relaxed).wrapping_add(1);
            removals.store(count, Ordering::Release);
            fence(Ordering::Release);
        }
        let count = freed.len();
        for (at, held) in freed.into_iter().filter_map(|at| Some((at, self.held.remove(&at)?))) {
            self.free.give(at, held.lines);
            if let Some(taken) = held.column {
                self.regions.give(&taken);
            }
        }
        count
    }

    /// What the retired entries take, with their columns.
    pub(super) fn retired_bytes(&self) -> usize {
        let held = self.retired.iter().filter_map(|at| self.held.get(at));
        let bytes = held.map(|held| {
            let columns = held.block.workers() * held.block.column_words() * size_of::<u64>();
            held.lines * size_of::<Line>() + columns
        });
        bytes.sum()
    }

    /// Zeroes an entry's columns and takes it out of its chain. In this order: if we die between,
    /// it is still there to be taken out. Whether it was found.
    fn take_out(&self, view: &View, at: usize) -> bool {
        let line = &view.memory.lines()[at];
        if let Some(held) = self.held.get(&at) {
            (0..held.block.workers()).for_each(|slot| zero_column(&held.block, slot));
        }
        let next = line.0[entry::NEXT].load(Ordering::Relaxed);
        let mut link = view.bucket(line.0[entry::HASH].load(Ordering::Relaxed));
        for _ in 0..view.lines() {
            let to = link.load(Ordering::Relaxed) as usize;
            if to == at {
                link.store(next, Ordering::Release);
                return true;
            }
            let Some(line) = view.pool_line(to) else { return false };
            link = &line.0[entry::NEXT];
        }
        false
    }
}

/// # Orderings
/// `Relaxed`: these lines are not held, and are reached only through a new entry.
fn zero(lines: &[Line]) {
    for word in lines.iter().flat_map(|line| &line.0) {
        word.store(0, Ordering::Relaxed);
    }
}

/// Zeroes what one worker counted in a block.
///
/// # Orderings
/// `Relaxed`: the worker is dead, and the next one in its slot is started after this.
pub(super) fn zero_column(block: &Block, slot: usize) {
    for i in 0..block.column_words() {
        block.column(slot, i).store(0, Ordering::Relaxed);
    }
}
