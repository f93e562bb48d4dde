"""A handler of a signal may raise between any two instructions: the others go on all the same."""

from __future__ import annotations

import asyncio
import fcntl
import os
import threading
import time
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import AsyncExitStack, ExitStack, suppress
from typing import Any

import pytest
import uvloop

import meshcore
from meshcore.library import waiting
from tests.unit.library.interrupting import STEP, Interrupted, del_frames, everywhere, interrupted

KINDS = ["bucket", "clients", "shared_bucket", "shared_clients"]
FAST, SLOW = "10000/s", "1/h"
Limiter = tuple[Any, tuple[Any, ...]]
Make = Callable[[str], Limiter]


@pytest.fixture(params=KINDS)
def make(request: pytest.FixtureRequest) -> Make:
    """A limiter without tokens, of a burst of 5, and what its calls name before the tokens."""
    kind, state = request.param, meshcore.SharedState()

    def one(rate: str) -> Limiter:
        limiter: Any
        if kind == "bucket":
            limiter = meshcore.TokenBucket(rate, 5)
        elif kind == "clients":
            limiter = meshcore.ClientLimiter(rate, 5)
        elif kind == "shared_bucket":
            limiter = state.token_bucket(rate, rate, 5)
        else:
            limiter = state.client_limiter(rate, rate, 5)
        of = ("a",) if "clients" in kind else ()
        limiter.reset(*of)
        limiter.acquire(*of, 5)
        return limiter, of

    return one


def passes(call: Callable[..., object], *args: object) -> None:
    """In a thread of its own."""
    thread = threading.Thread(target=call, args=args, daemon=True)
    thread.start()
    thread.join(10)
    assert not thread.is_alive()


def is_empty(limiter: Any) -> bool:
    if isinstance(limiter, meshcore.TokenBucket):
        line = limiter.__dict__.get("_line")
        return line is None or not (line._waiting or line._threads or line._timers)
    return not limiter._lines._lines


def waits(limiter: Any, count: int, last: threading.Thread) -> None:
    """Until so many wait, or the last of them does no more."""

    def there() -> int:
        if isinstance(limiter, meshcore.TokenBucket):
            return len(limiter.__dict__.get("_line") or ())
        return sum(map(len, limiter._lines._lines.values()))

    until = time.monotonic() + 10
    while there() < count and last.is_alive():
        assert time.monotonic() < until
        time.sleep(0)


def test_a_thread_that_waits(make: Make) -> None:
    def case(at: int) -> BaseException | None:
        limiter, of = make(FAST)
        error = interrupted(at, lambda: limiter.wait_blocking(*of, 2))
        passes(limiter.wait_blocking, *of, 2)
        assert is_empty(limiter)
        return error

    assert everywhere(case) > 250


def test_a_thread_whose_time_is_over(make: Make) -> None:
    def case(at: int) -> BaseException | None:
        limiter, of = make(SLOW)

        def work() -> None:
            with suppress(meshcore.RateLimited):
                limiter.wait_blocking(*of, 2, timeout="1us")

        error = interrupted(at, work)
        limiter.reset(*of)
        passes(limiter.wait_blocking, *of, 5)
        assert is_empty(limiter)
        return error

    assert everywhere(case) > 250


@pytest.mark.parametrize("place", ["before", "behind"])
def test_a_thread_among_others(make: Make, place: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Whoever it was to wake, or waits behind it, has its turn."""
    others: list[threading.Thread] = []
    sleep = waiting._Thread.sleep

    def begin(limiter: Any, of: Any) -> None:
        for _ in range(2):
            others.append(threading.Thread(target=limiter.wait_blocking, args=(*of, 2)))
            others[-1].start()
            waits(limiter, len(others) + (place == "before"), others[-1])

    def case(at: int) -> BaseException | None:
        limiter, of = make("1000/s")
        others.clear()

        def sleep_before_others(self: Any, limit_ns: int | None) -> None:
            if threading.current_thread() is threading.main_thread() and not others:
                begin(limiter, of)
            sleep(self, limit_ns)

        if place == "before":
            monkeypatch.setattr(waiting._Thread, "sleep", sleep_before_others)
        else:
            begin(limiter, of)
        error = interrupted(at, lambda: limiter.wait_blocking(*of, 5))
        for other in others:
            other.join(10)
            assert not other.is_alive()
        assert is_empty(limiter)
        return error

    assert everywhere(case) > 250


def test_whoever_gives_back(make: Make) -> None:
    """A thread that waits for what is given back has it: with this call or with the next."""

    def case(at: int) -> BaseException | None:
        limiter, of = make(SLOW)
        thread = threading.Thread(target=limiter.wait_blocking, args=(*of, 2))
        thread.start()
        waits(limiter, 1, thread)
        error = interrupted(at, lambda: limiter.reset(*of))
        if error is not None:
            limiter.reset(*of)
        thread.join(10)
        assert not thread.is_alive()
        assert is_empty(limiter)
        return error

    assert everywhere(case) > 60


@pytest.mark.parametrize("new_loop", [asyncio.new_event_loop, uvloop.new_event_loop])
@pytest.mark.parametrize("timeout", [None, "1ms"])
@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")
def test_tasks_and_their_loop(make: Make, new_loop: Callable[[], Any], timeout: str | None) -> None:
    """Whatever is broken off, in a task or between them, ends nothing but itself."""
    loop = new_loop()
    loop.set_exception_handler(lambda _loop, _told: None)

    async def come(limiter: Any, of: Any, ended: list[str], limit: Any = None) -> None:
        try:
            await limiter.wait(*of, 3, timeout=limit)
            ended.append("served")
        except meshcore.RateLimited:
            ended.append("refused")
        except Interrupted:
            ended.append("interrupted")

    async def main(limiter: Any, of: Any) -> None:
        ended: list[str] = []
        times = timeout, None, None
        tasks = [asyncio.create_task(come(limiter, of, ended, limit)) for limit in times]
        await asyncio.wait(tasks, timeout=10)
        assert len(ended) == 3, ended

    def case(at: int) -> BaseException | None:
        limiter, of = make("5000/s")
        error = interrupted(at, lambda: loop.run_until_complete(main(limiter, of)))
        passes(limiter.wait_blocking, *of, 2)
        assert is_empty(limiter)
        return error

    assert everywhere(case) > 700
    loop.close()


# --- states ---------------------------------------------------------------------------------------


@pytest.fixture
def name() -> Iterator[str]:
    name = f"test-{os.getpid()}-{time.monotonic_ns()}"
    yield name
    meshcore.SharedState.unlink(name)


def is_locked(state: meshcore.SharedState) -> bool:
    """For other processes."""
    if not (child := os.fork()):
        fd = os.open(f"/proc/self/fd/{state.fileno()}", os.O_RDWR)
        try:
            fcntl.lockf(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
            fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            os._exit(7)
        os._exit(0)
    return os.waitpid(child, 0)[1] != 0


STATES: dict[str, Callable[[meshcore.SharedState, str, int], object]] = {
    "make": lambda state, _name, at: state.token_bucket(f"x{at}", SLOW),
    "make_breaker": lambda state, _name, at: state.circuit_breaker(f"x{at}"),
    "remove": lambda state, _name, at: state.remove(f"x{at - STEP}"),
    "open": lambda _state, name, _at: meshcore.SharedState(name),
    "begin": lambda _state, name, at: meshcore.SharedState(f"{name}-{at}"),
}


@pytest.mark.filterwarnings("ignore:.*multi-threaded.*fork:DeprecationWarning")
# Of a state that goes meanwhile: nobody is there to whom it could be raised.
@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")
@pytest.mark.parametrize("what", STATES)
def test_whoever_has_a_states_lock(what: str, name: str) -> None:
    state = meshcore.SharedState(name)

    def case(at: int) -> BaseException | None:
        error = interrupted(at, lambda: STATES[what](state, name, at))
        passes(state.token_bucket, f"y{at}", SLOW)
        assert not is_locked(state)
        if what == "begin":
            passes(meshcore.SharedState, f"{name}-{at}")
            meshcore.SharedState.unlink(f"{name}-{at}")
        return error

    assert everywhere(case) > 60


# --- breakers -------------------------------------------------------------------------------------


def with_block(breaker: meshcore.CircuitBreaker) -> None:
    with breaker:
        pass


def with_block_of_another(breaker: meshcore.CircuitBreaker) -> None:
    with ExitStack() as stack:
        stack.enter_context(breaker)


async def with_block_of_another_async(breaker: meshcore.CircuitBreaker) -> None:
    async with AsyncExitStack() as stack:
        await stack.enter_async_context(breaker)


def with_guard(breaker: meshcore.CircuitBreaker) -> None:
    with breaker.guard():
        pass


async def with_block_async(breaker: meshcore.CircuitBreaker) -> None:
    async with breaker:
        pass


async def with_guard_async(breaker: meshcore.CircuitBreaker) -> None:
    async with breaker.guard():
        pass


def called(breaker: meshcore.CircuitBreaker) -> None:
    breaker.call(int)


def as_generator(breaker: meshcore.CircuitBreaker) -> None:
    @breaker
    def items() -> Iterator[int]:
        yield 1

    assert list(items()) == [1]


async def as_coroutine(breaker: meshcore.CircuitBreaker) -> None:
    await breaker(asyncio.sleep)(0)


async def with_fallback(breaker: meshcore.CircuitBreaker) -> None:
    await breaker(fallback=asyncio.sleep)(asyncio.sleep)(0)


async def as_async_generator(breaker: meshcore.CircuitBreaker) -> None:
    @breaker
    async def items() -> AsyncIterator[int]:
        yield 1

    assert [item async for item in items()] == [1]


USES = [
    with_block,
    with_block_of_another,
    with_block_of_another_async,
    with_guard,
    with_block_async,
    with_guard_async,
    called,
    as_generator,
    as_coroutine,
    with_fallback,
    as_async_generator,
]


def run(use: Callable[..., Any], breaker: meshcore.CircuitBreaker) -> None:
    running = use(breaker)
    if running is not None:
        try:
            while True:
                running.send(None)
        except StopIteration:
            pass


@pytest.mark.filterwarnings("ignore:coroutine .* was never awaited:RuntimeWarning")
@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")
@pytest.mark.parametrize("use", USES)
@pytest.mark.parametrize("shared", [False, True])
@pytest.mark.parametrize("state", ["half_open", "closed"])
def test_the_blocks_of_a_breaker(use: Callable[..., Any], shared: bool, state: str) -> None:
    """Its place is given back, and no block is left that others would be taken for."""
    now = 1_000_000_000_000
    home = meshcore.SharedState()

    def clock_of_its_own() -> int:
        return now

    def case(at: int) -> BaseException | None:
        nonlocal now
        home.remove("x")
        rules: Any = {"failures": 1, "open_for": "1s", "successes": 2, "failure_on": OSError}
        rules |= {"clock": clock_of_its_own, "slow_call": "9s", "probe_timeout": "1h"}
        breaker = home.circuit_breaker("x", **rules) if shared else meshcore.CircuitBreaker(**rules)
        if state == "half_open":
            breaker.acquire().failure()
            now += 2_000_000_000
        error = interrupted(at, lambda: run(use, breaker), stacks=True)
        del_frames(error)
        assert not breaker._blocks._by_frame
        assert not breaker._blocks._others
        assert not breaker._blocks._claims
        assert breaker._enclosing() is None
        breaker.acquire().cancel()
        with suppress(OSError), breaker:
            raise OSError
        assert breaker.state == "open"
        return error

    everywhere(case)
