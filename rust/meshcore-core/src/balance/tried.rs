//! The endpoints that a request has tried.

use smallvec::SmallVec;

/// Indices into one picker's endpoints. A request tries few, so a look-up is a short scan.
///
/// Bounded by the attempts of a request: at most 256 (`retry.retries` is 8 bits).
#[derive(Clone, Debug, Default)]
pub struct Tried(SmallVec<[u32; 4]>);

impl Tried {
    /// None yet.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Remembers an index; once is enough.
    pub fn insert(&mut self, index: usize) {
        let index = u32::try_from(index).unwrap_or(u32::MAX);
        if !self.0.contains(&index) {
            self.0.push(index);
        }
    }

    /// Forgets an index.
    pub fn remove(&mut self, index: usize) {
        self.0.retain(|i| *i as usize != index);
    }

    /// Whether an index was tried.
    #[must_use]
    #[inline]
    pub fn contains(&self, index: usize) -> bool {
        self.0.iter().any(|&i| i as usize == index)
    }

    /// Whether nothing was tried.
    #[must_use]
    #[inline]
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// How many were tried.
    #[must_use]
    pub fn len(&self) -> usize {
        self.0.len()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn remembers_each_index_once() {
        let mut tried = Tried::new();
        assert!(tried.is_empty());
        for index in [3, 1, 3, 99_999] {
            tried.insert(index);
        }
        assert_eq!(tried.len(), 3);
        assert!(tried.contains(3) && tried.contains(99_999) && !tried.contains(0));
    }
}
