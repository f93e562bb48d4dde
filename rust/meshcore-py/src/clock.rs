//! The clocks, which only the binding reads: the core takes time as an argument.

use pyo3::prelude::*;
use rustix::time::{ClockId, clock_gettime};

/// Nanoseconds of `CLOCK_MONOTONIC`, the same in all processes of a host.
#[pyfunction]
pub(crate) fn now_ns() -> u64 {
    let t = clock_gettime(ClockId::Monotonic);
    t.tv_sec as u64 * 1_000_000_000 + t.tv_nsec as u64
}

/// Milliseconds of the calendar, for ids only: the coarse clock costs a quarter.
pub(crate) fn unix_ms() -> u64 {
    let t = clock_gettime(ClockId::RealtimeCoarse);
    t.tv_sec as u64 * 1000 + t.tv_nsec as u64 / 1_000_000
}
