//! The fused stack alone: what `begin` costs before Python asks for it.
//!
//! `cargo bench --bench exchange`. The stack is that of `benches/begin.json`: a limit of clients,
//! a route by host and prefix, its breaker, the choice among three endpoints. A call is `begin`
//! and the drop of its ticket, in CPU time of the thread; `benches/python/per_call.py` measures the
//! same through Python. `exchange/allow` is an answer behind a thousand rules of that layer, of which
//! none holds.
#![allow(missing_docs, clippy::unwrap_used, clippy::panic)]

use std::hint::black_box;
use std::time::Duration;

use criterion::{Criterion, criterion_group, criterion_main};
use meshcore_core::codec::{H1Server, Limits, ServerEvent};
use meshcore_core::exchange::{Arrival, Certified, Client, Compiler, Engine, Peer, Verdict};
use meshcore_core::head::RequestHead;
use meshcore_core::identity::Identity;
use meshcore_core::segment::{Segment, SegmentConfig};
use meshcore_core::snapshot::Delta;
use meshcore_core::time::Nanos;
use rustix::time::{ClockId, clock_gettime};
use serde_json::{Value, json};

const REQUEST: &[u8] = b"GET /v1/orders HTTP/1.1\r\nHost: api.example\r\n\r\n";
const RULES: usize = 1_000;
/// As many as a client's certificate may have.
const NAMES: usize = 256;

fn cpu_ns() -> u64 {
    let t = clock_gettime(ClockId::ThreadCPUTime);
    t.tv_sec as u64 * 1_000_000_000 + t.tv_nsec as u64
}

fn engine(delta: Delta) -> (Engine, Compiler) {
    let engine = Engine::new(1);
    let config = SegmentConfig { max_bytes: 256 << 20, worker_slots: 1 };
    let mut compiler = Compiler::new(Segment::anonymous(config).unwrap(), 0, [1, 2]);
    engine.swap(compiler.apply(&engine.compiled(), delta, Nanos::ZERO).unwrap());
    (engine, compiler)
}

fn head(request: &[u8]) -> RequestHead {
    match H1Server::new(Limits::default()).receive(request) {
        Ok(Some(ServerEvent::Head { head, .. })) => head,
        other => panic!("no request: {other:?}"),
    }
}

fn begin(c: &mut Criterion) {
    let (engine, _compiler) = engine(serde_json::from_str(include_str!("../begin.json")).unwrap());
    let compiled = engine.compiled();
    let listener = compiled.listener_id("edge").unwrap();
    let peer = Peer::new(Some("10.0.0.1".parse().unwrap()), [1, 2]);
    let head = head(REQUEST);
    let client = || Client::of(&peer);
    let mut now = Nanos(5_000_000_000_000);
    let arrival = |now| Arrival { head: &head, now };
    let (_, verdict) = engine.begin(&compiled, listener, true, client(), &arrival(now));
    assert!(matches!(verdict, Verdict::Forward(_)), "{verdict:?}");
    c.bench_function("exchange/begin", |b| {
        b.iter_custom(|calls| {
            let start = cpu_ns();
            for _ in 0..calls {
                now = Nanos(now.0 + 1);
                let arrival = black_box(arrival(now));
                drop(black_box(engine.begin(&compiled, listener, true, client(), &arrival)));
            }
            Duration::from_nanos(cpu_ns() - start)
        });
    });
}

/// A thousand rules, each of this and a name of its own.
fn allow(c: &mut Criterion, what: &str, rule: impl Fn(usize) -> Value, path: &str) {
    let rules: Vec<_> = (0..RULES)
        .map(|number| {
            let mut rule = rule(number);
            rule["name"] = json!(number.to_string());
            rule
        })
        .collect();
    let delta = json!({
        "config_version": 1,
        "listeners": {"edge": {"layers": [{"allow": {"rules": rules}}]}},
        "hosts": {"*": [{"name": "all", "action": {"respond": {"status": 200}}}]},
    });
    let (engine, _compiler) = engine(serde_json::from_value(delta).unwrap());
    let compiled = engine.compiled();
    let listener = compiled.listener_id("edge").unwrap();
    let names: Vec<_> = (0..NAMES).map(|number| format!("dns:{number}.a.example")).collect();
    let certified = Certified::new(Identity::named(&names).unwrap(), String::new());
    let peer = Peer::new(Some("10.0.0.1".parse().unwrap()), [1, 2]).certified(certified);
    let head = head(format!("GET {path} HTTP/1.1\r\nHost: api.example\r\n\r\n").as_bytes());
    let arrival = Arrival { head: &head, now: Nanos(5_000_000_000_000) };
    c.bench_function(&format!("exchange/allow/{what}"), |b| {
        b.iter_custom(|calls| {
            let start = cpu_ns();
            for _ in 0..calls {
                let client = Client::of(&peer);
                drop(black_box(engine.begin(&compiled, listener, true, client, &arrival)));
            }
            Duration::from_nanos(cpu_ns() - start)
        });
    });
}

fn allows(c: &mut Criterion) {
    let long = format!("/{}", "x".repeat(7_000));
    let regex = |number| json!({"paths": [{"regex": format!("/[^/]+/item-{number}/.*")}]});
    allow(c, "expressions", regex, &long);
    let name = |number| json!({"identities": {"names": [format!("dns:*.{number}.example")]}});
    allow(c, "names", name, "/");
    let form = |number| json!({"identities": {"names": [format!("uri:https://*/{number}")]}});
    allow(c, "forms", form, "/");
    let network = |number| json!({"networks": [format!("10.1.{}.{}", number / 250, number % 250)]});
    allow(c, "networks", network, "/");
}

criterion_group!(benches, begin, allows);
criterion_main!(benches);
