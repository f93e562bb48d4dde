"""A breaker opens, finds out, and closes; a cancelled call says nothing and holds nothing."""

from __future__ import annotations

import asyncio
import contextlib
import contextvars
from collections.abc import AsyncIterator, Iterator
from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule

import meshcore
from tests.unit.library.test_limiters import Clock


def fail(breaker: meshcore.CircuitBreaker) -> None:
    with pytest.raises(RuntimeError), breaker:
        raise RuntimeError


def test_it_opens_probes_and_closes() -> None:
    clock = Clock()
    breaker = meshcore.CircuitBreaker(failures=3, successes=2, open_for="10s", clock=clock)
    for _ in range(3):
        fail(breaker)
    assert breaker.state == "open"
    with pytest.raises(meshcore.BreakerOpen) as caught, breaker:
        pytest.fail("it let a call through")
    assert 8.9 <= caught.value.retry_after <= 10.1
    clock.ns += caught.value.retry_after_ns
    with breaker, pytest.raises(meshcore.BreakerOpen):
        contextvars.Context().run(breaker.acquire)  # a second probe
    with breaker:
        pass
    assert breaker.state == "closed"


def test_what_counts_as_a_failure() -> None:
    breaker = meshcore.CircuitBreaker(failures=1, failure_on=(OSError,))
    fail(breaker)
    assert breaker.state == "closed"
    with pytest.raises(ConnectionError), breaker:
        raise ConnectionError
    assert breaker.state == "open"


async def test_a_cancelled_probe_gives_its_place_back() -> None:
    clock = Clock()
    breaker = meshcore.CircuitBreaker(failures=1, open_for="1s", clock=clock)
    fail(breaker)
    clock.ns += 1_100_000_000
    inside = asyncio.Event()

    @breaker
    async def probe() -> None:
        inside.set()
        await asyncio.Event().wait()

    task = asyncio.create_task(probe())
    await inside.wait()
    with pytest.raises(meshcore.BreakerOpen):
        await probe()
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    async with breaker:
        pass
    assert breaker.state == "half_open"


def test_a_dropped_permit_gives_its_place_back() -> None:
    clock = Clock()
    breaker = meshcore.CircuitBreaker(failures=1, open_for="1s", clock=clock)
    fail(breaker)
    clock.ns += 1_100_000_000
    permit = breaker.acquire()
    del permit
    breaker.acquire().success()


async def test_tasks_are_inside_at_the_same_time() -> None:
    breaker = meshcore.CircuitBreaker(failures=2)

    @breaker
    async def call(wrong: bool) -> None:
        await asyncio.sleep(0)
        if wrong:
            raise RuntimeError

    results = await asyncio.gather(
        call(False), call(True), call(False), call(True), return_exceptions=True
    )
    assert [type(x) for x in results] == [type(None), RuntimeError, type(None), RuntimeError]


def test_threads_are_inside_at_the_same_time() -> None:
    breaker = meshcore.CircuitBreaker()

    @breaker
    def call(i: int) -> int:
        return i

    with ThreadPoolExecutor(8) as pool:
        assert list(pool.map(call, range(2000))) == list(range(2000))


def test_call() -> None:
    breaker = meshcore.CircuitBreaker(failures=2, failure_on=(OSError,))
    assert breaker.call(divmod, 7, 2) == (3, 1)
    assert breaker.call(dict, a=1) == {"a": 1}
    for _ in range(2):
        with pytest.raises(FileNotFoundError):
            breaker.call(open, "/nowhere/at/all")
    assert breaker.state == "open"
    with pytest.raises(meshcore.BreakerOpen):
        breaker.call(pytest.fail, "it let a call through")


def test_call_is_not_for_what_is_not_over() -> None:
    async def nothing() -> None: ...
    def items() -> Iterator[int]:
        yield 1

    async def async_items() -> AsyncIterator[int]:
        yield 1

    breaker = meshcore.CircuitBreaker(failures=1)
    for function, told in ((nothing, "is async"), (items, "generator"), (async_items, "generator")):
        with pytest.raises(TypeError, match=told):
            breaker.call(function)
    assert breaker.state == "closed", "whoever writes that says nothing of the service"


def test_a_block_that_was_not_entered() -> None:
    with pytest.raises(RuntimeError, match="not entered"):
        meshcore.CircuitBreaker().__exit__(None, None, None)


async def test_blocks_of_different_epochs_keep_their_permits() -> None:
    """A call that began before the breaker opened says nothing of the probe beside it."""
    clock = Clock()
    breaker = meshcore.CircuitBreaker(
        failures=1, successes=1, failure_percent=0, open_for="1s", clock=clock
    )
    gates = [asyncio.Event() for _ in range(3)]
    entered = [asyncio.Event() for _ in range(3)]

    async def block(i: int, wrong: bool) -> None:
        with contextlib.suppress(RuntimeError), breaker:
            entered[i].set()
            await gates[i].wait()
            if wrong:
                raise RuntimeError

    early = asyncio.create_task(block(0, wrong=True))
    await entered[0].wait()
    fail(breaker)
    clock.ns += 1_100_000_000
    probe = asyncio.create_task(block(1, wrong=False))
    await entered[1].wait()
    gates[0].set()
    await early
    assert breaker.state == "half_open", "the early call's failure is not the probe's"
    gates[1].set()
    await probe
    assert breaker.state == "closed"
    # Both ways of keeping a permit are given up: the blocks that follow are as the first.
    fail(breaker)
    assert breaker.state == "open"


async def test_a_task_does_not_settle_what_its_maker_holds() -> None:
    clock = Clock()
    breaker = meshcore.CircuitBreaker(
        failures=1, successes=1, failure_percent=0, open_for="1s", probes=2, clock=clock
    )
    fail(breaker)
    clock.ns += 1_100_000_000
    gate, entered = asyncio.Event(), asyncio.Event()

    async def child() -> None:
        await gate.wait()
        with breaker:
            entered.set()
            gate.clear()
            await gate.wait()
            raise RuntimeError

    with breaker:
        task = asyncio.create_task(child())
        await asyncio.sleep(0)
    assert breaker.state == "closed"
    gate.set()
    await entered.wait()
    # While the child is in its block, another task holds a probe.
    breaker.force_open(0)
    probe = breaker.acquire()
    gate.set()
    with pytest.raises(RuntimeError):
        await task
    assert breaker.state == "half_open", "the child's failure was of an earlier epoch"
    probe.success()
    assert breaker.state == "closed"


def test_by_hand() -> None:
    breaker = meshcore.CircuitBreaker()
    for duration in ("1m", 60, 0.5, timedelta(seconds=5)):
        breaker.force_open(duration)
        assert breaker.state == "open"
    for wrong in ("60", -1, 60_000_000_000):
        with pytest.raises(ValueError, match=r"duration|no time|numbers are seconds"):
            breaker.force_open(wrong)
    breaker.force_closed()
    assert breaker.state == "closed"


class Machine(RuleBasedStateMachine):
    """Against the plain rule: probes out never exceed the cap, and no permit is lost."""

    def __init__(self) -> None:
        super().__init__()
        self.clock = Clock()
        self.breaker = meshcore.CircuitBreaker(
            failures=2, failure_percent=0, probes=2, open_for="1s", clock=self.clock
        )
        self.probes: list[object] = []

    @rule(seconds=st.floats(0, 3))
    def wait(self, seconds: float) -> None:
        self.clock.ns += int(seconds * 1e9)

    @rule(good=st.booleans())
    def call(self, good: bool) -> None:
        try:
            permit = self.breaker.acquire()
        except meshcore.BreakerOpen:
            assert self.breaker.state != "closed"
        else:
            (permit.success if good else permit.failure)()

    @rule()
    def forget(self) -> None:
        with contextlib.suppress(meshcore.BreakerOpen):
            self.breaker.acquire()

    @invariant()
    def an_open_breaker_lets_a_probe_through_in_the_end(self) -> None:
        state = self.breaker.state
        assert state in {"closed", "open", "half_open"}
        if state == "half_open":
            self.breaker.acquire().cancel()


Machine.TestCase.settings = settings(max_examples=60, stateful_step_count=30)
TestMachine = Machine.TestCase
