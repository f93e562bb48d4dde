//! Whether a call is over when its function has returned.

use pyo3::prelude::*;
use pyo3::sync::PyOnceLock;
use pyo3::types::{PyBool, PyBytes, PyDict, PyFloat, PyInt, PyList, PyString, PyTuple, PyType};

static COROUTINE: PyOnceLock<Py<PyType>> = PyOnceLock::new();
static GENERATOR: PyOnceLock<Py<PyType>> = PyOnceLock::new();
static ASYNC_GENERATOR: PyOnceLock<Py<PyType>> = PyOnceLock::new();

/// Nothing of a coroutine or a generator has run yet, and of what can be awaited, or tells when it
/// is done, the end is not known: a success would be counted before there is one.
#[inline]
pub(super) fn is_over(result: &Bound<'_, PyAny>) -> bool {
    result.is_none() || !may_be_pending(result)
}

#[inline(never)]
fn may_be_pending(result: &Bound<'_, PyAny>) -> bool {
    // A class that fails to say what it has is none that can be awaited.
    !is_plain(result) && is_pending(result).unwrap_or(false)
}

/// What most functions return, told by its address alone.
#[inline]
fn is_plain(result: &Bound<'_, PyAny>) -> bool {
    result.is_none()
        || result.is_exact_instance_of::<PyDict>()
        || result.is_exact_instance_of::<PyString>()
        || result.is_exact_instance_of::<PyList>()
        || result.is_exact_instance_of::<PyBytes>()
        || result.is_exact_instance_of::<PyInt>()
        || result.is_exact_instance_of::<PyBool>()
        || result.is_exact_instance_of::<PyFloat>()
        || result.is_exact_instance_of::<PyTuple>()
}

fn is_pending(result: &Bound<'_, PyAny>) -> PyResult<bool> {
    let (py, class) = (result.py(), result.get_type());
    let started_later = class.is(COROUTINE.import(py, "types", "CoroutineType")?)
        || class.is(GENERATOR.import(py, "types", "GeneratorType")?)
        || class.is(ASYNC_GENERATOR.import(py, "types", "AsyncGeneratorType")?);
    Ok(started_later || class.hasattr("__await__")? || class.hasattr("add_done_callback")?)
}

/// What a fallback gave to a caller who awaits nothing.
#[cold]
pub(super) fn not_async(value: Bound<'_, PyAny>) -> PyResult<Bound<'_, PyAny>> {
    if is_plain(&value) || value.hasattr("add_done_callback")? {
        return Ok(value);
    }
    let awaiting = value.py().import("meshcore.library.awaiting")?;
    awaiting.call_method1("at_once", (value, "fallback: call takes none that is async"))
}
