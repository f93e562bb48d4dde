//! Failures among the last so many calls, a bit for each.
//!
//! One word counts calls: who adds to it has a place in the row of calls. Places are bits of words,
//! 32 in each, and a word carries the number of its places and the epoch of the breaker, as slices of
//! a [`Window`](super::window) do: nothing is ever cleared. A success writes the count alone, for what
//! is not written is no failure.

use crate::segment::{Line, WORDS_PER_LINE};
use crate::sync::{AtomicU64, Ordering, update};

use super::window::{Counts, LINES};

/// Places in a word.
const PLACES: u64 = 32;
/// Words of places: all that a window has but the first, which counts. Odd, so that the number of a
/// word's places comes back to the same word only after 3 thousand million calls.
const WORDS: u64 = (LINES * WORDS_PER_LINE) as u64 - 1;
/// Most calls that can be looked back upon: the word that is begun holds none of them.
const MAX_CALLS: u64 = (WORDS - 1) * PLACES;

const INDEX_BITS: u32 = 52;
const INDEX_MASK: u64 = (1 << INDEX_BITS) - 1;
const EPOCH_MASK: u64 = (1 << 12) - 1;
const NUMBER_BITS: u32 = 20;
const NUMBER_MASK: u64 = (1 << NUMBER_BITS) - 1;
/// How many epochs, or rounds of all words, a caller may be late. What seems to be further ahead is
/// a word that was not written for long: it is in the past.
const LATE: u64 = 8;

/// How many calls count.
#[derive(Clone, Copy, Debug)]
pub(crate) struct LastCalls(u64);

impl LastCalls {
    /// At most 3,008; larger values count as this.
    pub(crate) fn new(calls: u32) -> Self {
        Self(u64::from(calls).clamp(1, MAX_CALLS))
    }

    /// Counts a success.
    #[inline]
    pub(crate) fn success(lines: &[Line], epoch: u64) {
        take_place(lines, epoch);
    }

    /// Counts a failure: what the last calls are now.
    ///
    /// # Orderings
    /// Of failures that arrive together the last to count must see all others. Each writes its bit
    /// and then exchanges the count (`AcqRel`), though it stays the same: a thread that exchanges
    /// it later sees the bit, and the place behind it.
    pub(crate) fn failure(self, lines: &[Line], epoch: u64) -> Counts {
        let Some(index) = take_place(lines, epoch) else { return Counts::default() };
        let (number, bit) = (index / PLACES, 1 << (index % PLACES));
        let stamp = stamp(number, epoch);
        update(word(lines, number), |old| match old >> 32 {
            same if same == stamp => (Some(old | bit), ()),
            later if old != 0 && is_before(stamp, later) => (None, ()),
            _ => (Some(stamp << 32 | bit), ()),
        });
        let count = count(lines).fetch_add(0, Ordering::AcqRel);
        self.counts_at(lines, count, epoch)
    }

    /// The last calls of this epoch. O(calls / 32).
    pub(crate) fn counts(self, lines: &[Line], epoch: u64) -> Counts {
        self.counts_at(lines, count(lines).load(Ordering::Acquire), epoch)
    }

    fn counts_at(self, lines: &[Line], count: u64, epoch: u64) -> Counts {
        if count >> INDEX_BITS != epoch & EPOCH_MASK {
            return Counts::default();
        }
        let end = count & INDEX_MASK;
        let begin = end.saturating_sub(self.0);
        let failures = (begin / PLACES..end.div_ceil(PLACES)).map(|number| {
            let word = word(lines, number).load(Ordering::Relaxed);
            let same = word >> 32 == stamp(number, epoch);
            let from = begin.saturating_sub(number * PLACES);
            // Places behind the end are of calls that are being counted: they are among the last, too.
            if same { u64::from((word as u32 >> from).count_ones()) } else { 0 }
        });
        let calls = end - begin;
        Counts { failures: failures.sum::<u64>().min(calls), calls }
    }
}

/// The place of a call that is counted; `None` for one of an earlier epoch.
#[inline]
fn take_place(lines: &[Line], epoch: u64) -> Option<u64> {
    let epoch = epoch & EPOCH_MASK;
    update(count(lines), |old| {
        let ahead = (old >> INDEX_BITS).wrapping_sub(epoch) & EPOCH_MASK;
        match ahead {
            0 => (Some(epoch << INDEX_BITS | ((old + 1) & INDEX_MASK)), Some(old & INDEX_MASK)),
            1..0x800 => (None, None),
            _ => (Some(epoch << INDEX_BITS | 1), Some(0)),
        }
    })
}

/// The high half of a word: which places of which epoch these are.
const fn stamp(number: u64, epoch: u64) -> u64 {
    (epoch & EPOCH_MASK) << NUMBER_BITS | (number & NUMBER_MASK)
}

/// Whether `other` is later than `stamp`.
const fn is_before(stamp: u64, other: u64) -> bool {
    let epochs = (other >> NUMBER_BITS).wrapping_sub(stamp >> NUMBER_BITS) & EPOCH_MASK;
    let numbers = other.wrapping_sub(stamp) & NUMBER_MASK;
    (epochs != 0 && epochs <= LATE) || (epochs == 0 && numbers <= LATE * WORDS)
}

#[inline]
fn count(lines: &[Line]) -> &AtomicU64 {
    &lines[0].0[0]
}

#[allow(clippy::cast_possible_truncation)] // below 96
fn word(lines: &[Line], number: u64) -> &AtomicU64 {
    let at = 1 + (number % WORDS) as usize;
    &lines[at / WORDS_PER_LINE].0[at % WORDS_PER_LINE]
}

#[cfg(all(test, not(feature = "loom")))]
mod tests {
    use std::collections::VecDeque;

    use proptest::prelude::*;

    use super::*;
    use crate::segment::Block;

    fn lines() -> Block {
        Block::private(LINES * WORDS_PER_LINE)
    }

    proptest! {
        #[test]
        fn it_counts_as_a_queue_does(
            last in 1..200_u32,
            steps in prop::collection::vec((0..100_u32, any::<bool>(), 0..400_usize), 1..40),
        ) {
            let (calls, block) = (LastCalls::new(last), lines());
            // From zero in two steps to where epochs wrap.
            [2_047, 4_094].iter().for_each(|&epoch| LastCalls::success(block.lines(), epoch));
            let (mut epoch, mut queue) = (4_095, VecDeque::new());
            for (chance, fails, times) in steps {
                if chance == 0 {
                    epoch = (epoch + 1) & EPOCH_MASK;
                    queue.clear();
                }
                for _ in 0..times {
                    queue.push_back(fails);
                    if queue.len() > last as usize {
                        queue.pop_front();
                    }
                    let failures = queue.iter().filter(|&&f| f).count() as u64;
                    let expected = Counts { failures, calls: queue.len() as u64 };
                    if fails {
                        prop_assert_eq!(calls.failure(block.lines(), epoch), expected);
                    } else {
                        LastCalls::success(block.lines(), epoch);
                    }
                    prop_assert_eq!(calls.counts(block.lines(), epoch), expected);
                }
            }
        }
    }

    #[test]
    fn as_many_as_fit_and_once_around() {
        let (calls, block) = (LastCalls::new(u32::MAX), lines());
        for i in 0..3 * MAX_CALLS {
            let found = calls.failure(block.lines(), 7);
            let most = (i + 1).min(MAX_CALLS);
            assert_eq!(found, Counts { failures: most, calls: most });
        }
    }

    #[test]
    fn words_that_nobody_has_written_for_long_are_of_the_past() {
        let (calls, block) = (LastCalls::new(10), lines());
        for epoch in (0..EPOCH_MASK).step_by(300) {
            assert_eq!(calls.failure(block.lines(), epoch), Counts { failures: 1, calls: 1 });
        }
        let block = lines();
        calls.failure(block.lines(), 0);
        for index in (1..20).map(|i| i * 1_000_000 * PLACES * WORDS / 1_000) {
            count(block.lines()).store(index, Ordering::Relaxed);
            assert_eq!(calls.failure(block.lines(), 0).failures, 1, "{index}");
        }
    }

    #[test]
    fn a_late_one_of_an_earlier_epoch_counts_nothing() {
        let (calls, block) = (LastCalls::new(10), lines());
        calls.failure(block.lines(), 8);
        assert_eq!(calls.failure(block.lines(), 7), Counts::default());
        LastCalls::success(block.lines(), 7);
        assert_eq!(calls.counts(block.lines(), 8), Counts { failures: 1, calls: 1 });
    }
}
