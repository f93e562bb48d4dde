//! A cap on what is under way.

use crate::segment::Block;

use super::columns::Columns;

/// At most `cap` requests at one time, over all workers.
///
/// Exact within a worker; over several it may be passed by their number less one, because an
/// exact cap needs a lock.
#[derive(Clone, Debug)]
pub struct InFlight {
    columns: Columns,
    cap: u64,
}

impl InFlight {
    /// Words of its block beside the workers' columns.
    pub const WORDS: usize = Columns::WORDS;

    /// The view of `worker_slot`.
    ///
    /// # Panics
    /// If the block has no column for `worker_slot`.
    #[must_use]
    pub fn new(block: Block, worker_slot: usize, cap: u64) -> Self {
        Self { columns: Columns::new(block, worker_slot), cap }
    }

    /// Counts one in, unless the cap is reached.
    #[must_use = "who entered must leave"]
    #[inline]
    pub fn try_enter(&self) -> bool {
        self.columns.enter_below(self.cap)
    }

    /// Counts one in, unless `limit` or the cap is reached: for whom only a part of it is open.
    #[must_use = "who entered must leave"]
    #[inline]
    pub fn try_enter_below(&self, limit: u64) -> bool {
        self.columns.enter_below(limit.min(self.cap))
    }

    /// Counts one out: once for each [`Self::try_enter`] or [`Self::try_enter_below`] that said
    /// yes.
    #[inline]
    pub fn leave(&self) {
        self.columns.leave();
    }

    /// How many are in, over all workers.
    #[must_use]
    #[inline]
    pub fn current(&self) -> u64 {
        self.columns.sum()
    }

    /// The most that may be in.
    #[must_use]
    pub const fn cap(&self) -> u64 {
        self.cap
    }
}

#[cfg(all(test, not(feature = "loom")))]
mod tests {
    use super::*;
    use crate::segment::{BlockKind, Segment, SegmentConfig};
    use crate::sync::Ordering;

    fn in_segment(worker_slots: usize) -> Block {
        let config = SegmentConfig { max_bytes: 1 << 20, worker_slots };
        let segment = Segment::anonymous(config).expect("a few slots");
        segment.block(BlockKind::Upstream, "cap", InFlight::WORDS).expect("room")
    }

    #[test]
    fn the_cap_holds_over_workers() {
        let block = in_segment(2);
        let (a, b) = (InFlight::new(block.clone(), 0, 3), InFlight::new(block, 1, 3));
        assert!(a.try_enter() && b.try_enter() && a.try_enter());
        assert!(!a.try_enter() && !b.try_enter());
        assert_eq!((a.current(), b.current()), (3, 3));
        a.leave();
        assert!(b.try_enter());
        assert_eq!(b.current(), 3);
    }

    #[test]
    fn a_limit_below_the_cap_binds_and_one_above_does_not() {
        let cap = InFlight::new(Block::private(InFlight::WORDS), 0, 2);
        assert!(cap.try_enter_below(1) && !cap.try_enter_below(1));
        assert!(cap.try_enter_below(9) && !cap.try_enter_below(9));
        assert_eq!(cap.current(), 2);
    }

    #[test]
    fn a_cap_of_zero_lets_nobody_in() {
        assert!(!InFlight::new(Block::private(1), 0, 0).try_enter());
    }

    #[test]
    fn a_zeroed_column_stays_at_zero_when_its_worker_still_leaves() {
        let block = Block::private(InFlight::WORDS);
        let cap = InFlight::new(block.clone(), 0, 2);
        assert!(cap.try_enter());
        block.column(0, 0).store(0, Ordering::Relaxed);
        cap.leave();
        assert_eq!(cap.current(), 0);
        assert!(cap.try_enter() && cap.try_enter() && !cap.try_enter());
    }

    #[test]
    #[should_panic(expected = "no column for worker 1")]
    fn a_worker_without_a_column_is_a_fault() {
        let _ = InFlight::new(in_segment(1), 1, 1);
    }
}
