//! Time counted in fractions of a token, so that a bucket fits beside its client's tag.

use crate::time::Nanos;

use super::quota::{Admitted, FRACTION_BITS, Quota, Refused, SKEW, charge, used};

/// Width of an instant. It wraps after 2^40 units: for 100 tokens a second with the finest unit
/// in 12 hours. A bucket idle for a multiple of that is misread for at most its refill time and
/// the clock skew, as less full than it is, never as fuller.
const INSTANT_BITS: u32 = 40;
pub(crate) const INSTANT_MASK: u64 = (1 << INSTANT_BITS) - 1;

/// A unit is 1/256 token where burst and rate allow: a token may come 1/256 of its interval early.
const FINEST_BITS: u32 = 8;

/// Width of a full bucket: a 256th of the wrap.
const FULL_BITS: u32 = 32;

/// The clock of one quota: nanoseconds to units of 2^-`bits` tokens and back.
///
/// Whatever the rate, a token is a whole number of units, so nothing is divided and no rate is
/// rounded: it is kept to one part in 2^20 or better. Units are at least a nanosecond long, which
/// holds any rate to 10^9 tokens a second.
#[derive(Clone, Copy, Debug)]
pub(crate) struct TokenClock {
    /// Units per nanosecond, in 2^-64.
    per_ns: u64,
    /// 1/256 ns per token, as `per_ns` has it, rounded up.
    interval: u64,
    bits: u32,
    full: u64,
    skew: u64,
}

impl TokenClock {
    pub(crate) fn new(quota: &Quota) -> Self {
        let whole_ns = (quota.interval() >> FRACTION_BITS).max(1);
        let room = FULL_BITS - quota.limit().next_power_of_two().ilog2();
        let bits = FINEST_BITS.min(room).min(whole_ns.ilog2());
        let scale = 1_u128 << (64 + bits + FRACTION_BITS);
        let per_ns = u64::try_from(scale / u128::from(quota.interval())).unwrap_or(u64::MAX);
        let interval = u64::try_from(scale.div_ceil(u128::from(per_ns))).unwrap_or(u64::MAX);
        let mut clock = Self { per_ns, interval, bits, full: quota.limit() << bits, skew: 0 };
        clock.skew = clock.product(SKEW).min(1 << (INSTANT_BITS - 4));
        clock
    }

    /// Now in units, modulo the width of an instant.
    #[inline]
    pub(crate) fn units(&self, now: Nanos) -> u64 {
        self.product(now) & INSTANT_MASK
    }

    /// What `n` tokens cost. `n` is at most the quota's limit.
    #[inline]
    pub(crate) const fn cost(&self, n: u64) -> u64 {
        n << self.bits
    }

    /// How far ahead of `at` a bucket is that is full at `instant`.
    #[inline]
    pub(crate) const fn ahead(&self, instant: u64, at: u64) -> u64 {
        used(instant.wrapping_sub(at) & INSTANT_MASK, self.full, self.skew)
    }

    /// The instant of a bucket from which as many tokens were taken as from one that is full at
    /// `instant` by another clock; `None` for a full one.
    pub(crate) fn taken(&self, instant: u64, other: &Self, now: Nanos) -> Option<u64> {
        let ahead = other.ahead(instant, other.units(now));
        // A token has at most 256 units, and a bucket at most 2^32.
        let ahead = ((ahead << self.bits).div_ceil(1 << other.bits)).min(self.full);
        (ahead > 0).then(|| self.units(now).wrapping_add(ahead) & INSTANT_MASK)
    }

    /// The pure step: the new instant and how far it is ahead, or how much was missing.
    #[inline]
    pub(crate) fn step(&self, instant: u64, at: u64, cost: u64) -> Result<(u64, u64), u64> {
        let after = charge(instant.wrapping_sub(at) & INSTANT_MASK, cost, self.full, self.skew)?;
        Ok((at.wrapping_add(after) & INSTANT_MASK, after))
    }

    #[inline]
    pub(crate) fn admitted(&self, ahead: u64) -> Admitted {
        Admitted {
            remaining: self.full.saturating_sub(ahead) >> self.bits,
            reset_after: self.length(ahead),
        }
    }

    #[inline]
    pub(crate) fn refused(&self, short: u64) -> Refused {
        Refused { retry_after: self.length(short), limit: self.full >> self.bits }
    }

    /// Units as nanoseconds, rounded up.
    #[inline]
    fn length(&self, units: u64) -> Nanos {
        let product = u128::from(units) * u128::from(self.interval);
        Nanos(u64::try_from((product >> (self.bits + FRACTION_BITS)) + 1).unwrap_or(u64::MAX))
    }

    #[inline]
    #[allow(clippy::cast_possible_truncation)] // the high half of a 128-bit product
    fn product(&self, now: Nanos) -> u64 {
        ((u128::from(now.0) * u128::from(self.per_ns)) >> 64) as u64
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::snapshot::Rate;

    fn clock(tokens: u64, period_ns: u64, burst: u64) -> TokenClock {
        TokenClock::new(&Quota::new(Rate { tokens, period_ns, burst }).unwrap())
    }

    #[test]
    fn units_are_as_fine_as_burst_and_rate_allow() {
        assert_eq!(clock(100, 1_000_000_000, 200).bits, 8);
        assert_eq!(clock(100, 1_000_000_000, 1 << 24).bits, 8);
        assert_eq!(clock(100, 1_000_000_000, (1 << 24) + 1).bits, 7);
        assert_eq!(clock(1_000_000, 1_000_000, 1 << 32).bits, 0);
        assert_eq!(clock(100_000_000, 1_000_000_000, 200).bits, 3, "10 ns a token");
    }

    #[test]
    fn a_second_is_as_many_tokens_as_the_rate_says() {
        for tokens in [1, 3, 100, 7_777, 300_000_000, 1_000_000_000] {
            let c = clock(tokens, 1_000_000_000, 10);
            let units = c.product(Nanos::from_secs(1_000)) - c.product(Nanos(0));
            let want = (tokens * 1_000) << c.bits;
            assert!(units <= want && want - units <= want / 1_000 + 1, "{tokens}: {units} {want}");
        }
    }

    #[test]
    fn faster_than_the_clock_is_held_to_the_clock() {
        let c = clock(200, 1, 1_000);
        assert_eq!(c.bits, 0);
        assert_eq!(c.product(Nanos(1_000_000)), 999_999);
    }
}
