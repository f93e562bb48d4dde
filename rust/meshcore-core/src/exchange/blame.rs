//! Who is to blame: what the end of an attempt, or of a request, says to its endpoint and to the
//! breaker. What a client chose, and what we refuse or lack, says nothing; one cause counts once.

use super::ticket::{Report, RequestKind, RequestTicket};
use crate::admission::{Endpoints, FailureRules, Outcome as Settled, Verdict as Finding, What};
use crate::balance::EndpointOutcome;
use crate::error::{Blame, By, Reason};
use crate::time::Nanos;

/// One thing that several requests may meet: the end of the connection that they share, its silence,
/// a connect that failed. It counts once, for the first of them that is told of it as a failure.
#[derive(Debug, Default)]
pub struct Cause {
    counted: bool,
}

impl Cause {
    /// One that is counted already.
    #[must_use]
    pub const fn excused() -> Self {
        Self { counted: true }
    }

    /// Whether it was counted, and counts no more.
    #[must_use]
    pub const fn is_counted(&self) -> bool {
        self.counted
    }
}

impl RequestTicket {
    /// The client has given up by the deadline that it set: what an endpoint, which was told of it,
    /// does at that moment is the client's choice. Deadlines are looked at a little late, and clocks
    /// differ a little.
    fn is_given_up(&self, now: Nanos) -> bool {
        const SLACK: Nanos = Nanos::from_millis(5);
        self.deadline != Nanos::MAX && now + SLACK >= self.deadline
    }

    /// Whether what an endpoint did says nothing of it, because of what the client does: it is waited
    /// for, or its call may be quiet.
    pub(super) fn is_no_failure(&self, reason: Reason, now: Nanos) -> bool {
        match reason.blame() {
            Blame::Reset => self.is_body_awaited(now),
            Blame::Timeout => {
                reason == Reason::UpstreamTryTimeout
                    && self.kind == RequestKind::Grpc
                    && self.body.done
            }
            Blame::Nobody | Blame::Connect | Blame::Malformed => false,
        }
    }

    /// What an attempt ended for, if its client had not given up before.
    pub(super) fn effective_reason(&self, reason: Reason, now: Nanos) -> Reason {
        let given_up = reason.by() == By::Endpoint && self.is_given_up(now);
        if given_up { Reason::DeadlineExceeded } else { reason }
    }

    /// A probe of a half-open breaker takes too long to say anything: its place is another's, but
    /// what it says at last is heard. Else a service that takes that long would never be found
    /// well.
    pub(super) fn give_probe_back(&mut self, now: Nanos) {
        if let Some((permit, guard)) = self.breaker.zip(self.route.as_ref().and_then(|r| r.guard()))
        {
            self.breaker = Some(guard.breaker.give_place_back(permit, now));
        }
    }

    /// An attempt, or a request between two, ended for `reason`: its endpoint hears it, and what it
    /// says to the breaker is noted, if it was the last one. `excused`: it says nothing.
    pub(super) fn blame(&mut self, reason: Reason, excused: bool, cause: &mut Cause, now: Nanos) {
        let excused = excused || cause.counted;
        if self.attempt.is_some() && reason.blame() != Blame::Nobody && !excused {
            cause.counted = true;
        }
        self.note_end(reason, excused, now);
        self.end_attempt(endpoint_outcome(reason, excused), now);
    }

    fn note_end(&mut self, reason: Reason, excused: bool, now: Nanos) {
        self.last = now;
        let Some(rules) = self.rules() else { return };
        let what = match reason.blame() {
            Blame::Connect => Some(What::Connect),
            Blame::Reset => Some(What::Reset),
            Blame::Timeout => Some(What::Timeout),
            // What the client got for it.
            Blame::Malformed => Some(What::Status(Reason::UpstreamProtocol.status())),
            // A client that left before the head was there may have waited long.
            Blame::Nobody
                if reason == Reason::ClientGone
                    && self.status == 0
                    && self.took_long(rules, now) =>
            {
                Some(What::Slow)
            }
            Blame::Nobody => None,
        };
        let finding = what.filter(|_| !excused).map_or(Finding::Neutral, |w| rules.of(w));
        // An answer that did not come is never a success.
        let finding = if finding == Finding::Success { Finding::Neutral } else { finding };
        self.note(finding, now);
    }

    /// Whether the endpoint alone took longer than a breaker calls slow.
    fn took_long(&self, rules: &FailureRules, now: Nanos) -> bool {
        let since = rules.slow_after().zip(self.waited_for_since());
        let until = self.headed.unwrap_or(now); // what it streams comes when it comes
        since.is_some_and(|(most, since)| until.since(since) > most)
    }

    /// The service has answered: the breaker hears it now.
    pub(super) fn report(&mut self, what: What, now: Nanos, rand: u64) {
        self.last = now;
        if let Some(rules) = self.rules() {
            let slow = self.took_long(rules, now);
            let finding = match rules.of(what) {
                Finding::Success if slow => rules.of(What::Slow),
                Finding::Failure(_) if self.is_given_up(now) || self.is_body_awaited(now) => {
                    Finding::Neutral
                }
                finding => finding,
            };
            self.note(finding, now);
        }
        self.settle_breaker(now, rand);
    }

    /// A failure names its endpoint; one of an endpoint that is ejected does not count, unless it
    /// could be chosen all the same: so many are ejected that all are used again.
    fn note(&mut self, finding: Finding, now: Nanos) {
        let named = self.attempt_index().zip(self.upstream());
        self.report = match (finding, named) {
            (Finding::Failure(_), Some((index, upstream))) => {
                let names = Endpoints::bit(index);
                let counts = !upstream.endpoints[index].state.is_ejected() || {
                    let choosable = upstream.picker.choosable_bits(now);
                    choosable == 0 || choosable & names != 0
                };
                let finding = if counts { finding } else { Finding::Neutral };
                Report { finding, names }
            }
            (Finding::Failure(_), None) => return, // reported when its attempt ended
            _ => Report { finding, names: 0 },
        };
    }

    fn rules(&self) -> Option<&FailureRules> {
        self.route.as_ref()?.guard().map(|guard| &guard.rules)
    }

    pub(super) fn settle_breaker(&mut self, now: Nanos, rand: u64) {
        let Some(permit) = self.breaker.take() else { return };
        let Some(guard) = self.route.as_ref().and_then(|r| r.guard()) else { return };
        let breaker = &guard.breaker;
        let Report { finding, names } = self.report;
        match finding {
            Finding::Failure(weight) => {
                let choosable = self.upstream().map_or(0, |u| u.picker.choosable_bits(now));
                let endpoints = Endpoints { failed: names, choosable };
                breaker.settle_named(permit, weight, endpoints, now, rand);
            }
            Finding::Success => breaker.settle(permit, Settled::Success, now, rand),
            Finding::Neutral => breaker.settle(permit, Settled::Neutral, now, rand),
        }
    }
}

/// What the end of an attempt says about its endpoint.
fn endpoint_outcome(reason: Reason, excused: bool) -> EndpointOutcome {
    match reason.blame() {
        Blame::Connect | Blame::Reset | Blame::Timeout if !excused => EndpointOutcome::Failed,
        Blame::Connect | Blame::Reset | Blame::Timeout | Blame::Malformed | Blame::Nobody => {
            EndpointOutcome::Neutral
        }
    }
}
