//! Ejection: one dead endpoint costs retries, not the upstream.
#![cfg(not(feature = "loom"))]
#![allow(missing_docs, clippy::unwrap_used)]

use std::sync::Arc;

use meshcore_core::balance::{
    Endpoint, EndpointOutcome, EndpointPermit, EndpointState, Picker, Rng, Settled, Tried,
};
use meshcore_core::segment::Block;
use meshcore_core::snapshot::{Balance, Ejection};
use meshcore_core::time::Nanos;
use proptest::prelude::*;

fn endpoints(n: usize) -> Arc<[Endpoint]> {
    let endpoint = |i| Endpoint {
        state: EndpointState::new(Block::private(EndpointState::WORDS), 0),
        weight: 1,
        address: format!("10.0.0.{i}:80"),
    };
    (0..n).map(endpoint).collect()
}

struct Simulation {
    picker: Picker,
    rand: Rng,
    rules: Ejection,
    attempts: Vec<u32>,
    failed_requests: u32,
}

impl Simulation {
    fn new(kind: Balance, n: usize) -> Self {
        let picker = Picker::new(kind, endpoints(n));
        let attempts = vec![0; n];
        let rules = Ejection::default();
        Self { picker, rand: Rng::new(1), rules, attempts, failed_requests: 0 }
    }

    /// One request with one retry; endpoints for which `dead` holds fail.
    fn request(&mut self, now: Nanos, dead: impl Fn(usize) -> bool) {
        let mut tried = Tried::new();
        for _ in 0..2 {
            let picked = self.picker.pick(now, &mut self.rand, &tried).unwrap();
            let index = picked.index;
            self.attempts[index] += 1;
            tried.insert(index);
            let outcome = if dead(index) { EndpointOutcome::Failed } else { EndpointOutcome::Ok };
            self.picker.settle(index, picked.permit, outcome, now, Some(&self.rules));
            if outcome == EndpointOutcome::Ok {
                return;
            }
        }
        self.failed_requests += 1;
    }
}

#[test]
fn one_dead_endpoint_of_three_costs_five_retries_and_then_a_probe_now_and_then() {
    for kind in [Balance::RoundRobin, Balance::LeastRequest, Balance::Random] {
        let mut simulation = Simulation::new(kind, 3);
        // Ten minutes, a hundred requests a second.
        for i in 0..60_000 {
            simulation.request(Nanos::from_millis(i * 10), |endpoint| endpoint == 1);
        }
        assert_eq!(simulation.failed_requests, 0, "{kind:?}: no client sees it");
        // 5 to be ejected; probes after 30, 60, 90, 120, 150 s (and 180 s just outside).
        let dead = simulation.attempts[1];
        assert!((9..=11).contains(&dead), "{kind:?}: {dead} attempts at the dead one");
        let (a, b) = (simulation.attempts[0], simulation.attempts[2]);
        assert!(a.abs_diff(b) < 2_000, "{kind:?}: {a} and {b}");
    }
}

#[test]
fn an_endpoint_that_recovers_is_back_after_one_probe() {
    let mut simulation = Simulation::new(Balance::RoundRobin, 3);
    for i in 0..30 {
        simulation.request(Nanos::from_millis(i), |endpoint| endpoint == 0);
    }
    assert!(simulation.picker.endpoints()[0].state.is_ejected());
    simulation.attempts.fill(0);
    for _ in 0..30 {
        simulation.request(Nanos::from_secs(31), |_| false);
    }
    assert_eq!(simulation.attempts, [10, 10, 10]);
}

#[test]
fn a_single_endpoint_is_never_ejected() {
    let mut simulation = Simulation::new(Balance::LeastRequest, 1);
    for i in 0..1_000 {
        simulation.request(Nanos::from_millis(i), |_| true);
    }
    assert!(!simulation.picker.endpoints()[0].state.is_ejected());
    assert_eq!(simulation.attempts, [2_000]);
}

#[test]
fn a_retry_is_not_spent_on_a_probe() {
    let mut simulation = Simulation::new(Balance::Random, 3);
    for i in 0..100 {
        simulation.request(Nanos::from_millis(i), |endpoint| endpoint == 0);
    }
    let due = Nanos::from_secs(40);
    let mut tried = Tried::new();
    tried.insert(1);
    for _ in 0..100 {
        assert_eq!(simulation.picker.pick(due, &mut simulation.rand, &tried).unwrap().index, 2);
    }
    // With the others tried, the probe is the better choice than the same again.
    tried.insert(2);
    let picked = simulation.picker.pick(due, &mut simulation.rand, &tried).unwrap();
    assert!(picked.index == 0 && picked.permit.is_probe());
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    /// Whatever fails: at most half are out, never all, and a probe is alone.
    #[test]
    fn at_most_half_are_out(
        n in 1_usize..8,
        max_percent in 0_u8..=100,
        steps in prop::collection::vec((0_u64..20_000, 0_u8..10), 1..600),
    ) {
        let rules = Ejection { max_percent, ..Ejection::default() };
        let picker = Picker::new(Balance::Random, endpoints(n));
        let mut rand = Rng::new(7);
        let mut now = 0;
        for (wait_ms, luck) in steps {
            now += wait_ms / 20;
            let at = Nanos::from_millis(now);
            let picked = picker.pick(at, &mut rand, &Tried::new()).unwrap();
            let outcome = match luck {
                0..6 => EndpointOutcome::Failed,
                6..8 => EndpointOutcome::Neutral,
                _ => EndpointOutcome::Ok,
            };
            picker.settle(picked.index, picked.permit, outcome, at, Some(&rules));
            let out = picker.endpoints().iter().filter(|e| e.state.is_ejected()).count();
            prop_assert!(out * 100 <= n * usize::from(max_percent) && out < n.max(1));
        }
    }

    /// Against a slow model that keeps everything in the open.
    #[test]
    fn one_endpoint_follows_the_model(
        steps in prop::collection::vec((0_u64..15_000, 0_u8..12, 0_u8..4), 1..400),
    ) {
        let rules = Ejection::default();
        let state = EndpointState::new(Block::private(EndpointState::WORDS), 0);
        let mut model = Model::default();
        let mut open: Vec<(EndpointPermit, u64, bool)> = Vec::new();
        let mut now = 0;
        for (wait_ms, luck, settle) in steps {
            now += wait_ms;
            let at = Nanos::from_millis(now);
            prop_assert_eq!(state.available(at), model.available(now));
            let permit = state.try_claim(at);
            let wanted = model.claim(now);
            prop_assert_eq!(permit.as_ref().map(EndpointPermit::is_probe), wanted);
            if let Some(permit) = permit {
                open.push((permit, model.spell, wanted == Some(true)));
            }
            for _ in 0..settle {
                if open.is_empty() {
                    break;
                }
                let (permit, spell, probe) = open.swap_remove(usize::from(luck) % open.len());
                let outcome = match luck {
                    0..8 => EndpointOutcome::Failed,
                    8..9 => EndpointOutcome::Neutral,
                    _ => EndpointOutcome::Ok,
                };
                let verdict = state.settle(permit, outcome, at, &rules, true);
                let wanted = model.settle(spell, probe, outcome, now, &rules);
                prop_assert_eq!(verdict, wanted);
            }
        }
    }
}

/// The rules in plain words: a spell ends with every ejection, probe and return.
#[derive(Default)]
struct Model {
    spell: u64,
    failures: u32,
    repeats: u64,
    back_at: u64,
    /// Out until then; probing until then.
    out: Option<u64>,
    probing: Option<u64>,
}

impl Model {
    fn available(&self, now: u64) -> bool {
        self.out.or(self.probing).is_none_or(|until| now >= until)
    }

    fn claim(&mut self, now: u64) -> Option<bool> {
        if self.out.is_none() && self.probing.is_none() {
            return Some(false);
        }
        self.available(now).then(|| {
            self.spell += 1;
            self.out = None;
            self.probing = Some(now + 30_000);
            true
        })
    }

    fn settle(
        &mut self,
        spell: u64,
        probe: bool,
        outcome: EndpointOutcome,
        now: u64,
        rules: &Ejection,
    ) -> Settled {
        if spell != self.spell {
            return Settled::Same;
        }
        match outcome {
            EndpointOutcome::Neutral if probe => {
                self.spell += 1;
                self.probing = None;
                self.out = Some(now);
                Settled::Same
            }
            EndpointOutcome::Neutral => Settled::Same,
            EndpointOutcome::Ok if probe => {
                self.spell += 1;
                self.probing = None;
                self.back_at = now;
                self.failures = 0;
                Settled::Returned
            }
            EndpointOutcome::Ok => {
                self.failures = 0;
                Settled::Same
            }
            EndpointOutcome::Failed => self.fail(probe, now, rules),
        }
    }

    fn fail(&mut self, probe: bool, now: u64, rules: &Ejection) -> Settled {
        self.failures += 1;
        if !probe && self.failures < rules.failures {
            return Settled::Same;
        }
        let base = rules.eject_for_ns / 1_000_000;
        if !probe {
            self.repeats = self.repeats.saturating_sub((now - self.back_at) / base);
        }
        self.repeats = (self.repeats + 1).min(15);
        let until = now + (base * self.repeats).min(rules.max_eject_for_ns / 1_000_000);
        self.spell += 1;
        self.failures = 0;
        self.probing = None;
        self.out = Some(until);
        Settled::Ejected { until: Nanos::from_millis(until) }
    }
}
