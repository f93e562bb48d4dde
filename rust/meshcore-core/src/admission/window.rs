//! Successes and failures of the last while, in ten slices.
//!
//! Counts are exact, not decayed: an average forgets a short burst of failures at a high rate
//! (the reason linkerd's unified breaker gives for its buckets). A slice carries the number of
//! its time and the epoch of the breaker, so nothing is ever cleared: what is too old, or was
//! counted before the breaker last opened, does not match and counts as nothing.
//!
//! Beside each slice of failures stands a word with the endpoints that they name, as bits.

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

/// Where the rings lie: failures, the endpoints that they name, then the stripes of successes.
const FAILURES: usize = 0;
const NAMES: usize = 1;
const SUCCESSES: usize = 2;

/// Lines of a window.
pub(crate) const LINES: usize = RING_LINES * (SUCCESSES + STRIPES);

/// A slice is at least 1 ms, so that its 24-bit number wraps after 4.6 hours at the earliest.
const MIN_LENGTH: Nanos = Nanos::from_millis(10);

const NUMBER_BITS: u32 = 24;
const NUMBER_MASK: u64 = (1 << NUMBER_BITS) - 1;
/// How many epochs, or windows, a caller may be late. What seems to be further ahead is a slice that
/// nothing was counted in for long: it is in the past.
const LATE: u64 = 8;
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

/// What a window holds.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Counts {
    pub(crate) failures: u64,
    pub(crate) calls: u64,
}

impl Counts {
    /// Whether at least `min_calls` are in, of which `percent` failed.
    pub(crate) const fn are_over(self, percent: u64, min_calls: u64) -> bool {
        self.calls >= min_calls && self.failures * 100 >= percent * self.calls
    }
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

    /// Whether a slice is ten times as long as `late`.
    pub(crate) fn tolerates(&self, late: Nanos) -> bool {
        self.per_ns <= u64::MAX / late.0.saturating_mul(10).max(1)
    }

    /// Counts a success.
    #[inline]
    pub(crate) fn success(&self, lines: &[Line], stripe: usize, now: Nanos, epoch: u64) {
        let slice = self.slice(now, epoch);
        slice.count(ring(lines, SUCCESSES + stripe % STRIPES));
    }

    /// Counts a failure of the endpoint with this bit (or of none: zero). If the rate is now too
    /// high, the bits of all whose failures are counted.
    ///
    /// Of failures that arrive together the last to count sees all others.
    pub(crate) fn failure(&self, lines: &[Line], bit: u64, now: Nanos, epoch: u64) -> Option<u64> {
        let slice = self.slice(now, epoch);
        slice.count_failure(lines, bit);
        let failures = slice.sum(ring(lines, FAILURES));
        // Successes only lower the rate, so without enough failures they need not be summed.
        if failures * 100 < self.percent * self.min_calls {
            return None;
        }
        let over = slice.counts(lines).are_over(self.percent, self.min_calls);
        over.then(|| slice.names(lines))
    }

    /// What was counted in the window that ends now.
    pub(crate) fn counts(&self, lines: &[Line], now: Nanos, epoch: u64) -> Counts {
        self.slice(now, epoch).counts(lines)
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
    /// Counts publish nothing: a failure must be summed by the thread that counts a later one,
    /// which coherence of each word and the exclusive read-modify-write give. A caller that stalls
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
        update(word, |old| (self.counted(old), ()));
    }

    /// Adds one to this slice of failures, and a bit to the endpoints that they name.
    ///
    /// # Orderings
    /// The thread that begins a slice stores its bit and so forgets those of an older slice; later
    /// ones add theirs. The bit goes before the count, and counts are exchanged (`AcqRel`), so a
    /// thread that reads a count with `Acquire` sees bits of that slice or of a later one, never of
    /// an older one. Two that begin a slice at once may lose one bit, until that endpoint fails
    /// again: an endpoint too few is named, never one too many.
    fn count_failure(self, lines: &[Line], bit: u64) {
        let names = self.word(ring(lines, NAMES), self.number);
        update(self.word(ring(lines, FAILURES), self.number), |old| {
            let new = self.counted(old);
            match new {
                Some(new) if new & COUNT_MASK == 1 => names.store(bit, Ordering::Relaxed),
                Some(_) if bit != 0 => drop(names.fetch_or(bit, Ordering::Relaxed)),
                _ => {}
            }
            (new, ())
        });
    }

    /// The word with one more in this slice; `None` if it is full, or a later slice's already.
    const fn counted(self, old: u64) -> Option<u64> {
        if old >> COUNT_BITS == self.stamp() {
            if old & COUNT_MASK < COUNT_CAP { Some(old + 1) } else { None }
        } else if old != 0 && self.is_before(old >> COUNT_BITS) {
            None
        } else {
            Some(self.stamp() << COUNT_BITS | 1)
        }
    }

    /// Whether a slice with `stamp` is later than this one, of this epoch or of the next ones.
    const fn is_before(self, stamp: u64) -> bool {
        let epochs = (stamp >> NUMBER_BITS).wrapping_sub(self.epoch) & 0xff;
        let slices = stamp.wrapping_sub(self.number) & NUMBER_MASK;
        (epochs != 0 && epochs <= LATE) || (epochs == 0 && slices <= LATE * SLICES)
    }

    fn counts(self, lines: &[Line]) -> Counts {
        let failures = self.sum(ring(lines, FAILURES));
        let successes: u64 = (0..STRIPES).map(|i| self.sum(ring(lines, SUCCESSES + i))).sum();
        Counts { failures, calls: failures + successes }
    }

    /// What was counted in this slice and the nine before it, in this epoch.
    fn sum(self, ring: &[Line]) -> u64 {
        self.last_ten().fold(0, |sum, slice| {
            let word = slice.word(ring, slice.number).load(Ordering::Relaxed);
            sum + if word >> COUNT_BITS == slice.stamp() { word & COUNT_MASK } else { 0 }
        })
    }

    /// The endpoints that failures in these slices name. Orderings: [`Slice::count_failure`].
    fn names(self, lines: &[Line]) -> u64 {
        self.last_ten().fold(0, |names, slice| {
            let count = slice.word(ring(lines, FAILURES), slice.number).load(Ordering::Acquire);
            if count >> COUNT_BITS != slice.stamp() {
                return names;
            }
            names | slice.word(ring(lines, NAMES), slice.number).load(Ordering::Relaxed)
        })
    }

    /// This slice and the nine before it.
    fn last_ten(self) -> impl Iterator<Item = Self> {
        let numbers = (0..SLICES).map_while(move |back| self.number.checked_sub(back));
        numbers.map(move |number| Self { number, ..self })
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

#[cfg(all(test, not(feature = "loom")))]
mod tests {
    use super::*;
    use crate::segment::Block;

    fn lines() -> Block {
        Block::private(LINES * WORDS_PER_LINE)
    }

    fn over(w: &Window, b: &Block, now: Nanos, epoch: u64) -> bool {
        w.failure(b.lines(), 0, now, epoch).is_some()
    }

    const SECOND: u64 = 1_000_000_000;

    #[test]
    fn the_rate_counts_only_with_enough_calls() {
        let (w, b) = (Window::new(Nanos::from_secs(10), 50, 20), lines());
        let now = Nanos::from_secs(1_000);
        (0..10).for_each(|i| w.success(b.lines(), i, now, 0));
        (0..9).for_each(|_| assert!(!over(&w, &b, now, 0)));
        assert!(over(&w, &b, now, 0), "10 of 20");
    }

    #[test]
    fn one_success_more_and_it_does_not() {
        let (w, b) = (Window::new(Nanos::from_secs(10), 50, 20), lines());
        let now = Nanos::from_secs(1_000);
        (0..11).for_each(|i| w.success(b.lines(), i, now, 0));
        (0..10).for_each(|_| assert!(!over(&w, &b, now, 0)));
    }

    #[test]
    fn a_late_clock_is_borne_by_slices_ten_times_as_long() {
        let late = Nanos::from_millis(10);
        let tolerates = |ms| Window::new(Nanos::from_millis(ms), 50, 1).tolerates(late);
        assert!(tolerates(1_000) && !tolerates(999) && tolerates(10_000));
    }

    #[test]
    fn what_is_older_than_the_window_is_forgotten() {
        let (w, b) = (Window::new(Nanos::from_secs(10), 1, 4), lines());
        (0..3).for_each(|_| assert!(!over(&w, &b, Nanos(100 * SECOND + 5), 0)));
        assert!(over(&w, &b, Nanos(109 * SECOND), 0), "nine slices later they count");
        let (w, b) = (Window::new(Nanos::from_secs(10), 1, 4), lines());
        (0..3).for_each(|_| assert!(!over(&w, &b, Nanos(100 * SECOND + 5), 0)));
        assert!(!over(&w, &b, Nanos(110 * SECOND + 5), 0), "ten slices later not");
    }

    #[test]
    fn what_was_counted_in_an_earlier_epoch_does_not_count() {
        let (w, b) = (Window::new(Nanos::from_secs(10), 1, 4), lines());
        let now = Nanos(100 * SECOND);
        (0..3).for_each(|_| assert!(!over(&w, &b, now, 7)));
        assert!(!over(&w, &b, now, 8));
        assert!(!over(&w, &b, now, 7), "nor does a late one of it count in the new");
        (0..2).for_each(|_| assert!(!over(&w, &b, now, 8)));
        assert!(over(&w, &b, now, 8));
    }

    #[test]
    fn slices_in_which_nothing_was_counted_for_long_are_of_the_past() {
        for epoch in 0..0x100 {
            let (w, b) = (Window::new(Nanos::from_secs(10), 1, 1), lines());
            assert!(over(&w, &b, Nanos(100 * SECOND), epoch), "one that was never counted in");
            assert!(over(&w, &b, Nanos(100 * SECOND), (epoch + 200) & 0xff), "{epoch}");
        }
        let (w, b) = (Window::new(Nanos::from_millis(10), 1, 1), lines());
        for hours in [0, 2, 3, 4] {
            assert!(over(&w, &b, Nanos(hours * 3_600 * SECOND), 0), "{hours}");
        }
    }

    #[test]
    fn a_slice_stops_counting_at_its_cap() {
        let (w, b) = (Window::new(Nanos::from_secs(10), 50, 20), lines());
        w.success(b.lines(), 0, Nanos(0), 0);
        let word = &ring(b.lines(), SUCCESSES)[0].0[0];
        word.store(COUNT_CAP - 1, Ordering::Relaxed);
        (0..3).for_each(|_| w.success(b.lines(), 0, Nanos(0), 0));
        assert_eq!(word.load(Ordering::Relaxed), COUNT_CAP);
    }

    #[test]
    fn a_clock_that_is_a_slice_behind_counts_as_well() {
        let (w, b) = (Window::new(Nanos::from_secs(10), 1, 2), lines());
        assert!(!over(&w, &b, Nanos(100 * SECOND), 0));
        assert!(!over(&w, &b, Nanos(99 * SECOND), 0), "sees only its own past");
        assert!(over(&w, &b, Nanos(100 * SECOND), 0));
    }

    #[test]
    fn the_names_are_those_of_the_failures_in_the_window() {
        let (w, b) = (Window::new(Nanos::from_secs(10), 1, 1), lines());
        let names = |bit, secs, epoch| w.failure(b.lines(), bit, Nanos(secs * SECOND + 5), epoch);
        assert_eq!(names(1, 100, 0), Some(1));
        assert_eq!(names(2, 100, 0), Some(3));
        assert_eq!(names(4, 109, 0), Some(7), "nine slices later they are named");
        assert_eq!(names(4, 110, 0), Some(4), "ten later the slice is another's");
        assert_eq!(names(8, 111, 1), Some(8), "another epoch's are not");
        assert_eq!(names(0, 121, 1), Some(0), "a failure that names none forgets as well");
    }
}
