//! The fused stack alone: what `begin` costs before Python asks for it.
//!
//! `cargo bench --bench exchange`. The stack is that of `benches/begin.json`: a limit of clients,
//! a route by host and prefix, its breaker, the choice among three endpoints. A call is `begin`
//! and the drop of its ticket, in CPU time of the thread; `benches/python/per_call.py` measures the
//! same through Python.
#![allow(missing_docs, clippy::unwrap_used, clippy::panic)]

use std::hint::black_box;
use std::time::Duration;

use criterion::{Criterion, criterion_group, criterion_main};
use meshcore_core::codec::{H1Server, Limits, ServerEvent};
use meshcore_core::exchange::{Arrival, Client, Control, Engine, Peer, Verdict};
use meshcore_core::segment::{Segment, SegmentConfig};
use meshcore_core::snapshot::Delta;
use meshcore_core::time::Nanos;
use rustix::time::{ClockId, clock_gettime};

const REQUEST: &[u8] = b"GET /v1/orders HTTP/1.1\r\nHost: api.example\r\n\r\n";

fn cpu_ns() -> u64 {
    let t = clock_gettime(ClockId::ThreadCPUTime);
    t.tv_sec as u64 * 1_000_000_000 + t.tv_nsec as u64
}

fn begin(c: &mut Criterion) {
    let engine = Engine::new(1);
    let config = SegmentConfig { max_bytes: 256 << 20, worker_slots: 1 };
    let mut control = Control::new(Segment::anonymous(config).unwrap(), 0, [1, 2]);
    let delta: Delta = serde_json::from_str(include_str!("../begin.json")).unwrap();
    engine.swap(control.apply(&engine.compiled(), delta, Nanos::ZERO).unwrap());
    let compiled = engine.compiled();
    let listener = compiled.listener_id("edge").unwrap();
    let peer = Peer::new(Some("10.0.0.1".parse().unwrap()), [1, 2]);
    let Ok(Some(ServerEvent::Head { head, .. })) =
        H1Server::new(Limits::default()).receive(REQUEST)
    else {
        panic!("no request")
    };
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

criterion_group!(benches, begin);
criterion_main!(benches);
