//! Calls of functions through a breaker.

use pyo3::prelude::*;
use pyo3::types::{PyDict, PyTuple};

use super::breaker::BreakerCore;
use super::permit::Permit;
use super::result::{is_over, not_async};

impl BreakerCore {
    /// Calls a function, or `fallback` if it may not be called. `DECORATED`: what goes on after the
    /// call is guarded until it is over, which Python does; otherwise it is refused.
    #[inline]
    pub(super) fn run<'py, const DECORATED: bool>(
        slf: &Bound<'py, Self>,
        (function, fallback): (&Bound<'py, PyAny>, Option<&Py<PyAny>>),
        args: &Bound<'py, PyTuple>,
        kwargs: Option<&Bound<'py, PyDict>>,
    ) -> PyResult<Bound<'py, PyAny>> {
        let py = slf.py();
        let held = match Self::admit_held(slf) {
            Ok(held) => held,
            Err(error) => {
                let value = slf.get().stand_in(fallback, error, args, kwargs)?;
                return if DECORATED { Ok(value) } else { not_async(value) };
            }
        };
        let permit = held.permit;
        let result = if permit.is_probe() {
            Self::run_probe(slf, permit, function, args, kwargs)
        } else {
            function.call(args, kwargs)
        };
        match &result {
            Ok(value) if !is_over(value) => {
                let permit = Permit::new(slf, held);
                return slf.call_method1("_go_on", (permit, value, DECORATED));
            }
            Ok(value) => Self::end_with(slf, held, value)?,
            Err(error) => Self::end(slf, held, Some(error.value(py)))?,
        }
        result
    }

    /// What is called instead.
    #[cold]
    fn stand_in<'py>(
        &self,
        fallback: Option<&Py<PyAny>>,
        error: PyErr,
        args: &Bound<'py, PyTuple>,
        kwargs: Option<&Bound<'py, PyDict>>,
    ) -> PyResult<Bound<'py, PyAny>> {
        let py = args.py();
        match fallback {
            Some(fallback) if error.get_type(py).is_subclass(self.refusal.bind(py))? => {
                fallback.bind(py).call(args, kwargs)
            }
            _ => Err(error),
        }
    }
}
