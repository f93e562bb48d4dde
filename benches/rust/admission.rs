//! Admission beside the crates that people would otherwise take, in one binary.
//!
//! `cargo bench --bench admission [-- FILTER]`. Each figure is the CPU time that one thread spends
//! on one call (so other work on the machine does not count); `2t` is the same with two threads on
//! one object. Where it says `fixed`, time is passed in (governor: its fake clock, one atomic
//! load); where it says `clock`, both read CLOCK_MONOTONIC.
#![allow(missing_docs, clippy::unwrap_used)]

use std::hint::black_box;
use std::net::{IpAddr, Ipv4Addr};
use std::num::NonZeroU32;
use std::sync::Barrier;
use std::time::Duration;

use criterion::{Criterion, criterion_group, criterion_main};
use failsafe::{CircuitBreaker, Config, backoff, failure_policy};
use governor::clock::{FakeRelativeClock, MonotonicClock};
use governor::{Quota as Governed, RateLimiter};
use meshcore_core::admission::{
    Breaker, ClientLimiter, InFlight, Outcome, Quota, TokenBucket, bytes_key, client_key,
};
use meshcore_core::segment::{Block, BlockKind, Segment, SegmentConfig};
use meshcore_core::snapshot;
use meshcore_core::time::Nanos;
use rustix::time::{ClockId, clock_gettime};

const NOW: Nanos = Nanos(5_000_000_000_000);
const SEED: [u64; 2] = [0x1234_5678_9abc_def0, 0x0fed_cba9_8765_4321];

/// The CPU time that each thread spends on `iters` calls of its own closure, the slowest counting.
fn per_thread<F: FnMut() + Send>(iters: u64, ops: impl IntoIterator<Item = F>) -> Duration {
    let ops: Vec<F> = ops.into_iter().collect();
    let start = Barrier::new(ops.len());
    std::thread::scope(|scope| {
        let start = &start;
        let run = move |mut op: F| {
            start.wait();
            let begin = read(ClockId::ThreadCPUTime);
            for _ in 0..iters {
                op();
            }
            Duration::from_nanos(read(ClockId::ThreadCPUTime).since(begin).0)
        };
        let running: Vec<_> = ops.into_iter().map(|op| scope.spawn(move || run(op))).collect();
        running.into_iter().map(|thread| thread.join().unwrap()).max().unwrap_or_default()
    })
}

/// Measures `make(thread)`'s closure alone and with two threads.
fn both<F: FnMut() + Send>(c: &mut Criterion, name: &str, make: impl Fn(usize) -> F) {
    let mut group = c.benchmark_group(name);
    group.bench_function("1t", |b| b.iter_custom(|iters| per_thread(iters, [make(0)])));
    group.bench_function("2t", |b| b.iter_custom(|iters| per_thread(iters, [make(0), make(1)])));
    group.finish();
}

fn read(clock: ClockId) -> Nanos {
    let t = clock_gettime(clock);
    Nanos(t.tv_sec as u64 * 1_000_000_000 + t.tv_nsec as u64)
}

/// A quota that a benchmark cannot use up, or one token a day.
fn quota(generous: bool) -> Quota {
    let (tokens, period_ns, burst) =
        if generous { (1_000_000_000, 1_000_000_000, 1 << 32) } else { (1, 86_400_000_000_000, 1) };
    Quota::new(snapshot::Rate { tokens, period_ns, burst }).unwrap()
}

fn governed(generous: bool) -> Governed {
    let one = NonZeroU32::new(1).unwrap();
    if generous { Governed::per_second(NonZeroU32::MAX) } else { Governed::per_hour(one) }
}

fn buckets(c: &mut Criterion) {
    let admit = TokenBucket::new(Block::private(1), quota(true));
    both(c, "bucket/admit/fixed/meshcore", |_| {
        || {
            let _ = black_box(admit.try_acquire(black_box(NOW), 1));
        }
    });
    let other = RateLimiter::direct_with_clock(governed(true), FakeRelativeClock::default());
    both(c, "bucket/admit/fixed/governor", |_| || drop(black_box(other.check())));

    let admit = TokenBucket::new(Block::private(1), quota(true));
    both(c, "bucket/admit/clock/meshcore", |_| {
        || {
            let _ = black_box(admit.try_acquire(read(ClockId::Monotonic), 1));
        }
    });
    let other = RateLimiter::direct_with_clock(governed(true), MonotonicClock);
    both(c, "bucket/admit/clock/governor", |_| || drop(black_box(other.check())));

    let deny = TokenBucket::new(Block::private(1), quota(false));
    deny.try_acquire(NOW, 1).unwrap();
    both(c, "bucket/refuse/fixed/meshcore", |_| {
        || {
            let _ = black_box(deny.try_acquire(black_box(NOW), 1));
        }
    });
    let other = RateLimiter::direct_with_clock(governed(false), FakeRelativeClock::default());
    other.check().unwrap();
    both(c, "bucket/refuse/fixed/governor", |_| || drop(black_box(other.check())));
}

/// `n` addresses in an order that no prefetcher guesses.
fn addresses(n: u64) -> Vec<IpAddr> {
    let mut all: Vec<IpAddr> =
        (0..n as u32).map(|i| IpAddr::V4(Ipv4Addr::from(0x0a00_0000 + i))).collect();
    all.sort_unstable_by_key(|addr| client_key([7, 7], *addr));
    all
}

fn clients(c: &mut Criterion) {
    for n in [10_000, 1_000_000] {
        let addrs = addresses(n);
        let start = |thread: usize| thread * addrs.len() / 2;

        let limiter = ClientLimiter::new(Block::private(ClientLimiter::words(n)), quota(true));
        both(c, &format!("clients/{n}/fixed/meshcore"), |thread| {
            let mut keys = addrs.iter().cycle().skip(start(thread));
            let limiter = &limiter;
            move || {
                let key = client_key(SEED, *keys.next().unwrap());
                let _ = black_box(limiter.try_acquire(key, black_box(NOW), 1));
            }
        });
        // As a listener asks, which makes the key once for each connection.
        let made: Vec<_> = addrs.iter().map(|addr| client_key(SEED, *addr)).collect();
        both(c, &format!("clients/{n}/fixed, key at hand/meshcore"), |thread| {
            let mut keys = made.iter().cycle().skip(start(thread));
            let limiter = &limiter;
            move || {
                let _ = black_box(limiter.try_acquire(*keys.next().unwrap(), black_box(NOW), 1));
            }
        });
        let other = RateLimiter::dashmap_with_clock(governed(true), FakeRelativeClock::default());
        both(c, &format!("clients/{n}/fixed/governor"), |thread| {
            let mut keys = addrs.iter().cycle().skip(start(thread));
            let other = &other;
            move || drop(black_box(other.check_key(keys.next().unwrap())))
        });
    }
    c.bench_function("clients/key/ipv4", |b| {
        let addr: IpAddr = "192.0.2.1".parse().unwrap();
        b.iter(|| client_key(black_box(SEED), black_box(addr)));
    });
    c.bench_function("clients/key/36 bytes", |b| {
        b.iter(|| bytes_key(black_box(SEED), black_box(b"0198c0de-7f3a-7000-8000-0123456789ab")));
    });
}

fn breakers(c: &mut Criterion) {
    let rules = snapshot::Breaker::default;
    let make = |rules| Breaker::new(Block::private(Breaker::WORDS), rules);
    let run = |breaker: Breaker, outcome: Outcome| {
        let mut now = NOW;
        move || {
            // 10 us between requests: every slice of the window is entered.
            now = now + Nanos(10_000);
            if let Ok(permit) = breaker.acquire(black_box(now)) {
                breaker.settle(permit, outcome, black_box(now), 0);
            }
        }
    };
    let shared = make(rules());
    both(c, "breaker/success/window/meshcore", |thread| {
        run(shared.clone().on_worker(thread), Outcome::Success)
    });
    both(c, "breaker/success/window, one stripe/meshcore", |_| {
        run(shared.clone(), Outcome::Success)
    });
    let plain = make(snapshot::Breaker { failure_percent: 0, ..rules() });
    both(c, "breaker/success/no window/meshcore", |_| run(plain.clone(), Outcome::Success));
    let never = make(snapshot::Breaker { failures: 0, min_calls: u32::MAX, ..rules() });
    both(c, "breaker/failure/window/meshcore", |_| run(never.clone(), Outcome::Failure));
    let open = make(rules());
    open.force_open(Nanos::MAX);
    both(c, "breaker/refuse/meshcore", |_| run(open.clone(), Outcome::Success));

    let back_off = || backoff::constant(Duration::from_secs(30));
    let policy =
        failure_policy::success_rate_over_time_window(0.5, 20, Duration::from_secs(10), back_off());
    let other = Config::new().failure_policy(policy).build();
    both(c, "breaker/success/window/failsafe", |_| {
        || drop(black_box(other.call(|| Ok::<_, ()>(()))))
    });
    let policy = failure_policy::consecutive_failures(5, back_off());
    let other = Config::new().failure_policy(policy).build();
    both(c, "breaker/success/no window/failsafe", |_| {
        || drop(black_box(other.call(|| Ok::<_, ()>(()))))
    });
}

fn caps(c: &mut Criterion) {
    for workers in [1, 4] {
        let config = SegmentConfig { max_bytes: 1 << 20, worker_slots: workers };
        let segment = Segment::anonymous(config).unwrap();
        let block = segment.block(BlockKind::Upstream, "cap", InFlight::WORDS).unwrap();
        both(c, &format!("in flight/{workers} workers"), |thread| {
            let cap = InFlight::new(block.clone(), thread % workers, 1_000);
            move || {
                if black_box(cap.try_enter()) {
                    cap.leave();
                }
            }
        });
    }
}

criterion_group! {
    name = benches;
    config = Criterion::default()
        .warm_up_time(Duration::from_millis(500))
        .measurement_time(Duration::from_secs(2));
    targets = buckets, clients, breakers, caps
}
criterion_main!(benches);
