//! The memory of a segment: chunks that are added as needed and cut into places.

use std::fmt;
use std::sync::Arc;

use super::block::{Block, COLUMN_WORDS, Columns, Line, Shape, WORDS_PER_LINE};
use super::memory::Memory;
use super::runs::Runs;
use crate::sync::Ordering;

/// The first chunk of a kind, in lines: 64 KiB, some hundred objects.
const FIRST_LINES: usize = 1_024;
/// Later ones double up to 4 MiB, so that 100,000 endpoints take about a dozen chunks.
const MOST_LINES: usize = 65_536;
/// Columns of two workers are a pair of lines apart: processors fetch lines in pairs.
const PAIR: usize = 2;

/// Why a block cannot be had.
#[derive(Debug)]
pub enum SegmentError {
    /// It does not fit below the limit.
    Full {
        /// The limit, in bytes.
        max_bytes: usize,
        /// The least limit under which it would fit now.
        needed_bytes: usize,
    },
    /// The system has no memory for us.
    Memory(std::io::Error),
    /// Worker slots outside 1 to [`MAX_WORKERS`](super::MAX_WORKERS).
    Workers(usize),
}

impl fmt::Display for SegmentError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Full { max_bytes, needed_bytes } => write!(
                f,
                "shared memory is full: segment_max is {max_bytes} bytes, set it to at least \
                 {needed_bytes}"
            ),
            Self::Memory(e) => write!(f, "no shared memory: {e}"),
            Self::Workers(n) => {
                write!(f, "{n} worker slots, must be 1 to {}", super::MAX_WORKERS)
            }
        }
    }
}

impl std::error::Error for SegmentError {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        match self {
            Self::Memory(e) => Some(e),
            Self::Full { .. } | Self::Workers(_) => None,
        }
    }
}

/// Where something lies: a chunk and units in it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Run {
    chunk: usize,
    start: usize,
    length: usize,
}

/// Where a block lies; numbers only.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Place {
    lines: Option<Run>,
    columns: Option<Run>,
}

/// Chunks of one use: the unit is a line, or two words of every worker's column.
#[derive(Debug)]
struct Pool {
    chunks: Vec<(Arc<Memory>, Runs)>,
    /// Lines that one line's worth of units takes: 1, or the number of workers.
    width: usize,
    units_per_line: usize,
}

impl Pool {
    fn take(&mut self, length: usize) -> Option<Run> {
        self.chunks.iter_mut().enumerate().find_map(|(chunk, (_, runs))| {
            runs.take(length).map(|start| Run { chunk, start, length })
        })
    }

    fn give(&mut self, run: Run) {
        self.chunks[run.chunk].1.give(run.start, run.length);
    }

    /// The chunk that is missing before `length` units can be taken, in lines.
    fn missing(&mut self, length: usize) -> Missing {
        if length == 0 {
            return Missing::default();
        }
        if let Some(run) = self.take(length) {
            self.give(run);
            return Missing::default();
        }
        let least = length.div_ceil(self.units_per_line).next_multiple_of(PAIR) * self.width;
        let first = FIRST_LINES.next_multiple_of(self.step());
        let doubled = self.chunks.last().map_or(first, |(memory, _)| memory.lines().len() * 2);
        let most = MOST_LINES.next_multiple_of(self.step());
        Missing { least, rather: doubled.min(most).max(least) }
    }

    /// Chunks are a multiple of this many lines.
    const fn step(&self) -> usize {
        self.width * PAIR
    }

    fn add(&mut self, lines: usize) -> Result<(), SegmentError> {
        let memory = Memory::mapped(lines).map_err(SegmentError::Memory)?;
        let units = lines / self.width * self.units_per_line;
        self.chunks.push((Arc::new(memory), Runs::new(units)));
        Ok(())
    }
}

/// A chunk to add: how many lines at least, and how many if there is room.
#[derive(Clone, Copy, Default)]
struct Missing {
    least: usize,
    rather: usize,
}

/// All memory of a segment.
#[derive(Debug)]
pub(super) struct Arena {
    lines: Pool,
    columns: Pool,
    reserved_lines: usize,
    max_lines: usize,
    workers: usize,
}

impl Arena {
    pub(super) fn new(max_bytes: usize, workers: usize) -> Self {
        let pool = |width, units_per_line| Pool { chunks: Vec::new(), width, units_per_line };
        Self {
            lines: pool(1, 1),
            columns: pool(workers, WORDS_PER_LINE / COLUMN_WORDS),
            reserved_lines: 0,
            max_lines: max_bytes / size_of::<Line>(),
            workers,
        }
    }

    pub(super) const fn workers(&self) -> usize {
        self.workers
    }

    /// Bytes of all chunks, used or not.
    pub(super) const fn reserved_bytes(&self) -> usize {
        self.reserved_lines * size_of::<Line>()
    }

    /// A place without growing, if there is one.
    pub(super) fn take(&mut self, shape: Shape) -> Option<Place> {
        let lines = match shape.lines() {
            0 => None,
            n => Some(self.lines.take(n)?),
        };
        let columns = match shape.column.div_ceil(COLUMN_WORDS) {
            0 => None,
            n => {
                let run = self.columns.take(n);
                if let (None, Some(lines)) = (run, lines) {
                    self.lines.give(lines);
                }
                Some(run?)
            }
        };
        Some(Place { lines, columns })
    }

    /// Adds the chunks that a place of this shape is missing.
    pub(super) fn grow(&mut self, shape: Shape) -> Result<(), SegmentError> {
        let lines = self.lines.missing(shape.lines());
        let columns = self.columns.missing(shape.column.div_ceil(COLUMN_WORDS));
        let needed = self.reserved_lines + lines.least + columns.least;
        let Some(mut spare) = self.max_lines.checked_sub(needed) else {
            return Err(full(self.max_lines, needed));
        };
        for (pool, chunk) in [(&mut self.lines, lines), (&mut self.columns, columns)] {
            if chunk.least > 0 {
                let extra = (chunk.rather - chunk.least).min(spare) / pool.step() * pool.step();
                pool.add(chunk.least + extra)?;
                spare -= extra;
                self.reserved_lines += chunk.least + extra;
            }
        }
        Ok(())
    }

    /// Gives back a place that no block points to any more; its words become zero.
    pub(super) fn give(&mut self, place: Place, block: &Block) {
        zero(block);
        if let Some(run) = place.lines {
            self.lines.give(run);
        }
        if let Some(run) = place.columns {
            self.columns.give(run);
        }
    }

    /// The block at a place.
    pub(super) fn block(&self, place: Place, shape: Shape) -> Block {
        let lines = place.lines.map(|run| (&self.lines.chunks[run.chunk].0, run.start, run.length));
        let columns = place.columns.map(|run| {
            let memory = &self.columns.chunks[run.chunk].0;
            let stride = memory.lines().len() / self.workers;
            (
                memory,
                Columns::at(memory, run.start * COLUMN_WORDS, shape.column, self.workers, stride),
            )
        });
        Block::in_segment(lines, columns)
    }
}

fn full(max_lines: usize, needed_lines: usize) -> SegmentError {
    let mib = (needed_lines * size_of::<Line>()).next_multiple_of(1 << 20);
    SegmentError::Full { max_bytes: max_lines * size_of::<Line>(), needed_bytes: mib }
}

/// # Orderings
/// `Relaxed`: nobody else holds the block, and whoever gets the words next gets them through a
/// new block, which is handed over by synchronised means.
fn zero(block: &Block) {
    for word in block.lines().iter().flat_map(|line| &line.0) {
        word.store(0, Ordering::Relaxed);
    }
    for slot in 0..block.workers() {
        zero_column(block, slot);
    }
}

/// Zeroes what one worker counted in a block.
pub(super) fn zero_column(block: &Block, slot: usize) {
    for i in 0..block.column_words() {
        block.column(slot, i).store(0, Ordering::Relaxed);
    }
}
