//! Why a route does not compile.

use std::fmt;

use crate::path::PathError;

/// A route, or a host's whole list, that cannot be compiled.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RouteError {
    /// The host pattern.
    pub host: String,
    /// The route's name; `None` if the host itself is at fault.
    pub route: Option<String>,
    /// What is wrong.
    pub problem: RouteProblem,
}

/// What is wrong with a route.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum RouteProblem {
    /// The host pattern is none of `a.b`, `*.b`, `a.*`, `*` or an address.
    Host(&'static str),
    /// The same host, or the same route of a host, is there twice.
    Twice,
    /// The route that is to go is not there.
    NotThere,
    /// More routes, or more bytes of paths, than one host may have (4 GiB).
    TooManyRoutes,
    /// The path cannot be normalised, so no request could match it.
    Path(PathError),
    /// The path is longer than any request's.
    PathTooLong,
    /// A regular expression has a fault.
    Regex(String),
    /// A regular expression compiles to more than [`REGEX_LIMIT`] bytes.
    RegexTooLarge(String),
    /// The path expressions of one host or layer, or those over one field, together compile to more
    /// than [`HOST_REGEX_LIMIT`].
    RegexesTooLarge,
    /// A header or query parameter has an empty or impossible name.
    FieldName(String),
    /// A method is not a token (RFC 9110 §9.1).
    Method(String),
}

/// Bytes that one compiled expression may take: a tenth of the library's default, and more than
/// any path pattern needs; `(a{1000}){1000}` is refused in microseconds.
pub const REGEX_LIMIT: usize = 1 << 20;

/// Bytes that the compiled path expressions of one host or layer, or those over one field of a host,
/// may take together.
pub const HOST_REGEX_LIMIT: usize = 64 << 20;

impl fmt::Display for RouteProblem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Host(why) => write!(f, "host pattern: {why}"),
            Self::Twice => f.write_str("defined twice"),
            Self::NotThere => f.write_str("not there"),
            Self::TooManyRoutes => f.write_str("too many routes for one host"),
            Self::Path(error) => error.fmt(f),
            Self::PathTooLong => f.write_str("path is longer than 8192 bytes"),
            Self::Regex(error) => write!(f, "regex: {error}"),
            Self::RegexTooLarge(pattern) => {
                write!(f, "regex compiles to more than 1 MiB: {pattern}")
            }
            Self::RegexesTooLarge => {
                f.write_str("the regexes of one place compile to more than 64 MiB together")
            }
            Self::FieldName(name) => write!(f, "not a field name: {name:?}"),
            Self::Method(name) => write!(f, "not a method: {name:?}"),
        }
    }
}

impl fmt::Display for RouteError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.route {
            Some(route) => write!(f, "route {route:?} of host {:?}: {}", self.host, self.problem),
            None => write!(f, "host {:?}: {}", self.host, self.problem),
        }
    }
}

impl std::error::Error for RouteError {}
