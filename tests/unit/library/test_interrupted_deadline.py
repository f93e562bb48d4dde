"""A handler of a signal may raise as the block of a deadline begins or ends: whatever it breaks
off, no block is left behind, and nobody is cut off by one that is over."""

from __future__ import annotations

import asyncio
import gc
from collections.abc import Callable, Iterator
from contextlib import AsyncExitStack, ExitStack, suppress
from contextvars import copy_context
from typing import Any

import pytest
import uvloop

import meshcore
from meshcore import Deadline
from meshcore.library import deadline as deadlines
from tests.unit.library.interrupting import (
    STEP,
    Interrupted,
    del_frames,
    everywhere,
    interrupted,
)

# Of asyncio's, which was made and not run when the handler raised.
pytestmark = [
    pytest.mark.filterwarnings("ignore:coroutine .* was never awaited:RuntimeWarning"),
    pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning"),
]


@pytest.fixture(autouse=True)
def nothing_is_left_to_other_tests() -> Iterator[None]:
    """Such a coroutine would be told of in the test that happens to collect it."""
    yield
    gc.collect()


def block(deadline: Deadline) -> None:
    with deadline:
        pass


def nested(deadline: Deadline) -> None:
    with deadline, deadline, Deadline(20):
        pass


def by_stack(deadline: Deadline) -> None:
    with ExitStack() as stack:
        stack.enter_context(deadline)


@pytest.mark.parametrize("use", [block, nested, by_stack])
def test_blocks(use: Callable[[Deadline], None]) -> None:
    def case(at: int) -> BaseException | None:
        around, deadline = Deadline(100), Deadline(50)
        with around:
            error = interrupted(at, lambda: use(deadline), stacks=True)
            if use is by_stack:  # it may yet leave what it has noted, as long as it is there
                del_frames(error)
            assert (deadlines.left_ns() or 0) > 60e9
            assert not deadline._open
            with deadline:
                assert (deadlines.left_ns() or 0) < 60e9
            assert (deadlines.left_ns() or 0) > 60e9
        assert deadlines.left_ns() is None
        assert not around._open
        return error

    assert everywhere(case) > 100


def test_a_stack_that_is_kept_and_has_not_noted_a_block() -> None:
    """Whoever goes on with it is held by that deadline no more, nor cut off by it."""

    async def case(at: int) -> BaseException | None:
        deadline, stack = Deadline(0), AsyncExitStack()

        def enter() -> None:
            with suppress(StopIteration):
                stack.enter_async_context(deadline).send(None)

        error = interrupted(at, enter, stacks=True)
        if error is not None:
            noted = bool(stack._exit_callbacks)  # type: ignore[attr-defined]
            assert deadlines.left_ns() == (0 if noted else None)
            assert len(deadline._open) == noted
            if not noted:
                await asyncio.sleep(0.001)
        stack.pop_all()
        gc.collect()
        assert deadlines.left_ns() is None
        assert not deadline._open
        return error

    at = 1
    while asyncio.run(case(at)) is not None:
        at += STEP // 10 or 1
    assert at > 150


def test_a_stack_leaves_its_own_blocks_in_another_context() -> None:
    deadline, first, second = Deadline(50), ExitStack(), ExitStack()
    one, other = copy_context(), copy_context()
    one.run(first.enter_context, deadline)
    other.run(second.enter_context, deadline)
    first.close()
    assert one.run(deadlines.left_ns) is None
    assert other.run(deadlines.left_ns) is not None
    other.run(second.close)
    assert not deadline._open


async def async_block(deadline: Deadline) -> None:
    async with deadline:
        await asyncio.sleep(0)


async def async_stack(deadline: Deadline) -> None:
    async with AsyncExitStack() as stack:
        await stack.enter_async_context(deadline)
        await asyncio.sleep(0)


async def cut_off(deadline: Deadline) -> None:
    try:
        async with deadline, Deadline(0):
            await asyncio.sleep(60)
    except meshcore.DeadlineExceeded:
        return
    raise AssertionError("it was cut off")


@pytest.mark.parametrize("new_loop", [asyncio.new_event_loop, uvloop.new_event_loop])
@pytest.mark.parametrize("use", [async_block, async_stack, cut_off])
def test_async_blocks(new_loop: Callable[[], Any], use: Callable[[Deadline], Any]) -> None:
    loop = new_loop()
    loop.set_exception_handler(lambda _loop, _told: None)

    async def run(deadline: Deadline) -> None:
        error: BaseException | None = None
        try:
            await asyncio.wait_for(use(deadline), 10)
        except Interrupted as broken_off:
            error = broken_off  # as whoever reports it keeps it
            if use is async_stack:
                del_frames(error)
        assert deadlines.left_ns() is None
        await asyncio.sleep(0)
        assert not deadline._open
        if error is not None:
            raise error

    def case(at: int) -> BaseException | None:
        deadline = Deadline(50)
        error = interrupted(at, lambda: loop.run_until_complete(run(deadline)), stacks=True)
        if error is not None:
            error.__traceback__ = error.__context__ = None  # asyncio's coroutines are in there
        return error

    assert everywhere(case) > 150
    loop.close()


async def test_a_task_that_goes_on_is_not_cut_off_by_a_block_that_was_broken_off() -> None:
    """Its timer may have been set when it was."""

    async def work(at: int) -> BaseException | None:
        error = begun = None
        deadline = Deadline(0)
        try:
            begun = interrupted(at, deadline.__aenter__)
            if begun is None:
                await deadline.__aexit__(None, None, None)
        except TimeoutError:
            pass
        except BaseException as other:
            error = other
        assert error is None
        assert deadlines.left_ns() is None
        await asyncio.sleep(0.001)
        if begun is not None:
            begun.__traceback__ = None
        return begun

    at = 1
    while await work(at) is not None:
        at += STEP // 10 or 1
    assert at > 50
