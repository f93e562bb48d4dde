//! Retries of one's own calls, decided as the proxy's are.

use std::sync::atomic::{AtomicBool, AtomicU32, AtomicU64, Ordering};

use meshcore_core::admission::{BackOff, Lease, LeasedBudget, RetryRules, back_off};
use meshcore_core::segment::Block;
use meshcore_core::time::Nanos;
use pyo3::gc::{PyTraverseError, PyVisit};
use pyo3::prelude::*;

use super::Words;
use super::clock::Clock;
use super::random::{Random, process};
use crate::clock::unix_ms;

/// How many retries there may be beside calls.
#[pyclass(frozen, subclass, module = "meshcore._core")]
pub struct BudgetCore {
    budget: LeasedBudget,
    clock: Clock,
    /// The process that counted in words which no other has.
    counting: Option<AtomicU64>,
}

impl BudgetCore {
    /// Of its own words a child has a copy, with what its parent has under way.
    #[inline]
    fn counted(&self) -> &LeasedBudget {
        if let Some(counting) = &self.counting {
            let this = process();
            if counting.load(Ordering::Relaxed) != this
                && counting.swap(this, Ordering::Relaxed) != this
            {
                self.budget.clear();
            }
        }
        &self.budget
    }
}

#[pymethods]
impl BudgetCore {
    #[new]
    #[pyo3(signature = (percent, floor, clock=None, words=None))]
    fn new(percent: u32, floor: u32, clock: Option<Py<PyAny>>, words: Option<&Words>) -> Self {
        let private = || Block::private(LeasedBudget::WORDS);
        let block = words.map_or_else(private, |words| words.block.clone());
        let (budget, clock) = (LeasedBudget::new(block, percent, floor), Clock::new(clock));
        let counting = words.is_none().then(|| AtomicU64::new(process()));
        Self { budget, clock, counting }
    }

    fn __traverse__(&self, visit: PyVisit<'_>) -> Result<(), PyTraverseError> {
        self.clock.visit(&visit)
    }

    #[getter]
    fn calls(&self, py: Python<'_>) -> PyResult<u64> {
        Ok(self.counted().calls(self.clock.now(py)?))
    }

    #[getter]
    fn retries(&self, py: Python<'_>) -> PyResult<u64> {
        Ok(self.counted().retries(self.clock.now(py)?))
    }
}

/// When a call is tried again.
#[pyclass(frozen, subclass, module = "meshcore._core")]
pub struct RetryCore {
    rules: RetryRules,
    budget: Option<Py<BudgetCore>>,
    clock: Clock,
    random: Random,
}

#[pymethods]
impl RetryCore {
    #[new]
    #[pyo3(signature = (attempts, pauses, seed, budget=None, clock=None))]
    fn new(
        attempts: u32,
        pauses: (u64, u64, u64),
        seed: u64,
        budget: Option<Py<BudgetCore>>,
        clock: Option<Py<PyAny>>,
    ) -> Self {
        let (least, first, most) = (Nanos(pauses.0), Nanos(pauses.1), Nanos(pauses.2));
        let rules = RetryRules { attempts, back_off: BackOff { least, first, most } };
        Self { rules, budget, clock: Clock::new(clock), random: Random::new(seed) }
    }

    fn __traverse__(&self, visit: PyVisit<'_>) -> Result<(), PyTraverseError> {
        visit.call(&self.budget)?;
        self.clock.visit(&visit)
    }

    fn begin(slf: &Bound<'_, Self>) -> PyResult<RetryCall> {
        let py = slf.py();
        let counted = match &slf.get().budget {
            Some(budget) => {
                let budget = budget.get();
                budget.counted().enter(budget.clock.now(py)?)
            }
            None => None,
        };
        Ok(RetryCall {
            owner: slf.clone().unbind(),
            attempts: AtomicU32::new(1),
            call: Held::new(counted),
            retry: Held::new(None),
            ended: AtomicBool::new(false),
        })
    }
}

/// A lease that is given back once, in the process that took it: a fork's copy is not its own. No
/// lease is zero. Relaxed: it publishes nothing.
struct Held {
    lease: AtomicU64,
    process: AtomicU64,
}

impl Held {
    fn new(lease: Option<Lease>) -> Self {
        let number = lease.map_or(0, |lease| u64::from(lease.number()) + 1);
        Self { lease: AtomicU64::new(number), process: AtomicU64::new(process()) }
    }

    fn put(&self, lease: Lease) {
        self.process.store(process(), Ordering::Relaxed);
        self.lease.store(u64::from(lease.number()) + 1, Ordering::Relaxed);
    }

    fn take(&self) -> Option<Lease> {
        let number = self.lease.swap(0, Ordering::Relaxed).checked_sub(1)?;
        let is_ours = self.process.load(Ordering::Relaxed) == process();
        Some(Lease::from_number(u32::try_from(number).ok().filter(|_| is_ours)?))
    }
}

/// One call with its attempts. Over when it is ended, or dropped.
#[pyclass(frozen, module = "meshcore._core")]
pub struct RetryCall {
    owner: Py<RetryCore>,
    attempts: AtomicU32,
    call: Held,
    retry: Held,
    ended: AtomicBool,
}

#[pymethods]
impl RetryCall {
    fn __traverse__(&self, visit: PyVisit<'_>) -> Result<(), PyTraverseError> {
        visit.call(&self.owner)
    }

    #[getter]
    fn attempts(&self) -> u32 {
        self.attempts.load(Ordering::Relaxed)
    }

    /// The pause before another attempt, if there is to be one.
    #[pyo3(signature = (asked_ns=0, left_ns=None))]
    fn again(&self, py: Python<'_>, asked_ns: u64, left_ns: Option<u64>) -> PyResult<Option<u64>> {
        let owner = self.owner.get();
        self.end_retry();
        let now = owner.clock.now(py)?;
        let until = Nanos(left_ns.map_or(u64::MAX, |left| now.0.saturating_add(left)));
        let (done, random) = (self.attempts(), owner.random.next());
        let Some(at) = owner.rules.next(done, Nanos(asked_ns), (now, until), random) else {
            return Ok(None);
        };
        if self.ended.load(Ordering::Relaxed) {
            return Ok(None);
        }
        if let Some(budget) = &owner.budget {
            let budget = budget.get();
            match budget.counted().try_retry(budget.clock.now(py)?) {
                Some(retry) => self.retry.put(retry),
                None => return Ok(None),
            }
        }
        self.attempts.fetch_add(1, Ordering::Relaxed);
        Ok(Some(at.0 - now.0))
    }

    fn end(&self) {
        self.ended.store(true, Ordering::Relaxed);
        self.end_retry();
        if let (Some(budget), Some(call)) = (&self.owner.get().budget, self.call.take()) {
            budget.get().counted().leave(call);
        }
    }
}

impl RetryCall {
    fn end_retry(&self) {
        if let (Some(budget), Some(retry)) = (&self.owner.get().budget, self.retry.take()) {
            budget.get().counted().end_retry(retry);
        }
    }
}

impl Drop for RetryCall {
    fn drop(&mut self) {
        self.end();
    }
}

/// How long a `retry-after` asks to be left alone, in nanoseconds; `date`: of its response.
#[pyfunction]
#[pyo3(signature = (value, date=None))]
pub(crate) fn retry_after_ns(value: &str, date: Option<&str>) -> Option<u64> {
    let unix_s = || unix_ms() / 1000;
    back_off::retry_after(value.as_bytes(), date.map(str::as_bytes), unix_s).map(|asked| asked.0)
}
