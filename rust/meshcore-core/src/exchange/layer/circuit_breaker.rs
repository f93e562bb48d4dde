//! `circuit_breaker`: asks no service that fails; an upstream's own, or a route's at its upstream.

use crate::admission::{Breaker, FailureRules, Open, Request};
use crate::error::Reason;
use crate::exchange::answer::Answer;
use crate::exchange::compiler::Compiler;
use crate::exchange::key::Key;
use crate::exchange::ticket::{RequestTicket, Verdict};
use crate::exchange::walk::Walk;
use crate::segment::BlockKind;
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
        compiler: &Compiler,
        key: Key<'_>,
        rules: &snapshot::Breaker,
    ) -> Result<Self, String> {
        let words = compiler.block(BlockKind::Breaker, key, Breaker::WORDS)?;
        let breaker = Breaker::new(words, rules.clone()).on_worker(compiler.worker_slot);
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
        match self.breaker.acquire_for(of(ticket), now) {
            Ok(permit) => {
                ticket.breaker = Some(permit);
                ticket.admitted = now;
                None
            }
            Err(open) => Some(refused(open, place)),
        }
    }
}

/// The breaker of a route where it is written: refuses while it is open, and takes nothing. A probe
/// belongs to a request that goes to the service, and not to one that a later layer may refuse, or
/// take its time over; so the permit is taken when all layers have let it pass. A body that is
/// awaited then is whole by that time.
pub(super) fn look(guard: &Guard, walk: &Walk<'_>, ticket: &mut RequestTicket) -> Option<Verdict> {
    if guard.breaker.acquire_closed().is_some() {
        return None;
    }
    let request = if walk.must_await(ticket) { Request::Whole } else { of(ticket) };
    let open = guard.breaker.look_for(request, walk.now).err()?;
    Some(refused(open, OF_ROUTE))
}

/// Where a route's breaker is set, for the log.
pub(in crate::exchange) const OF_ROUTE: &str = "circuit_breaker of the route";

fn of(ticket: &RequestTicket) -> Request {
    if ticket.body.done { Request::Whole } else { Request::Unfinished }
}

fn refused(open: Open, place: &'static str) -> Verdict {
    let retry_after = Some(open.retry_after);
    Verdict::Answer(Answer { retry_after, detail: place, ..Reason::BreakerOpen.into() })
}
