//! Successes and failures of the last while, in ten slices.
//!
//! Counts are exact, not decayed: an average forgets a short burst of failures at a high rate
//! (the reason linkerd's unified breaker gives for its buckets). A slice carries the number of
//! its time and the epoch of the breaker, so nothing is ever cleared: what is too old, or was
//! counted before the breaker last opened, does not match and counts as nothing.

use crate::segment::{Line, WORDS_PER_LINE};
use crate::sync::{AtomicU64, Ordering, update};
use crate::time::Nanos;

/// Slices of a window; Hystrix and linkerd use ten as well.
const SLICES: u64 = 10;

/// Lines of one ring of ten words.
const RING_LINES: usize = 2;

/// Rings of successes. A success is the one thing that every request writes, so workers spread
/// over rings of their own; failures are few and share one.
pub(crate) const STRIPES: usize = 4;

/// Lines of a window: failures first, then the stripes of successes.
pub(crate) const LINES: usize = RING_LINES * (1 + STRIPES);

/// A slice is at least 1 ms, so that its 24-bit number wraps after 4.6 hours at the earliest.
const MIN_LENGTH: Nanos = Nanos::from_millis(10);

const NUMBER_BITS: u32 = 24;
const NUMBER_MASK: u64 = (1 << NUMBER_BITS) - 1;
const COUNT_BITS: u32 = 32;
/// A slice stops counting here, far from the bits above it: 2 thousand million in one slice.
const COUNT_CAP: u64 = 1 << 31;
const COUNT_MASK: u64 = (1 << COUNT_BITS) - 1;

/// The rule: at least `min_calls` in the window, of which `percent` failed.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Window {
    /// Slices per nanosecond, in 2^-64.
    per_ns: u64,
    percent: u64,
    min_calls: u64,
}

/// Which slice a moment belongs to: its word and its stamp (epoch, number).
#[derive(Clone, Copy, Debug)]
struct Slice {
    number: u64,
    epoch: u64,
}

impl Window {
    pub(crate) fn new(length: Nanos, percent: u8, min_calls: u32) -> Self {
        let slice_ns = length.max(MIN_LENGTH).0 / SLICES;
        Self {
            per_ns: u64::MAX / slice_ns,
            percent: u64::from(percent),
            min_calls: u64::from(min_calls).max(1),
        }
    }

    /// Counts a success.
    #[inline]
    pub(crate) fn success(&self, lines: &[Line], stripe: usize, now: Nanos, epoch: u64) {
        let slice = self.slice(now, epoch);
        slice.count(ring(lines, 1 + stripe % STRIPES));
    }

    /// Counts a failure and says whether the rate is now too high.
    ///
    /// Of failures that arrive together the last to count sees all others.
    pub(crate) fn failure(&self, lines: &[Line], now: Nanos, epoch: u64) -> bool {
        let slice = self.slice(now, epoch);
        slice.count(ring(lines, 0));
        let failures = slice.sum(ring(lines, 0));
        // Successes only lower the rate, so without enough failures they need not be summed.
        if failures * 100 < self.percent * self.min_calls {
            return false;
        }
        let successes: u64 = (1..=STRIPES).map(|i| slice.sum(ring(lines, i))).sum();
        let calls = failures + successes;
        calls >= self.min_calls && failures * 100 >= self.percent * calls
    }

    #[inline]
    #[allow(clippy::cast_possible_truncation)] // the high half of a 128-bit product
    fn slice(&self, now: Nanos, epoch: u64) -> Slice {
        let number = ((u128::from(now.0) * u128::from(self.per_ns)) >> 64) as u64;
        Slice { number, epoch: epoch & 0xff }
    }
}

impl Slice {
    /// The high half of its word: epoch and number.
    #[inline]
    const fn stamp(self) -> u64 {
        self.epoch << NUMBER_BITS | (self.number & NUMBER_MASK)
    }

    /// Adds one to this slice.
    ///
    /// # Orderings
    /// Counts publish nothing: a failure must be summed by whoever counts a later one, which
    /// coherence of each word and the exclusive read-modify-write give. A caller that stalls
    /// between look and add for nine slices adds to the slice that took the place: a result that
    /// arrives late is counted when it arrives.
    #[inline]
    fn count(self, ring: &[Line]) {
        let word = self.word(ring, self.number);
        let seen = word.load(Ordering::Relaxed);
        if seen >> COUNT_BITS == self.stamp() {
            if seen & COUNT_MASK < COUNT_CAP {
                word.fetch_add(1, Ordering::Relaxed);
            }
        } else {
            self.count_first(word);
        }
    }

    /// Begins the slice in place of an older one.
    #[cold]
    fn count_first(self, word: &AtomicU64) {
        update(word, |old| {
            if old >> COUNT_BITS == self.stamp() {
                ((old & COUNT_MASK < COUNT_CAP).then_some(old + 1), ())
            } else if self.is_before(old >> COUNT_BITS) {
                (None, ())
            } else {
                (Some(self.stamp() << COUNT_BITS | 1), ())
            }
        });
    }

    /// Whether a slice with `stamp` is later than this one, of this epoch or of the next ones.
    const fn is_before(self, stamp: u64) -> bool {
        let epochs = (stamp >> NUMBER_BITS).wrapping_sub(self.epoch) & 0xff;
        let slices = stamp.wrapping_sub(self.number) & NUMBER_MASK;
        (epochs != 0 && epochs < 0x80) || (epochs == 0 && slices < 1 << (NUMBER_BITS - 1))
    }

    /// What was counted in this slice and the nine before it, in this epoch.
    fn sum(self, ring: &[Line]) -> u64 {
        (0..SLICES).map_while(|back| self.number.checked_sub(back)).fold(0, |sum, number| {
            let word = self.word(ring, number).load(Ordering::Relaxed);
            let same = word >> COUNT_BITS == Self { number, ..self }.stamp();
            sum + if same { word & COUNT_MASK } else { 0 }
        })
    }

    #[inline]
    #[allow(clippy::cast_possible_truncation)] // below ten
    fn word(self, ring: &[Line], number: u64) -> &AtomicU64 {
        let at = (number % SLICES) as usize;
        &ring[at / WORDS_PER_LINE].0[at % WORDS_PER_LINE]
    }
}

#[inline]
fn ring(lines: &[Line], i: usize) -> &[Line] {
    &lines[i * RING_LINES..(i + 1) * RING_LINES]
}

#[cfg(all(test, not(loom)))]
mod tests {
    use super::*;
    use crate::segment::Block;

    fn lines() -> Block {
        Block::private(LINES * WORDS_PER_LINE)
    }

    const SECOND: u64 = 1_000_000_000;

    #[test]
    fn the_rate_counts_only_with_enough_calls() {
        let (w, b) = (Window::new(Nanos::from_secs(10), 50, 20), lines());
        let now = Nanos::from_secs(1_000);
        (0..10).for_each(|i| w.success(b.lines(), i, now, 0));
        (0..9).for_each(|_| assert!(!w.failure(b.lines(), now, 0)));
        assert!(w.failure(b.lines(), now, 0), "10 of 20");
    }

    #[test]
    fn one_success_more_and_it_does_not() {
        let (w, b) = (Window::new(Nanos::from_secs(10), 50, 20), lines());
        let now = Nanos::from_secs(1_000);
        (0..11).for_each(|i| w.success(b.lines(), i, now, 0));
        (0..10).for_each(|_| assert!(!w.failure(b.lines(), now, 0)));
    }

    #[test]
    fn what_is_older_than_the_window_is_forgotten() {
        let (w, b) = (Window::new(Nanos::from_secs(10), 1, 4), lines());
        (0..3).for_each(|_| assert!(!w.failure(b.lines(), Nanos(100 * SECOND + 5), 0)));
        assert!(w.failure(b.lines(), Nanos(109 * SECOND), 0), "nine slices later they count");
        let (w, b) = (Window::new(Nanos::from_secs(10), 1, 4), lines());
        (0..3).for_each(|_| assert!(!w.failure(b.lines(), Nanos(100 * SECOND + 5), 0)));
        assert!(!w.failure(b.lines(), Nanos(110 * SECOND + 5), 0), "ten slices later not");
    }

    #[test]
    fn what_was_counted_in_an_earlier_epoch_does_not_count() {
        let (w, b) = (Window::new(Nanos::from_secs(10), 1, 4), lines());
        let now = Nanos(100 * SECOND);
        (0..3).for_each(|_| assert!(!w.failure(b.lines(), now, 7)));
        assert!(!w.failure(b.lines(), now, 8));
        assert!(!w.failure(b.lines(), now, 7), "nor does a late one of it count in the new");
        (0..2).for_each(|_| assert!(!w.failure(b.lines(), now, 8)));
        assert!(w.failure(b.lines(), now, 8));
    }

    #[test]
    fn a_slice_stops_counting_at_its_cap() {
        let (w, b) = (Window::new(Nanos::from_secs(10), 50, 20), lines());
        w.success(b.lines(), 0, Nanos(0), 0);
        let word = &ring(b.lines(), 1)[0].0[0];
        word.store(COUNT_CAP - 1, Ordering::Relaxed);
        (0..3).for_each(|_| w.success(b.lines(), 0, Nanos(0), 0));
        assert_eq!(word.load(Ordering::Relaxed), COUNT_CAP);
    }

    #[test]
    fn a_clock_that_is_a_slice_behind_counts_as_well() {
        let (w, b) = (Window::new(Nanos::from_secs(10), 1, 2), lines());
        assert!(!w.failure(b.lines(), Nanos(100 * SECOND), 0));
        assert!(!w.failure(b.lines(), Nanos(99 * SECOND), 0), "sees only its own past");
        assert!(w.failure(b.lines(), Nanos(100 * SECOND), 0));
    }
}
