//! What a request must have besides host and path.

use memchr::memmem::Finder;
use regex::bytes::{Regex, RegexBuilder};

use super::RequestView;
use super::error::{REGEX_LIMIT, RouteProblem};
use super::query;
use super::sets::MethodSet;
use crate::snapshot::{FieldMatch, Route, ValueMatch};

/// The compiled predicates of one route; all must hold.
#[derive(Debug)]
pub(super) struct Predicates {
    /// Any when empty.
    methods: MethodSet,
    headers: Box<[FieldTest]>,
    query: Box<[FieldTest]>,
}

#[derive(Debug)]
struct FieldTest {
    name: Box<[u8]>,
    test: ValueTest,
}

#[derive(Debug)]
enum ValueTest {
    Exact(Box<[u8]>),
    Prefix(Box<[u8]>),
    Suffix(Box<[u8]>),
    Contains(Box<Finder<'static>>),
    Regex(Regex),
    Present,
    Absent,
}

impl Predicates {
    pub(super) fn compile(route: &Route) -> Result<Self, RouteProblem> {
        let headers = route.headers.iter().map(|field| {
            if is_token(field.name.as_bytes()) {
                FieldTest::compile(field, field.name.to_ascii_lowercase())
            } else {
                Err(RouteProblem::FieldName(field.name.clone()))
            }
        });
        let query = route.query.iter().map(|field| FieldTest::compile(field, field.name.clone()));
        Ok(Self {
            methods: MethodSet::compile(&route.methods)?,
            headers: headers.collect::<Result<_, _>>()?,
            query: query.collect::<Result<_, _>>()?,
        })
    }

    /// Header and query predicates: more of them make a route more specific.
    pub(super) fn fields(&self) -> usize {
        self.headers.len() + self.query.len()
    }

    pub(super) fn has_methods(&self) -> bool {
        !self.methods.is_empty()
    }

    pub(super) fn is_empty(&self) -> bool {
        self.methods.is_empty() && self.fields() == 0
    }

    /// Whether all hold. O(fields + query bytes) for each predicate.
    #[inline]
    pub(super) fn hold(&self, request: &RequestView<'_>) -> bool {
        (self.methods.is_empty() || self.methods.has(request.method))
            && self.headers.iter().all(|t| t.test.any(request.headers.get_all(&t.name)))
            && self.query.iter().all(|t| {
                t.test.any(request.query.iter().flat_map(|query| query::values(query, &t.name)))
            })
    }
}

impl FieldTest {
    fn compile(field: &FieldMatch, name: String) -> Result<Self, RouteProblem> {
        let bytes = |text: &str| Box::from(text.as_bytes());
        let test = match &field.value {
            ValueMatch::Exact(text) => ValueTest::Exact(bytes(text)),
            ValueMatch::Prefix(text) => ValueTest::Prefix(bytes(text)),
            ValueMatch::Suffix(text) => ValueTest::Suffix(bytes(text)),
            ValueMatch::Contains(text) => {
                ValueTest::Contains(Box::new(Finder::new(text).into_owned()))
            }
            ValueMatch::Regex(pattern) => ValueTest::Regex(full_match(pattern)?),
            ValueMatch::Present(true) => ValueTest::Present,
            ValueMatch::Present(false) => ValueTest::Absent,
        };
        Ok(Self { name: name.into_bytes().into(), test })
    }
}

impl ValueTest {
    /// Whether one of the values passes. A field sent twice passes if either does: joining them
    /// first would let a client switch a rule off by repeating the field.
    fn any<V: AsRef<[u8]>>(&self, mut values: impl Iterator<Item = V>) -> bool {
        match self {
            Self::Exact(text) => values.any(|v| v.as_ref() == &**text),
            Self::Prefix(text) => values.any(|v| v.as_ref().starts_with(text)),
            Self::Suffix(text) => values.any(|v| v.as_ref().ends_with(text)),
            Self::Contains(finder) => values.any(|v| finder.find(v.as_ref()).is_some()),
            Self::Regex(regex) => values.any(|v| regex.is_match(v.as_ref())),
            Self::Present => values.next().is_some(),
            Self::Absent => values.next().is_none(),
        }
    }
}

/// Compiles `pattern` for bytes, to match a text as a whole, within [`REGEX_LIMIT`].
fn full_match(pattern: &str) -> Result<Regex, RouteProblem> {
    check_regex(pattern)?;
    build(&anchored(pattern))
}

/// Whether a route may match with `pattern`: it compiles by itself (`a)(b` must not become sound
/// by being anchored) and to at most [`REGEX_LIMIT`].
///
/// # Errors
/// [`RouteProblem::Regex`] or [`RouteProblem::RegexTooLarge`].
pub fn check_regex(pattern: &str) -> Result<(), RouteProblem> {
    build(pattern).map(drop)
}

/// `pattern` as an expression over the whole of a text.
pub(super) fn anchored(pattern: &str) -> String {
    format!("^(?:{pattern})$")
}

fn build(pattern: &str) -> Result<Regex, RouteProblem> {
    let built = RegexBuilder::new(pattern).unicode(false).size_limit(REGEX_LIMIT).build();
    built.map_err(|error| match error {
        regex::Error::CompiledTooBig(_) => RouteProblem::RegexTooLarge(pattern.to_owned()),
        other => RouteProblem::Regex(other.to_string()),
    })
}

/// RFC 9110 §5.6.2.
pub(super) fn is_token(text: &[u8]) -> bool {
    !text.is_empty()
        && text.iter().all(|b| b.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(b))
}
