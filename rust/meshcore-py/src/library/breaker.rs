//! A circuit breaker and the leave that it gives.

use std::sync::atomic::{AtomicBool, Ordering};

use meshcore_core::admission::{Breaker, BreakerPermit, Outcome, State};
use meshcore_core::segment::Block;
use meshcore_core::snapshot;
use meshcore_core::time::Nanos;
use pyo3::exceptions::{PyRuntimeError, PyValueError};
use pyo3::gc::{PyTraverseError, PyVisit};
use pyo3::import_exception;
use pyo3::prelude::*;
use pyo3::types::{PyDict, PyTuple};

use super::Words;
use super::blocks::Blocks;
use super::clock::Clock;
use super::judge::Judge;
use super::random::Random;
use super::result::is_over;

import_exception!(meshcore.errors, BreakerOpen);

/// One circuit breaker.
#[pyclass(frozen, subclass, module = "meshcore._core")]
pub struct BreakerCore {
    breaker: Breaker,
    clock: Clock,
    random: Random,
    judge: Judge,
    blocks: Blocks,
}

impl BreakerCore {
    #[inline]
    fn admit(slf: &Bound<'_, Self>) -> PyResult<BreakerPermit> {
        match slf.get().breaker.acquire_closed() {
            Some(permit) => Ok(permit),
            None => Self::admit_not_closed(slf),
        }
    }

    #[cold]
    fn admit_not_closed(slf: &Bound<'_, Self>) -> PyResult<BreakerPermit> {
        let (this, py) = (slf.get(), slf.py());
        let now = this.clock.now(py)?;
        if this.breaker.probes() {
            let outer = slf.call_method0("_enclosing")?.extract::<Option<Py<Permit>>>()?;
            let inner = outer.and_then(|outer| this.breaker.within(outer.get().permit, now));
            if let Some(permit) = inner {
                return Ok(permit);
            }
        }
        this.breaker.acquire(now).map_err(|open| {
            let text = "circuit breaker is open";
            BreakerOpen::new_err((text, open.retry_after.0))
        })
    }

    fn permit(slf: &Bound<'_, Self>, permit: BreakerPermit) -> Permit {
        Permit { owner: slf.clone().unbind(), permit, settled: AtomicBool::new(false) }
    }

    fn settle(&self, py: Python<'_>, permit: BreakerPermit, outcome: Outcome) -> PyResult<()> {
        let now = self.clock.now(py)?;
        self.breaker.settle(permit, outcome, now, self.random.next());
        Ok(())
    }

    /// Settles by how the call ended. Whoever judges may raise: then it says nothing.
    fn end(
        &self,
        py: Python<'_>,
        permit: BreakerPermit,
        raised: Option<&Bound<'_, PyAny>>,
    ) -> PyResult<()> {
        let judged = raised.map_or(Ok(Outcome::Success), |raised| self.judge.of(raised));
        self.settle(py, permit, *judged.as_ref().unwrap_or(&Outcome::Neutral))?;
        judged.map(drop)
    }

    /// Calls a function. `decorated`: what goes on after the call is guarded until it is over, which
    /// Python does; otherwise it is refused.
    fn run<'py>(
        slf: &Bound<'py, Self>,
        function: &Bound<'py, PyAny>,
        args: &Bound<'py, PyTuple>,
        kwargs: Option<&Bound<'py, PyDict>>,
        decorated: bool,
    ) -> PyResult<Bound<'py, PyAny>> {
        let (this, py) = (slf.get(), slf.py());
        let permit = Self::admit(slf)?;
        let result = if permit.is_probe() {
            Self::run_probe(slf, permit, function, args, kwargs)
        } else {
            function.call(args, kwargs)
        };
        match &result {
            Ok(value) if !is_over(value)? => {
                let permit = Self::permit(slf, permit);
                return slf.call_method1("_go_on", (permit, value, decorated));
            }
            Ok(_) => this.end(py, permit, None)?,
            Err(error) => this.end(py, permit, Some(error.value(py)))?,
        }
        result
    }

    /// What the function calls through this breaker belongs to the probe.
    #[cold]
    fn run_probe<'py>(
        slf: &Bound<'py, Self>,
        permit: BreakerPermit,
        function: &Bound<'py, PyAny>,
        args: &Bound<'py, PyTuple>,
        kwargs: Option<&Bound<'py, PyDict>>,
    ) -> PyResult<Bound<'py, PyAny>> {
        // A second one, which is only ever looked at.
        let shown = Py::new(slf.py(), Self::permit(slf, permit.inner()))?;
        let block = slf.call_method1("_begin", (&shown,))?;
        let result = function.call(args, kwargs);
        shown.get().settled.store(true, Ordering::Release);
        slf.call_method1("_over", (block,))?;
        result
    }

    /// Leaves a block while some are known one by one.
    #[cold]
    fn exit_known(slf: &Bound<'_, Self>, raised: Option<&Bound<'_, PyAny>>) -> PyResult<()> {
        let (this, py) = (slf.get(), slf.py());
        let counted = this.blocks.counted().map(BreakerPermit::bits);
        let left = slf.call_method1("_leave", (raised, counted))?.extract::<Option<bool>>()?;
        let Some(exact) = left else {
            this.blocks.known(false);
            return Ok(());
        };
        match this.blocks.leave() {
            Some(permit) if exact => this.end(py, permit, raised),
            Some(permit) => this.settle(py, permit, Outcome::Neutral),
            None => Err(not_entered()),
        }
    }
}

fn not_entered() -> PyErr {
    PyRuntimeError::new_err("the breaker's block was not entered here")
}

#[pymethods]
impl BreakerCore {
    #[new]
    #[pyo3(signature = (rules, failure_on, seed, clock=None, words=None))]
    fn new(
        rules: &str,
        failure_on: &Bound<'_, PyTuple>,
        seed: u64,
        clock: Option<Py<PyAny>>,
        words: Option<&Words>,
    ) -> PyResult<Self> {
        let rules: snapshot::Breaker =
            serde_json::from_str(rules).map_err(|e| PyValueError::new_err(e.to_string()))?;
        let private = || Block::private(Breaker::WORDS);
        let block = words.map_or_else(private, |words| words.block.clone());
        // Processes write different lines, by and large.
        let breaker = Breaker::new(block, rules).on_worker(seed as usize);
        let (clock, random) = (Clock::new(clock), Random::new(seed));
        let judge = Judge::new(failure_on, None)?;
        Ok(Self { breaker, clock, random, judge, blocks: Blocks::default() })
    }

    fn __traverse__(&self, visit: PyVisit<'_>) -> Result<(), PyTraverseError> {
        self.judge.visit(&visit)?;
        self.clock.visit(&visit)
    }

    fn acquire(slf: &Bound<'_, Self>) -> PyResult<Permit> {
        Ok(Self::permit(slf, Self::admit(slf)?))
    }

    #[pyo3(signature = (function, /, *args, **kwargs))]
    fn call<'py>(
        slf: &Bound<'py, Self>,
        function: &Bound<'py, PyAny>,
        args: &Bound<'py, PyTuple>,
        kwargs: Option<&Bound<'py, PyDict>>,
    ) -> PyResult<Bound<'py, PyAny>> {
        Self::run(slf, function, args, kwargs, false)
    }

    #[pyo3(signature = (function, /, *args, **kwargs))]
    fn call_decorated<'py>(
        slf: &Bound<'py, Self>,
        function: &Bound<'py, PyAny>,
        args: &Bound<'py, PyTuple>,
        kwargs: Option<&Bound<'py, PyDict>>,
    ) -> PyResult<Bound<'py, PyAny>> {
        Self::run(slf, function, args, kwargs, true)
    }

    fn __enter__(slf: &Bound<'_, Self>) -> PyResult<()> {
        let this = slf.get();
        let permit = Self::admit(slf)?;
        if !this.blocks.count(permit) {
            slf.call_method1("_keep", (Self::permit(slf, permit),))?;
            this.blocks.known(true);
        }
        Ok(())
    }

    fn __exit__(
        slf: &Bound<'_, Self>,
        kind: Option<&Bound<'_, PyAny>>,
        error: Option<&Bound<'_, PyAny>>,
        _trace: &Bound<'_, PyAny>,
    ) -> PyResult<()> {
        let (this, raised) = (slf.get(), error.or(kind));
        if this.blocks.any_known() {
            return Self::exit_known(slf, raised);
        }
        let permit = this.blocks.leave().ok_or_else(not_entered)?;
        this.end(slf.py(), permit, raised)
    }

    #[getter]
    fn state(&self, py: Python<'_>) -> PyResult<&'static str> {
        Ok(match self.breaker.state(self.clock.now(py)?) {
            State::Closed => "closed",
            State::Open => "open",
            State::HalfOpen => "half_open",
        })
    }

    fn force_closed(&self) {
        self.breaker.force_closed();
    }

    fn force_open_ns(&self, py: Python<'_>, for_ns: u64) -> PyResult<()> {
        let now = self.clock.now(py)?;
        self.breaker.force_open(Nanos(now.0.saturating_add(for_ns)));
        Ok(())
    }
}

/// Leave to make one call. Whoever drops it unsettled gives it back: it says nothing.
#[pyclass(frozen, module = "meshcore._core")]
pub struct Permit {
    owner: Py<BreakerCore>,
    permit: BreakerPermit,
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
    fn end(&self, py: Python<'_>, raised: Option<&Bound<'_, PyAny>>) -> PyResult<()> {
        if self.settled.swap(true, Ordering::AcqRel) {
            return Ok(());
        }
        self.owner.get().end(py, self.permit, raised)
    }

    #[getter]
    fn settled(&self) -> bool {
        self.settled.load(Ordering::Acquire)
    }

    #[getter]
    fn is_probe(&self) -> bool {
        self.permit.is_probe()
    }

    #[getter]
    fn kind(&self) -> u32 {
        self.permit.bits()
    }
}

impl Permit {
    /// Once: later calls do nothing.
    fn settle(&self, py: Python<'_>, outcome: Outcome) -> PyResult<()> {
        if self.settled.swap(true, Ordering::AcqRel) {
            return Ok(());
        }
        self.owner.get().settle(py, self.permit, outcome)
    }
}

impl Drop for Permit {
    fn drop(&mut self) {
        if !*self.settled.get_mut() {
            // Only a probe's place needs giving back, and that at any time.
            let owner = self.owner.get();
            let rand = owner.random.next();
            owner.breaker.settle(self.permit, Outcome::Neutral, Nanos(0), rand);
        }
    }
}
