//! An answer given here is decided at once: what it says of a service is told then, and what it held
//! of the upstream is free, however long layers look at it and whoever leaves meanwhile.

use meshcore_core::error::Reason;
use meshcore_core::exchange::{Cause, Next, Outcome, Phase, RequestTicket};
use meshcore_core::head::BodyLength;
use serde_json::json;

use crate::mesh::{ANSWER, Config, Mesh, get, grpc, post};

/// Layers look at an answer with this reason from now on.
fn decide(mesh: &mut Mesh, ticket: &mut RequestTicket, reason: Reason, cause: &mut Cause) {
    let (outcome, rand) = (Outcome::of(reason, Phase::Looking), mesh.rng.next_u64());
    ticket.decided(outcome, cause, mesh.now, rand);
}

fn touchy() -> Mesh {
    Mesh::new(&Config::new(1).touchy(), 1)
}

#[test]
fn a_failure_is_told_before_layers_look_at_its_answer() {
    let mut mesh = touchy();
    let (mut ticket, _) = mesh.ask();
    let reason = Reason::UpstreamReset;
    assert_eq!(mesh.failed(&mut ticket, reason, &mut Cause::default()), Next::Answer(reason));
    decide(&mut mesh, &mut ticket, reason, &mut Cause::default());
    assert!(mesh.is_open());
    assert_eq!(mesh.held(), 0);
    drop(ticket);
}

#[test]
fn a_probe_that_failed_is_no_probe_while_layers_look() {
    let rules = json!({"failures": 1, "failure_percent": 0, "open_for_ns": 1_000_000_000,
                       "max_open_for_ns": 1_000_000_000, "successes": 1});
    let mut mesh = Mesh::new(&Config::new(1).upstream("breaker", rules), 1);
    let (first, _) = mesh.ask();
    mesh.fail(first, Reason::UpstreamReset);
    mesh.wait(1_001);
    let (mut probe, _) = mesh.ask();
    decide(&mut mesh, &mut probe, Reason::UpstreamTimeout, &mut Cause::default());
    assert!(mesh.is_open(), "again");
    mesh.wait(1_001);
    let (mut next, _) = mesh.ask();
    mesh.respond(&mut next, ANSWER);
    mesh.finish(next);
    mesh.cut(probe, Reason::ClientGone);
    mesh.ask(); // it is closed
}

#[test]
fn a_client_that_leaves_then_changes_nothing_of_it() {
    for reason in [Reason::UpstreamReset, Reason::Overflow] {
        let mut mesh = touchy();
        let (mut ticket, _) = mesh.ask();
        decide(&mut mesh, &mut ticket, reason, &mut Cause::default());
        let rand = mesh.rng.next_u64();
        ticket.cut(
            Outcome::of(Reason::ClientGone, Phase::Looking),
            &mut Cause::default(),
            mesh.now,
            rand,
        );
        assert_eq!(mesh.is_open(), reason == Reason::UpstreamReset, "once, or never");
        assert_eq!(ticket.outcome().unwrap().reason, reason, "why it was over");
        assert_eq!(ticket.status(), 0, "the client got nothing");
        assert_eq!(mesh.metric("meshcore_requests_cut_total"), 1);
        assert_eq!(mesh.metric("meshcore_local_answers_total"), 0);
    }
}

#[test]
fn it_is_told_once() {
    let rules = json!({"failures": 2, "failure_percent": 0});
    let mut mesh = Mesh::new(&Config::new(1).upstream("breaker", rules), 1);
    let (mut ticket, _) = mesh.ask();
    decide(&mut mesh, &mut ticket, Reason::UpstreamReset, &mut Cause::default());
    mesh.answer(ticket, Reason::UpstreamReset);
    assert!(!mesh.is_open());
    let (mut ticket, _) = mesh.ask();
    decide(&mut mesh, &mut ticket, Reason::UpstreamReset, &mut Cause::excused());
    mesh.answer(ticket, Reason::UpstreamReset);
    assert!(!mesh.is_open(), "another request has told the same cause");
}

/// Layers look at the head of a call when its connection is lost.
#[test]
fn a_torn_call_that_layers_look_at_is_told_like_any_other() {
    let mut mesh = touchy();
    let (mut ticket, _) = mesh.ask_as(&grpc(&[]), true);
    mesh.respond(&mut ticket, meshcore_core::exchange::Head { grpc: true, ..ANSWER });
    decide(&mut mesh, &mut ticket, Reason::UpstreamReset, &mut Cause::excused());
    mesh.answer(ticket, Reason::UpstreamReset);
    assert!(!mesh.is_open(), "counted");
    let (mut ticket, _) = mesh.ask_as(&grpc(&[]), false);
    mesh.respond(&mut ticket, meshcore_core::exchange::Head { grpc: true, ..ANSWER });
    mesh.wait(600);
    decide(&mut mesh, &mut ticket, Reason::UpstreamReset, &mut Cause::default());
    mesh.answer(ticket, Reason::UpstreamReset);
    assert!(!mesh.is_open(), "the endpoint waited for the client");
    let (mut ticket, _) = mesh.ask_as(&grpc(&[]), true);
    mesh.respond(&mut ticket, meshcore_core::exchange::Head { grpc: true, ..ANSWER });
    mesh.wait(600);
    decide(&mut mesh, &mut ticket, Reason::UpstreamReset, &mut Cause::default());
    mesh.answer(ticket, Reason::UpstreamReset);
    assert!(mesh.is_open());
}

#[test]
fn its_places_are_free_while_layers_look() {
    let retry = json!({"retries": 1, "connect": true, "reset": true});
    let mut mesh = Mesh::new(&Config::new(2).route("retry", retry), 1);
    for head in [get(), post(BodyLength::Empty)] {
        let (mut ticket, verdict) = mesh.begin(&head, true);
        assert!(matches!(verdict, meshcore_core::exchange::Verdict::Forward(_)));
        let next = mesh.failed(&mut ticket, Reason::UpstreamReset, &mut Cause::default());
        assert!(matches!(next, Next::Again { .. }));
        assert_eq!(mesh.held(), 3, "at the upstream, at the endpoint and in the budget");
        let reason = Reason::UpstreamConnect;
        assert_eq!(mesh.failed(&mut ticket, reason, &mut Cause::default()), Next::Answer(reason));
        decide(&mut mesh, &mut ticket, reason, &mut Cause::default());
        assert_eq!(mesh.held(), 0);
    }
}
