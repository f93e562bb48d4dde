//! What a request must have besides host and path.

use memchr::memmem::Finder;
use regex::bytes::RegexBuilder;
use regex_syntax::ast::parse::Parser;

use super::error::{REGEX_LIMIT, RouteProblem};
use super::fields::{Asked, Field, FieldDraft};
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
    /// Its number in the host.
    field: u32,
    test: ValueTest,
}

#[derive(Debug)]
enum ValueTest {
    Exact(Box<[u8]>),
    Prefix(Box<[u8]>),
    Suffix(Box<[u8]>),
    Contains(Box<Finder<'static>>),
    /// By its number among those of the field.
    Regex(u32),
    Present,
    Absent,
}

impl Predicates {
    pub(super) fn compile(route: &Route, host: &mut FieldDraft) -> Result<Self, RouteProblem> {
        let header = |field: &FieldMatch| {
            if is_token(field.name.as_bytes()) {
                let name = field.name.to_ascii_lowercase().into_bytes();
                FieldTest::compile(field, Field::Header(name.into()), host)
            } else {
                Err(RouteProblem::FieldName(field.name.clone()))
            }
        };
        let headers = route.headers.iter().map(header).collect::<Result<_, _>>()?;
        let query = |field: &FieldMatch| {
            FieldTest::compile(field, Field::Query(field.name.as_bytes().into()), host)
        };
        let query = route.query.iter().map(query).collect::<Result<_, _>>()?;
        Ok(Self { methods: MethodSet::compile(&route.methods)?, headers, query })
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

    /// Whether all hold. O(fields + bytes) for each field that is looked at first, then O(values) for
    /// each predicate.
    #[inline]
    pub(super) fn hold(&self, asked: &Asked<'_>) -> bool {
        (self.methods.is_empty() || self.methods.has(asked.request.method))
            && self.headers.iter().chain(&self.query).all(|each| each.test.any(asked, each.field))
    }
}

impl FieldTest {
    fn compile(
        matched: &FieldMatch,
        field: Field,
        host: &mut FieldDraft,
    ) -> Result<Self, RouteProblem> {
        let bytes = |text: &str| Box::from(text.as_bytes());
        let field = host.number(field);
        let test = match &matched.value {
            ValueMatch::Exact(text) => ValueTest::Exact(bytes(text)),
            ValueMatch::Prefix(text) => ValueTest::Prefix(bytes(text)),
            ValueMatch::Suffix(text) => ValueTest::Suffix(bytes(text)),
            ValueMatch::Contains(text) => {
                ValueTest::Contains(Box::new(Finder::new(text).into_owned()))
            }
            ValueMatch::Regex(pattern) => {
                check_regex(pattern)?;
                ValueTest::Regex(host.expression(field, anchored(pattern)))
            }
            ValueMatch::Present(true) => ValueTest::Present,
            ValueMatch::Present(false) => ValueTest::Absent,
        };
        Ok(Self { field, test })
    }
}

impl ValueTest {
    /// Whether one of the values passes. A field sent twice passes if either does: joining them
    /// first would let a client switch a rule off by repeating the field.
    fn any(&self, asked: &Asked<'_>, field: u32) -> bool {
        match self {
            Self::Exact(text) => asked.any(field, |value| value == &**text),
            Self::Prefix(text) => asked.any(field, |value| value.starts_with(text)),
            Self::Suffix(text) => asked.any(field, |value| value.ends_with(text)),
            Self::Contains(finder) => asked.any(field, |value| finder.find(value).is_some()),
            Self::Regex(expression) => asked.matches(field, *expression),
            Self::Present => asked.any(field, |_| true),
            Self::Absent => !asked.any(field, |_| true),
        }
    }
}

/// Whether a route may match with `pattern`: it compiles by itself (`a)(b` must not become sound
/// by being anchored) and to at most [`REGEX_LIMIT`].
///
/// # Errors
/// [`RouteProblem::Regex`] or [`RouteProblem::RegexTooLarge`].
pub fn check_regex(pattern: &str) -> Result<(), RouteProblem> {
    let built = RegexBuilder::new(pattern).unicode(false).size_limit(REGEX_LIMIT).build();
    built.map(drop).map_err(|error| match error {
        regex::Error::CompiledTooBig(_) => RouteProblem::RegexTooLarge(pattern.to_owned()),
        other => RouteProblem::Regex(other.to_string()),
    })
}

/// `pattern` as an expression over the whole of a text.
pub(super) fn anchored(pattern: &str) -> String {
    let whole = format!("^(?:{pattern})$");
    // One that ends with a comment (`(?x)`) would take what is behind it for more of that.
    if Parser::new().parse(&whole).is_ok() { whole } else { format!("^(?:{pattern}\n)$") }
}

/// RFC 9110 §5.6.2.
pub(super) fn is_token(text: &[u8]) -> bool {
    !text.is_empty()
        && text.iter().all(|b| b.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(b))
}
