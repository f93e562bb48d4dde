//! Deadlines of many connections.

use meshcore_core::deadlines;
use meshcore_core::time::Nanos;
use pyo3::prelude::*;

/// Not frozen: it belongs to one loop; two threads at once get a `RuntimeError`.
#[pyclass(module = "meshcore._core")]
#[derive(Default)]
pub struct Deadlines(deadlines::Deadlines);

#[pymethods]
impl Deadlines {
    #[new]
    fn new() -> Self {
        Self::default()
    }

    fn add(&mut self, deadline_ns: u64) -> u32 {
        self.0.add(Nanos(deadline_ns))
    }

    fn arm(&mut self, slot: u32, deadline_ns: u64) {
        self.0.arm(slot, Nanos(deadline_ns));
    }

    fn remove(&mut self, slot: u32) {
        self.0.remove(slot);
    }

    fn expired(&mut self, now_ns: u64) -> Vec<u32> {
        self.0.expired(Nanos(now_ns))
    }
}
