//! Methods and paths of which a request must have one, in the words of routes: for rules that are
//! no routes.

use std::ops::ControlFlow;

use foldhash::fast::FixedState;
use hashbrown::HashMap;
use smallvec::SmallVec;

use super::error::RouteProblem;
use super::paths::{Bucket, Candidate, PathIndex, Pattern};
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

/// The paths of one rule.
#[derive(Debug)]
pub struct PathPatterns(Vec<Pattern>);

impl PathPatterns {
    /// Of patterns; of every path, also of what has none, without them. O(bytes).
    ///
    /// # Errors
    /// One of them would be refused of a route.
    pub fn compile(patterns: Option<&[PathMatch]>) -> Result<Self, RouteProblem> {
        let Some(patterns) = patterns else { return Ok(Self(vec![Pattern::Any])) };
        patterns.iter().map(Pattern::compile).collect::<Result<_, _>>().map(Self)
    }
}

/// The paths of many rules: one index, and all expressions one automaton, so that a path is read
/// once however many rules there are.
#[derive(Debug)]
pub struct PathRules {
    index: PathIndex,
    /// Those that have expressions, in order.
    by_regex: Box<[u32]>,
}

impl PathRules {
    /// Of rules in order. O(bytes).
    ///
    /// # Errors
    /// [`RouteProblem::RegexesTooLarge`]: all expressions together are.
    pub fn compile(rules: Vec<PathPatterns>) -> Result<Self, RouteProblem> {
        let mut groups: HashMap<Pattern, Vec<Candidate>, FixedState> = HashMap::default();
        let mut by_regex = Vec::new();
        for (number, PathPatterns(patterns)) in rules.into_iter().enumerate() {
            let number = number as u32;
            if patterns.iter().any(|pattern| matches!(pattern, Pattern::Regex(_))) {
                by_regex.push(number);
            }
            for pattern in patterns {
                groups.entry(pattern).or_default().push(Candidate::new(number, false));
            }
        }
        Ok(Self { index: PathIndex::build(groups)?, by_regex: by_regex.into() })
    }

    /// The first rule that a path in its normal form is of, and that `holds`. O(lengths of prefixes
    /// + bytes), and what is asked of rules.
    pub fn first(&self, path: &[u8], holds: impl Fn(u32) -> bool) -> Option<u32> {
        let Self { index, by_regex } = self;
        let better = |best: u32, bucket: Bucket| {
            let mut before =
                index.candidates(bucket).map(Candidate::rank).take_while(|n| *n < best);
            before.find(|number| holds(*number)).unwrap_or(best)
        };
        let without = index.exact(path).into_iter().chain(index.prefixes(path)).chain(index.any());
        let mut best = without.fold(u32::MAX, better);
        // The automaton is not run for nothing.
        if by_regex.iter().take_while(|number| **number < best).any(|number| holds(*number)) {
            index.regexes().each(path, |bucket| {
                best = better(best, bucket);
                ControlFlow::Continue(())
            });
        }
        (best < u32::MAX).then_some(best)
    }
}

#[cfg(test)]
mod tests {
    use std::cell::Cell;

    use super::*;

    #[test]
    fn of_a_thousand_rules_few_are_asked() {
        let paths = |n: usize| match n % 3 {
            0 => PathMatch::Exact(format!("/e/{n}")),
            1 => PathMatch::Prefix(format!("/p/{n}")),
            _ => PathMatch::Regex(format!("/r/[^/]+/{n}(/.*)?")),
        };
        let compile = |n| PathPatterns::compile(Some(&[paths(n)])).expect("a path");
        let rules = PathRules::compile((0..1_000).map(compile).collect()).expect("they are small");
        // All expressions are one automaton, which is run once.
        let mut matching = 0;
        rules.index.regexes().each(b"/r/x/500", |_| {
            matching += 1;
            ControlFlow::Continue(())
        });
        assert_eq!(matching, 1);
        // The path, who holds, the first of both, and how many were asked: what names the path, and
        // of those with an expression whether there is need to run it.
        for (path, holder, first, most) in [
            ("/e/501", 501, Some(501), 1 + 167),
            ("/e/501", 500, None, 1 + 167),
            ("/p/502", 502, Some(502), 1 + 167),
            ("/p/502/x", 502, Some(502), 1 + 167),
            ("/p/502x", 502, None, 333),
            ("/r/x/500/y", 500, Some(500), 167 + 1),
            ("/r/x/500y", 500, None, 167),
            ("/r/x/500", 501, None, 333),
            ("/", 501, None, 333),
        ] {
            let asked = Cell::new(0);
            let holds = |number| {
                asked.set(asked.get() + 1);
                number == holder
            };
            assert_eq!(rules.first(path.as_bytes(), holds), first, "{path}");
            assert!(asked.get() <= most, "{path}: {}", asked.get());
        }
    }
}
