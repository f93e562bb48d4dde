//! The clocks, which only the binding reads: the core takes time as an argument.

use std::cell::Cell;

use meshcore_core::calendar::{DateCache, HttpDate};
use meshcore_core::time::Nanos;
use pyo3::exceptions::PyOverflowError;
use pyo3::prelude::*;
use rustix::time::{ClockId, clock_gettime};

/// A time of this clock that is handed in with a request's calls. Taken as a signed number, which
/// has room for it: CPython has a short way for those, and none for unsigned ones.
#[derive(Clone, Copy)]
pub(crate) struct Ns(pub(crate) u64);

impl<'py> FromPyObject<'_, 'py> for Ns {
    type Error = PyErr;

    fn extract(object: Borrowed<'_, 'py, PyAny>) -> PyResult<Self> {
        let signed: i64 = object.extract()?;
        let time = u64::try_from(signed);
        time.map(Self).map_err(|_| PyOverflowError::new_err("a time before the beginning"))
    }
}

impl From<Ns> for Nanos {
    fn from(time: Ns) -> Self {
        Self(time.0)
    }
}

/// Nanoseconds of `CLOCK_MONOTONIC`, the same in all processes of a host.
#[pyfunction]
pub(crate) fn now_ns() -> u64 {
    let t = clock_gettime(ClockId::Monotonic);
    t.tv_sec as u64 * 1_000_000_000 + t.tv_nsec as u64
}

/// How late [`coarse_ns`] may be: a tick of the slowest kernels, 100 in a second.
pub(crate) const COARSE: Nanos = Nanos::from_millis(10);

/// [`now_ns`], or the same at the last tick of the kernel, which costs a fifth.
#[inline]
pub(crate) fn either_ns(coarse: bool) -> u64 {
    let t = clock_gettime(if coarse { ClockId::MonotonicCoarse } else { ClockId::Monotonic });
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
