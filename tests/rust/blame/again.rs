//! Another attempt: whether, where and when.

use meshcore_core::error::Reason;
use meshcore_core::exchange::{Cause, Due, Head, Next, Paused, RequestTicket, Verdict};
use meshcore_core::head::BodyLength;
use meshcore_core::time::Nanos;
use proptest::prelude::*;
use serde_json::json;

use crate::mesh::{ANSWER, Config, Mesh, TIMEOUT, get, grpc, post};

const LEAST: Nanos = Nanos::from_millis(25);
const MOST: Nanos = Nanos::from_millis(250);

fn retrying(endpoints: usize, retries: u8) -> Config {
    Config::new(endpoints)
        .route("retry", json!({"retries": retries, "connect": true, "reset": true}))
}

/// The budget is a number of retries.
fn budget(endpoints: usize, retries: u8, floor: u64) -> Config {
    retrying(endpoints, retries)
        .upstream("retry_budget_floor", json!(floor))
        .upstream("retry_budget_percent", json!(0))
}

/// Where the next attempt goes, and how long it waits.
fn again(mesh: &Mesh, next: Next) -> Option<(usize, Nanos)> {
    match next {
        Next::Again { endpoint, at } => Some((mesh.index(endpoint), at.since(mesh.now))),
        Next::Fresh => panic!("not stale"),
        Next::Answer(_) => None,
    }
}

fn is_back_off(wait: Nanos) -> bool {
    LEAST <= wait && wait < MOST
}

#[test]
fn the_first_retry_goes_elsewhere_at_once_where_nothing_was_sent() {
    for (reason, at_once) in [
        (Reason::UpstreamConnect, true),
        (Reason::UpstreamRefused, true),
        (Reason::UpstreamResolve, true),
        (Reason::UpstreamReset, false),
    ] {
        for seed in 0..50 {
            let mut mesh = Mesh::new(&retrying(3, 3), seed);
            let (mut ticket, mut before) = mesh.ask();
            for attempt in 1..=2 {
                let next = mesh.failed(&mut ticket, reason, &mut Cause::default());
                let (endpoint, wait) = again(&mesh, next).unwrap();
                let other = endpoint != before;
                assert!(other || reason == Reason::UpstreamRefused, "{reason:?}: not yet tried");
                if at_once && attempt == 1 && other {
                    assert_eq!(wait, Nanos::ZERO, "{reason:?}");
                } else {
                    assert!(is_back_off(wait), "{reason:?}, attempt {attempt}: {wait}");
                }
                before = endpoint;
            }
        }
    }
}

#[test]
fn the_same_endpoint_is_asked_again_only_after_a_pause() {
    let mut mesh = Mesh::new(&retrying(1, 1), 1);
    let mut ticket = mesh.ask().0;
    let next = mesh.failed(&mut ticket, Reason::UpstreamRefused, &mut Cause::default());
    let (endpoint, wait) = again(&mesh, next).unwrap();
    assert_eq!(endpoint, 0);
    assert!(is_back_off(wait), "{wait}");
}

#[test]
fn what_was_sent_is_sent_again_as_its_method_and_its_body_allow() {
    let body = BodyLength::Known(100_000);
    // The method, whether it was sent, the size of its body, why: whether it is tried again.
    for (method, sent, size, reason, expected) in [
        ("GET", true, 0, Reason::UpstreamReset, true),
        ("POST", true, 10, Reason::UpstreamReset, false),
        ("POST", false, 10, Reason::UpstreamConnect, true),
        ("POST", true, 10, Reason::UpstreamRefused, true),
        ("POST", true, 65_536, Reason::UpstreamRefused, true),
        ("POST", true, 65_537, Reason::UpstreamRefused, false),
        ("PUT", true, 65_536, Reason::UpstreamReset, true),
        ("PUT", true, 65_537, Reason::UpstreamReset, false),
        ("GET", true, 0, Reason::UpstreamTimeout, false),
        ("GET", true, 0, Reason::UpstreamProtocol, false),
        ("GET", true, 0, Reason::ResponseTooLarge, false),
    ] {
        let mut mesh = Mesh::new(&retrying(2, 1), 1);
        let head = crate::mesh::request(method, body, &[]);
        let (mut ticket, _) = mesh.begin(&head, false);
        if sent {
            ticket.sent(mesh.now);
        }
        ticket.received(size, sent, mesh.now);
        ticket.request_ended(mesh.now);
        let next = mesh.failed(&mut ticket, reason, &mut Cause::default());
        let case = format!("{method} {sent} {size} {reason:?}");
        assert_eq!(again(&mesh, next).is_some(), expected, "{case}");
    }
}

#[test]
fn with_retries_off_nothing_is_sent_twice() {
    for reason in Reason::ALL {
        for head in [get(), post(BodyLength::Empty)] {
            let mut mesh = Mesh::new(&retrying(3, 0), 1);
            let mut ticket = mesh.ask_as(&head, true).0;
            assert_eq!(
                mesh.failed(&mut ticket, *reason, &mut Cause::default()),
                Next::Answer(*reason)
            );
        }
    }
}

#[test]
fn a_stale_connection_is_renewed_once_for_what_may_be_repeated() {
    let stale = Reason::UpstreamStale;
    let mut mesh = Mesh::new(&retrying(2, 1), 1);
    let (mut ticket, first) = mesh.ask();
    assert_eq!(mesh.failed(&mut ticket, stale, &mut Cause::default()), Next::Fresh);
    assert_eq!(ticket.attempts(), 1, "it is the same attempt");
    ticket.sent(mesh.now);
    let next = mesh.failed(&mut ticket, stale, &mut Cause::default());
    let (other, wait) = again(&mesh, next).unwrap();
    assert!(other != first && is_back_off(wait));
    let mut ticket = mesh.ask_as(&post(BodyLength::Empty), true).0;
    assert_eq!(
        mesh.failed(&mut ticket, stale, &mut Cause::default()),
        Next::Answer(stale),
        "it may have been done"
    );
}

#[test]
fn a_status_that_the_route_names_is_tried_again() {
    let retry = json!({
        "retries": 1, "connect": true, "reset": true, "statuses": [503], "grpc_statuses": [14],
    });
    let mut mesh = Mesh::new(&Config::new(2).route("retry", retry), 1);
    let unavailable = Head { grpc: true, grpc_status: Some(14), ..ANSWER };
    for (head, answer, expected) in [
        (get(), Head { status: 503, ..ANSWER }, true),
        (get(), Head { status: 500, ..ANSWER }, false),
        (post(BodyLength::Empty), Head { status: 503, ..ANSWER }, false),
        (grpc(&[]), unavailable, true),
        (grpc(&[]), Head { bytes: 1, ..unavailable }, false),
        (grpc(&[]), Head { grpc: false, ..unavailable }, false),
    ] {
        let mut ticket = mesh.ask_as(&head, true).0;
        let passed = ticket.responded(answer, mesh.now, &mut mesh.rng);
        let again = matches!(passed, meshcore_core::exchange::Passed::Again { .. });
        assert_eq!(again, expected, "{answer:?}");
        mesh.finish(ticket);
    }
}

#[test]
fn each_attempt_has_its_own_time() {
    const PER_TRY: Nanos = Nanos::from_millis(30);
    let retry = json!({"retries": 2, "per_try_ns": PER_TRY.0, "connect": true, "reset": true});
    for seed in 0..50 {
        let mut mesh = Mesh::new(&Config::new(3).route("retry", retry.clone()), seed);
        let mut ticket = mesh.ask().0;
        let mut began = mesh.now;
        for attempt in 1..=3 {
            let due = mesh.until_due(&mut ticket, Paused::default());
            assert_eq!(due, Due::Attempt(Reason::UpstreamTryTimeout));
            assert_eq!(mesh.now, began + PER_TRY, "attempt {attempt} counts from when it is sent");
            let next = mesh.failed(&mut ticket, Reason::UpstreamTryTimeout, &mut Cause::default());
            match again(&mesh, next) {
                Some((_, wait)) => {
                    assert!(attempt < 3 && is_back_off(wait));
                    mesh.now = mesh.now + wait;
                    ticket.sent(mesh.now);
                    began = mesh.now;
                }
                None => assert_eq!(attempt, 3),
            }
        }
    }
}

/// One endpoint of two refuses; the other takes calls and does not answer in their deadlines.
#[test]
fn what_an_earlier_attempt_met_is_not_told_of_the_last() {
    let mut mesh = Mesh::new(&retrying(2, 1).touchy(), 1);
    for _ in 0..10 {
        let mut ticket = mesh.ask_as(&grpc(&[("grpc-timeout", "1S")]), true).0;
        let next = mesh.failed(&mut ticket, Reason::UpstreamConnect, &mut Cause::default());
        assert!(again(&mesh, next).is_some());
        let answer = Head { grpc: true, grpc_status: Some(4), ..ANSWER };
        mesh.respond(&mut ticket, answer);
        mesh.finish(ticket);
        assert!(!mesh.is_open());
    }
}

/// A probe whose first attempt failed is given back as one that says nothing yet.
#[test]
fn a_probe_that_is_given_back_says_nothing_of_an_earlier_attempt() {
    let rules = json!({"failures": 2, "failure_percent": 0, "open_for_ns": 1_000_000_000});
    let mut mesh = Mesh::new(&retrying(2, 1).upstream("breaker", rules), 1);
    for _ in 0..2 {
        let ticket = mesh.ask_as(&post(BodyLength::Empty), true).0;
        mesh.fail(ticket, Reason::UpstreamReset);
    }
    assert!(mesh.is_open());
    mesh.wait(1_000);
    let mut probe = mesh.ask_as(&grpc(&[]), true).0;
    let next = mesh.failed(&mut probe, Reason::UpstreamConnect, &mut Cause::default());
    assert!(again(&mesh, next).is_some());
    assert_eq!(mesh.until_due(&mut probe, Paused::default()), Due::NotYet);
    assert!(!mesh.is_open(), "the second endpoint has it, and may be at work");
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(96))]

    /// No attempt begins when the request's time is over, and there are never too many.
    #[test]
    fn no_attempt_begins_too_late_or_too_often(
        endpoints in 1usize..6,
        retries in 0u8..6,
        deadline_ms in 1u64..6_000,
        waits in proptest::collection::vec(0u64..600, 10),
        reasons in proptest::collection::vec(0usize..5, 10),
        seed: u64,
    ) {
        let config = retrying(endpoints, retries).listener("trusted_hops", json!(1));
        let mut mesh = Mesh::new(&config, seed);
        let text = deadline_ms.to_string();
        let fields = [("x-mesh-deadline-ms", text.as_str())];
        let mut ticket: Box<RequestTicket> =
            mesh.ask_as(&crate::mesh::request("GET", BodyLength::Empty, &fields), true).0;
        let end = mesh.now + TIMEOUT.min(Nanos::from_millis(deadline_ms));
        prop_assert!(ticket.next_due() <= end);
        for (wait, reason) in waits.into_iter().zip(reasons) {
            mesh.wait(wait);
            let reason = [
                Reason::UpstreamConnect,
                Reason::UpstreamReset,
                Reason::UpstreamRefused,
                Reason::UpstreamResolve,
                Reason::UpstreamStale,
            ][reason];
            match mesh.failed(&mut ticket, reason, &mut Cause::default()) {
                Next::Answer(_) => break,
                Next::Fresh => prop_assert_eq!(reason, Reason::UpstreamStale),
                Next::Again { at, .. } => {
                    prop_assert!(at < end && at >= mesh.now);
                    mesh.now = at;
                }
            }
            ticket.sent(mesh.now);
        }
        prop_assert!(ticket.attempts() <= retries + 1);
        prop_assert_eq!(mesh.metric("meshcore_route_retries_total"), u64::from(ticket.attempts() - 1));
        mesh.finish(ticket);
        prop_assert_eq!(mesh.held(), 0);
    }

    /// The budget bounds how many are under way at one time.
    #[test]
    fn retries_at_one_time_are_bounded(
        requests in 1usize..60,
        floor in 0u64..5,
        percent in 0u64..50,
        seed: u64,
    ) {
        let config = retrying(4, 1)
            .upstream("retry_budget_floor", json!(floor))
            .upstream("retry_budget_percent", json!(percent));
        let mut mesh = Mesh::new(&config, seed);
        let mut tickets: Vec<_> = (0..requests).map(|_| mesh.ask().0).collect();
        let mut tried = 0;
        for ticket in &mut tickets {
            let next = mesh.failed(ticket, Reason::UpstreamReset, &mut Cause::default());
            tried += u64::from(!matches!(next, Next::Answer(_)));
        }
        prop_assert_eq!(tried, mesh.metric("meshcore_upstream_retries"));
        prop_assert!(tried <= floor.max(requests as u64 * percent / 100));
        drop(tickets);
        prop_assert_eq!(mesh.held(), 0);
    }
}

#[test]
fn a_retry_that_is_answered_is_in_the_budget_no_more() {
    let mut mesh = Mesh::new(&retrying(2, 1), 1);
    let mut ticket = mesh.ask().0;
    let next = mesh.failed(&mut ticket, Reason::UpstreamReset, &mut Cause::default());
    assert!(again(&mesh, next).is_some());
    assert_eq!(mesh.metric("meshcore_upstream_retries"), 1);
    ticket.sent(mesh.now);
    mesh.respond(&mut ticket, ANSWER);
    assert_eq!(mesh.metric("meshcore_upstream_retries"), 0);
    mesh.finish(ticket);
    assert_eq!(mesh.held(), 0);
}

/// Of two endpoints one takes no connection; all that met it goes to the other, however many.
#[test]
fn a_failed_connect_takes_nothing_of_the_budget() {
    for reason in [Reason::UpstreamConnect, Reason::UpstreamResolve] {
        let mut mesh = Mesh::new(&budget(2, 1, 0), 1);
        let mut tickets: Vec<_> = (0..50).map(|_| mesh.begin(&get(), true).0).collect();
        for ticket in &mut tickets {
            let next = mesh.failed(ticket, reason, &mut Cause::default());
            assert!(again(&mesh, next).is_some(), "{reason:?}");
        }
        assert_eq!(mesh.metric("meshcore_upstream_retries"), 0);
    }
}

/// Nothing was sent the last time, but something was before: it is a retry still.
#[test]
fn a_failed_connect_of_a_retry_keeps_its_place_in_the_budget() {
    for (reason, floor) in [Reason::UpstreamConnect, Reason::UpstreamRefused]
        .into_iter()
        .flat_map(|reason| [(reason, 1), (reason, 2)])
    {
        let mut mesh = Mesh::new(&budget(5, 3, floor), 1);
        let mut others: Vec<_> = (0..2).map(|_| mesh.ask().0).collect();
        let mut ticket = mesh.ask().0;
        let next = mesh.failed(&mut ticket, Reason::UpstreamReset, &mut Cause::default());
        assert!(again(&mesh, next).is_some());
        let next = mesh.failed(&mut ticket, reason, &mut Cause::default());
        assert!(again(&mesh, next).is_some(), "its own place is free");
        assert_eq!(mesh.metric("meshcore_upstream_retries"), 1, "{reason:?}");
        let next = mesh.failed(&mut others[0], Reason::UpstreamReset, &mut Cause::default());
        assert_eq!(again(&mesh, next).is_some(), floor == 2);
    }
}

/// Each endpoint is asked for a connection once at no cost; again only as the budget allows.
#[test]
fn an_endpoint_that_was_tried_takes_of_the_budget() {
    let mut mesh = Mesh::new(&budget(2, 9, 1), 1);
    let mut tickets: Vec<_> = (0..10).map(|_| mesh.begin(&get(), true).0).collect();
    for ticket in &mut tickets {
        let next = mesh.failed(ticket, Reason::UpstreamConnect, &mut Cause::default());
        assert!(again(&mesh, next).is_some());
    }
    let mut more = 0;
    for ticket in &mut tickets {
        let next = mesh.failed(ticket, Reason::UpstreamConnect, &mut Cause::default());
        more += usize::from(again(&mesh, next).is_some());
    }
    assert_eq!((more, mesh.metric("meshcore_upstream_retries")), (1, 1));
}

/// An endpoint that answers no SYN holds each request for the time of a connect. It is ejected as
/// before, and then only probes wait for it; the service is not called ill.
#[test]
fn a_black_hole_is_left_alone_although_connects_cost_nothing() {
    let eject = json!({"failures": 5, "eject_for_ns": Nanos::from_secs(30).0, "max_percent": 50});
    let config = budget(2, 1, 0)
        .route("timeout_ns", json!(Nanos::from_secs(15).0))
        .upstream("ejection", eject)
        .touchy();
    let mut mesh = Mesh::new(&config, 1);
    let hole = 0;
    let tickets: Vec<_> = (0..40).map(|_| mesh.begin(&get(), true)).collect();
    mesh.wait(5_000);
    for (mut ticket, verdict) in tickets {
        let Verdict::Forward(id) = verdict else { panic!("{verdict:?}") };
        if mesh.index(id) == hole {
            let next = mesh.failed(&mut ticket, Reason::UpstreamConnect, &mut Cause::default());
            assert_eq!(again(&mesh, next), Some((1, Nanos::ZERO)), "at once: it has waited");
        }
        ticket.sent(mesh.now);
        mesh.respond(&mut ticket, ANSWER);
        mesh.finish(ticket);
    }
    assert_eq!((mesh.ejected(), mesh.is_open()), (1, false));
    for _ in 0..100 {
        let (ticket, endpoint) = mesh.ask();
        assert_ne!(endpoint, hole);
        mesh.finish(ticket);
    }
    assert_eq!(mesh.metric("meshcore_route_retries_total"), 20);
    assert_eq!(mesh.held(), 0);
}

/// When all of them are, a request asks each once, and the breaker ends that.
#[test]
fn black_holes_alone_are_asked_by_each_request_once() {
    let mut mesh = Mesh::new(&budget(3, 200, 0).touchy(), 1);
    let mut tickets: Vec<_> = (0..20).map(|_| mesh.begin(&get(), true).0).collect();
    let mut connects = 0;
    while let Some(mut ticket) = tickets.pop() {
        let next = mesh.failed(&mut ticket, Reason::UpstreamConnect, &mut Cause::default());
        if let Next::Answer(reason) = next {
            connects += u32::from(ticket.attempts());
            mesh.answer(ticket, reason);
        } else {
            tickets.push(ticket);
        }
    }
    // The first three are told of each of the three, which opens it.
    assert!(mesh.is_open());
    assert!((20..=60).contains(&connects), "{connects}");
    let (_, verdict) = mesh.begin(&get(), true);
    assert!(!matches!(verdict, Verdict::Forward(_)), "{verdict:?}");
    assert_eq!(mesh.held(), 0);
}

/// A refusal says nothing of another endpoint, to which no connection could be made.
#[test]
fn a_refused_stream_makes_no_failed_connect_free_again() {
    for endpoints in [2, 3] {
        for seed in 0..50 {
            let mut mesh = Mesh::new(&budget(endpoints, 10, 0), seed);
            let (mut ticket, dead) = mesh.ask();
            let mut reason = Reason::UpstreamConnect;
            let mut asked = 0;
            loop {
                let next = mesh.failed(&mut ticket, reason, &mut Cause::default());
                let Some((endpoint, _)) = again(&mesh, next) else { break };
                assert_ne!(endpoint, dead, "it was asked once");
                reason = Reason::UpstreamRefused;
                asked += 1;
            }
            assert_eq!(asked, 10, "what is refused takes no place");
        }
    }
}
