//! Leave to make one call.

use std::sync::atomic::{AtomicBool, Ordering};

use meshcore_core::admission::{BreakerPermit, Outcome};
use meshcore_core::time::Nanos;
use pyo3::gc::{PyTraverseError, PyVisit};
use pyo3::prelude::*;

use super::breaker::BreakerCore;
use super::random::process;

/// A permit, when it was given if that matters, and the process that it was given to: the child of a
/// fork has a copy, which is not its own to give back.
#[derive(Clone, Copy, Debug)]
pub(super) struct Held {
    pub(super) permit: BreakerPermit,
    pub(super) since: Nanos,
    /// The how manieth call of its breaker it is for; none is later than it says.
    pub(super) began: u64,
    pub(super) process: u64,
}

impl Held {
    #[inline]
    pub(super) fn new(permit: BreakerPermit, since: Nanos, began: u64) -> Self {
        Self { permit, since, began, process: process() }
    }
}

/// Leave to make one call. Dropped unsettled it is given back: it says nothing.
#[pyclass(frozen, module = "meshcore._core")]
pub struct Permit {
    owner: Py<BreakerCore>,
    pub(super) held: Held,
    settled: AtomicBool,
}

#[pymethods]
impl Permit {
    fn __traverse__(&self, visit: PyVisit<'_>) -> Result<(), PyTraverseError> {
        visit.call(&self.owner)
    }

    fn success(&self, py: Python<'_>) -> PyResult<()> {
        self.settle(py, Outcome::Success)
    }

    fn failure(&self, py: Python<'_>) -> PyResult<()> {
        self.settle(py, Outcome::Failure)
    }

    fn cancel(&self, py: Python<'_>) -> PyResult<()> {
        self.settle(py, Outcome::Neutral)
    }

    #[pyo3(signature = (raised, /))]
    pub(super) fn end(&self, py: Python<'_>, raised: Option<&Bound<'_, PyAny>>) -> PyResult<()> {
        if self.settled.swap(true, Ordering::AcqRel) {
            return Ok(());
        }
        BreakerCore::end(self.owner.bind(py), self.held, raised)
    }

    #[pyo3(signature = (result, /))]
    fn end_with(&self, result: &Bound<'_, PyAny>) -> PyResult<()> {
        if self.settled.swap(true, Ordering::AcqRel) {
            return Ok(());
        }
        BreakerCore::end_with(self.owner.bind(result.py()), self.held, result)
    }

    #[getter]
    fn settled(&self) -> bool {
        self.settled.load(Ordering::Acquire)
    }

    #[getter]
    pub(super) fn is_probe(&self) -> bool {
        self.held.permit.is_probe()
    }

    #[getter]
    fn kind(&self) -> u32 {
        self.held.permit.bits()
    }
}

impl Permit {
    pub(super) fn new(owner: &Bound<'_, BreakerCore>, held: Held) -> Self {
        Self { owner: owner.clone().unbind(), held, settled: AtomicBool::new(false) }
    }

    /// It is not settled, nor does it say anything when it is dropped.
    pub(super) fn void(&self) {
        self.settled.store(true, Ordering::Release);
    }

    /// Once: later calls do nothing.
    pub(super) fn settle(&self, py: Python<'_>, outcome: Outcome) -> PyResult<()> {
        if self.settled.swap(true, Ordering::AcqRel) {
            return Ok(());
        }
        BreakerCore::settle(self.owner.bind(py), self.held, outcome, None)
    }
}

impl Drop for Permit {
    fn drop(&mut self) {
        if !*self.settled.get_mut() {
            self.owner.get().drop_permit(self.held);
        }
    }
}
