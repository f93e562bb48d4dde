//! What we refuse or lack is no failure of a service, and one cause counts once.

use meshcore_core::error::{Blame, By, Reason};
use meshcore_core::exchange::{Cause, Next};
use proptest::prelude::*;
use serde_json::json;

use crate::mesh::{ANSWER, Config, Mesh};

/// How the end of a request is told.
const ENDS: [fn(&mut Mesh, Reason); 4] = [
    |mesh, reason| {
        let ticket = mesh.ask().0;
        mesh.fail(ticket, reason);
    },
    |mesh, reason| {
        let ticket = mesh.ask().0;
        mesh.answer(ticket, reason);
    },
    |mesh, reason| {
        let ticket = mesh.ask().0;
        mesh.cut(ticket, reason);
    },
    |mesh, reason| {
        let mut ticket = mesh.ask().0;
        mesh.failed(&mut ticket, reason, &mut Cause::default());
        drop(ticket);
    },
];

fn of_blame(blamed: bool) -> impl Iterator<Item = Reason> {
    Reason::ALL.iter().copied().filter(move |r| (r.blame() != Blame::Nobody) == blamed)
}

/// One endpoint for the breaker; of two, ejection may take one.
fn mesh(endpoints: usize) -> Mesh {
    let ejection = json!({"failures": 1, "max_percent": 100});
    Mesh::new(&Config::new(endpoints).touchy().upstream("ejection", ejection), 1)
}

#[test]
fn what_we_refuse_or_lack_is_not_blamed_on_anybody() {
    let ours = [
        Reason::ResponseTooLarge,
        Reason::NoResources,
        Reason::UpstreamResolve,
        Reason::QueueTimeout,
        Reason::Draining,
        Reason::LayerError,
        Reason::LayerResponse,
        Reason::Overflow,
        Reason::InternalError,
    ];
    for reason in ours {
        assert_eq!((reason.blame(), reason.by()), (Blame::Nobody, By::Proxy), "{reason:?}");
    }
}

#[test]
fn what_is_nobodys_fault_opens_nothing_however_it_is_told() {
    for endpoints in [1, 2] {
        for reason in of_blame(false) {
            for (how, end) in ENDS.iter().enumerate() {
                let mut mesh = mesh(endpoints);
                for _ in 0..40 {
                    end(&mut mesh, reason);
                }
                assert!(!mesh.is_open(), "{reason:?} told as {how}");
                assert_eq!((mesh.ejected(), mesh.held()), (0, 0), "{reason:?} told as {how}");
            }
        }
    }
}

#[test]
fn what_is_an_endpoints_fault_opens_it_however_it_is_told() {
    for reason in of_blame(true) {
        for (how, end) in ENDS.iter().enumerate() {
            let mut alone = mesh(1);
            end(&mut alone, reason);
            assert!(alone.is_open(), "{reason:?} told as {how}");
            // What one URL answers ejects nobody.
            let mut two = mesh(2);
            end(&mut two, reason);
            let ejected = usize::from(reason.blame() != Blame::Malformed);
            assert_eq!(two.ejected(), ejected, "{reason:?} told as {how}");
        }
    }
}

#[test]
fn behind_a_head_nothing_is_blamed_any_more() {
    for reason in Reason::ALL.iter().copied() {
        let mut mesh = mesh(1);
        for _ in 0..40 {
            let mut ticket = mesh.ask().0;
            mesh.respond(&mut ticket, ANSWER);
            mesh.cut(ticket, reason);
        }
        assert!(!mesh.is_open(), "{reason:?}");
    }
}

#[test]
fn a_drain_that_drops_everything_blames_nobody() {
    let mut mesh = mesh(1);
    let tickets: Vec<_> = (0..40).map(|_| mesh.ask().0).collect();
    mesh.wait(4_000);
    drop(tickets);
    assert!(!mesh.is_open());
    assert_eq!(mesh.held(), 0);
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    /// A connection with many streams is lost: its endpoint failed once.
    #[test]
    fn a_lost_connection_is_one_failure(
        streams in 1usize..=40,
        failures in 1usize..6,
        seed: u64,
    ) {
        let rules = json!({"failures": failures, "failure_percent": 0});
        let ejection = json!({"failures": failures, "max_percent": 100});
        let mut alone = Mesh::new(&Config::new(1).upstream("breaker", rules), seed);
        let mut two = Mesh::new(&Config::new(2).upstream("ejection", ejection), seed);
        for lost in 1..=failures {
            lose(&mut alone, streams, 0);
            prop_assert_eq!(alone.is_open(), lost == failures);
            lose(&mut two, streams, 0);
            prop_assert_eq!(two.ejected(), usize::from(lost == failures));
        }
    }
}

/// Ends so many requests at one endpoint at once, for one cause; those that went
/// elsewhere are ended by us.
fn lose(mesh: &mut Mesh, streams: usize, endpoint: usize) {
    let mut all = Vec::new();
    let mut others = Vec::new();
    while all.len() < streams {
        let (ticket, at) = mesh.ask();
        if at == endpoint { all.push(ticket) } else { others.push(ticket) }
    }
    let mut cause = Cause::default();
    for mut ticket in all {
        let next = mesh.failed(&mut ticket, Reason::UpstreamReset, &mut cause);
        assert_eq!(next, Next::Answer(Reason::UpstreamReset));
        mesh.answer(ticket, Reason::UpstreamReset);
    }
    for ticket in others {
        mesh.answer(ticket, Reason::Draining);
    }
}
