//! What becomes of attempts: whether another one follows, where and when. What each says about its
//! endpoint and service is in [`blame`](super::blame).

use std::sync::Arc;

use super::blame::Cause;
use super::body::Keep;
use super::deadline::Awaited;
use super::outcome::Outcome;
use super::stack::RouteStack;
use super::ticket::{Budget, Report, RequestKind, RequestTicket, Stage};
use crate::admission::back_off::{self, BackOff};
use crate::admission::{BreakerState, What};
use crate::balance::{EndpointOutcome, Rng};
use crate::error::{Again, Reason};
use crate::head::Headers;
use crate::time::Nanos;

/// What follows an attempt that failed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Next {
    /// Another one at this endpoint id, at this time: now, or after a pause.
    Again {
        /// Where.
        endpoint: u32,
        /// When.
        at: Nanos,
    },
    /// The same one once more, at once, on a connection that is new.
    Fresh,
    /// None: the request is over, for this reason.
    Answer(Reason),
}

/// What follows a response's head.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Passed {
    /// It is the client's.
    Relay,
    /// It is, and bytes of another protocol follow it.
    Tunnel,
    /// The endpoint agreed to a tunnel inside of the request (RFC 9110 §7.8): the attempt failed.
    TooEarly,
    /// Another attempt follows, as in [`Next::Again`].
    Again {
        /// Where.
        endpoint: u32,
        /// When.
        at: Nanos,
    },
}

/// What a response's head says of its call.
#[derive(Clone, Copy, Debug)]
pub struct Head {
    /// The status.
    pub status: u16,
    /// Its content is gRPC.
    pub grpc: bool,
    /// The gRPC status, where it is known already.
    pub grpc_status: Option<u8>,
    /// Bytes of the body that came with it.
    pub bytes: u64,
    /// It begins a tunnel, as far as the endpoint is concerned.
    pub tunnel: bool,
    /// How long it asks to be left alone before another attempt.
    pub retry_after: Option<Nanos>,
}

/// The attempt that another one follows.
#[derive(Clone, Copy)]
struct Before {
    endpoint: usize,
    budget: Budget,
}

impl RequestTicket {
    /// The request is written to the endpoint now, with whatever was kept of its body. Whether to go
    /// on keeping it.
    pub fn sent(&mut self, now: Nanos) -> bool {
        if let Some(attempt) = &mut self.attempt {
            attempt.sent = Some(now);
        }
        self.body.sent()
    }

    /// A piece of the request's body came; `connected`: an endpoint takes it.
    pub fn received(&mut self, bytes: u64, connected: bool, now: Nanos) -> Keep {
        let answered = self.status != 0;
        if self.tunnels {
            self.tunnelled(false, bytes);
        }
        if let Awaited::Byte(_) = self.awaited {
            self.passed(now); // a layer that looks at the response keeps its own time
        }
        self.body.receive(bytes, connected, answered, now)
    }

    /// The last byte of the request's body came.
    pub fn request_ended(&mut self, now: Nanos) {
        self.body.end(now);
        self.asked = now;
        self.enter_budget();
    }

    /// The client is not read, or is read again: time in which it is not read is not its.
    pub fn reading(&mut self, on: bool, now: Nanos) {
        if on { self.body.resume(now) } else { self.body.pause(now) }
    }

    /// Whether the request is sent again if a kept connection turns out to be stale: only then is
    /// one worth a try without a look into it.
    #[must_use]
    pub fn is_repeatable(&self) -> bool {
        self.repeats_resets() && self.idempotent && self.body.is_kept()
    }

    /// The attempt failed before its response's head. What an endpoint does while it waits for the
    /// client's body is the client's choice too.
    pub fn failed(&mut self, reason: Reason, cause: &mut Cause, now: Nanos, rng: &mut Rng) -> Next {
        let excused = self.is_no_failure(reason, now);
        let reason = self.effective_reason(reason, now);
        let repeatable = self.may_repeat(false, reason.again().is_untouched());
        if reason.again() == Again::Stale && repeatable && self.renew() {
            return Next::Fresh;
        }
        let before = self.before();
        self.blame(reason, excused, cause, now);
        if repeatable && let Some(again) = self.another(reason, 0, before, now, rng) {
            return again;
        }
        Next::Answer(reason)
    }

    /// Whether the route has what was reset tried again.
    fn repeats_resets(&self) -> bool {
        self.route().is_some_and(|r| r.retry.retries > 0 && r.retry.reset)
    }

    /// The same attempt goes on with another connection; once.
    fn renew(&mut self) -> bool {
        let allowed = self.repeats_resets();
        if let Some(attempt) = self.attempt.as_mut().filter(|_| allowed && !self.renewed) {
            attempt.sent = None;
            self.renewed = true;
            return true;
        }
        false
    }

    /// Whether the request may be sent once more: nothing was, or its method or the gRPC status that
    /// the route names allows it, and all of its body so far is at hand.
    fn may_repeat(&self, named: bool, untouched: bool) -> bool {
        let sent = self.attempt.as_ref().is_some_and(|a| a.sent.is_some()) && !untouched;
        self.body.is_kept() && (!sent || self.idempotent || named)
    }

    pub(super) fn attempt_index(&self) -> Option<usize> {
        self.attempt.as_ref().map(|a| a.endpoint)
    }

    fn before(&self) -> Option<Before> {
        let attempt = self.attempt.as_ref()?;
        Some(Before { endpoint: attempt.endpoint, budget: attempt.budget })
    }

    /// Another attempt, if policy, budget, breaker, balance and time allow one; never the limiters.
    fn another(
        &mut self,
        reason: Reason,
        status: u16,
        before: Option<Before>,
        now: Nanos,
        rng: &mut Rng,
    ) -> Option<Next> {
        let route = Arc::clone(self.route.as_ref()?);
        let upstream = route.upstream()?;
        let open = route.guard().is_some_and(|g| g.breaker.state(now) == BreakerState::Open);
        if !allows(&route, reason, status) || self.attempts > route.retry.retries || open {
            return None;
        }
        // What an endpoint refused it may be asked again; of the others nothing is forgotten.
        if reason.again() == Again::Refused
            && let Some(before) = before
        {
            self.tried.remove(before.endpoint);
        }
        let picked = upstream.picker.pick(now, rng, &self.tried)?;
        let same = before.is_some_and(|b| b.endpoint == picked.index);
        let at = self.resume_at(reason, same, now, rng);
        // Else its time would be over before it began.
        let in_time = at < self.deadline.min(self.head_bound());
        let budget = self.budget(reason, before, picked.index);
        let (retries, active) = (&upstream.retries, upstream.in_flight.current());
        let allowed = in_time
            && match budget {
                Budget::Out => true,
                Budget::Later => retries.has_room(active),
                Budget::In => retries.try_enter(active),
            };
        if !allowed {
            // The endpoint is given back unasked.
            let (rules, neutral) = (upstream.spec.ejection.as_ref(), EndpointOutcome::Neutral);
            upstream.picker.settle(picked.index, picked.permit, neutral, now, rules);
            return None;
        }
        if reason == Reason::UpstreamStatus {
            self.end_attempt(EndpointOutcome::Ok, now);
        }
        route.stats.retried();
        self.renewed = false;
        let endpoint = self.enter(upstream, picked, budget, now);
        Some(Next::Again { endpoint, at })
    }

    /// What another attempt at an endpoint takes of the budget, which bounds how much retries add to
    /// a service's load. While the service has had nothing of a request they add nothing: what was
    /// refused cost it nothing (a GOAWAY refuses many at once), and a failed connect carried
    /// nothing. But a connect is tried once at each endpoint: one that answers none would else be
    /// asked by all again and again.
    fn budget(&self, reason: Reason, before: Option<Before>, endpoint: usize) -> Budget {
        let untouched = before.is_none_or(|b| b.budget == Budget::Out);
        let free = reason.again().is_untouched() && untouched && !self.tried.contains(endpoint);
        match free {
            true => Budget::Out,
            false if self.body.done => Budget::In,
            false => Budget::Later,
        }
    }

    /// When the response's head must be there at the latest.
    fn head_bound(&self) -> Nanos {
        match self.route().map_or(0, |r| r.timeout_ns) {
            0 => Nanos::MAX,
            _ if self.kind == RequestKind::Grpc || !self.body.done => Nanos::MAX,
            span => self.asked + Nanos(span),
        }
    }

    /// The first retry does not wait when nothing was sent and another endpoint takes it.
    fn resume_at(&self, reason: Reason, same: bool, now: Nanos, rng: &mut Rng) -> Nanos {
        if reason.again().is_untouched() && !same && self.attempts <= 1 {
            return now;
        }
        now + BackOff::PROXY.pause(0, rng.next_u64())
    }

    /// Its whole response passes in one call: counted, so that it is seen which do.
    pub fn relayed_at_once(&self) {
        if let Some(listener) = self.compiled.listener(self.listener) {
            listener.stats.relayed_at_once();
        }
    }

    /// A message of its is held for the end of the turn, as `relayed_at_once` is counted.
    pub fn sent_natively(&self, to_client: bool) {
        if let Some(listener) = self.compiled.listener(self.listener) {
            listener.stats.sent_natively(to_client);
        }
    }

    /// The response's head arrived: another attempt, or the breaker and the endpoint learn the
    /// outcome now, so a probe does not wait for a long body.
    pub fn responded(&mut self, head: Head, now: Nanos, rng: &mut Rng) -> Passed {
        let tunnels = self.kind == RequestKind::Tunnel && head.tunnel;
        if tunnels && !self.body.done {
            return Passed::TooEarly;
        }
        if let Some(Next::Again { endpoint, at }) = self.retried(&head, now, rng) {
            return Passed::Again { endpoint, at };
        }
        self.status = head.status;
        self.headed = Some(now);
        self.passed(now);
        self.settle_endpoint(EndpointOutcome::Ok, now);
        self.leave_budget(); // it is no retry any more that might double the load
        let rand = rng.next_u64();
        if self.kind == RequestKind::Grpc && head.grpc && head.status == 200 {
            self.pending = true;
            if head.bytes > 0 {
                self.streamed(now, rand);
            }
            if let Some(status) = head.grpc_status {
                self.trailed(status, now, rand);
            }
        } else {
            self.report(What::Status(head.status), now, rand);
        }
        if tunnels {
            self.tunnels = true;
            self.status = self.agreed;
            self.body.open();
            self.tunnelled(true, head.bytes);
            return Passed::Tunnel;
        }
        Passed::Relay
    }

    fn retried(&mut self, head: &Head, now: Nanos, rng: &mut Rng) -> Option<Next> {
        let retry = &self.route.as_ref()?.retry;
        let grpc = self.kind == RequestKind::Grpc && head.grpc && head.bytes == 0;
        let named = head.grpc_status.filter(|s| grpc && retry.grpc_statuses.contains(s));
        if named.is_none() && !retry.statuses.contains(&head.status) {
            return None;
        }
        if !self.may_repeat(named.is_some(), false) {
            return None;
        }
        let asked = head.retry_after.unwrap_or(Nanos::ZERO);
        let until = self.deadline.min(self.head_bound());
        let not_before = back_off::not_before(asked, back_off::LONGEST_ASKED, now, until)?;
        let before = self.before();
        let status = named.map_or(head.status, |_| 0);
        let again = self.another(Reason::UpstreamStatus, status, before, now, rng)?;
        Some(match again {
            Next::Again { endpoint, at } if asked > Nanos::ZERO => {
                let at = back_off::spread(not_before, at.since(now), until, rng.next_u64());
                Next::Again { endpoint, at }
            }
            other => other,
        })
    }

    /// A piece of the response's body passed.
    pub fn relayed(&mut self, bytes: u64, now: Nanos, rand: u64) {
        if self.pending && bytes > 0 && self.breaker.is_some() {
            self.streamed(now, rand);
        }
        if self.tunnels {
            self.tunnelled(true, bytes);
        }
        self.passed(now);
    }

    /// The first message of a gRPC response arrived: the service works.
    fn streamed(&mut self, now: Nanos, rand: u64) {
        self.report(What::Grpc(0), now, rand);
    }

    /// A gRPC response ended with this status; one without any is UNKNOWN to its client.
    pub fn trailed(&mut self, status: u8, now: Nanos, rand: u64) {
        if !std::mem::take(&mut self.pending) {
            return;
        }
        self.grpc = Some(status);
        // DEADLINE_EXCEEDED under a deadline that the client set: it may be as short as it likes.
        const DEADLINE_EXCEEDED: u8 = 4;
        if status == DEADLINE_EXCEEDED && self.deadline != Nanos::MAX {
            self.last = now;
            self.report = Report::NOTHING;
            self.settle_breaker(now, rand);
        } else {
            self.report(What::Grpc(status), now, rand);
        }
    }

    /// Bytes passed through the tunnel.
    fn tunnelled(&self, to_client: bool, bytes: u64) {
        if let Some(route) = &self.route {
            route.stats.tunnelled(to_client, bytes);
        }
    }

    /// A local answer is to end the request; its outcome is why.
    ///
    /// Layers may look at the answer for long, and the client may leave meanwhile: the breaker hears
    /// it now, and the place at the upstream is free.
    pub fn decided(&mut self, outcome: Outcome, cause: &mut Cause, now: Nanos, rand: u64) {
        let reason = self.effective_reason(outcome.reason, now);
        // A retry has less than the route's time: that it took all that was left says nothing, but
        // what the attempt before it met stands.
        let short = reason == Reason::UpstreamTimeout && self.attempts > 1;
        let excused = short || self.is_no_failure(outcome.reason, now);
        self.blame(reason, excused, cause, now);
        if short {
            self.report = self.report_before;
        }
        self.settle_breaker(now, rand);
        self.leave_upstream();
        self.outcome.get_or_insert(outcome);
    }

    /// The local answer that was [`decided`](Self::decided), or is now, has this status; `grpc`: the
    /// one that it is to a gRPC call. If the client is told of something else that ended the request
    /// meanwhile, so is the log; an answer that a layer gave in its place hides no cause.
    pub fn answered(
        &mut self,
        status: u16,
        grpc: Option<u8>,
        outcome: Outcome,
        cause: &mut Cause,
        (now, rand): (Nanos, u64),
    ) {
        if self.outcome.is_none() {
            self.decided(outcome, cause, now, rand);
        } else if outcome.reason != Reason::LayerResponse
            && self.outcome.as_ref().is_some_and(|told| told.reason != outcome.reason)
        {
            self.outcome = Some(outcome);
        }
        if let Some((stats, outcome)) = self.listener_stats().zip(self.outcome.as_ref()) {
            stats.answered(outcome.reason);
        }
        self.replied = true;
        self.status = status;
        self.grpc = grpc;
    }

    /// A gRPC response under way ends with a status of ours.
    pub fn ended_with(&mut self, grpc: u8) {
        self.pending = false;
        self.grpc = Some(grpc);
    }

    /// The request is over without an answer of ours: it was left, or what was sent is torn.
    /// What was [`decided`](Self::decided) stands.
    pub fn cut(&mut self, outcome: Outcome, cause: &mut Cause, now: Nanos, rand: u64) {
        if self.outcome.is_none() {
            let excused = self.is_no_failure(outcome.reason, now);
            let reason = self.effective_reason(outcome.reason, now);
            self.blame(reason, excused, cause, now);
        }
        if self.stage != Stage::Done
            && !self.replied
            && let Some(stats) = self.listener_stats()
        {
            stats.cut(self.outcome.as_ref().map_or(outcome.reason, |decided| decided.reason));
        }
        self.end(outcome, now, rand);
    }
}

/// How long a response's `retry-after` asks to be left alone; `unix_s` is asked for dates alone.
pub fn retry_after(fields: &Headers, unix_s: impl FnOnce() -> u64) -> Option<Nanos> {
    back_off::retry_after(fields.get(b"retry-after")?, fields.get(b"date"), unix_s)
}

/// Whether a route's policy lets what ended so be tried again.
fn allows(route: &RouteStack, reason: Reason, status: u16) -> bool {
    let retry = &route.retry;
    match reason.again() {
        Again::Never => false,
        Again::Connect => retry.connect,
        Again::Refused => retry.refused,
        Again::Reset | Again::Stale => retry.reset,
        Again::PerTry => retry.per_try_ns > 0,
        Again::Status => status == 0 || retry.statuses.contains(&status),
    }
}
