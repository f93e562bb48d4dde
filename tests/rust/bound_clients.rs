//! Where the requests of a client go whose credentials authenticate connections.

#![cfg(not(feature = "loom"))]
#![allow(clippy::unwrap_used)] // helpers of tests may panic as tests do

use meshcore_core::balance::Rng;
use meshcore_core::codec::{H1Server, Limits, ServerEvent};
use meshcore_core::error::Reason;
use meshcore_core::exchange::{
    Arrival, Cause, Compiler, Engine, Next, Peer, RequestTicket, Verdict,
};
use meshcore_core::head::RequestHead;
use meshcore_core::segment::{Segment, SegmentConfig};
use meshcore_core::time::Nanos;
use serde_json::{Value, json};

const T0: Nanos = Nanos::from_secs(1_000);
const HOUR_NS: u64 = 3_600_000_000_000;
const NTLM: &str = "authorization: NTLM TlRMTVNTUAAB\r\n";

struct Mesh {
    compiler: Compiler,
    engine: Engine,
}

impl Mesh {
    /// Upstreams `u0`, `u1`, … each with these endpoints, for the paths `/0`, `/1`, …
    fn new(upstreams: usize, endpoints: &[&str]) -> Self {
        let config = SegmentConfig { max_bytes: 16 << 20, worker_slots: 1 };
        let compiler = Compiler::new(Segment::anonymous(config).unwrap(), 0, [1, 2]);
        let mut mesh = Self { compiler, engine: Engine::new(1) };
        mesh.apply(upstreams, endpoints);
        mesh
    }

    fn apply(&mut self, upstreams: usize, endpoints: &[&str]) {
        let endpoints: Vec<_> = endpoints.iter().map(|a| json!({ "address": a })).collect();
        let upstream = json!({
            "endpoints": endpoints,
            "balance": "round_robin",
            "ejection": {"failures": 1, "eject_for_ns": HOUR_NS, "max_eject_for_ns": HOUR_NS,
                         "max_percent": 50},
        });
        let names = (0..upstreams).map(|n| (format!("u{n}"), upstream.clone()));
        let routes: Vec<_> = (0..upstreams)
            .map(|n| {
                json!({"name": n.to_string(), "path": {"prefix": format!("/{n}")},
                       "action": {"forward": {"upstream": format!("u{n}")}}})
            })
            .collect();
        let delta = json!({
            "config_version": 1,
            "listeners": {"edge": {}},
            "upstreams": Value::Object(names.collect()),
            "hosts": {"*": routes},
        });
        let delta = serde_json::from_value(delta).unwrap();
        self.engine.swap(self.compiler.apply(&self.engine.compiled(), delta, T0).unwrap());
    }

    fn begin(&self, peer: &Peer, upstream: usize, fields: &str) -> (Box<RequestTicket>, u32) {
        let mut head = head(upstream, fields);
        let compiled = self.engine.compiled();
        let client = compiled.clean(0, peer, &mut head);
        let arrival = Arrival { head: &head, now: T0 };
        let (ticket, verdict) = self.engine.begin(&compiled, 0, true, client, &arrival);
        let Verdict::Forward(endpoint) = verdict else { panic!("{verdict:?}") };
        (ticket, endpoint)
    }

    /// Where a request goes.
    fn ask(&self, peer: &Peer, upstream: usize, fields: &str) -> u32 {
        let (mut ticket, endpoint) = self.begin(peer, upstream, fields);
        ticket.finish(T0, 1);
        endpoint
    }

    fn address(&self, upstream: usize, endpoint: u32) -> String {
        let compiled = self.engine.compiled();
        let upstream = compiled.upstreams().find(|u| u.name == format!("u{upstream}")).unwrap();
        let mut all = upstream.endpoints();
        all.find(|(id, _)| *id == endpoint).unwrap().1.address.clone()
    }
}

fn head(upstream: usize, fields: &str) -> RequestHead {
    let text = format!("GET /{upstream} HTTP/1.1\r\nhost: a\r\n{fields}\r\n");
    match H1Server::new(Limits::default()).receive(text.as_bytes()) {
        Ok(Some(ServerEvent::Head { head, .. })) => head,
        other => panic!("{other:?}"),
    }
}

fn client() -> Peer {
    Peer::new("192.0.2.1".parse().ok(), [1, 2])
}

/// How many different ones there are.
fn different(mut endpoints: Vec<u32>) -> usize {
    endpoints.sort_unstable();
    endpoints.dedup();
    endpoints.len()
}

#[test]
fn a_bound_client_stays_and_takes_nobodys_turn() {
    let mesh = Mesh::new(1, &["a:1", "b:1", "c:1"]);
    let (bound, other) = (client(), client());
    let home = mesh.ask(&bound, 0, NTLM);
    assert!(mesh.begin(&bound, 0, "").0.is_bound(), "for good");
    assert!(!mesh.begin(&other, 0, "authorization: Basic a\r\n").0.is_bound());
    let mut others = Vec::new();
    for fields in ["", NTLM, "", ""] {
        assert_eq!(mesh.ask(&bound, 0, fields), home);
        others.push(mesh.ask(&other, 0, ""));
        assert_eq!(mesh.ask(&bound, 0, ""), home);
    }
    assert_eq!(different(others[..3].to_vec()), 3, "each has its turn");
}

#[test]
fn other_clients_are_not_bound_with_it() {
    let mesh = Mesh::new(1, &["a:1", "b:1"]);
    let bound = client();
    mesh.ask(&bound, 0, NTLM);
    assert!(!mesh.begin(&client(), 0, "").0.is_bound(), "the same address, another connection");
}

#[test]
fn a_retry_goes_elsewhere_and_the_next_request_after_it() {
    let mesh = Mesh::new(1, &["a:1", "b:1"]);
    let bound = client();
    let (mut ticket, first) = mesh.begin(&bound, 0, NTLM);
    let next = ticket.failed(Reason::UpstreamConnect, &mut Cause::default(), T0, &mut Rng::new(1));
    let Next::Again { endpoint, .. } = next else { panic!("{next:?}") };
    assert_ne!(endpoint, first);
    ticket.finish(T0, 1);
    // Ejected is the one, and what was authenticated is at the other.
    for _ in 0..4 {
        assert_eq!(mesh.ask(&bound, 0, ""), endpoint);
    }
}

#[test]
fn an_endpoint_that_may_not_be_asked_is_left() {
    let mesh = Mesh::new(1, &["a:1", "b:1"]);
    let (bound, other) = (client(), client());
    let home = mesh.ask(&bound, 0, NTLM);
    loop {
        let (mut ticket, endpoint) = mesh.begin(&other, 0, "");
        if endpoint == home {
            ticket.failed(Reason::UpstreamConnect, &mut Cause::default(), T0, &mut Rng::new(1));
            break;
        }
    }
    let away = mesh.ask(&bound, 0, "");
    assert_ne!(away, home, "ejected");
    assert_eq!(mesh.ask(&bound, 0, ""), away);

    let mesh = Mesh::new(1, &["a:1", "b:1"]);
    let bound = client();
    let home = mesh.ask(&bound, 0, NTLM);
    let compiled = mesh.engine.compiled();
    let endpoints = || compiled.upstreams().next().unwrap().endpoints();
    endpoints().filter(|(id, _)| *id == home).for_each(|(_, e)| e.state.set_draining(true));
    let away = mesh.ask(&bound, 0, "");
    assert_ne!(away, home, "draining");
    endpoints().for_each(|(_, e)| e.state.set_draining(true));
    assert_eq!(mesh.ask(&bound, 0, ""), away, "all are");
}

#[test]
fn the_endpoint_is_found_again_after_a_reload() {
    let mut mesh = Mesh::new(1, &["a:1", "b:1", "c:1"]);
    let bound = client();
    let home = mesh.ask(&bound, 0, NTLM);
    let address = mesh.address(0, home);
    mesh.apply(1, &["d:1", "c:1", "b:1", "a:1"]);
    for _ in 0..5 {
        let now = mesh.ask(&bound, 0, "");
        assert_eq!((now, mesh.address(0, now)), (home, address.clone()));
    }
    mesh.apply(1, &["d:1", "e:1"]);
    let away = mesh.ask(&bound, 0, "");
    assert_ne!(away, home, "it is gone");
    assert_eq!(mesh.ask(&bound, 0, ""), away);
}

#[test]
fn of_several_upstreams_each_has_its_endpoint() {
    let mesh = Mesh::new(6, &["a:1", "b:1", "c:1"]);
    let (bound, other) = (client(), client());
    let homes: Vec<_> = (0..4).map(|n| mesh.ask(&bound, n, NTLM)).collect();
    for _ in 0..4 {
        for (n, home) in homes.iter().enumerate() {
            mesh.ask(&other, n, "");
            assert_eq!(mesh.ask(&bound, n, ""), *home);
        }
    }
    // More than are remembered: it is still told apart, and goes where it may.
    for _ in 0..3 {
        for n in 0..6 {
            let (ticket, _) = mesh.begin(&bound, n, "");
            assert!(ticket.is_bound());
        }
    }
}
