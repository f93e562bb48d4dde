//! Every interleaving of two threads on the words of admission, by loom's explorer.
//!
//! `make loom`. What is asserted is what the words promise whoever is first: a burst is never
//! exceeded, a cap of probes never passed, nothing given back is lost.
#![cfg(loom)]
#![allow(missing_docs, clippy::unwrap_used)]

use loom::sync::Arc;
use meshcore_core::admission::{
    Breaker, ClientLimiter, InFlight, Outcome, Quota, State, TokenBucket,
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
        let limiter = Arc::new(ClientLimiter::new(Block::private(words), quota(1), [1, 2]));
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
        let permit = breaker.acquire(NOW, 0).unwrap();
        breaker.settle(permit, Outcome::Failure, NOW, 0);
        let probes = two(&breaker, |b| b.acquire(LATER, 0).ok());
        assert_eq!(probes.iter().flatten().count(), 1);
        // Whoever has it gives it back: the next may try, and closes it.
        let [Some(probe)] = probes.into_iter().flatten().map(Some).collect::<Vec<_>>()[..] else {
            unreachable!()
        };
        breaker.settle(probe, Outcome::Neutral, LATER, 0);
        let next = breaker.acquire(LATER, 0).unwrap();
        breaker.settle(next, Outcome::Success, LATER, 0);
        assert_eq!(breaker.state(LATER), State::Closed);
    });
}

#[test]
fn failures_of_two_threads_are_both_counted() {
    loom::model(|| {
        let breaker = Arc::new(breaker(2));
        two(&breaker, |b| {
            if let Ok(permit) = b.acquire(NOW, 0) {
                b.settle(permit, Outcome::Failure, NOW, 0);
            }
        });
        assert_eq!(breaker.state(NOW), State::Open);
    });
}
