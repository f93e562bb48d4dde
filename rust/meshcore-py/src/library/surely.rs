//! Ends that come whatever becomes of what they end.
//!
//! A handler of a signal runs between any two instructions of Python, and may raise: a deadline of a
//! task queue, a Ctrl-C. It never runs in here, so what was begun here is ended here.

use std::sync::atomic::{AtomicBool, Ordering};

use pyo3::gc::{PyTraverseError, PyVisit};
use pyo3::prelude::*;
use pyo3::types::{PyBool, PyTuple};

/// A handler that raises each time it is called would otherwise keep us for ever.
const TRIES: usize = 3;

/// Calls until it was not broken off; it must be one that may be called again then. What it raised
/// first is raised in the end.
pub(super) fn surely<T>(call: impl Fn() -> PyResult<T>) -> PyResult<T> {
    let mut first = None;
    for _ in 0..TRIES {
        match call() {
            Ok(value) => return first.map_or(Ok(value), Err),
            Err(error) => _ = first.get_or_insert(error),
        }
    }
    first.map_or_else(&call, Err)
}

/// The same for Python, with what the function takes.
#[pyfunction(name = "surely")]
#[pyo3(signature = (function, /, *args))]
pub(crate) fn surely_called<'py>(
    function: &Bound<'py, PyAny>,
    args: &Bound<'py, PyTuple>,
) -> PyResult<Bound<'py, PyAny>> {
    surely(|| function.call1(args))
}

/// A block that surely ends, for one `with` at a time. It must be nowhere but in that statement: what
/// ends without being left is ended when the statement lets go of this.
#[pyclass(frozen, module = "meshcore._core")]
pub struct Finally {
    end: Py<PyAny>,
    begin: Option<Py<PyAny>>,
    begun: AtomicBool,
}

#[pymethods]
impl Finally {
    #[new]
    #[pyo3(signature = (end, begin=None))]
    const fn new(end: Py<PyAny>, begin: Option<Py<PyAny>>) -> Self {
        Self { end, begin, begun: AtomicBool::new(false) }
    }

    fn __traverse__(&self, visit: PyVisit<'_>) -> Result<(), PyTraverseError> {
        visit.call(&self.end)?;
        visit.call(&self.begin)
    }

    fn __enter__<'py>(&self, py: Python<'py>) -> PyResult<Option<Bound<'py, PyAny>>> {
        let value = self.begin.as_ref().map(|begin| begin.bind(py).call0()).transpose()?;
        let refused = value.as_ref().is_some_and(|value| value.is(&*PyBool::new(py, false)));
        self.begun.store(!refused, Ordering::Relaxed);
        Ok(value)
    }

    #[pyo3(signature = (*_raised))]
    fn __exit__(&self, py: Python<'_>, _raised: &Bound<'_, PyTuple>) -> PyResult<()> {
        self.end_once(py)
    }
}

impl Finally {
    fn end_once(&self, py: Python<'_>) -> PyResult<()> {
        if self.begun.swap(false, Ordering::Relaxed) {
            surely(|| self.end.bind(py).call0())?;
        }
        Ok(())
    }
}

impl Drop for Finally {
    fn drop(&mut self) {
        if *self.begun.get_mut() {
            when_dropped(|py| self.end_once(py));
        }
    }
}

/// What is to be done by what a statement lets go of, perhaps while something raised is on its way.
pub(super) fn when_dropped(work: impl FnOnce(Python<'_>) -> PyResult<()>) {
    // None: the interpreter is ending, and those that waited with it.
    let _ = Python::try_attach(|py| {
        let raised = PyErr::take(py);
        if let Err(error) = work(py) {
            error.write_unraisable(py, None);
        }
        if let Some(raised) = raised {
            raised.restore(py);
        }
    });
}
