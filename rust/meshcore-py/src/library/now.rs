//! What an `async with` awaits that never waits.

use pyo3::exceptions::PyStopIteration;
use pyo3::gc::{PyTraverseError, PyVisit};
use pyo3::prelude::*;
use pyo3::types::PyTuple;

/// Can be awaited, any number of times, and is there at once. A coroutine for callers that want
/// one.
#[pyclass(frozen, module = "meshcore._core")]
#[derive(Default)]
pub(crate) struct Now(Option<Py<PyAny>>);

impl Now {
    /// Gives that.
    pub(super) fn with(value: &Bound<'_, PyAny>) -> Self {
        Self(Some(value.clone().unbind()))
    }

    fn over(&self, py: Python<'_>) -> PyErr {
        PyStopIteration::new_err((self.0.as_ref().map(|value| value.clone_ref(py)),))
    }
}

#[pymethods]
impl Now {
    fn __traverse__(&self, visit: PyVisit<'_>) -> Result<(), PyTraverseError> {
        visit.call(&self.0)
    }

    fn __await__(slf: Py<Self>) -> Py<Self> {
        slf
    }

    fn __iter__(slf: Py<Self>) -> Py<Self> {
        slf
    }

    fn __next__(&self, py: Python<'_>) -> PyResult<Option<()>> {
        // That nothing is given needs no exception.
        self.0.as_ref().map_or(Ok(None), |_| Err(self.over(py)))
    }

    fn send(&self, py: Python<'_>, _value: &Bound<'_, PyAny>) -> PyResult<()> {
        Err(self.over(py))
    }

    #[allow(clippy::unused_self)]
    #[pyo3(signature = (error, /, *_more))]
    fn throw(&self, error: Bound<'_, PyAny>, _more: &Bound<'_, PyTuple>) -> PyResult<()> {
        Err(PyErr::from_value(error))
    }

    /// Nothing is held.
    #[allow(clippy::unused_self)]
    fn close(&self) {}
}
