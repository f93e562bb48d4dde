//! One bucket of tokens in one word: GCRA, see [`super::quota`].

use crate::segment::Block;
use crate::sync::{AtomicU64, Ordering, update};
use crate::time::Nanos;

use super::quota::{Admitted, FRACTION_BITS, Quota, Refused, SKEW, charge, used};

const SKEW_UNITS: u64 = SKEW.0 << FRACTION_BITS;

/// A token bucket, shared by all who hold its block.
///
/// Every call is O(1) and lock-free. A refusal writes nothing, so under attack the line stays
/// shared between cores. A zero word is a full bucket.
///
/// # Orderings
/// The word is the whole state and publishes nothing else; what [`update`] gives is more than
/// enough, and on x86-64 costs nothing.
#[derive(Clone, Debug)]
pub struct TokenBucket {
    block: Block,
    quota: Quota,
}

impl TokenBucket {
    /// Words of its block.
    pub const WORDS: usize = 1;

    /// A bucket in the first word of `block`.
    #[must_use]
    pub const fn new(block: Block, quota: Quota) -> Self {
        Self { block, quota }
    }

    /// What it was made with.
    #[must_use]
    pub const fn quota(&self) -> Quota {
        self.quota
    }

    /// Takes `n` tokens, all or none.
    ///
    /// # Errors
    /// [`Refused`] when fewer than `n` are there; then nothing was written.
    #[inline]
    pub fn try_acquire(&self, now: Nanos, n: u64) -> Result<Admitted, Refused> {
        if n > self.quota.limit() {
            return Err(self.quota.never());
        }
        let cost = n * self.quota.interval();
        update(self.word(), |old| match step(&self.quota, old, now, cost) {
            Ok((new, ahead)) => (Some(new), Ok(self.admitted(ahead))),
            Err(short) => (None, Err(self.refused(short))),
        })
    }

    /// Returns `n` tokens that [`Self::try_acquire`] took.
    ///
    /// It needs no clock: an instant moved back into the past is still a full bucket, no more.
    #[inline]
    pub fn give_back(&self, n: u64) {
        let cost = n.min(self.quota.limit()) * self.quota.interval();
        self.word().fetch_sub(cost, Ordering::AcqRel);
    }

    /// What is there now; changes nothing.
    #[must_use]
    #[inline]
    pub fn peek(&self, now: Nanos) -> Admitted {
        let ahead = self.word().load(Ordering::Acquire).wrapping_sub(units(now));
        self.admitted(used(ahead, self.quota.full(), SKEW_UNITS).min(self.quota.full()))
    }

    /// Fills the bucket.
    pub fn refill(&self, now: Nanos) {
        self.word().store(units(now), Ordering::Release);
    }

    /// Goes on from what was taken of `before`, a bucket of another quota.
    ///
    /// What is charged to `before` meanwhile is forgiven.
    pub fn take_over(&self, before: &Self, now: Nanos) {
        let taken = before.word().load(Ordering::Acquire).wrapping_sub(units(now));
        let taken = used(taken, before.quota.full(), SKEW_UNITS);
        let ahead = self.quota.taken(taken, &before.quota);
        self.word().store(units(now).wrapping_add(ahead), Ordering::Release);
    }

    #[inline]
    fn word(&self) -> &AtomicU64 {
        self.block.word(0)
    }

    #[inline]
    fn admitted(&self, ahead: u64) -> Admitted {
        Admitted {
            remaining: (self.quota.full() - ahead) / self.quota.interval(),
            reset_after: Nanos(ahead.div_ceil(1 << FRACTION_BITS)),
        }
    }

    #[inline]
    fn refused(&self, short: u64) -> Refused {
        Refused {
            retry_after: Nanos(short.div_ceil(1 << FRACTION_BITS)),
            limit: self.quota.limit(),
        }
    }
}

/// An instant in 1/256 ns; wraps every 833 days, as [`charge`] expects.
#[inline]
const fn units(now: Nanos) -> u64 {
    now.0 << FRACTION_BITS
}

/// The pure step: the new word and how far it is ahead of now, or how much was missing.
#[inline]
fn step(quota: &Quota, old: u64, now: Nanos, cost: u64) -> Result<(u64, u64), u64> {
    let now = units(now);
    let after = charge(old.wrapping_sub(now), cost, quota.full(), SKEW_UNITS)?;
    Ok((now.wrapping_add(after), after))
}

#[cfg(all(test, not(feature = "loom")))]
#[allow(clippy::unwrap_used)] // in helpers, where clippy does not see the test
mod tests {
    use super::*;
    use crate::snapshot::Rate;

    fn bucket(tokens: u64, burst: u64) -> TokenBucket {
        let quota = Quota::new(Rate { tokens, period_ns: 1_000_000_000, burst }).unwrap();
        TokenBucket::new(Block::private(TokenBucket::WORDS), quota)
    }

    #[test]
    fn a_burst_passes_then_one_per_interval() {
        let b = bucket(10, 3);
        let t0 = Nanos::from_secs(100);
        assert_eq!(b.try_acquire(t0, 1).unwrap().remaining, 2);
        assert_eq!(
            b.try_acquire(t0, 2),
            Ok(Admitted { remaining: 0, reset_after: Nanos::from_millis(300) })
        );
        let refused = b.try_acquire(t0, 1).unwrap_err();
        assert_eq!(refused, Refused { retry_after: Nanos::from_millis(100), limit: 3 });
        assert!(b.try_acquire(t0 + refused.retry_after - Nanos(1), 1).is_err());
        assert!(b.try_acquire(t0 + refused.retry_after, 1).is_ok());
    }

    #[test]
    fn more_than_a_full_bucket_never_passes() {
        let b = bucket(10, 3);
        assert_eq!(b.try_acquire(Nanos(0), 4).unwrap_err().retry_after, Nanos::MAX);
        assert_eq!(b.try_acquire(Nanos(0), u64::MAX).unwrap_err().retry_after, Nanos::MAX);
        assert_eq!(b.try_acquire(Nanos(0), 0).unwrap().remaining, 3, "nothing is always there");
    }

    #[test]
    fn a_refusal_writes_nothing() {
        let b = bucket(10, 1);
        b.try_acquire(Nanos(5), 1).unwrap();
        let before = b.word().load(Ordering::Relaxed);
        b.try_acquire(Nanos(6), 1).unwrap_err();
        assert_eq!(b.word().load(Ordering::Relaxed), before);
    }

    #[test]
    fn what_is_given_back_can_be_taken_again_and_never_more() {
        let b = bucket(1, 5);
        let t = Nanos::from_secs(7);
        b.try_acquire(t, 5).unwrap();
        b.give_back(2);
        assert_eq!(b.peek(t).remaining, 2);
        b.give_back(3);
        b.give_back(5);
        assert_eq!(b.peek(t).remaining, 5, "a full bucket stays full");
        assert!(b.try_acquire(t, 5).is_ok());
    }

    #[test]
    fn a_refilled_bucket_is_full() {
        let b = bucket(1, 5);
        let t = Nanos::from_secs(7);
        b.try_acquire(t, 5).unwrap();
        b.refill(t);
        assert_eq!(b.peek(t), Admitted { remaining: 5, reset_after: Nanos(0) });
        assert!(b.try_acquire(t, 5).is_ok() && b.try_acquire(t, 1).is_err());
    }

    #[test]
    fn a_caller_with_an_older_clock_gets_nothing_extra() {
        let b = bucket(1, 5);
        let t = Nanos::from_secs(7);
        b.try_acquire(t, 5).unwrap();
        for back in [1, 1_000, SKEW.0] {
            assert!(b.try_acquire(t - Nanos(back), 1).is_err());
            assert_eq!(b.peek(t - Nanos(back)).remaining, 0);
        }
    }

    #[test]
    fn three_hundred_million_a_second_are_let_in_as_such() {
        let b = bucket(300_000_000, 100);
        let admitted = (0..1_000_000).filter(|&ns| b.try_acquire(Nanos(ns), 1).is_ok()).count();
        assert!((299_700..=300_100).contains(&admitted), "{admitted}");
    }

    #[test]
    fn a_word_of_any_age_and_any_clock_works() {
        let b = bucket(1_000, 10);
        // Unix time in nanoseconds, as an injected clock may give: beyond the wrap of the word.
        let t = Nanos(1_790_000_000_000_000_000);
        assert_eq!(b.try_acquire(t, 10).unwrap().remaining, 0);
        assert!(b.try_acquire(t, 1).is_err());
        assert!(b.try_acquire(t + Nanos::from_secs(400 * 86_400), 10).is_ok());
    }
}
