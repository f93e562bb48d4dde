//! A circuit breaker and the leave that it gives.

use std::sync::atomic::{AtomicBool, AtomicU32, AtomicUsize, Ordering};

use meshcore_core::admission::{Breaker, BreakerPermit, Outcome, State};
use meshcore_core::segment::Block;
use meshcore_core::snapshot;
use meshcore_core::time::Nanos;
use pyo3::exceptions::{PyException, PyRuntimeError, PyTypeError, PyValueError};
use pyo3::gc::{PyTraverseError, PyVisit};
use pyo3::prelude::*;
use pyo3::sync::PyOnceLock;
use pyo3::types::{PyDict, PyTuple, PyType};

use super::Words;
use super::clock::Clock;
use super::random::Random;
use crate::errors;

static COROUTINE: PyOnceLock<Py<PyType>> = PyOnceLock::new();

/// The `with` blocks under way.
///
/// Permits of one closed epoch are all the same, so blocks that hold such are only counted; any
/// other is kept by Python in the context of its block. Only ever touched under the GIL.
#[derive(Debug, Default)]
struct Blocks {
    counted: AtomicUsize,
    same: AtomicU32,
    kept: AtomicUsize,
}

impl Blocks {
    /// Counts a block in, if its permit is no other than that of the blocks under way.
    fn count(&self, permit: BreakerPermit) -> bool {
        let counted = self.counted.load(Ordering::Relaxed);
        let same = counted == 0 || self.same.load(Ordering::Relaxed) == permit.bits();
        let fits = same && !permit.is_probe() && self.kept.load(Ordering::Relaxed) == 0;
        if fits {
            self.same.store(permit.bits(), Ordering::Relaxed);
            self.counted.store(counted + 1, Ordering::Relaxed);
        }
        fits
    }

    /// The permit of a block that was counted in and ends.
    fn leave(&self) -> PyResult<BreakerPermit> {
        let counted = self.counted.load(Ordering::Relaxed);
        if counted == 0 {
            return Err(PyRuntimeError::new_err("the breaker's block was not entered here"));
        }
        self.counted.store(counted - 1, Ordering::Relaxed);
        Ok(BreakerPermit::from_bits(self.same.load(Ordering::Relaxed)))
    }
}

/// One circuit breaker.
#[pyclass(frozen, subclass, module = "meshcore._core")]
pub struct BreakerCore {
    breaker: Breaker,
    clock: Clock,
    random: Random,
    failure_on: Py<PyTuple>,
    /// `BreakerOpen` of this object's interpreter.
    refusal: Py<PyType>,
    blocks: Blocks,
    /// Its rules as JSON, defaults and all.
    rules_text: Box<str>,
}

impl BreakerCore {
    fn admit(&self, py: Python<'_>) -> PyResult<BreakerPermit> {
        if let Some(permit) = self.breaker.acquire_closed() {
            return Ok(permit);
        }
        self.breaker.acquire(self.clock.now(py)?).map_err(|open| {
            let text = "circuit breaker is open";
            PyErr::from_type(self.refusal.bind(py).clone(), (text, open.retry_after.0))
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

    /// What a call that ended with an exception of this class, or none, says of the service.
    fn outcome(&self, py: Python<'_>, raised: Option<&Bound<'_, PyAny>>) -> PyResult<Outcome> {
        let Some(class) = raised else { return Ok(Outcome::Success) };
        if class.cast::<PyType>()?.is_subclass(self.failure_on.bind(py))? {
            return Ok(Outcome::Failure);
        }
        let answered = class.cast::<PyType>()?.is_subclass_of::<PyException>()?;
        Ok(if answered { Outcome::Success } else { Outcome::Neutral })
    }
}

#[pymethods]
impl BreakerCore {
    #[new]
    #[pyo3(signature = (rules, failure_on, seed, clock=None, words=None))]
    fn new(
        py: Python<'_>,
        rules: &str,
        failure_on: Py<PyTuple>,
        seed: u64,
        clock: Option<Py<PyAny>>,
        words: Option<&Words>,
    ) -> PyResult<Self> {
        let rules: snapshot::Breaker =
            serde_json::from_str(rules).map_err(|e| PyValueError::new_err(e.to_string()))?;
        if rules.on.is_some() || rules.slow_call_ns > 0 {
            let text = "on and slow_call are the proxy's: failure_on says what a failure is";
            return Err(PyValueError::new_err(text));
        }
        let told =
            serde_json::to_string(&rules).map_err(|e| PyValueError::new_err(e.to_string()))?;
        let private = || Block::private(Breaker::WORDS);
        let block = words.map_or_else(private, |words| words.block.clone());
        // Processes write different lines, by and large.
        let breaker = Breaker::new(block, rules).on_worker(seed as usize);
        let (clock, random) = (Clock::new(clock), Random::new(seed));
        let refusal = errors::class(py, "BreakerOpen")?;
        let (rules_text, blocks) = (told.into(), Blocks::default());
        Ok(Self { breaker, clock, random, failure_on, refusal, blocks, rules_text })
    }

    fn __traverse__(&self, visit: PyVisit<'_>) -> Result<(), PyTraverseError> {
        visit.call(&self.failure_on)?;
        self.clock.visit(&visit)
    }

    fn acquire(slf: &Bound<'_, Self>) -> PyResult<Permit> {
        Ok(Self::permit(slf, slf.get().admit(slf.py())?))
    }

    #[pyo3(signature = (function, /, *args, **kwargs))]
    fn call<'py>(
        &self,
        function: &Bound<'py, PyAny>,
        args: &Bound<'py, PyTuple>,
        kwargs: Option<&Bound<'py, PyDict>>,
    ) -> PyResult<Bound<'py, PyAny>> {
        let py = function.py();
        let permit = self.admit(py)?;
        let mut result = function.call(args, kwargs);
        // Nothing of a coroutine has run: a success would be counted before there is one.
        let coroutine = COROUTINE.import(py, "types", "CoroutineType")?;
        if let Ok(value) = &result
            && value.get_type().is(coroutine)
        {
            value.call_method0("close")?;
            let text = "the function is async: use @breaker or async with";
            result = Err(PyTypeError::new_err(text));
        }
        let raised = result.as_ref().err().map(|error| error.get_type(py).into_any());
        let outcome = self.outcome(py, raised.as_ref())?;
        self.settle(py, permit, outcome)?;
        result
    }

    fn __enter__(slf: &Bound<'_, Self>) -> PyResult<()> {
        let this = slf.get();
        let permit = this.admit(slf.py())?;
        if !this.blocks.count(permit) {
            slf.call_method1("_keep", (Self::permit(slf, permit),))?;
            this.blocks.kept.fetch_add(1, Ordering::Relaxed);
        }
        Ok(())
    }

    fn __exit__(
        slf: &Bound<'_, Self>,
        kind: Option<&Bound<'_, PyAny>>,
        _error: &Bound<'_, PyAny>,
        _trace: &Bound<'_, PyAny>,
    ) -> PyResult<()> {
        let (this, py) = (slf.get(), slf.py());
        let outcome = this.outcome(py, kind)?;
        if this.blocks.kept.load(Ordering::Relaxed) > 0
            && let Some(kept) = slf.call_method0("_kept")?.extract::<Option<Py<Permit>>>()?
        {
            this.blocks.kept.fetch_sub(1, Ordering::Relaxed);
            return kept.get().settle(py, outcome);
        }
        this.settle(py, this.blocks.leave()?, outcome)
    }

    #[getter]
    fn state(&self, py: Python<'_>) -> PyResult<&'static str> {
        Ok(match self.breaker.state(self.clock.now(py)?) {
            State::Closed => "closed",
            State::Open => "open",
            State::HalfOpen => "half_open",
        })
    }

    #[getter]
    fn rules_text(&self) -> &str {
        &self.rules_text
    }

    fn force_closed(&self) {
        self.breaker.force_closed();
    }

    fn force_open(&self, py: Python<'_>, for_ns: u64) -> PyResult<()> {
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

    #[getter]
    fn settled(&self) -> bool {
        self.settled.load(Ordering::Acquire)
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
