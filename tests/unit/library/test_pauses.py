"""Who waits does so for as long as was said: on every loop, and by the clock that was given."""

from __future__ import annotations

import asyncio
import contextlib
import threading
import time
from collections.abc import Callable, Coroutine
from typing import Any

import pytest
import uvloop

import meshcore
from tests.unit.library.test_limiters import Clock

Run = Callable[[Coroutine[Any, Any, None]], None]
loops = pytest.mark.parametrize("run", [asyncio.run, uvloop.run])


class BusyError(Exception):
    def __init__(self, retry_after: float) -> None:
        self.retry_after = retry_after


@loops
def test_no_attempt_begins_too_early(run: Run) -> None:
    early: list[float] = []

    async def main() -> None:
        retry = meshcore.Retry(2, min_pause=0, pause=0)
        for number in range(60):
            asked, begun = 0.0052 + 0.00003 * (number % 20), list[float]()

            async def ask(asked: float = asked, begun: list[float] = begun) -> None:
                begun.append(time.monotonic())
                if len(begun) == 1:
                    raise BusyError(asked)

            await retry.call_async(ask)
            early.append(begun[1] - begun[0] - asked)

    run(main())
    assert min(early) >= 0


@loops
def test_the_last_attempt_finds_the_tokens_that_the_first_was_told_of(run: Run) -> None:
    async def main() -> None:
        for _ in range(25):
            bucket = meshcore.TokenBucket("197/s", 1)
            bucket.acquire()

            async def take(bucket: meshcore.TokenBucket = bucket) -> None:
                bucket.acquire()

            await meshcore.Retry(2, min_pause=0, pause=0).call_async(take)

    run(main())


@loops
def test_nothing_is_cut_off_or_refused_while_time_is_left(run: Run) -> None:
    left: list[float] = []

    async def cut(seconds: float) -> None:
        deadline = meshcore.Deadline(seconds)
        with pytest.raises(meshcore.DeadlineExceeded):
            async with deadline:
                await asyncio.sleep(60)
        left.append(deadline.left)

    async def refused(seconds: float) -> None:
        bucket = meshcore.TokenBucket("1/h", 1)
        bucket.acquire()
        deadline = meshcore.Deadline(seconds)
        with deadline, pytest.raises(meshcore.DeadlinePassed):
            await bucket.wait()
        left.append(deadline.left)
        begun = time.monotonic()
        with pytest.raises(meshcore.RateLimited):
            await bucket.wait(timeout=seconds)
        left.append(seconds - time.monotonic() + begun)

    async def main() -> None:
        for number in range(30):
            await cut(0.0022 + 0.00009 * number)
            await refused(0.0022 + 0.00009 * number)

    run(main())
    assert len(left) == 90
    assert max(left) <= 0


@pytest.mark.parametrize("is_async", [False, True])
def test_a_retrys_deadline_goes_by_its_clock(is_async: bool) -> None:
    clock, calls = Clock(), list[int]()

    def fail() -> None:
        calls.append(clock.ns)
        clock.ns += 800_000_000
        raise OSError

    async def fail_async() -> None:
        fail()

    retry = meshcore.Retry(9, min_pause=0, pause=0, deadline="2s", clock=clock)
    with pytest.raises(OSError, match=r"^$"):
        asyncio.run(retry.call_async(fail_async)) if is_async else retry.call(fail)
    assert len(calls) == 3


@pytest.mark.parametrize("is_async", [False, True])
@pytest.mark.parametrize("own", [False, True])
@pytest.mark.parametrize("raises", [False, True])
def test_no_attempt_follows_a_pause_that_outlasted_the_deadline(
    own: bool, is_async: bool, raises: bool
) -> None:
    clock = Clock()

    # As a loop that stands still: the time has passed when the pause is over.
    def told(_told: object) -> None:
        clock.ns += 10**10

    rules: dict[str, Any] = {"deadline": "2s"} if own else {}
    retry = meshcore.Retry(
        9, on_result=lambda _: True, on_retry=told, min_pause=0, pause=0, clock=clock, **rules
    )
    calls: list[int] = []

    def fail() -> int:
        calls.append(1)
        if raises:
            raise OSError
        return 7

    async def fail_async() -> int:
        return fail()

    def run() -> int:
        with contextlib.nullcontext() if own else meshcore.Deadline("2s", clock=clock):
            return asyncio.run(retry.call_async(fail_async)) if is_async else retry.call(fail)

    if raises:
        with pytest.raises(OSError, match=r"^$"):
            run()
    else:
        assert run() == 7
    assert len(calls) == 1


def test_a_retrys_pauses_go_by_its_clock() -> None:
    clock, asked = Clock(), threading.Event()
    retry = meshcore.Retry(2, min_pause="1h", pause="1h", max_pause="1h", clock=clock)

    def fail() -> str:
        if asked.is_set():
            return "at last"
        asked.set()
        raise OSError

    answers: list[str] = []
    thread = threading.Thread(target=lambda: answers.append(retry.call(fail)))
    thread.start()
    assert asked.wait(10)
    # It may not have looked at the clock yet, so it is told until it has.
    while thread.is_alive():
        clock.ns += 3_600_000_000_000
        thread.join(0.01)
    assert answers == ["at last"]


async def test_a_retrys_pauses_go_by_its_clock_in_a_loop() -> None:
    clock, calls = Clock(), 0
    retry = meshcore.Retry(2, min_pause="1h", pause="1h", max_pause="1h", clock=clock)

    @retry
    async def ask() -> str:
        nonlocal calls
        calls += 1
        if calls == 1:
            raise OSError
        return "at last"

    task = asyncio.create_task(ask())
    await asyncio.sleep(0.03)
    assert calls == 1
    clock.ns += 3_600_000_000_000
    assert await asyncio.wait_for(task, 10) == "at last"


def test_a_deadline_goes_by_its_clock() -> None:
    clock, other = Clock(), Clock()
    deadline = meshcore.Deadline("2s", clock=clock)
    assert deadline.left == 2
    with deadline, meshcore.Deadline("1h"), meshcore.Deadline("3s", clock=other):
        deadline.check()
        bucket = meshcore.TokenBucket("1/h", 1)
        bucket.acquire()
        clock.ns += 2_000_000_000
        assert deadline.left == 0
        with pytest.raises(meshcore.DeadlinePassed):
            bucket.wait_blocking()
        with pytest.raises(meshcore.DeadlinePassed):
            deadline.check()
        clock.ns -= 1
        meshcore.Retry().call(int)
        other.ns += 3_000_000_000
        with pytest.raises(meshcore.DeadlinePassed):
            meshcore.Retry().call(int)


async def test_what_is_awaited_is_cut_by_the_deadlines_clock() -> None:
    clock, begun = Clock(), asyncio.Event()

    async def work() -> None:
        async with meshcore.Deadline("1h", clock=clock):
            begun.set()
            await asyncio.Event().wait()

    task = asyncio.create_task(work())
    await begun.wait()
    await asyncio.sleep(0.03)
    assert not task.done()
    clock.ns += 3_600_000_000_000
    with pytest.raises(meshcore.DeadlineExceeded):
        await asyncio.wait_for(task, 10)


def slow(kind: str, clock: Clock) -> tuple[Any, tuple[str, ...]]:
    if kind == "bucket":
        return meshcore.TokenBucket("1/d", 1, clock=clock), ()
    if kind == "clients":
        return meshcore.ClientLimiter("1/d", 1, clock=clock), ("a",)
    return meshcore.SharedState().token_bucket("a", "1/d", burst=1, clock=clock), ()


@pytest.mark.parametrize("kind", ["bucket", "clients", "shared"])
async def test_a_timeout_goes_by_the_limiters_clock(kind: str) -> None:
    clock = Clock()
    limiter, who = slow(kind, clock)
    limiter.acquire(*who)
    waits = asyncio.create_task(limiter.wait(*who, timeout="2h"))
    blocks = asyncio.create_task(
        asyncio.to_thread(lambda: limiter.wait_blocking(*who, timeout="2h"))
    )
    await asyncio.sleep(0.03)
    assert [waits.done(), blocks.done()] == [False, False]
    # The thread may not have begun to wait.
    while not (waits.done() and blocks.done()):
        clock.ns += 2 * 3_600_000_000_000
        await asyncio.wait({waits, blocks}, timeout=0.02)
        if clock.ns > 20 * 3_600_000_000_000:
            break
    for each in (waits, blocks):
        with pytest.raises(meshcore.RateLimited):
            await asyncio.wait_for(each, 10)


def without_asyncio(work: Coroutine[Any, Any, object]) -> None:
    """Run as by another library, until it waits."""
    try:
        work.send(None)
    except StopIteration:
        return
    finally:
        work.close()


def test_other_libraries_than_asyncio_are_told_before_anything_is_called() -> None:
    calls: list[int] = []

    async def call() -> None:
        calls.append(1)

    async def deadline() -> None:
        async with meshcore.Deadline("1s"):
            calls.append(1)

    bucket, clients = meshcore.TokenBucket("1/s"), meshcore.ClientLimiter("1/s")
    for work in (meshcore.Retry().call_async(call), deadline(), bucket.wait(), clients.wait("a")):
        with pytest.raises(RuntimeError, match="no event loop of asyncio runs here"):
            without_asyncio(work)
    assert calls == []
    assert bucket.peek().remaining == 1

    async def guarded() -> None:
        async with meshcore.CircuitBreaker():
            calls.append(1)

    without_asyncio(guarded())
    assert calls == [1], "what waits for nothing works"
