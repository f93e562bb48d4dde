//! A balancer, and the attempt at the endpoint that it picked.

use std::sync::Arc;

use arc_swap::ArcSwap;
use meshcore_core::admission::Outcome;
use meshcore_core::balance::{
    Endpoint, EndpointOutcome, EndpointPermit, EndpointState, Picked, Picker, Rng, Tried,
};
use meshcore_core::segment::Block;
use meshcore_core::snapshot::{Ejection, Upstream};
use meshcore_core::time::Nanos;
use pyo3::exceptions::PyValueError;
use pyo3::gc::{PyTraverseError, PyVisit};
use pyo3::prelude::*;
use pyo3::types::{PyTuple, PyType};

use super::classifier::Classifier;
use super::clock::Clock;
use super::random::Random;
use crate::errors;

/// Picks endpoints of one service.
#[pyclass(frozen, subclass, module = "meshcore._core")]
pub struct BalancerCore {
    picker: ArcSwap<Picker>,
    rules: Option<Ejection>,
    upstream: Upstream,
    turns: Block,
    clock: Clock,
    random: Random,
    classifier: Classifier,
    /// `NoHealthyEndpoint` of this object's interpreter.
    refusal: Py<PyType>,
}

impl BalancerCore {
    /// A picker of these endpoints, in which those that were there keep what is known of them.
    fn picker(&self, endpoints: &[meshcore_core::snapshot::Endpoint], old: &[Endpoint]) -> Picker {
        let known: std::collections::HashMap<_, _> =
            old.iter().map(|e| (e.address.as_str(), &e.state)).collect();
        let endpoints = endpoints.iter().map(|e| Endpoint {
            state: known.get(e.address.as_str()).map_or_else(new_state, |&state| state.clone()),
            weight: e.weight,
            address: e.address.clone(),
        });
        let turns = self.turns.clone();
        Picker::with_sequence(self.upstream.balance, endpoints.collect(), turns)
    }
}

fn new_state() -> EndpointState {
    EndpointState::new(Block::private(EndpointState::WORDS), 0)
}

fn parse(upstream: &str) -> PyResult<Upstream> {
    serde_json::from_str(upstream).map_err(|e| PyValueError::new_err(e.to_string()))
}

#[pymethods]
impl BalancerCore {
    #[new]
    #[pyo3(signature = (upstream, seed, failure_on, clock=None))]
    fn new(
        py: Python<'_>,
        upstream: &str,
        seed: u64,
        failure_on: &Bound<'_, PyTuple>,
        clock: Option<Py<PyAny>>,
    ) -> PyResult<Self> {
        let upstream = parse(upstream)?;
        let new = Self {
            picker: ArcSwap::from_pointee(Picker::new(upstream.balance, Arc::new([]))),
            rules: upstream.ejection.clone(),
            turns: Block::private(Picker::WORDS),
            clock: Clock::new(clock),
            random: Random::new(seed),
            classifier: Classifier::new(failure_on, None, None)?,
            refusal: errors::class(py, "NoHealthyEndpoint")?,
            upstream,
        };
        new.picker.store(Arc::new(new.picker(&new.upstream.endpoints, &[])));
        Ok(new)
    }

    fn __traverse__(&self, visit: PyVisit<'_>) -> Result<(), PyTraverseError> {
        self.classifier.visit(&visit)?;
        self.clock.visit(&visit)
    }

    fn replace_endpoints(&self, upstream: &str) -> PyResult<()> {
        let endpoints = parse(upstream)?.endpoints;
        self.picker.rcu(|old| self.picker(&endpoints, old.endpoints()));
        Ok(())
    }

    #[pyo3(signature = (tried=None))]
    fn pick(slf: &Bound<'_, Self>, tried: Option<Vec<PyRef<'_, Attempt>>>) -> PyResult<Attempt> {
        let this = slf.get();
        let picker = this.picker.load_full();
        let mut left_out = Tried::new();
        for attempt in tried.iter().flatten() {
            // By address: the endpoints may have been replaced since.
            let at =
                picker.endpoints().iter().position(|e| e.address == attempt.endpoint().address);
            at.into_iter().for_each(|index| left_out.insert(index));
        }
        let mut rng = Rng::new(this.random.next());
        let picked = picker.pick(this.clock.now(slf.py())?, &mut rng, &left_out);
        let Some(Picked { index, permit, .. }) = picked else {
            return Err(PyErr::from_type(this.refusal.bind(slf.py()).clone(), ()));
        };
        picker.endpoints()[index].state.enter();
        Ok(Attempt { owner: slf.clone().unbind(), picker, index, permit: Some(permit) })
    }

    fn set_draining(&self, address: &str, on: bool) -> PyResult<()> {
        let picker = self.picker.load();
        let found = picker.endpoints().iter().find(|e| e.address == address);
        let found = found
            .ok_or_else(|| PyValueError::new_err(format!("no endpoint is called {address:?}")))?;
        found.state.set_draining(on);
        Ok(())
    }

    fn endpoints(&self) -> Vec<(String, u16, u64, bool, bool)> {
        let picker = self.picker.load();
        let names = picker.endpoints().iter().map(|e| {
            let state = &e.state;
            let (in_flight, out) = (state.in_flight(), state.is_ejected());
            (e.address.clone(), e.weight, in_flight, out, state.draining())
        });
        names.collect()
    }
}

/// One attempt: in flight until it is settled. Dropped unsettled it says nothing.
#[pyclass(module = "meshcore._core")]
pub struct Attempt {
    owner: Py<BalancerCore>,
    picker: Arc<Picker>,
    index: usize,
    permit: Option<EndpointPermit>,
}

#[pymethods]
impl Attempt {
    fn __traverse__(&self, visit: PyVisit<'_>) -> Result<(), PyTraverseError> {
        visit.call(&self.owner)
    }

    #[getter]
    fn address(&self) -> &str {
        &self.endpoint().address
    }

    fn success(&mut self, py: Python<'_>) -> PyResult<()> {
        self.settle_now(py, EndpointOutcome::Ok)
    }

    fn failure(&mut self, py: Python<'_>) -> PyResult<()> {
        self.settle_now(py, EndpointOutcome::Failed)
    }

    fn cancel(&mut self, py: Python<'_>) -> PyResult<()> {
        self.settle_now(py, EndpointOutcome::Neutral)
    }

    fn __enter__(slf: Bound<'_, Self>) -> Bound<'_, Self> {
        slf
    }

    fn __exit__(
        &mut self,
        py: Python<'_>,
        kind: Option<&Bound<'_, PyAny>>,
        error: Option<&Bound<'_, PyAny>>,
        _trace: &Bound<'_, PyAny>,
    ) -> PyResult<()> {
        let classifier = &self.owner.get().classifier;
        let said = error.or(kind).map_or(Ok(Outcome::Success), |raised| classifier.of(raised))?;
        let outcome = match said {
            Outcome::Success => EndpointOutcome::Ok,
            Outcome::Failure => EndpointOutcome::Failed,
            Outcome::Neutral => EndpointOutcome::Neutral,
        };
        self.settle_now(py, outcome)
    }
}

impl Attempt {
    fn endpoint(&self) -> &Endpoint {
        &self.picker.endpoints()[self.index]
    }

    fn settle_now(&mut self, py: Python<'_>, outcome: EndpointOutcome) -> PyResult<()> {
        let now = self.owner.get().clock.now(py)?;
        self.settle(outcome, now);
        Ok(())
    }

    /// Once: later calls do nothing.
    fn settle(&mut self, outcome: EndpointOutcome, now: Nanos) {
        if let Some(permit) = self.permit.take() {
            self.endpoint().state.leave();
            let rules = self.owner.get().rules.as_ref();
            self.picker.settle(self.index, permit, outcome, now, rules);
        }
    }
}

impl Drop for Attempt {
    fn drop(&mut self) {
        // Only a probe's place needs giving back, and that at any time.
        self.settle(EndpointOutcome::Neutral, Nanos(0));
    }
}
