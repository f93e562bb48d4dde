//! A request's ticket: what it charged, which endpoint it holds, and how it ends, once.

use std::sync::Arc;

use smallvec::SmallVec;

use super::answer::Answer;
use super::compiled::Compiled;
use super::grpc;
use super::stack::{Op, RouteStack, Target};
use super::upstream::Upstream;
use crate::admission::{BreakerPermit, Charge, Outcome, State};
use crate::balance::{EndpointOutcome, EndpointPermit, Picked, Rng, Tried};
use crate::routing::Matched;
use crate::time::Nanos;

/// What is to be done next.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// Send the request to this endpoint id.
    Forward(u32),
    /// Answer here.
    Answer(Answer),
    /// Run this Python layer, then resume.
    Pause(u32),
}

/// How an attempt, or a request without a response, failed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Failure {
    /// No connection.
    Connect,
    /// Closed or reset before the response head.
    Reset,
    /// No response head in time.
    Timeout,
    /// Not HTTP, or ambiguous.
    Protocol,
    /// This status, which the route retries.
    Status(u16),
    /// This gRPC status, which the route retries.
    Grpc(u8),
    /// The endpoint said that it processed nothing of the request (RFC 9113 §8.7).
    Refused,
    /// The client's own deadline passed: however short it was, that is nobody's fault.
    Deadline,
    /// The client left, or we did; a failure of the service only if it was slow.
    Cancelled,
    /// Ended for a reason that lies with the client or with us: says nothing about the service.
    Abandoned,
}

/// What a request asks of time.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Kind {
    /// A message and its answer.
    #[default]
    Plain,
    /// A gRPC call, which may be a stream in either direction.
    Grpc,
    /// An upgrade that its route allows, or CONNECT: bytes both ways.
    Tunnel,
}

/// A client that waited this long for a head before it left was let down by the upstream.
const SLOW_CALL: Nanos = Nanos::from_secs(5);

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Stage {
    Listener,
    Route,
    RouteLayers,
    Admit,
    Done,
}

/// A charge, by the place of its layer: listener or route, and the index of the op.
#[derive(Clone, Copy, Debug)]
pub(super) struct Charged {
    pub(super) of_route: bool,
    pub(super) op: u16,
    pub(super) charge: Option<Charge>,
}

#[derive(Debug)]
struct Attempt {
    endpoint: usize,
    /// Until the endpoint's part in it is settled.
    permit: Option<EndpointPermit>,
    is_retry: bool,
}

/// Owns what a request holds of shared state; dropping it gives everything back.
#[derive(Debug)]
pub struct RequestTicket {
    pub(super) compiled: Arc<Compiled>,
    pub(super) listener: u32,
    pub(super) route: Option<Arc<RouteStack>>,
    /// What the route matched of the path.
    pub(super) matched: Matched,
    pub(super) stage: Stage,
    pub(super) cursor: u16,
    pub(super) charges: SmallVec<[Charged; 2]>,
    /// Caps that the request is in: whether the route's or the listener's, and which op.
    pub(super) entered: SmallVec<[(bool, u16); 2]>,
    pub(super) in_upstream: bool,
    pub(super) breaker: Option<BreakerPermit>,
    attempt: Option<Attempt>,
    tried: Tried,
    attempts: u8,
    pub(super) began: Nanos,
    pub(super) kind: Kind,
    /// When the client itself gives up.
    pub(super) deadline: Nanos,
    /// When the client had sent its whole request: from then on the service is waited for.
    asked: Nanos,
    last: Nanos,
    outcome: Outcome,
    status: u16,
}

impl RequestTicket {
    pub(super) fn new(compiled: Arc<Compiled>, listener: u32, now: Nanos) -> Self {
        Self {
            compiled,
            listener,
            route: None,
            matched: Matched::Whole,
            stage: Stage::Listener,
            cursor: 0,
            charges: SmallVec::new(),
            entered: SmallVec::new(),
            in_upstream: false,
            breaker: None,
            attempt: None,
            tried: Tried::default(),
            attempts: 0,
            began: now,
            kind: Kind::Plain,
            deadline: Nanos::MAX,
            asked: now,
            last: now,
            outcome: Outcome::Neutral,
            status: 0,
        }
    }

    /// The route, once it is found.
    #[must_use]
    pub fn route(&self) -> Option<&Arc<RouteStack>> {
        self.route.as_ref()
    }

    /// What the route matched of the path.
    #[must_use]
    pub fn matched(&self) -> Matched {
        self.matched
    }

    /// Whether the socket's peer is a proxy that the listener trusts.
    #[must_use]
    pub fn trusts_peer(&self) -> bool {
        self.compiled.listener(self.listener).is_some_and(|l| l.trusted_hops > 0)
    }

    /// Attempts so far.
    #[must_use]
    pub fn attempts(&self) -> u8 {
        self.attempts
    }

    /// When the request began.
    #[must_use]
    pub fn began(&self) -> Nanos {
        self.began
    }

    /// What the request asks of time.
    #[must_use]
    pub fn kind(&self) -> Kind {
        self.kind
    }

    /// When the client itself gives up; [`Nanos::MAX`] if it did not say.
    #[must_use]
    pub fn deadline(&self) -> Nanos {
        self.deadline
    }

    fn upstream(&self) -> Option<&Arc<Upstream>> {
        match self.route.as_ref().map(|r| &r.target) {
            Some(Target::Forward { upstream, .. }) => Some(upstream),
            _ => None,
        }
    }

    /// Picks an endpoint that was not tried yet, and enters it.
    pub(super) fn pick(&mut self, now: Nanos, rng: &mut Rng, is_retry: bool) -> Option<u32> {
        let upstream = Arc::clone(self.upstream()?);
        let picked = upstream.picker.pick(now, rng, &self.tried)?;
        Some(self.enter(&upstream, picked, is_retry))
    }

    fn enter(&mut self, upstream: &Upstream, picked: Picked, is_retry: bool) -> u32 {
        upstream.endpoints[picked.index].state.enter();
        self.tried.insert(picked.index);
        self.attempts = self.attempts.saturating_add(1);
        self.attempt =
            Some(Attempt { endpoint: picked.index, permit: Some(picked.permit), is_retry });
        upstream.ids[picked.index]
    }

    /// The last byte of the request's body came; one without a body is whole when it begins.
    pub fn request_ended(&mut self, now: Nanos) {
        self.asked = now;
    }

    /// The attempt failed. The ticket keeps the request's place in the upstream for a retry.
    pub fn fail(&mut self, failure: Failure, now: Nanos) {
        self.last = now;
        self.outcome = match failure {
            Failure::Status(status) => outcome_of(status),
            Failure::Grpc(status) => grpc::outcome(status),
            Failure::Cancelled if now.since(self.asked) >= SLOW_CALL && self.status == 0 => {
                Outcome::Failure
            }
            Failure::Cancelled | Failure::Abandoned | Failure::Refused | Failure::Deadline => {
                Outcome::Neutral
            }
            _ => Outcome::Failure,
        };
        let endpoint = match failure {
            Failure::Cancelled | Failure::Abandoned | Failure::Refused | Failure::Deadline => {
                EndpointOutcome::Neutral
            }
            Failure::Status(_) | Failure::Grpc(_) => EndpointOutcome::Ok,
            _ => EndpointOutcome::Failed,
        };
        self.end_attempt(endpoint, now);
    }

    /// Whether the failed request may be tried again, and where. Asks the policy, the retry
    /// budget, the breaker (an open one refuses) and balance; never the limiters.
    ///
    /// Call [`Self::fail`] first, but not for a status (of HTTP or gRPC): if that is not tried again, its response
    /// is relayed by the attempt that brought it.
    pub fn retry(&mut self, failure: Failure, now: Nanos, rng: &mut Rng) -> Option<u32> {
        let route = Arc::clone(self.route.as_ref()?);
        let upstream = route.upstream()?;
        let allowed = match failure {
            Failure::Connect => route.retry.connect,
            Failure::Reset => route.retry.reset,
            Failure::Refused => route.retry.refused,
            Failure::Status(s) => route.retry.statuses.contains(&s),
            Failure::Grpc(s) => route.retry.grpc_statuses.contains(&s),
            Failure::Timeout
            | Failure::Protocol
            | Failure::Cancelled
            | Failure::Abandoned
            | Failure::Deadline => false,
        };
        let breaker = route.breaker.as_ref().or(upstream.breaker.as_ref());
        if !allowed
            || self.attempts > route.retry.retries
            || breaker.is_some_and(|b| b.state(now) == State::Open)
        {
            return None;
        }
        // What was refused cost the service nothing: it is not what the budget bounds, and a
        // GOAWAY refuses many at once.
        let charged = failure != Failure::Refused;
        if charged && !upstream.retries.try_enter(upstream.in_flight.current()) {
            return None;
        }
        if !charged {
            self.tried = Tried::default();
        }
        let Some(picked) = upstream.picker.pick(now, rng, &self.tried) else {
            if charged {
                upstream.retries.leave();
            }
            return None;
        };
        if let Failure::Status(_) | Failure::Grpc(_) = failure {
            self.fail(failure, now);
        }
        route.stats.retried();
        Some(self.enter(upstream, picked, charged))
    }

    /// The response head arrived: the breaker and the endpoint learn the outcome now, so a probe
    /// does not wait for a long body.
    pub fn responded(&mut self, status: u16, now: Nanos, rand: u64) {
        self.last = now;
        self.status = status;
        self.outcome = outcome_of(status);
        self.settle_endpoint(EndpointOutcome::Ok, now);
        self.settle_breaker(now, rand);
    }

    /// The head of a gRPC response arrived, and its status is not known yet: the endpoint has
    /// answered, the breaker waits for [`Self::streamed`] or [`Self::trailed`].
    pub fn responded_grpc(&mut self, status: u16, now: Nanos) {
        self.last = now;
        self.status = status;
        self.settle_endpoint(EndpointOutcome::Ok, now);
    }

    /// The first message of a gRPC response arrived: the service works.
    pub fn streamed(&mut self, now: Nanos, rand: u64) {
        self.last = now;
        self.outcome = Outcome::Success;
        self.settle_breaker(now, rand);
    }

    /// The status of a gRPC response arrived; counted once.
    pub fn trailed(&mut self, status: u8, now: Nanos, rand: u64) {
        self.last = now;
        self.outcome = grpc::outcome(status);
        self.settle_endpoint(EndpointOutcome::Ok, now);
        self.settle_breaker(now, rand);
        if let Some(route) = &self.route {
            route.stats.trailed(status);
        }
    }

    /// Bytes passed through the tunnel.
    pub fn tunnelled(&self, to_client: bool, bytes: u64) {
        if let Some(route) = &self.route {
            route.stats.tunnelled(to_client, bytes);
        }
    }

    /// A local answer ended the request.
    pub fn answered(&mut self, status: u16) {
        self.status = status;
    }

    /// The request is over: whatever it still holds goes back. Idempotent.
    pub fn finish(&mut self, now: Nanos, rand: u64) {
        if self.stage == Stage::Done {
            return;
        }
        self.stage = Stage::Done;
        self.last = now;
        self.end_attempt(EndpointOutcome::Neutral, now);
        self.settle_breaker(now, rand);
        for (of_route, op) in &self.entered {
            if let Some(Op::InFlight(cap)) = self.ops(*of_route).get(*op as usize) {
                cap.leave();
            }
        }
        if let Some(route) = &self.route {
            match self.status {
                0 => route.stats.cancelled(),
                status => route.stats.responded(status, now.since(self.began)),
            }
        }
        if self.in_upstream {
            self.in_upstream = false;
            if let Some(upstream) = self.upstream() {
                upstream.in_flight.leave();
            }
        }
    }

    /// The ops of the route, or of the listener.
    fn ops(&self, of_route: bool) -> &[Op] {
        match (&self.route, of_route) {
            (Some(route), true) => &route.ops,
            _ => self.compiled.listener(self.listener).map_or(&[], |l| &l.ops),
        }
    }

    /// Gives every charge back: a later limiter refused the request.
    pub(super) fn give_back(&mut self) {
        for charged in std::mem::take(&mut self.charges) {
            let ops = self.ops(charged.of_route);
            match (ops.get(charged.op as usize), charged.charge) {
                (Some(Op::Client(l) | Op::Keyed(l, _)), Some(charge)) => l.give_back(charge),
                (Some(Op::Bucket(b)), None) => b.give_back(1),
                _ => {}
            }
        }
    }

    fn settle_endpoint(&mut self, outcome: EndpointOutcome, now: Nanos) {
        let Some(Target::Forward { upstream, .. }) = self.route.as_ref().map(|r| &r.target) else {
            return;
        };
        let Some(attempt) = self.attempt.as_mut() else { return };
        if let Some(permit) = attempt.permit.take() {
            let rules = upstream.spec.ejection.as_ref();
            upstream.picker.settle(attempt.endpoint, permit, outcome, now, rules);
        }
    }

    fn end_attempt(&mut self, outcome: EndpointOutcome, now: Nanos) {
        self.settle_endpoint(outcome, now);
        if let Some(attempt) = self.attempt.take()
            && let Some(upstream) = self.upstream()
        {
            upstream.endpoints[attempt.endpoint].state.leave();
            if attempt.is_retry {
                upstream.retries.leave();
            }
        }
    }

    fn settle_breaker(&mut self, now: Nanos, rand: u64) {
        let Some(permit) = self.breaker.take() else { return };
        let Some(route) = &self.route else { return };
        let breaker = route.breaker.as_ref().or_else(|| route.upstream()?.breaker.as_ref());
        if let Some(breaker) = breaker {
            breaker.settle(permit, self.outcome, now, rand);
        }
    }
}

impl Drop for RequestTicket {
    fn drop(&mut self) {
        let last = self.last;
        self.finish(last, last.0);
    }
}

/// What a status says about the service: 500, 502, 503 and 504 are failures, 429 slows but does
/// not trip, no other 4xx is the service's fault.
fn outcome_of(status: u16) -> Outcome {
    match status {
        500 | 502 | 503 | 504 => Outcome::Failure,
        429 => Outcome::Neutral,
        _ => Outcome::Success,
    }
}
