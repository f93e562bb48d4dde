//! A request's ticket, and the numbers that Python and the core agree on.

use std::borrow::Cow;
use std::sync::{Arc, LazyLock, OnceLock};

use meshcore_core::codec::HeaderOps;
use meshcore_core::exchange::{
    self, Engine, Kind, LocalReply, RequestTicket, RouteStack, status_of,
};
use meshcore_core::telemetry::request_id;
use meshcore_core::time::Nanos;
use pyo3::prelude::*;

use crate::answer::Answer;
use crate::clock::unix_ms;
use crate::engine::Peer;
use crate::message::{Body, Request, Response};

const FORWARD: u8 = 0;
const ANSWER: u8 = 1;
const PAUSE: u8 = 2;

/// Between two bytes of a plain request's body: 30 s.
const BODY_IDLE_NS: u64 = 30_000_000_000;

static NO_OPS: LazyLock<HeaderOps> = LazyLock::new(HeaderOps::default);

/// How an attempt failed, as Python numbers it.
fn failure_of(number: u8, status: u16) -> exchange::Failure {
    match number {
        0 => exchange::Failure::Connect,
        1 => exchange::Failure::Reset,
        2 => exchange::Failure::Timeout,
        3 => exchange::Failure::Protocol,
        4 => exchange::Failure::Status(status),
        5 => exchange::Failure::Cancelled,
        7 => exchange::Failure::Refused,
        8 => exchange::Failure::Grpc(status as u8),
        9 => exchange::Failure::Deadline,
        _ => exchange::Failure::Abandoned,
    }
}

/// Not frozen: it belongs to one exchange of one loop.
#[pyclass(module = "meshcore._core")]
pub struct Ticket {
    engine: Arc<Engine>,
    pub(crate) ticket: RequestTicket,
    answer: Option<exchange::Answer>,
    id: OnceLock<[u8; 32]>,
    #[pyo3(get)]
    verdict: u8,
    #[pyo3(get)]
    endpoint: u32,
    #[pyo3(get)]
    layer: u32,
}

impl Ticket {
    pub(crate) fn new(
        engine: Arc<Engine>,
        ticket: RequestTicket,
        verdict: exchange::Verdict,
    ) -> Self {
        let (answer, id) = (None, OnceLock::new());
        let mut new = Self { engine, ticket, answer, id, verdict: ANSWER, endpoint: 0, layer: 0 };
        new.follow(verdict);
        new
    }

    fn follow(&mut self, verdict: exchange::Verdict) -> u8 {
        self.verdict = match verdict {
            exchange::Verdict::Forward(endpoint) => {
                self.endpoint = endpoint;
                FORWARD
            }
            exchange::Verdict::Answer(answer) => {
                self.answer = Some(answer);
                ANSWER
            }
            exchange::Verdict::Pause(layer) => {
                self.layer = layer;
                PAUSE
            }
        };
        self.verdict
    }

    pub(crate) fn request_ops(&self) -> &HeaderOps {
        self.route().map_or(&NO_OPS, |r| &r.request_ops)
    }

    pub(crate) fn response_ops(&self) -> &HeaderOps {
        self.route().map_or(&NO_OPS, |r| &r.response_ops)
    }

    /// Whether the socket's peer is a proxy that the listener trusts.
    pub(crate) fn trusts_peer(&self) -> bool {
        self.ticket.trusts_peer()
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
}

#[pymethods]
impl Ticket {
    fn resume(&mut self, request: &Request, peer: &Peer, now_ns: u64) -> u8 {
        let engine = Arc::clone(&self.engine);
        let verdict = engine.resume(&mut self.ticket, request.head(), &peer.0, Nanos(now_ns));
        self.follow(verdict)
    }

    fn answer(&self, request: &Request) -> Answer {
        let answer =
            self.answer.unwrap_or_else(|| meshcore_core::error::Reason::InternalError.into());
        Answer::local(answer.reason, LocalReply::new(&answer, self.route(), Some(request.head())))
    }

    /// A stream may be silent for as long as its route allows, in either direction.
    #[getter]
    fn timeout_ns(&self) -> u64 {
        let plain = self.ticket.kind() == Kind::Plain;
        self.route().map_or(0, |r| if plain { r.timeout_ns } else { r.idle_ns })
    }

    #[getter]
    fn body_idle_ns(&self) -> u64 {
        let idle = self.route().map_or(0, |r| r.idle_ns);
        if self.ticket.kind() == Kind::Plain { BODY_IDLE_NS } else { idle }
    }

    /// `i64::MAX`, which a deadline slot holds, when the client did not say.
    #[getter]
    fn deadline_ns(&self) -> u64 {
        self.ticket.deadline().0.min(i64::MAX as u64)
    }

    #[getter]
    fn tunnel(&self) -> bool {
        self.ticket.kind() == Kind::Tunnel
    }

    #[getter]
    fn idle_ns(&self) -> u64 {
        self.route().map_or(0, |r| r.idle_ns)
    }

    #[getter(route)]
    fn route_name(&self) -> &str {
        self.route().map_or("", |r| &r.name)
    }

    #[getter(request_id)]
    fn request_id_text(&self) -> Cow<'_, str> {
        String::from_utf8_lossy(self.request_id())
    }

    #[getter]
    fn attempts(&self) -> u8 {
        self.ticket.attempts()
    }

    /// As what failure the route retries this response, and its status; `None`: it does not.
    fn retries(&self, response: &Response) -> Option<(u8, u16)> {
        let retry = &self.route()?.retry;
        if retry.statuses.contains(&response.head.status) {
            return Some((4, response.head.status));
        }
        if retry.grpc_statuses.is_empty() || response.part.len() > 0 {
            return None;
        }
        let status = response.grpc_status().filter(|s| retry.grpc_statuses.contains(s))?;
        Some((8, u16::from(status)))
    }

    fn request_ended(&mut self, now_ns: u64) {
        self.ticket.request_ended(Nanos(now_ns));
    }

    fn fail(&mut self, failure: u8, now_ns: u64) {
        self.ticket.fail(failure_of(failure, 0), Nanos(now_ns));
    }

    fn retry(&mut self, failure: u8, status: u16, now_ns: u64) -> bool {
        let rng = &mut self.engine.rng();
        let failure = failure_of(failure, status);
        match self.ticket.retry(failure, Nanos(now_ns), rng) {
            Some(endpoint) => {
                self.endpoint = endpoint;
                true
            }
            None => false,
        }
    }

    fn jitter(&self, span_ns: u64) -> u64 {
        self.engine.random() % span_ns.max(1)
    }

    /// Whether a gRPC status is still to come: `streamed` or `trailed` settle then.
    fn responded(&mut self, response: &Response, now_ns: u64) -> bool {
        let (status, now, rand) = (response.head.status, Nanos(now_ns), self.engine.random());
        if self.tunnel() && response.begins_tunnel() {
            self.ticket.tunnelled(true, response.part.len() as u64);
        }
        if self.ticket.kind() != Kind::Grpc || status != 200 {
            self.ticket.responded(status, now, rand);
            return false;
        }
        self.ticket.responded_grpc(status, now);
        if response.part.len() > 0 {
            self.ticket.streamed(now, rand);
        }
        let Some(status) = response.grpc_status() else { return true };
        self.ticket.trailed(status, now, rand);
        false
    }

    fn streamed(&mut self, now_ns: u64) {
        let rand = self.engine.random();
        self.ticket.streamed(Nanos(now_ns), rand);
    }

    fn trailed(&mut self, body: &Body, now_ns: u64) {
        let rand = self.engine.random();
        // A call that ends without a status is UNKNOWN to its client.
        let status = body.0.body.trailers.as_deref().and_then(status_of).unwrap_or(2);
        self.ticket.trailed(status, Nanos(now_ns), rand);
    }

    fn tunnelled(&self, to_client: bool, size: usize) {
        self.ticket.tunnelled(to_client, size as u64);
    }

    fn answered(&mut self, status: u16) {
        self.ticket.answered(status);
    }

    fn finish(&mut self, now_ns: u64) {
        let rand = self.engine.random();
        self.ticket.finish(Nanos(now_ns), rand);
    }
}
