//! What routes match with, each checked alone, so that a file can say where a pattern is wrong.

use meshcore_core::codec::{self, Unseen};
use meshcore_core::routing;
use pyo3::exceptions::PyValueError;
use pyo3::prelude::*;

fn wrong(problem: &routing::RouteProblem) -> PyErr {
    PyValueError::new_err(problem.to_string())
}

/// Raises `ValueError` for a path that no request can have.
#[pyfunction]
pub(crate) fn check_path(path: &str) -> PyResult<()> {
    routing::check_path(path).map_err(|e| wrong(&e))
}

/// Raises `ValueError` for an expression that does not compile, or to too much.
#[pyfunction]
pub(crate) fn check_regex(pattern: &str) -> PyResult<()> {
    routing::check_regex(pattern).map_err(|e| wrong(&e))
}

/// Why no rule can go by a field of requests.
#[pyfunction]
pub(crate) fn unseen_field(name: &str) -> Option<&'static str> {
    codec::unseen(name.to_ascii_lowercase().as_bytes()).map(|why| match why {
        Unseen::Host => "host",
        Unseen::Connection => "connection",
        Unseen::Twin => "twin",
    })
}

/// Whether a field is the codec's alone.
#[pyfunction]
pub(crate) fn is_codecs_own(name: &str) -> bool {
    codec::is_codecs_own(name.to_ascii_lowercase().as_bytes())
}
