//! Turns by weight without a lock: gRPC's static stride.

use super::rng::Rng;
use crate::sync::{AtomicU64, Ordering};

/// The scale of weights: the heaviest endpoint has this one and is taken in every round.
const FULL: u64 = u16::MAX as u64;

/// Immutable scaled weights; the only state is a number that counts up.
///
/// Number `s` offers endpoint `s % n` in round `s / n`. Over rounds an endpoint's weight adds up,
/// and it takes its turn in those rounds in which the sum passes a multiple of the scale: a
/// deterministic, even spread. Expected tries are heaviest ÷ mean weight, at most 2n. An EDF heap
/// (Envoy) is always O(log n) but needs a lock.
#[derive(Clone, Debug)]
pub(super) struct Turns {
    weights: Box<[u16]>,
}

impl Turns {
    /// From weights, of which a zero counts as one.
    pub(super) fn new(weights: impl Iterator<Item = u16> + Clone) -> Self {
        let heaviest = u64::from(weights.clone().max().unwrap_or(1).max(1));
        // Rounded up, so that the lightest is never left out.
        let scale = |w: u16| u16::try_from((u64::from(w.max(1)) * FULL).div_ceil(heaviest));
        Self { weights: weights.map(|w| scale(w).unwrap_or(u16::MAX)).collect() }
    }

    /// Which endpoint number `s` offers a turn to, and whether it takes it.
    #[inline]
    fn offer(&self, s: u64) -> (usize, bool) {
        let n = self.weights.len() as u64;
        let index = (s % n) as usize;
        let weight = u64::from(self.weights[index]);
        // Odd endpoints run half a scale ahead, else equal light ones take their turns together.
        let phase = index as u64 & 1;
        let sum = weight.wrapping_mul((s / n) & u64::from(u32::MAX)) + phase * (FULL / 2);
        (index, sum % FULL >= FULL - weight)
    }

    /// What a random number of the sequence offers: an endpoint by weight, `None` if the one that
    /// it offers a turn to does not take it.
    ///
    /// For callers that must not use up a turn. Walking on from the present number instead would
    /// send all retries of a burst to one neighbour, and looking past an endpoint that is not
    /// eligible would give its turns to the next one; a draw that fails is drawn again as a whole.
    #[inline]
    pub(super) fn draw(&self, rand: &mut Rng) -> Option<usize> {
        let (index, takes) = self.offer(rand.next_u64());
        takes.then_some(index)
    }

    /// The next endpoint whose turn it is and that `eligible` accepts.
    ///
    /// Those left out use up their turns, so the others keep their proportions. `None` after
    /// three rounds without one, in which the heaviest was offered a turn three times.
    ///
    /// # Orderings
    /// The sequence only hands out distinct numbers: `Relaxed`.
    #[inline]
    pub(super) fn next(
        &self,
        sequence: &AtomicU64,
        eligible: impl Fn(usize) -> bool,
    ) -> Option<usize> {
        for _ in 0..self.weights.len() * 3 {
            let (index, takes) = self.offer(sequence.fetch_add(1, Ordering::Relaxed));
            if takes && eligible(index) {
                return Some(index);
            }
        }
        None
    }
}

#[cfg(all(test, not(feature = "loom")))]
mod tests {
    use super::*;

    #[test]
    fn equal_weights_take_turns() {
        let turns = Turns::new([7, 7, 7].into_iter());
        let sequence = AtomicU64::new(0);
        let order: Vec<_> = (0..6).filter_map(|_| turns.next(&sequence, |_| true)).collect();
        assert_eq!(order, [0, 1, 2, 0, 1, 2]);
    }

    #[test]
    fn one_left_out_hands_its_turns_to_all_others_alike() {
        let turns = Turns::new([1, 1, 1].into_iter());
        let sequence = AtomicU64::new(0);
        let order: Vec<_> = (0..4).filter_map(|_| turns.next(&sequence, |i| i != 1)).collect();
        assert_eq!(order, [0, 2, 0, 2]);
    }

    #[test]
    fn draws_share_by_weight_without_a_turn() {
        let turns = Turns::new([1, 2, 4].into_iter());
        let mut rand = Rng::new(3);
        let mut counts = [0_u32; 3];
        for index in (0..30_000).filter_map(|_| turns.draw(&mut rand)) {
            counts[index] += 1;
        }
        let [one, two, four] = counts.map(f64::from);
        assert!((two / one - 2.0).abs() < 0.15 && (four / two - 2.0).abs() < 0.15, "{counts:?}");
    }

    #[test]
    fn a_full_sequence_word_wraps_without_harm() {
        let turns = Turns::new([1, 2].into_iter());
        let sequence = AtomicU64::new(u64::MAX - 2);
        assert!((0..10).all(|_| turns.next(&sequence, |_| true).is_some()));
    }
}
