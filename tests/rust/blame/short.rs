//! What a client or an endpoint does slowly, and who is not to pay for it: the other endpoints of a
//! retry, the probes of a half-open breaker, the retry budget.

use meshcore_core::error::Reason;
use meshcore_core::exchange::{Cause, Due, Head, Next, Passed, Paused, Verdict, retry_after};
use meshcore_core::head::{BodyLength, Headers, RequestHead};
use meshcore_core::time::Nanos;
use serde_json::json;

use crate::mesh::{ANSWER, Config, Mesh, TIMEOUT, get, grpc, post, request};

/// Three endpoints and a breaker that failures at two of them open.
fn three(per_try_ms: u64) -> Mesh {
    let retry = json!({"retries": 1, "per_try_ns": Nanos::from_millis(per_try_ms).0,
                       "connect": true, "reset": true});
    let rules = json!({"failures": 2, "failure_percent": 0});
    Mesh::new(&Config::new(3).route("retry", retry).upstream("breaker", rules), 1)
}

/// A request whose first attempt fails when `after_ms` of its time are over, and whose second one
/// gets no answer in what is left. Which endpoints were asked.
fn runs_out(mesh: &mut Mesh, first: Reason, after_ms: u64) -> [usize; 2] {
    let (mut ticket, asked) = mesh.ask();
    mesh.wait(after_ms);
    let Next::Again { endpoint, at } = mesh.failed(&mut ticket, first, &mut Cause::default())
    else {
        panic!()
    };
    mesh.now = at;
    ticket.sent(mesh.now);
    let due = mesh.until_due(&mut ticket, Paused::default());
    assert_eq!(due, Due::Over(Reason::UpstreamTimeout, "timeout"));
    mesh.answer(ticket, Reason::UpstreamTimeout);
    [asked, mesh.index(endpoint)]
}

#[test]
fn a_retry_that_gets_what_is_left_says_nothing_of_its_endpoint() {
    let left = TIMEOUT.0 / 1_000_000 * 7 / 10;
    for (first, per_try_ms) in [
        (Reason::UpstreamTryTimeout, left),
        (Reason::UpstreamReset, 0),
        (Reason::UpstreamConnect, 0),
    ] {
        let mut mesh = three(per_try_ms);
        // One endpoint fails whenever it is asked first; who comes after it is never named.
        let mut bad = None;
        for _ in 0..30 {
            let (ticket, asked) = mesh.ask();
            mesh.finish(ticket);
            if *bad.get_or_insert(asked) != (asked + 1) % 3 {
                continue;
            }
            let [first_asked, _] = runs_out(&mut mesh, first, left);
            assert_eq!(Some(first_asked), bad);
            assert!(!mesh.is_open(), "{first:?}");
        }
        // If each fails first, the service is named by those.
        let mut mesh = three(per_try_ms);
        let mut named = std::collections::HashSet::new();
        while named.len() < 2 {
            assert!(!mesh.is_open(), "{first:?}");
            named.insert(runs_out(&mut mesh, first, left)[0]);
        }
        assert!(mesh.is_open(), "{first:?}");
    }
}

/// A breaker that one failure opened, and whose time is over.
fn half_open() -> Mesh {
    let rules = json!({"failures": 1, "failure_percent": 0, "open_for_ns": 1,
                       "max_open_for_ns": 1, "successes": 2, "probes": 1});
    let mut mesh = Mesh::new(&Config::new(1).upstream("breaker", rules), 1);
    let (ticket, _) = mesh.ask();
    mesh.fail(ticket, Reason::UpstreamReset);
    mesh.wait(1_000);
    mesh
}

fn is_refused(verdict: Verdict) -> bool {
    matches!(verdict, Verdict::Answer(answer) if answer.reason == Reason::BreakerOpen)
}

#[test]
fn who_sends_slowly_keeps_nobody_from_finding_out() {
    for slow in [post(BodyLength::Streamed), post(BodyLength::Known(1 << 30)), grpc(&[])] {
        let mut mesh = half_open();
        let (held, verdict) = mesh.begin(&slow, false);
        assert!(matches!(verdict, Verdict::Forward(_)), "it is a probe too");
        assert!(is_refused(mesh.begin(&slow, false).1), "one of them at one time");
        for _ in 0..2 {
            let (mut ticket, _) = mesh.ask();
            assert!(is_refused(mesh.begin(&get(), true).1), "one whole one at one time");
            mesh.respond(&mut ticket, ANSWER);
            mesh.finish(ticket);
        }
        assert!(!is_refused(mesh.begin(&get(), true).1), "closed");
        drop(held);
        assert!(!is_refused(mesh.begin(&slow, false).1));
    }
}

#[test]
fn uploads_alone_close_a_breaker_too() {
    let mut mesh = half_open();
    for _ in 0..2 {
        let (mut ticket, _) = mesh.ask_as(&post(BodyLength::Streamed), false);
        ticket.request_ended(mesh.now);
        mesh.respond(&mut ticket, ANSWER);
        mesh.finish(ticket);
    }
    assert!(!is_refused(mesh.begin(&get(), true).1), "closed");
}

#[test]
fn a_slow_probe_that_never_ends_gives_its_place_up() {
    let mut mesh = half_open();
    let (mut held, _) = mesh.ask_as(&post(BodyLength::Streamed), false);
    mesh.wait(31_000);
    let (mut next, _) = mesh.ask_as(&post(BodyLength::Streamed), false);
    for ticket in [&mut held, &mut next] {
        ticket.request_ended(mesh.now);
        mesh.respond(ticket, ANSWER);
    }
    mesh.finish(held);
    mesh.finish(next);
    assert!(!is_refused(mesh.begin(&get(), true).1), "both were heard");
}

#[test]
fn a_failed_slow_probe_opens_it_again() {
    let mut mesh = half_open();
    let (ticket, _) = mesh.ask_as(&post(BodyLength::Known(1 << 30)), false);
    mesh.fail(ticket, Reason::UpstreamConnect);
    assert!(mesh.is_open());
}

/// Retries as long as the budget has room: one at a time.
fn budgeted(endpoints: usize) -> Mesh {
    let config = Config::new(endpoints)
        .route("retry", json!({"retries": 1, "connect": true, "reset": true}))
        .upstream("retry_budget_percent", json!(0))
        .upstream("retry_budget_floor", json!(1));
    Mesh::new(&config, 1)
}

fn retries(
    mesh: &mut Mesh,
    head: &RequestHead,
    whole: bool,
) -> Option<Box<meshcore_core::exchange::RequestTicket>> {
    let (mut ticket, _) = mesh.ask_as(head, whole);
    match mesh.failed(&mut ticket, Reason::UpstreamReset, &mut Cause::default()) {
        Next::Again { .. } => Some(ticket),
        _ => None,
    }
}

#[test]
fn what_a_client_has_not_sent_takes_no_part_of_the_retry_budget() {
    let slow = request("PUT", BodyLength::Streamed, &[]);
    let mut mesh = budgeted(3);
    let mut dribblers: Vec<_> = (0..5).map(|_| retries(&mut mesh, &slow, false).unwrap()).collect();
    assert_eq!(mesh.metric("meshcore_upstream_retries"), 0);
    let one = retries(&mut mesh, &get(), true).expect("there is room");
    assert!(retries(&mut mesh, &get(), true).is_none(), "it is full");
    assert!(retries(&mut mesh, &slow, false).is_none(), "for them, too");
    drop(one);
    // Once they are whole they count, though they were many.
    for ticket in &mut dribblers {
        ticket.request_ended(mesh.now);
    }
    assert_eq!(mesh.metric("meshcore_upstream_retries"), 5);
    assert!(retries(&mut mesh, &get(), true).is_none());
    for mut ticket in dribblers {
        mesh.respond(&mut ticket, ANSWER);
        ticket.request_ended(mesh.now);
        mesh.finish(ticket);
    }
    assert_eq!(mesh.held(), 0);
}

#[test]
fn an_endpoint_that_says_when_to_come_back_is_left_alone_until_then() {
    let retry = json!({"retries": 1, "connect": true, "reset": true, "statuses": [503]});
    for (wait_s, follows) in [(None, true), (Some(0), true), (Some(2), true), (Some(3), false)] {
        let mut mesh = Mesh::new(&Config::new(2).route("retry", retry.clone()), 1);
        let (mut ticket, _) = mesh.ask();
        let retry_after = wait_s.map(Nanos::from_secs);
        let head = Head { status: 503, retry_after, ..ANSWER };
        let now = mesh.now;
        match ticket.responded(head, now, &mut mesh.rng) {
            Passed::Again { at, .. } => {
                assert!(follows && at >= now + retry_after.unwrap_or(Nanos::ZERO));
                assert!(at <= now + retry_after.unwrap_or(Nanos::ZERO) + Nanos::from_millis(250));
            }
            passed => assert!(!follows && passed == Passed::Relay, "{wait_s:?}: {passed:?}"),
        }
    }
}

#[test]
fn whole_seconds_and_dates_are_read() {
    let read = |value: &str| {
        let mut fields = Headers::default();
        fields.push(b"retry-after", value.as_bytes());
        fields.push(b"date", b"Sun, 06 Nov 1994 08:49:30 GMT");
        retry_after(&fields, || 0)
    };
    assert_eq!(read("120"), Some(Nanos::from_secs(120)));
    assert_eq!(read("0"), Some(Nanos::ZERO));
    assert_eq!(read("Sun, 06 Nov 1994 08:49:37 GMT"), Some(Nanos::from_secs(7)));
    for other in ["", "-1", "+1", "1.5", "1 ", "99999999999", "Sun, 06 Nov 1994 08:49:37"] {
        assert_eq!(read(other), None, "{other}");
    }
    assert_eq!(retry_after(&Headers::default(), || 0), None);
}
