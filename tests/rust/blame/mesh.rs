//! One listener, one route, one upstream; requests to it; and a service that fails as it is told.

use std::sync::Arc;

use meshcore_core::admission::BreakerState;
use meshcore_core::balance::Rng;
use meshcore_core::error::Reason;
use meshcore_core::exchange::{
    Arrival, Cause, Compiled, Compiler, Due, Engine, Head, Next, Outcome, Paused, Peer, Phase,
    RequestTicket, Verdict, render_metrics,
};
use meshcore_core::head::{BodyLength, Headers, RequestHead, Scheme, Version};
use meshcore_core::segment::{Segment, SegmentConfig};
use meshcore_core::telemetry::Format;
use meshcore_core::time::Nanos;
use serde_json::{Value, json};

pub(crate) const T0: Nanos = Nanos::from_secs(1_000);
pub(crate) const TIMEOUT: Nanos = Nanos::from_secs(5);
pub(crate) const ANSWER: Head = Head {
    status: 200,
    grpc: false,
    grpc_status: None,
    bytes: 0,
    tunnel: false,
    retry_after: None,
};

/// A configuration to which a test adds keys.
#[derive(Clone, Debug)]
pub(crate) struct Config {
    pub(crate) listener: Value,
    pub(crate) route: Value,
    pub(crate) upstream: Value,
    pub(crate) buffer_total: u64,
}

impl Config {
    /// So many endpoints; neither breaker nor ejection nor retries, and caps out of the way.
    pub(crate) fn new(endpoints: usize) -> Self {
        let endpoints: Vec<_> =
            (0..endpoints).map(|i| json!({"address": format!("10.0.0.{i}:80")})).collect();
        Self {
            listener: json!({}),
            route: json!({
                "name": "all",
                "action": {"forward": {"upstream": "one"}},
                "timeout_ns": TIMEOUT.0,
                "idle_ns": Nanos::from_secs(60).0,
                "retry": {"retries": 0, "connect": true, "reset": true},
            }),
            upstream: json!({
                "balance": "round_robin",
                "endpoints": endpoints,
                "client_share_percent": 100,
                "retry_budget_percent": 100,
            }),
            buffer_total: 0,
        }
    }

    pub(crate) fn route(mut self, key: &str, value: Value) -> Self {
        self.route[key] = value;
        self
    }

    pub(crate) fn upstream(mut self, key: &str, value: Value) -> Self {
        self.upstream[key] = value;
        self
    }

    pub(crate) fn listener(mut self, key: &str, value: Value) -> Self {
        self.listener[key] = value;
        self
    }

    /// A breaker that any failure opens, if one may be named.
    pub(crate) fn touchy(self) -> Self {
        let rules = json!({"failures": 1, "failure_percent": 1, "min_calls": 1});
        self.upstream("breaker", rules)
    }
}

pub(crate) struct Mesh {
    pub(crate) engine: Engine,
    pub(crate) compiled: Arc<Compiled>,
    pub(crate) rng: Rng,
    pub(crate) now: Nanos,
    peer: Peer,
    first_id: u32,
}

impl Mesh {
    pub(crate) fn new(config: &Config, seed: u64) -> Self {
        let segment = SegmentConfig { max_bytes: 4 << 20, worker_slots: 1 };
        let mut compiler = Compiler::new(Segment::anonymous(segment).unwrap(), 0, [1, 2]);
        let engine = Engine::new(seed);
        let delta = json!({
            "config_version": 1,
            "listeners": {"edge": config.listener},
            "hosts": {"*": [config.route]},
            "upstreams": {"one": config.upstream},
            "buffer_total": config.buffer_total,
        });
        let delta = serde_json::from_value(delta).unwrap();
        engine.swap(compiler.apply(&engine.compiled(), delta, T0).unwrap());
        let compiled = engine.compiled();
        let first_id = compiled.upstreams().next().unwrap().endpoints().next().unwrap().0;
        let peer = Peer::new("192.0.2.1".parse().ok(), [1, 2]);
        Self { engine, compiled, rng: Rng::new(seed), now: T0, peer, first_id }
    }

    pub(crate) fn wait(&mut self, ms: u64) {
        self.now = self.now + Nanos::from_millis(ms);
    }

    pub(crate) fn below(&mut self, n: usize) -> usize {
        usize::try_from(self.rng.below(n as u64)).unwrap()
    }

    /// The index of an endpoint's id.
    pub(crate) fn index(&self, id: u32) -> usize {
        (id - self.first_id) as usize
    }

    /// A request whose body is all there if `whole`.
    pub(crate) fn begin(&self, head: &RequestHead, whole: bool) -> (Box<RequestTicket>, Verdict) {
        let listener = self.compiled.listener_id("edge").unwrap();
        let mut head = head.clone();
        let client = self.compiled.clean(listener, &self.peer, &mut head);
        self.engine.begin(&self.compiled, listener, whole, client, &self.arrival(&head))
    }

    pub(crate) fn resume(&self, ticket: &mut RequestTicket, head: &RequestHead) -> Verdict {
        self.engine.resume(ticket, &self.arrival(head))
    }

    fn arrival<'a>(&'a self, head: &'a RequestHead) -> Arrival<'a> {
        Arrival { head, now: self.now }
    }

    /// A GET that an endpoint is asked for; its index.
    pub(crate) fn ask(&self) -> (Box<RequestTicket>, usize) {
        self.ask_as(&get(), true)
    }

    pub(crate) fn ask_as(&self, head: &RequestHead, whole: bool) -> (Box<RequestTicket>, usize) {
        let (mut ticket, verdict) = self.begin(head, whole);
        let Verdict::Forward(id) = verdict else { panic!("{verdict:?}") };
        ticket.sent(self.now);
        (ticket, self.index(id))
    }

    pub(crate) fn failed(
        &mut self,
        ticket: &mut RequestTicket,
        reason: Reason,
        cause: &mut Cause,
    ) -> Next {
        ticket.failed(reason, cause, self.now, &mut self.rng)
    }

    pub(crate) fn respond(&mut self, ticket: &mut RequestTicket, head: Head) {
        ticket.responded(head, self.now, &mut self.rng);
    }

    /// The client gets an answer of ours.
    pub(crate) fn answer(&mut self, mut ticket: Box<RequestTicket>, reason: Reason) {
        let (outcome, at) = (Outcome::of(reason, Phase::Asked), (self.now, self.rng.next_u64()));
        ticket.answered(reason.status(), None, outcome, &mut Cause::default(), at);
        self.finish(ticket);
    }

    pub(crate) fn cut(&mut self, mut ticket: Box<RequestTicket>, reason: Reason) {
        let outcome = Outcome::of(reason, Phase::Answering);
        ticket.cut(outcome, &mut Cause::default(), self.now, self.rng.next_u64());
    }

    pub(crate) fn finish(&mut self, mut ticket: Box<RequestTicket>) {
        ticket.finish(self.now, self.rng.next_u64());
    }

    /// The attempt fails, and no other follows.
    pub(crate) fn fail(&mut self, mut ticket: Box<RequestTicket>, reason: Reason) {
        assert_eq!(self.failed(&mut ticket, reason, &mut Cause::default()), Next::Answer(reason));
        self.answer(ticket, reason);
    }

    /// Time goes on until something is due; what it means.
    pub(crate) fn until_due(&mut self, ticket: &mut RequestTicket, paused: Paused) -> Due {
        self.now = ticket.next_due();
        assert_ne!(self.now, Nanos::MAX, "nothing is due");
        ticket.due(paused, self.now)
    }

    pub(crate) fn breaker(&self) -> BreakerState {
        self.compiled.upstream("one").unwrap().breaker().unwrap().state(self.now)
    }

    pub(crate) fn is_open(&self) -> bool {
        self.breaker() == BreakerState::Open
    }

    pub(crate) fn ejected(&self) -> usize {
        let upstream = self.compiled.upstream("one").unwrap();
        upstream.endpoints().filter(|(_, e)| e.state.is_ejected()).count()
    }

    /// The sum of a metric.
    pub(crate) fn metric(&self, name: &str) -> u64 {
        let text = render_metrics(&self.compiled, Format::Prometheus, self.now, &[]);
        let values = text.lines().filter(|line| line.split(['{', ' ']).next() == Some(name));
        values.map(|line| line.rsplit_once(' ').unwrap().1.parse::<u64>().unwrap()).sum()
    }

    /// Everything that is held for requests.
    pub(crate) fn held(&self) -> u64 {
        ["meshcore_upstream_requests", "meshcore_upstream_retries", "meshcore_endpoint_requests"]
            .map(|name| self.metric(name))
            .iter()
            .sum()
    }
}

pub(crate) fn get() -> RequestHead {
    request("GET", BodyLength::Empty, &[])
}

pub(crate) fn post(body: BodyLength) -> RequestHead {
    request("POST", body, &[])
}

pub(crate) fn grpc(fields: &[(&str, &str)]) -> RequestHead {
    let all = [&[("content-type", "application/grpc")], fields].concat();
    request("POST", BodyLength::Streamed, &all)
}

pub(crate) fn request(method: &str, body: BodyLength, fields: &[(&str, &str)]) -> RequestHead {
    let mut headers = Headers::default();
    let method = headers.append(method.as_bytes());
    let authority = headers.append(b"a.test");
    let path = headers.append(b"/");
    for (name, value) in fields {
        headers.push(name.as_bytes(), value.as_bytes());
    }
    RequestHead {
        version: Version::Http2,
        method,
        scheme: Scheme::Http,
        authority,
        host: authority,
        path,
        forward_path: path,
        raw_path: path,
        oddities: meshcore_core::path::Oddities::NONE,
        query: None,
        body,
        keep_alive: true,
        expect_continue: false,
        upgrade: None,
        vouched: false,
        via: false,
        binds: false,
        headers,
    }
}
