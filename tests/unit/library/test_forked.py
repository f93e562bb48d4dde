"""The child of a fork has copies of what its parent holds: they are the parent's to give back."""

from __future__ import annotations

import asyncio
import contextlib
import contextvars
import gc
import multiprocessing
import os
import sys
import threading
import time
import traceback
from collections.abc import Callable, Generator, Iterator
from typing import Any

import pytest

import meshcore
from meshcore import CircuitBreaker, SharedState

# What CPython says from 3.12 on of a fork beside threads is what is tried here.
pytestmark = pytest.mark.filterwarnings("ignore:.*multi-threaded.*fork:DeprecationWarning")

SLOW = "1/h"


def by_os_exit(work: Callable[[], None]) -> None:
    if child := os.fork():
        assert os.waitpid(child, 0)[1] == 0
        return
    code = 1
    try:
        work()
        gc.collect()
        code = 0
    except BaseException:
        traceback.print_exc()
    finally:
        os._exit(code)


def by_sys_exit(work: Callable[[], None]) -> None:
    """The child unwinds its copy of the stack: whoever calls this ends its blocks."""
    if child := os.fork():
        assert os.waitpid(child, 0)[1] == 0
        return
    work()
    sys.exit(0)


def by_multiprocessing(work: Callable[[], None]) -> None:
    process = multiprocessing.get_context("fork").Process(target=work)
    process.start()
    process.join(60)
    assert process.exitcode == 0


@pytest.fixture(params=[by_os_exit, by_sys_exit, by_multiprocessing])
def fork(request: pytest.FixtureRequest) -> Iterator[Callable[..., None]]:
    """Forks a child that does something and ends."""
    parent = os.getpid()

    def forked(work: Callable[[], None] = lambda: None) -> None:
        request.param(work)

    try:
        yield forked
    finally:
        assert os.getpid() == parent


def in_fork_that_unwinds(case: Callable[[], None]) -> None:
    """A case that forks: its child leaves it, and is ended here."""
    parent, ended = os.getpid(), 1
    try:
        case()
        ended = 0
    except SystemExit as over:
        ended = int(over.code or 0)
        if os.getpid() == parent:
            raise
    finally:
        if os.getpid() != parent:
            gc.collect()
            os._exit(ended)


def probing() -> tuple[CircuitBreaker, SharedState]:
    """A breaker that lets one probe pass."""
    state = SharedState()
    breaker = state.circuit_breaker(
        "x", failures=1, open_for="1ms", successes=1, failure_on=OSError
    )
    breaker.acquire().failure()
    time.sleep(0.002)
    return breaker, state


def is_taken(breaker: CircuitBreaker) -> bool:
    """Whether a probe is under way."""
    assert breaker.state == "half_open"

    def asked() -> bool:
        try:
            breaker.acquire().cancel()
        except meshcore.BreakerOpen:
            return True
        return False

    # Not as a part of it.
    return contextvars.Context().run(asked)


def held_by(what: str, breaker: CircuitBreaker) -> Any:
    """A probe's permit, in the hands of what is to be kept."""
    if what == "permit":
        return breaker.acquire()
    if what == "guard":
        guard = breaker.guard()
        guard.__enter__()
        return guard

    def block() -> Generator[None]:
        with breaker:
            yield

    async def tasks_block() -> None:
        async with breaker:
            await asyncio.sleep(0)

    @breaker
    async def decorated() -> None:
        await asyncio.sleep(0)

    if what == "generator":
        begun: Any = block()
        next(begun)
    else:
        begun = tasks_block() if what == "coroutine" else decorated()
        begun.send(None)
    return begun


@pytest.mark.parametrize("what", ["permit", "guard", "generator", "coroutine", "decorated"])
def test_a_child_that_ends_leaves_the_probes_place(what: str, fork: Callable[..., None]) -> None:
    def case() -> None:
        breaker, _state = probing()
        held = [held_by(what, breaker)]
        fork(held.clear)
        assert is_taken(breaker), "the child gave it back"
        held.clear()
        gc.collect()
        assert not is_taken(breaker)

    in_fork_that_unwinds(case)


def test_a_child_that_leaves_its_parents_block_says_nothing_of_it() -> None:
    def case() -> None:
        state = SharedState()
        breaker = state.circuit_breaker("x", failures=1, failure_on=OSError)
        try:
            with breaker:
                if not (child := os.fork()):
                    with breaker:
                        pass  # its own, which it may tell of
                    raise OSError
                assert os.waitpid(child, 0)[1] == 0
        except OSError:
            assert breaker.snapshot().total_failures == 0
            raise SystemExit(0) from None
        assert breaker.state == "closed", "the child's failure"
        assert breaker.snapshot().calls == 2, "the child's own, and this"

    in_fork_that_unwinds(case)


def test_a_child_that_leaves_a_call_says_nothing_of_it(fork: Callable[..., None]) -> None:
    def case() -> None:
        breaker, _state = probing()

        def call() -> None:
            fork()
            assert is_taken(breaker), "the child gave it back"

        breaker.call(call)
        assert breaker.state == "closed"

    in_fork_that_unwinds(case)


def test_a_private_breakers_child_has_its_own() -> None:
    breaker = CircuitBreaker(failures=1, open_for="1ms", successes=1)
    breaker.acquire().failure()
    time.sleep(0.002)
    held = [breaker.acquire()]

    def work() -> None:
        held.clear()
        assert not is_taken(breaker)

    by_os_exit(work)
    assert is_taken(breaker)


def test_a_child_that_ends_leaves_the_budget(fork: Callable[..., None]) -> None:
    def case() -> None:
        state = SharedState()
        budget = state.retry_budget("x", floor=1)
        retry = meshcore.Retry(budget=budget, pause="1ms", min_pause="1ms")
        attempts = iter([OSError(), None])

        def call() -> None:
            if error := next(attempts):
                raise error
            fork()
            assert (budget.calls, budget.retries) == (1, 1)

        retry.call(call)
        assert (budget.calls, budget.retries) == (0, 0)

    in_fork_that_unwinds(case)


@pytest.mark.parametrize("shared", [False, True])
def test_a_child_that_retries_gives_its_retry_back(shared: bool) -> None:
    """Within a call that its parent began, and has counted."""

    def case() -> None:
        budget = SharedState().retry_budget("x", 0, 2) if shared else meshcore.RetryBudget(0, 2)
        retry = meshcore.Retry(budget=budget, pause="1ms", min_pause="1ms", on=OSError)
        forked: list[int] = []

        def call() -> None:
            if not forked:
                forked.append(os.fork())
                if forked[0] == 0:
                    raise OSError
                assert os.waitpid(forked[0], 0)[1] == 0
            elif forked[0] == 0:
                assert (budget.calls, budget.retries) == (int(shared), 1)

        retry.call(call)
        if forked[0] == 0:
            assert (budget.calls, budget.retries) == (int(shared), 0)
            raise SystemExit(0)
        assert (budget.calls, budget.retries) == (0, 0)

    in_fork_that_unwinds(case)


@pytest.mark.parametrize("kind", ["token_bucket", "client_limiter"])
def test_a_child_that_ends_leaves_who_waits(kind: str, fork: Callable[..., None]) -> None:
    """One that was served and has not run yet: the child drops its copy, tokens and all."""

    def case() -> None:
        state = SharedState()
        limiter: Any = getattr(state, kind)("x", SLOW, 2)
        of = ("a",) if kind == "client_limiter" else ()

        async def main() -> None:
            limiter.acquire(*of, 2)
            tasks = [asyncio.create_task(limiter.wait(*of)) for _ in range(2)]
            await asyncio.sleep(0)
            limiter.reset(*of)  # both are served
            coroutines = [task.get_coro() for task in tasks]

            def work() -> None:
                for coroutine in coroutines:
                    assert coroutine is not None
                    coroutine.close()

            fork(work)
            left = limiter.remaining(*of) if of else limiter.remaining
            assert left == 0, "the child gave them back"
            await asyncio.gather(*tasks)

        asyncio.run(main())

    in_fork_that_unwinds(case)


def test_a_child_of_a_thread_that_waits(fork: Callable[..., None]) -> None:
    def case() -> None:
        bucket = SharedState().token_bucket("x", SLOW, 1)
        bucket.acquire()
        thread = threading.Thread(target=bucket.wait_blocking, daemon=True)
        thread.start()
        fork()
        assert bucket.remaining == 0
        bucket.reset()
        thread.join(10)
        assert not thread.is_alive()
        assert bucket.remaining == 0

    in_fork_that_unwinds(case)


@pytest.mark.parametrize("named", [True, False])
def test_a_child_that_ends_leaves_the_state(named: bool, fork: Callable[..., None]) -> None:
    name = f"test-{os.getpid()}-{time.monotonic_ns()}" if named else None

    def case() -> None:
        states = [SharedState(name)]
        bucket = states[0].token_bucket("x", SLOW, 2)
        fork(states.clear)
        assert bucket.try_acquire()
        assert states[0].token_bucket("x", SLOW, 2).try_acquire()
        assert states[0].token_bucket("y", SLOW, 1).try_acquire()
        assert name is None or SharedState(name).token_bucket("y", SLOW, 1).remaining == 0

    try:
        in_fork_that_unwinds(case)
    finally:
        if name is not None:
            SharedState.unlink(name)


@pytest.mark.parametrize("is_shared", [False, True])
@pytest.mark.parametrize("way", ["with", "stack", "async"])
def test_blocks_of_threads_that_a_child_does_not_have_are_no_burden(
    is_shared: bool, way: str, fork: Callable[..., None], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Blocks of a closed breaker are only counted, once no others are under way."""
    breaker, _state = probing()
    if not is_shared:
        breaker = CircuitBreaker(failures=1, open_for="1ms", successes=1)
        breaker.acquire().failure()
        time.sleep(0.002)
    inside, over = threading.Event(), threading.Event()

    def hold() -> None:
        if way == "async":
            asyncio.run(hold_async())
        elif way == "stack":
            with contextlib.ExitStack() as stack:
                stack.enter_context(breaker)
                inside.set()
                over.wait()
        else:
            with breaker:
                inside.set()
                over.wait()

    async def hold_async() -> None:
        async with breaker:
            inside.set()
            over.wait()

    def work() -> None:
        kept: list[object] = []
        if is_shared:
            assert is_taken(breaker), "the probe is the parent's"
            breaker.force_closed()
        with breaker:  # of its own words a child has the probe's place
            pass
        assert breaker.state == "closed"
        monkeypatch.setattr(CircuitBreaker, "_keep", lambda _self, permit: kept.append(permit))
        for _ in range(3):
            with breaker:
                pass
        assert kept == []
        assert breaker._blocks.inherit() == 0

    thread = threading.Thread(target=hold)
    thread.start()
    assert inside.wait(10)
    try:
        in_fork_that_unwinds(lambda: fork(work))
    finally:
        over.set()
        thread.join(10)
    if not is_shared:
        assert breaker.state == "closed"


def test_blocks_of_the_thread_that_forks_end_in_the_child_too(fork: Callable[..., None]) -> None:
    """Beside those of another thread, which do not."""
    breaker = CircuitBreaker(failures=1, open_for="1ms", successes=3, probes=3)
    breaker.acquire().failure()
    time.sleep(0.002)
    inside, over = threading.Event(), threading.Event()

    def hold() -> None:
        with breaker:
            inside.set()
            over.wait()

    def case() -> None:
        with breaker, contextlib.ExitStack() as stack:
            stack.enter_context(breaker)
            fork()
        breaker.call(int)
        assert breaker.state in ("half_open", "closed")

    thread = threading.Thread(target=hold)
    thread.start()
    assert inside.wait(10)
    try:
        in_fork_that_unwinds(case)
    finally:
        over.set()
        thread.join(10)
