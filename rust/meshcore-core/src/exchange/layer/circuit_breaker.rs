//! `circuit_breaker`: asks no service that fails; an upstream's own, or a route's at its upstream.

use crate::admission::{Breaker, FailureRules, Request};
use crate::error::Reason;
use crate::exchange::answer::Answer;
use crate::exchange::control::Control;
use crate::exchange::key::Key;
use crate::exchange::ticket::{RequestTicket, Verdict};
use crate::exchange::walk::Walk;
use crate::segment::Kind;
use crate::snapshot;
use crate::time::Nanos;

/// A breaker, and what it takes for a failure.
#[derive(Debug)]
pub struct Guard {
    /// The breaker.
    pub breaker: Breaker,
    /// Its rules.
    pub rules: FailureRules,
}

impl Guard {
    pub(in crate::exchange) fn compile(
        control: &Control,
        key: Key<'_>,
        rules: &snapshot::Breaker,
    ) -> Result<Self, String> {
        let words = control.block(Kind::Breaker, key, Breaker::WORDS)?;
        let breaker = Breaker::new(words, rules.clone()).on_worker(control.worker_slot);
        Ok(Self { breaker, rules: FailureRules::new(rules) })
    }

    /// Takes a permit, which the ticket settles when the request is over. `place`: where the
    /// breaker is set, for the log.
    #[inline]
    pub(in crate::exchange) fn admit(
        &self,
        now: Nanos,
        ticket: &mut RequestTicket,
        place: &'static str,
    ) -> Option<Verdict> {
        let whole = if ticket.body.done { Request::Whole } else { Request::Unfinished };
        match self.breaker.acquire_for(whole, now) {
            Ok(permit) => ticket.breaker = Some(permit),
            Err(open) => {
                let retry_after = Some(open.retry_after);
                let open = Reason::BreakerOpen.into();
                return Some(Verdict::Answer(Answer { retry_after, detail: place, ..open }));
            }
        }
        None
    }
}

/// The breaker of a route. A small body is awaited first: it may be a probe like any other then.
pub(super) fn admit(guard: &Guard, walk: &Walk<'_>, ticket: &mut RequestTicket) -> Option<Verdict> {
    if walk.must_await(ticket) {
        return Some(Verdict::Await);
    }
    guard.admit(walk.now, ticket, "circuit_breaker of the route")
}
