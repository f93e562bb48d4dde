//! The rate of failures of a breaker: over a time, or over its last calls.

use crate::segment::Line;
use crate::snapshot;
use crate::time::Nanos;

use super::last_calls::LastCalls;
use super::window::{Counts, Window};

/// The rule that a breaker has. Both kinds lie in the same words.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Rate {
    Time(Window),
    Calls { last: LastCalls, percent: u64, min_calls: u64 },
}

impl Rate {
    /// `None` if no rate opens it.
    pub(crate) fn new(rules: &snapshot::Breaker) -> Option<Self> {
        let &snapshot::Breaker { failure_percent: percent, min_calls, last_calls, .. } = rules;
        match (percent, last_calls) {
            (0, _) => None,
            (_, 0) => Some(Self::Time(Window::new(Nanos(rules.window_ns), percent, min_calls))),
            _ => Some(Self::Calls {
                last: LastCalls::new(last_calls),
                percent: u64::from(percent),
                min_calls: u64::from(min_calls).max(1),
            }),
        }
    }

    /// Whether it does not matter if successes are counted by a clock that is `late`.
    pub(crate) fn tolerates(&self, late: Nanos) -> bool {
        match self {
            Self::Time(window) => window.tolerates(late),
            Self::Calls { .. } => true,
        }
    }

    /// Counts a success.
    #[inline]
    pub(crate) fn success(&self, lines: &[Line], stripe: usize, now: Nanos, epoch: u64) {
        match self {
            Self::Time(window) => window.success(lines, stripe, now, epoch),
            Self::Calls { .. } => LastCalls::success(lines, epoch),
        }
    }

    /// Counts a failure of the endpoint with this bit. If the rate is now too high, the bits of all
    /// whose failures are counted; the last calls know none.
    pub(crate) fn failure(&self, lines: &[Line], bit: u64, now: Nanos, epoch: u64) -> Option<u64> {
        match self {
            Self::Time(window) => window.failure(lines, bit, now, epoch),
            Self::Calls { last, percent, min_calls } => {
                last.failure(lines, epoch).are_over(*percent, *min_calls).then_some(0)
            }
        }
    }

    /// What is counted now.
    pub(crate) fn counts(&self, lines: &[Line], now: Nanos, epoch: u64) -> Counts {
        match self {
            Self::Time(window) => window.counts(lines, now, epoch),
            Self::Calls { last, .. } => last.counts(lines, epoch),
        }
    }
}
