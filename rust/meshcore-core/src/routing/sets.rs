//! Methods and paths of which a request must have one, in the words of routes: for rules that are
//! no routes.

use foldhash::fast::FixedState;
use hashbrown::HashSet;
use smallvec::SmallVec;

use super::error::RouteProblem;
use super::paths::{Candidate, PathIndex, Pattern};
use super::predicates::is_token;
use crate::snapshot::PathMatch;

/// A set of methods, which are case-sensitive (RFC 9110 §9.1).
#[derive(Debug, Default)]
pub struct MethodSet(SmallVec<[Box<[u8]>; 2]>);

impl MethodSet {
    /// Of names.
    ///
    /// # Errors
    /// [`RouteProblem::Method`]: one is no token.
    pub fn compile(names: &[String]) -> Result<Self, RouteProblem> {
        let methods = names.iter().map(|name| {
            let bytes = name.as_bytes();
            if is_token(bytes) { Ok(bytes.into()) } else { Err(RouteProblem::Method(name.clone())) }
        });
        methods.collect::<Result<_, _>>().map(Self)
    }

    /// Whether there is none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Whether this is one of them. O(methods).
    #[must_use]
    #[inline]
    pub fn has(&self, method: &[u8]) -> bool {
        self.0.iter().any(|one| **one == *method)
    }
}

/// A set of paths: compiled once, asked as routes are found.
#[derive(Debug)]
pub struct PathSet(PathIndex);

impl PathSet {
    /// Of patterns. O(bytes).
    ///
    /// # Errors
    /// One of them would be refused of a route, or all expressions together are too large.
    pub fn compile(patterns: &[PathMatch]) -> Result<Self, RouteProblem> {
        let distinct: Result<HashSet<_, FixedState>, _> =
            patterns.iter().map(Pattern::compile).collect();
        let any = Candidate::new(0, true);
        PathIndex::build(distinct?.into_iter().map(|pattern| (pattern, vec![any]))).map(Self)
    }

    /// Whether a path in its normal form is one of them. O(lengths of prefixes + bytes).
    #[must_use]
    pub fn has(&self, path: &[u8]) -> bool {
        self.0.any().is_some()
            || self.0.exact(path).is_some()
            || self.0.prefixes(path).next().is_some()
            || self.0.regexes().any(path)
    }
}
