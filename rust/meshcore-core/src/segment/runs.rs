//! Which parts of a chunk are free.

use std::collections::{BTreeMap, BTreeSet};

/// Free runs of units, best fit, neighbours joined. O(log runs) each.
#[derive(Debug, Default)]
pub(super) struct Runs {
    /// Start to length.
    by_start: BTreeMap<usize, usize>,
    /// Length, then start.
    by_length: BTreeSet<(usize, usize)>,
}

impl Runs {
    /// One run: `length` units from `start`.
    pub(super) fn new(start: usize, length: usize) -> Self {
        let mut runs = Self::default();
        runs.give(start, length);
        runs
    }

    /// Takes `length` units from the shortest run that has them.
    pub(super) fn take(&mut self, length: usize) -> Option<usize> {
        let &(found, start) = self.by_length.range((length, 0)..).next()?;
        self.remove(start, found);
        if found > length {
            self.insert(start + length, found - length);
        }
        Some(start)
    }

    /// Takes the run that begins with a multiple of `align` and has `length` units.
    pub(super) fn take_aligned(&mut self, length: usize, align: usize) -> Option<usize> {
        let loose = self.take(length + align - 1)?;
        let start = loose.next_multiple_of(align);
        self.give(loose, start - loose);
        self.give(start + length, loose + align - 1 - start);
        Some(start)
    }

    /// Takes just these units; whether all of them were free.
    pub(super) fn take_at(&mut self, start: usize, length: usize) -> bool {
        let Some((&before, &its)) = self.by_start.range(..=start).next_back() else {
            return false;
        };
        let Some(end) = start.checked_add(length).filter(|&end| end <= before + its) else {
            return false;
        };
        self.remove(before, its);
        self.give(before, start - before);
        self.give(end, before + its - end);
        true
    }

    /// Units of the run that reaches to `end`, the end of everything.
    pub(super) fn tail(&self, end: usize) -> usize {
        let last = self.by_start.last_key_value();
        last.filter(|&(&start, &its)| start + its == end).map_or(0, |(_, &its)| its)
    }

    /// Gives back what was taken.
    pub(super) fn give(&mut self, mut start: usize, mut length: usize) {
        if length == 0 {
            return;
        }
        if let Some((&before, &its)) = self.by_start.range(..start).next_back()
            && before + its == start
        {
            self.remove(before, its);
            (start, length) = (before, its + length);
        }
        if let Some(&its) = self.by_start.get(&(start + length)) {
            self.remove(start + length, its);
            length += its;
        }
        self.insert(start, length);
    }

    fn insert(&mut self, start: usize, length: usize) {
        self.by_start.insert(start, length);
        self.by_length.insert((length, start));
    }

    fn remove(&mut self, start: usize, length: usize) {
        self.by_start.remove(&start);
        self.by_length.remove(&(length, start));
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn nothing_is_given_out_twice_and_everything_comes_back(
            steps in prop::collection::vec((1_usize..20, any::<prop::sample::Index>()), 0..200),
        ) {
            let mut runs = Runs::new(0, 200);
            let mut out: Vec<(usize, usize)> = Vec::new();
            for (length, which) in steps {
                if length % 3 == 0 && !out.is_empty() {
                    let (start, its) = out.swap_remove(which.index(out.len()));
                    runs.give(start, its);
                } else if let Some(start) = runs.take(length) {
                    let apart = |&(s, l): &(usize, usize)| start + length <= s || s + l <= start;
                    prop_assert!(start + length <= 200 && out.iter().all(apart));
                    out.push((start, length));
                }
            }
            for (start, length) in out {
                runs.give(start, length);
            }
            prop_assert_eq!(runs.take(200), Some(0));
        }
    }
}
