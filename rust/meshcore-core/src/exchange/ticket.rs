//! A request's ticket: what it charged, which endpoint it holds, and how it ends, once.
//!
//! Here is what it owns and gives back; what becomes of attempts is decided in
//! [`attempt`](super::attempt), what passed deadlines mean in [`deadline`](super::deadline).

use std::net::SocketAddr;
use std::sync::Arc;

use smallvec::SmallVec;

use super::answer::Answer;
use super::body::BodyAccount;
use super::client_address::Client;
use super::compiled::{Compiled, Reservation};
use super::deadline::Awaited;
use super::layer::{Evaluated, Op, Place};
use super::outcome::{Outcome, Phase};
use super::peer::Peer;
use super::stack::{RouteStack, Target};
use super::stats::ListenerStats;
use super::tracing::Trace;
use super::trailers::ChangedByLayers;
use super::upstream::Upstream;
use super::walk::Arrival;
use crate::admission::{BreakerPermit, Charge, Verdict as Finding};
use crate::balance::{EndpointOutcome, EndpointPermit, Picked, Rng, Tried};
use crate::codec::Ends;
use crate::error::Reason;
use crate::head::BodyLength;
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
    /// Read the rest of the request's body, which is small, then resume.
    Await,
}

/// What a request asks of time.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum RequestKind {
    /// A message and its answer.
    #[default]
    Plain,
    /// A gRPC call, which may be a stream in either direction.
    Grpc,
    /// An upgrade that its route allows, or CONNECT: bytes both ways, once the endpoint agrees.
    Tunnel,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Stage {
    Listener,
    Route,
    RouteLayers,
    Admit,
    Done,
}

/// A charge, by the place of its layer.
#[derive(Clone, Copy, Debug)]
pub(super) struct Charged {
    place: Place,
    charge: Option<Charge>,
}

/// An answer that was passed on whole while the client still sent: nothing more of the request goes
/// to the endpoint. No failure, but what explains a connection that ends behind it.
const NOT_WHOLE: &str = "request not sent whole";

/// An attempt's place in the retry budget.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Budget {
    /// It needs none, or has left.
    Out,
    /// It takes one once the request is whole: until then it loads no endpoint, and lasts for as
    /// long as its client likes.
    Later,
    /// It has one.
    In,
}

#[derive(Debug)]
pub(super) struct Attempt {
    pub(super) endpoint: usize,
    /// When the endpoint was entered for it.
    pub(super) entered: Nanos,
    /// Until the endpoint's part in it is settled.
    pub(super) permit: Option<EndpointPermit>,
    pub(super) budget: Budget,
    /// When the request was written to the endpoint, if it was.
    pub(super) sent: Option<Nanos>,
}

/// What is reported to the breaker: of the final attempt, once.
#[derive(Clone, Copy, Debug)]
pub(super) struct Report {
    pub(super) finding: Finding,
    /// Which endpoint a failure names, as the bit of its index.
    pub(super) names: u64,
}

impl Report {
    pub(super) const NOTHING: Self = Self { finding: Finding::Neutral, names: 0 };
}

/// Owns what a request holds of shared state; dropping it gives everything back.
#[derive(Debug)]
pub struct RequestTicket {
    pub(super) compiled: Arc<Compiled>,
    pub(super) listener: u32,
    pub(super) from: Client,
    pub(super) route: Option<Arc<RouteStack>>,
    /// What the route matched of the path.
    pub(super) matched: Matched,
    pub(super) stage: Stage,
    pub(super) cursor: u16,
    pub(super) charges: SmallVec<[Charged; 2]>,
    pub(super) evaluated: SmallVec<[Evaluated; 2]>,
    /// Caps that the request is in.
    pub(super) entered: SmallVec<[Place; 2]>,
    pub(super) in_upstream: bool,
    /// Under which hash its client is counted among the upstream's.
    pub(super) client: u64,
    pub(super) reserved: Option<Reservation>,
    pub(super) breaker: Option<BreakerPermit>,
    /// When it got that permit.
    pub(super) admitted: Nanos,
    pub(super) attempt: Option<Attempt>,
    pub(super) tried: Tried,
    pub(super) attempts: u8,
    /// The endpoint of the last attempt.
    last_endpoint: Option<usize>,
    /// A kept connection was stale: the attempt goes on with a new one.
    pub(super) renewed: bool,
    pub(super) began: Nanos,
    pub(super) kind: RequestKind,
    /// The status that its client gets when the endpoint agrees to a tunnel; that of the endpoint's
    /// protocol may be another.
    pub(super) agreed: u16,
    /// The endpoint has agreed to a tunnel.
    pub(super) tunnels: bool,
    /// A gRPC status is still to come.
    pub(super) pending: bool,
    /// Its method may be repeated.
    pub(super) idempotent: bool,
    /// When the client itself gives up.
    pub(super) deadline: Nanos,
    pub(super) awaited: Awaited,
    /// When `due` will be asked next.
    pub(super) armed: Nanos,
    pub(super) body: BodyAccount,
    /// Its part in a trace, where part is taken in them.
    pub(super) trace: Option<Box<Trace>>,
    /// What Python layers changed, if any did.
    pub(super) changed: Option<Box<ChangedByLayers>>,
    /// When the client had sent its whole request: from then on the service is waited for.
    pub(super) asked: Nanos,
    pub(super) last: Nanos,
    pub(super) report: Report,
    /// What an attempt before the last one was reported as, if that was a failure.
    pub(super) report_before: Report,
    /// When the response's head came.
    pub(super) headed: Option<Nanos>,
    pub(super) status: u16,
    pub(super) grpc: Option<u8>,
    pub(super) outcome: Option<Outcome>,
    /// An answer given here was sent.
    pub(super) replied: bool,
}

impl RequestTicket {
    /// In a box: its holder moves a pointer, and not half a kilobyte. `whole`: the request
    /// ends with its head.
    pub(super) fn new(
        compiled: Arc<Compiled>,
        listener: u32,
        whole: bool,
        client: Client,
        arrival: &Arrival<'_>,
    ) -> Box<Self> {
        let (now, idempotent) = (arrival.now, arrival.head.is_idempotent());
        // Room first: what is written there needs no copy.
        let room = Box::new_uninit();
        let new = Self {
            compiled,
            listener,
            from: client,
            route: None,
            matched: Matched::Whole,
            stage: Stage::Listener,
            cursor: 0,
            charges: SmallVec::new(),
            evaluated: SmallVec::new(),
            entered: SmallVec::new(),
            in_upstream: false,
            client: 0,
            reserved: None,
            breaker: None,
            admitted: now,
            attempt: None,
            tried: Tried::default(),
            attempts: 0,
            last_endpoint: None,
            renewed: false,
            began: now,
            kind: RequestKind::Plain,
            agreed: 200,
            tunnels: false,
            pending: false,
            idempotent,
            deadline: Nanos::MAX,
            awaited: Awaited::Head,
            armed: Nanos::MAX,
            changed: None,
            trace: None,
            body: BodyAccount::new(whole || arrival.head.body == BodyLength::Empty, now),
            asked: now,
            last: now,
            report: Report::NOTHING,
            report_before: Report::NOTHING,
            headed: None,
            status: 0,
            grpc: None,
            outcome: None,
            replied: false,
        };
        Box::write(room, new)
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

    /// The layer at which the walk stands or was stopped: whether it is the route's, and its place
    /// among those. `None` when all of them have let it pass.
    #[must_use]
    pub fn layer(&self) -> Option<(bool, u16)> {
        // The listener's come before a route is found.
        Some((self.route.is_some(), self.cursor.checked_sub(1)?))
    }

    /// The client.
    #[must_use]
    pub fn client(&self) -> &Client {
        &self.from
    }

    /// As whose connection an endpoint is told of it; `local` is the address that `peer` reached.
    #[must_use]
    pub fn ends(&self, peer: &Peer, local: Option<SocketAddr>) -> Option<Ends> {
        peer.ends(self.from.behind(), local)
    }

    /// Whether its client's credentials authenticate connections: it shares none then.
    #[must_use]
    pub fn is_bound(&self) -> bool {
        self.from.binding.is_some()
    }

    /// The listener's name.
    #[must_use]
    pub fn listener(&self) -> &str {
        self.compiled.listener(self.listener).map_or("", |l| &l.name)
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
    pub fn kind(&self) -> RequestKind {
        self.kind
    }

    /// When the client itself gives up; [`Nanos::MAX`] if it did not say.
    #[must_use]
    pub fn deadline(&self) -> Nanos {
        self.deadline
    }

    /// The status that the client got; 0 for none.
    #[must_use]
    pub fn status(&self) -> u16 {
        self.status
    }

    /// Whether the endpoint has agreed to a tunnel.
    #[must_use]
    pub fn tunnels(&self) -> bool {
        self.tunnels
    }

    /// Whether a gRPC status is still to come.
    #[must_use]
    pub fn is_pending(&self) -> bool {
        self.pending
    }

    /// From the request's head to what happened last.
    #[must_use]
    pub fn took(&self) -> Nanos {
        self.last.since(self.began)
    }

    /// The gRPC status that the client got, if it was told one.
    #[must_use]
    pub fn grpc_status(&self) -> Option<u8> {
        self.grpc
    }

    /// How the request ended, once it did.
    #[must_use]
    pub fn outcome(&self) -> Option<&Outcome> {
        self.outcome.as_ref()
    }

    /// The address of the endpoint that was asked last; empty before one was.
    #[must_use]
    pub fn endpoint_address(&self) -> &str {
        let endpoint = self.last_endpoint.zip(self.upstream());
        endpoint.map_or("", |(index, upstream)| &upstream.endpoints[index].address)
    }

    pub(super) fn upstream(&self) -> Option<&Arc<Upstream>> {
        self.route.as_ref()?.upstream()
    }

    /// From when on the endpoint is waited for: it was sent the request, and has all of it. `None`:
    /// not yet.
    pub(super) fn waited_for_since(&self) -> Option<Nanos> {
        let sent = self.attempt.as_ref()?.sent?;
        self.body.done.then(|| self.asked.max(sent))
    }

    /// Picks an endpoint that was not tried yet, and enters it: for a bound client the one that has
    /// authenticated it, if that may be asked.
    pub(super) fn pick(&mut self, upstream: &Upstream, now: Nanos, rng: &mut Rng) -> Option<u32> {
        let picker = &upstream.picker;
        let last = self.from.binding.as_ref().and_then(|b| b.endpoint_of(upstream));
        let picked = last.and_then(|index| picker.pick_at(index, now));
        let picked = picked.or_else(|| picker.pick(now, rng, &self.tried))?;
        Some(self.enter(upstream, picked, Budget::Out, now))
    }

    /// Enters an endpoint for another attempt; what an earlier one met is not told of it.
    pub(super) fn enter(
        &mut self,
        upstream: &Upstream,
        picked: Picked,
        budget: Budget,
        now: Nanos,
    ) -> u32 {
        let Picked { index, permit, .. } = picked;
        upstream.endpoints[index].state.enter();
        if let Some(binding) = &self.from.binding {
            binding.remember(upstream, index);
        }
        self.tried.insert(index);
        self.attempts = self.attempts.saturating_add(1);
        self.last_endpoint = Some(index);
        self.trace_attempt();
        let permit = Some(permit);
        self.attempt = Some(Attempt { endpoint: index, entered: now, permit, budget, sent: None });
        if let Finding::Failure(_) = self.report.finding {
            self.report_before = self.report;
        }
        self.report = Report::NOTHING;
        upstream.ids[index]
    }

    /// The request is over as it should be: its response was passed on whole, or an answer given
    /// here. Whatever it still holds goes back. Idempotent.
    pub fn finish(&mut self, now: Nanos, rand: u64) {
        let answered = Outcome::of(Reason::Answered, Phase::Over);
        let whole = self.body.done || self.tunnels;
        self.end(if whole { answered } else { answered.because(NOT_WHOLE) }, now, rand);
    }

    /// The request is over; the first to say why is believed.
    pub(super) fn end(&mut self, outcome: Outcome, now: Nanos, rand: u64) {
        if self.stage == Stage::Done {
            return;
        }
        self.stage = Stage::Done;
        self.last = now;
        self.outcome.get_or_insert(outcome);
        self.end_attempt(EndpointOutcome::Neutral, now);
        self.settle_breaker(now, rand);
        while let Some(place) = self.entered.pop() {
            if let Some(op) = self.op(place) {
                op.release();
            }
        }
        self.count(now);
        self.leave_upstream();
        self.reserved = None;
    }

    fn count(&self, now: Nanos) {
        if let Some(route) = &self.route {
            route.stats.ended(self.status, self.grpc, now.since(self.began));
        }
    }

    pub(super) fn listener_stats(&self) -> Option<&ListenerStats> {
        self.compiled.listener(self.listener).map(|l| &l.stats)
    }

    pub(super) fn leave_upstream(&mut self) {
        if std::mem::take(&mut self.in_upstream)
            && let Some(upstream) = self.upstream()
        {
            upstream.share.leave(&upstream.in_flight, &self.compiled.clients, self.client);
        }
    }

    pub(super) fn op(&self, place: Place) -> Option<&Op> {
        let ops = match (&self.route, place.of_route) {
            (Some(route), true) => &route.ops,
            _ => &self.compiled.listener(self.listener)?.ops,
        };
        ops.get(place.op as usize)
    }

    /// A layer charged for the request.
    pub(super) fn charged(&mut self, place: Place, charge: Option<Charge>) {
        self.charges.push(Charged { place, charge });
    }

    /// Gives every charge back: a later limiter refused the request.
    pub(super) fn give_back(&mut self) {
        self.give_back_from(0);
    }

    /// Gives back what layers of the route behind this one were charged: it refuses the request.
    pub(super) fn give_back_behind(&mut self, op: usize) {
        let behind = |c: &Charged| c.place.of_route && c.place.op as usize > op;
        let from = self.charges.iter().position(behind);
        self.give_back_from(from.unwrap_or(self.charges.len()));
    }

    /// Charges stand in the order of their layers, the route's behind the listener's.
    fn give_back_from(&mut self, first: usize) {
        let charges: SmallVec<[Charged; 2]> = self.charges.drain(first..).collect();
        for charged in charges {
            if let Some(op) = self.op(charged.place) {
                op.give_back(charged.charge);
            }
        }
    }

    pub(super) fn settle_endpoint(&mut self, outcome: EndpointOutcome, now: Nanos) {
        let Some(Target::Forward { upstream, .. }) = self.route.as_ref().map(|r| &r.target) else {
            return;
        };
        let Some(attempt) = self.attempt.as_mut() else { return };
        if let Some(permit) = attempt.permit.take() {
            let rules = upstream.spec.ejection.as_ref();
            upstream.picker.settle(attempt.endpoint, permit, outcome, now, rules);
        }
    }

    /// Since when the attempt decides if its endpoint comes back; `None` if it does not.
    pub(super) fn probes_endpoint_since(&self) -> Option<Nanos> {
        let attempt = self.attempt.as_ref()?;
        attempt.permit.as_ref()?.is_probe().then_some(attempt.entered)
    }

    /// The attempt takes no part of the retry budget any more.
    pub(super) fn leave_budget(&mut self) {
        let Some(attempt) = self.attempt.as_mut() else { return };
        let budget = std::mem::replace(&mut attempt.budget, Budget::Out);
        if budget == Budget::In
            && let Some(upstream) = self.upstream()
        {
            upstream.retries.leave();
        }
    }

    /// The request is whole: its retry counts from now on.
    pub(super) fn enter_budget(&mut self) {
        let due = self.attempt.as_ref().is_some_and(|a| a.budget == Budget::Later);
        if due && let Some(upstream) = self.upstream() {
            upstream.retries.enter();
            if let Some(attempt) = &mut self.attempt {
                attempt.budget = Budget::In;
            }
        }
    }

    pub(super) fn end_attempt(&mut self, outcome: EndpointOutcome, now: Nanos) {
        self.settle_endpoint(outcome, now);
        self.leave_budget();
        if let Some(attempt) = self.attempt.take()
            && let Some(upstream) = self.upstream()
        {
            upstream.endpoints[attempt.endpoint].state.leave();
        }
    }

    /// How much of the request's body came with its head.
    pub fn begin_body(&mut self, bytes: u64) {
        self.body.begin(bytes);
    }
}

impl Drop for RequestTicket {
    fn drop(&mut self) {
        let last = self.last;
        self.end(Outcome::of(Reason::InternalError, Phase::Over).because("dropped"), last, last.0);
    }
}
