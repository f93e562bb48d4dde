//! One block of a breaker, wherever it is entered and left.

#![expect(clippy::disallowed_types, reason = "a slot of one object, and no shared word")]

use std::sync::{Mutex, PoisonError};

use meshcore_core::admission::Outcome;
use pyo3::exceptions::PyRuntimeError;
use pyo3::gc::{PyTraverseError, PyVisit};
use pyo3::prelude::*;

use super::breaker::BreakerCore;
use super::permit::Permit;
use super::surely::{surely, when_dropped};

/// A block that is under way. That of a probe is known to Python, for what is called inside.
struct Open {
    permit: Py<Permit>,
    block: Option<Py<PyAny>>,
}

/// The native half of a guard.
#[pyclass(frozen, subclass, module = "meshcore._core")]
pub struct GuardCore {
    breaker: Py<BreakerCore>,
    given: Option<Py<Permit>>,
    /// Held for an exchange, while nothing else runs.
    open: Mutex<Option<Open>>,
}

#[pymethods]
impl GuardCore {
    #[new]
    #[pyo3(signature = (breaker, given=None))]
    const fn new(breaker: Py<BreakerCore>, given: Option<Py<Permit>>) -> Self {
        Self { breaker, given, open: Mutex::new(None) }
    }

    fn __traverse__(&self, visit: PyVisit<'_>) -> Result<(), PyTraverseError> {
        visit.call(&self.breaker)?;
        visit.call(&self.given)
    }

    fn __enter__(&self, py: Python<'_>) -> PyResult<Py<Permit>> {
        if self.open.lock().unwrap_or_else(PoisonError::into_inner).is_some() {
            let text = "a guard is for one block at a time: ask the breaker for another";
            return Err(PyRuntimeError::new_err(text));
        }
        let breaker = self.breaker.bind(py);
        let permit = match &self.given {
            Some(given) => given.clone_ref(py),
            None => Py::new(py, BreakerCore::permit(breaker)?)?,
        };
        let block = BreakerCore::begin_block(breaker, &permit)?;
        self.swap(Some(Open { permit: permit.clone_ref(py), block }));
        Ok(permit)
    }

    fn __exit__(
        &self,
        py: Python<'_>,
        kind: Option<&Bound<'_, PyAny>>,
        error: Option<&Bound<'_, PyAny>>,
        _trace: &Bound<'_, PyAny>,
    ) -> PyResult<()> {
        let open = self.swap(None);
        let open =
            open.ok_or_else(|| PyRuntimeError::new_err("the guard's block was not entered"))?;
        self.over(py, &open)?;
        open.permit.get().end(py, error.or(kind))
    }
}

impl GuardCore {
    fn swap(&self, open: Option<Open>) -> Option<Open> {
        std::mem::replace(&mut *self.open.lock().unwrap_or_else(PoisonError::into_inner), open)
    }

    fn over(&self, py: Python<'_>, open: &Open) -> PyResult<()> {
        let Some(block) = &open.block else { return Ok(()) };
        surely(|| self.breaker.bind(py).call_method1("_over", (block,))).map(drop)
    }
}

impl Drop for GuardCore {
    fn drop(&mut self) {
        let Some(open) = self.swap(None) else { return };
        when_dropped(|py| {
            open.permit.get().settle(py, Outcome::Neutral)?;
            self.over(py, &open)
        });
    }
}
