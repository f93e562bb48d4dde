//! Whom failures name: one endpoint is never taken for the service, and the service never missed.
#![cfg(not(feature = "loom"))]
#![allow(missing_docs, clippy::unwrap_used)]

use meshcore_core::admission::{Breaker, BreakerPermit, BreakerState, Endpoints, Outcome, Weight};
use meshcore_core::balance::Rng;
use meshcore_core::segment::Block;
use meshcore_core::snapshot;
use meshcore_core::time::Nanos;
use proptest::prelude::*;

const T0: Nanos = Nanos::from_secs(1_000);
const ROW: Weight = Weight::RowAndRate;
const RATE: Weight = Weight::RateOnly;

fn breaker(rules: snapshot::Breaker) -> Breaker {
    Breaker::new(Block::private(Breaker::WORDS), rules)
}

/// Opens by `failures` in a row alone.
fn by_row(failures: u32) -> Breaker {
    breaker(snapshot::Breaker { failures, failure_percent: 0, ..Default::default() })
}

/// Opens by the rate alone: half of at least four calls.
fn by_rate() -> Breaker {
    breaker(snapshot::Breaker { failures: 0, min_calls: 4, ..Default::default() })
}

/// The bits of endpoints 0 to n - 1.
fn first(n: usize) -> u64 {
    (0..n).fold(0, |all, index| all | Endpoints::bit(index))
}

fn fail(b: &Breaker, weight: Weight, index: usize, choosable: u64) {
    let endpoints = Endpoints { failed: Endpoints::bit(index), choosable };
    b.settle_named(b.acquire(T0).unwrap(), weight, endpoints, T0, 0);
}

fn end(b: &Breaker, outcome: Outcome) {
    b.settle(b.acquire(T0).unwrap(), outcome, T0, 0);
}

fn is_open(b: &Breaker) -> bool {
    b.state(T0) == BreakerState::Open
}

#[test]
fn a_row_must_name_as_many_endpoints_as_it_has_failures() {
    let b = by_row(5);
    for index in [0, 1, 2, 3, 3, 2, 1, 0] {
        fail(&b, ROW, index, first(9));
    }
    assert!(!is_open(&b), "eight failures, four names");
    fail(&b, ROW, 4, first(9));
    assert!(is_open(&b));
}

#[test]
fn or_each_that_can_be_chosen() {
    let b = by_row(5);
    for index in [0, 1, 0, 1] {
        fail(&b, ROW, index, first(2));
    }
    assert!(!is_open(&b), "each is named, but only four failures");
    fail(&b, ROW, 0, first(2));
    assert!(is_open(&b));
    // Those that were ejected meanwhile need not be named.
    let b = by_row(3);
    (0..9).for_each(|_| fail(&b, ROW, 7, first(8)));
    assert!(!is_open(&b));
    fail(&b, ROW, 7, Endpoints::bit(7));
    assert!(is_open(&b));
}

#[test]
fn one_failure_is_never_enough_beside_another_endpoint() {
    let b = by_row(1);
    (0..9).for_each(|_| fail(&b, ROW, 0, first(3)));
    assert!(!is_open(&b));
    fail(&b, ROW, 1, first(3));
    assert!(is_open(&b));
    let alone = by_row(1);
    fail(&alone, ROW, 0, first(1));
    assert!(is_open(&alone), "the only endpoint is the service");
}

#[test]
fn a_success_ends_the_row_and_its_names() {
    let b = by_row(3);
    fail(&b, ROW, 0, first(9));
    fail(&b, ROW, 1, first(9));
    end(&b, Outcome::Success);
    (0..9).for_each(|_| fail(&b, ROW, 2, first(9)));
    fail(&b, ROW, 3, first(9));
    assert!(!is_open(&b), "names are 2 and 3");
    end(&b, Outcome::Neutral);
    fail(&b, ROW, 0, first(9));
    assert!(is_open(&b), "what says nothing ends nothing");
}

#[test]
fn a_failure_for_the_rate_leaves_the_row_as_it_is() {
    let b = by_row(3);
    fail(&b, ROW, 0, first(9));
    fail(&b, ROW, 1, first(9));
    (0..9).for_each(|i| fail(&b, RATE, i, first(9)));
    assert!(!is_open(&b));
    fail(&b, ROW, 1, first(9));
    assert!(!is_open(&b), "those of the rate are not named in the row");
    fail(&b, ROW, 2, first(9));
    assert!(is_open(&b), "and did not end it");
}

#[test]
fn the_rate_must_name_five_or_each() {
    for weight in [ROW, RATE] {
        let b = by_rate();
        (0..100).for_each(|i| fail(&b, weight, i % 4, first(9)));
        assert!(!is_open(&b));
        fail(&b, weight, 4, first(9));
        assert!(is_open(&b));
        let b = by_rate();
        (0..3).for_each(|i| fail(&b, weight, i % 2, first(2)));
        assert!(!is_open(&b), "too few calls");
        fail(&b, weight, 0, first(2));
        assert!(is_open(&b));
    }
}

#[test]
fn any_failure_of_a_probe_opens_it_again() {
    for weight in [ROW, RATE] {
        let b = by_row(1);
        b.force_open(T0);
        let probe = |now| b.acquire(now).ok().filter(|permit| permit.is_probe()).unwrap();
        let later = T0 + Nanos::from_secs(1);
        let endpoints = Endpoints { failed: Endpoints::bit(0), choosable: first(9) };
        let failed = probe(later);
        b.settle_named(failed, weight, endpoints, later, 0);
        assert_eq!(b.state(later), BreakerState::Open);
        let again = later + Nanos::from_secs(60);
        b.settle(probe(again), Outcome::Neutral, again, 0);
        b.settle(probe(again), Outcome::Success, again, 0);
        b.settle_named(failed, weight, endpoints, again, 0);
        assert_eq!(b.state(again), BreakerState::HalfOpen, "a late result changes nothing");
        b.settle(probe(again), Outcome::Success, again, 0);
        assert_eq!(b.state(again), BreakerState::Closed);
    }
}

#[test]
fn the_plain_rule_asks_for_no_names() {
    let b = by_row(3);
    (0..3).for_each(|_| end(&b, Outcome::Failure));
    assert!(is_open(&b));
    let b = by_rate();
    (0..4).for_each(|_| end(&b, Outcome::Failure));
    assert!(is_open(&b));
}

/// Requests that begin and end in any order.
struct Simulation {
    breaker: Breaker,
    dice: Rng,
    in_flight: Vec<(BreakerPermit, usize)>,
}

impl Simulation {
    fn new(rules: snapshot::Breaker, seed: u64) -> Self {
        Self { breaker: breaker(rules), dice: Rng::new(seed), in_flight: Vec::new() }
    }

    fn below(&mut self, n: usize) -> usize {
        usize::try_from(self.dice.below(n as u64)).unwrap()
    }

    /// Begins requests at endpoints below `n` until `most` are under way.
    fn fill(&mut self, n: usize, most: usize) {
        while self.in_flight.len() < most {
            let Ok(permit) = self.breaker.acquire(T0) else { return };
            let endpoint = self.below(n);
            self.in_flight.push((permit, endpoint));
        }
    }

    /// One that is under way, taken out.
    fn take(&mut self) -> (BreakerPermit, usize) {
        let at = self.below(self.in_flight.len());
        self.in_flight.swap_remove(at)
    }

    fn weight(&mut self) -> Weight {
        if self.below(2) == 0 { ROW } else { RATE }
    }

    fn fail(&self, permit: BreakerPermit, weight: Weight, index: usize, choosable: u64) {
        let endpoints = Endpoints { failed: Endpoints::bit(index), choosable };
        self.breaker.settle_named(permit, weight, endpoints, T0, 0);
    }
}

fn rules() -> impl Strategy<Value = snapshot::Breaker> {
    (0u32..12, 0u8..=100, 1u32..30).prop_map(|(failures, failure_percent, min_calls)| {
        snapshot::Breaker { failures, failure_percent, min_calls, ..Default::default() }
    })
}

/// The rule, as it is told to people.
struct Model {
    rules: snapshot::Breaker,
    row: u32,
    row_names: u64,
    calls: u32,
    failed: u32,
    names: u64,
}

impl Model {
    const fn new(rules: snapshot::Breaker) -> Self {
        Self { rules, row: 0, row_names: 0, calls: 0, failed: 0, names: 0 }
    }

    const fn is_spread(&self, names: u64, choosable: u64) -> bool {
        let needed = match self.rules.failures {
            0 => 5,
            1 => 2,
            failures => failures,
        };
        names.count_ones() >= needed || names & choosable == choosable
    }

    fn success(&mut self) {
        self.calls += 1;
        (self.row, self.row_names) = (0, 0);
    }

    /// Whether this failure opens it.
    fn failure(&mut self, weight: Weight, bit: u64, choosable: u64) -> bool {
        self.calls += 1;
        self.failed += 1;
        self.names |= bit;
        let percent = u32::from(self.rules.failure_percent);
        let over = percent > 0
            && self.calls >= self.rules.min_calls
            && self.failed * 100 >= percent * self.calls;
        if over && self.is_spread(self.names, choosable) {
            return true;
        }
        if weight == RATE {
            return false;
        }
        self.row += 1;
        self.row_names |= bit;
        let long = self.rules.failures > 0 && self.row >= self.rules.failures;
        long && self.is_spread(self.row_names, choosable)
    }
}

proptest! {
    #[test]
    fn one_dead_endpoint_never_opens_it(
        rules in rules(),
        n in 2usize..70,
        most in 1usize..200,
        dead in 0usize..70,
        // In percent: how many of the others' requests end at all.
        answered in 0usize..=100,
        seed: u64,
    ) {
        let mut s = Simulation::new(rules, seed);
        let dead = dead % n;
        for _ in 0..400 {
            s.fill(n, most);
            let (permit, endpoint) = s.take();
            if endpoint == dead {
                let weight = s.weight();
                // Others may be ejected meanwhile, as long as one is there.
                let mut other = Endpoints::bit(s.below(64));
                while other & first(n) & !Endpoints::bit(dead) == 0 {
                    other = other.rotate_left(1);
                }
                let some = s.dice.next_u64() & first(n);
                let choosable = some | Endpoints::bit(dead) | other;
                s.fail(permit, weight, endpoint, choosable);
            } else if s.below(100) < answered {
                s.breaker.settle(permit, Outcome::Success, T0, 0);
            }
            prop_assert_eq!(s.breaker.state(T0), BreakerState::Closed);
        }
    }

    #[test]
    fn a_dead_service_opens_it_as_soon_as_that_is_known(
        failures in 1u32..12,
        n in 1usize..70,
        most in 1usize..200,
        seed: u64,
    ) {
        let rules = snapshot::Breaker { failures, failure_percent: 0, ..Default::default() };
        let mut s = Simulation::new(rules, seed);
        let (mut failed, mut names) = (0, 0u64);
        let known = |failed, names: u64| {
            let enough = names.count_ones() >= failures.max(2) || names == first(n);
            failed >= failures && enough
        };
        while !known(failed, names) {
            prop_assert_eq!(s.breaker.state(T0), BreakerState::Closed);
            s.fill(n, most);
            let (permit, endpoint) = s.take();
            s.fail(permit, ROW, endpoint, first(n));
            failed += 1;
            names |= Endpoints::bit(endpoint);
        }
        prop_assert_eq!(s.breaker.state(T0), BreakerState::Open);
    }

    #[test]
    fn it_opens_when_the_rule_says_so(
        rules in rules(),
        n in 1usize..70,
        most in 1usize..50,
        // In percent: how many endpoints are bad, and how many of their requests fail.
        bad in 0usize..=100,
        failing in 0usize..=100,
        seed: u64,
    ) {
        let mut s = Simulation::new(rules.clone(), seed);
        let mut model = Model::new(rules);
        for _ in 0..300 {
            s.fill(n, most);
            let (permit, endpoint) = s.take();
            let mut open = false;
            if endpoint * 100 < bad * n && s.below(100) < failing {
                let weight = s.weight();
                let choosable = s.dice.next_u64() & first(n) | Endpoints::bit(endpoint);
                open = model.failure(weight, Endpoints::bit(endpoint), choosable);
                s.fail(permit, weight, endpoint, choosable);
            } else if s.below(20) == 0 {
                s.breaker.settle(permit, Outcome::Neutral, T0, 0);
            } else {
                model.success();
                s.breaker.settle(permit, Outcome::Success, T0, 0);
            }
            prop_assert_eq!(s.breaker.state(T0) == BreakerState::Open, open);
            if open {
                break;
            }
        }
    }
}
