//! Who wants to hear of a breaker's calls and changes, and what takes too long.

use std::sync::atomic::{AtomicU8, Ordering};

use meshcore_core::admission::{BreakerState, Outcome};
use meshcore_core::time::Nanos;
use pyo3::exceptions::PyException;
use pyo3::gc::{PyTraverseError, PyVisit};
use pyo3::prelude::*;
use pyo3::types::PyTuple;

/// The listeners, and what makes their events.
type Listeners = (Py<PyTuple>, Py<PyAny>);

/// What needs to know when a call began, or how the breaker stood before.
#[derive(Debug)]
pub(super) struct Watch {
    /// A success that takes longer is a failure; zero for none.
    slow_call: Nanos,
    on_call: Option<Listeners>,
    on_state_change: Option<Listeners>,
    /// The state that was emitted last: another process may have changed it.
    emitted: AtomicU8,
}

impl Watch {
    /// `None` without listeners and limits.
    pub(super) fn new(
        slow_call: Nanos,
        on_call: Option<Listeners>,
        on_state_change: Option<Listeners>,
        now: BreakerState,
    ) -> Option<Self> {
        let any = slow_call > Nanos::ZERO || on_call.is_some() || on_state_change.is_some();
        let emitted = AtomicU8::new(now as u8);
        any.then_some(Self { slow_call, on_call, on_state_change, emitted })
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

    pub(super) fn emit_call(
        &self,
        breaker: &Bound<'_, PyAny>,
        outcome: &str,
        took: Nanos,
        raised: Option<&Bound<'_, PyAny>>,
    ) -> PyResult<()> {
        #[allow(clippy::cast_precision_loss)] // seconds to print
        let seconds = took.0 as f64 / 1e9;
        let event = |make: &Bound<'_, PyAny>| {
            make.call1((breaker, outcome, seconds, raised)).map(Bound::unbind)
        };
        emit(breaker.py(), self.on_call.as_ref(), event)
    }

    /// Emits its state, if it is another than the last one.
    pub(super) fn emit_state(&self, breaker: &Bound<'_, PyAny>, now: BreakerState) -> PyResult<()> {
        let before = self.emitted.swap(now as u8, Ordering::AcqRel);
        if before == now as u8 {
            return Ok(());
        }
        let (old, new) = (NAMES[usize::from(before)], name_of(now));
        let event = |make: &Bound<'_, PyAny>| make.call1((breaker, old, new)).map(Bound::unbind);
        emit(breaker.py(), self.on_state_change.as_ref(), event)
    }
}

/// In the order of [`BreakerState`].
const NAMES: [&str; 3] = ["closed", "open", "half_open"];

pub(crate) const fn name_of(state: BreakerState) -> &'static str {
    NAMES[state as usize]
}

/// A listener that fails is its own fault, and no call's: it is reported as unraisable.
fn emit(
    py: Python<'_>,
    to: Option<&Listeners>,
    make: impl FnOnce(&Bound<'_, PyAny>) -> PyResult<Py<PyAny>>,
) -> PyResult<()> {
    let Some((listeners, class)) = to else { return Ok(()) };
    let event = make(class.bind(py))?;
    emit_all(listeners.bind(py), event.bind(py))
}

/// Gives an event to each listener in turn.
#[pyfunction]
#[pyo3(signature = (listeners, event, /))]
pub(crate) fn emit_all(listeners: &Bound<'_, PyTuple>, event: &Bound<'_, PyAny>) -> PyResult<()> {
    let py = event.py();
    for listener in listeners {
        match listener.call1((event,)) {
            Err(error) if error.is_instance_of::<PyException>(py) => {
                error.write_unraisable(py, Some(&listener));
            }
            other => drop(other?),
        }
    }
    Ok(())
}
