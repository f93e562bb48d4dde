//! What a request would meet, asked from outside: its route, and the layer that stops it.

#![cfg(not(feature = "loom"))]
#![allow(clippy::unwrap_used, clippy::panic)] // helpers of tests may panic as tests do

use meshcore_core::codec::{H1Server, Limits, ServerEvent};
use meshcore_core::exchange::{Arrival, Compiler, Engine, Peer, Verdict};
use meshcore_core::head::RequestHead;
use meshcore_core::segment::{Segment, SegmentConfig};
use meshcore_core::time::Nanos;
use serde_json::{Value, json};

const T0: Nanos = Nanos::from_secs(1_000);
const HOUR_NS: u64 = 3_600_000_000_000;

fn limit(tokens: u64) -> Value {
    json!({"limit": {"rate": {"tokens": tokens, "period_ns": HOUR_NS, "burst": tokens},
                     "clients": 64}})
}

fn engine() -> (Engine, Compiler) {
    let config = SegmentConfig { max_bytes: 16 << 20, worker_slots: 1 };
    let mut compiler = Compiler::new(Segment::anonymous(config).unwrap(), 0, [1, 2]);
    let route = |name: &str, path: &str, layers: Value| {
        json!({"name": name, "path": {"prefix": path}, "layers": layers,
               "action": {"forward": {"upstream": "one"}}})
    };
    let delta = json!({
        "config_version": 1,
        "listeners": {
            "edge": {"layers": [{"in_flight": {"max": 9}}, limit(3)]},
            "bare": {},
        },
        "upstreams": {"one": {"endpoints": [{"address": "127.0.0.1:1"}]}},
        "hosts": {
            "*": [route("all", "/", json!([]))],
            "*.example": [route("limited", "/a", json!([{"python": {"name": "a:B"}}, limit(1)]))],
        },
    });
    let engine = Engine::new(1);
    let delta = serde_json::from_value(delta).unwrap();
    engine.swap(compiler.apply(&engine.compiled(), delta, T0).unwrap());
    (engine, compiler)
}

fn head(host: &str, path: &str) -> RequestHead {
    let text = format!("GET {path} HTTP/1.1\r\nhost: {host}\r\n\r\n");
    match H1Server::new(Limits::default()).receive(text.as_bytes()) {
        Ok(Some(ServerEvent::Head { head, .. })) => head,
        other => panic!("{other:?}"),
    }
}

#[test]
fn a_route_is_found_with_the_host_that_matched_and_nothing_is_charged() {
    let (engine, _compiler) = engine();
    let compiled = engine.compiled();
    let listener = compiled.listener_id("edge").unwrap();
    for _ in 0..10 {
        let found = |host, path| {
            let (route, host) = compiled.route_of(listener, &head(host, path))?.to_owned();
            Some((route.name.to_string(), host.to_owned()))
        };
        let told = |name: &str, host: &str| Some((name.to_owned(), host.to_owned()));
        assert_eq!(found("x.example", "/a/b"), told("limited", "*.example"));
        assert_eq!(found("other.test", "/a/b"), told("all", "*"));
        assert_eq!(found("x.example", "/b"), None, "a host owns its requests");
        assert!(compiled.route_of(99, &head("x.example", "/a")).is_none(), "no listener");
    }
}

/// On a listener, the verdict on one request after the other, and where each stood.
fn ask(engine: &Engine, listener: &str, host: &str) -> (u16, Option<(bool, u16)>) {
    let compiled = engine.compiled();
    let listener = compiled.listener_id(listener).unwrap();
    let mut head = head(host, "/a");
    let client = compiled.clean(listener, &Peer::new(None, [1, 2]), &mut head);
    let arrival = Arrival { head: &head, now: T0 };
    let (mut ticket, mut verdict) = engine.begin(&compiled, listener, true, client, &arrival);
    if matches!(verdict, Verdict::Pause(_)) {
        assert_eq!(ticket.layer(), Some((true, 0)), "a layer in Python looks at it");
        verdict = engine.resume(&mut ticket, &arrival);
    }
    let status = if let Verdict::Answer(answer) = verdict { answer.status } else { 0 };
    let stood = ticket.layer();
    ticket.finish(T0, 0);
    assert_eq!(ticket.layer(), stood, "it is told behind the end, too");
    (status, stood)
}

#[test]
fn the_layer_that_stops_a_request_is_told_by_its_place() {
    let (engine, _compiler) = engine();
    assert_eq!(ask(&engine, "bare", "x.example"), (0, None));
    assert_eq!(ask(&engine, "bare", "x.example"), (429, Some((true, 1))));
    for _ in 0..3 {
        assert_eq!(ask(&engine, "edge", "other.test"), (0, None));
    }
    assert_eq!(ask(&engine, "edge", "other.test"), (429, Some((false, 1))));
}
