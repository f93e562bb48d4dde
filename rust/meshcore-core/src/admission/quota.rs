//! How much may pass: a rate and a burst, checked once and kept in fixed point.
//!
//! The algorithm is GCRA (ITU-T I.371, the virtual-scheduling form): a bucket is only the
//! instant at which it will be full again, its *theoretical arrival time*. Time itself refills
//! it, so nothing ticks, and one word is the whole state.

use std::fmt;

use crate::snapshot;
use crate::time::Nanos;

/// Instants in a bucket are in 1/256 ns. Whole nanoseconds per token would be 11 % off at
/// 300 million tokens a second; this is 0.08 %, always below the rate and never above.
pub(crate) const FRACTION_BITS: u32 = 8;

/// How far apart the clocks of two callers may be. They read one clock but act on what they read
/// a little later, so a bucket may be ahead of the reader by a full bucket and this much.
pub(crate) const SKEW: Nanos = Nanos::from_secs(1);

/// Most tokens at once: 4 GiB if tokens are bytes. Leaves the arithmetic room in 64 bits.
pub const MAX_BURST: u64 = 1 << 32;

/// Longest time to refill a bucket from empty: 52 days. The word wraps at 833 days, and an
/// untouched bucket is misread for as long as it takes to refill, once in that time.
const MAX_FULL: u64 = 1 << 60;

/// A rate and a burst, ready to be charged against. Cheap to copy; immutable.
///
/// A bucket's word means nothing under another quota: see [`super::TokenBucket::take_over`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Quota {
    /// 1/256 ns per token, rounded up.
    interval: u64,
    /// 1/256 ns from empty to full.
    full: u64,
    /// Tokens in a full bucket.
    limit: u64,
}

/// A rate that cannot be kept.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum QuotaError {
    /// Tokens, period or burst is zero.
    Zero,
    /// More than 256 tokens per nanosecond.
    TooFast,
    /// A burst of more than 2^32 tokens.
    BurstTooLarge,
    /// A bucket that takes more than 52 days to refill.
    TooSlow,
}

impl fmt::Display for QuotaError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Zero => "tokens, period and burst must be at least 1",
            Self::TooFast => "rate over 256 tokens per nanosecond",
            Self::BurstTooLarge => "burst over 4294967296 tokens",
            Self::TooSlow => "a burst that takes over 52 days to refill",
        })
    }
}

impl std::error::Error for QuotaError {}

/// Let in: what is left afterwards.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Admitted {
    /// Whole tokens that could be taken now.
    pub remaining: u64,
    /// Time until the bucket is full again.
    pub reset_after: Nanos,
}

/// Not let in: when to come back.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Refused {
    /// Time until the same call would be let in if no other came; [`Nanos::MAX`] if it asks
    /// for more than the bucket can ever hold.
    pub retry_after: Nanos,
    /// Tokens in a full bucket.
    pub limit: u64,
}

impl Quota {
    /// Checks `rate` and turns it into fixed point.
    ///
    /// # Errors
    /// A zero, or a rate, burst or refill time beyond what [`QuotaError`] names.
    pub fn new(rate: snapshot::Rate) -> Result<Self, QuotaError> {
        if rate.tokens == 0 || rate.period_ns == 0 || rate.burst == 0 {
            return Err(QuotaError::Zero);
        }
        if rate.burst > MAX_BURST {
            return Err(QuotaError::BurstTooLarge);
        }
        let period = u128::from(rate.period_ns) << FRACTION_BITS;
        if period < u128::from(rate.tokens) {
            return Err(QuotaError::TooFast);
        }
        let interval = period.div_ceil(u128::from(rate.tokens));
        let full = interval * u128::from(rate.burst);
        match (u64::try_from(interval), u64::try_from(full)) {
            (Ok(interval), Ok(full)) if full <= MAX_FULL => {
                Ok(Self { interval, full, limit: rate.burst })
            }
            _ => Err(QuotaError::TooSlow),
        }
    }

    /// Tokens in a full bucket.
    #[must_use]
    pub const fn limit(&self) -> u64 {
        self.limit
    }

    /// 1/256 ns per token.
    pub(crate) const fn interval(&self) -> u64 {
        self.interval
    }

    /// 1/256 ns from empty to full.
    pub(crate) const fn full(&self) -> u64 {
        self.full
    }

    /// How far ahead a bucket is from which as many tokens were taken as from one of `other` that
    /// is `ahead`; at most an empty one.
    pub(crate) fn taken(&self, ahead: u64, other: &Self) -> u64 {
        let scaled = u128::from(ahead) * u128::from(self.interval);
        let scaled = scaled.div_ceil(u128::from(other.interval));
        u64::try_from(scaled).map_or(self.full, |ahead| ahead.min(self.full))
    }

    /// The refusal of a call that asks for more than the bucket can ever hold.
    pub(crate) const fn never(&self) -> Refused {
        Refused { retry_after: Nanos::MAX, limit: self.limit }
    }
}

/// The pure step of GCRA, in any unit of time: `ahead` is how far the bucket's instant lies ahead
/// of now, modulo the width of its word, so an instant in the past is a huge number.
///
/// Beyond `full + skew` no caller can have put it: it lies in the past and the bucket is full.
/// Returns how far ahead the bucket is after the charge, or how much too far it would be.
#[inline]
pub(crate) const fn charge(ahead: u64, cost: u64, full: u64, skew: u64) -> Result<u64, u64> {
    let after = used(ahead, full, skew) + cost;
    if after > full { Err(after - full) } else { Ok(after) }
}

/// How far ahead a bucket really is: zero if its instant lies in the past.
#[inline]
pub(crate) const fn used(ahead: u64, full: u64, skew: u64) -> u64 {
    if ahead > full + skew { 0 } else { ahead }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn quota(tokens: u64, period_ns: u64, burst: u64) -> Result<Quota, QuotaError> {
        Quota::new(snapshot::Rate { tokens, period_ns, burst })
    }

    #[test]
    fn what_cannot_be_kept_is_refused_at_its_limit() {
        assert_eq!(quota(0, 1, 1), Err(QuotaError::Zero));
        assert_eq!(quota(1, 0, 1), Err(QuotaError::Zero));
        assert_eq!(quota(1, 1, 0), Err(QuotaError::Zero));
        assert!(quota(256, 1, 1).is_ok());
        assert_eq!(quota(257, 1, 1), Err(QuotaError::TooFast));
        assert!(quota(1_000_000_000, 1_000_000_000, MAX_BURST).is_ok());
        assert_eq!(quota(1, 1, MAX_BURST + 1), Err(QuotaError::BurstTooLarge));
        assert!(quota(1, MAX_FULL >> FRACTION_BITS, 1).is_ok());
        assert_eq!(quota(1, (MAX_FULL >> FRACTION_BITS) + 1, 1), Err(QuotaError::TooSlow));
        assert_eq!(quota(1, u64::MAX, u64::from(u32::MAX)), Err(QuotaError::TooSlow));
        assert!(QuotaError::TooSlow.to_string().contains("52 days"));
    }

    #[test]
    fn intervals_round_up_so_that_the_rate_is_never_exceeded() {
        let third = quota(300_000_000, 1_000_000_000, 1).unwrap();
        assert_eq!(third.interval(), 854, "853.33 rounded up");
        assert_eq!(quota(100, 1_000_000_000, 1).unwrap().interval(), 10_000_000 << FRACTION_BITS);
    }
}
