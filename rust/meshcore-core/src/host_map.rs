//! What a listener has for each host that it is asked for.

use foldhash::fast::RandomState;
use hashbrown::HashMap;

/// Values by host, or by the hosts one label below one (`*.example.com`; RFC 9525 §6.3), and one for
/// all others. Case and the root's dot do not matter.
#[derive(Clone, Debug)]
pub struct HostMap<T> {
    first: T,
    named: HashMap<String, T, RandomState>,
}

impl<T> HostMap<T> {
    /// A value for every host.
    #[must_use]
    pub fn new(first: T) -> Self {
        Self { first, named: HashMap::default() }
    }

    /// The value for a host, or for those that `*.` stands for.
    pub fn insert(&mut self, name: &str, value: T) {
        self.named.insert(canonical(name), value);
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
        found.unwrap_or(&self.first)
    }
}

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
}
