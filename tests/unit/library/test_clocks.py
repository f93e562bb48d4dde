"""A clock that is given may raise, or give nonsense: nothing is lost by it."""

from __future__ import annotations

import asyncio
import threading
import time
from collections.abc import Callable
from typing import Any

import pytest

import meshcore
from meshcore import CircuitBreaker, Deadline
from meshcore.library.pauses import GIVEN_CLOCK_NS

HUGE = 1 << 64


class Clock:
    """Real time, or an error."""

    def __init__(self) -> None:
        self.is_broken = False
        self.raised = 0
        self.raised_often = asyncio.Event()

    def __call__(self) -> int:
        if self.is_broken:
            self.raised += 1
            if self.raised == 10:
                self.raised_often.set()
            raise RuntimeError("no time")
        return meshcore.now_ns()


def told_of(loop: asyncio.AbstractEventLoop) -> list[Any]:
    told: list[Any] = []
    loop.set_exception_handler(lambda _loop, context: told.append(context["exception"]))
    return told


async def broken_for_a_while(clock: Clock) -> None:
    clock.is_broken = True
    await clock.raised_often.wait()
    clock.is_broken = False


@pytest.mark.parametrize("is_of_clients", [False, True])
async def test_tasks_that_wait_are_served_and_timed_out_once_there_is_time(
    is_of_clients: bool,
) -> None:
    clock, told = Clock(), told_of(asyncio.get_running_loop())
    make: Callable[..., Any] = meshcore.ClientLimiter if is_of_clients else meshcore.TokenBucket
    limiter, of = make("50/s", 1, clock=clock), ("x",) if is_of_clients else ()
    limiter.acquire(*of)
    served = asyncio.create_task(limiter.wait(*of))
    out_of_time = asyncio.create_task(limiter.wait(*of, timeout=0.001))
    await asyncio.sleep(0)
    await broken_for_a_while(clock)
    await asyncio.wait_for(served, 10)
    with pytest.raises(meshcore.RateLimited):
        await asyncio.wait_for(out_of_time, 10)
    assert {str(error) for error in told} == {"no time"}


@pytest.mark.parametrize("is_of_a_deadline", [False, True])
async def test_a_clock_that_raises_is_not_asked_ever_more_often(is_of_a_deadline: bool) -> None:
    clock, _ = Clock(), told_of(asyncio.get_running_loop())
    bucket = meshcore.TokenBucket("1/h", 1, clock=clock)
    bucket.acquire()

    async def wait() -> None:
        if is_of_a_deadline:
            async with Deadline("30s", clock=clock):
                await asyncio.sleep(60)
        else:
            await bucket.wait(timeout="30s")

    waiting = asyncio.create_task(wait())
    await asyncio.sleep(0)
    clock.is_broken = True
    began_s = time.monotonic()
    await asyncio.sleep(0.1)
    looks = (time.monotonic() - began_s) * 1e9 / GIVEN_CLOCK_NS
    assert 1 <= clock.raised <= 12 * (looks + 1)
    clock.is_broken = False
    waiting.cancel()
    with pytest.raises(asyncio.CancelledError):
        await waiting


def test_a_thread_that_waits_hears_of_it_and_the_next_drives() -> None:
    clock, ended, was_told = Clock(), list[str](), threading.Event()
    bucket = meshcore.TokenBucket("1/h", 1, clock=clock)
    bucket.acquire()

    def wait(name: str) -> None:
        try:
            bucket.wait_blocking()
            ended.append(f"{name} served")
        except RuntimeError:
            ended.append(f"{name} told")
            clock.is_broken = False
            was_told.set()

    threads = [threading.Thread(target=wait, args=(name,)) for name in ("first", "second")]
    threads[0].start()
    clock.is_broken = True
    assert was_told.wait(10)
    threads[1].start()
    bucket.reset()
    for thread in threads:
        thread.join(10)
    assert ended == ["first told", "second served"]


async def test_a_deadline_cuts_off_once_there_is_time() -> None:
    clock, told = Clock(), told_of(asyncio.get_running_loop())

    async def work() -> None:
        async with Deadline(0.05, clock=clock):
            await asyncio.sleep(60)

    task = asyncio.create_task(work())
    await asyncio.sleep(0)
    await broken_for_a_while(clock)
    with pytest.raises(meshcore.DeadlineExceeded):
        await asyncio.wait_for(task, 10)
    assert {str(error) for error in told} == {"no time"}


def half_open(clock: Clock, **rules: Any) -> CircuitBreaker:
    breaker = CircuitBreaker(failures=1, successes=1, open_for="1ms", clock=clock, **rules)
    breaker.acquire().failure()
    time.sleep(0.002)
    return breaker


@pytest.mark.parametrize("rules", [{}, {"slow_call": "1h"}])
def test_a_probe_whose_end_has_no_time_gives_its_place_back(rules: Any) -> None:
    clock = Clock()
    breaker = half_open(clock, **rules)
    permit = breaker.acquire()
    clock.is_broken = True
    with pytest.raises(RuntimeError, match="no time"):
        permit.success()
    clock.is_broken = False
    assert breaker.snapshot().total_neutral == 1
    breaker.call(int)
    assert breaker.state == "closed"


def test_a_probe_whose_beginning_has_no_time_takes_no_place() -> None:
    clock, times = Clock(), iter(list[bool]())

    def second_fails() -> int:
        clock.is_broken = next(times, False)
        return clock()

    breaker = CircuitBreaker(
        failures=1, successes=1, open_for="1ms", slow_call="1h", clock=second_fails
    )
    breaker.acquire().failure()
    time.sleep(0.002)
    times = iter([False, True])
    with pytest.raises(RuntimeError, match="no time"):
        breaker.acquire()
    breaker.call(int)
    assert breaker.state == "closed"


def test_a_listener_that_ends_the_program_keeps_no_place() -> None:
    def stop(_told: object) -> None:
        told.append(1)
        if len(told) == 2:
            raise KeyboardInterrupt

    told: list[int] = []
    breaker = half_open(Clock(), on_state_change=stop)
    with pytest.raises(KeyboardInterrupt):
        breaker.acquire()
    breaker.call(int)
    assert breaker.state == "closed"


@pytest.mark.parametrize(
    "given", [HUGE, -1, 1.5, True, None, "1", 10**5_000], ids=lambda given: type(given).__name__
)
def test_what_is_no_time(given: Any) -> None:
    bucket = meshcore.TokenBucket("1/s", clock=lambda: given)
    with pytest.raises(ValueError, match=r"^clock: must be a whole number within 0 and 18446744"):
        bucket.acquire()
    with pytest.raises(ValueError, match=r"^clock: must be a whole number within 0 and 18446744"):
        Deadline(1, clock=lambda: given)
