"""A block's outcome belongs to the block, wherever it is entered and left."""

from __future__ import annotations

import asyncio
import contextlib
import contextvars
import gc
import os
import sys
import threading
import traceback
from collections.abc import AsyncIterator, Callable, Generator
from concurrent.futures import ThreadPoolExecutor
from contextvars import Context
from types import FrameType
from typing import Any

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

import meshcore
from meshcore.library.blocks import Block
from tests.unit.library.breakers import OPEN_NS, Make, both, fail, half_open, own, quick
from tests.unit.library.test_limiters import Clock

Session = Generator[None]


def session(breaker: meshcore.CircuitBreaker) -> Session:
    """As a dependency of a web framework."""
    with breaker:
        yield


def guarded_session(breaker: meshcore.CircuitBreaker) -> Session:
    with breaker.guard():
        yield


def end(block: Session, wrong: bool = False) -> None:
    """How a framework resumes it."""
    if wrong:
        with pytest.raises(RuntimeError):
            block.throw(RuntimeError())
    else:
        assert next(block, "over") == "over"


SESSIONS = pytest.mark.parametrize("begin", [session, guarded_session])


@both
@SESSIONS
@pytest.mark.parametrize("wrong", [False, True])
def test_a_probe_that_ends_in_another_context_is_heard(
    begin: Callable[..., Session], make: Make, wrong: bool
) -> None:
    breaker = half_open(make, Clock())
    block = begin(breaker)
    Context().run(next, block)
    assert breaker.state == "half_open"
    Context().run(end, block, wrong)
    assert breaker.state == ("open" if wrong else "closed")
    # And nothing of it is left: it opens and closes as before.
    breaker.force_closed()
    with pytest.raises(RuntimeError), breaker:
        raise RuntimeError
    assert breaker.state == "open"


class BrokenOff(BaseException):
    """As a handler of a signal raises it."""


def broken_off_behind_enter(stack: Any, breaker: meshcore.CircuitBreaker) -> None:
    """The stack has entered the block, and not noted yet that it is to leave it."""

    def trace(frame: FrameType, _event: str, _arg: object) -> Any:
        if frame.f_code.co_name == "enter_context":
            return behind
        return None

    def behind(frame: FrameType, _event: str, _arg: object) -> Any:
        if "result" in frame.f_locals:
            raise BrokenOff
        return behind

    before = sys.gettrace()
    sys.settrace(trace)
    try:
        with pytest.raises(BrokenOff):
            stack.enter_context(breaker)
    finally:
        sys.settrace(before)


@both
@pytest.mark.parametrize("moved", [False, True])
def test_a_block_that_a_stack_never_leaves_is_over_with_it(make: Make, moved: bool) -> None:
    breaker = half_open(make, Clock())
    stack: contextlib.ExitStack | None = contextlib.ExitStack()
    broken_off_behind_enter(stack, breaker)
    assert breaker._blocks._others
    if moved and stack is not None:
        stack = stack.pop_all()
        gc.collect()
    stack = None
    gc.collect()
    assert not breaker._blocks._others
    assert breaker.snapshot().total_neutral == 1
    with breaker:  # the place is free
        pass
    assert breaker.state == "closed"


@both
@pytest.mark.parametrize("stacked", [False, True])
def test_a_block_that_a_stack_never_leaves_is_over_when_others_come(
    make: Make, stacked: bool
) -> None:
    breaker = half_open(make, Clock(), successes=2, probes=2)
    with contextlib.ExitStack() as kept, contextlib.ExitStack() as whole:
        whole.enter_context(breaker)
        broken_off_behind_enter(kept, breaker)
        assert len(breaker._blocks._others) == 2

        def come() -> None:
            with contextlib.ExitStack() as mine:
                if stacked:
                    mine.enter_context(breaker)
                else:
                    with breaker:
                        pass

        with ThreadPoolExecutor(1) as thread:
            thread.submit(come).result()
        # What the other stack has noted goes on.
        assert len(breaker._blocks._others) == 1
        assert breaker.state == "half_open"
    assert breaker.state == "closed"
    assert not breaker._blocks._others


@both
@SESSIONS
def test_a_probe_that_ends_in_another_thread_is_heard(
    begin: Callable[..., Session], make: Make
) -> None:
    breaker = half_open(make, Clock())
    block = begin(breaker)
    with ThreadPoolExecutor(1) as one, ThreadPoolExecutor(1) as other:
        one.submit(next, block).result()
        other.submit(end, block).result()
    assert breaker.state == "closed"


@both
async def test_async_with_in_a_generator_whose_steps_are_tasks(make: Make) -> None:
    """As under `asyncio.wait_for`: each step is a task with a context of its own."""
    breaker = half_open(make, Clock())

    async def items() -> AsyncIterator[int]:
        async with breaker:
            yield 1
            raise RuntimeError

    stream = items()
    assert await asyncio.create_task(anext(stream)) == 1  # type: ignore[arg-type]
    with pytest.raises(RuntimeError):
        await asyncio.create_task(anext(stream))  # type: ignore[arg-type]
    assert breaker.state == "open"


@both
def test_a_stack_of_one_context_is_exact(make: Make) -> None:
    clock = Clock()
    breaker = quick(make, clock)
    early = session(breaker)
    next(early)  # counted, of an earlier epoch
    fail(breaker)
    clock.ns += OPEN_NS
    stack = contextlib.ExitStack()
    stack.enter_context(breaker)
    with pytest.raises(RuntimeError), stack:
        raise RuntimeError
    assert breaker.state == "open"
    end(early)


@both
def test_a_stack_of_another_context_is_exact_where_it_can_be_no_other(make: Make) -> None:
    breaker = half_open(make, Clock())
    stack = contextlib.ExitStack()
    Context().run(stack.enter_context, breaker)
    Context().run(stack.close)
    assert breaker.state == "closed"


@both
def test_a_stack_of_another_context_finds_its_own_block(make: Make) -> None:
    clock = Clock()
    breaker = quick(make, clock)
    early = session(breaker)
    Context().run(next, early)
    fail(breaker)
    clock.ns += OPEN_NS
    stack = contextlib.ExitStack()
    Context().run(stack.enter_context, breaker)
    Context().run(stack.close)
    Context().run(end, early, wrong=True)
    assert breaker.state == "closed", "neither is taken for the other"


@both
@SESSIONS
@pytest.mark.parametrize("early_first", [True, False])
def test_blocks_of_several_kinds_are_told_apart_by_their_frames(
    begin: Callable[..., Session], make: Make, early_first: bool
) -> None:
    clock = Clock()
    breaker = quick(make, clock, probes=2, successes=3)
    early = [begin(breaker) for _ in range(2)]
    for each in early:
        Context().run(next, each)
    fail(breaker)
    clock.ns += OPEN_NS
    probes = [begin(breaker) for _ in range(2)]
    for each in probes:
        Context().run(next, each)
    last, first = (probes, early) if early_first else (early, probes)
    for each in (*first, *last):
        Context().run(end, each, wrong=each in early)
    assert breaker.state == "half_open"
    with breaker:
        pass
    assert breaker.state == "closed", "all three were heard"


@both
def test_guards_of_a_stack_are_exact(make: Make) -> None:
    clock = Clock()
    breaker = quick(make, clock)
    early, stack = contextlib.ExitStack(), contextlib.ExitStack()
    early.enter_context(breaker.guard())
    fail(breaker)
    clock.ns += OPEN_NS
    stack.enter_context(breaker.guard())
    Context().run(early.close)
    assert breaker.state == "half_open"
    Context().run(stack.close)
    assert breaker.state == "closed"


def test_a_guard_is_for_one_block_at_a_time() -> None:
    breaker = meshcore.CircuitBreaker(failures=1)
    guard = breaker.guard()
    with pytest.raises(RuntimeError, match="not entered"):
        guard.__exit__(None, None, None)
    with guard, pytest.raises(RuntimeError, match="one block at a time"), guard:
        pytest.fail("entered twice")
    with guard as permit:
        permit.failure()
    assert breaker.state == "open", "the block knew better"


async def test_a_guard_for_async_with() -> None:
    breaker = meshcore.CircuitBreaker(failures=1)
    with pytest.raises(RuntimeError):
        async with breaker.guard():
            raise RuntimeError
    assert breaker.state == "open"


@both
@SESSIONS
def test_a_permit_that_never_returns_ends(begin: Callable[..., Session], make: Make) -> None:
    clock = Clock()
    breaker = half_open(make, clock, probe_timeout="5s")
    lost = begin(breaker)
    Context().run(next, lost)
    clock.ns += 4_000_000_000
    with pytest.raises(meshcore.BreakerOpen), breaker:
        pytest.fail("a second probe")
    clock.ns += 3_000_000_000
    with breaker:
        pass
    assert breaker.state == "closed"
    Context().run(end, lost, wrong=True)
    assert breaker.state == "closed", "it came too late"


@both
@SESSIONS
def test_closing_by_hand_heals(begin: Callable[..., Session], make: Make) -> None:
    clock = Clock()
    breaker = half_open(make, clock)
    lost = begin(breaker)
    Context().run(next, lost)
    breaker.force_closed()
    for _ in range(3):
        with breaker:
            pass
        with pytest.raises(RuntimeError), breaker:
            raise RuntimeError
        assert breaker.state == "open"
        breaker.force_closed()
    end(lost)
    assert breaker.state == "closed"


@both
def test_nested_calls_of_one_breaker_recover(make: Make) -> None:
    clock = Clock()
    breaker = half_open(make, clock)

    @breaker
    def inner(wrong: bool = False) -> None:
        with breaker, breaker.guard():
            breaker.call(int)
            if wrong:
                raise RuntimeError

    @breaker
    def outer(wrong: bool = False) -> None:
        inner(wrong)

    with pytest.raises(RuntimeError):
        outer(wrong=True)
    assert breaker.state == "open"
    clock.ns += OPEN_NS
    outer()
    assert breaker.state == "closed"


@both
async def test_nested_async_calls_recover_in_tasks_of_their_own(make: Make) -> None:
    breaker = half_open(make, Clock())

    @breaker
    async def inner() -> None:
        await asyncio.to_thread(breaker.call, int)

    @breaker
    async def outer() -> None:
        await asyncio.gather(asyncio.wait_for(inner(), 30), inner())
        assert breaker.state == "half_open", "the outer call says it"

    await outer()
    assert breaker.state == "closed"


async def test_who_is_not_within_the_probe_is_refused() -> None:
    breaker = half_open(own, Clock())
    entered, gate = asyncio.Event(), asyncio.Event()

    @breaker
    async def probe() -> None:
        asked = asyncio.create_task(late())
        entered.set()
        await gate.wait()
        late_tasks.append(asked)

    async def late() -> None:
        await asyncio.sleep(0)
        await gone.wait()
        async with breaker:
            pass

    late_tasks: list[asyncio.Task[None]] = []
    gone = asyncio.Event()
    task = asyncio.create_task(probe())
    await entered.wait()
    with pytest.raises(meshcore.BreakerOpen):
        breaker.acquire()
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    held = breaker.acquire()  # another's probe
    gone.set()
    (child,) = [each for each in asyncio.all_tasks() if each is not asyncio.current_task()]
    with pytest.raises(meshcore.BreakerOpen):
        await child
    held.success()


class Anywhere(RuleBasedStateMachine):
    """Blocks that begin and end in any context and order, beside a twin that is told by hand."""

    def __init__(self) -> None:
        super().__init__()
        self.clock = Clock()
        self.breaker = quick(own, self.clock, successes=2, probes=3)
        self.twin = quick(own, self.clock, successes=2, probes=3)
        self.contexts = [Context() for _ in range(3)]
        self.open: list[tuple[Session, meshcore.CircuitBreaker, Any]] = []

    @rule(seconds=st.sampled_from([1, 40]))
    def wait(self, seconds: int) -> None:
        self.clock.ns += seconds * OPEN_NS

    @rule(at=st.integers(0, 2), begin=st.sampled_from([session, guarded_session]))
    def enter(self, at: int, begin: Callable[..., Session]) -> None:
        context, block, guard = self.contexts[at], begin(self.breaker), self.twin.guard()
        try:
            context.run(guard.__enter__)
        except meshcore.BreakerOpen:
            with pytest.raises(meshcore.BreakerOpen):
                context.run(next, block)
        else:
            context.run(next, block)
            self.open.append((block, self.twin, guard))

    @precondition(lambda self: self.open)
    @rule(at=st.integers(0, 2), which=st.integers(0, 99), wrong=st.booleans())
    def leave(self, at: int, which: int, wrong: bool) -> None:
        block, _, guard = self.open.pop(which % len(self.open))
        self.contexts[at].run(end, block, wrong)
        error = RuntimeError() if wrong else None
        self.contexts[at].run(guard.__exit__, error and RuntimeError, error, None)

    @rule(close=st.booleans())
    def turn(self, close: bool) -> None:
        """What is open is of an earlier epoch from now on; half-open, unless closed."""
        for each in (self.breaker, self.twin):
            each.force_open(1)
            if close:
                each.force_closed()
        self.clock.ns += OPEN_NS

    @invariant()
    def both_stand_alike(self) -> None:
        assert self.breaker.state == self.twin.state

    def teardown(self) -> None:
        for block, _, _ in self.open:
            block.close()


class AnyManager(RuleBasedStateMachine):
    """With blocks of stacks, of which some cannot be told apart: none raises, none is lost."""

    def __init__(self) -> None:
        super().__init__()
        self.clock = Clock()
        self.breaker = quick(own, self.clock)
        self.contexts = [Context() for _ in range(3)]
        self.open: list[Callable[[], None]] = []

    @rule(seconds=st.sampled_from([1, 3]))
    def wait(self, seconds: int) -> None:
        self.clock.ns += seconds * OPEN_NS

    @rule(at=st.integers(0, 2), stacked=st.booleans())
    def enter(self, at: int, stacked: bool) -> None:
        with contextlib.suppress(meshcore.BreakerOpen):
            if stacked:
                stack = contextlib.ExitStack()
                self.contexts[at].run(stack.enter_context, self.breaker)
                self.open.append(stack.close)
            else:
                block = session(self.breaker)
                self.contexts[at].run(next, block)
                self.open.append(block.close)

    @precondition(lambda self: self.open)
    @rule(at=st.integers(0, 2), which=st.integers(0, 99))
    def leave(self, at: int, which: int) -> None:
        self.contexts[at].run(self.open.pop(which % len(self.open)))

    @rule()
    def fail(self) -> None:
        with contextlib.suppress(meshcore.BreakerOpen):
            fail(self.breaker)

    def teardown(self) -> None:
        for close in self.open:
            close()
        with pytest.raises(RuntimeError, match="not entered"):
            self.breaker.__exit__(None, None, None)
        # No place is held by anybody, and the next blocks are as the first.
        self.breaker.force_open(1)
        self.clock.ns += OPEN_NS
        with self.breaker:
            pass
        assert self.breaker.state == "closed"
        with pytest.raises(RuntimeError), self.breaker:
            raise RuntimeError
        assert self.breaker.state == "open"


for machine in (Anywhere, AnyManager):
    machine.TestCase.settings = settings(max_examples=200, stateful_step_count=30)
TestAnywhere = Anywhere.TestCase
TestAnyManager = AnyManager.TestCase


def test_many_threads_leave_each_others_blocks() -> None:
    """Sessions wander between threads while the breaker opens and closes: each ends once."""
    breaker = meshcore.CircuitBreaker(
        failures=1, successes=1, failure_percent=0, open_for="1ms", probes=8
    )
    handed: list[Session] = []
    lock = threading.Lock()

    def work(number: int) -> int:
        ended = 0
        for turn in range(400):
            block = session(breaker)
            try:
                contextvars.copy_context().run(next, block)
            except meshcore.BreakerOpen:
                continue
            with lock:
                handed.append(block)
                other = handed.pop((number * turn) % len(handed))
            end(other, wrong=turn % 7 == 0)
            ended += 1
        return ended

    with ThreadPoolExecutor(8) as pool:
        assert sum(pool.map(work, range(8))) > 0
    assert not handed
    with pytest.raises(RuntimeError, match="not entered"):
        breaker.__exit__(None, None, None)
    breaker.force_closed()
    with breaker:
        pass
    assert breaker.state == "closed"


@both
def test_a_lost_probe_does_not_open_the_way_for_its_context(make: Make) -> None:
    """A generator that stands still leaves its context within the probe, but not for ever."""
    clock = Clock()
    breaker = half_open(make, clock, successes=2, probe_timeout="2s")
    lost = session(breaker)
    next(lost)
    breaker.acquire().success()  # within
    clock.ns += 4 * OPEN_NS
    probe = breaker.acquire()
    with pytest.raises(meshcore.BreakerOpen):
        Context().run(breaker.acquire)
    probe.success()
    breaker.acquire().success()
    assert breaker.state == "closed"
    end(lost)


def in_a_child(work: Callable[[], None]) -> None:
    """Runs in a fork of this process, which then ends without a word."""
    child = os.fork()
    if child == 0:
        try:
            work()
            os._exit(0)
        except BaseException:
            traceback.print_exc()
        finally:
            os._exit(1)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0


@both
def test_blocks_that_are_open_at_a_fork_end_in_either_process(make: Make) -> None:
    clock = Clock()
    breaker = quick(make, clock, probes=2)
    blocks = [session(breaker) for _ in range(2)]
    Context().run(next, blocks[0])
    fail(breaker)
    clock.ns += OPEN_NS
    Context().run(next, blocks[1])

    def work() -> None:
        for block in blocks:
            Context().run(end, block)
        with breaker:
            pass
        with pytest.raises(RuntimeError, match="not entered"):
            breaker.__exit__(None, None, None)

    in_a_child(work)
    assert breaker.state == ("half_open" if make is own else "closed")
    for block in blocks:
        Context().run(end, block)
    assert breaker.state == "closed"


def test_a_probe_of_a_process_that_died_ends() -> None:
    clock, state = Clock(), meshcore.SharedState()
    breaker = state.circuit_breaker(
        "db", failures=1, successes=1, open_for="1s", probe_timeout="2s", clock=clock
    )
    fail(breaker)
    clock.ns += OPEN_NS
    lost: list[object] = []
    in_a_child(lambda: lost.append(breaker.acquire()))
    with pytest.raises(meshcore.BreakerOpen):
        breaker.acquire()
    clock.ns += 4 * OPEN_NS
    breaker.acquire().success()
    assert breaker.state == "closed"


def blocks_held() -> set[Block]:
    """By whomever."""
    return {each for each in gc.get_objects() if isinstance(each, Block)}


@both
@pytest.mark.parametrize("rules", [{"on_call": lambda _: None}, {"slow_call": "1h"}])
@pytest.mark.parametrize("form", ["block", "guard"])
async def test_workers_that_begin_their_successors_hold_none_that_are_over(
    make: Make, rules: dict[str, Any], form: str
) -> None:
    breaker = make(**rules)
    over = asyncio.Event()
    others = blocks_held()  # of tests before, whose errors somebody keeps

    async def work(left: int) -> None:
        with breaker if form == "block" else breaker.guard():
            successor = asyncio.create_task(work(left - 1)) if left else None
            await asyncio.sleep(0)
            if successor is None:
                assert len(blocks_held() - others) < 20
                over.set()

    worker = asyncio.create_task(work(300))
    await asyncio.wait_for(over.wait(), 30)
    await worker
