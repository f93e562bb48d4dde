//! A request's ticket: unpacks, asks the core's, and hands back numbers of [`crate::numbers`].

use std::borrow::Cow;
use std::sync::{Arc, OnceLock};

use meshcore_core::codec::{HeaderOps, ProxyVersion, proxy_header};
use meshcore_core::exchange::{
    self, Arrival, Engine, Head, Kind, LocalReply, Outcome, Paused, RequestTicket, RouteStack,
    final_status,
};
use meshcore_core::head::{Headers, Version, is_grpc};
use meshcore_core::telemetry::{AccessLine, request_id};
use meshcore_core::time::Nanos;
use pyo3::prelude::*;
use pyo3::types::PyBytes;

use crate::answer::Answer;
use crate::clock::unix_ms;
use crate::engine::{Peer, ip_of};
use crate::message::{Body, Part, Request, Response};
use crate::numbers::{Due, Keep, Next, Passed, Verdict, phase, reason};

/// Not frozen: it belongs to a connection of one loop.
#[pyclass(module = "meshcore._core")]
#[derive(Default)]
pub struct Cause(exchange::Cause);

#[pymethods]
impl Cause {
    #[new]
    fn new() -> Self {
        Self::default()
    }

    #[staticmethod]
    fn excused() -> Self {
        Self(exchange::Cause::excused())
    }

    #[getter]
    fn counted(&self) -> bool {
        self.0.is_counted()
    }
}

/// Not frozen: it belongs to one exchange of one loop.
#[pyclass(module = "meshcore._core")]
pub struct Ticket {
    engine: Arc<Engine>,
    pub(crate) ticket: Box<RequestTicket>,
    answer: Option<exchange::Answer>,
    id: OnceLock<[u8; 32]>,
    #[pyo3(get)]
    verdict: u8,
    #[pyo3(get)]
    endpoint: u32,
    #[pyo3(get)]
    layer: u32,
    #[pyo3(get)]
    again_ns: u64,
    /// Why the request is over, when no attempt follows one that failed.
    #[pyo3(get)]
    cause: u8,
}

impl Ticket {
    pub(crate) fn new(
        engine: Arc<Engine>,
        ticket: Box<RequestTicket>,
        verdict: exchange::Verdict,
    ) -> Self {
        let mut new = Self {
            engine,
            ticket,
            answer: None,
            id: OnceLock::new(),
            verdict: 0,
            endpoint: 0,
            layer: 0,
            again_ns: 0,
            cause: 0,
        };
        new.follow(verdict);
        new
    }

    fn follow(&mut self, verdict: exchange::Verdict) -> u8 {
        let number = match verdict {
            exchange::Verdict::Forward(endpoint) => {
                self.endpoint = endpoint;
                if self.ticket.is_bound() { Verdict::Bind } else { Verdict::Forward }
            }
            exchange::Verdict::Answer(answer) => {
                self.answer = Some(answer);
                Verdict::Answer
            }
            exchange::Verdict::Pause(layer) => {
                self.layer = layer;
                Verdict::Pause
            }
            exchange::Verdict::Await => Verdict::Await,
        };
        self.verdict = number as u8;
        self.verdict
    }

    /// Where the next attempt goes and when; whether that is now.
    fn go_on(&mut self, endpoint: u32, at: Nanos, now_ns: u64) -> bool {
        self.endpoint = endpoint;
        self.again_ns = at.0;
        at.0 <= now_ns
    }

    pub(crate) fn response_ops(&self) -> &HeaderOps {
        self.ticket.response_ops()
    }

    /// The trailers of a part of the request, as they are sent on.
    pub(crate) fn request_trailers<'a>(&self, part: &'a Part) -> Option<Cow<'a, Headers>> {
        let trailers = part.body.trailers.as_deref();
        trailers.map(|trailers| self.ticket.request_trailers(trailers))
    }

    /// The same of the response.
    pub(crate) fn response_trailers<'a>(&self, part: &'a Part) -> Option<Cow<'a, Headers>> {
        let trailers = part.body.trailers.as_deref();
        trailers.map(|trailers| self.ticket.response_trailers(trailers))
    }

    /// An id for a request that brings none: UUIDv7 (RFC 9562 §5.7) in hexadecimal digits.
    /// The same for every attempt.
    pub(crate) fn request_id(&self) -> &[u8; 32] {
        let random = || self.engine.random();
        self.id.get_or_init(|| request_id(unix_ms(), [random(), random()]))
    }

    pub(crate) fn route(&self) -> Option<&RouteStack> {
        self.ticket.route().map(|r| &**r)
    }

    /// Runs `write` with what the access log tells of the request.
    fn with_line(&self, request: &Request, peer: &Peer, write: impl FnOnce(&AccessLine<'_>)) {
        let head = &request.head;
        let (ticket, outcome) = (&self.ticket, self.ticket.outcome());
        let failed = outcome.filter(|o| !o.is_answered());
        write(&AccessLine {
            unix_ms: unix_ms(),
            listener: ticket.listener(),
            client: &ticket.client().text(&peer.0),
            method: head.slice(head.method),
            host: head.slice(head.host),
            path: head.slice(head.path),
            query: head.query.map(|q| head.slice(q)),
            protocol: match head.version {
                Version::Http10 => "1.0",
                Version::Http11 => "1.1",
                Version::Http2 => "2",
            },
            status: ticket.status(),
            grpc_status: ticket.grpc_status(),
            reason: failed.map_or("", |o| o.reason.code()),
            by: outcome.map_or("", |o| o.by().word()),
            phase: failed.map_or("", |o| o.phase.word()),
            detail: outcome.map_or("", |o| &o.detail),
            route: self.route().map_or("", |r| &r.name),
            endpoint: ticket.endpoint_address(),
            attempts: ticket.attempts(),
            took_ns: ticket.took().0,
            request_id: head
                .headers
                .get(b"x-request-id")
                .unwrap_or_else(|| self.request_id().as_slice()),
            head_bytes: None,
        });
    }
}

/// The cause that requests share, or this request's own.
fn shared<'a>(
    cause: Option<&'a mut Cause>,
    own: &'a mut exchange::Cause,
) -> &'a mut exchange::Cause {
    cause.map_or(own, |shared| &mut shared.0)
}

fn outcome(answer: &Answer, at: usize) -> Outcome {
    Outcome::of(answer.reason(), phase(at)).because(answer.detail().to_owned())
}

#[pymethods]
impl Ticket {
    fn resume(&mut self, request: &mut Request, peer: &Bound<'_, Peer>, now_ns: u64) -> u8 {
        if let Some(changed) = request.changed() {
            self.ticket.request_changed(changed);
        }
        let arrival = Arrival { head: request.head(), now: Nanos(now_ns) };
        let verdict = self.engine.resume(&mut self.ticket, &arrival);
        // Of one that goes on, too: its layers see it again beside the response.
        if request.changed().is_some() || matches!(verdict, exchange::Verdict::Pause(_)) {
            request.show(peer, &self.ticket);
        }
        self.follow(verdict)
    }

    fn answer(&self, request: &Request) -> Answer {
        let answer =
            self.answer.unwrap_or_else(|| meshcore_core::error::Reason::InternalError.into());
        let reply = LocalReply::new(&answer, self.route(), Some(request.head()));
        Answer::local(answer.reason, self.ticket.detail_of(&answer), reply)
    }

    /// The header of the PROXY protocol for a connection of this client, which came to `host` and
    /// `port`.
    fn proxy_header(
        &self,
        py: Python<'_>,
        peer: &Peer,
        host: Option<&str>,
        port: u16,
        version: u8,
    ) -> Py<PyBytes> {
        let local = ip_of(host).map(|ip| (ip, port).into());
        let version = if version == 1 { ProxyVersion::V1 } else { ProxyVersion::V2 };
        PyBytes::new(py, &proxy_header(version, self.ticket.ends(&peer.0, local))).unbind()
    }

    /// As a deadline slot holds it: `i64::MAX` is never.
    fn arm(&mut self) -> u64 {
        self.ticket.arm().0.min(i64::MAX as u64)
    }

    #[getter]
    fn due_sooner(&self) -> bool {
        self.ticket.is_due_sooner()
    }

    #[getter]
    fn tunnel(&self) -> bool {
        self.ticket.kind() == Kind::Tunnel
    }

    #[getter]
    fn tunnels(&self) -> bool {
        self.ticket.tunnels()
    }

    #[getter]
    fn pending(&self) -> bool {
        self.ticket.is_pending()
    }

    #[getter]
    fn repeatable(&self) -> bool {
        self.ticket.is_repeatable()
    }

    #[getter(route)]
    fn route_name(&self) -> &str {
        self.route().map_or("", |r| &r.name)
    }

    #[getter]
    fn stands_at(&self) -> Option<(bool, u16)> {
        self.ticket.layer()
    }

    #[getter]
    fn attempts(&self) -> u8 {
        self.ticket.attempts()
    }

    fn sent(&mut self, now_ns: u64) -> bool {
        self.ticket.sent(Nanos(now_ns))
    }

    fn received(&mut self, size: usize, connected: bool, now_ns: u64) -> u8 {
        let keep = match self.ticket.received(size as u64, connected, Nanos(now_ns)) {
            exchange::Keep::Yes => Keep::Yes,
            exchange::Keep::Full => Keep::Full,
            exchange::Keep::No => Keep::No,
        };
        keep as u8
    }

    fn request_ended(&mut self, now_ns: u64) {
        self.ticket.request_ended(Nanos(now_ns));
    }

    fn reading(&mut self, on: bool, now_ns: u64) {
        self.ticket.reading(on, Nanos(now_ns));
    }

    fn await_layer(&mut self, now_ns: u64) {
        self.ticket.await_layer(Nanos(now_ns));
    }

    /// What a passed deadline means, and if something is over: the reason, and which one.
    fn due(
        &mut self,
        client_paused: bool,
        endpoint_paused: bool,
        now_ns: u64,
    ) -> (u8, u8, &'static str) {
        let paused = Paused { client: client_paused, endpoint: endpoint_paused };
        match self.ticket.due(paused, Nanos(now_ns)) {
            exchange::Due::NotYet => (Due::NotYet as u8, 0, ""),
            exchange::Due::Over(reason, detail) => (Due::Over as u8, reason as u8, detail),
            exchange::Due::Attempt(reason) => (Due::Attempt as u8, reason as u8, "per_try"),
        }
    }

    #[pyo3(signature = (why, cause, now_ns))]
    fn failed(&mut self, why: usize, cause: Option<&mut Cause>, now_ns: u64) -> u8 {
        let rng = &mut self.engine.rng();
        let mut own = exchange::Cause::default();
        let cause = shared(cause, &mut own);
        let next = match self.ticket.failed(reason(why), cause, Nanos(now_ns), rng) {
            exchange::Next::Again { endpoint, at } if self.go_on(endpoint, at, now_ns) => {
                Next::Again
            }
            exchange::Next::Again { .. } => Next::Later,
            exchange::Next::Fresh => Next::Fresh,
            exchange::Next::Answer(reason) => {
                self.cause = reason as u8;
                Next::Answer
            }
        };
        next as u8
    }

    fn responded(&mut self, response: &Response, now_ns: u64) -> u8 {
        let head = &response.head;
        let grpc = self.ticket.kind() == Kind::Grpc && is_grpc(&head.headers);
        let seen = Head {
            status: head.status,
            grpc,
            grpc_status: if grpc { response.grpc_status() } else { None },
            bytes: response.part.len() as u64,
            tunnel: response.begins_tunnel(),
            retry_after: if head.status < 400 {
                None
            } else {
                exchange::retry_after(&head.headers, || unix_ms() / 1000)
            },
        };
        let rng = &mut self.engine.rng();
        let passed = match self.ticket.responded(seen, Nanos(now_ns), rng) {
            exchange::Passed::Relay => Passed::Relay,
            exchange::Passed::Tunnel => Passed::Tunnel,
            exchange::Passed::TooEarly => Passed::TooEarly,
            exchange::Passed::Again { endpoint, at } if self.go_on(endpoint, at, now_ns) => {
                Passed::Again
            }
            exchange::Passed::Again { .. } => Passed::Later,
        };
        passed as u8
    }

    fn relayed(&mut self, size: usize, now_ns: u64) {
        self.ticket.relayed(size as u64, Nanos(now_ns), self.engine.random());
    }

    fn trailed(&mut self, body: &Body, now_ns: u64) {
        if self.ticket.is_pending() {
            let status = final_status(body.0.body.trailers.as_deref());
            self.ticket.trailed(status, Nanos(now_ns), self.engine.random());
        }
    }

    #[pyo3(signature = (answer, at, cause, now_ns))]
    fn decided(&mut self, answer: &Answer, at: usize, cause: Option<&mut Cause>, now_ns: u64) {
        let rand = self.engine.random();
        self.ticket.decided(
            outcome(answer, at),
            shared(cause, &mut exchange::Cause::default()),
            Nanos(now_ns),
            rand,
        );
    }

    #[pyo3(signature = (request, answer, at, cause, now_ns))]
    fn answered(
        &mut self,
        request: &Request,
        answer: &Answer,
        at: usize,
        cause: Option<&mut Cause>,
        now_ns: u64,
    ) {
        let outcome = outcome(answer, at);
        let reply = &answer.reply;
        let grpc = request.head.is_grpc().then(|| reply.grpc_status(answer.reason()));
        let at = (Nanos(now_ns), self.engine.random());
        self.ticket.answered(
            reply.status,
            grpc,
            outcome,
            shared(cause, &mut exchange::Cause::default()),
            at,
        );
    }

    fn ended_with(&mut self, answer: &Answer) {
        self.ticket.ended_with(answer.reply.grpc_status(answer.reason()));
    }

    #[pyo3(signature = (why, detail, at, cause, now_ns))]
    fn cut(
        &mut self,
        why: usize,
        detail: String,
        at: usize,
        cause: Option<&mut Cause>,
        now_ns: u64,
    ) {
        let outcome = Outcome::of(reason(why), phase(at)).because(detail);
        self.ticket.cut(
            outcome,
            shared(cause, &mut exchange::Cause::default()),
            Nanos(now_ns),
            self.engine.random(),
        );
    }

    fn finish(&mut self, now_ns: u64) {
        let rand = self.engine.random();
        self.ticket.finish(Nanos(now_ns), rand);
    }

    fn access_line(&self, request: &Request, peer: &Peer, json: bool) -> String {
        let mut text = String::new();
        self.with_line(request, peer, |line| text = line.to_text(json));
        text
    }

    #[pyo3(name = "outcome")]
    fn told(&self) -> crate::outcome::Outcome {
        crate::outcome::Outcome::of(&self.ticket)
    }
}
