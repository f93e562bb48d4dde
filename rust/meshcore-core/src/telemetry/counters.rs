//! Counts that grow, and counts that come down again.

use crate::segment::{Block, Shape};
use crate::sync::Ordering;

/// Counts that only grow, told apart by number: one block for all counts of an object.
///
/// The block is of [`BlockKind::Counters`](crate::segment::BlockKind::Counters). Counts wrap after 2^64,
/// which Prometheus takes for a restart.
///
/// # Orderings
/// `Relaxed` throughout: a count publishes nothing but itself, and a reader of several counts
/// has no claim to see them at one instant.
#[derive(Clone, Debug)]
pub struct Counters {
    block: Block,
    slot: usize,
}

impl Counters {
    /// The counts in `block`, as the worker in `worker_slot` adds to them.
    #[must_use]
    pub fn new(block: Block, worker_slot: usize) -> Self {
        Self { block, slot: worker_slot }
    }

    /// `n` counts that cannot be found by name.
    #[must_use]
    pub fn private(n: usize) -> Self {
        Self::new(Block::private_shape(Shape::column(n)), 0)
    }

    /// Adds one to count `i`.
    ///
    /// # Panics
    /// If there is no such count: a fault of the caller, never of input.
    #[inline]
    pub fn inc(&self, i: usize) {
        self.add(i, 1);
    }

    /// Adds `n` to count `i`; panics as [`inc`](Self::inc) does.
    #[inline]
    pub fn add(&self, i: usize, n: u64) {
        self.block.column(self.slot, i).fetch_add(n, Ordering::Relaxed);
    }

    /// Count `i` over all workers. O(workers).
    #[must_use]
    pub fn get(&self, i: usize) -> u64 {
        let one = |slot| self.block.column(slot, i).load(Ordering::Relaxed);
        (0..self.block.workers()).map(one).fold(0, u64::wrapping_add)
    }
}

/// Counts of what is there now, told apart by number: connections, streams.
///
/// The block is of [`BlockKind::Gauges`](crate::segment::BlockKind::Gauges): when a worker dies, control
/// zeroes what it held.
///
/// # Orderings
/// `Relaxed`, as for [`Counters`].
#[derive(Clone, Debug)]
pub struct Gauges {
    block: Block,
    slot: usize,
}

impl Gauges {
    /// The gauges in `block`, as the worker in `worker_slot` changes them.
    #[must_use]
    pub fn new(block: Block, worker_slot: usize) -> Self {
        Self { block, slot: worker_slot }
    }

    /// `n` gauges that cannot be found by name.
    #[must_use]
    pub fn private(n: usize) -> Self {
        Self::new(Block::private_shape(Shape::column(n)), 0)
    }

    /// Adds one to gauge `i`; pair with [`dec`](Self::dec).
    ///
    /// # Panics
    /// If there is no such gauge: a fault of the caller, never of input.
    #[inline]
    pub fn inc(&self, i: usize) {
        self.block.column(self.slot, i).fetch_add(1, Ordering::Relaxed);
    }

    /// Takes one from gauge `i`; panics as [`inc`](Self::inc) does.
    #[inline]
    pub fn dec(&self, i: usize) {
        self.block.column(self.slot, i).fetch_sub(1, Ordering::Relaxed);
    }

    /// Gauge `i` over all workers, never below zero. O(workers).
    #[must_use]
    pub fn get(&self, i: usize) -> u64 {
        let one = |slot| self.block.column(slot, i).load(Ordering::Relaxed);
        // A column that control zeroed under a living worker may go below zero for a while.
        (0..self.block.workers()).map(|slot| one(slot).cast_signed().max(0).cast_unsigned()).sum()
    }
}

#[cfg(all(test, not(feature = "loom")))]
mod tests {
    use super::*;
    use crate::segment::{BlockKind, Segment, SegmentConfig};

    fn block(kind: BlockKind) -> Block {
        let config = SegmentConfig { max_bytes: 1 << 20, worker_slots: 3 };
        let segment = Segment::anonymous(config).expect("3 slots");
        segment.block(kind, "x", 4).expect("room for 4 words")
    }

    #[test]
    fn counts_add_up_over_workers_and_stay_apart() {
        let block = block(BlockKind::Counters);
        let [a, b] = [0, 2].map(|slot| Counters::new(block.clone(), slot));
        a.inc(0);
        b.add(0, 41);
        b.inc(3);
        assert_eq!([0, 1, 2, 3].map(|i| a.get(i)), [42, 0, 0, 1]);
    }

    #[test]
    fn a_gauge_comes_down_and_is_never_below_zero() {
        let block = block(BlockKind::Gauges);
        let [a, b] = [0, 1].map(|slot| Gauges::new(block.clone(), slot));
        a.inc(1);
        b.inc(1);
        b.inc(1);
        a.dec(1);
        assert_eq!((a.get(1), a.get(0)), (2, 0));
        a.dec(1);
        assert_eq!(a.get(1), 2);
    }

    #[test]
    fn private_counts_need_no_segment() {
        let (counts, gauges) = (Counters::private(9), Gauges::private(9));
        counts.inc(8);
        gauges.inc(8);
        assert_eq!((counts.get(8), gauges.get(8)), (1, 1));
    }
}
