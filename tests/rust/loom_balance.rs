//! Every interleaving of two threads on an endpoint's words: ejection, its one probe, requests
//! under way, and the retry budget of an upstream. `make loom`.
#![cfg(feature = "loom")]
#![allow(missing_docs, clippy::unwrap_used)]

use loom::sync::Arc;
use loom::thread;
use meshcore_core::admission::RetryBudget;
use meshcore_core::balance::{EndpointOutcome, EndpointState, Settled};
use meshcore_core::segment::Block;
use meshcore_core::snapshot::Ejection;
use meshcore_core::time::Nanos;

#[path = "loom_two.rs"]
mod loom_two;

use loom_two::two;

const NOW: Nanos = Nanos(5_000_000_000_000);
/// Later than the first time out of [`rules`].
const LATER: Nanos = Nanos(NOW.0 + 60_000_000_000);

fn rules(failures: u32) -> Ejection {
    Ejection { failures, eject_for_ns: 30_000_000_000, ..Ejection::default() }
}

fn endpoint() -> EndpointState {
    EndpointState::new(Block::private(EndpointState::WORDS), 0)
}

#[test]
fn failures_of_two_threads_eject_once() {
    loom::model(|| {
        let state = Arc::new(endpoint());
        let settled = two(&state, |s| {
            let permit = s.try_claim(NOW).unwrap();
            s.settle(permit, EndpointOutcome::Failed, NOW, &rules(2), true)
        });
        assert!(state.is_ejected());
        assert_eq!(settled.iter().filter(|s| matches!(s, Settled::Ejected { .. })).count(), 1);
    });
}

#[test]
fn an_ejected_endpoint_gets_one_probe_and_comes_back_once() {
    loom::model(|| {
        let state = Arc::new(endpoint());
        let permit = state.try_claim(NOW).unwrap();
        state.settle(permit, EndpointOutcome::Failed, NOW, &rules(1), true);
        let settled = two(&state, |s| {
            let permit = s.try_claim(LATER)?;
            let probe = permit.is_probe();
            Some((probe, s.settle(permit, EndpointOutcome::Ok, LATER, &rules(1), true)))
        });
        let returned = |s: &&(bool, Settled)| matches!(s.1, Settled::Returned);
        assert_eq!(settled.iter().flatten().filter(|s| s.0).count(), 1);
        assert_eq!(settled.iter().flatten().filter(returned).count(), 1);
        assert!(!state.is_ejected());
    });
}

#[test]
fn a_failure_from_before_the_ejection_does_not_end_the_probe() {
    loom::model(|| {
        let state = Arc::new(endpoint());
        let late = state.try_claim(NOW).unwrap();
        let first = state.try_claim(NOW).unwrap();
        state.settle(first, EndpointOutcome::Failed, NOW, &rules(1), true);
        let other = Arc::clone(&state);
        let running = thread::spawn(move || {
            other.settle(late, EndpointOutcome::Failed, LATER, &rules(1), true)
        });
        let probe = state.try_claim(LATER).unwrap();
        let settled = state.settle(probe, EndpointOutcome::Ok, LATER, &rules(1), true);
        assert!(matches!(settled, Settled::Returned));
        // Its permit is of an older epoch, whichever side of the probe it lands on.
        assert!(matches!(running.join().unwrap(), Settled::Same));
        assert!(!state.is_ejected());
    });
}

#[test]
fn requests_under_way_come_down_to_nothing() {
    loom::model(|| {
        let state = Arc::new(endpoint());
        two(&state, |s| {
            s.enter();
            s.leave();
        });
        assert_eq!(state.in_flight(), 0);
    });
}

#[test]
fn a_retry_budget_of_one_lets_one_retry_at_a_time() {
    loom::model(|| {
        let words = Block::private(meshcore_core::admission::InFlight::WORDS);
        let budget = Arc::new(RetryBudget::new(words, 0, 0, 1));
        let entered = two(&budget, |b| b.try_enter(0));
        assert_eq!(entered.iter().filter(|&&e| e).count(), 1);
        budget.leave();
        assert_eq!(budget.current(), 0);
    });
}
