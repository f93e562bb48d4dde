//! Pickers: who may be chosen, and how often.
#![cfg(not(feature = "loom"))]
#![allow(missing_docs, clippy::unwrap_used)]

use std::sync::Arc;

use meshcore_core::balance::{Endpoint, EndpointOutcome, EndpointState, Picker, Rng, Tried};
use meshcore_core::segment::Block;
use meshcore_core::snapshot::{Balance, Ejection};
use meshcore_core::time::Nanos;
use proptest::prelude::*;

const KINDS: [Balance; 3] = [Balance::RoundRobin, Balance::LeastRequest, Balance::Random];
const RULES: Ejection = Ejection {
    failures: 1,
    eject_for_ns: 30_000_000_000,
    max_eject_for_ns: 300_000_000_000,
    max_percent: 100,
};
const NOW: Nanos = Nanos::from_secs(5);

fn endpoints(weights: &[u16]) -> Arc<[Endpoint]> {
    let endpoint = |(i, &weight): (usize, &u16)| Endpoint {
        state: EndpointState::new(Block::private(EndpointState::WORDS), 0),
        weight,
        address: format!("10.0.0.{i}:80"),
    };
    weights.iter().enumerate().map(endpoint).collect()
}

fn eject(picker: &Picker, index: usize, now: Nanos) {
    let state = &picker.endpoints()[index].state;
    let permit = state.try_claim(now).unwrap();
    state.settle(permit, EndpointOutcome::Failed, now, &RULES, true);
}

/// How often each endpoint is chosen out of `picks`, every attempt ending well at once.
fn count(picker: &Picker, picks: u32, now: Nanos) -> Vec<u32> {
    let mut rand = Rng::new(42);
    let mut counts = vec![0; picker.endpoints().len()];
    for _ in 0..picks {
        let picked = picker.pick(now, &mut rand, &Tried::new()).unwrap();
        counts[picked.index] += 1;
        picker.settle(picked.index, picked.permit, EndpointOutcome::Ok, now, Some(&RULES));
    }
    counts
}

/// Whether each count lies within five standard deviations (and a round) of its share.
fn meets(counts: &[u32], shares: &[f64]) -> bool {
    let picks = f64::from(counts.iter().sum::<u32>());
    let whole: f64 = shares.iter().sum();
    counts.iter().zip(shares).all(|(&count, share)| {
        let p = share / whole;
        (f64::from(count) - picks * p).abs() <= 5.0 * (picks * p * (1.0 - p)).sqrt() + 3.0
    })
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(48))]

    #[test]
    fn idle_endpoints_share_by_weight(weights in prop::collection::vec(1_u16..=20, 1..12)) {
        for kind in KINDS {
            let counts = count(&Picker::new(kind, endpoints(&weights)), 20_000, NOW);
            let shares: Vec<f64> = weights.iter().map(|&w| f64::from(w)).collect();
            prop_assert!(meets(&counts, &shares), "{kind:?} {weights:?} {counts:?}");
        }
    }

    #[test]
    fn turns_are_exact_over_whole_rounds(weights in prop::collection::vec(1_u16..=9, 1..10)) {
        let picker = Picker::new(Balance::RoundRobin, endpoints(&weights));
        let sum: u32 = weights.iter().map(|&w| u32::from(w)).sum();
        let counts = count(&picker, sum * 100, NOW);
        for (count, &weight) in counts.iter().zip(&weights) {
            let wanted = i64::from(weight) * 100;
            prop_assert!((i64::from(*count) - wanted).abs() <= 3, "{weights:?} {counts:?}");
        }
    }

    #[test]
    fn the_rest_keep_their_proportions_when_some_are_ejected(
        weights in prop::collection::vec(1_u16..=20, 4..10),
        seed in any::<u64>(),
    ) {
        let mut rand = Rng::new(seed);
        for kind in KINDS {
            let picker = Picker::new(kind, endpoints(&weights));
            let mut shares: Vec<f64> = weights.iter().map(|&w| f64::from(w)).collect();
            for _ in 0..weights.len() / 2 {
                let out = usize::try_from(rand.below(weights.len() as u64)).unwrap();
                if shares[out] > 0.0 {
                    eject(&picker, out, NOW);
                    shares[out] = 0.0;
                }
            }
            let counts = count(&picker, 20_000, NOW);
            prop_assert!(meets(&counts, &shares), "{kind:?} {weights:?} {counts:?} {shares:?}");
        }
    }

    #[test]
    fn a_choice_is_never_ejected_draining_or_tried_while_there_is_another(
        states in prop::collection::vec(0_u8..4, 1..12),
        seed in any::<u64>(),
    ) {
        for kind in KINDS {
            let picker = Picker::new(kind, endpoints(&vec![1; states.len()])).with_panic_percent(0);
            let mut tried = Tried::new();
            for (i, state) in states.iter().enumerate() {
                match state {
                    1 => eject(&picker, i, NOW),
                    2 => picker.endpoints()[i].state.set_draining(true),
                    3 => tried.insert(i),
                    _ => {}
                }
            }
            let picked = picker.pick(NOW, &mut Rng::new(seed), &tried);
            let best = |wanted: &[u8]| picked.as_ref().is_some_and(|p| wanted.contains(&states[p.index]));
            if states.contains(&0) {
                prop_assert!(best(&[0]));
            } else if states.contains(&3) {
                prop_assert!(best(&[3]));
            } else if states.iter().all(|&s| s == 2) {
                prop_assert!(best(&[2]));
            } else {
                prop_assert!(picked.is_none());
            }
        }
    }
}

#[test]
fn no_endpoint_no_choice() {
    for kind in KINDS {
        assert!(
            Picker::new(kind, endpoints(&[])).pick(NOW, &mut Rng::new(1), &Tried::new()).is_none()
        );
    }
}

#[test]
fn below_half_healthy_all_are_used_alike_and_it_is_said() {
    for kind in KINDS {
        let picker = Picker::new(kind, endpoints(&[1; 10]));
        for i in 0..5 {
            eject(&picker, i, NOW);
        }
        assert!(!picker.is_panic(NOW), "half is enough");
        eject(&picker, 5, NOW);
        let now = NOW + Nanos::from_millis(1);
        assert!(picker.is_panic(now));
        let counts = count(&picker, 10_000, now);
        assert!(meets(&counts, &[1.0; 10]), "{kind:?} {counts:?}");
        assert!(picker.pick(now, &mut Rng::new(1), &Tried::new()).unwrap().panic);
    }
}

#[test]
fn draining_endpoints_are_not_ill() {
    let picker = Picker::new(Balance::Random, endpoints(&[1; 4]));
    for i in 0..3 {
        picker.endpoints()[i].state.set_draining(true);
    }
    assert!(!picker.is_panic(NOW));
    assert_eq!(count(&picker, 100, NOW), [0, 0, 0, 100]);
}

#[test]
fn least_request_evens_out_load_by_weight() {
    let weights = [1, 2, 4];
    let picker = Picker::new(Balance::LeastRequest, endpoints(&weights));
    let mut rand = Rng::new(9);
    // A closed loop of 70 requests in which a random one ends before the next begins.
    let mut open = Vec::new();
    for _ in 0..20_000 {
        if open.len() == 70 {
            let done = usize::try_from(rand.below(70)).unwrap();
            let index: usize = open.swap_remove(done);
            picker.endpoints()[index].state.leave();
        }
        let picked = picker.pick(NOW, &mut rand, &Tried::new()).unwrap();
        picker.endpoints()[picked.index].state.enter();
        open.push(picked.index);
    }
    for (endpoint, weight) in picker.endpoints().iter().zip(weights) {
        let per_weight = endpoint.state.in_flight() / u64::from(weight);
        assert!((8..=12).contains(&per_weight), "{per_weight} of 10");
    }
}

#[test]
fn least_request_avoids_a_slow_endpoint_better_than_chance() {
    let picker = Picker::new(Balance::LeastRequest, endpoints(&[1; 3]));
    for _ in 0..50 {
        picker.endpoints()[0].state.enter();
    }
    let counts = count(&picker, 3_000, NOW);
    // Two draws are distinct, so the slow one always loses.
    assert_eq!(counts[0], 0);
}

#[test]
fn a_reload_goes_on_with_the_turns() {
    let turns = Block::private(Picker::WORDS);
    let all = endpoints(&[1; 4]);
    let pick = |p: &Picker| p.pick(NOW, &mut Rng::new(1), &Tried::new()).unwrap().index;
    let first = Picker::with_sequence(Balance::RoundRobin, all.clone(), turns.clone());
    assert_eq!((pick(&first), pick(&first)), (0, 1));
    let second = Picker::with_sequence(Balance::RoundRobin, all, turns);
    assert_eq!((pick(&second), pick(&second)), (2, 3));
}

/// What the next first attempts choose.
fn firsts(picker: &Picker, rand: &mut Rng, picks: usize) -> Vec<usize> {
    (0..picks).map(|_| picker.pick(NOW, rand, &Tried::new()).unwrap().index).collect()
}

#[test]
fn a_retry_does_not_take_the_next_requests_turn() {
    let picker = Picker::new(Balance::RoundRobin, endpoints(&[1; 2]));
    let mut rand = Rng::new(1);
    let mut firsts = Vec::new();
    for _ in 0..24 {
        let mut tried = Tried::new();
        let picked = picker.pick(NOW, &mut rand, &tried).unwrap();
        firsts.push(picked.index);
        let refuses = picked.index == 0;
        let outcome = if refuses { EndpointOutcome::Failed } else { EndpointOutcome::Ok };
        picker.settle(picked.index, picked.permit, outcome, NOW, None);
        if refuses {
            tried.insert(0);
            let again = picker.pick(NOW, &mut rand, &tried).unwrap();
            assert_eq!(again.index, 1);
            picker.settle(1, again.permit, EndpointOutcome::Ok, NOW, None);
        }
    }
    assert_eq!(firsts, [0, 1].repeat(12));
}

#[test]
fn no_kind_of_retry_takes_a_turn() {
    let picker = Picker::new(Balance::RoundRobin, endpoints(&[1; 4])).with_panic_percent(0);
    let mut rand = Rng::new(1);
    let mut all = Tried::new();
    assert_eq!(firsts(&picker, &mut rand, 1), [0]);
    for index in 0..4 {
        all.insert(index);
        picker.pick(NOW, &mut rand, &all).unwrap();
    }
    assert_eq!(firsts(&picker, &mut rand, 2), [1, 2]);
    for endpoint in picker.endpoints().iter() {
        endpoint.state.set_draining(true);
    }
    picker.pick(NOW, &mut rand, &all).unwrap();
    for endpoint in picker.endpoints().iter() {
        endpoint.state.set_draining(false);
    }
    assert_eq!(firsts(&picker, &mut rand, 2), [3, 0]);
}

#[test]
fn retries_of_a_round_robin_share_by_weight() {
    let picker = Picker::new(Balance::RoundRobin, endpoints(&[1, 5, 1, 2, 4]));
    let mut rand = Rng::new(7);
    let mut tried = Tried::new();
    tried.insert(1);
    let mut counts = vec![0; 5];
    for _ in 0..20_000 {
        counts[picker.pick(NOW, &mut rand, &tried).unwrap().index] += 1;
    }
    assert!(meets(&counts, &[1.0, 0.0, 1.0, 2.0, 4.0]), "{counts:?}");
}

#[test]
fn choosable_are_those_that_a_first_attempt_could_choose() {
    for kind in KINDS {
        let picker = Picker::new(kind, endpoints(&[1; 4]));
        assert_eq!(picker.choosable_bits(NOW), 0b1111);
        eject(&picker, 0, NOW);
        picker.endpoints()[3].state.set_draining(true);
        assert_eq!(picker.choosable_bits(NOW), 0b0110, "{kind:?}");
        // Due for a probe, until somebody is at it.
        let due = NOW + Nanos(RULES.eject_for_ns);
        assert_eq!(picker.choosable_bits(due), 0b0111, "{kind:?}");
        let probe = picker.endpoints()[0].state.try_claim(due).unwrap();
        assert_eq!(picker.choosable_bits(due), 0b0110, "{kind:?}");
        picker.settle(0, probe, EndpointOutcome::Ok, due, Some(&RULES));
        assert_eq!(picker.choosable_bits(due), 0b0111, "{kind:?}");
    }
}

#[test]
fn choosable_are_all_in_panic_and_all_when_all_drain() {
    let picker = Picker::new(Balance::RoundRobin, endpoints(&[1; 3]));
    eject(&picker, 0, NOW);
    eject(&picker, 1, NOW);
    assert_eq!(picker.choosable_bits(NOW), 0b111);
    let calm = Picker::new(Balance::RoundRobin, endpoints(&[1; 3])).with_panic_percent(0);
    eject(&calm, 2, NOW);
    assert_eq!(calm.choosable_bits(NOW), 0b011);
    for endpoint in calm.endpoints().iter() {
        endpoint.state.set_draining(true);
    }
    assert_eq!(calm.choosable_bits(NOW), 0b011);
    assert_eq!(Picker::new(Balance::Random, endpoints(&[])).choosable_bits(NOW), 0);
}

#[test]
fn beyond_sixty_four_endpoints_bits_are_shared() {
    let picker = Picker::new(Balance::Random, endpoints(&[1; 66])).with_panic_percent(0);
    for index in [0, 1, 2, 64] {
        eject(&picker, index, NOW);
    }
    assert_eq!(picker.choosable_bits(NOW), !0b101);
}

#[test]
fn ten_thousand_endpoints_with_one_left_are_found() {
    for kind in KINDS {
        let picker = Picker::new(kind, endpoints(&vec![1; 10_000])).with_panic_percent(0);
        for i in (0..10_000).filter(|&i| i != 7_777) {
            eject(&picker, i, NOW);
        }
        let picked = picker.pick(NOW, &mut Rng::new(1), &Tried::new()).unwrap();
        assert_eq!(picked.index, 7_777, "{kind:?}");
    }
}
