//! Who wants to hear of a breaker's calls and changes, and what takes too long.

use std::sync::atomic::{AtomicU8, Ordering};

use meshcore_core::admission::{Outcome, State};
use meshcore_core::time::Nanos;
use pyo3::exceptions::PyException;
use pyo3::gc::{PyTraverseError, PyVisit};
use pyo3::prelude::*;
use pyo3::types::PyTuple;

/// The listeners, and what makes that which they are told.
type Told = (Py<PyTuple>, Py<PyAny>);

/// What needs to know when a call began, or how the breaker stood before.
#[derive(Debug)]
pub(super) struct Watch {
    /// A success that takes longer is a failure; zero for none.
    slow_call: Nanos,
    on_call: Option<Told>,
    on_state_change: Option<Told>,
    /// The state that was told last: another process may have changed it.
    told: AtomicU8,
}

impl Watch {
    /// `None` if nobody wants to know.
    pub(super) fn new(
        slow_call: Nanos,
        on_call: Option<Told>,
        on_state_change: Option<Told>,
        now: State,
    ) -> Option<Self> {
        let any = slow_call > Nanos::ZERO || on_call.is_some() || on_state_change.is_some();
        let told = AtomicU8::new(now as u8);
        any.then_some(Self { slow_call, on_call, on_state_change, told })
    }

    pub(super) fn visit(&self, visit: &PyVisit<'_>) -> Result<(), PyTraverseError> {
        for (listeners, make) in self.on_call.iter().chain(&self.on_state_change) {
            visit.call(listeners)?;
            visit.call(make)?;
        }
        Ok(())
    }

    /// Whether it matters when a call began.
    pub(super) const fn times_calls(&self) -> bool {
        self.slow_call.0 > 0 || self.on_call.is_some()
    }

    /// Whether a call that ended so was too slow.
    pub(super) fn is_slow(&self, outcome: Outcome, took: Nanos) -> bool {
        outcome == Outcome::Success && self.slow_call > Nanos::ZERO && took > self.slow_call
    }

    pub(super) fn tell_call(
        &self,
        breaker: &Bound<'_, PyAny>,
        outcome: &str,
        took: Nanos,
        raised: Option<&Bound<'_, PyAny>>,
    ) -> PyResult<()> {
        #[allow(clippy::cast_precision_loss)] // seconds to print
        let seconds = took.0 as f64 / 1e9;
        let told = |make: &Bound<'_, PyAny>| {
            make.call1((breaker, outcome, seconds, raised)).map(Bound::unbind)
        };
        tell(breaker.py(), self.on_call.as_ref(), told)
    }

    /// Tells if it stands otherwise than was told last.
    pub(super) fn tell_state(&self, breaker: &Bound<'_, PyAny>, now: State) -> PyResult<()> {
        let before = self.told.swap(now as u8, Ordering::AcqRel);
        if before == now as u8 {
            return Ok(());
        }
        let (old, new) = (NAMES[usize::from(before)], name_of(now));
        let told = |make: &Bound<'_, PyAny>| make.call1((breaker, old, new)).map(Bound::unbind);
        tell(breaker.py(), self.on_state_change.as_ref(), told)
    }
}

/// In the order of [`State`].
const NAMES: [&str; 3] = ["closed", "open", "half_open"];

pub(crate) const fn name_of(state: State) -> &'static str {
    NAMES[state as usize]
}

/// A listener that fails is its own fault, and no call's: it is reported as what nobody could catch.
fn tell(
    py: Python<'_>,
    told: Option<&Told>,
    make: impl FnOnce(&Bound<'_, PyAny>) -> PyResult<Py<PyAny>>,
) -> PyResult<()> {
    let Some((listeners, class)) = told else { return Ok(()) };
    let told = make(class.bind(py))?;
    tell_all(listeners.bind(py), told.bind(py))
}

/// Tells each listener in turn.
#[pyfunction]
#[pyo3(signature = (listeners, told, /))]
pub(crate) fn tell_all(listeners: &Bound<'_, PyTuple>, told: &Bound<'_, PyAny>) -> PyResult<()> {
    let py = told.py();
    for listener in listeners {
        match listener.call1((told,)) {
            Err(error) if error.is_instance_of::<PyException>(py) => {
                error.write_unraisable(py, Some(&listener));
            }
            other => drop(other?),
        }
    }
    Ok(())
}
