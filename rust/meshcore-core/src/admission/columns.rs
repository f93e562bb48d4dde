//! Counts that come down again: one column per worker, so that a dead worker's can be zeroed.

use crate::segment::{Block, WORDS_PER_LINE};
use crate::sync::{AtomicU64, Ordering, update};

/// A count spread over workers: each writes its own cache line, all are summed.
///
/// Control zeroes the column of a worker that died, so what that one never gave back is not
/// counted for ever. Entering is O(workers).
#[derive(Clone, Debug)]
pub(crate) struct Columns {
    block: Block,
    own: usize,
}

impl Columns {
    /// Words of a block for `workers` columns.
    pub(crate) const fn words(workers: usize) -> usize {
        workers * WORDS_PER_LINE
    }

    /// The column of `worker`; the block's lines are the columns.
    ///
    /// # Panics
    /// If the block has no such line.
    pub(crate) fn new(block: Block, worker: usize) -> Self {
        assert!(worker < block.lines().len(), "no column for worker {worker}");
        Self { block, own: worker }
    }

    /// Adds one if fewer than `cap` are in.
    ///
    /// Exact among the threads of one worker; workers that enter at the same instant may see each
    /// other too late, so the sum may pass `cap` by the number of workers less one.
    #[inline]
    pub(crate) fn enter_below(&self, cap: u64) -> bool {
        update(self.column(), |own| {
            if self.others().saturating_add(own) < cap {
                (Some(own + 1), true)
            } else {
                (None, false)
            }
        })
    }

    /// Takes one away; a column that control zeroed stays at zero.
    #[inline]
    pub(crate) fn leave(&self) {
        update(self.column(), |own| (own.checked_sub(1), ()));
    }

    /// All columns together.
    #[inline]
    pub(crate) fn sum(&self) -> u64 {
        self.others().saturating_add(self.column().load(Ordering::Acquire))
    }

    #[inline]
    fn column(&self) -> &AtomicU64 {
        &self.block.lines()[self.own].0[0]
    }

    #[inline]
    fn others(&self) -> u64 {
        let lines = self.block.lines().iter().enumerate().filter(|(i, _)| *i != self.own);
        lines.map(|(_, line)| line.0[0].load(Ordering::Acquire)).sum()
    }
}
