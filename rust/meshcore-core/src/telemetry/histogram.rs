//! Times by size: four buckets for every doubling.

use crate::segment::{Block, Shape};
use crate::sync::Ordering;
use crate::time::Nanos;

/// Buckets end at 2^14 ns (16 µs, below what a proxied request can take) and then four times for
/// each doubling, so a time is known to 25 % at worst, up to 2^38 ns (275 s, above every default
/// timeout); one more takes the rest.
const FIRST_BITS: u32 = 14;
const LAST_BITS: u32 = 38;
const SUB_BITS: u32 = 2;
const BUCKETS: usize = (((LAST_BITS - FIRST_BITS) << SUB_BITS) + 2) as usize;
/// After the buckets: the sum in nanoseconds.
const SUM: usize = BUCKETS;

/// Exposed buckets end at each doubling from 131 µs to 34 s: 19 lines and `+Inf`.
const SHOWN: std::ops::RangeInclusive<u32> = 17..=35;

/// Times, counted in the worker's own column. 792 bytes for each worker.
///
/// The block is of [`BlockKind::Histogram`](crate::segment::BlockKind::Histogram).
///
/// # Orderings
/// `Relaxed` throughout: a count publishes nothing but itself. The number of records is the sum
/// of the buckets, so it always agrees with them; the sum of times may be a record ahead.
#[derive(Clone, Debug)]
pub struct Histogram {
    block: Block,
    slot: usize,
}

impl Histogram {
    /// Words of a block: buckets and sum.
    pub const WORDS: usize = BUCKETS + 1;

    /// The histogram in `block`, as the worker in `worker_slot` adds to it.
    #[must_use]
    pub fn new(block: Block, worker_slot: usize) -> Self {
        Self { block, slot: worker_slot }
    }

    /// A histogram that cannot be found by name.
    #[must_use]
    pub fn private() -> Self {
        Self::new(Block::private_shape(Shape::column(Self::WORDS)), 0)
    }

    /// Counts one time. O(1).
    #[inline]
    pub fn record(&self, time: Nanos) {
        self.block.column(self.slot, bucket(time.0)).fetch_add(1, Ordering::Relaxed);
        self.block.column(self.slot, SUM).fetch_add(time.0, Ordering::Relaxed);
    }

    /// What all workers have counted. O(workers × buckets).
    #[must_use]
    pub fn read(&self) -> Reading {
        let mut reading = Reading { buckets: [0; BUCKETS], sum: 0 };
        for slot in 0..self.block.workers() {
            let word = |i| self.block.column(slot, i).load(Ordering::Relaxed);
            for (i, count) in reading.buckets.iter_mut().enumerate() {
                *count += word(i);
            }
            reading.sum = reading.sum.wrapping_add(word(SUM));
        }
        reading
    }
}

/// The counts of a histogram at some moment.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Reading {
    buckets: [u64; BUCKETS],
    sum: u64,
}

impl Reading {
    /// How many times were counted.
    #[must_use]
    pub fn count(&self) -> u64 {
        self.buckets.iter().sum()
    }

    /// All of them together; wraps after 584 years of them.
    #[must_use]
    pub const fn sum(&self) -> Nanos {
        Nanos(self.sum)
    }

    /// For each exposed bound, how many times were at most that long. The bounds are ends of
    /// buckets, so the counts are exact.
    pub fn cumulative(&self) -> impl Iterator<Item = (Nanos, u64)> {
        let (mut next, mut total) = (0, 0);
        SHOWN.map(move |bits| {
            let last = bucket(1 << bits);
            total += self.buckets[next..=last].iter().sum::<u64>();
            next = last + 1;
            (Nanos(1 << bits), total)
        })
    }

    /// A time that a part `q` (0 to 1) of all times does not exceed, at most 25 % too high; zero
    /// if nothing was counted. O(buckets).
    #[must_use]
    pub fn quantile(&self, q: f64) -> Nanos {
        let count = self.count();
        if count == 0 {
            return Nanos::ZERO;
        }
        let rank = ((count as f64 * q.clamp(0.0, 1.0)).ceil() as u64).clamp(1, count);
        let mut total = 0;
        let found = self.buckets.iter().position(|&n| {
            total += n;
            total >= rank
        });
        Nanos(end(found.unwrap_or(BUCKETS - 1)))
    }
}

/// The bucket of a time: ends belong to the bucket they end, as `le` means "at most".
#[inline]
const fn bucket(ns: u64) -> usize {
    let below = ns.saturating_sub(1);
    if below >> FIRST_BITS == 0 {
        return 0;
    }
    let bits = below.ilog2();
    if bits >= LAST_BITS {
        return BUCKETS - 1;
    }
    let sub = below >> (bits - SUB_BITS) & ((1 << SUB_BITS) - 1);
    (((bits - FIRST_BITS) as usize) << SUB_BITS) + sub as usize + 1
}

/// The longest time of a bucket.
const fn end(bucket: usize) -> u64 {
    if bucket == BUCKETS - 1 {
        return u64::MAX;
    }
    let (octave, sub) = (bucket.saturating_sub(1) >> SUB_BITS, bucket.saturating_sub(1) & 3);
    let first = 1_u64 << FIRST_BITS << octave;
    if bucket == 0 { first } else { first + (first >> SUB_BITS) * (sub as u64 + 1) }
}

#[cfg(all(test, not(feature = "loom")))]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn buckets_follow_each_other_without_gap() {
        assert_eq!((bucket(0), bucket(1 << 14), bucket((1 << 14) + 1)), (0, 0, 1));
        for i in 0..BUCKETS - 1 {
            assert_eq!((bucket(end(i)), bucket(end(i) + 1)), (i, i + 1));
        }
        assert_eq!(end(BUCKETS - 2), 1 << LAST_BITS);
        assert_eq!(bucket(u64::MAX), BUCKETS - 1);
    }

    #[test]
    fn an_empty_histogram_is_all_zero() {
        let reading = Histogram::private().read();
        assert_eq!(
            (reading.count(), reading.sum(), reading.quantile(0.5)),
            (0, Nanos(0), Nanos(0))
        );
        assert!(reading.cumulative().all(|(_, n)| n == 0));
    }

    proptest! {
        #[test]
        fn bounds_are_exact_and_quantiles_within_a_quarter(
            mut times in prop::collection::vec(20_000_u64..200_000_000_000, 1..200),
            q in 0.0..=1.0_f64,
        ) {
            let histogram = Histogram::private();
            times.iter().for_each(|&t| histogram.record(Nanos(t)));
            let reading = histogram.read();
            prop_assert_eq!(reading.count(), times.len() as u64);
            prop_assert_eq!(reading.sum().0, times.iter().sum::<u64>());
            for (bound, count) in reading.cumulative() {
                prop_assert_eq!(count, times.iter().filter(|&&t| t <= bound.0).count() as u64);
            }
            times.sort_unstable();
            let rank = ((times.len() as f64 * q).ceil() as usize).clamp(1, times.len());
            let (exact, found) = (times[rank - 1], reading.quantile(q).0);
            prop_assert!(exact <= found && found <= exact + exact / 4 + 1, "{exact} {found}");
        }
    }
}
