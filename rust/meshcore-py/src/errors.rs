//! The core's errors as Python's: the exceptions are classes of `meshcore.errors`.

use meshcore_core::codec;
use meshcore_core::exchange;
use meshcore_core::segment::SegmentError;
use meshcore_core::tls;
use pyo3::PyErrArguments;
use pyo3::exceptions::{PyOSError, PyValueError};
use pyo3::prelude::*;
use pyo3::types::PyType;

/// A class of `meshcore.errors`, as the interpreter that asks has it. Each interpreter of a process
/// has its own, and a static would be of the one that came first: who raises one often keeps it in
/// an object, which is of one interpreter too.
pub(crate) fn class(py: Python<'_>, name: &str) -> PyResult<Py<PyType>> {
    Ok(py.import("meshcore.errors")?.getattr(name)?.cast_into::<PyType>()?.unbind())
}

macro_rules! exceptions {
    ($($name:ident),*) => {$(
        struct $name;

        impl $name {
            fn new_err<A: PyErrArguments + Send + Sync + 'static>(arguments: A) -> PyErr {
                Python::attach(|py| match class(py, stringify!($name)) {
                    Ok(class) => PyErr::from_type(class.into_bound(py), arguments),
                    Err(error) => error,
                })
            }
        }
    )*};
}

exceptions!(CodecError, ConfigError, SegmentFullError, SegmentLayoutError);

/// A configuration error without a place in a file.
pub(crate) fn config_error(message: impl ToString) -> PyErr {
    ConfigError::new_err(message.to_string())
}

/// Everything that is wrong with a delta.
pub(crate) struct ApplyError(Vec<String>);

/// Why a change cannot be made.
pub(crate) enum ChangeError {
    /// What is wrong with it.
    Apply(ApplyError),
    /// No change can be made here.
    Segment(SegmentError),
    /// It needs more than these bytes of shared memory.
    Full(usize),
}

impl<E: Into<ApplyError>> From<E> for ChangeError {
    fn from(error: E) -> Self {
        Self::Apply(error.into())
    }
}

impl From<ChangeError> for PyErr {
    fn from(error: ChangeError) -> Self {
        match error {
            ChangeError::Apply(error) => error.into(),
            ChangeError::Segment(error) => segment_error(error),
            ChangeError::Full(bytes) => SegmentFullError::new_err(format!(
                "shared memory is full: segment_max is {bytes} bytes"
            )),
        }
    }
}

impl ApplyError {
    pub(crate) fn one(message: String) -> Self {
        Self(vec![message])
    }
}

impl From<Vec<exchange::ApplyError>> for ApplyError {
    fn from(errors: Vec<exchange::ApplyError>) -> Self {
        Self(errors.iter().map(ToString::to_string).collect())
    }
}

impl From<ApplyError> for PyErr {
    fn from(error: ApplyError) -> Self {
        config_error(error.0.join("\n"))
    }
}

/// The reason travels as its number, so that an answer is made without comparing text; the rule
/// that was broken, as text for logs.
pub(crate) fn codec_error(error: codec::CodecError) -> PyErr {
    let rule = error.rule.map(|rule| rule as u8);
    CodecError::new_err((error.to_string(), error.reason as u8, error.message, rule))
}

/// What the system says keeps its number; what is in the segment is told from what was asked for.
pub(crate) fn segment_error(error: SegmentError) -> PyErr {
    let text = error.to_string();
    match error {
        SegmentError::Memory(e) => match e.raw_os_error() {
            Some(number) => PyOSError::new_err((number, text)),
            None => PyOSError::new_err(text),
        },
        SegmentError::NotASegment(_)
        | SegmentError::OtherLayout { .. }
        | SegmentError::Corrupt(_) => SegmentLayoutError::new_err(text),
        SegmentError::Full { .. } => SegmentFullError::new_err(text),
        SegmentError::Workers(_) => config_error(text),
        _ => PyValueError::new_err(text),
    }
}

/// The exception that says why a session is over.
pub(crate) fn tls_error(py: Python<'_>, failure: &tls::Failure) -> PyResult<Py<PyAny>> {
    let class = class(py, "TlsError")?.into_bound(py);
    Ok(class.call1((&failure.detail, failure.alert, failure.by_peer, failure.no_tls))?.unbind())
}
