//! The `on_request` of layers that have no other hook, run without a step of Python between them.
//!
//! A plain hook takes its request and says nothing: so the request goes on behind it, and is armed, in
//! the call that ran it. Whatever else comes of a hook goes back to the caller, as what it is.

use meshcore_core::exchange::Arrival;
use pyo3::prelude::*;
use pyo3::{PyTraverseError, PyVisit, intern};

use crate::clock::Ns;
use crate::deadlines::DeadlineTable;
use crate::message::Request;
use crate::numbers::Verdict;
use crate::ticket::Ticket;

/// Not frozen: it belongs to one loop; two threads at once get a `RuntimeError`.
#[pyclass(module = "meshcore._core")]
pub struct RequestHooks {
    /// What each request's context is a copy of.
    context: Py<PyAny>,
    clock: Py<PyAny>,
    /// By number.
    layers: Vec<Option<Py<PyAny>>>,
}

#[pymethods]
impl RequestHooks {
    #[new]
    const fn new(context: Py<PyAny>, clock: Py<PyAny>) -> Self {
        Self { context, clock, layers: Vec::new() }
    }

    fn put_in_force(&mut self, layers: Vec<Option<Py<PyAny>>>) {
        self.layers = layers;
    }

    /// Nothing is borrowed while a hook runs.
    fn run<'py>(
        slf: &Bound<'py, Self>,
        ticket: &Bound<'py, Ticket>,
        request: &Bound<'py, Request>,
    ) -> PyResult<Option<Bound<'py, PyAny>>> {
        let py = slf.py();
        let (mut layer, is_placed) = {
            let ticket = ticket.borrow();
            (slf.borrow().layer(py, &ticket), ticket.place.is_some())
        };
        if !is_placed || layer.is_none() {
            return Ok(None);
        }
        let context = slf.borrow().context.bind(py).call_method0(intern!(py, "copy"))?;
        let clock = slf.borrow().clock.bind(py).clone();
        while let Some(running) = layer {
            let ran = running
                .getattr(intern!(py, "on_request"))
                .and_then(|hook| context.call_method1(intern!(py, "run"), (hook, request)));
            match ran {
                Ok(answer) if answer.is_none() && !ticket.borrow().is_over() => {}
                Ok(answer) => return handed_back(&context, Some(answer), None),
                Err(error) => return handed_back(&context, None, Some(error)),
            }
            let now = clock.call0()?;
            let now_ns: Ns = now.extract()?;
            let mut ticket = ticket.borrow_mut();
            let verdict = ticket.go_on_behind(&mut request.borrow_mut(), now_ns);
            if verdict == Verdict::Forward as u8 {
                ticket.arm_placed(py);
                return Ok(Some(now));
            }
            layer = (verdict == Verdict::Pause as u8)
                .then(|| slf.borrow().layer(py, &ticket))
                .flatten();
        }
        Ok(Some(context))
    }

    fn __traverse__(&self, visit: PyVisit<'_>) -> Result<(), PyTraverseError> {
        self.layers.iter().try_for_each(|layer| visit.call(layer))?;
        visit.call(&self.clock)?;
        visit.call(&self.context)
    }

    fn __clear__(&mut self) {
        self.layers.clear();
    }
}

impl RequestHooks {
    fn layer<'py>(&self, py: Python<'py>, ticket: &Ticket) -> Option<Bound<'py, PyAny>> {
        let layer = self.layers.get(ticket.layer as usize)?.as_ref()?;
        Some(layer.bind(py).clone())
    }
}

impl Ticket {
    /// Its deadline is there, for when it goes on behind a layer.
    pub(crate) fn place(&mut self, deadlines: &Bound<'_, DeadlineTable>, slot: u32) {
        if self.verdict == Verdict::Pause as u8 {
            self.place = Some((deadlines.clone().unbind(), slot));
        }
    }

    fn arm_placed(&mut self, py: Python<'_>) {
        let due = self.ticket.arm();
        if let Some((deadlines, slot)) = &self.place {
            deadlines.borrow_mut(py).0.arm(*slot, due);
        }
    }

    /// Its request has ended, be it while a layer had it.
    fn is_over(&self) -> bool {
        self.ticket.outcome().is_some()
    }

    /// What follows behind a layer that let it pass; of its request, which that was shown.
    pub(crate) fn go_on_behind(&mut self, request: &mut Request, now_ns: Ns) -> u8 {
        if let Some(changed) = request.changed() {
            self.ticket.request_changed(changed);
        }
        let arrival = Arrival { head: request.head(), now: now_ns.into() };
        let verdict = self.listener.get().engine.resume(&mut self.ticket, &arrival);
        request.show_again(&self.ticket);
        self.follow(verdict)
    }
}

fn handed_back<'py>(
    context: &Bound<'py, PyAny>,
    answer: Option<Bound<'py, PyAny>>,
    error: Option<PyErr>,
) -> PyResult<Option<Bound<'py, PyAny>>> {
    let error = error.map(|error| error.into_value(context.py()));
    Ok(Some((context, answer, error).into_pyobject(context.py())?.into_any()))
}
