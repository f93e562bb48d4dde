//! A circuit breaker and the leave that it gives.

use meshcore_core::admission::{Breaker, BreakerPermit, Endpoints, Outcome, Weight};
use meshcore_core::segment::Block;
use meshcore_core::snapshot;
use meshcore_core::time::Nanos;
use pyo3::exceptions::PyValueError;
use pyo3::gc::{PyTraverseError, PyVisit};
use pyo3::prelude::*;
use pyo3::types::{PyDict, PyTuple, PyType};

use super::Words;
use super::blocks::{self, Blocks};
use super::causes::Causes;
use super::classifier::Classifier;
use super::clock::Clock;
use super::counts::Counts;
use super::now::Now;
use super::permit::{Held, Permit};
use super::random::{Random, process};
use super::watch::{Watch, name_of};
use crate::clock::{COARSE, either_ns};
use crate::errors;

/// One circuit breaker.
#[pyclass(frozen, subclass, module = "meshcore._core")]
pub struct BreakerCore {
    breaker: Breaker,
    clock: Clock,
    random: Random,
    classifier: Classifier,
    pub(super) blocks: Blocks,
    watch: Option<Watch>,
    name: Option<String>,
    /// Called instead of a function that may not be.
    fallback: Option<Py<PyAny>>,
    counts: Counts,
    causes: Causes,
    /// `BreakerOpen` of this object's interpreter.
    pub(super) refusal: Py<PyType>,
    /// Its rules as JSON, defaults and all.
    rules_text: Box<str>,
    /// Whether other processes have its words.
    shared: bool,
    /// It has no listeners, times no calls, is not shared and has no other clock: then most calls
    /// need none of what goes on about a call.
    plain: bool,
    /// Whether the kernel's last tick is time enough for successes.
    tolerates_coarse: bool,
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
            let inner = outer.and_then(|outer| this.breaker.within(outer.get().held.permit, now));
            if let Some(permit) = inner {
                return Ok(permit);
            }
        }
        let asked = this.breaker.acquire(now);
        if let Err(error) = Self::emit_state(slf) {
            if let Ok(permit) = asked {
                this.give_back(permit);
            }
            return Err(error);
        }
        asked.or_else(|open| {
            this.counts.refuse();
            let text = match &this.name {
                Some(name) => format!("circuit breaker {name} is open"),
                None => "circuit breaker is open".to_owned(),
            };
            let refusal = this.refusal.bind(py).clone();
            let refused = PyErr::from_type(refusal, (text, open.retry_after.0, this.name.clone()));
            if let Some(watch) = &this.watch {
                let raised = refused.value(py).as_any();
                watch.emit_call(slf, "refused", Nanos::ZERO, Some(raised))?;
            }
            Err(refused)
        })
    }

    /// The same with its time.
    #[inline]
    pub(super) fn admit_held(slf: &Bound<'_, Self>) -> PyResult<Held> {
        let this = slf.get();
        match this.breaker.acquire_closed() {
            Some(permit) if this.plain => Ok(Held::new(permit, Nanos::ZERO, this.counts.begin())),
            _ => Self::admit_at_length(slf),
        }
    }

    #[inline(never)]
    fn admit_at_length(slf: &Bound<'_, Self>) -> PyResult<Held> {
        let permit = Self::admit(slf)?;
        let this = slf.get();
        let since = match &this.watch {
            Some(watch) if watch.times_calls() => this.clock.now(slf.py()),
            _ => Ok(Nanos::ZERO),
        };
        match since {
            Ok(since) => Ok(Held::new(permit, since, this.counts.begin())),
            Err(error) => {
                this.give_back(permit);
                Err(error)
            }
        }
    }

    /// Whether its end is this process's to tell: of a fork's copies the parent's is.
    #[inline]
    fn is_ours(&self, held: Held) -> bool {
        !self.shared || held.process == process()
    }

    /// Only a probe's place needs giving back, and that at any time.
    pub(super) fn drop_permit(&self, held: Held) {
        if self.is_ours(held) {
            self.counts.add(Outcome::Neutral);
            self.give_back(held.permit);
        }
    }

    fn give_back(&self, permit: BreakerPermit) {
        self.breaker.settle(permit, Outcome::Neutral, Nanos(0), self.random.next());
    }

    #[inline]
    fn succeed(slf: &Bound<'_, Self>, held: Held) -> PyResult<()> {
        let this = slf.get();
        if !this.plain {
            return Self::settle(slf, held, Outcome::Success, None);
        }
        this.counts.add(Outcome::Success);
        let now = Nanos(either_ns(this.tolerates_coarse && !held.permit.is_probe()));
        this.breaker.settle_with(held.permit, Outcome::Success, now, || this.random.next());
        Ok(())
    }

    /// `raised`: for listeners.
    #[inline(never)]
    pub(super) fn settle(
        slf: &Bound<'_, Self>,
        held: Held,
        outcome: Outcome,
        raised: Option<&Bound<'_, PyAny>>,
    ) -> PyResult<()> {
        let this = slf.get();
        if !this.is_ours(held) {
            return Ok(());
        }
        let now = match this.clock.now(slf.py()) {
            Ok(now) => now,
            Err(error) => {
                this.drop_permit(held);
                return Err(error);
            }
        };
        if let Some(watch) = &this.watch {
            return Self::settle_watched(slf, watch, held, (outcome, now), raised);
        }
        this.counts.add(outcome);
        this.breaker.settle_with(held.permit, outcome, now, || this.random.next());
        Ok(())
    }

    #[cold]
    fn settle_watched(
        slf: &Bound<'_, Self>,
        watch: &Watch,
        held: Held,
        (outcome, now): (Outcome, Nanos),
        raised: Option<&Bound<'_, PyAny>>,
    ) -> PyResult<()> {
        let (this, took) = (slf.get(), now.since(held.since));
        let rand = this.random.next();
        let slow = watch.is_slow(outcome, took);
        if slow {
            // As in the proxy: a service that answers late is there.
            let all = Endpoints { failed: 0, choosable: 0 };
            this.breaker.settle_named(held.permit, Weight::RateOnly, all, now, rand);
        } else {
            this.breaker.settle(held.permit, outcome, now, rand);
        }
        let (outcome, name) = match outcome {
            _ if slow => (Outcome::Failure, "slow"),
            Outcome::Success => (outcome, "success"),
            Outcome::Failure => (outcome, "failure"),
            Outcome::Neutral => (outcome, "neutral"),
        };
        this.counts.add(outcome);
        watch.emit_call(slf, name, took, raised)?;
        Self::emit_state(slf)
    }

    fn emit_state(slf: &Bound<'_, Self>) -> PyResult<()> {
        match &slf.get().watch {
            Some(watch) => watch.emit_state(slf, slf.get().breaker.written_state()),
            None => Ok(()),
        }
    }

    /// Settles by how the call ended.
    #[inline]
    pub(super) fn end(
        slf: &Bound<'_, Self>,
        held: Held,
        raised: Option<&Bound<'_, PyAny>>,
    ) -> PyResult<()> {
        match raised {
            None => Self::succeed(slf, held),
            Some(error) => Self::end_raised(slf, held, error),
        }
    }

    #[inline(never)]
    fn end_raised(slf: &Bound<'_, Self>, held: Held, raised: &Bound<'_, PyAny>) -> PyResult<()> {
        let BreakerCore { causes, classifier, counts, .. } = slf.get();
        let said = causes.classify(raised, held.began, classifier, counts);
        Self::settle_classified(slf, held, said, Some(raised))
    }

    /// Settles by what the call returned.
    #[inline]
    pub(super) fn end_with(
        slf: &Bound<'_, Self>,
        held: Held,
        result: &Bound<'_, PyAny>,
    ) -> PyResult<()> {
        if slf.get().classifier.classifies_results() {
            return Self::end_by_result(slf, held, result);
        }
        Self::succeed(slf, held)
    }

    #[inline(never)]
    fn end_by_result(slf: &Bound<'_, Self>, held: Held, result: &Bound<'_, PyAny>) -> PyResult<()> {
        let said = slf.get().classifier.of_result(result).unwrap_or(Ok(Outcome::Success));
        Self::settle_classified(slf, held, said, None)
    }

    /// The functions of a program may raise: then the call says nothing.
    fn settle_classified(
        slf: &Bound<'_, Self>,
        held: Held,
        said: PyResult<Outcome>,
        raised: Option<&Bound<'_, PyAny>>,
    ) -> PyResult<()> {
        Self::settle(slf, held, *said.as_ref().unwrap_or(&Outcome::Neutral), raised)?;
        said.map(drop)
    }
}

/// What classifies the ends of calls: classes of failures, a function that knows better, and one
/// for results.
type Classifying<'py> = (Bound<'py, PyTuple>, Option<Py<PyAny>>, Option<Py<PyAny>>);
/// Listeners to calls and to changes, each with what makes their events.
type Listening = (Option<(Py<PyTuple>, Py<PyAny>)>, Option<(Py<PyTuple>, Py<PyAny>)>);

#[pymethods]
impl BreakerCore {
    #[new]
    #[pyo3(signature = (rules, classifying, listening, seed, name, fallback, clock=None, words=None))]
    #[allow(clippy::too_many_arguments)] // each once, from `CircuitBreaker.__new__`
    fn new(
        py: Python<'_>,
        rules: &str,
        classifying: Classifying<'_>,
        listening: Listening,
        seed: u64,
        name: Option<String>,
        fallback: Option<Py<PyAny>>,
        clock: Option<Py<PyAny>>,
        words: Option<&Words>,
    ) -> PyResult<Self> {
        let rules: snapshot::Breaker =
            serde_json::from_str(rules).map_err(|e| PyValueError::new_err(e.to_string()))?;
        let text =
            serde_json::to_string(&rules).map_err(|e| PyValueError::new_err(e.to_string()))?;
        let private = || Block::private(Breaker::WORDS);
        let block = words.map_or_else(private, |words| words.block.clone());
        let slow_call = Nanos(rules.slow_call_ns);
        // Processes write different lines, by and large.
        let breaker = Breaker::new(block, rules).on_worker(seed as usize);
        let (clock, random, shared) = (Clock::new(clock), Random::new(seed), words.is_some());
        let refusal = errors::class(py, "BreakerOpen")?;
        let classifier = Classifier::new(&classifying.0, classifying.1, classifying.2)?;
        let watch = Watch::new(slow_call, listening.0, listening.1, breaker.written_state());
        let blocks = Blocks::new(watch.as_ref().is_some_and(Watch::times_calls));
        let plain = watch.is_none() && clock.is_own() && !shared;
        let (counts, causes, rules_text) = (Counts::default(), Causes::new(seed), text.into());
        Ok(Self {
            tolerates_coarse: breaker.tolerates(COARSE),
            breaker,
            clock,
            random,
            classifier,
            blocks,
            watch,
            name,
            fallback,
            counts,
            causes,
            refusal,
            rules_text,
            shared,
            plain,
        })
    }

    fn __traverse__(&self, visit: PyVisit<'_>) -> Result<(), PyTraverseError> {
        self.classifier.visit(&visit)?;
        self.watch.iter().try_for_each(|watch| watch.visit(&visit))?;
        visit.call(&self.fallback)?;
        self.clock.visit(&visit)
    }

    #[pyo3(name = "acquire")]
    pub(super) fn permit(slf: &Bound<'_, Self>) -> PyResult<Permit> {
        Ok(Permit::new(slf, Self::admit_held(slf)?))
    }

    #[pyo3(signature = (function, /, *args, **kwargs))]
    fn call<'py>(
        slf: &Bound<'py, Self>,
        function: &Bound<'py, PyAny>,
        args: &Bound<'py, PyTuple>,
        kwargs: Option<&Bound<'py, PyDict>>,
    ) -> PyResult<Bound<'py, PyAny>> {
        Self::run::<false>(slf, (function, slf.get().fallback.as_ref()), args, kwargs)
    }

    #[pyo3(name = "_call_decorated", signature = (fallback, function, /, *args, **kwargs))]
    fn call_decorated<'py>(
        slf: &Bound<'py, Self>,
        fallback: Option<&Bound<'py, PyAny>>,
        function: &Bound<'py, PyAny>,
        args: &Bound<'py, PyTuple>,
        kwargs: Option<&Bound<'py, PyDict>>,
    ) -> PyResult<Bound<'py, PyAny>> {
        Self::run::<true>(slf, (function, fallback.map(Bound::as_unbound)), args, kwargs)
    }

    #[inline]
    fn __enter__(slf: &Bound<'_, Self>) -> PyResult<()> {
        let this = slf.get();
        if this.blocks.are_inherited() {
            Self::inherit_blocks(slf)?;
        }
        let held = Self::admit_held(slf)?;
        if !this.blocks.count(held.permit, held.began) {
            let permit = Py::new(slf.py(), Permit::new(slf, held))?;
            if let Err(broken_off) = slf.call_method1("_keep", (&permit,)) {
                Self::forget(slf, &permit)?;
                return Err(broken_off);
            }
            this.blocks.known(true);
        }
        Ok(())
    }

    #[inline]
    fn __exit__(
        slf: &Bound<'_, Self>,
        kind: Option<&Bound<'_, PyAny>>,
        error: Option<&Bound<'_, PyAny>>,
        _trace: &Bound<'_, PyAny>,
    ) -> PyResult<()> {
        let (this, raised) = (slf.get(), error.or(kind));
        if this.blocks.are_inherited() {
            Self::inherit_blocks(slf)?;
        }
        if this.blocks.any_known() {
            return Self::exit_known(slf, raised);
        }
        Self::end(slf, this.blocks.leave().ok_or_else(blocks::not_entered)?, raised)
    }

    #[pyo3(name = "_lose")]
    fn lost(slf: &Bound<'_, Self>, block: &Bound<'_, PyAny>) -> PyResult<()> {
        Self::lose(slf, block)
    }

    fn __aenter__(slf: &Bound<'_, Self>) -> PyResult<Now> {
        Self::__enter__(slf).map(|()| Now::default())
    }

    fn __aexit__(
        slf: &Bound<'_, Self>,
        kind: Option<&Bound<'_, PyAny>>,
        error: Option<&Bound<'_, PyAny>>,
        trace: &Bound<'_, PyAny>,
    ) -> PyResult<Now> {
        Self::__exit__(slf, kind, error, trace).map(|()| Now::default())
    }

    #[getter]
    fn state(&self, py: Python<'_>) -> PyResult<&'static str> {
        Ok(name_of(self.breaker.state(self.clock.now(py)?)))
    }

    #[getter(_rules_text)]
    fn rules_text(&self) -> &str {
        &self.rules_text
    }

    #[getter]
    fn name(&self) -> Option<&str> {
        self.name.as_deref()
    }

    #[getter]
    fn fallback(&self, py: Python<'_>) -> Option<Py<PyAny>> {
        self.fallback.as_ref().map(|fallback| fallback.clone_ref(py))
    }

    #[getter(_classifies_results)]
    fn classifies_results(&self) -> bool {
        self.classifier.classifies_results()
    }

    #[pyo3(name = "_figures")]
    #[allow(clippy::type_complexity)] // becomes a named tuple at once
    fn figures(&self, py: Python<'_>) -> PyResult<(&str, u64, u64, u64, u64, [u64; 4])> {
        let found = self.breaker.figures(self.clock.now(py)?);
        Ok((
            name_of(found.state),
            found.left.0,
            found.failures_in_row,
            found.calls,
            found.failures,
            self.counts.totals(),
        ))
    }

    fn force_closed(slf: &Bound<'_, Self>) -> PyResult<()> {
        slf.get().breaker.force_closed();
        Self::emit_state(slf)
    }

    #[pyo3(name = "_force_open_ns")]
    fn force_open_ns(slf: &Bound<'_, Self>, for_ns: u64) -> PyResult<()> {
        let now = slf.get().clock.now(slf.py())?;
        slf.get().breaker.force_open(Nanos(now.0.saturating_add(for_ns)));
        Self::emit_state(slf)
    }
}
