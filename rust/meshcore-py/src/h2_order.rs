//! The meter of frames and the order of streams, for the engine on the package `h2`.

use meshcore_core::codec::h2::{FrameRate, Meter, Priority, Schedule};
use meshcore_core::time::Nanos;
use pyo3::prelude::*;

/// Urgency, and whether parts are of use by themselves.
type Wish = (u8, bool);

const fn wish(priority: Priority) -> Wish {
    (priority.urgency, priority.incremental)
}

/// Reads a `priority` field.
#[pyfunction]
pub(crate) fn h2_priority(value: &[u8]) -> Wish {
    wish(Priority::parse(value))
}

/// Not frozen: it belongs to one connection of one loop.
#[pyclass(module = "meshcore._core")]
pub struct H2Meter(Meter);

#[pymethods]
impl H2Meter {
    #[new]
    fn new(server: bool, resets: (u32, u32), control_frames: (u32, u32), now_ns: u64) -> Self {
        let rate = |(per_second, burst)| FrameRate { per_second, burst };
        Self(Meter::new(server, rate(resets), rate(control_frames), Nanos(now_ns)))
    }

    fn scan(&mut self, data: &[u8], now_ns: u64) -> Option<u8> {
        self.0.scan(data, Nanos(now_ns)).err().map(|flood| flood as u8)
    }

    fn fault(&mut self, now_ns: u64) -> Option<u8> {
        self.0.fault(Nanos(now_ns)).err().map(|flood| flood as u8)
    }

    fn reset_of_closed(&mut self, now_ns: u64) -> Option<u8> {
        self.0.reset_of_closed(Nanos(now_ns)).err().map(|flood| flood as u8)
    }

    fn padding_only(&mut self, now_ns: u64) -> Option<u8> {
        self.0.padding_only(Nanos(now_ns)).err().map(|flood| flood as u8)
    }

    fn sent_data(&mut self, frames: u32) {
        self.0.sent_data(frames);
    }

    fn take_priorities(&mut self) -> Vec<(u32, Wish)> {
        self.0.take_priorities().map(|(stream, priority)| (stream, wish(priority))).collect()
    }
}

/// Not frozen: it belongs to one connection of one loop.
#[pyclass(module = "meshcore._core")]
pub struct H2Schedule {
    schedule: Schedule,
    served: u32,
}

#[pymethods]
impl H2Schedule {
    #[new]
    fn new() -> Self {
        Self { schedule: Schedule::default(), served: 0 }
    }

    fn insert(&mut self, stream: u32, priority: Wish) {
        let (urgency, incremental) = priority;
        self.schedule.insert(stream, Priority { urgency, incremental });
    }

    fn next(&mut self) -> Option<u32> {
        let next = self.schedule.next(self.served)?;
        self.served = self.served.wrapping_add(1);
        Some(next)
    }
}
