//! `meshcore._core`: unpack, call the core, map the error. Nothing is decided here.

use pyo3::prelude::*;

#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

/// The native half of meshcore.
#[pymodule(gil_used = false)]
mod _core {
    use super::*;

    /// Nanoseconds of `CLOCK_MONOTONIC`: the clock that every `now_ns` argument is read from.
    #[pyfunction]
    fn now_ns() -> u64 {
        let t = rustix::time::clock_gettime(rustix::time::ClockId::Monotonic);
        t.tv_sec as u64 * 1_000_000_000 + t.tv_nsec as u64
    }

    #[pymodule_init]
    fn init(m: &Bound<'_, PyModule>) -> PyResult<()> {
        m.add("__version__", env!("CARGO_PKG_VERSION"))
    }
}
