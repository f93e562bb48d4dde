//! Whose time it was: the client's own deadline, our queue, a layer, or the endpoint.

use meshcore_core::error::Reason;
use meshcore_core::exchange::{Cause, Due, Head, Next, Paused, Verdict};
use meshcore_core::head::{BodyLength, RequestHead};
use meshcore_core::time::Nanos;
use serde_json::json;

use crate::mesh::{ANSWER, Config, Mesh, TIMEOUT, get, grpc, post};

fn touchy() -> Mesh {
    Mesh::new(&Config::new(1).touchy(), 1)
}

/// Counts answers beyond a second as failures.
fn slow() -> Mesh {
    let rules = json!({"failures": 1, "failure_percent": 1, "min_calls": 1,
        "slow_call_ns": Nanos::from_secs(1).0,
        "on": {"connect": false, "reset": false, "timeout": false, "slow": true,
               "statuses": [], "grpc_statuses": []}});
    Mesh::new(&Config::new(1).upstream("breaker", rules), 1)
}

#[test]
fn an_endpoint_that_ends_a_call_at_its_clients_deadline_is_not_blamed() {
    for ended in [Reason::UpstreamReset, Reason::UpstreamTimeout, Reason::UpstreamConnect] {
        for early_ms in [0, 4] {
            let mut mesh = touchy();
            let mut ticket = mesh.ask_as(&grpc(&[("grpc-timeout", "100m")]), true).0;
            mesh.wait(100 - early_ms);
            let next = mesh.failed(&mut ticket, ended, &mut Cause::default());
            assert_eq!(next, Next::Answer(Reason::DeadlineExceeded));
            mesh.answer(ticket, Reason::DeadlineExceeded);
            assert!(!mesh.is_open());
        }
    }
    let mut mesh = touchy();
    let mut ticket = mesh.ask_as(&grpc(&[("grpc-timeout", "1S")]), true).0;
    mesh.wait(900);
    assert_eq!(
        mesh.failed(&mut ticket, Reason::UpstreamReset, &mut Cause::default()),
        Next::Answer(Reason::UpstreamReset)
    );
    drop(ticket);
    assert!(mesh.is_open(), "before it, it is");
}

#[test]
fn nor_is_the_answer_that_tells_of_the_deadline() {
    let mut mesh = touchy();
    let mut ticket = mesh.ask_as(&grpc(&[("grpc-timeout", "100m")]), true).0;
    mesh.wait(101);
    mesh.respond(&mut ticket, Head { status: 504, ..ANSWER });
    mesh.finish(ticket);
    assert!(!mesh.is_open());
}

#[test]
fn time_in_our_own_queue_is_not_the_endpoints() {
    let mut mesh = touchy();
    let (mut ticket, verdict) = mesh.begin(&get(), true);
    assert!(matches!(verdict, Verdict::Forward(_)));
    mesh.wait(4_000);
    ticket.sent(mesh.now);
    let due = mesh.until_due(&mut ticket, Paused::default());
    assert_eq!(due, Due::Over(Reason::QueueTimeout, "timeout"));
    mesh.answer(ticket, Reason::QueueTimeout);
    assert!(!mesh.is_open());

    let (mut ticket, _) = mesh.begin(&get(), true);
    mesh.wait(2_000);
    ticket.sent(mesh.now);
    let due = mesh.until_due(&mut ticket, Paused::default());
    assert_eq!(due, Due::Over(Reason::UpstreamTimeout, "timeout"), "it had most of the time");
    assert_eq!(mesh.now.since(ticket.began()), TIMEOUT);
}

#[test]
fn an_answer_is_slow_by_the_endpoints_time_alone() {
    let mut mesh = slow();
    let (mut ticket, _) = mesh.begin(&get(), true);
    mesh.wait(3_000);
    ticket.sent(mesh.now);
    mesh.wait(500);
    mesh.respond(&mut ticket, ANSWER);
    mesh.finish(ticket);
    assert!(!mesh.is_open(), "it waited for a connection");

    let mut ticket = mesh.ask_as(&post(BodyLength::Streamed), false).0;
    mesh.wait(3_000);
    mesh.respond(&mut ticket, ANSWER);
    mesh.finish(ticket);
    assert!(!mesh.is_open(), "its body was not there");

    let mut ticket = mesh.ask().0;
    mesh.wait(1_001);
    mesh.respond(&mut ticket, ANSWER);
    mesh.finish(ticket);
    assert!(mesh.is_open());
}

#[test]
fn a_probe_of_an_endpoint_is_given_back_by_whoever_sends_slowly() {
    let config = Config::new(2).upstream("ejection", json!({"failures": 1, "max_percent": 100}));
    let mut mesh = Mesh::new(&config, 1);
    let (ticket, ill) = mesh.ask();
    mesh.fail(ticket, Reason::UpstreamReset);
    assert_eq!(mesh.ejected(), 1);
    mesh.wait(31_000);
    let asked = |mesh: &mut Mesh, head: &RequestHead, whole: bool| loop {
        match mesh.ask_as(head, whole) {
            (ticket, at) if at == ill => break ticket,
            (ticket, _) => mesh.finish(ticket),
        }
    };
    let mut slow = asked(&mut mesh, &post(BodyLength::Streamed), false);
    for _ in 0..16 {
        mesh.wait(1_000);
        slow.received(1_000, true, mesh.now);
        assert_eq!(slow.due(Paused::default(), mesh.now), Due::NotYet);
    }
    let mut other = asked(&mut mesh, &get(), true);
    mesh.respond(&mut other, ANSWER);
    mesh.finish(other);
    assert_eq!(mesh.ejected(), 0, "the next one finds out");
    mesh.respond(&mut slow, ANSWER);
    mesh.finish(slow);
}

#[test]
fn a_deadline_that_is_over_asks_nobody() {
    let mesh = touchy();
    let verdict = mesh.begin(&grpc(&[("grpc-timeout", "999u")]), true).1;
    let Verdict::Answer(answer) = verdict else { panic!("{verdict:?}") };
    assert_eq!(answer.reason, Reason::DeadlineExceeded);
    assert_eq!(mesh.held(), 0);
}

#[test]
fn a_call_is_slow_to_its_head_whenever_its_messages_come() {
    for (head_ms, message_ms, open) in [(100, 5_000, false), (1_500, 100, true)] {
        let mut mesh = slow();
        let mut ticket = mesh.ask_as(&grpc(&[]), true).0;
        mesh.wait(head_ms);
        mesh.respond(&mut ticket, Head { grpc: true, ..ANSWER });
        mesh.wait(message_ms);
        let rand = mesh.rng.next_u64();
        ticket.relayed(5, mesh.now, rand);
        ticket.trailed(0, mesh.now, rand);
        mesh.finish(ticket);
        assert_eq!(mesh.is_open(), open, "{head_ms}");
    }
}
