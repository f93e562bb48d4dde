//! One dead endpoint is not the service; a dead service is found out as soon as it can be.

use meshcore_core::error::Reason;
use meshcore_core::exchange::{Cause, Due, Next, Paused, RequestTicket, Verdict};
use meshcore_core::time::Nanos;
use proptest::prelude::*;
use proptest::test_runner::TestCaseError;
use serde_json::{Value, json};

use crate::mesh::{ANSWER, Config, Mesh, get, post};
use meshcore_core::head::BodyLength;

/// How an endpoint is dead.
#[derive(Clone, Copy, Debug)]
enum Death {
    Connect,
    Reset,
    Hang,
}

/// A request at an endpoint, and when something happens there.
struct Live {
    ticket: Box<RequestTicket>,
    endpoint: usize,
    at: Nanos,
    /// Where the attempt before it failed.
    before: Option<usize>,
}

/// Requests to endpoints some of which are dead; what happens first is done first.
struct World {
    mesh: Mesh,
    dead: Vec<bool>,
    death: Death,
    live: Vec<Live>,
    /// Endpoints that failures of last attempts named, in order.
    named: Vec<usize>,
}

impl World {
    fn new(config: &Config, dead: Vec<bool>, death: Death, seed: u64) -> Self {
        Self { mesh: Mesh::new(config, seed), dead, death, live: Vec::new(), named: Vec::new() }
    }

    /// Begins a request; `false` if the breaker refuses it.
    fn begin(&mut self) -> bool {
        let head = if self.mesh.below(2) == 0 { get() } else { post(BodyLength::Empty) };
        match self.mesh.begin(&head, true) {
            (ticket, Verdict::Forward(id)) => {
                let (endpoint, now) = (self.mesh.index(id), self.mesh.now);
                self.send(ticket, endpoint, now, None);
                true
            }
            (_, Verdict::Answer(answer)) => {
                assert_eq!(answer.reason, Reason::BreakerOpen);
                false
            }
            (_, other) => panic!("{other:?}"),
        }
    }

    /// The attempt begins at `at`, and something comes of it later.
    fn send(
        &mut self,
        mut ticket: Box<RequestTicket>,
        endpoint: usize,
        at: Nanos,
        before: Option<usize>,
    ) {
        let soon = at + Nanos::from_millis(self.mesh.below(900) as u64);
        if !matches!(self.death, Death::Connect) || !self.dead[endpoint] {
            ticket.sent(at);
        }
        let at = match self.death {
            Death::Hang if self.dead[endpoint] => ticket.next_due(),
            _ => soon,
        };
        self.live.push(Live { ticket, endpoint, at, before });
    }

    /// Does what is due first.
    fn step(&mut self) {
        let first = (0..self.live.len()).min_by_key(|&i| self.live[i].at).unwrap();
        let Live { mut ticket, endpoint, at, before } = self.live.swap_remove(first);
        self.mesh.now = self.mesh.now.max(at);
        if !self.dead[endpoint] {
            self.end_well(ticket);
            return;
        }
        let reason = match self.death {
            Death::Connect => Reason::UpstreamConnect,
            Death::Reset => Reason::UpstreamReset,
            Death::Hang => {
                let now = self.mesh.now;
                match ticket.due(Paused::default(), now) {
                    Due::Over(reason, _) => {
                        // A retry had less than the whole time: what came before it stands.
                        self.named.push(before.unwrap_or(endpoint));
                        self.mesh.answer(ticket, reason);
                        return;
                    }
                    Due::Attempt(reason) => reason,
                    Due::NotYet => panic!("something was due"),
                }
            }
        };
        match self.mesh.failed(&mut ticket, reason, &mut Cause::default()) {
            Next::Again { endpoint: id, at } => {
                let next = self.mesh.index(id);
                self.send(ticket, next, at, Some(endpoint));
            }
            Next::Fresh => panic!("nothing was stale"),
            Next::Answer(_) => {
                self.named.push(endpoint);
                self.mesh.answer(ticket, reason);
            }
        }
    }

    /// A living endpoint answers, or the client does not wait for it.
    fn end_well(&mut self, mut ticket: Box<RequestTicket>) {
        match self.mesh.below(4) {
            0 => self.mesh.cut(ticket, Reason::ClientGone),
            1 => {
                self.mesh.respond(&mut ticket, ANSWER);
                self.mesh.cut(ticket, Reason::ClientGone);
            }
            _ => {
                self.mesh.respond(&mut ticket, ANSWER);
                self.mesh.finish(ticket);
            }
        }
    }
}

fn deaths() -> impl Strategy<Value = Death> {
    prop_oneof![Just(Death::Connect), Just(Death::Reset), Just(Death::Hang)]
}

fn rules() -> impl Strategy<Value = Value> {
    let named = json!({"connect": true, "reset": true, "timeout": true});
    let on = prop_oneof![Just(Value::Null), Just(named)];
    (0u32..12, 0u8..=100, 1u32..30, on).prop_map(|(failures, percent, min_calls, on)| {
        json!({
            "failures": failures, "failure_percent": percent, "min_calls": min_calls, "on": on
        })
    })
}

fn balances() -> impl Strategy<Value = &'static str> {
    prop_oneof![Just("round_robin"), Just("least_request"), Just("random")]
}

fn ejections() -> impl Strategy<Value = Value> {
    let on = (1u32..8, 10u8..=100).prop_map(|(failures, percent)| {
        json!({"failures": failures, "max_percent": percent, "eject_for_ns": 3_000_000_000_u64})
    });
    prop_oneof![Just(Value::Null), on]
}

/// Retries and the time of each try: any number, any time, or none.
fn retries() -> impl Strategy<Value = Value> {
    (0u8..4, prop_oneof![Just(0_u64), 100_000_000..2_000_000_000_u64]).prop_map(
        |(retries, per_try)| {
            json!({"retries": retries, "per_try_ns": per_try, "connect": true, "reset": true})
        },
    )
}

fn config(n: usize, balance: &str, retry: Value, breaker: Value, ejection: Value) -> Config {
    Config::new(n)
        .route("retry", retry)
        .upstream("balance", json!(balance))
        .upstream("breaker", breaker)
        .upstream("ejection", ejection)
}

/// After so many failures, of which these endpoints are named, a row of `failures` opens.
fn row_opens(named: &[usize], failures: usize, n: usize) -> bool {
    let mut names = named.to_vec();
    names.sort_unstable();
    names.dedup();
    named.len() >= failures && names.len() >= failures.max(2).min(n)
}

fn is_open_after(world: &mut World, most: usize) -> Result<usize, TestCaseError> {
    loop {
        while world.live.len() < most && world.begin() {}
        world.step();
        if world.mesh.is_open() {
            return Ok(world.named.len());
        }
        prop_assert!(world.named.len() < 5_000, "it never opens");
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(96))]

    #[test]
    fn one_dead_endpoint_never_opens_it(
        n in 2usize..=70,
        which in 0usize..70,
        most in 1usize..120,
        (death, balance) in (deaths(), balances()),
        (retry, breaker, ejection) in (retries(), rules(), ejections()),
        seed: u64,
    ) {
        let config = config(n, balance, retry, breaker, ejection);
        let dead = (0..n).map(|i| i == which % n).collect();
        let mut world = World::new(&config, dead, death, seed);
        for _ in 0..600 {
            while world.live.len() < most {
                prop_assert!(world.begin(), "after {} failures", world.named.len());
            }
            world.step();
        }
        world.live.clear();
        prop_assert_eq!(world.mesh.held(), 0);
    }

    #[test]
    fn a_dead_service_opens_it_at_the_very_failure_that_tells(
        n in 1usize..=64,
        failures in 1usize..12,
        most in 1usize..120,
        (death, balance) in (deaths(), balances()),
        retry in retries(),
        seed: u64,
    ) {
        let breaker = json!({"failures": failures, "failure_percent": 0});
        let config = config(n, balance, retry, breaker, Value::Null);
        let mut world = World::new(&config, vec![true; n], death, seed);
        while world.live.len() < most && world.begin() {}
        while !world.mesh.is_open() {
            prop_assert!(!row_opens(&world.named, failures, n), "{:?}", world.named);
            while world.live.len() < most && world.begin() {}
            world.step();
        }
        prop_assert!(row_opens(&world.named, failures, n), "{:?}", world.named);
        prop_assert!(!world.begin());
    }

    /// In turn, one request after the other: no failure more than the rule asks for.
    #[test]
    fn in_turn_it_takes_no_more_failures_than_the_rule_names(
        n in 1usize..=64,
        failures in 1usize..12,
        death in deaths(),
        seed: u64,
    ) {
        let breaker = json!({"failures": failures, "failure_percent": 0});
        let config = config(n, "round_robin", json!({"retries": 0, "connect": true, "reset": true}),
                            breaker, Value::Null);
        let mut world = World::new(&config, vec![true; n], death, seed);
        let needed = is_open_after(&mut world, 1)?;
        prop_assert_eq!(needed, failures.max(failures.max(2).min(n)));
    }

    /// With any number in flight their order may hide an endpoint for so long, and no longer.
    #[test]
    fn in_turn_with_many_in_flight_the_bound_is_their_number(
        n in 1usize..=64,
        failures in 1usize..12,
        most in 1usize..120,
        death in deaths(),
        seed: u64,
    ) {
        let breaker = json!({"failures": failures, "failure_percent": 0});
        let config = config(n, "round_robin", json!({"retries": 0, "connect": true, "reset": true}),
                            breaker, Value::Null);
        let mut world = World::new(&config, vec![true; n], death, seed);
        let needed = is_open_after(&mut world, most)?;
        // At most `names - 1` endpoints had all of the failures: each was asked in its turn.
        let names = failures.max(2).min(n);
        let hidden = (1..).find(|&k| k > (names - 1) * (k + most).div_ceil(n)).unwrap();
        prop_assert!(needed <= hidden.max(failures), "{} of {}", needed, hidden);
    }

    #[test]
    fn by_the_rate_it_opens_with_the_calls_and_names_it_needs(
        n in 1usize..=64,
        min_calls in 1usize..30,
        seed: u64,
    ) {
        let breaker = json!({"failures": 0, "min_calls": min_calls});
        let config = config(n, "round_robin", json!({"retries": 0, "connect": true, "reset": true}),
                            breaker, Value::Null);
        let mut world = World::new(&config, vec![true; n], Death::Connect, seed);
        world.mesh.now = Nanos::from_secs(1_000);
        let mut calls = 0;
        while !world.mesh.is_open() {
            prop_assert!(world.begin());
            world.live[0].at = world.mesh.now; // all within the window
            world.step();
            calls += 1;
        }
        prop_assert_eq!(calls, min_calls.max(n.min(5)));
    }

    /// Ejection takes endpoints away from the sight of the breaker; a dead service is still found.
    #[test]
    fn a_dead_service_opens_it_with_ejection_too(
        n in 1usize..=70,
        failures in 1usize..12,
        most in 1usize..120,
        (death, balance) in (deaths(), balances()),
        (retry, ejection) in (retries(), ejections()),
        seed: u64,
    ) {
        let breaker = json!({"failures": failures, "failure_percent": 0});
        let config = config(n, balance, retry, breaker, ejection);
        let mut world = World::new(&config, vec![true; n], death, seed);
        is_open_after(&mut world, most)?;
    }
}
