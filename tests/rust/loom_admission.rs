//! Every interleaving of two threads on the words of admission, by loom's explorer.
//!
//! `make loom`. What is asserted is what the words promise whoever is first: a burst is never
//! exceeded, a cap of probes never passed, nothing given back is lost.
#![cfg(feature = "loom")]
#![allow(missing_docs, clippy::unwrap_used)]

use loom::sync::Arc;
use loom::thread;
use meshcore_core::admission::{
    Breaker, BreakerState, ClientLimiter, Endpoints, InFlight, Leases, Outcome, Quota, TokenBucket,
    Weight,
};
use meshcore_core::segment::Block;
use meshcore_core::snapshot;
use meshcore_core::time::Nanos;

#[path = "loom_two.rs"]
mod loom_two;

use loom_two::two;

const NOW: Nanos = Nanos(5_000_000_000_000);

fn quota(burst: u64) -> Quota {
    Quota::new(snapshot::Rate { tokens: 1, period_ns: 3_600_000_000_000, burst }).unwrap()
}

#[test]
fn a_bucket_of_one_lets_one_through() {
    loom::model(|| {
        let bucket = Arc::new(TokenBucket::new(Block::private(1), quota(1)));
        let passed = two(&bucket, |b| b.try_acquire(NOW, 1).is_ok());
        assert_eq!(passed.iter().filter(|&&p| p).count(), 1);
    });
}

#[test]
fn what_a_bucket_gets_back_is_there_again() {
    loom::model(|| {
        let bucket = Arc::new(TokenBucket::new(Block::private(1), quota(2)));
        two(&bucket, |b| {
            if b.try_acquire(NOW, 1).is_ok() {
                b.give_back(1);
            }
        });
        assert_eq!(bucket.peek(NOW).remaining, 2);
    });
}

#[test]
fn two_that_come_first_for_a_client_share_its_bucket() {
    loom::model(|| {
        let words = ClientLimiter::words(1);
        let limiter = Arc::new(ClientLimiter::new(Block::private(words), quota(1)));
        let passed = two(&limiter, |l| l.try_acquire(77, NOW, 1).is_ok());
        assert_eq!(passed.iter().filter(|&&p| p).count(), 1);
    });
}

#[test]
fn a_cap_is_not_passed_and_is_free_again() {
    loom::model(|| {
        let cap = Arc::new(InFlight::new(Block::private(InFlight::WORDS), 0, 1));
        two(&cap, |c| {
            if c.try_enter() {
                c.leave();
            }
        });
        assert_eq!(cap.current(), 0);
        assert!(cap.try_enter());
        assert!(!cap.try_enter());
    });
}

fn breaker(failures: u32) -> Breaker {
    let rules =
        snapshot::Breaker { failures, failure_percent: 0, successes: 1, ..Default::default() };
    Breaker::new(Block::private(Breaker::WORDS), rules)
}

/// Later than any opening of the rules above.
const LATER: Nanos = Nanos(NOW.0 + 60_000_000_000);

#[test]
fn an_open_breaker_gives_leave_to_one_probe() {
    loom::model(|| {
        let breaker = Arc::new(breaker(1));
        let permit = breaker.acquire(NOW).unwrap();
        breaker.settle(permit, Outcome::Failure, NOW, 0);
        let probes = two(&breaker, |b| b.acquire(LATER).ok());
        assert_eq!(probes.iter().flatten().count(), 1);
        // Whoever has it gives it back: the next may try, and closes it.
        let [Some(probe)] = probes.into_iter().flatten().map(Some).collect::<Vec<_>>()[..] else {
            unreachable!()
        };
        breaker.settle(probe, Outcome::Neutral, LATER, 0);
        let next = breaker.acquire(LATER).unwrap();
        breaker.settle(next, Outcome::Success, LATER, 0);
        assert_eq!(breaker.state(LATER), BreakerState::Closed);
    });
}

#[test]
fn failures_of_two_threads_are_both_counted() {
    loom::model(|| {
        let breaker = Arc::new(breaker(2));
        two(&breaker, |b| {
            if let Ok(permit) = b.acquire(NOW) {
                b.settle(permit, Outcome::Failure, NOW, 0);
            }
        });
        assert_eq!(breaker.state(NOW), BreakerState::Open);
    });
}

#[test]
fn failures_of_the_last_calls_are_seen_by_the_later() {
    loom::model(|| {
        let rules = snapshot::Breaker {
            failures: 0,
            failure_percent: 4,
            min_calls: 33,
            last_calls: 33,
            ..Default::default()
        };
        let breaker = Arc::new(Breaker::new(Block::private(Breaker::WORDS), rules));
        // The two failures have their places in different words.
        for _ in 0..31 {
            breaker.settle(breaker.acquire(NOW).unwrap(), Outcome::Success, NOW, 0);
        }
        two(&breaker, |b| {
            if let Ok(permit) = b.acquire(NOW) {
                b.settle(permit, Outcome::Failure, NOW, 0);
            }
        });
        assert_eq!(breaker.state(NOW), BreakerState::Open, "2 of 33, and neither alone");
    });
}

/// Fails once at the endpoint with bit `failed`, if the breaker lets it.
fn fail_at(breaker: &Breaker, failed: u64, choosable: u64, now: Nanos) {
    if let Ok(permit) = breaker.acquire(now) {
        let endpoints = Endpoints { failed, choosable };
        breaker.settle_named(permit, Weight::RowAndRate, endpoints, now, 0);
    }
}

fn succeed(breaker: &Breaker) {
    if let Ok(permit) = breaker.acquire(NOW) {
        breaker.settle(permit, Outcome::Success, NOW, 0);
    }
}

/// Bits of endpoints.
const A: u64 = 1;
const B: u64 = 2;
const C: u64 = 4;
const D: u64 = 8;
const E: u64 = 16;

#[test]
fn a_name_that_is_lost_only_delays() {
    loom::model(|| {
        let breaker = Arc::new(breaker(2));
        let other = Arc::clone(&breaker);
        let running = thread::spawn(move || fail_at(&other, B, A | B, NOW));
        fail_at(&breaker, A, A | B, NOW);
        running.join().unwrap();
        // Two at once may wipe one bit; each endpoint still fails, so each is named in the end.
        fail_at(&breaker, A, A | B, NOW);
        fail_at(&breaker, B, A | B, NOW);
        assert_eq!(breaker.state(NOW), BreakerState::Open);
    });
}

#[test]
fn names_of_a_row_that_ended_are_not_added_up() {
    loom::model(|| {
        let breaker = Arc::new(breaker(4));
        [B, C, D].into_iter().for_each(|failed| fail_at(&breaker, failed, A | B | C | D, NOW));
        succeed(&breaker);
        two(&breaker, |b| {
            fail_at(b, A, A | B | C | D, NOW);
            fail_at(b, A, A | B | C | D, NOW);
        });
        assert_eq!(breaker.state(NOW), BreakerState::Closed);
    });
}

#[test]
fn a_row_that_began_and_ended_meanwhile_is_another_row() {
    loom::model(|| {
        let breaker = Arc::new(breaker(4));
        let other = Arc::clone(&breaker);
        let running = thread::spawn(move || {
            fail_at(&other, B, A | B | C | D, NOW);
            fail_at(&other, C, A | B | C | D, NOW);
            succeed(&other);
        });
        fail_at(&breaker, A, A | B | C | D, NOW);
        running.join().unwrap();
        // B and C have answered since they failed; they are not named with D.
        (0..3).for_each(|_| fail_at(&breaker, D, B | C | D, NOW));
        assert_eq!(breaker.state(NOW), BreakerState::Closed);
    });
}

#[test]
fn names_of_an_older_slice_are_not_added_up() {
    loom::model(|| {
        let rules = snapshot::Breaker {
            failures: 0,
            failure_percent: 1,
            min_calls: 2,
            window_ns: 10_000_000_000,
            ..Default::default()
        };
        let breaker = Arc::new(Breaker::new(Block::private(Breaker::WORDS), rules));
        [B, C, D, E].into_iter().for_each(|failed| fail_at(&breaker, failed, !0, NOW));
        // The same slice of the ring, one window later.
        two(&breaker, |b| fail_at(b, A, !0, Nanos(NOW.0 + 10_000_000_000)));
        assert_eq!(breaker.state(NOW), BreakerState::Closed);
    });
}

#[test]
fn a_lease_for_one_is_held_by_one_at_a_time() {
    loom::model(|| {
        let leases = Arc::new(Leases::new(Block::private(Leases::WORDS), 0));
        let held = two(&leases, |l| l.enter_below(1, NOW));
        let mut held = held.into_iter().flatten();
        let one = held.next().unwrap();
        assert!(held.next().is_none());
        leases.leave(one);
        assert_eq!(leases.sum(NOW), 0);
    });
}
