//! RST_STREAM that we sent lately: an endpoint counts them, and its connection is shared.

use std::collections::VecDeque;

use crate::time::Nanos;

/// Since rapid reset (CVE-2023-44487) servers end a connection for too many resets, and with it
/// the streams of clients that cancelled nothing. Netty, and so grpc-java, takes 200 in 30 s.
const WINDOW: Nanos = Nanos::from_secs(30);
/// Resets and open streams together: each open stream may still become a reset. Ten below what
/// Netty takes, for those that reach it later than they were sent.
const MOST: usize = 190;

/// When each reset of the window was sent.
///
/// The rule: once there was a reset in the window, no stream is opened unless resets and open
/// streams together are below [`MOST`]; and a stream that is over is not reset beyond that. So a
/// connection of at most 100 streams never sends more than 190 resets in 30 s. One that is
/// configured for more than 190 streams, and resets all of them at once, sends as many.
#[derive(Debug, Default)]
pub(super) struct SentResets {
    at: VecDeque<Nanos>,
    /// Sent since the time was last told: they count as sent when it is told next, never earlier
    /// than they were.
    fresh: usize,
}

impl SentResets {
    /// One is sent.
    pub(super) fn add(&mut self) {
        self.fresh += 1;
    }

    /// It is `now`.
    pub(super) fn pass(&mut self, now: Nanos) {
        self.at.extend(std::iter::repeat_n(now, std::mem::take(&mut self.fresh)));
        while self.at.front().is_some_and(|at| now.since(*at) >= WINDOW) {
            self.at.pop_front();
        }
    }

    /// How many more resets there may be, open streams counted as such; `None`: none was sent
    /// lately, and nothing is to be minded.
    pub(super) fn left(&self, open: usize) -> Option<usize> {
        match self.at.len() + self.fresh {
            0 => None,
            sent => Some(MOST.saturating_sub(sent + open)),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn they_count_for_thirty_seconds_from_when_the_time_is_told() {
        let mut resets = SentResets::default();
        assert_eq!(resets.left(500), None);
        resets.pass(Nanos::from_secs(1));
        resets.add();
        assert_eq!((resets.left(9), resets.left(500)), (Some(180), Some(0)));
        resets.pass(Nanos::from_secs(40));
        resets.pass(Nanos::from_secs(69));
        assert_eq!(resets.left(9), Some(180));
        resets.pass(Nanos::from_secs(70));
        assert_eq!(resets.left(9), None);
    }
}
