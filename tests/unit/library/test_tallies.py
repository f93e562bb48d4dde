"""What became of a limiter's calls: each is counted once, and once for all who share it."""

from __future__ import annotations

import asyncio
import multiprocessing
import os
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from typing import Any

import pytest

import meshcore
from meshcore import SharedState
from meshcore.library.shared_rules import breaker_text
from meshcore.testing import Clock

# What CPython says from 3.12 on of a fork beside threads is what is tried here.
pytestmark = pytest.mark.filterwarnings("ignore:.*multi-threaded.*fork:DeprecationWarning")

SLOW = "1/h"
BURST = 3


@pytest.fixture
def name() -> Iterator[str]:
    name = f"test-{os.getpid()}-tallies"
    yield name
    SharedState.unlink(name)


class Limiter:
    """A bucket, or the table of clients, behind the same calls."""

    def __init__(self, kind: str) -> None:
        home: Any = SharedState() if "shared" in kind else None
        if "clients" in kind:
            make: Any = home.client_limiter if home else meshcore.ClientLimiter
            self.of: tuple[Any, ...] = ("tenant",)
        else:
            make = home.token_bucket if home else meshcore.TokenBucket
            self.of = ()
        self.made: Any = make("x", SLOW, BURST) if home else make(SLOW, BURST)

    def block(self, **more: Any) -> None:
        with self.made.waiting(*self.of, **more):
            pass

    async def block_async(self) -> None:
        async with self.made.waiting(*self.of) if self.of else self.made:
            pass

    def totals(self) -> tuple[int, int]:
        seen = self.made.snapshot()
        return seen.total_admitted, seen.total_refused


@pytest.fixture(params=["bucket", "clients", "shared bucket", "shared clients"])
def limiter(request: pytest.FixtureRequest) -> Limiter:
    return Limiter(request.param)


def call() -> None:
    """What is limited, or waits."""


async def call_async() -> None:
    """The same."""


def decorated(limiter: Limiter) -> Callable[[], object]:
    return limiter.made.limiting(*limiter.of)(call)  # type: ignore[no-any-return]


def decorated_by(limiter: Limiter) -> Callable[[], object]:
    if not limiter.of:
        return limiter.made(call)  # type: ignore[no-any-return]
    return limiter.made.limiting(lambda: limiter.of[0])(call)  # type: ignore[no-any-return]


def decorated_async(limiter: Limiter) -> Callable[[], object]:
    limited = limiter.made.limiting(*limiter.of)(call_async)
    return lambda: asyncio.run(limited())


def paced(limiter: Limiter) -> Callable[[], object]:
    return limiter.made.waiting(*limiter.of, timeout=0)(call)  # type: ignore[no-any-return]


def paced_async(limiter: Limiter) -> Callable[[], object]:
    waits = limiter.made.waiting(*limiter.of, timeout="5ms")(call_async)
    return lambda: asyncio.run(waits())


WAYS: dict[str, Callable[[Limiter], Callable[[], object]]] = {
    "acquire": lambda each: lambda: each.made.acquire(*each.of),
    "try_acquire": lambda each: lambda: each.made.try_acquire(*each.of),
    "limiting": decorated,
    "limiting by": decorated_by,
    "limiting async": decorated_async,
    "wait": lambda each: lambda: asyncio.run(each.made.wait(*each.of, timeout="5ms")),
    "wait_blocking": lambda each: lambda: each.made.wait_blocking(*each.of, timeout="5ms"),
    "waiting": paced,
    "waiting async": paced_async,
    "block": lambda each: lambda: each.block(timeout="5ms"),
}


@pytest.mark.parametrize("way", WAYS)
def test_each_call_is_counted_once_however_it_is_made(way: str, limiter: Limiter) -> None:
    call = WAYS[way](limiter)
    for _ in range(BURST):
        call()
    assert limiter.totals() == (BURST, 0)
    for _ in range(2):
        try:
            assert call() is False
        except meshcore.RateLimited:
            continue
    assert limiter.totals() == (BURST, 2)


async def test_an_async_block_is_one_call(limiter: Limiter) -> None:
    await limiter.block_async()
    assert limiter.totals() == (1, 0)


@pytest.mark.parametrize("way", ["acquire", "limiting", "limiting by"])
def test_what_comes_back_in_time_is_admitted_once(way: str) -> None:
    limiter = Limiter("bucket")
    call = WAYS[way](limiter)
    limiter.made.acquire(BURST)
    with pytest.raises(meshcore.RateLimited):
        call()
    limiter.made.give_back(1)
    call()
    assert limiter.totals() == (2, 1)


def test_what_asks_for_nothing_is_not_counted(limiter: Limiter) -> None:
    limiter.made.peek(*limiter.of)
    limiter.made.snapshot()
    limiter.made.reset(*limiter.of)
    for wrong in (BURST + 1, -1, True):
        with pytest.raises(ValueError, match=r"n|burst"):
            limiter.made.acquire(*limiter.of, wrong)
        with pytest.raises(ValueError, match=r"n|burst"):
            limiter.made.wait_blocking(*limiter.of, wrong)
    assert limiter.totals() == (0, 0)


async def test_who_waits_is_counted_when_that_is_over(limiter: Limiter) -> None:
    limiter.made.acquire(*limiter.of, BURST)
    waiting = asyncio.create_task(limiter.made.wait(*limiter.of))
    served = asyncio.create_task(limiter.made.wait(*limiter.of))
    await asyncio.sleep(0)
    assert limiter.totals() == (1, 0)
    waiting.cancel()
    await asyncio.wait([waiting])
    limiter.made.reset(*limiter.of)
    await served
    assert limiter.totals() == (2, 0)


@pytest.mark.parametrize("is_over", [True, False])
async def test_a_deadline_that_passes_is_one_refusal(is_over: bool, limiter: Limiter) -> None:
    limiter.made.acquire(*limiter.of, BURST)
    with meshcore.Deadline("0s" if is_over else "5ms"), pytest.raises(meshcore.DeadlinePassed):
        await limiter.made.wait(*limiter.of)
    assert limiter.totals() == (1, 1)


def test_a_snapshot_tells_the_rules_and_what_is_left() -> None:
    bucket = meshcore.TokenBucket("2/s", 5, name="api", clock=Clock())
    bucket.acquire(4)
    assert not bucket.try_acquire(2)
    assert bucket.snapshot() == ("api", "2/s", 5, 1, 2.0, 1, 1)
    clock = Clock()
    clients = meshcore.ClientLimiter("2/s", 5, clients=100, name="users", clock=clock)
    for client in ("a", "b", "b"):
        clients.acquire(client)
    assert clients.snapshot() == ("users", "2/s", 5, 128, 2, 3, 0)
    clock.advance("600ms")
    assert clients.snapshot().busy_clients == 1


# --- shared ---------------------------------------------------------------------------------------


def take(state: SharedState, calls: int) -> None:
    limiters = state.token_bucket("x", SLOW, 1), state.client_limiter("x", SLOW, 1, clients=100)
    for _ in range(calls):
        limiters[0].try_acquire()
        limiters[1].try_acquire("tenant")


def take_and_keep(state: SharedState, calls: int) -> None:
    """What is still there at the end is told at the end."""
    take(state, 1)
    limiters = state.token_bucket("x", SLOW, 1), state.client_limiter("x", SLOW, 1, clients=100)
    multiprocessing.current_process().__dict__["kept"] = limiters
    for _ in range(calls - 1):
        limiters[0].try_acquire()
        limiters[1].try_acquire("tenant")


def all_calls(state: SharedState) -> list[int]:
    bucket = state.token_bucket("x", SLOW, 1).snapshot()
    clients = state.client_limiter("x", SLOW, 1, clients=100).snapshot()
    assert bucket.total_admitted == clients.total_admitted == 1
    return [each.total_admitted + each.total_refused for each in (bucket, clients)]


@pytest.mark.parametrize("work", [take, take_and_keep])
@pytest.mark.parametrize("method", ["spawn", "fork", "forkserver"])
def test_totals_are_those_of_all_processes(method: Any, work: Callable[..., None]) -> None:
    state = SharedState()
    take(state, 10)
    context = multiprocessing.get_context(method)
    children = [context.Process(target=work, args=(state, 100)) for _ in range(2)]
    for child in children:
        child.start()
    for child in children:
        child.join(60)
        assert child.exitcode == 0
    assert all_calls(state) == [210, 210]


PROGRAM = """
import os, sys
import meshcore

bucket = meshcore.SharedState(sys.argv[1]).token_bucket("x", "1/h", 1)
for _ in range(10):
    bucket.try_acquire()
if os.fork() == 0:
    for _ in range(7):
        bucket.try_acquire()
    sys.exit()
os.wait()
bucket.__dict__["itself"] = bucket  # which no count of references ends
"""


def test_a_program_tells_at_its_end_and_its_child_what_is_the_childs(name: str) -> None:
    subprocess.run([sys.executable, "-c", PROGRAM, name], check=True, timeout=60)
    seen = SharedState(name).token_bucket("x", SLOW, 1).snapshot()
    assert (seen.total_admitted, seen.total_refused) == (1, 16)


def test_a_process_that_is_killed_takes_no_64_calls_with_it() -> None:
    state, calls = SharedState(), 1_000
    other = state.token_bucket("x", SLOW, 1)
    if (child := os.fork()) == 0:
        try:
            take(state, calls)
            bucket = state.token_bucket("x", SLOW, 1)
            for _ in range(calls):
                bucket.try_acquire()
        finally:
            os.kill(os.getpid(), signal.SIGKILL)
    os.waitpid(child, 0)
    seen = other.snapshot()
    assert seen.total_admitted == 1
    assert 2 * calls - 64 < seen.total_admitted + seen.total_refused <= 2 * calls


def test_few_calls_are_told_while_they_are_made() -> None:
    state, clock = SharedState(), Clock()
    bucket = state.token_bucket("x", SLOW, 1, clock=clock)
    other = state.token_bucket("x", SLOW, 1, clock=clock)
    for calls in range(1, 5):
        bucket.try_acquire()
        assert other.snapshot().total_refused == calls - 1
        clock.advance("100ms")


def test_totals_begin_anew_with_the_part(name: str) -> None:
    state = SharedState(name)
    old = state.token_bucket("x", SLOW, 1)
    old.acquire()
    state.remove("x")
    assert state.token_bucket("x", SLOW, 1).snapshot().total_admitted == 0
    assert old.snapshot().total_admitted == 1


def test_the_longest_rules_leave_the_totals_alone() -> None:
    # No number of a rule has more than 20 digits, nor its unit more than two letters.
    rules = breaker_text(meshcore.CircuitBreaker(slow_call="1ns")._rules_text).split(", ")
    longest = ", ".join(f"{rule.split()[0]} {2**64 - 1}ns" for rule in rules)
    assert len(longest) <= 61 * 8
