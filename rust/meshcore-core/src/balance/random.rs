//! A draw by weight in constant time.

use super::rng::Rng;

/// Walker's alias method (Walker 1977, built as by Vose 1991), in whole numbers, so exact.
///
/// Every column holds `total` parts, shared by its own index and one other.
#[derive(Clone, Debug)]
pub(super) struct Weighted {
    total: u64,
    /// For each column: how many of its parts are its own, and whose the rest are.
    columns: Box<[(u64, u32)]>,
}

impl Weighted {
    /// From weights, of which a zero counts as one. O(n).
    pub(super) fn new(weights: impl ExactSizeIterator<Item = u16>) -> Self {
        let n = weights.len() as u64;
        let weights: Vec<u64> = weights.map(|w| u64::from(w.max(1))).collect();
        let total: u64 = weights.iter().sum();
        // Scaled by n, the mean weight is `total`: those below it are filled up by those above.
        let mut columns: Box<[(u64, u32)]> =
            (0_u32..).zip(&weights).map(|(i, w)| (w * n, i)).collect();
        let (mut under, mut over): (Vec<usize>, Vec<usize>) =
            (0..columns.len()).partition(|&i| columns[i].0 < total);
        while let (Some(small), Some(&large)) = (under.pop(), over.last()) {
            let missing = total - columns[small].0;
            columns[small].1 = columns[large].1;
            columns[large].0 -= missing;
            if columns[large].0 < total {
                over.pop();
                under.push(large);
            }
        }
        Self { total, columns }
    }

    /// An index, each as often as its weight says. O(1).
    #[inline]
    pub(super) fn draw(&self, rand: &mut Rng) -> usize {
        let i = rand.below(self.columns.len() as u64) as usize;
        let (own, other) = self.columns[i];
        if rand.below(self.total) < own { i } else { other as usize }
    }

    /// What part of `n * total` goes to each index.
    #[cfg(test)]
    fn parts(&self) -> Vec<u64> {
        let mut parts = vec![0; self.columns.len()];
        for (i, &(own, other)) in self.columns.iter().enumerate() {
            parts[i] += own.min(self.total);
            parts[other as usize] += self.total - own.min(self.total);
        }
        parts
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn the_table_gives_every_index_exactly_its_share(
            weights in prop::collection::vec(1_u16..=u16::MAX, 1..200),
        ) {
            let table = Weighted::new(weights.iter().copied());
            let n = weights.len() as u64;
            let want: Vec<u64> = weights.iter().map(|&w| u64::from(w) * n).collect();
            prop_assert_eq!(table.parts(), want);
        }
    }
}
