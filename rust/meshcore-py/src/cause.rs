//! What several requests may meet, as Python hands it around.

use meshcore_core::exchange;
use pyo3::prelude::*;

/// Not frozen: it belongs to a connection of one loop.
#[pyclass(module = "meshcore._core")]
#[derive(Default)]
pub struct Cause(pub(crate) exchange::Cause);

#[pymethods]
impl Cause {
    #[new]
    fn new() -> Self {
        Self::default()
    }

    #[staticmethod]
    fn excused() -> Self {
        Self(exchange::Cause::excused())
    }

    #[getter]
    fn counted(&self) -> bool {
        self.0.is_counted()
    }
}
