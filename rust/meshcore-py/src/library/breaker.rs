//! A circuit breaker and the leave that it gives.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use meshcore_core::admission::{Breaker, BreakerPermit, Outcome, State};
use meshcore_core::segment::Block;
use meshcore_core::snapshot;
use meshcore_core::time::Nanos;
use pyo3::import_exception;
use pyo3::prelude::*;

use super::clock::Clock;
use super::random::Random;

import_exception!(meshcore.errors, BreakerOpen);

#[derive(Debug)]
struct Shared {
    breaker: Breaker,
    clock: Clock,
    random: Random,
}

/// One circuit breaker.
#[pyclass(frozen, subclass, module = "meshcore._core")]
pub struct BreakerCore(Arc<Shared>);

#[pymethods]
impl BreakerCore {
    #[new]
    #[pyo3(signature = (rules, seed, clock=None))]
    fn new(rules: &str, seed: u64, clock: Option<Py<PyAny>>) -> PyResult<Self> {
        let rules: snapshot::Breaker = serde_json::from_str(rules)
            .map_err(|e| pyo3::exceptions::PyValueError::new_err(e.to_string()))?;
        let breaker = Breaker::new(Block::private(Breaker::WORDS), rules);
        Ok(Self(Arc::new(Shared { breaker, clock: Clock::new(clock), random: Random::new(seed) })))
    }

    fn acquire(&self, py: Python<'_>) -> PyResult<Permit> {
        let shared = &self.0;
        match shared.breaker.acquire(shared.clock.now(py)?, shared.random.next()) {
            Ok(permit) => {
                Ok(Permit { shared: Arc::clone(shared), permit, settled: AtomicBool::new(false) })
            }
            Err(open) => {
                let text = "circuit breaker is open";
                Err(BreakerOpen::new_err((text, open.retry_after.0)))
            }
        }
    }

    #[getter]
    fn state(&self, py: Python<'_>) -> PyResult<&'static str> {
        Ok(match self.0.breaker.state(self.0.clock.now(py)?) {
            State::Closed => "closed",
            State::Open => "open",
            State::HalfOpen => "half_open",
        })
    }

    fn force_closed(&self) {
        self.0.breaker.force_closed();
    }

    fn force_open(&self, py: Python<'_>, for_ns: u64) -> PyResult<()> {
        let now = self.0.clock.now(py)?;
        self.0.breaker.force_open(Nanos(now.0.saturating_add(for_ns)));
        Ok(())
    }
}

/// Leave to make one call. Whoever drops it unsettled gives it back: it says nothing.
#[pyclass(frozen, module = "meshcore._core")]
pub struct Permit {
    shared: Arc<Shared>,
    permit: BreakerPermit,
    settled: AtomicBool,
}

#[pymethods]
impl Permit {
    fn success(&self, py: Python<'_>) -> PyResult<()> {
        self.settle(py, Outcome::Success)
    }

    fn failure(&self, py: Python<'_>) -> PyResult<()> {
        self.settle(py, Outcome::Failure)
    }

    fn cancel(&self, py: Python<'_>) -> PyResult<()> {
        self.settle(py, Outcome::Neutral)
    }
}

impl Permit {
    /// Once: later calls do nothing.
    fn settle(&self, py: Python<'_>, outcome: Outcome) -> PyResult<()> {
        let now = self.shared.clock.now(py)?;
        if !self.settled.swap(true, Ordering::AcqRel) {
            self.shared.breaker.settle(self.permit, outcome, now, self.shared.random.next());
        }
        Ok(())
    }
}

impl Drop for Permit {
    fn drop(&mut self) {
        if !*self.settled.get_mut() {
            // Only a probe's place needs giving back, and that at any time.
            let rand = self.shared.random.next();
            self.shared.breaker.settle(self.permit, Outcome::Neutral, Nanos(0), rand);
        }
    }
}
