//! From a path to the routes of one host that may match it.
//!
//! Exact paths and prefixes are two hash tables over one run of text. A prefix is looked up once
//! for each length that any prefix has and at which the path has a segment's end, so a look-up
//! costs the same among ten routes and among a hundred thousand. Regexes are one set, run only
//! when nothing better can be found without it.

use hashbrown::HashTable;
use regex::bytes::{RegexSet, RegexSetBuilder};

use super::error::{HOST_REGEX_LIMIT, RouteProblem};
use super::hash;
use super::predicates::{anchored, check_regex};
use crate::path::{Oddities, PathError, PathRules, normalize};
use crate::snapshot::PathMatch;

/// Longest exact path or prefix: the longest request target that common servers take.
const LONGEST_PATTERN: usize = 8 << 10;

/// A path pattern, spelt as requests are: normal, slashes merged, a prefix without `/` at its end.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(super) enum Pattern {
    Exact(Vec<u8>),
    Prefix(Vec<u8>),
    Regex(String),
    Any,
}

impl Pattern {
    pub(super) fn compile(path: &PathMatch) -> Result<Self, RouteProblem> {
        Ok(match path {
            PathMatch::Any => Self::Any,
            // The target of `OPTIONS *` (RFC 9112 §3.2.4).
            PathMatch::Exact(text) if text == "*" => Self::Exact(b"*".to_vec()),
            PathMatch::Exact(text) => Self::Exact(spell(text)?),
            PathMatch::Prefix(text) => {
                let mut text = spell(text)?;
                if text.ends_with(b"/") {
                    text.pop();
                }
                Self::Prefix(text)
            }
            PathMatch::Regex(pattern) => {
                check_regex(pattern)?;
                Self::Regex(pattern.clone())
            }
        })
    }

    /// Its place among other kinds: smaller is more specific.
    pub(super) fn kind(&self) -> u8 {
        match self {
            Self::Exact(_) => 0,
            Self::Prefix(_) => 1,
            Self::Regex(_) => 2,
            Self::Any => 3,
        }
    }

    /// The length that counts among prefixes.
    pub(super) fn prefix_len(&self) -> usize {
        if let Self::Prefix(text) = self { text.len() } else { 0 }
    }
}

/// Whether a route may have `text` as its exact path or prefix.
///
/// # Errors
/// [`RouteProblem::Path`] or [`RouteProblem::PathTooLong`].
pub fn check_path(text: &str) -> Result<(), RouteProblem> {
    spell(text).map(drop)
}

/// A pattern's text as a normal path. What only some listeners let pass may be a pattern too.
fn spell(text: &str) -> Result<Vec<u8>, RouteProblem> {
    const RULES: PathRules =
        PathRules { refused: Oddities::BAD_ESCAPE, keep_slashes: false, own: true };
    if text.is_empty() {
        return Err(RouteProblem::Path(PathError::NotAbsolute));
    }
    let mut out = Vec::new();
    let found = normalize(text.as_bytes(), &RULES, &mut out).map_err(RouteProblem::Path)?;
    let path = found.path.of(text.as_bytes(), &out);
    if path.len() > LONGEST_PATTERN { Err(RouteProblem::PathTooLong) } else { Ok(path.to_vec()) }
}

/// A route of the host by its rank, and whether it matches whatever the predicates.
#[derive(Clone, Copy, Debug)]
pub(super) struct Candidate(u32);

impl Candidate {
    const PLAIN: u32 = 1 << 31;
    /// Most routes of one host: a rank leaves one bit free.
    pub(super) const MOST: usize = (Self::PLAIN - 1) as usize;

    pub(super) fn new(rank: u32, plain: bool) -> Self {
        Self(if plain { rank | Self::PLAIN } else { rank })
    }

    #[inline]
    pub(super) fn rank(self) -> u32 {
        self.0 & !Self::PLAIN
    }

    #[inline]
    pub(super) fn is_plain(self) -> bool {
        self.0 & Self::PLAIN != 0
    }
}

/// The routes that share a pattern, best first; the first is stored here, as most are alone.
#[derive(Clone, Copy, Debug)]
pub(super) struct Bucket {
    first: Candidate,
    rest_at: u32,
    rest_len: u32,
}

#[derive(Debug)]
struct Entry {
    text_at: u32,
    text_len: u32,
    bucket: Bucket,
}

/// The path index of one host.
#[derive(Debug, Default)]
pub(super) struct PathIndex {
    text: Vec<u8>,
    rest: Vec<Candidate>,
    exact: HashTable<Entry>,
    prefix: HashTable<Entry>,
    /// The lengths that prefixes have, longest first.
    lengths: Vec<u32>,
    regex: Option<RegexSet>,
    /// By number of the expression in the set.
    regex_buckets: Vec<Bucket>,
    best_regex: u32,
    any: Option<Bucket>,
}

impl PathIndex {
    /// Indexes the candidates of each pattern, which are best first. O(bytes).
    pub(super) fn build(
        patterns: impl IntoIterator<Item = (Pattern, Vec<Candidate>)>,
    ) -> Result<Self, RouteProblem> {
        let mut index = Self { best_regex: u32::MAX, ..Self::default() };
        let mut expressions = Vec::new();
        for (pattern, candidates) in patterns {
            let Some(bucket) = index.bucket(&candidates) else { continue };
            match pattern {
                Pattern::Exact(text) => {
                    let entry = index.entry(&text, bucket)?;
                    index.exact.insert_unique(hash(&text), entry, rehash(&index.text));
                }
                Pattern::Prefix(text) => {
                    let entry = index.entry(&text, bucket)?;
                    index.prefix.insert_unique(hash(&text), entry, rehash(&index.text));
                    index.lengths.push(text.len() as u32);
                }
                Pattern::Regex(pattern) => {
                    expressions.push(anchored(&pattern));
                    index.regex_buckets.push(bucket);
                    index.best_regex = index.best_regex.min(bucket.first.rank());
                }
                Pattern::Any => index.any = Some(bucket),
            }
        }
        index.lengths.sort_unstable_by(|a, b| b.cmp(a));
        index.lengths.dedup();
        if !expressions.is_empty() {
            index.regex = Some(regex_set(&expressions)?);
        }
        Ok(index)
    }

    fn bucket(&mut self, candidates: &[Candidate]) -> Option<Bucket> {
        let (&first, rest) = candidates.split_first()?;
        let rest_at = self.rest.len() as u32;
        self.rest.extend_from_slice(rest);
        Some(Bucket { first, rest_at, rest_len: rest.len() as u32 })
    }

    fn entry(&mut self, text: &[u8], bucket: Bucket) -> Result<Entry, RouteProblem> {
        let text_at = u32::try_from(self.text.len()).map_err(|_| RouteProblem::TooManyRoutes)?;
        self.text.extend_from_slice(text);
        Ok(Entry { text_at, text_len: text.len() as u32, bucket })
    }

    /// The candidates of a bucket, best first.
    #[inline]
    pub(super) fn candidates(&self, bucket: Bucket) -> impl Iterator<Item = Candidate> + '_ {
        let at = bucket.rest_at as usize;
        let rest = &self.rest[at..at + bucket.rest_len as usize];
        std::iter::once(bucket.first).chain(rest.iter().copied())
    }

    /// The routes of this very path. O(bytes).
    #[inline]
    pub(super) fn exact(&self, path: &[u8]) -> Option<Bucket> {
        if self.exact.is_empty() {
            return None;
        }
        find(&self.exact, &self.text, path)
    }

    /// The routes of each prefix of `path` by whole segments, longest first. O(lengths), and
    /// O(bytes) for each that ends where a segment of the path ends.
    #[inline]
    pub(super) fn prefixes<'a>(&'a self, path: &'a [u8]) -> impl Iterator<Item = Bucket> + 'a {
        self.lengths.iter().filter_map(move |&len| {
            let len = len as usize;
            let ends = match path.get(len) {
                Some(next) => *next == b'/',
                None => len == path.len() && len > 0,
            };
            if ends { find(&self.prefix, &self.text, &path[..len]) } else { None }
        })
    }

    /// The routes of each expression that matches the whole of `path`. Linear time.
    pub(super) fn regexes<'a>(&'a self, path: &'a [u8]) -> impl Iterator<Item = Bucket> + 'a {
        let set = self.regex.as_ref();
        set.into_iter()
            .flat_map(|set| set.matches(path).into_iter())
            .map(|number| self.regex_buckets[number])
    }

    /// The best rank among regexes, `u32::MAX` if there is none.
    #[inline]
    pub(super) fn best_regex(&self) -> u32 {
        self.best_regex
    }

    /// The routes of every path.
    #[inline]
    pub(super) fn any(&self) -> Option<Bucket> {
        self.any
    }
}

fn rehash(text: &[u8]) -> impl Fn(&Entry) -> u64 + '_ {
    |entry| hash(entry.text(text))
}

impl Entry {
    #[inline]
    fn text<'a>(&self, text: &'a [u8]) -> &'a [u8] {
        let at = self.text_at as usize;
        &text[at..at + self.text_len as usize]
    }
}

#[inline]
fn find(table: &HashTable<Entry>, text: &[u8], path: &[u8]) -> Option<Bucket> {
    table.find(hash(path), |entry| entry.text(text) == path).map(|entry| entry.bucket)
}

/// Bytes that each expression of a host adds to what its automaton may cache, for each thread: with
/// too few, a thousand of them fall back to a machine that is thirty times slower. By number, so
/// that what hostile paths can fill is bounded by the configuration.
const DFA_PER_REGEX: usize = 32 << 10;
/// The least that a host's automaton may cache: the regex crate's default.
const DFA_MIN: usize = 2 << 20;

pub(super) fn regex_set(expressions: &[String]) -> Result<RegexSet, RouteProblem> {
    RegexSetBuilder::new(expressions)
        .unicode(false)
        .size_limit(HOST_REGEX_LIMIT)
        .dfa_size_limit(DFA_MIN.max(DFA_PER_REGEX * expressions.len()))
        .build()
        .map_err(|error| match error {
            regex::Error::CompiledTooBig(_) => RouteProblem::RegexesTooLarge,
            other => RouteProblem::Regex(other.to_string()),
        })
}
