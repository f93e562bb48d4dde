"""A deadline is inherited by what is called, and ends nothing that it should not."""

from __future__ import annotations

import asyncio
import contextlib
import contextvars
import gc
import pickle
import threading
import time
from collections.abc import (
    AsyncGenerator,
    AsyncIterator,
    Awaitable,
    Callable,
    Generator,
    Iterator,
)
from datetime import timedelta
from typing import cast

import pytest

import meshcore
from meshcore import Deadline
from meshcore.library import deadline as deadlines
from meshcore.library.deadline import left_ns

SLOW = "1/h"


def test_it_counts_from_when_it_is_made() -> None:
    deadline = meshcore.Deadline("10s")
    assert 9 < deadline.left <= 10
    assert left_ns() is None
    with deadline as entered:
        assert entered is deadline
        found = left_ns()
        assert found is not None
        assert 9e9 < found <= 10e9
    assert left_ns() is None
    over = meshcore.Deadline(timedelta(0))
    assert over.left == 0
    with pytest.raises(meshcore.DeadlineExceeded, match="has passed"):
        over.check()
    deadline.check()


def test_blocks_inside_only_shorten_it() -> None:
    with meshcore.Deadline(10):
        with meshcore.Deadline(1):
            assert (left_ns() or 0) <= 1e9
            with meshcore.Deadline(100):
                assert (left_ns() or 0) <= 1e9
        assert 9e9 < (left_ns() or 0) <= 10e9


@pytest.mark.parametrize("time", ["soon", -1, None, float("inf")])
def test_what_is_no_time(time: object) -> None:
    with pytest.raises(ValueError, match=r"."):
        meshcore.Deadline(time)  # type: ignore[arg-type]


async def test_tasks_and_threads_of_the_loop_inherit_it() -> None:
    async def look() -> int | None:
        return left_ns()

    with meshcore.Deadline(10):
        task = asyncio.create_task(look())
        in_thread = await asyncio.to_thread(left_ns)
    assert (await task or 0) > 9e9
    assert (in_thread or 0) > 9e9


def test_another_thread_enters_it_by_itself() -> None:
    deadline, found = meshcore.Deadline(10), list[int | None]()

    def run() -> None:
        found.append(left_ns())
        with deadline:
            found.append(left_ns())

    with deadline:
        thread = threading.Thread(target=run)
        thread.start()
        thread.join()
    assert found[0] is None
    assert (found[1] or 0) > 9e9


async def test_who_waits_for_tokens_waits_no_longer() -> None:
    bucket, clients = meshcore.TokenBucket(SLOW, 1), meshcore.ClientLimiter(SLOW, 1)
    bucket.acquire()
    clients.acquire("x")
    begin = time.monotonic()
    with meshcore.Deadline(0.02):
        with pytest.raises(meshcore.DeadlineExceeded, match="before there were tokens"):
            await bucket.wait()
        with pytest.raises(meshcore.DeadlineExceeded, match="has passed"):
            await clients.wait("x")
    with (
        meshcore.Deadline(0.02),
        pytest.raises(meshcore.DeadlineExceeded, match="before there were tokens"),
    ):
        await clients.wait("x", timeout=10)
    with meshcore.Deadline(0.02), pytest.raises(TimeoutError):
        bucket.wait_blocking()
    with meshcore.Deadline(0.02), pytest.raises(TimeoutError):
        clients.wait_blocking("x")
    assert 0.08 <= time.monotonic() - begin < 5
    with meshcore.Deadline(10), pytest.raises(meshcore.RateLimited):
        await bucket.wait(timeout=0.01)
    assert not bucket.__dict__["_line"]


async def test_what_is_awaited_in_an_async_block_is_cut() -> None:
    begin = time.monotonic()
    with pytest.raises(meshcore.DeadlineExceeded) as caught:
        async with meshcore.Deadline(0.02):
            await asyncio.sleep(60)
    assert isinstance(caught.value, TimeoutError)
    assert time.monotonic() - begin < 5
    assert left_ns() is None
    async with meshcore.Deadline(10) as deadline:
        assert deadline.left > 9
    with meshcore.Deadline(0.02), pytest.raises(meshcore.DeadlineExceeded):
        async with meshcore.Deadline(60):
            await asyncio.sleep(60)


async def test_errors_and_cancellations_of_others_pass() -> None:
    with pytest.raises(KeyError):
        async with meshcore.Deadline(10):
            raise KeyError
    inside = asyncio.Event()

    async def work() -> None:
        async with meshcore.Deadline(10):
            inside.set()
            await asyncio.sleep(60)

    task = asyncio.create_task(work())
    await inside.wait()
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task


def test_a_generator_that_is_left_elsewhere_breaks_nothing() -> None:
    def items() -> Generator[int]:
        with meshcore.Deadline(10):
            yield 1

    one, other = contextvars.Context(), contextvars.Context()
    entered = items()
    assert one.run(next, entered) == 1
    with meshcore.Deadline(5):
        other.run(entered.close)
        assert left_ns() is not None


async def test_an_async_generator_that_is_left_elsewhere_cuts_nobody() -> None:
    async def items() -> AsyncGenerator[int]:
        async with meshcore.Deadline(0.03):
            yield 1

    entered = items()
    await asyncio.create_task(anext(entered))
    await asyncio.create_task(entered.aclose())
    await asyncio.sleep(0.06)


async def test_one_deadline_is_for_several_tasks() -> None:
    deadline = meshcore.Deadline(0.05)

    async def work(seconds: float) -> str:
        try:
            async with deadline:
                await asyncio.sleep(seconds)
        except meshcore.DeadlineExceeded:
            return "late"
        return "done"

    ended = await asyncio.gather(work(0), work(60), work(0.001))
    assert list(ended) == ["done", "late", "done"]


async def test_a_block_of_a_generator_that_is_closed_elsewhere_is_over() -> None:
    async def pieces() -> AsyncIterator[int]:
        with Deadline(0.02):
            yield 1
            yield 2

    async for _ in pieces():
        break
    gc.collect()
    await asyncio.sleep(0.05)
    assert deadlines.left_ns() is None
    await meshcore.TokenBucket("1/s").wait()


def test_blocks_that_are_left_out_of_order_are_over_too() -> None:
    def pieces(seconds: float) -> Iterator[int]:
        with Deadline(seconds):
            yield 1

    for _ in zip(pieces(5), pieces(50), strict=True):
        assert deadlines.left_ns() is not None
    assert deadlines.left_ns() is None
    for _ in range(100):
        next(pieces(60))
    gc.collect()
    assert deadlines.left_ns() is None
    assert deadlines._block.get() is None, "no chain of what is over"


async def test_a_task_that_outlives_the_block_has_its_time_no_more() -> None:
    over = asyncio.Event()

    async def later() -> int | None:
        await over.wait()
        return deadlines.left_ns()

    async with Deadline(5):
        task = asyncio.create_task(later())
        await asyncio.sleep(0)
    over.set()
    assert await task is None


async def test_one_deadline_in_several_tasks_ends_each_where_it_is() -> None:
    shared = Deadline(5)

    async def pieces() -> AsyncIterator[int]:
        async with shared:
            yield 1

    async def own() -> None:
        async with shared:
            await asyncio.sleep(0.01)

    task = asyncio.create_task(own())
    generator = pieces()
    await anext(generator)
    await asyncio.create_task(cast("AsyncGenerator[int]", generator).aclose())
    await task


@pytest.mark.parametrize("failure_on", [Exception, OSError])
def test_a_deadline_that_passed_before_the_call_blames_nobody(failure_on: type[Exception]) -> None:
    breaker = meshcore.CircuitBreaker(failures=1, failure_on=failure_on)
    retry = meshcore.Retry(3)
    with Deadline(0):
        for _ in range(3):
            with pytest.raises(meshcore.DeadlinePassed):
                breaker.call(retry.call, int)
    assert breaker.state == "closed"
    error = meshcore.DeadlinePassed("the deadline has passed")
    assert isinstance(error, TimeoutError)
    assert isinstance(error, meshcore.Refused)
    assert (str(error), error.retry_after) == ("the deadline has passed", 0)
    assert str(pickle.loads(pickle.dumps(error))) == str(error)


def blocks_held() -> set[deadlines._Block]:
    """By whomever."""
    return {each for each in gc.get_objects() if isinstance(each, deadlines._Block)}


@pytest.mark.parametrize("is_async", [False, True])
async def test_workers_that_begin_their_successors_hold_no_blocks_that_are_over(
    is_async: bool,
) -> None:
    over = asyncio.Event()
    others = blocks_held()  # of tests before, whose errors somebody keeps

    async def work(left: int) -> None:
        async with meshcore.Deadline(60) if is_async else contextlib.nullcontext():
            with meshcore.Deadline(60):
                if left:
                    successors.append(asyncio.create_task(work(left - 1)))
                await asyncio.sleep(0)
                if not left:
                    assert len(blocks_held() - others) < 40
                    over.set()

    successors = [asyncio.create_task(work(300))]
    await asyncio.wait_for(over.wait(), 30)
    for each in successors:
        await each


async def alone(bucket: meshcore.TokenBucket) -> None:
    await bucket.wait()


async def of_a_client(_bucket: meshcore.TokenBucket) -> None:
    clients = meshcore.ClientLimiter(SLOW, 1, name="slow")
    clients.acquire("x")
    await clients.wait("x", timeout="10s")


async def gathered(bucket: meshcore.TokenBucket) -> None:
    await asyncio.gather(bucket.wait(), bucket.wait())


async def in_a_task(bucket: meshcore.TokenBucket) -> None:
    await asyncio.create_task(bucket.wait())


async def in_a_group(bucket: meshcore.TokenBucket) -> None:
    async with asyncio.TaskGroup() as group:
        group.create_task(bucket.wait())


async def in_a_longer_deadline(bucket: meshcore.TokenBucket) -> None:
    async with meshcore.Deadline("10s"):
        await bucket.wait()


async def in_a_retry(bucket: meshcore.TokenBucket) -> None:
    await meshcore.Retry(2, on=OSError).call_async(bucket.wait)


WAITS = [alone, of_a_client, gathered, in_a_task, in_a_group, in_a_longer_deadline, in_a_retry]


@pytest.mark.parametrize("waits", WAITS)
@pytest.mark.parametrize("clock", [None, time.monotonic_ns])
async def test_a_queue_of_our_own_says_nothing_to_a_breaker(
    waits: Callable[[meshcore.TokenBucket], Awaitable[None]], clock: Callable[[], int] | None
) -> None:
    ends: list[str] = []
    breaker = meshcore.CircuitBreaker(failures=1, on_call=lambda call: ends.append(call.outcome))
    bucket = meshcore.TokenBucket(SLOW, 1, name="slow")
    bucket.acquire()
    with pytest.raises((meshcore.DeadlinePassed, ExceptionGroup)) as caught:
        async with breaker, meshcore.Deadline("20ms", clock=clock):
            await waits(bucket)
    assert (breaker.state, ends) == ("closed", ["neutral"])
    error = caught.value
    while isinstance(error, ExceptionGroup):
        (error,) = error.exceptions
    assert isinstance(error, meshcore.DeadlinePassed)
    assert error.name == "slow"
    assert 3_500 < error.retry_after < 3_601
    # A service that hangs opens it, also where somebody waits for tokens beside.
    beside: list[asyncio.Task[None]] = []

    async def hang() -> None:
        async with breaker, meshcore.Deadline("20ms", clock=clock):
            beside.append(asyncio.create_task(bucket.wait()))
            await asyncio.sleep(60)

    with pytest.raises(meshcore.DeadlineExceeded) as hung:
        await hang()
    assert not isinstance(hung.value, meshcore.DeadlinePassed)
    assert (breaker.state, ends) == ("open", ["neutral", "failure"])
    with pytest.raises(meshcore.DeadlinePassed):
        await beside[0]
    assert left_ns() is None


async def test_a_thread_of_the_block_says_what_it_waited_for() -> None:
    bucket = meshcore.TokenBucket(SLOW, 1, name="slow")
    bucket.acquire()
    told = "tokens of slow, retry after 3"
    with pytest.raises(meshcore.DeadlinePassed, match=told) as caught, meshcore.Deadline("1s"):
        await asyncio.to_thread(bucket.wait_blocking)
    with meshcore.Deadline(0), pytest.raises(meshcore.DeadlinePassed) as late:
        bucket.wait_blocking()
    assert late.value.name == "slow"
    copied = pickle.loads(pickle.dumps(caught.value))
    assert (copied.name, copied.retry_after_ns) == ("slow", caught.value.retry_after_ns)
    assert str(copied) == str(caught.value)
