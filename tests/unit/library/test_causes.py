"""One failure counts once, however many calls of one breaker it ends."""

from __future__ import annotations

import asyncio
import contextlib
import copy
import dataclasses
import gc
import pickle
from collections.abc import Awaitable, Callable, Generator
from typing import Any

import pytest

import meshcore
from tests.unit.library.breakers import Make, both, half_open
from tests.unit.library.test_limiters import Clock

Breaker = meshcore.CircuitBreaker
Nested = Callable[[Breaker, Callable[[], None]], None]


def decorated_twice(breaker: Breaker, fail: Callable[[], None]) -> None:
    breaker(breaker(fail))()


def block_around_decorated(breaker: Breaker, fail: Callable[[], None]) -> None:
    with breaker:
        breaker(fail)()


def blocks(breaker: Breaker, fail: Callable[[], None]) -> None:
    with breaker, breaker, breaker:
        fail()


def guards(breaker: Breaker, fail: Callable[[], None]) -> None:
    with breaker.guard(), breaker, breaker.guard():
        breaker.call(fail)


def coroutines(breaker: Breaker, fail: Callable[[], None]) -> None:
    @breaker
    @breaker
    async def work() -> None:
        async with breaker:
            await asyncio.sleep(0)
            fail()

    asyncio.run(work())


def judged_coroutines(breaker: Breaker, fail: Callable[[], None]) -> None:
    def make() -> Awaitable[None]:
        async def work() -> None:
            fail()

        return work()

    async def main() -> None:
        await breaker(breaker(make))()

    asyncio.run(main())


def generators(breaker: Breaker, fail: Callable[[], None]) -> None:
    @breaker
    @breaker
    def items() -> Generator[int]:
        yield 1
        fail()

    list(items())


def recursive(breaker: Breaker, fail: Callable[[], None]) -> None:
    @breaker
    def down(left: int) -> None:
        down(left - 1) if left else fail()

    down(50)


def tasks(breaker: Breaker, fail: Callable[[], None]) -> None:
    async def inner() -> None:
        async with breaker:
            await asyncio.sleep(0)
            fail()

    async def main() -> None:
        async with breaker, asyncio.TaskGroup() as group:
            group.create_task(inner())

    try:
        asyncio.run(main())
    except ExceptionGroup as group:
        raise group.exceptions[0] from None


def other_error(breaker: Breaker, fail: Callable[[], None]) -> None:
    @breaker
    def outer() -> None:
        try:
            breaker.call(fail)
        except OSError as error:
            raise ValueError("no answer") from error

    with pytest.raises(ValueError, match="no answer") as caught:
        outer()
    raise caught.value.__cause__ or caught.value


NESTED = [
    decorated_twice,
    block_around_decorated,
    blocks,
    guards,
    coroutines,
    judged_coroutines,
    generators,
    recursive,
    tasks,
    other_error,
]
nestings = pytest.mark.parametrize("nested", NESTED)


def fail_anew() -> None:
    raise OSError


ONE = OSError("always this one")


def fail_the_same() -> None:
    raise ONE


@both
@nestings
@pytest.mark.parametrize("fail", [fail_anew, fail_the_same])
@pytest.mark.parametrize("extra", [{}, {"on_call": lambda _: None}])
def test_each_failure_counts_once(
    make: Make, nested: Nested, fail: Callable[[], None], extra: dict[str, Any]
) -> None:
    breaker = make(failures=4, failure_percent=0, **extra)
    for number in range(1, 4):
        with pytest.raises(OSError, match=r"^"):
            nested(breaker, fail)
        assert breaker.snapshot().failures_in_row == number
        assert breaker.snapshot().total_failures == number
    assert breaker.state == "closed"
    with pytest.raises(OSError, match=r"^"):
        nested(breaker, fail)
    assert breaker.state == "open"


@both
@nestings
def test_a_probe_that_fails_within_another_call_opens_it_once(make: Make, nested: Nested) -> None:
    breaker = half_open(make, Clock())
    with pytest.raises(OSError, match=r"^"):
        nested(breaker, fail_anew)
    assert breaker.state == "open"


def test_two_breakers_count_it_each() -> None:
    inner, outer = meshcore.CircuitBreaker(), meshcore.CircuitBreaker()
    with pytest.raises(OSError, match=r"^"), outer, outer, inner, outer:
        inner.call(fail_anew)
    assert inner.snapshot().total_failures == outer.snapshot().total_failures == 1


def test_attempts_within_a_call_are_causes_of_their_own() -> None:
    breaker = meshcore.CircuitBreaker(failures=9)
    for fail in (fail_anew, fail_the_same):
        retry = meshcore.Retry(3, min_pause=0, pause=0)
        with pytest.raises(OSError, match=r"^"), breaker:
            retry.call(breaker.call, fail)
    assert breaker.snapshot().failures_in_row == 6


def test_members_of_a_group_that_were_counted_are_not_again() -> None:
    breaker = meshcore.CircuitBreaker(failures=9)
    first, second = OSError(), OSError()

    def fail(error: OSError) -> None:
        raise error

    def both_fail(also: list[OSError]) -> None:
        for error in (first, second):
            with contextlib.suppress(OSError):
                breaker.call(fail, error)
        raise ExceptionGroup("", [ExceptionGroup("", [first]), second, *also])

    with pytest.raises(ExceptionGroup):
        breaker.call(both_fail, [])
    assert breaker.snapshot().total_failures == 2
    with pytest.raises(ExceptionGroup):
        breaker.call(both_fail, [OSError()])
    assert breaker.snapshot().total_failures == 5


@dataclasses.dataclass(frozen=True)
class FrozenError(Exception):
    code: int

    __hash__ = Exception.__hash__


class StrangeError(OSError):
    def __getattr__(self, name: str) -> Any:
        raise RuntimeError(name)


class OddError(OSError):
    def __getattr__(self, name: str) -> Any:
        return 7


@pytest.mark.parametrize(
    ("make", "counted"),
    [(lambda: FrozenError(7), 1), (StrangeError, 1), (OddError, 2)],
)
def test_exceptions_of_a_kind_of_their_own(make: Callable[[], Exception], counted: int) -> None:
    breaker = meshcore.CircuitBreaker()

    def fail() -> None:
        raise make()

    with pytest.raises((FrozenError, OSError)):
        breaker(breaker(fail))()
    assert breaker.snapshot().total_failures <= counted


def test_a_mark_is_copied_and_pickled_with_what_bears_it() -> None:
    breaker = meshcore.CircuitBreaker()
    with pytest.raises(OSError, match=r"^") as caught, breaker:
        breaker.call(fail_anew)
    for again in (copy.copy(caught.value), pickle.loads(pickle.dumps(caught.value))):
        assert isinstance(again, OSError)
        assert repr(again) == "OSError()"


def test_who_calls_one_thing_at_a_time_marks_nothing() -> None:
    breaker, error = meshcore.CircuitBreaker(failures=3), OSError()

    def fail() -> None:
        raise error

    for _ in range(3):
        with pytest.raises(OSError, match=r"^"):
            breaker.call(fail)
    assert vars(error) == {}
    assert breaker.state == "open"


def test_nothing_of_a_failure_is_kept() -> None:
    class Big:
        alive = 0

        def __init__(self) -> None:
            Big.alive += 1

        def __del__(self) -> None:
            Big.alive -= 1

    breaker = meshcore.CircuitBreaker()

    def fail() -> None:
        held = Big()
        raise OSError(held)

    with contextlib.suppress(OSError):
        breaker(breaker(fail))()
    gc.collect()
    assert Big.alive == 0
