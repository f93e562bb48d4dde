"""What one call costs from Python, beside `limits` and `pybreaker`.

Nanoseconds of CPU time of the thread, a loop's own turn included. All take their turns in each of
the rounds, so that what else the machine does falls on all; the median counts. The peers keep
their state in memory and use the cheapest strategy that they have.
"""

from __future__ import annotations

import itertools
import statistics
import time
from collections.abc import Callable
from pathlib import Path

import limits
import pybreaker

import meshcore
from meshcore._core import CodecLimits, Engine, Request, ServerCodec

ROUNDS = 21
CALLS = 5_000
BEGIN = Path(__file__).parents[1] / "begin.json"
REQUEST = b"GET /v1/orders HTTP/1.1\r\nHost: api.example\r\n\r\n"
PLENTY = 1_000_000_000

Timed = Callable[[int], None]


def nothing() -> None:
    """What is guarded."""


def begin() -> Timed:
    """The fused stack, as the proxy calls it; `benches/rust/exchange.rs` is the same in Rust."""
    engine = Engine(seed=1)
    engine.apply(BEGIN.read_bytes())
    call, peer = engine.listener("edge").begin, engine.peer("10.0.0.1")
    request = ServerCodec(CodecLimits(), False).receive(REQUEST)
    assert isinstance(request, Request)
    now_ns = 5_000_000_000_000
    assert call(request, peer, now_ns).verdict == 0

    def run(calls: int) -> None:
        for now in range(now_ns, now_ns + calls):
            call(request, peer, now)

    return run


def limiters() -> dict[str, Timed]:
    """A bucket and a limiter of clients; `limits` has one call for both."""
    bucket = meshcore.TokenBucket(f"{PLENTY}/s", burst=1 << 32).try_acquire
    clients = meshcore.ClientLimiter(f"{PLENTY}/s", burst=1 << 32, clients=10_000).try_acquire
    item = limits.parse(f"{PLENTY}/second")
    hit = limits.strategies.FixedWindowRateLimiter(limits.storage.MemoryStorage()).hit

    def run_bucket(calls: int) -> None:
        for _ in itertools.repeat(None, calls):
            bucket()

    def run_clients(calls: int) -> None:
        for _ in itertools.repeat(None, calls):
            clients("10.0.0.1")

    def run_limits(calls: int) -> None:
        for _ in itertools.repeat(None, calls):
            hit(item, "10.0.0.1")

    return {"python/bucket": run_bucket, "python/clients": run_clients, "python/limits": run_limits}


def router() -> Timed:
    """One of 1,000 exact paths of a host, as `benches/rust/routing.rs` asks."""
    routes = meshcore.RouteMap[int]()
    path = "/api/v1/service-12/items-{}".format
    host = "shop.example.com"
    routes.insert_all([(str(i), i, {"host": host, "path": path(i)}) for i in range(1_000)])
    asked = [path(i * 7 % 1_000) for i in range(1_000)]
    find = routes.lookup
    found = find(host, asked[1])
    assert found is not None
    assert found.value == 7

    def run(calls: int) -> None:
        for path in itertools.islice(itertools.cycle(asked), calls):
            find(host, path)

    return run


def breakers() -> dict[str, Timed]:
    """A closed breaker around an empty function and an empty block."""
    ours, theirs = meshcore.CircuitBreaker(), pybreaker.CircuitBreaker()

    def by_call(call: Callable[[Callable[[], None]], object]) -> Timed:
        def run(calls: int) -> None:
            for _ in itertools.repeat(None, calls):
                call(nothing)

        return run

    def run_ours(calls: int) -> None:
        for _ in itertools.repeat(None, calls):
            with ours:
                pass

    def run_theirs(calls: int) -> None:
        for _ in itertools.repeat(None, calls):
            with theirs.calling():
                pass

    return {
        "python/breaker/call": by_call(ours.call),
        "python/pybreaker/call": by_call(theirs.call),
        "python/breaker/with": run_ours,
        "python/pybreaker/with": run_theirs,
    }


def times() -> dict[str, float]:
    """Nanoseconds of each call."""
    timed = {"python/begin": begin(), "python/router": router(), **limiters(), **breakers()}
    rounds: dict[str, list[float]] = {name: [] for name in timed}
    for _ in range(ROUNDS):
        for name, run in timed.items():
            start = time.thread_time_ns()
            run(CALLS)
            rounds[name].append((time.thread_time_ns() - start) / CALLS)
    return {name: statistics.median(found) for name, found in rounds.items()}


if __name__ == "__main__":
    for name, ns in times().items():
        print(f"{name:24} {ns:8.1f} ns")
