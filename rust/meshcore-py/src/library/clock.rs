//! Where a part gets its time from.

use meshcore_core::time::Nanos;
use pyo3::gc::{PyTraverseError, PyVisit};
use pyo3::prelude::*;

use crate::clock::now_ns;
use crate::whole::whole;

/// `CLOCK_MONOTONIC`, or a function that the caller gave.
#[derive(Debug)]
pub(super) struct Clock(Option<Py<PyAny>>);

impl Clock {
    pub(super) const fn new(given: Option<Py<PyAny>>) -> Self {
        Self(given)
    }

    pub(super) const fn is_own(&self) -> bool {
        self.0.is_none()
    }

    /// A function that leads back to the part which asks it is a circle that Python has to see. It
    /// is never cleared, as with tuples: no circle is closed without something that can be changed.
    pub(super) fn visit(&self, visit: &PyVisit<'_>) -> Result<(), PyTraverseError> {
        visit.call(&self.0)
    }

    #[inline]
    pub(super) fn now(&self, py: Python<'_>) -> PyResult<Nanos> {
        match &self.0 {
            None => Ok(Nanos(now_ns())),
            Some(function) => whole("clock", &function.bind(py).call0()?, u64::MAX).map(Nanos),
        }
    }
}
