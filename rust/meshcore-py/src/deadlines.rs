//! Deadlines of many connections.

use meshcore_core::deadlines;
use pyo3::prelude::*;

use crate::clock::Ns;

/// Not frozen: it belongs to one loop; two threads at once get a `RuntimeError`.
#[pyclass(module = "meshcore._core")]
#[derive(Default)]
pub struct DeadlineTable(pub(crate) deadlines::DeadlineTable);

#[pymethods]
impl DeadlineTable {
    #[new]
    fn new() -> Self {
        Self::default()
    }

    fn add(&mut self, deadline_ns: Ns) -> u32 {
        self.0.add(deadline_ns.into())
    }

    fn arm(&mut self, slot: u32, deadline_ns: Ns) {
        self.0.arm(slot, deadline_ns.into());
    }

    fn remove(&mut self, slot: u32) {
        self.0.remove(slot);
    }

    fn expired(&mut self, now_ns: Ns) -> Vec<u32> {
        self.0.expired(now_ns.into())
    }
}

/// How long a listener's clients may ask nothing. Not frozen, as the deadlines are not.
#[pyclass(module = "meshcore._core")]
pub struct IdleTime {
    deadlines: Py<DeadlineTable>,
    #[pyo3(get, set)]
    timeout_ns: u64,
}

#[pymethods]
impl IdleTime {
    #[new]
    fn new(deadlines: Py<DeadlineTable>) -> Self {
        Self { deadlines, timeout_ns: 0 }
    }

    pub(crate) fn arm(&self, py: Python<'_>, slot: u32, now_ns: Ns) {
        let due = now_ns.0.saturating_add(self.timeout_ns);
        self.deadlines.borrow_mut(py).0.arm(slot, Ns(due).into());
    }
}
