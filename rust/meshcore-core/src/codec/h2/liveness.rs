//! PINGs of ours: one at a time, to find peers that are gone.

use std::task::{Context, Poll};

use h2::{Ping, PingPong};

/// The crate's handle, once the connection is open.
#[derive(Debug, Default)]
pub(super) struct Liveness {
    pings: Option<PingPong>,
    asked: bool,
}

impl Liveness {
    pub(super) fn open(&mut self, pings: Option<PingPong>) {
        self.pings = pings;
    }

    /// Asks for a sign of life; false: not open yet, or one is asked for already.
    pub(super) fn ask(&mut self) -> bool {
        let sends = |pings: &mut PingPong| pings.send_ping(Ping::opaque()).is_ok();
        let sent = !self.asked && self.pings.as_mut().is_some_and(sends);
        self.asked |= sent;
        sent
    }

    /// Whether the answer came; true once.
    pub(super) fn answered(&mut self, cx: &mut Context<'_>) -> bool {
        if !self.asked {
            return false;
        }
        match self.pings.as_mut().map(|pings| pings.poll_pong(cx)) {
            Some(Poll::Ready(answer)) => {
                self.asked = false;
                answer.is_ok()
            }
            _ => false,
        }
    }
}
