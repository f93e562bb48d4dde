//! Probes of a half-open breaker, and layers: whose a probe is, and for how long.

use meshcore_core::error::Reason;
use meshcore_core::exchange::{Due, Head, Paused, RequestTicket, Verdict};
use meshcore_core::head::{BodyLength, RequestHead};
use serde_json::{Value, json};

use crate::mesh::{ANSWER, Config, Mesh, TIMEOUT, get, grpc, post};

/// Opened by one failure, and half open a second later.
fn rules(successes: u32) -> Value {
    json!({"failures": 1, "failure_percent": 0, "open_for_ns": 1_000_000_000,
           "max_open_for_ns": 1_000_000_000, "successes": successes, "probes": 1})
}

fn is_refused(verdict: Verdict) -> bool {
    matches!(verdict, Verdict::Answer(answer) if answer.reason == Reason::BreakerOpen)
}

/// Goes on behind all layers.
fn forwarded(
    mesh: &Mesh,
    head: &RequestHead,
    begun: (Box<RequestTicket>, Verdict),
) -> Box<RequestTicket> {
    let (mut ticket, mut verdict) = begun;
    while matches!(verdict, Verdict::Pause(_)) {
        verdict = mesh.resume(&mut ticket, head);
    }
    assert!(matches!(verdict, Verdict::Forward(_)), "{verdict:?}");
    ticket.sent(mesh.now);
    ticket
}

/// A mesh whose breaker is half open.
fn half_open(config: &Config) -> Mesh {
    let mut mesh = Mesh::new(config, 1);
    let ticket = forwarded(&mesh, &get(), mesh.begin(&get(), true));
    mesh.fail(ticket, Reason::UpstreamReset);
    mesh.wait(1_001);
    mesh
}

#[test]
fn a_probe_keeps_its_place_as_long_as_its_rules_say() {
    for (probe_timeout, lost) in [(30, true), (130, false)] {
        let mut rules = rules(1);
        rules["probe_timeout_ns"] = json!(probe_timeout * 1_000_000_000_u64);
        let mut mesh = half_open(&Config::new(1).upstream("breaker", rules));
        let _probe = forwarded(&mesh, &get(), mesh.begin(&get(), true));
        mesh.wait(100_000);
        assert_eq!(is_refused(mesh.begin(&get(), true).1), !lost);
    }
}

#[test]
fn a_layer_that_takes_its_time_holds_no_probe() {
    let rules = json!({"failures": 1, "failure_percent": 0, "open_for_ns": 1_000_000_000,
                       "max_open_for_ns": 1_000_000_000, "successes": 1, "probes": 1});
    let layers = json!([{"circuit_breaker": rules}, {"python": {"name": "a:Auth"}}]);
    let mut mesh = Mesh::new(&Config::new(1).route("layers", layers), 1);
    let passed = |mesh: &Mesh| {
        let (mut ticket, verdict) = mesh.begin(&get(), true);
        assert!(matches!(verdict, Verdict::Pause(_)));
        let verdict = mesh.resume(&mut ticket, &get());
        assert!(matches!(verdict, Verdict::Forward(_)), "{verdict:?}");
        ticket.sent(mesh.now);
        ticket
    };
    let ticket = passed(&mesh);
    mesh.fail(ticket, Reason::UpstreamReset);
    assert!(is_refused(mesh.begin(&get(), true).1), "where it is written, before the layer");
    mesh.wait(1_000);
    // Strangers whom the layer will refuse.
    let strangers: Vec<_> = (0..5).map(|_| mesh.begin(&get(), true)).collect();
    assert!(strangers.iter().all(|(_, verdict)| matches!(verdict, Verdict::Pause(_))));
    let mut ticket = passed(&mesh);
    assert!(is_refused(mesh.begin(&get(), true).1), "the probe is out");
    mesh.respond(&mut ticket, ANSWER);
    mesh.finish(ticket);
    drop(strangers);
    assert!(!is_refused(mesh.begin(&get(), true).1), "closed");
}

/// Both places of a breaker; small bodies are awaited.
fn either_place(successes: u32) -> [Config; 2] {
    let mut of_route =
        Config::new(1).route("layers", json!([{"circuit_breaker": rules(successes)}]));
    let mut of_upstream = Config::new(1).upstream("breaker", rules(successes));
    (of_route.buffer_total, of_upstream.buffer_total) = (10, 10);
    [of_route, of_upstream]
}

#[test]
fn a_small_body_is_whole_to_a_routes_breaker_too() {
    for config in either_place(1) {
        let mesh = half_open(&config);
        let (large, small) = (post(BodyLength::Streamed), post(BodyLength::Known(10)));
        let dripping = forwarded(&mesh, &large, mesh.begin(&large, false));
        assert!(is_refused(mesh.begin(&large, false).1), "one probe for all of them");
        let (mut ticket, verdict) = mesh.begin(&small, false);
        assert_eq!(verdict, Verdict::Await);
        let without_room = mesh.begin(&small, false).1;
        assert!(is_refused(without_room), "what is not awaited is no better");
        ticket.request_ended(mesh.now);
        let verdict = mesh.resume(&mut ticket, &small);
        let mut mesh = mesh;
        let mut ticket = forwarded(&mesh, &small, (ticket, verdict));
        mesh.respond(&mut ticket, ANSWER);
        mesh.finish(ticket);
        assert!(!is_refused(mesh.begin(&large, false).1), "closed");
        drop(dripping);
    }
}

#[test]
fn a_closed_breaker_reserves_nothing_for_a_body() {
    let mut config = Config::new(1)
        .route("layers", json!([{"circuit_breaker": rules(1)}, {"python": {"name": "a:Auth"}}]));
    config.buffer_total = 10;
    let mesh = Mesh::new(&config, 1);
    let small = post(BodyLength::Known(10));
    let paused: Vec<_> = (0..3).map(|_| mesh.begin(&small, false)).collect();
    assert!(paused.iter().all(|(_, verdict)| matches!(verdict, Verdict::Pause(_))));
    let (mut ticket, _) = mesh.begin(&small, false);
    assert_eq!(mesh.resume(&mut ticket, &small), Verdict::Await, "there is room");
}

/// What sends slowly, or streams.
fn slow() -> [RequestHead; 2] {
    [grpc(&[]), post(BodyLength::Streamed)]
}

#[test]
fn a_probe_has_its_time_from_when_it_was_given() {
    for place in ["route", "upstream"] {
        for head in slow() {
            let python = json!({"python": {"name": "a:Auth"}});
            let config = match place {
                "route" => {
                    Config::new(1).route("layers", json!([{"circuit_breaker": rules(1)}, python]))
                }
                _ => Config::new(1).route("layers", json!([python])).upstream("breaker", rules(1)),
            };
            let mut mesh = half_open(&config);
            let begun = mesh.begin(&head, false);
            mesh.wait(TIMEOUT.0 / 1_000_000 + 1_000); // in a layer
            let given = mesh.now;
            let mut probe = forwarded(&mesh, &head, begun);
            probe.received(1, true, given);
            assert_eq!(probe.next_due(), given + TIMEOUT);
            assert_eq!(probe.due(Paused::default(), mesh.now), Due::NotYet);
            mesh.wait(100);
            mesh.respond(&mut probe, Head { grpc: true, bytes: 5, ..ANSWER });
            mesh.finish(probe);
            forwarded(&mesh, &get(), mesh.begin(&get(), true)); // closed
        }
    }
}

#[test]
fn so_has_the_probe_of_an_endpoint() {
    let config = Config::new(2)
        .route("layers", json!([{"python": {"name": "a:Auth"}}]))
        .upstream("ejection", json!({"failures": 1, "max_percent": 100}));
    let mut mesh = Mesh::new(&config, 1);
    let ticket = forwarded(&mesh, &get(), mesh.begin(&get(), true));
    mesh.fail(ticket, Reason::UpstreamReset);
    assert_eq!(mesh.ejected(), 1);
    mesh.wait(31_000);
    // One of two in turn is the probe.
    let begun: Vec<_> = (0..2).map(|_| mesh.begin(&grpc(&[]), false)).collect();
    mesh.wait(TIMEOUT.0 / 1_000_000 + 1_000); // in a layer
    for each in begun {
        let mut ticket = forwarded(&mesh, &grpc(&[]), each);
        assert_eq!(ticket.due(Paused::default(), mesh.now), Due::NotYet);
        mesh.respond(&mut ticket, ANSWER);
        mesh.finish(ticket);
    }
    assert_eq!(mesh.ejected(), 0, "it was heard");
}

/// A service that takes longer for a call than a probe is held is found well, or ill, all the same.
#[test]
fn a_probe_that_gave_its_place_back_is_still_heard() {
    let told = |fails: bool| {
        let mut mesh = half_open(&Config::new(1).upstream("breaker", rules(1)));
        let head = grpc(&[]);
        let mut late = forwarded(&mesh, &head, mesh.begin(&head, false));
        assert_eq!(mesh.until_due(&mut late, Paused::default()), Due::NotYet);
        assert_ne!(late.next_due(), mesh.now, "once");
        let next = forwarded(&mesh, &head, mesh.begin(&head, false));
        late.request_ended(mesh.now);
        if fails {
            mesh.fail(late, Reason::UpstreamReset);
        } else {
            mesh.respond(&mut late, Head { grpc: true, bytes: 5, ..ANSWER });
            mesh.finish(late);
        }
        (mesh, next)
    };
    let (mesh, _next) = told(false);
    forwarded(&mesh, &get(), mesh.begin(&get(), true));
    forwarded(&mesh, &get(), mesh.begin(&get(), true)); // closed
    let (mesh, next) = told(true);
    assert!(mesh.is_open(), "again");
    drop(next);
    assert!(mesh.is_open(), "of an earlier epoch");
}

#[test]
fn it_has_no_place_to_give_back_twice() {
    let mut mesh = half_open(&Config::new(1).upstream("breaker", rules(5)));
    let head = post(BodyLength::Streamed);
    let mut late = forwarded(&mesh, &head, mesh.begin(&head, false));
    late.received(100_000, true, mesh.now);
    assert_eq!(mesh.until_due(&mut late, Paused::default()), Due::NotYet);
    let next = forwarded(&mesh, &head, mesh.begin(&head, false));
    late.request_ended(mesh.now);
    mesh.respond(&mut late, ANSWER);
    mesh.finish(late);
    assert!(is_refused(mesh.begin(&head, false).1), "the next one has it");
    drop(next);
    forwarded(&mesh, &head, mesh.begin(&head, false));
}

/// How many more requests pass with a bucket of ten at this place among layers, when a request has
/// opened the breaker between them, a probe has closed it and another request was refused meanwhile.
fn left(of: &str) -> usize {
    let limit = |name: &str| {
        let burst = if name == of { 10 } else { 100 };
        let rate = json!({"tokens": 1, "period_ns": 3_600_000_000_000_u64, "burst": burst});
        json!({"limit": {"name": name, "rate": rate}})
    };
    let python = json!({"python": {"name": "a:Auth"}});
    let breaker = json!({"circuit_breaker": rules(1)});
    let config = Config::new(1)
        .listener("layers", json!([limit("listener")]))
        .route("layers", json!([limit("before"), breaker, limit("behind"), python, limit("last")]));
    let mut mesh = half_open(&config);
    let (first, second) = (mesh.begin(&get(), true), mesh.begin(&get(), true));
    let mut probe = forwarded(&mesh, &get(), first);
    let (mut late, _) = second;
    assert!(is_refused(mesh.resume(&mut late, &get())), "the probe is out");
    drop(late);
    mesh.respond(&mut probe, ANSWER);
    mesh.finish(probe);
    let passes = |_: &usize| {
        let (mut ticket, mut verdict) = mesh.begin(&get(), true);
        if matches!(verdict, Verdict::Pause(_)) {
            verdict = mesh.resume(&mut ticket, &get());
        }
        matches!(verdict, Verdict::Forward(_))
    };
    (0..20).take_while(passes).count()
}

#[test]
fn what_a_breaker_refuses_is_charged_to_the_layers_before_it_alone() {
    assert_eq!((left("listener"), left("before")), (7, 7));
    assert_eq!((left("behind"), left("last")), (8, 8), "the refused one was given back");
}
