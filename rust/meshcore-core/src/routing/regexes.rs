//! From a path to the expressions of one host that match it.
//!
//! An expression that begins with text, as `/users/[0-9]+` does, can match no path that begins
//! otherwise. So expressions are grouped by the whole segments that they begin with, a group is
//! found as a prefix is, and only the groups on the way of a path are run, on what follows: what a
//! thousand expressions of a thousand services cost is what one costs. Groups that go on alike, as
//! services of one kind do, share an automaton. Those that begin with no whole segment are one
//! group, which is always run.

use std::ops::ControlFlow;
use std::sync::Arc;

use foldhash::fast::FixedState;
use hashbrown::HashMap;
use regex::bytes::{RegexSet, RegexSetBuilder};
use regex_syntax::ast::parse::Parser;
use regex_syntax::ast::{AssertionKind, Ast, LiteralKind};

use super::error::{HOST_REGEX_LIMIT, RouteProblem};
use super::paths::Bucket;
use super::predicates::anchored;

/// The expressions of one host by their heads.
#[derive(Debug)]
pub(super) struct RegexIndex {
    groups: HashMap<Box<[u8]>, Group, FixedState>,
    /// The lengths that heads have.
    lengths: Vec<usize>,
    best: u32,
}

#[derive(Debug)]
struct Group {
    /// Of what follows the head.
    set: Arc<RegexSet>,
    /// By number of the expression in the set, best first.
    buckets: Vec<Bucket>,
}

impl Default for RegexIndex {
    fn default() -> Self {
        Self { groups: HashMap::default(), lengths: Vec::new(), best: u32::MAX }
    }
}

impl RegexIndex {
    /// Indexes expressions with their routes. O(bytes).
    ///
    /// # Errors
    /// [`RouteProblem::RegexesTooLarge`], or what is wrong with one of them.
    pub(super) fn build(mut expressions: Vec<(String, Bucket)>) -> Result<Self, RouteProblem> {
        expressions.sort_unstable_by_key(|(_, bucket)| bucket.best());
        let best = expressions.first().map_or(u32::MAX, |(_, bucket)| bucket.best());
        let dfa_bytes = DFA_MIN.max(DFA_PER_REGEX * expressions.len());
        let mut heads: HashMap<_, (Vec<_>, Vec<_>), FixedState> = HashMap::default();
        for (pattern, bucket) in expressions {
            let (head, rest) = split(&pattern);
            let (rests, buckets) = heads.entry(head).or_default();
            rests.push(anchored(rest));
            buckets.push(bucket);
        }
        let mut sets: HashMap<_, _, FixedState> = HashMap::default();
        sets.extend(heads.values().map(|(rests, _)| (rests.clone(), None)));
        if sets.len() > 1 {
            // Together they may take this much, however they are grouped.
            regex_set(sets.keys().flatten(), dfa_bytes)?;
        }
        let dfa_bytes = DFA_OF_GROUP.max(dfa_bytes / sets.len().max(1));
        for (rests, set) in &mut sets {
            *set = Some(Arc::new(regex_set(rests, dfa_bytes)?));
        }
        let groups = heads.into_iter().filter_map(|(head, (rests, buckets))| {
            let set = Arc::clone(sets.get(&rests)?.as_ref()?);
            Some((head, Group { set, buckets }))
        });
        let groups: HashMap<_, _, _> = groups.collect();
        let mut lengths: Vec<_> = groups.keys().map(|head| head.len()).collect();
        lengths.sort_unstable();
        lengths.dedup();
        Ok(Self { groups, lengths, best })
    }

    /// The best rank that an expression has, `u32::MAX` if there is none.
    #[inline]
    pub(super) fn best(&self) -> u32 {
        self.best
    }

    /// Shows `look` the routes of each expression that matches the whole of `path`, group by group
    /// and in each the best first, until it breaks off the group. O(bytes) for each length of heads
    /// at which a segment of the path ends.
    pub(super) fn each(&self, path: &[u8], mut look: impl FnMut(Bucket) -> ControlFlow<()>) {
        for &length in &self.lengths {
            if length > 0 && path.get(length) != Some(&b'/') {
                continue;
            }
            let (head, rest) = path.split_at(length);
            let Some(Group { set, buckets }) = self.groups.get(head) else { continue };
            if let [only] = &buckets[..] {
                if set.is_match(rest) {
                    let _ = look(*only);
                }
            } else {
                let _ = set.matches(rest).iter().try_for_each(|number| look(buckets[number]));
            }
        }
    }
}

/// The whole segments that `pattern` begins with as plain text, and what of it follows them, which
/// begins with a slash unless there are none.
///
/// What follows is text of the pattern, never written anew from what was parsed: regex-syntax writes
/// `(?:x+)?` as `x+?`. Nothing in it can tell that it is not run on all of the path, for that slash
/// is between: no assertion is before it, and all flags that hold for it are in it.
fn split(pattern: &str) -> (Box<[u8]>, &str) {
    let whole = (Box::default(), pattern);
    let Ok(parsed) = Parser::new().parse(pattern) else { return whole }; // its set says why
    let parts = match &parsed {
        Ast::Concat(parts) => &parts.asts[..],
        _ => std::slice::from_ref(&parsed),
    };
    let (mut head, mut slash) = (String::new(), (0, 0));
    for part in parts.iter().skip_while(|part| is_start(part)) {
        let Ast::Literal(text) = part else { break };
        if !matches!(text.kind, LiteralKind::Verbatim | LiteralKind::Meta) {
            break;
        }
        if text.c == '/' {
            slash = (head.len(), text.span.start.offset);
        }
        head.push(text.c);
    }
    let (segments, at) = slash;
    if segments == 0 {
        return whole;
    }
    head.truncate(segments);
    (head.into_bytes().into(), &pattern[at..])
}

fn is_start(part: &Ast) -> bool {
    let Ast::Assertion(one) = part else { return false };
    matches!(one.kind, AssertionKind::StartLine | AssertionKind::StartText)
}

/// Bytes that each expression of a host adds to what its automata may cache, for each thread: with
/// too few, a thousand of them fall back to a machine that is thirty times slower. By number, so
/// that what hostile paths can fill is bounded by the configuration.
const DFA_PER_REGEX: usize = 32 << 10;
/// The least that a host's automata may cache: the regex crate's default.
const DFA_MIN: usize = 2 << 20;
/// The least that the automaton of a group may cache: enough for one expression.
const DFA_OF_GROUP: usize = 64 << 10;

/// Of expressions over the whole of a field's value.
pub(super) fn whole_values(expressions: &[String]) -> Result<RegexSet, RouteProblem> {
    regex_set(expressions, DFA_MIN.max(DFA_PER_REGEX * expressions.len()))
}

fn regex_set<'a>(
    expressions: impl IntoIterator<Item = &'a String>,
    dfa_bytes: usize,
) -> Result<RegexSet, RouteProblem> {
    RegexSetBuilder::new(expressions)
        .unicode(false)
        .size_limit(HOST_REGEX_LIMIT)
        .dfa_size_limit(dfa_bytes)
        .build()
        .map_err(|error| match error {
            regex::Error::CompiledTooBig(_) => RouteProblem::RegexesTooLarge,
            other => RouteProblem::Regex(other.to_string()),
        })
}

#[cfg(all(test, not(feature = "loom")))]
#[allow(clippy::unwrap_used)] // in loops, where clippy does not see the test
mod tests {
    use super::*;

    #[test]
    fn what_follows_the_head_matches_what_the_whole_would() {
        let paths = [
            "/a/b",
            "/a/b/",
            "/a//7",
            "/ab",
            "/a/b/7",
            "/a/b/c.d",
            "/a/b/\u{e9}",
            "/A/b/x",
            "/a/b\n/x",
            "/a/b/x y",
            "",
        ];
        for pattern in [
            r"/a/b/\d+",
            r"/a/b/\w+\.d",
            r"/a/b\b/.",
            r"/a/b/\b.*",
            r"/a/b/(?u:.)",
            r"/a/b/(?-u:.){2}",
            "/a/b/\u{e9}",
            r"/a/b/\xc3\xa9",
            "(?i)/a/b/x",
            "/a/b/(?i)X",
            "/a/b(^/x|/7)",
            "(?m)/a/b$",
            "(?s)/a/b.*",
            "^^/a/b/[^x]$",
            "/a/b/?$",
            "(?x) /a /b /\\d # all\n",
            "(?x) /a /b /7 # all",
            "/a/b/(?:[0-9]+)?",
            "/a/b/(?:[0-9]{1,2})?",
            "/a/(?:b{1})?/7",
            "/a(?:/+)?b",
            "(?:/a)+?/b",
            r"/a\.b/x|/a/b",
        ] {
            let whole = regex::bytes::RegexBuilder::new(&anchored(pattern)).unicode(false).build();
            let (whole, (head, rest)) = (whole.unwrap(), split(pattern));
            let rest = regex_set(&[anchored(rest)], DFA_MIN).unwrap();
            for path in paths {
                let found = path.as_bytes().strip_prefix(&head[..]);
                let found = found.is_some_and(|path| rest.is_match(path));
                assert_eq!(found, whole.is_match(path.as_bytes()), "{pattern} of {path}");
            }
        }
    }

    #[test]
    fn a_head_is_the_whole_segments_that_all_matches_begin_with() {
        for (pattern, expected) in [
            ("/api/v1/users/[0-9]+", "/api/v1/users"),
            ("^/api/v1/users/[0-9]+$", "/api/v1/users"),
            ("/api/v1/users", "/api/v1"),
            ("/users[0-9]*/x", ""),
            ("/a/users?/x", "/a"),
            ("/a/x/?", "/a"),
            ("/a/b/(x|y)|/a/b/(1|2)", ""),
            ("/a/x|/b/x", ""),
            ("/a/(x|y)/z", "/a"),
            ("(/a/b/)c", ""),
            (r"/a\.b/\d+", "/a.b"),
            ("(?i)/a/b/c", ""),
            ("(?m)^/a/b/c", ""),
            (".*", ""),
            ("", ""),
        ] {
            let (head, _) = split(pattern);
            assert_eq!(&*head, expected.as_bytes(), "{pattern}");
        }
    }
}
