//! A request's ticket: unpacks, asks the core's, and hands back numbers of [`crate::numbers`].

use std::borrow::Cow;
use std::sync::OnceLock;

use meshcore_core::codec::{HeaderOps, ProxyVersion, proxy_header};
use meshcore_core::exchange::{
    self, Engine, Head, LocalReply, Outcome, Paused, RequestKind, RequestTicket, RouteStack,
    final_status,
};
use meshcore_core::head::{Headers, is_grpc};
use meshcore_core::telemetry::request_id;
use meshcore_core::time::Nanos;
use pyo3::prelude::*;
use pyo3::types::{PyBytes, PyTuple};

use crate::answer::Answer;
use crate::cause::Cause;
use crate::clock::{Ns, unix_ms};
use crate::deadlines::DeadlineTable;
use crate::engine::{ListenerStack, Peer, ip_of};
use crate::message::{Body, FieldText, Part, Request, Response, all};
use crate::numbers::{Due, Keep, Next, Passed, Verdict, phase, reason};
use crate::relay::relay;

/// Not frozen: it belongs to one exchange of one loop.
#[pyclass(module = "meshcore._core")]
pub struct Ticket {
    /// Where it began: to own this is no exchange, as to own what is in it would be.
    pub(crate) listener: Py<ListenerStack>,
    pub(crate) ticket: Box<RequestTicket>,
    answer: Option<exchange::Answer>,
    id: OnceLock<[u8; 32]>,
    /// Where its deadline is, of one that began at a layer, and of a stream's.
    pub(crate) place: Option<(Py<DeadlineTable>, u32)>,
    #[pyo3(get)]
    pub(crate) verdict: u8,
    #[pyo3(get)]
    endpoint: u32,
    #[pyo3(get)]
    pub(crate) layer: u32,
    #[pyo3(get)]
    again_ns: u64,
    /// Whether what came of the request's body is kept for another attempt.
    #[pyo3(get)]
    keeps: bool,
    /// Why the request is over, when no attempt follows one that failed.
    #[pyo3(get)]
    cause: u8,
}

impl Ticket {
    pub(crate) fn new(
        listener: Py<ListenerStack>,
        ticket: Box<RequestTicket>,
        verdict: exchange::Verdict,
    ) -> Self {
        let mut new = Self {
            listener,
            ticket,
            answer: None,
            id: OnceLock::new(),
            place: None,
            verdict: 0,
            endpoint: 0,
            layer: 0,
            again_ns: 0,
            keeps: true,
            cause: 0,
        };
        new.follow(verdict);
        new
    }

    /// Whether it goes on to an endpoint at once.
    pub(crate) fn forwards(&self) -> bool {
        self.verdict == Verdict::Forward as u8
    }

    fn engine(&self) -> &Engine {
        &self.listener.get().engine
    }

    pub(crate) fn follow(&mut self, verdict: exchange::Verdict) -> u8 {
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
    fn go_on(&mut self, endpoint: u32, at: Nanos, now_ns: Ns) -> bool {
        self.endpoint = endpoint;
        self.again_ns = at.0;
        at <= now_ns.into()
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

    /// An id for a request that brings none: the trace's if that begins here, else UUIDv7 (RFC 9562
    /// §5.7) in hexadecimal digits. The same for every attempt.
    pub(crate) fn request_id(&self) -> &[u8; 32] {
        let begun = self.ticket.trace().filter(|trace| trace.caller.is_none());
        let random = || self.engine().random();
        self.id.get_or_init(|| match begun {
            Some(trace) => trace.id.hex(),
            None => request_id(unix_ms(), [random(), random()]),
        })
    }

    pub(crate) fn route(&self) -> Option<&RouteStack> {
        self.ticket.route().map(|r| &**r)
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
    fn resume(&mut self, request: &mut Request, peer: &Bound<'_, Peer>, now_ns: Ns) -> u8 {
        let verdict = self.go_on_behind(request, now_ns);
        if verdict == Verdict::Pause as u8 && request.changed().is_none() {
            request.show(peer, &self.ticket);
        }
        verdict
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

    /// Layers make another body of the request's: what of it came with the head, and a head behind
    /// which anything may follow.
    fn open_request(
        &mut self,
        py: Python<'_>,
        request: &mut Request,
        keeps_length: bool,
    ) -> Option<Body> {
        let body = request.open(py, keeps_length)?;
        self.ticket.make_body();
        Some(body)
    }

    /// The same of the response.
    fn open_response(
        &self,
        py: Python<'_>,
        request: &Request,
        response: &mut Response,
        keeps_length: bool,
    ) -> Option<Body> {
        response.open(py, request, keeps_length)
    }

    fn came(&mut self, size: usize, now_ns: Ns) {
        self.ticket.came(size as u64, now_ns.into());
    }

    fn made(&mut self, size: usize, connected: bool) -> u8 {
        Keep::from(self.ticket.made(size as u64, connected)) as u8
    }

    fn at_work(&mut self, of_request: bool, on: bool, now_ns: Ns) {
        self.ticket.at_work(of_request, on, now_ns.into());
    }

    /// Those that are sent on, if any.
    fn trailers<'py>(
        &self,
        py: Python<'py>,
        body: &Body,
        of_request: bool,
    ) -> PyResult<Option<Vec<FieldText<'py>>>> {
        let trailers = match of_request {
            true => self.request_trailers(&body.0),
            false => self.response_trailers(&body.0),
        };
        trailers.filter(|t| !t.is_empty()).map(|trailers| all(py, &trailers)).transpose()
    }

    fn trailers_changed(&mut self, body: &Body) {
        self.ticket.trailers_changed(final_status(body.0.body.trailers.as_deref()));
    }

    #[getter]
    fn tunnel(&self) -> bool {
        self.ticket.kind() == RequestKind::Tunnel
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
    fn knows_status(&self) -> bool {
        self.ticket.grpc_status().is_some()
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
    fn allowed_by(&self) -> Vec<String> {
        self.ticket.allowed_by().map(Cow::into_owned).collect()
    }

    #[getter]
    fn attempts(&self) -> u8 {
        self.ticket.attempts()
    }

    pub(crate) fn sent(&mut self, now_ns: Ns) {
        self.keeps = self.ticket.sent(now_ns.into());
    }

    fn received(&mut self, size: usize, connected: bool, now_ns: Ns) -> u8 {
        Keep::from(self.ticket.received(size as u64, connected, now_ns.into())) as u8
    }

    fn request_ended(&mut self, now_ns: Ns) {
        self.ticket.request_ended(now_ns.into());
    }

    fn reading(&mut self, on: bool, now_ns: Ns) {
        self.ticket.reading(on, now_ns.into());
    }

    fn await_layer(&mut self, now_ns: Ns) {
        self.ticket.await_layer(now_ns.into());
    }

    /// What a passed deadline means, and if something is over: the reason, and which one.
    fn due(
        &mut self,
        client_paused: bool,
        endpoint_paused: bool,
        now_ns: Ns,
    ) -> (u8, u8, &'static str) {
        let paused = Paused { client: client_paused, endpoint: endpoint_paused };
        match self.ticket.due(paused, now_ns.into()) {
            exchange::Due::NotYet => (Due::NotYet as u8, 0, ""),
            exchange::Due::Over(reason, detail) => (Due::Over as u8, reason as u8, detail),
            exchange::Due::Attempt(reason) => (Due::Attempt as u8, reason as u8, "per_try"),
        }
    }

    #[pyo3(signature = (why, cause, now_ns))]
    fn failed(&mut self, why: usize, cause: Option<&mut Cause>, now_ns: Ns) -> u8 {
        let rng = &mut self.engine().rng();
        let mut own = exchange::Cause::default();
        let cause = shared(cause, &mut own);
        let next = match self.ticket.failed(reason(why), cause, now_ns.into(), rng) {
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

    pub(crate) fn responded(&mut self, response: &Response, now_ns: Ns) -> u8 {
        let head = &response.head;
        let grpc = self.ticket.kind() == RequestKind::Grpc && is_grpc(&head.headers);
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
        let rng = &mut self.engine().rng();
        let passed = match self.ticket.responded(seen, now_ns.into(), rng) {
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

    /// `responded`, and of a response that is whole and passes what [`relay`] made of it; of others
    /// what `receive` of HTTP/1.1 gives.
    pub(crate) fn relay<'py>(
        &mut self,
        py: Python<'py>,
        response: &Bound<'py, Response>,
        request: &Request,
        to: Option<&Bound<'py, PyTuple>>,
        now_ns: Ns,
    ) -> PyResult<Bound<'py, PyAny>> {
        match relay(py, request, &response.borrow(), self, to, now_ns)? {
            Ok(sent) => Ok(sent),
            Err(passed) => Ok((response, passed).into_pyobject(py)?.into_any()),
        }
    }

    fn relayed(&mut self, size: usize, now_ns: Ns) {
        self.ticket.relayed(size as u64, now_ns.into(), self.engine().random());
    }

    fn trailed(&mut self, body: &Body, now_ns: Ns) {
        if self.ticket.is_pending() {
            let status = final_status(body.0.body.trailers.as_deref());
            self.ticket.trailed(status, now_ns.into(), self.engine().random());
        }
    }

    #[pyo3(signature = (answer, at, cause, now_ns))]
    fn decided(&mut self, answer: &Answer, at: usize, cause: Option<&mut Cause>, now_ns: Ns) {
        let rand = self.engine().random();
        self.ticket.decided(
            outcome(answer, at),
            shared(cause, &mut exchange::Cause::default()),
            now_ns.into(),
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
        now_ns: Ns,
    ) {
        let outcome = outcome(answer, at);
        let reply = &answer.reply;
        let grpc = request.head.is_grpc().then(|| reply.grpc_status(answer.reason()));
        let at = (now_ns.into(), self.engine().random());
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
        now_ns: Ns,
    ) {
        let outcome = Outcome::of(reason(why), phase(at)).because(detail);
        self.ticket.cut(
            outcome,
            shared(cause, &mut exchange::Cause::default()),
            now_ns.into(),
            self.engine().random(),
        );
    }

    pub(crate) fn finish(&mut self, now_ns: Ns) {
        let rand = self.engine().random();
        self.ticket.finish(now_ns.into(), rand);
    }

    fn access_line(&self, request: &Request, peer: &Peer, json: bool) -> String {
        let mut text = String::new();
        self.with_line(request, peer, |line| text = line.to_text(json));
        text
    }

    fn outcome(&self) -> crate::outcome::Outcome {
        crate::outcome::Outcome::of(&self.ticket)
    }
}
