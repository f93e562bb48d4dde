"""Waiters come in turn, whatever they wait in, and whoever leaves takes nothing along."""

from __future__ import annotations

import asyncio
import gc
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from datetime import timedelta
from typing import Any

import pytest
import uvloop
from hypothesis import given
from hypothesis import strategies as st

import meshcore
from meshcore.library.waiting import Line

# A rate at which nothing comes back while a test runs.
SLOW = "1/h"
KINDS = ["bucket", "clients", "shared_bucket", "shared_clients"]


class Clock:
    """Time that stands still until it is moved."""

    def __init__(self) -> None:
        self.ns = 1_000_000_000_000

    def __call__(self) -> int:
        return self.ns


class Limiter:
    """A bucket, or the bucket of one client, behind the same calls."""

    def __init__(self, kind: str, rate: str, burst: int, clock: Clock | None = None) -> None:
        home: Any = meshcore.SharedState() if "shared" in kind else None
        if "clients" in kind:
            made = (
                home.client_limiter("x", rate, burst, clock=clock)
                if home
                else meshcore.ClientLimiter(rate, burst, clock=clock)
            )
            self._of: tuple[Any, ...] = ("192.0.2.1",)
        else:
            made = (
                home.token_bucket("x", rate, burst, clock=clock)
                if home
                else meshcore.TokenBucket(rate, burst, clock=clock)
            )
            self._of = ()
        self.made: Any = made

    async def wait(self, n: int = 1, limit: Any = None) -> None:
        await self.made.wait(*self._of, n, timeout=limit)

    def block(self, n: int = 1, timeout: Any = None) -> None:
        self.made.wait_blocking(*self._of, n, timeout=timeout)

    def take(self, n: int) -> bool:
        return bool(self.made.try_acquire(*self._of, n))

    def acquire(self, n: int) -> None:
        self.made.acquire(*self._of, n)

    @property
    def remaining(self) -> int:
        left = self.made.remaining
        return int(left(*self._of) if self._of else left)

    @property
    def line(self) -> Line | None:
        if not self._of:
            line: Line | None = self.made.__dict__.get("_line")
            return line
        return next(iter(self.made._lines._lines.values()), None)


@pytest.fixture(params=KINDS)
def make(request: pytest.FixtureRequest) -> Callable[..., Limiter]:
    return lambda *args: Limiter(request.param, *args)


async def joined(limiter: Limiter, count: int) -> None:
    """Until so many wait."""
    async with asyncio.timeout(20):
        while limiter.line is None or len(limiter.line) < count:  # noqa: ASYNC110
            await asyncio.sleep(0)


def in_line(limiter: Limiter, count: int) -> None:
    until = time.monotonic() + 20
    while limiter.line is None or len(limiter.line) < count:
        assert time.monotonic() < until
        time.sleep(0.001)


Make = Callable[..., Limiter]


async def test_tasks_are_served_as_they_came(make: Make) -> None:
    limiter, served = make("5000/s", 8), list[int]()
    assert limiter.take(8)

    async def come(number: int, n: int) -> None:
        await limiter.wait(n)
        served.append(number)

    await asyncio.gather(*(come(number, 1 + number * 5 % 8) for number in range(200)))
    assert served == list(range(200))
    assert not limiter.line


def test_threads_are_all_served(make: Make) -> None:
    limiter, served = make("500/s", 4), list[int]()
    assert limiter.take(4)

    def come(number: int) -> None:
        limiter.block(1 + number % 4, timeout="20s")
        served.append(number)

    threads = []
    for number in range(12):
        threads.append(threading.Thread(target=come, args=(number,)))
        threads[-1].start()
    for thread in threads:
        thread.join(20)
    assert sorted(served) == list(range(12))


def test_a_thread_behind_a_thread_waits_for_it(make: Make) -> None:
    clock = Clock()
    limiter, served = make("10/s", 10, clock), list[str]()
    assert limiter.take(10)

    def come(name: str, n: int) -> None:
        limiter.block(n)
        served.append(name)

    threads = []
    for count, (name, n) in enumerate([("many", 9), ("few", 1), ("one", 1)], 1):
        threads.append(threading.Thread(target=come, args=(name, n)))
        threads[-1].start()
        in_line(limiter, count)
    clock.ns += 500_000_000
    time.sleep(0.05)
    assert served == [], "five tokens are there, and the first wants nine"
    clock.ns += 500_000_000
    threads[0].join(20)
    threads[1].join(20)
    assert served == ["many", "few"] or served == ["few", "many"]
    assert threads[2].is_alive()
    clock.ns += 100_000_000
    threads[2].join(20)
    assert served[-1] == "one"


async def test_few_tokens_do_not_pass_many(make: Make) -> None:
    clock = Clock()
    limiter, served = make("10/s", 100, clock), list[str]()
    assert limiter.take(100)

    async def come(name: str, n: int) -> None:
        await limiter.wait(n)
        served.append(name)

    many = asyncio.create_task(come("many", 100))
    await joined(limiter, 1)
    few = [asyncio.create_task(come("few", 1)) for _ in range(3)]
    await joined(limiter, 4)
    clock.ns += 9_900_000_000
    await asyncio.sleep(0.03)
    assert served == []
    clock.ns += 100_000_000
    await many
    assert served == ["many"]
    clock.ns += 300_000_000
    await asyncio.gather(*few)
    assert limiter.remaining == 0


async def test_more_than_the_burst_is_a_mistake(make: Make) -> None:
    limiter = make("10/s", 3)
    text = "4 tokens are more than the bucket holds: its burst is 3"
    for call in (limiter.block, limiter.acquire):
        with pytest.raises(ValueError, match=text):
            call(4)
    with pytest.raises(ValueError, match=text):
        await limiter.wait(4)
    with pytest.raises(ValueError, match=r"n: must be a whole number within 0 and 3, got -1"):
        await limiter.wait(-1)
    with pytest.raises(ValueError, match=r"n: must be a whole number within 0 and 3, got -1"):
        limiter.block(-1)
    with pytest.raises(ValueError, match=r"n: must be a whole number within 0 and 3, got 1.5"):
        limiter.block(1.5)  # type: ignore[arg-type]
    with pytest.raises(ValueError, match=r"n: must be a whole number within 0 and 3, got 1.5"):
        await limiter.wait(1.5)  # type: ignore[arg-type]
    assert limiter.remaining == 3


@pytest.mark.parametrize("limit", [0.02, "20ms", timedelta(milliseconds=20)])
async def test_a_timeout_says_when_to_come_back(make: Make, limit: object) -> None:
    limiter = make(SLOW, 2)
    assert limiter.take(2)
    begin = time.monotonic()
    with pytest.raises(meshcore.RateLimited, match="waited in vain") as caught:
        await limiter.wait(1, limit)
    assert 0.02 <= time.monotonic() - begin < 5
    assert 3500 < caught.value.retry_after < 3601
    begin = time.monotonic()
    with pytest.raises(meshcore.RateLimited, match="waited in vain"):
        limiter.block(1, limit)
    assert 0.02 <= time.monotonic() - begin < 5
    assert not limiter.line


async def test_no_time_is_one_try(make: Make) -> None:
    limiter = make(SLOW, 2)
    await limiter.wait(1, 0)
    limiter.block(1, 0)
    with pytest.raises(meshcore.RateLimited):
        await limiter.wait(1, 0)
    with pytest.raises(meshcore.RateLimited):
        limiter.block(1, "0")


async def test_who_waits_in_vain_holds_up_nobody(make: Make) -> None:
    clock = Clock()
    limiter = make("10/s", 10, clock)
    assert limiter.take(10)
    many = asyncio.create_task(limiter.wait(10, 0.05))
    await joined(limiter, 1)
    few = asyncio.create_task(limiter.wait(1))
    await joined(limiter, 2)
    clock.ns += 100_000_000
    with pytest.raises(meshcore.RateLimited):
        await many
    await asyncio.wait_for(few, 5)
    assert limiter.remaining == 0


async def test_who_is_cancelled_takes_nothing(make: Make) -> None:
    clock = Clock()
    limiter = make("10/s", 10, clock)
    assert limiter.take(10)
    tasks = [asyncio.create_task(limiter.wait(n)) for n in (10, 3, 3, 3)]
    await joined(limiter, 4)
    tasks[0].cancel()
    tasks[2].cancel()
    await asyncio.wait(tasks[:1])
    clock.ns += 600_000_000
    await asyncio.wait_for(asyncio.gather(tasks[1], tasks[3]), 5)
    assert limiter.remaining == 0
    assert not limiter.line


async def test_who_is_served_and_cancelled_at_once_gives_back(make: Make) -> None:
    clock = Clock()
    limiter = make("10/s", 10, clock)
    assert limiter.take(10)
    first, second = (asyncio.create_task(limiter.wait(5)) for _ in range(2))
    await joined(limiter, 2)
    clock.ns += 500_000_000
    line = limiter.line
    assert line is not None
    line.recheck()  # the first has its tokens and has not run
    assert len(line) == 1
    first.cancel()
    with pytest.raises(asyncio.CancelledError):
        await first
    await asyncio.wait_for(second, 5)
    assert limiter.remaining == 0


async def test_what_is_given_back_is_for_who_waits() -> None:
    bucket = meshcore.TokenBucket(SLOW, 1)
    bucket.acquire()
    task = asyncio.create_task(bucket.wait())
    thread = threading.Thread(target=bucket.wait_blocking)
    await asyncio.sleep(0)
    thread.start()
    await asyncio.to_thread(in_line, Wrapped(bucket), 2)
    bucket.give_back()
    await asyncio.wait_for(task, 5)
    bucket.give_back()
    await asyncio.to_thread(thread.join, 5)
    assert not thread.is_alive()
    assert bucket.remaining == 0


class Wrapped(Limiter):
    """A bucket that is there already."""

    def __init__(self, bucket: meshcore.TokenBucket) -> None:
        self.made, self._of = bucket, ()


def test_loops_and_threads_wait_in_one_line(make: Make) -> None:
    limiter = make("2000/s", 20)
    assert limiter.take(20)
    done: list[float] = []
    begin = time.monotonic()

    def run_loop() -> None:
        async def one() -> None:
            await limiter.wait()
            done.append(time.monotonic())

        async def main() -> None:
            await asyncio.gather(*(one() for _ in range(100)))

        asyncio.run(main())

    def run_thread() -> None:
        for _ in range(25):
            limiter.block()
            done.append(time.monotonic())

    threads = [threading.Thread(target=run) for run in [run_loop] * 3 + [run_thread] * 4]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(30)
    assert len(done) == 400
    # What was read later than the tokens were taken is later by that.
    for count, at in enumerate(sorted(done), 1):
        assert count <= 2000 * (at - begin) + 20 + 1
    assert not limiter.line


async def test_a_loop_that_stands_still_holds_up_no_thread(make: Make) -> None:
    limiter = make("200/s", 1)
    assert limiter.take(1)
    task = asyncio.create_task(limiter.wait())
    await joined(limiter, 1)
    thread = threading.Thread(target=limiter.block)
    thread.start()
    thread.join(20)  # the loop does not run meanwhile
    assert not thread.is_alive()
    await asyncio.wait_for(task, 5)


def test_a_loop_that_was_closed_holds_up_nobody(make: Make) -> None:
    limiter = make("20/s", 2_000)
    assert limiter.take(2_000)
    loop = asyncio.new_event_loop()
    task = loop.create_task(limiter.wait(2_000))
    loop.run_until_complete(joined(limiter, 1))
    loop.close()
    limiter.block(timeout=10)

    async def main() -> None:
        await limiter.wait(1, 10)

    asyncio.run(main())
    assert limiter.line is None or len(limiter.line) == 0
    task._log_destroy_pending = False  # type: ignore[attr-defined]


def test_who_is_collected_as_garbage_holds_up_nobody(make: Make) -> None:
    limiter = make("100/s", 1)
    assert limiter.take(1)

    async def abandon() -> None:
        waiting = limiter.wait()
        # As far as it goes without a loop that goes on: then nobody has it.
        waiting.send(None)
        circle: list[Any] = [waiting]
        circle.append(circle)

    asyncio.run(abandon())
    gc.collect()
    assert not limiter.line
    limiter.block(timeout=10)


PROGRAM = """
import asyncio, os, sys, threading, meshcore

bucket, clients = meshcore.TokenBucket("200/s", 1), meshcore.ClientLimiter("200/s", 1)
bucket.acquire(), clients.acquire("x")

async def main():
    ours = [asyncio.create_task(w) for w in (bucket.wait(), clients.wait("x"))]
    await asyncio.sleep(0)
    held = threading.Event(), threading.Event()
    def hold():  # as another thread may, at the moment of a fork
        with bucket._line._lock, clients._lines._lock:
            held[0].set(); held[1].wait()
    thread = threading.Thread(target=hold); thread.start(); held[0].wait()
    pid = os.fork()
    if pid == 0:
        bucket.give_back(0)
        bucket.wait_blocking(timeout=10), clients.wait_blocking("x", timeout=10)
        os._exit(0)
    held[1].set(); thread.join()
    await asyncio.gather(*ours)
    assert await asyncio.to_thread(os.waitpid, pid, 0) == (pid, 0)

asyncio.run(main())
"""


def test_a_fork_takes_no_waiters_along() -> None:
    command = [sys.executable, "-c", PROGRAM]
    ended = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
    assert (ended.returncode, ended.stderr) == (0, "")


class Counted(meshcore.TokenBucket):
    """Counts how often it is asked."""

    asked = 0

    def _charge(self, n: int) -> tuple[int, None]:
        self.asked += 1
        return super()._charge(n)


@pytest.mark.parametrize("run", [asyncio.run, uvloop.run])
@pytest.mark.parametrize(("rate", "burst", "count"), [("20000/s", 50, 1_000), ("2000/s", 1, 100)])
def test_waiters_cost_as_much_as_there_are(
    run: Callable[[Any], None], rate: str, burst: int, count: int
) -> None:
    bucket = Counted(rate, burst)
    assert bucket.try_acquire(burst)

    async def main() -> None:
        await asyncio.gather(*(bucket.wait() for _ in range(count)))

    run(main())
    assert count <= bucket.asked <= 4 * count


def test_threads_cost_as_much_as_there_are() -> None:
    for count in (10, 60):
        bucket = Counted("1000/s", 5)
        assert bucket.try_acquire(5)
        threads = [threading.Thread(target=bucket.wait_blocking) for _ in range(count)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join(20)
        assert count <= bucket.asked <= 8 * count


STEPS = st.lists(
    st.one_of(
        st.tuples(st.just("come"), st.integers(0, 5)),
        st.tuples(st.just("cancel"), st.integers(0, 10)),
        st.tuples(st.just("pass"), st.integers(0, 6)),
        st.tuples(st.just("give"), st.integers(0, 2)),
    ),
    max_size=40,
)


class Model:
    """A line of people before a bucket of tokens."""

    def __init__(self, burst: int) -> None:
        self.burst = self.tokens = burst
        self.line: list[tuple[int, int]] = []
        self.served: list[int] = []

    def serve(self) -> None:
        while self.line and self.line[0][1] <= self.tokens:
            number, n = self.line.pop(0)
            self.tokens -= n
            self.served.append(number)


@given(steps=STEPS)
def test_it_does_what_a_line_of_people_does(steps: list[tuple[str, int]]) -> None:
    async def main() -> None:
        clock, model = Clock(), Model(5)
        bucket = meshcore.TokenBucket("10/s", 5, clock=clock)
        tasks: list[asyncio.Task[None]] = []
        served: list[int] = []

        async def come(number: int, n: int) -> None:
            await bucket.wait(n)
            served.append(number)

        for what, amount in steps:
            if what == "come":
                number = len(tasks)
                tasks.append(asyncio.create_task(come(number, amount)))
                model.line.append((number, amount))
            elif what == "cancel" and amount < len(tasks) and not tasks[amount].done():
                tasks[amount].cancel()
                model.line = [entry for entry in model.line if entry[0] != amount]
            elif what == "pass":
                clock.ns += amount * 100_000_000
                model.tokens = min(model.tokens + amount, 5)
            elif what == "give":
                bucket.give_back(amount)
                model.tokens = min(model.tokens + amount, 5)
            bucket.give_back(0)  # looks at the clock
            model.serve()
            for _ in range(4):
                await asyncio.sleep(0)
            assert served == model.served
            assert bucket.remaining == model.tokens
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        assert bucket.remaining == model.tokens
        assert not bucket.__dict__.get("_line")

    asyncio.run(main())


def test_threads_that_come_and_go_lose_nothing() -> None:
    bucket = meshcore.TokenBucket("1000/s", 3)
    taken, lock = 0, threading.Lock()
    begin = time.monotonic()
    bucket.acquire(3)

    def run(seed: int) -> None:
        nonlocal taken
        for turn in range(40):
            n = 1 + (seed + turn) % 3
            try:
                bucket.wait_blocking(n, timeout=0.002 * ((seed + turn) % 5))
            except meshcore.RateLimited:
                continue
            with lock:
                taken += n

    threads = [threading.Thread(target=run, args=(seed,)) for seed in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(30)
    assert taken <= 1000 * (time.monotonic() - begin) + 3
    assert taken > 0
    bucket.wait_blocking(3, timeout=5)
    assert not bucket.__dict__["_line"]
