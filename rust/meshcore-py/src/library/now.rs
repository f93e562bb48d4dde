//! What an `async with` awaits that never waits.

use pyo3::exceptions::PyStopIteration;
use pyo3::prelude::*;
use pyo3::types::PyTuple;

/// Can be awaited, any number of times, and is there at once. A coroutine for whoever asks.
#[pyclass(frozen, module = "meshcore._core")]
pub(crate) struct Now;

#[pymethods]
impl Now {
    fn __await__(slf: Py<Self>) -> Py<Self> {
        slf
    }

    fn __iter__(slf: Py<Self>) -> Py<Self> {
        slf
    }

    #[allow(clippy::unused_self)] // a slot
    fn __next__(&self) -> Option<()> {
        None
    }

    #[allow(clippy::unused_self)]
    fn send(&self, _value: &Bound<'_, PyAny>) -> PyResult<()> {
        Err(PyStopIteration::new_err(()))
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
