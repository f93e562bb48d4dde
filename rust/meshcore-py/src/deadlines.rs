//! Deadlines of many connections.

use meshcore_core::deadlines;
use pyo3::prelude::*;

use crate::clock::Ns;

/// Not frozen: it belongs to one loop; two threads at once get a `RuntimeError`.
#[pyclass(module = "meshcore._core")]
#[derive(Default)]
pub struct Deadlines(pub(crate) deadlines::Deadlines);

#[pymethods]
impl Deadlines {
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
