//! Counts that come down again: one column per worker, so that a dead worker's can be zeroed.

use crate::segment::Block;
use crate::sync::{AtomicU64, Ordering, update};

/// A count spread over workers: each writes the first word of its own column, all are summed.
///
/// Control zeroes the column of a worker that died, so what that one never gave back is not
/// counted for ever. Entering is O(workers).
#[derive(Clone, Debug)]
pub(crate) struct Columns {
    block: Block,
    own: usize,
}

impl Columns {
    /// Words of a block beside its columns: none.
    pub(crate) const WORDS: usize = 0;

    /// The column of `worker`. In a private block every worker means the same one.
    ///
    /// # Panics
    /// If the block has no such column.
    pub(crate) fn new(block: Block, worker: usize) -> Self {
        let own = if block.has_one_column() { 0 } else { worker };
        assert!(own < block.workers(), "no column for worker {worker}");
        Self { block, own }
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
        self.block.column(self.own, 0)
    }

    /// # Orderings
    /// `Acquire` pairs with [`update`]: who sees another's leaving sees what it did before.
    #[inline]
    fn others(&self) -> u64 {
        let others = (0..self.block.workers()).filter(|&slot| slot != self.own);
        others.map(|slot| self.block.column(slot, 0).load(Ordering::Acquire)).sum()
    }
}
