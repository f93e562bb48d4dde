//! Which listeners a route serves.

use smallvec::SmallVec;

/// A listener as routing sees it: which one it is, and the order of routes that it asks for.
///
/// The number is a 64-bit hash of the listener's name, so that no registry of names has to be
/// kept in step with the table. Names come from the operator; among a thousand the chance of two
/// alike is 3e-14.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct ListenerId {
    number: u64,
    match_first: bool,
}

impl ListenerId {
    /// The listener called `name`; `match_first` asks for file order instead of specificity.
    #[must_use]
    pub fn new(name: &str, match_first: bool) -> Self {
        Self { number: super::hash(name.as_bytes()), match_first }
    }

    pub(super) fn match_first(self) -> bool {
        self.match_first
    }
}

/// A set of listeners; empty means all.
#[derive(Clone, Debug, Default)]
pub(super) struct ListenerSet(SmallVec<[u64; 2]>);

impl ListenerSet {
    pub(super) fn new(names: &[String]) -> Self {
        let mut set = Self(names.iter().map(|name| super::hash(name.as_bytes())).collect());
        set.tidy();
        set
    }

    /// The listeners that any of `sets` has.
    pub(super) fn union<'a>(sets: impl Iterator<Item = &'a Self>) -> Self {
        let mut all = Self::default();
        for set in sets {
            if set.is_all() {
                return Self::default();
            }
            all.0.extend_from_slice(&set.0);
        }
        all.tidy();
        all
    }

    fn tidy(&mut self) {
        self.0.sort_unstable();
        self.0.dedup();
    }

    pub(super) fn is_all(&self) -> bool {
        self.0.is_empty()
    }

    #[inline]
    pub(super) fn contains(&self, listener: ListenerId) -> bool {
        self.is_all() || self.0.contains(&listener.number)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_names_means_all_and_a_union_with_all_is_all() {
        let [a, b] = ["a", "b"].map(|n| ListenerId::new(n, false));
        let only_a = ListenerSet::new(&["a".to_owned(), "a".to_owned()]);
        assert!(only_a.contains(a) && !only_a.contains(b));
        assert!(ListenerSet::new(&[]).contains(b));
        let only_b = ListenerSet::new(&["b".to_owned()]);
        let both = ListenerSet::union([&only_a, &only_b].into_iter());
        assert!(both.contains(a) && both.contains(b) && !both.is_all());
        assert!(ListenerSet::union([&only_a, &ListenerSet::default()].into_iter()).is_all());
    }
}
