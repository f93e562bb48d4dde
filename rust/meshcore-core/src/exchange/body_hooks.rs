//! Bodies that layers change on their way: what those make of a request's is what is kept and sent
//! again, and the time that they take is theirs alone.

use super::body::Keep;
use super::deadline::{Awaited, LAYER};
use super::ticket::RequestTicket;
use crate::time::Nanos;

/// Since when a hook has a piece of the request's body, and one of the response's.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct AtWork {
    request: Option<Nanos>,
    response: Option<Nanos>,
}

impl RequestTicket {
    /// Layers make another body of the request's: it ends when they have made its end.
    pub fn make_body(&mut self) {
        self.body.make_anew();
    }

    /// A piece of the request's body came, for layers; [`received`](Self::received) without them.
    pub fn came(&mut self, bytes: u64, now: Nanos) {
        if let Awaited::Byte(_) = self.awaited {
            self.passed(now);
        }
        self.body.come(bytes, now);
    }

    /// How much they made of it; `connected`: an endpoint takes it.
    pub fn made(&mut self, bytes: u64, connected: bool) -> Keep {
        let answered = self.status != 0;
        self.body.make(bytes, connected, answered)
    }

    /// A hook has a piece of the request's body from now on, or of the response's; or not any more.
    pub fn at_work(&mut self, of_request: bool, on: bool, now: Nanos) {
        let at_work = &mut self.changed.get_or_insert_default().at_work;
        let since = if of_request { &mut at_work.request } else { &mut at_work.response };
        *since = on.then_some(now);
        if on {
            return;
        }
        self.last = now; // what is asked again and again was not asked meanwhile
        if of_request {
            self.body.excuse(now);
        }
        if let Awaited::Byte(_) = self.awaited {
            self.passed(now);
        }
    }

    fn working(&self) -> AtWork {
        self.changed.as_ref().map(|changed| changed.at_work).unwrap_or_default()
    }

    /// Whether a hook has a piece of either body: no peer is waited for.
    pub(super) fn is_at_work(&self) -> bool {
        let working = self.working();
        working.request.is_some() || working.response.is_some()
    }

    /// When the hook that began first must have ended.
    pub(super) fn work_due(&self) -> Nanos {
        let working = self.working();
        let first = working.request.into_iter().chain(working.response).min();
        first.map_or(Nanos::MAX, |since| since + LAYER)
    }

    /// Whether the endpoint waits for the request's body, be it for its client or for a hook.
    pub(super) fn is_body_awaited(&self, now: Nanos) -> bool {
        self.body.is_awaited(now) || self.working().request.is_some()
    }

    /// What a gRPC call's client is told in the end, if layers changed the trailers: its service is
    /// classified by its own.
    pub fn trailers_changed(&mut self, grpc: u8) {
        if self.grpc.is_some() {
            self.grpc = Some(grpc);
        }
    }
}
