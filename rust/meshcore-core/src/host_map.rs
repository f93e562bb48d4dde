//! What a listener has for each host that it is asked for.

use foldhash::fast::RandomState;
use hashbrown::HashMap;

/// Values by host, or by the hosts one label below one (`*.example.com`; RFC 9525 §6.3), and one for
/// all others. Case and the root's dot do not matter.
#[derive(Clone, Debug)]
pub struct HostMap<T> {
    others: T,
    named: HashMap<String, T, RandomState>,
}

impl<T> HostMap<T> {
    /// A value for every host.
    #[must_use]
    pub fn new(others: T) -> Self {
        Self { others, named: HashMap::default() }
    }

    /// The value for a host, or for those that `*.` stands for.
    pub fn insert(&mut self, name: &str, value: T) {
        self.named.insert(canonical(name), value);
    }

    /// The value of a name, which is made if it has none.
    pub fn entry(&mut self, name: &str) -> &mut T
    where
        T: Default,
    {
        self.named.entry(canonical(name)).or_default()
    }

    /// Gives all others what a host has.
    pub fn others_as(&mut self, host: &str)
    where
        T: Clone,
    {
        self.others = self.get(host).clone();
    }

    /// What there is for all others, and for clients that name no host.
    #[must_use]
    pub fn others(&self) -> &T {
        &self.others
    }

    /// What there is for a host. O(its length).
    #[must_use]
    pub fn get(&self, host: &str) -> &T {
        let host = canonical(host);
        let exact = self.named.get(&host);
        let found = exact.or_else(|| {
            let (_, parent) = host.split_once('.')?;
            self.named.get(&format!("*.{parent}"))
        });
        found.unwrap_or(&self.others)
    }

    /// The values of names, in no order.
    pub fn named(&self) -> impl Iterator<Item = &T> {
        self.named.values()
    }

    /// The same, to change them.
    pub fn named_mut(&mut self) -> impl Iterator<Item = &mut T> {
        self.named.values_mut()
    }
}

/// As DNS compares names.
fn canonical(name: &str) -> String {
    name.strip_suffix('.').unwrap_or(name).to_ascii_lowercase()
}

#[cfg(all(test, not(feature = "loom")))]
mod tests {
    use super::*;

    #[test]
    fn the_most_specific_name_counts() {
        let mut map = HostMap::new(0);
        map.insert("A.example", 1);
        map.insert("*.example", 2);
        map.insert("b.a.example.", 3);
        for (host, value) in [
            ("a.example", 1),
            ("A.EXAMPLE.", 1),
            ("b.example", 2),
            ("b.a.example", 3),
            ("c.a.example", 0),
            ("example", 0),
            ("", 0),
            ("*.example", 2),
        ] {
            assert_eq!(*map.get(host), value, "{host}");
        }
    }

    #[test]
    fn others_have_what_one_name_has() {
        let mut map = HostMap::new(Vec::new());
        for (name, value) in [("a.example", 1), ("*.example", 2), ("A.EXAMPLE.", 3), ("", 4)] {
            map.entry(name).push(value);
        }
        assert!(map.others().is_empty());
        map.others_as("a.example");
        for (host, values) in [
            ("a.example", &[1, 3][..]),
            ("b.example", &[2]),
            ("b.a.example", &[1, 3]),
            // Who names no host is not who names an empty one.
            ("", &[4]),
        ] {
            assert_eq!(map.get(host), values, "{host}");
        }
        assert_eq!(map.others(), &[1, 3]);
        map.named_mut().for_each(Vec::clear);
        assert!(map.named().all(Vec::is_empty) && !map.others().is_empty());
    }
}
