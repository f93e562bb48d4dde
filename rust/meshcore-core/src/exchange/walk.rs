//! The walk of one request through its stack: the only place where the order is written.

use std::sync::Arc;

use super::answer::Answer;
use super::body::REPLAY_BYTES;
use super::client_address::Client;
use super::compiled::{Compiled, CompiledListener, Engine};
use super::grpc::parse_timeout;
use super::layer::{Op, Place};
use super::max_forwards;
use super::stack::{RouteStack, Target};
use super::ticket::{RequestKind, RequestTicket, Stage, Verdict};
use crate::balance::Rng;
use crate::error::Reason;
use crate::head::{BodyLength, RequestHead};
use crate::time::Nanos;

/// A client that gives an endpoint less than this gets no answer from it: to ask would only mean to
/// give up at once.
const LEAST_TIME: Nanos = Nanos::from_millis(1);

/// A request as it came, or as it goes on behind a layer.
#[derive(Clone, Copy, Debug)]
pub struct Arrival<'a> {
    /// Its head.
    pub head: &'a RequestHead,
    /// The time.
    pub now: Nanos,
}

/// What the walk reads and never changes.
pub(super) struct Walk<'a> {
    pub(super) compiled: &'a Compiled,
    listener: &'a CompiledListener,
    pub(super) head: &'a RequestHead,
    /// The hash of who sent the request.
    pub(super) client: u64,
    /// Whether the peer may say what only proxies may say.
    trusted: bool,
    pub(super) now: Nanos,
    rand: u64,
}

impl Engine {
    /// Begins a request on a listener of a configuration: runs the stack up to the first verdict.
    /// `whole`: all of it is there; `client`: what [`Compiled::clean`] said.
    ///
    /// One call for a stack without Python layers. O(layers + route look-up); one allocation on the
    /// way to `Forward`, the ticket's.
    pub fn begin(
        &self,
        compiled: &Arc<Compiled>,
        listener: u32,
        whole: bool,
        client: Client,
        arrival: &Arrival<'_>,
    ) -> (Box<RequestTicket>, Verdict) {
        let mut ticket = RequestTicket::new(Arc::clone(compiled), listener, whole, client, arrival);
        if let Some(tracing) = compiled.tracing {
            let trace = tracing.begin(arrival.head, ticket.from.trusted, || self.random());
            ticket.trace = Some(Box::new(trace));
        }
        if let Some(listener) = compiled.listener(listener) {
            listener.stats.began();
            ticket.body.least_rate = listener.body_rate;
            if let Some(detail) = ticket.from.misdirected {
                let answer = Answer { detail, ..Reason::Misdirected.into() };
                return (ticket, Verdict::Answer(answer));
            }
            // Before it is charged: in a circle one request would use up what others have.
            if listener.is_loop(arrival.head) {
                return (ticket, Verdict::Answer(Reason::LoopDetected.into()));
            }
        }
        let verdict = self.walk(compiled, &mut ticket, arrival);
        (ticket, verdict)
    }

    /// Goes on after a Python layer returned, or the awaited body is there.
    pub fn resume(&self, ticket: &mut RequestTicket, arrival: &Arrival<'_>) -> Verdict {
        let compiled = Arc::clone(&ticket.compiled);
        self.walk(&compiled, ticket, arrival)
    }

    /// `compiled`: the ticket's. Counts of owners are left alone, for each is an exchange.
    #[inline]
    fn walk(
        &self,
        compiled: &Compiled,
        ticket: &mut RequestTicket,
        arrival: &Arrival<'_>,
    ) -> Verdict {
        let Some(listener) = compiled.listener(ticket.listener) else {
            return Verdict::Answer(Reason::NoRoute.into());
        };
        let Arrival { head, now } = *arrival;
        let Client { key: client, trusted, .. } = ticket.from;
        let rand = self.random();
        ticket.last = now;
        ticket.await_head();
        let walk = Walk { compiled, listener, head, client, trusted, now, rand };
        let verdict = walk.run(ticket);
        match verdict {
            Verdict::Pause(_) => ticket.await_layer(now),
            // A layer's time is not the service's.
            Verdict::Forward(_) if ticket.body.done => ticket.asked = now,
            _ => {}
        }
        verdict
    }
}

impl Walk<'_> {
    fn run(&self, ticket: &mut RequestTicket) -> Verdict {
        let stopped = self.go(ticket);
        if let Verdict::Answer(answer) = &stopped
            && answer.reason == Reason::RateLimited
        {
            ticket.give_back();
        }
        stopped
    }

    fn go(&self, ticket: &mut RequestTicket) -> Verdict {
        if ticket.stage == Stage::Done {
            return Verdict::Answer(Reason::InternalError.into());
        }
        // Of a request that goes on; of one that begins the route is found on the way.
        let before = ticket.route.clone();
        let mut route = before.as_deref();
        if ticket.stage == Stage::Listener {
            if let Some(stop) = self.layers(ticket, &self.listener.ops) {
                return stop;
            }
            ticket.stage = Stage::Route;
        }
        if ticket.stage == Stage::Route {
            route = self.find(ticket);
            if let Some(stop) = route.and_then(|route| self.classify(ticket, route)) {
                return stop;
            }
        }
        let Some(route) = route else { return Verdict::Answer(Reason::NoRoute.into()) };
        if ticket.stage == Stage::RouteLayers {
            // Most routes have none.
            if !route.ops.is_empty()
                && let Some(stop) = self.layers(ticket, &route.ops)
            {
                return stop;
            }
            ticket.stage = Stage::Admit;
        }
        self.admit(ticket, route)
    }

    /// Runs the ops from the cursor on; `None` when all passed.
    fn layers(&self, ticket: &mut RequestTicket, ops: &[Op]) -> Option<Verdict> {
        let of_route = ticket.stage == Stage::RouteLayers;
        while let Some(layer) = ops.get(ticket.cursor as usize) {
            let op = ticket.cursor;
            ticket.cursor += 1;
            if let Some(stop) = layer.admit(self, ticket, Place { of_route, op }) {
                if stop == Verdict::Await {
                    ticket.cursor = op;
                }
                return Some(stop);
            }
        }
        ticket.cursor = 0;
        None
    }

    fn find(&self, ticket: &mut RequestTicket) -> Option<&RouteStack> {
        let found = self.compiled.routes.find(self.listener.routing, self.head)?;
        ticket.matched = found.route.matched();
        ticket.route = Some(Arc::clone(found.payload));
        if let Some((ratio, trace)) = found.payload.trace_ratio.zip(ticket.trace.as_mut()) {
            trace.sample(ratio);
        }
        ticket.stage = Stage::RouteLayers;
        Some(found.payload)
    }

    /// Whether the request's body is awaited before the request takes a place that others want:
    /// who sends it slowly holds none meanwhile. Only a small body whose length is known, and that
    /// was not asked for yet; and only while there is room to keep it.
    pub(super) fn must_await(&self, ticket: &mut RequestTicket) -> bool {
        let BodyLength::Known(bytes) = self.head.body else { return false };
        let small = bytes <= REPLAY_BYTES && !self.head.expect_continue;
        if ticket.body.done || !small || ticket.kind == RequestKind::Grpc {
            return false;
        }
        if ticket.reserved.is_none() {
            ticket.reserved = self.compiled.buffers.reserve(bytes);
        }
        ticket.reserved.is_some()
    }

    /// Whether its route takes its target, what it asks of time, and whether it may leave HTTP. An
    /// `upgrade` of HTTP/1.1 that is not allowed is ignored (RFC 9110 §7.8), a CONNECT of either
    /// kind and TRACE are refused.
    fn classify(&self, ticket: &mut RequestTicket, route: &RouteStack) -> Option<Verdict> {
        let head = self.head;
        if let Err(rule) = route.refused.refuse(head.oddities) {
            return Some(Verdict::Answer(rule.into()));
        }
        match head.tunnel() {
            Some(tunnel) if route.allows(tunnel) => {
                ticket.kind = RequestKind::Tunnel;
                ticket.agreed = if head.slice(head.method) == b"CONNECT" { 200 } else { 101 };
            }
            Some(_) if head.slice(head.method) == b"CONNECT" => {
                return Some(Verdict::Answer(Reason::MethodNotAllowed.into()));
            }
            _ if head.slice(head.method) == b"TRACE" && !route.trace => {
                return Some(Verdict::Answer(Reason::MethodNotAllowed.into()));
            }
            _ if head.is_grpc() => ticket.kind = RequestKind::Grpc,
            _ => {}
        }
        ticket.body.least_rate = match route.body_rate {
            _ if ticket.kind == RequestKind::Grpc || streams(head) => 0,
            Some(rate) => rate,
            None => self.listener.body_rate,
        };
        if ticket.kind == RequestKind::Grpc {
            self.lower_deadline(ticket, head.headers.get(b"grpc-timeout").and_then(parse_timeout));
        }
        if self.trusted {
            let ms = head.headers.get(b"x-mesh-deadline-ms").and_then(parse_ms);
            self.lower_deadline(ticket, ms);
        }
        None
    }

    fn lower_deadline(&self, ticket: &mut RequestTicket, left: Option<Nanos>) {
        if let Some(left) = left {
            ticket.deadline = ticket.deadline.min(ticket.began + left);
        }
    }

    fn admit(&self, ticket: &mut RequestTicket, route: &RouteStack) -> Verdict {
        let upstream = match &route.target {
            Target::Forward { upstream, .. } => match max_forwards::stops(self.head) {
                None => upstream,
                Some((reason, detail)) => {
                    return Verdict::Answer(Answer { detail, ..reason.into() });
                }
            },
            Target::Redirect { status, .. } => {
                return Verdict::Answer(Answer { status: *status, ..Reason::Redirect.into() });
            }
            Target::Respond { status, .. } => {
                return Verdict::Answer(Answer {
                    status: *status,
                    ..Reason::DirectResponse.into()
                });
            }
        };
        if ticket.deadline < self.now + LEAST_TIME {
            return Verdict::Answer(Reason::DeadlineExceeded.into());
        }
        if self.must_await(ticket) {
            return Verdict::Await;
        }
        ticket.client = self.client ^ upstream.salt;
        if !upstream.share.try_enter(&upstream.in_flight, &self.compiled.clients, ticket.client) {
            let full = upstream.in_flight.current() >= upstream.in_flight.cap();
            let detail = if full { "limits.requests" } else { "limits.client_share" };
            return Verdict::Answer(Answer { detail, ..Reason::Overflow.into() });
        }
        ticket.in_upstream = true;
        ticket.reserved = None;
        if let Some(guard) = route.guard()
            && let Some(open) = guard.admit(self.now, ticket, route.guard_place())
        {
            // It was passed when it was not open yet, or had a probe to give.
            if let Some(op) = route.own_guard_op() {
                ticket.give_back_behind(op);
            }
            return open;
        }
        match ticket.pick(upstream, self.now, &mut Rng::new(self.rand)) {
            Some(endpoint) => Verdict::Forward(endpoint),
            None => Verdict::Answer(Reason::NoHealthyEndpoint.into()),
        }
    }
}

/// Whether a body is a stream of messages beside gRPC's own: gRPC-Web and Connect's. Its sender
/// may have nothing to say for a while.
fn streams(head: &RequestHead) -> bool {
    let kind = head.headers.get(b"content-type").unwrap_or_default();
    kind.starts_with(b"application/grpc-web") || kind.starts_with(b"application/connect+")
}

/// Digits only, as every count of milliseconds.
fn parse_ms(value: &[u8]) -> Option<Nanos> {
    let text = std::str::from_utf8(value).ok().filter(|t| !t.starts_with('+'))?;
    text.parse().ok().map(Nanos::from_millis)
}
