//! What an `async with` awaits that never waits.

use pyo3::prelude::*;

/// Can be awaited, and is there at once.
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
}
