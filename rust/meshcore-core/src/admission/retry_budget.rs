//! Retries may not become the load that keeps a service down.

use crate::segment::Block;
use crate::time::Nanos;

use super::columns::Columns;
use super::lease::{Lease, Leases};

/// At one time as many retries as a part of the active requests, and always a few.
///
/// Counted as Envoy's `retry_budget` counts: retries under way against requests under way. So
/// there is no window to forget: when requests end, the budget shrinks at once.
#[derive(Clone, Debug)]
pub struct RetryBudget {
    columns: Columns,
    part: Part,
}

/// How many retries there may be at one time.
#[derive(Clone, Copy, Debug)]
struct Part {
    percent: u64,
    floor: u64,
}

impl Part {
    const fn new(percent: u32, floor: u32) -> Self {
        Self { percent: percent as u64, floor: floor as u64 }
    }

    #[inline]
    const fn of(self, active: u64) -> u64 {
        let part = active.saturating_mul(self.percent) / 100;
        if part > self.floor { part } else { self.floor }
    }
}

impl RetryBudget {
    /// Words of its block beside the workers' columns.
    pub const WORDS: usize = Columns::WORDS;

    /// The view of `worker_slot`: `percent` of the active requests, but never fewer than `floor`.
    ///
    /// # Panics
    /// If the block has no column for `worker_slot`.
    #[must_use]
    pub fn new(block: Block, worker_slot: usize, percent: u32, floor: u32) -> Self {
        let columns = Columns::new(block, worker_slot);
        Self { columns, part: Part::new(percent, floor) }
    }

    /// Counts a retry in if the budget allows one more beside `active` requests.
    #[must_use = "who entered must leave"]
    #[inline]
    pub fn try_enter(&self, active: u64) -> bool {
        self.columns.enter_below(self.allowed(active))
    }

    /// Whether the budget allows one more beside `active` requests.
    #[must_use]
    pub fn has_room(&self, active: u64) -> bool {
        self.current() < self.allowed(active)
    }

    /// Counts a retry in that was allowed earlier.
    pub fn enter(&self) {
        self.columns.enter_below(u64::MAX);
    }

    /// Counts a retry out: once for each [`Self::enter`], and [`Self::try_enter`] that said yes.
    #[inline]
    pub fn leave(&self) {
        self.columns.leave();
    }

    /// Retries under way, over all workers.
    #[must_use]
    #[inline]
    pub fn current(&self) -> u64 {
        self.columns.sum()
    }

    /// Retries allowed at one time beside `active` requests.
    #[must_use]
    #[inline]
    pub const fn allowed(&self, active: u64) -> u64 {
        self.part.of(active)
    }
}

/// The same for calls of programs that share words with no control over them, whose own calls it
/// counts too.
#[derive(Clone, Debug)]
pub struct LeasedBudget {
    calls: Leases,
    retries: Leases,
    part: Part,
}

impl LeasedBudget {
    /// Words of its block.
    pub const WORDS: usize = 2 * Leases::WORDS;

    /// In the words of `block`: `percent` of the calls under way, but never fewer than `floor`.
    #[must_use]
    pub fn new(block: Block, percent: u32, floor: u32) -> Self {
        let retries = Leases::new(block.clone(), Leases::WORDS);
        Self { calls: Leases::new(block, 0), retries, part: Part::new(percent, floor) }
    }

    /// Counts a call in, with all its attempts. `None`: there are too many to be counted.
    pub fn enter(&self, now: Nanos) -> Option<Lease> {
        self.calls.enter_below(u64::MAX, now)
    }

    /// Counts a call out, once.
    pub fn leave(&self, call: Lease) {
        self.calls.leave(call);
    }

    /// Counts a retry in if the budget allows one more.
    pub fn try_retry(&self, now: Nanos) -> Option<Lease> {
        self.retries.enter_below(self.part.of(self.calls(now)), now)
    }

    /// Counts a retry out, once.
    pub fn end_retry(&self, retry: Lease) {
        self.retries.leave(retry);
    }

    /// Forgets all that is under way, for the only holder of the words.
    pub fn clear(&self) {
        self.calls.clear();
        self.retries.clear();
    }

    /// Calls under way.
    #[must_use]
    pub fn calls(&self, now: Nanos) -> u64 {
        self.calls.sum(now)
    }

    /// Retries under way.
    #[must_use]
    pub fn retries(&self, now: Nanos) -> u64 {
        self.retries.sum(now)
    }
}

#[cfg(all(test, not(feature = "loom")))]
mod tests {
    use super::*;

    fn budget(percent: u32, floor: u32) -> RetryBudget {
        RetryBudget::new(Block::private(RetryBudget::WORDS), 0, percent, floor)
    }

    #[test]
    fn a_part_of_the_active_and_never_below_the_floor() {
        let b = budget(20, 3);
        assert_eq!([0, 15, 16, 19, 20, 100].map(|n| b.allowed(n)), [3, 3, 3, 3, 4, 20]);
        assert_eq!(b.allowed(u64::MAX), u64::MAX / 100);
    }

    #[test]
    fn a_retry_counts_until_it_ends() {
        let b = budget(50, 1);
        assert!(b.try_enter(4) && b.try_enter(4) && !b.try_enter(4));
        b.leave();
        assert!(b.try_enter(4));
        assert_eq!(b.current(), 2);
        assert!(!b.try_enter(0), "the budget shrinks with the requests");
    }

    #[test]
    fn calls_of_programs_are_counted_with_their_retries() {
        let b = LeasedBudget::new(Block::private(LeasedBudget::WORDS), 50, 0);
        let now = Nanos::from_secs(1_000);
        let calls: Vec<Lease> = (0..5).filter_map(|_| b.enter(now)).collect();
        assert!(calls.len() == 5 && b.calls(now) == 5);
        let retries: Vec<Lease> = std::iter::from_fn(|| b.try_retry(now)).collect();
        assert_eq!((retries.len(), b.retries(now)), (2, 2));
        b.end_retry(retries[0]);
        assert!(b.try_retry(now).is_some());
        calls.into_iter().for_each(|call| b.leave(call));
        assert_eq!((b.calls(now), b.try_retry(now)), (0, None));
    }

    #[test]
    fn a_child_begins_with_nothing_under_way() {
        let b = LeasedBudget::new(Block::private(LeasedBudget::WORDS), 0, 1);
        let now = Nanos::from_secs(1_000);
        let (call, retry) = (b.enter(now).unwrap(), b.try_retry(now).unwrap());
        b.clear();
        assert_eq!((b.calls(now), b.retries(now)), (0, 0));
        b.leave(call);
        b.end_retry(retry);
        assert!(b.try_retry(now).is_some(), "what was forgotten is not taken away again");
        assert_eq!((b.calls(now), b.retries(now)), (0, 1));
    }

    #[test]
    fn a_budget_of_nothing_allows_nothing() {
        assert!(!budget(0, 0).try_enter(1_000));
    }
}
