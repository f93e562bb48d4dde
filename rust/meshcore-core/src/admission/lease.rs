//! Counts that come down again by themselves when a process that is counted in them dies.

use crate::segment::Block;
use crate::sync::{AtomicU64, Ordering, update};
use crate::time::Nanos;

/// A word for each of the last periods: what is under way is counted in that in which it began.
const PERIODS: usize = 8;
/// So nothing is counted for longer than 64 s, and at least for 56.
const PERIOD: Nanos = Nanos::from_secs(8);
const COUNT_BITS: u32 = 32;

/// How many are under way, over all who share the words.
///
/// Processes that share words without a control over them may be killed, and nothing would take
/// away what they counted in. So each word has the number of its period above its count, and what
/// began long ago is forgotten: the period's successor takes its word.
///
/// # Orderings
/// A word is the whole state of its period and publishes nothing. The others are read beside it:
/// who enters at the same instant in another period may be overlooked, for that instant.
#[derive(Clone, Debug)]
pub struct Leases {
    block: Block,
    first: usize,
}

/// One that is under way.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[must_use = "who entered must leave"]
pub struct Lease(u32);

impl Lease {
    /// For callers with room for no more than a number.
    #[must_use]
    pub const fn number(self) -> u32 {
        self.0
    }

    /// The lease of [`Self::number`].
    pub const fn from_number(number: u32) -> Self {
        Self(number)
    }
}

impl Leases {
    /// Words that it takes.
    pub const WORDS: usize = PERIODS;

    /// In the words of `block` from `first` on.
    #[must_use]
    pub const fn new(block: Block, first: usize) -> Self {
        Self { block, first }
    }

    /// Counts one in if fewer than `cap` are.
    pub fn enter_below(&self, cap: u64, now: Nanos) -> Option<Lease> {
        let period = period_of(now);
        let others = self.sum_but(now, Some(period));
        update(self.word(period), |old| {
            let count = counted(old, period);
            if others.saturating_add(count) >= cap || count == u64::from(u32::MAX) {
                return (None, None);
            }
            (Some(u64::from(period) << COUNT_BITS | (count + 1)), Some(Lease(period)))
        })
    }

    /// Counts one out, once; nothing if it was forgotten.
    pub fn leave(&self, lease: Lease) {
        update(self.word(lease.0), |old| ((counted(old, lease.0) > 0).then(|| old - 1), ()));
    }

    /// Forgets all, for the only holder of the words.
    pub fn clear(&self) {
        for period in 0..PERIODS as u32 {
            self.word(period).store(0, Ordering::Release);
        }
    }

    /// How many are under way.
    #[must_use]
    pub fn sum(&self, now: Nanos) -> u64 {
        self.sum_but(now, None)
    }

    fn sum_but(&self, now: Nanos, left_out: Option<u32>) -> u64 {
        let this = period_of(now);
        // The next one too: clocks are read before they are acted on.
        let known = (0..=PERIODS as u32).map(|back| this.wrapping_add(1).wrapping_sub(back));
        let counts = known.filter(|&period| Some(period) != left_out);
        counts.map(|p| counted(self.word(p).load(Ordering::Acquire), p)).sum()
    }

    fn word(&self, period: u32) -> &AtomicU64 {
        self.block.word(self.first + period as usize % PERIODS)
    }
}

#[allow(clippy::cast_possible_truncation)] // wraps in a thousand years
const fn period_of(now: Nanos) -> u32 {
    (now.0 / PERIOD.0) as u32
}

/// What a word says of a period: nothing if it is another's.
const fn counted(word: u64, period: u32) -> u64 {
    if word >> COUNT_BITS == period as u64 { word & (u32::MAX as u64) } else { 0 }
}

#[cfg(all(test, not(feature = "loom")))]
#[allow(clippy::unwrap_used)] // in helpers, where clippy does not see the test
mod tests {
    use super::*;

    fn leases() -> Leases {
        Leases::new(Block::private(Leases::WORDS), 0)
    }

    fn at(secs: u64) -> Nanos {
        Nanos::from_secs(secs)
    }

    #[test]
    fn what_entered_counts_until_it_leaves() {
        let l = leases();
        let (a, b) = (l.enter_below(2, at(100)).unwrap(), l.enter_below(2, at(111)).unwrap());
        assert_eq!(l.enter_below(2, at(120)), None, "over periods");
        assert_eq!(l.sum(at(120)), 2);
        l.leave(a);
        assert_eq!(l.sum(at(120)), 1);
        let c = l.enter_below(2, at(120)).unwrap();
        l.leave(b);
        l.leave(c);
        l.leave(c);
        assert_eq!(l.sum(at(120)), 0);
    }

    #[test]
    fn what_never_leaves_is_forgotten() {
        let l = leases();
        let lost = l.enter_below(1, at(800)).unwrap();
        for later in [800, 830, 855] {
            assert_eq!(l.enter_below(1, at(later)), None, "{later}");
        }
        let next = l.enter_below(1, at(864)).unwrap();
        l.leave(lost);
        assert_eq!(l.sum(at(864)), 1, "what was forgotten takes nobody else out");
        l.leave(next);
        assert_eq!(l.sum(at(864)), 0);
    }

    #[test]
    fn an_older_clock_sees_what_a_newer_one_counted() {
        let l = leases();
        let _held = l.enter_below(1, at(808)).unwrap();
        assert_eq!(l.enter_below(1, Nanos(at(808).0 - 1)), None);
    }
}
