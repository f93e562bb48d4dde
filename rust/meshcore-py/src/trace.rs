//! A request's part in a trace, as layers see it.

use meshcore_core::exchange;
use pyo3::prelude::*;

/// A request's part in a trace.
#[derive(Clone)]
#[pyclass(frozen, module = "meshcore._core")]
pub struct Trace(exchange::Trace);

impl Trace {
    pub(crate) fn new(trace: &exchange::Trace) -> Self {
        Self(*trace)
    }
}

#[pymethods]
impl Trace {
    #[getter]
    fn trace_id(&self) -> String {
        self.0.id.to_string()
    }

    #[getter]
    fn span_id(&self) -> String {
        self.0.span.to_string()
    }

    #[getter]
    fn sampled(&self) -> bool {
        self.0.sampled
    }
}
