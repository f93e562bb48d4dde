//! Pieces of a body that go on without being joined.

use std::io::Write;

use pyo3::prelude::*;
use pyo3::types::PyBytes;
use smallvec::SmallVec;

/// Pieces of a body as HTTP/2 frames brought them: they go on to another stream as they are.
#[pyclass(frozen, module = "meshcore._core")]
pub struct Chunk(pub(crate) SmallVec<[bytes::Bytes; 1]>);

#[pymethods]
impl Chunk {
    fn __len__(&self) -> usize {
        self.0.iter().map(bytes::Bytes::len).sum()
    }

    /// Joined, in one copy.
    fn __bytes__<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyBytes>> {
        match &self.0[..] {
            [only] => Ok(PyBytes::new(py, only)),
            pieces => PyBytes::new_with_writer(py, self.__len__(), |writer| {
                pieces.iter().try_for_each(|piece| writer.write_all(piece))?;
                Ok(())
            }),
        }
    }
}
