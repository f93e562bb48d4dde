//! What a client chooses is never a failure: not its type, method, deadline, pace, size or leaving.

use meshcore_core::error::Reason;
use meshcore_core::exchange::{Cause, Due, Head, Paused, RequestKind};
use meshcore_core::head::{BodyLength, RequestHead};
use proptest::prelude::*;
use serde_json::json;

use crate::mesh::{ANSWER, Config, Mesh, grpc, post, request};

const GRPC: Head = Head { grpc: true, ..ANSWER };
const UNKNOWN: BodyLength = BodyLength::Streamed;

/// What a client does to a service that works, over and over.
type Trick = (&'static str, fn(&mut Mesh));

fn expired(mesh: &mut Mesh, head: &RequestHead) {
    let mut ticket = mesh.ask_as(head, true).0;
    let due = mesh.until_due(&mut ticket, Paused::default());
    assert_eq!(due, Due::Over(Reason::DeadlineExceeded, ""));
    mesh.answer(ticket, Reason::DeadlineExceeded);
}

/// The service answers 4 under a deadline that the client set: in its head, or behind a message.
fn exceeded(mesh: &mut Mesh, in_head: bool) {
    let mut ticket = mesh.ask_as(&grpc(&[("grpc-timeout", "5m")]), true).0;
    if in_head {
        mesh.respond(&mut ticket, Head { grpc_status: Some(4), ..GRPC });
    } else {
        mesh.respond(&mut ticket, GRPC);
        let rand = mesh.rng.next_u64();
        ticket.trailed(4, mesh.now, rand);
    }
    assert_eq!(ticket.grpc_status(), Some(4));
    mesh.finish(ticket);
}

/// A body that does not come is due, and is the client's.
fn slow(mesh: &mut Mesh, head: &RequestHead) {
    let mut ticket = mesh.ask_as(head, false).0;
    loop {
        match mesh.until_due(&mut ticket, Paused::default()) {
            Due::NotYet => {}
            due => {
                assert!(matches!(due, Due::Over(Reason::RequestTimeout, _)), "{due:?}");
                return mesh.answer(ticket, Reason::RequestTimeout);
            }
        }
    }
}

fn tunnelled(mesh: &mut Mesh, end: Reason) {
    let mut head = request("GET", BodyLength::Empty, &[]);
    head.upgrade = Some(head.headers.append(b"websocket"));
    let mut ticket = mesh.ask_as(&head, true).0;
    assert_eq!(ticket.kind(), RequestKind::Tunnel);
    mesh.respond(&mut ticket, Head { status: 101, tunnel: true, ..ANSWER });
    if end == Reason::TunnelIdle {
        let due = mesh.until_due(&mut ticket, Paused::default());
        assert!(matches!(due, Due::Over(Reason::TunnelIdle, _)), "{due:?}");
    }
    mesh.cut(ticket, end);
}

const TRICKS: &[Trick] = &[
    ("its method and type", |m| {
        for method in ["HEAD", "GET", "DELETE"] {
            let like = request(method, BodyLength::Empty, &[("content-type", "application/grpc")]);
            let mut ticket = m.ask_as(&like, true).0;
            m.respond(&mut ticket, ANSWER);
            m.finish(ticket);
        }
    }),
    ("a call to what speaks no gRPC", |m| {
        for status in [200, 404, 415, 500] {
            let mut ticket = m.ask_as(&grpc(&[]), true).0;
            m.respond(&mut ticket, Head { status, ..ANSWER });
            m.finish(ticket);
        }
    }),
    ("a deadline of gRPC that passes", |m| expired(m, &grpc(&[("grpc-timeout", "5m")]))),
    ("a deadline of its own that passes", |m| {
        let field = ("x-mesh-deadline-ms", "5");
        expired(m, &request("GET", BodyLength::Empty, &[field]));
    }),
    ("a deadline that the service sees", |m| exceeded(m, true)),
    ("a deadline that the service sees late", |m| exceeded(m, false)),
    ("it leaves before the head", |m| {
        m.wait(60_000);
        let ticket = m.ask().0;
        m.wait(4_900);
        m.cut(ticket, Reason::ClientGone);
    }),
    ("it leaves behind the head", |m| {
        let mut ticket = m.ask_as(&grpc(&[]), true).0;
        m.respond(&mut ticket, GRPC);
        m.cut(ticket, Reason::ClientGone);
    }),
    ("it leaves within its body", |m| {
        let ticket = m.ask_as(&post(UNKNOWN), false).0;
        m.cut(ticket, Reason::ClientGone);
    }),
    ("it sends slowly", |m| slow(m, &post(UNKNOWN))),
    ("it sends nothing of a long body", |m| slow(m, &post(BodyLength::Known(1 << 30)))),
    ("it says no more of its body until the endpoint hangs up", |m| {
        for reason in [Reason::UpstreamReset, Reason::UpstreamStale] {
            let mut ticket = m.ask_as(&post(UNKNOWN), false).0;
            ticket.received(1, true, m.now);
            m.wait(1_000);
            m.failed(&mut ticket, reason, &mut Cause::default());
            m.answer(ticket, reason);
        }
    }),
    ("a call that is quiet", |m| {
        let mut ticket = m.ask_as(&grpc(&[]), true).0;
        let due = m.until_due(&mut ticket, Paused::default());
        assert_eq!(due, Due::Over(Reason::UpstreamIdle, "idle_timeout"));
        m.answer(ticket, Reason::UpstreamIdle);
    }),
    ("it drips", |m| {
        let mut ticket = m.ask_as(&post(UNKNOWN), false).0;
        let due = loop {
            m.wait(1_000);
            ticket.received(1, true, m.now);
            match ticket.due(Paused::default(), m.now) {
                Due::NotYet => {}
                due => break due,
            }
        };
        assert_eq!(due, Due::Over(Reason::RequestTimeout, "body slower than its least rate"));
        m.answer(ticket, Reason::RequestTimeout);
    }),
    ("it sends too much", |m| {
        let ticket = m.ask_as(&post(UNKNOWN), false).0;
        m.answer(ticket, Reason::BodyTooLarge);
    }),
    ("it sends nonsense", |m| {
        let ticket = m.ask_as(&post(UNKNOWN), false).0;
        m.answer(ticket, Reason::BadRequest);
    }),
    ("it sends more than the endpoint takes in a head", |m| {
        let ticket = m.ask().0;
        m.answer(ticket, Reason::HeadersTooLarge);
    }),
    ("it takes nothing", |m| {
        let mut ticket = m.ask().0;
        m.respond(&mut ticket, ANSWER);
        let due = m.until_due(&mut ticket, Paused { client: false, endpoint: true });
        assert_eq!(due, Due::Over(Reason::ClientIdle, "idle_timeout"));
        m.cut(ticket, Reason::ClientIdle);
    }),
    ("a tunnel that it leaves", |m| tunnelled(m, Reason::ClientGone)),
    ("a tunnel that it lets idle", |m| tunnelled(m, Reason::TunnelIdle)),
];

/// Trusts one proxy, which may set deadlines.
fn config(endpoints: usize) -> Config {
    Config::new(endpoints)
        .touchy()
        .route("upgrade", json!(["websocket"]))
        .listener("trusted_hops", json!(1))
}

#[test]
fn the_breaker_of_these_tests_opens_for_anything() {
    let mut mesh = Mesh::new(&config(1), 1);
    let ticket = mesh.ask().0;
    mesh.fail(ticket, Reason::UpstreamReset);
    assert!(mesh.is_open());
}

#[test]
fn no_trick_of_a_client_opens_it() {
    for (name, trick) in TRICKS {
        let mut mesh = Mesh::new(&config(1), 1);
        for _ in 0..40 {
            trick(&mut mesh);
            assert!(!mesh.is_open(), "{name}");
        }
        assert_eq!((mesh.held(), mesh.ejected()), (0, 0), "{name}");
    }
}

#[test]
fn a_departure_counts_where_slow_calls_do() {
    let slow = |slow_call_ns: u64, wait_ms: u64| {
        let rules = json!({
            "failures": 0, "failure_percent": 1, "min_calls": 1, "slow_call_ns": slow_call_ns,
        });
        let mut mesh = Mesh::new(&Config::new(1).upstream("breaker", rules), 1);
        let ticket = mesh.ask().0;
        mesh.wait(wait_ms);
        mesh.cut(ticket, Reason::ClientGone);
        mesh.is_open()
    };
    assert!(!slow(0, 4_900), "off by default");
    assert!(!slow(1_000_000_000, 1_000));
    assert!(slow(1_000_000_000, 1_001));
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn nor_do_all_of_them_together(
        n in 1usize..6,
        tricks in proptest::collection::vec(0..TRICKS.len(), 1..60),
        seed: u64,
    ) {
        let ejection = json!({"failures": 1, "max_percent": 100});
        let mut mesh = Mesh::new(&config(n).upstream("ejection", ejection), seed);
        for trick in tricks {
            TRICKS[trick].1(&mut mesh);
            prop_assert!(!mesh.is_open(), "{}", TRICKS[trick].0);
            prop_assert_eq!(mesh.ejected(), 0, "{}", TRICKS[trick].0);
        }
    }

    /// A call that streams, or a body that is slow, does not keep a half-open breaker's probe.
    #[test]
    fn nobody_holds_a_probe_longer_than_the_timeout(streams: bool, seed: u64) {
        let rules = json!({"failures": 1, "failure_percent": 0, "open_for_ns": 1_000_000_000});
        let mut mesh = Mesh::new(&Config::new(1).upstream("breaker", rules), seed);
        let ticket = mesh.ask().0;
        mesh.fail(ticket, Reason::UpstreamConnect);
        mesh.wait(1_000);
        let head = if streams { grpc(&[]) } else { post(UNKNOWN) };
        let mut probe = mesh.ask_as(&head, false).0;
        let refused = |verdict| matches!(
            verdict,
            meshcore_core::exchange::Verdict::Answer(a) if a.reason == Reason::BreakerOpen
        );
        prop_assert!(refused(mesh.begin(&head, false).1), "they have one probe for all of them");
        let began = mesh.now;
        prop_assert_eq!(mesh.until_due(&mut probe, Paused::default()), Due::NotYet);
        prop_assert_eq!(mesh.now, began + crate::mesh::TIMEOUT);
        let mut next = mesh.ask_as(&head, false).0;
        mesh.respond(&mut next, ANSWER);
        mesh.finish(next);
        mesh.cut(probe, Reason::ClientGone);
        prop_assert!(!mesh.is_open());
    }
}
