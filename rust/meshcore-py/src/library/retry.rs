//! Retries of one's own calls, decided as the proxy's are.

use std::sync::atomic::{AtomicBool, AtomicU8, AtomicU32, AtomicU64, Ordering};

use meshcore_core::admission::{BackOff, GaveUp, Lease, LeasedBudget, RetryRules, back_off};
use meshcore_core::segment::Block;
use meshcore_core::time::Nanos;
use pyo3::gc::{PyTraverseError, PyVisit};
use pyo3::prelude::*;

use super::Words;
use super::clock::Clock;
use super::random::{Random, process};
use crate::clock::unix_ms;
use crate::whole::whole;

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
    counts: Counts,
}

/// What became of calls, in this process. Relaxed: each publishes nothing.
#[derive(Debug, Default)]
struct Counts {
    begun: AtomicU64,
    retries: AtomicU64,
    paused_ns: AtomicU64,
    /// By [`End`], and whether there was a retry.
    ends: [[AtomicU64; 2]; 3],
    /// By [`GaveUp`].
    gave_up: [AtomicU64; 4],
}

/// How a call ended.
#[derive(Clone, Copy)]
enum End {
    /// Not said.
    BrokenOff,
    Succeeded,
    Failed,
}

fn read<const N: usize>(counts: &[AtomicU64; N]) -> [u64; N] {
    counts.each_ref().map(|count| count.load(Ordering::Relaxed))
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
        let (clock, random, counts) = (Clock::new(clock), Random::new(seed), Counts::default());
        Self { rules, budget, clock, random, counts }
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
        slf.get().counts.begun.fetch_add(1, Ordering::Relaxed);
        Ok(RetryCall {
            owner: slf.clone().unbind(),
            attempts: AtomicU32::new(1),
            call: Held::new(counted),
            retry: Held::new(None),
            end: AtomicU8::new(End::BrokenOff as u8),
            ended: AtomicBool::new(false),
        })
    }

    /// Calls, retries and nanoseconds of pauses; how calls ended; why it was given up.
    #[pyo3(name = "_figures")]
    fn figures(&self) -> ([u64; 3], [[u64; 2]; 3], [u64; 4]) {
        let Counts { begun, retries, paused_ns, ends, gave_up } = &self.counts;
        let all = [begun, retries, paused_ns].map(|count| count.load(Ordering::Relaxed));
        (all, ends.each_ref().map(read), read(gave_up))
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
    /// An [`End`].
    end: AtomicU8,
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
    #[pyo3(signature = (asked_ns=None, left_ns=None))]
    fn again(
        &self,
        py: Python<'_>,
        asked_ns: Option<&Bound<'_, PyAny>>,
        left_ns: Option<&Bound<'_, PyAny>>,
    ) -> PyResult<Option<u64>> {
        let owner = self.owner.get();
        let asked_ns = asked_ns.map_or(Ok(0), |asked| whole("asked_ns", asked, u64::MAX))?;
        let left_ns = left_ns.map(|left| whole("left_ns", left, u64::MAX)).transpose()?;
        self.end_retry();
        let now = owner.clock.now(py)?;
        let until = Nanos(left_ns.map_or(u64::MAX, |left| now.0.saturating_add(left)));
        let (done, random) = (self.attempts(), owner.random.next());
        if self.ended.load(Ordering::Relaxed) {
            return Ok(None);
        }
        let at = match owner.rules.next(done, Nanos(asked_ns), (now, until), random) {
            Ok(at) => at,
            Err(why) => return Ok(self.give_up(why)),
        };
        if let Some(budget) = &owner.budget {
            let budget = budget.get();
            match budget.counted().try_retry(budget.clock.now(py)?) {
                Some(retry) => self.retry.put(retry),
                None => return Ok(self.give_up(GaveUp::Budget)),
            }
        }
        self.attempts.fetch_add(1, Ordering::Relaxed);
        let pause = at.0 - now.0;
        owner.counts.retries.fetch_add(1, Ordering::Relaxed);
        owner.counts.paused_ns.fetch_add(pause, Ordering::Relaxed);
        Ok(Some(pause))
    }

    fn succeed(&self) {
        self.end.store(End::Succeeded as u8, Ordering::Relaxed);
        self.end();
    }

    /// With what no attempt follows.
    fn fail(&self) {
        self.end.store(End::Failed as u8, Ordering::Relaxed);
    }

    /// The pause took until the call was not waited for any more: no attempt follows it.
    fn too_late(&self) {
        self.attempts.fetch_sub(1, Ordering::Relaxed);
        self.owner.get().counts.retries.fetch_sub(1, Ordering::Relaxed);
        self.give_up(GaveUp::Deadline);
    }

    /// An attempt was, if nothing is known of its end.
    fn cut_off(&self) {
        if self.end.load(Ordering::Relaxed) == End::BrokenOff as u8 {
            self.give_up(GaveUp::Deadline);
        }
    }

    fn end(&self) {
        if !self.ended.swap(true, Ordering::Relaxed) {
            let (end, retried) = (self.end.load(Ordering::Relaxed), self.attempts() > 1);
            let ends = &self.owner.get().counts.ends;
            ends[usize::from(end)][usize::from(retried)].fetch_add(1, Ordering::Relaxed);
        }
        self.end_retry();
        if let (Some(budget), Some(call)) = (&self.owner.get().budget, self.call.take()) {
            budget.get().counted().leave(call);
        }
    }
}

impl RetryCall {
    fn give_up(&self, why: GaveUp) -> Option<u64> {
        self.owner.get().counts.gave_up[why as usize].fetch_add(1, Ordering::Relaxed);
        self.fail();
        None
    }

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
