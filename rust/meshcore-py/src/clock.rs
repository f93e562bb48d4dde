//! The clocks, which only the binding reads: the core takes time as an argument.

use std::cell::Cell;

use meshcore_core::calendar::{DateCache, HttpDate};
use pyo3::prelude::*;
use rustix::time::{ClockId, clock_gettime};

/// Nanoseconds of `CLOCK_MONOTONIC`, the same in all processes of a host.
#[pyfunction]
pub(crate) fn now_ns() -> u64 {
    let t = clock_gettime(ClockId::Monotonic);
    t.tv_sec as u64 * 1_000_000_000 + t.tv_nsec as u64
}

thread_local! {
    static DATE: Cell<DateCache> = Cell::default();
}

/// The `date` of a message that is written now.
pub(crate) fn http_date() -> HttpDate {
    DATE.with(|cell| {
        let mut cache = cell.get();
        let date = cache.at(unix_ms() / 1000);
        cell.set(cache);
        date
    })
}

/// Milliseconds of the calendar, for ids, logs and dates: the coarse clock costs a quarter.
pub(crate) fn unix_ms() -> u64 {
    let t = clock_gettime(ClockId::RealtimeCoarse);
    t.tv_sec as u64 * 1000 + t.tv_nsec as u64 / 1_000_000
}
