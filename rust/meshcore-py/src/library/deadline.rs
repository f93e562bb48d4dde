//! The blocks of a deadline, which begin whole or not at all, and surely end.

use pyo3::prelude::*;
use pyo3::types::{PyDict, PyList, PyTuple};

use super::now::Now;
use super::surely::surely;

/// The native half of a deadline. Python knows its blocks (`meshcore.library.deadline`), by methods
/// that may be called again when a handler of a signal broke them off.
#[pyclass(frozen, subclass, module = "meshcore._core")]
pub struct DeadlineCore;

#[pymethods]
impl DeadlineCore {
    #[new]
    #[pyo3(signature = (*_args, **_kwargs))]
    const fn new(_args: &Bound<'_, PyTuple>, _kwargs: Option<&Bound<'_, PyDict>>) -> Self {
        Self
    }

    fn __enter__(slf: Bound<'_, Self>) -> PyResult<Bound<'_, Self>> {
        begin(&slf, false)?;
        Ok(slf)
    }

    fn __exit__(
        slf: &Bound<'_, Self>,
        _kind: Option<&Bound<'_, PyAny>>,
        _error: Option<&Bound<'_, PyAny>>,
        _trace: Option<&Bound<'_, PyAny>>,
    ) -> PyResult<()> {
        end(slf, &PyList::empty(slf.py()))
    }

    fn __aenter__(slf: &Bound<'_, Self>) -> PyResult<Now> {
        begin(slf, true)?;
        Ok(Now::with(slf.as_any()))
    }

    fn __aexit__(
        slf: &Bound<'_, Self>,
        kind: Option<&Bound<'_, PyAny>>,
        error: Option<&Bound<'_, PyAny>>,
        trace: Option<&Bound<'_, PyAny>>,
    ) -> PyResult<Now> {
        let found = PyList::empty(slf.py());
        let ended = end(slf, &found);
        let cut = surely(|| slf.call_method1("_cut_off", (&found, kind, error, trace)));
        ended.and(cut).map(|_| Now::default())
    }
}

fn begin(slf: &Bound<'_, DeadlineCore>, cuts: bool) -> PyResult<()> {
    let block = slf.call_method1("_block", (cuts,))?;
    let begun = slf.call_method1("_begin", (&block,));
    if begun.is_err() {
        surely(|| slf.call_method1("_undo", (&block,)))?;
    }
    begun.map(drop)
}

/// `found`: what ends, once that is known.
fn end(slf: &Bound<'_, DeadlineCore>, found: &Bound<'_, PyList>) -> PyResult<()> {
    surely(|| slf.call_method1("_end", (found,))).map(drop)
}
