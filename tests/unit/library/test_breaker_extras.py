"""What a breaker tells of itself, what else it may take for a failure, and what stands in."""

from __future__ import annotations

import asyncio
import contextlib
import sys
from collections.abc import AsyncIterator, Callable, Iterator
from contextvars import Context
from typing import Any

import pytest

import meshcore
from meshcore.library.breaker_events import BreakerSnapshot, CallEnded, StateChanged
from tests.unit.library.breakers import OPEN_NS, Make, both, fail, half_open, own, quick, shared
from tests.unit.library.test_limiters import Clock

RATE: dict[str, Any] = {"failures": 0, "failure_percent": 50, "min_calls": 4}


def end_block(breaker: meshcore.CircuitBreaker, error: BaseException | None) -> None:
    with contextlib.suppress(Exception), breaker:
        if error is not None:
            raise error


def end_async_block(breaker: meshcore.CircuitBreaker, error: BaseException | None) -> None:
    async def block() -> None:
        async with breaker:
            if error is not None:
                raise error

    with contextlib.suppress(Exception):
        asyncio.run(block())


def end_guard(breaker: meshcore.CircuitBreaker, error: BaseException | None) -> None:
    with contextlib.suppress(Exception), breaker.guard():
        if error is not None:
            raise error


def function(error: BaseException | None) -> None:
    if error is not None:
        raise error


async def async_function(error: BaseException | None) -> None:
    function(error)


def end_call(breaker: meshcore.CircuitBreaker, error: BaseException | None) -> None:
    with contextlib.suppress(Exception):
        breaker.call(function, error)


def end_decorated(breaker: meshcore.CircuitBreaker, error: BaseException | None) -> None:
    with contextlib.suppress(Exception):
        breaker(function)(error)


def end_async(breaker: meshcore.CircuitBreaker, error: BaseException | None) -> None:
    with contextlib.suppress(Exception):
        asyncio.run(breaker(async_function)(error))


def end_permit(breaker: meshcore.CircuitBreaker, error: BaseException | None) -> None:
    with contextlib.suppress(meshcore.BreakerOpen):
        breaker.acquire().end(error)


End = Callable[[meshcore.CircuitBreaker, BaseException | None], None]
every_way = pytest.mark.parametrize(
    "end",
    [end_block, end_async_block, end_guard, end_call, end_decorated, end_async, end_permit],
)


def test_a_name() -> None:
    breaker = meshcore.CircuitBreaker(name="db", failures=1)
    fail(breaker)
    with pytest.raises(meshcore.BreakerOpen, match="circuit breaker db is open, retry after"):
        breaker.acquire()
    assert breaker.name == "db"
    assert meshcore.CircuitBreaker().name is None
    assert shared().name == "db", "a shared one's is its name in the state"


@both
@every_way
def test_a_snapshot(end: End, make: Make) -> None:
    clock = Clock()
    breaker = make(clock=clock, failures=3, open_for="10s", failure_on=OSError)
    for error in (None, OSError(), ValueError(), OSError(), OSError()):
        end(breaker, error)
    found = breaker.snapshot()
    assert found == BreakerSnapshot(breaker.name, "closed", 0.0, 2, 5, 3, 2, 3, 0, 0)
    assert found.failure_percent == 60.0
    end(breaker, OSError())
    end(breaker, None)
    found = breaker.snapshot()
    assert (found.state, found.failures_in_row, found.calls) == ("open", 0, 0)
    assert 8.9 < found.retry_after <= 10.1
    assert (found.total_successes, found.total_failures) == (2, 4)
    assert (found.total_neutral, found.total_refused) == (0, 1)
    breaker.force_closed()
    end(breaker, meshcore.RateLimited())
    assert breaker.snapshot().total_neutral == 1
    assert breaker.snapshot().failure_percent == 0.0


@both
@every_way
def test_every_call_is_told(end: End, make: Make) -> None:
    clock = Clock()
    told: list[CallEnded] = []
    breaker = make(clock=clock, failures=1, failure_on=OSError, on_call=told.append)
    errors = [None, ValueError(), meshcore.RateLimited(), OSError(), None]
    for error in errors:
        end(breaker, error)
    assert [each.outcome for each in told] == [
        "success",
        "success",
        "neutral",
        "failure",
        "refused",
    ]
    assert [each.error for each in told[:4]] == errors[:4]
    assert isinstance(told[4].error, meshcore.BreakerOpen)
    assert all(each.breaker is breaker and each.seconds == 0 for each in told)


@both
def test_how_long_a_call_took_is_told(make: Make) -> None:
    clock = Clock()
    told: list[float] = []
    breaker = make(clock=clock, on_call=lambda call: told.append(call.seconds))

    def work(seconds: float) -> None:
        clock.ns += int(seconds * 1e9)

    breaker.call(work, 0.25)
    with breaker:
        work(1)
        with breaker.guard():
            work(0.5)
    assert told == [0.25, 0.5, 1.5]


@both
def test_changes_are_told(make: Make) -> None:
    clock = Clock()
    told: list[tuple[str, str]] = []

    def listener(change: StateChanged) -> None:
        assert change.breaker is breaker
        told.append((change.old, change.new))

    breaker = quick(make, clock, on_state_change=[listener, listener])
    fail(breaker)
    with pytest.raises(meshcore.BreakerOpen):
        breaker.acquire()
    clock.ns += OPEN_NS
    fail(breaker)
    clock.ns += OPEN_NS
    with breaker:
        pass
    breaker.force_open("1s")
    breaker.force_closed()
    changes = [
        ("closed", "open"),
        ("open", "half_open"),
        ("half_open", "open"),
        ("open", "half_open"),
        ("half_open", "closed"),
        ("closed", "open"),
        ("open", "closed"),
    ]
    assert told == [change for change in changes for _ in range(2)]


def test_what_another_process_changed_is_told_at_the_next_call() -> None:
    state, told = meshcore.SharedState(), list[str]()
    mine = state.circuit_breaker("db", on_state_change=lambda change: told.append(change.new))
    other = state.circuit_breaker("db")
    other.force_open("1h")
    with pytest.raises(meshcore.BreakerOpen):
        mine.acquire()
    other.force_closed()
    with mine:
        pass
    assert told == ["open", "closed"]


def test_a_listener_that_fails_fails_no_call(monkeypatch: pytest.MonkeyPatch) -> None:
    reported: list[Any] = []
    monkeypatch.setattr(sys, "unraisablehook", lambda args: reported.append(args.exc_value))
    told: list[object] = []

    def wrong(event: object) -> None:
        raise ValueError(event)

    breaker = quick(own, Clock(), on_call=[wrong, told.append], on_state_change=wrong)
    assert breaker.call(int) == 0
    fail(breaker)
    assert breaker.state == "open"
    assert len(told) == 2
    assert [type(each) for each in reported] == [ValueError] * 3

    def interrupted(event: object) -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        meshcore.CircuitBreaker(on_call=interrupted).call(int)


@both
@pytest.mark.parametrize("name", ["on_call", "on_state_change", "failure_on_result", "failure_on"])
def test_what_is_no_function_for_it(make: Make, name: str) -> None:
    async def later(event: object) -> None: ...

    for given in (later, 7):
        with pytest.raises(TypeError, match=f"^{name}: expected "):
            make(**{name: given})
    with pytest.raises(TypeError, match=r"^fallback: expected a function"):
        make(fallback=7)
    with pytest.raises(TypeError, match=r"^fallback: expected a function"):
        make()(fallback=7)  # type: ignore[call-overload]


@both
def test_slow_calls_are_failures_of_the_rate(make: Make) -> None:
    clock, told = Clock(), list[str]()
    breaker = make(
        clock=clock, slow_call=0.5, on_call=lambda call: told.append(call.outcome), **RATE
    )

    def work(seconds: float) -> None:
        clock.ns += int(seconds * 1e9)

    async def async_work(seconds: float) -> None:
        work(seconds)

    breaker.call(work, 0.5)
    with breaker:
        work(0.6)
    breaker(work)(0.1)
    assert breaker.snapshot().failures == 1
    assert breaker.snapshot().failures_in_row == 0, "who answers late is there"
    asyncio.run(breaker(async_work)(2))
    assert breaker.state == "open"
    assert told == ["success", "slow", "success", "slow"]


@both
def test_a_slow_probe_opens_it_again(make: Make) -> None:
    clock = Clock()
    breaker = half_open(make, clock, slow_call="1s")
    with breaker:
        clock.ns += 2_000_000_000
    assert breaker.state == "open"


@both
@every_way
def test_the_last_calls_count_however_long_ago(end: End, make: Make) -> None:
    clock = Clock()
    breaker = make(clock=clock, failures=0, last_calls=4)
    for error in (OSError(), None, None):
        end(breaker, error)
        clock.ns += 3_600_000_000_000
    assert breaker.state == "closed"
    assert breaker.snapshot().calls == 3
    for error in (None, None):
        end(breaker, error)
    end(breaker, OSError())
    assert (breaker.snapshot().calls, breaker.snapshot().failures) == (4, 1)
    end(breaker, OSError())
    assert breaker.state == "open"


@both
@pytest.mark.parametrize(
    ("rules", "told"),
    [
        ({"last_calls": 0}, "last_calls: must be greater than or equal to 1, got 0"),
        ({"last_calls": 3_009}, "last_calls: must be less than or equal to 3008, got 3009"),
        ({"last_calls": 10, "window": "1s"}, "window: last_calls is given, too"),
        ({"last_calls": 10, "min_calls": 11}, "min_calls: 11 are never among the last 10 calls"),
        ({"slow_call": -1}, "slow_call: -1 is less than no time"),
    ],
)
def test_rules_that_are_none(make: Make, rules: dict[str, Any], told: str) -> None:
    with pytest.raises(ValueError, match=f"^{told}"):
        make(**rules)


class StatusError(Exception):
    def __init__(self, status: int) -> None:
        super().__init__(status)
        self.status = status


def is_of_the_server(error: Exception) -> bool:
    return isinstance(error, StatusError) and error.status >= 500


@both
@every_way
def test_failures_told_by_a_function(end: End, make: Make) -> None:
    breaker = quick(make, Clock(), failure_on=is_of_the_server)
    answers = (StatusError(404), OSError(), ExceptionGroup("", [StatusError(404)]))
    for error in (*answers, meshcore.RateLimited()):
        end(breaker, error)
        assert breaker.state == "closed"
    end(breaker, ExceptionGroup("", [OSError(), StatusError(503)]))
    assert breaker.state == "open"


@both
@every_way
@pytest.mark.parametrize("ignore", [StatusError, [StatusError], lambda e: e.args == (404,)])
def test_what_is_ignored_says_nothing(end: End, make: Make, ignore: Any) -> None:
    breaker = half_open(make, Clock(), ignore=ignore)
    end(breaker, StatusError(404))
    assert breaker.state == "half_open"
    end(breaker, OSError())
    assert breaker.state == "open"


@every_way
def test_a_cancellation_is_not_shown_to_functions(end: End) -> None:
    def never(error: Exception) -> bool:
        raise AssertionError(error)

    breaker = half_open(own, Clock(), failure_on=never, ignore=never)
    with contextlib.suppress(asyncio.CancelledError):
        end(breaker, asyncio.CancelledError())
    assert breaker.state == "half_open"


def test_a_function_that_fails_to_decide_is_heard_and_holds_nothing() -> None:
    def judge(error: Exception) -> bool:
        raise ZeroDivisionError

    breaker = half_open(own, Clock(), failure_on=judge, failure_on_result=judge)
    runs: list[Callable[[], Any]] = [lambda: breaker.call(int), lambda: breaker.call(int, "x")]
    for run in runs:
        with pytest.raises(ZeroDivisionError):
            run()
    for _ in range(2):
        with pytest.raises(ZeroDivisionError), breaker:
            raise OSError
    with pytest.raises(RuntimeError, match="not entered"):
        breaker.__exit__(None, None, None)
    assert breaker.state == "half_open"
    breaker.acquire().success()
    assert breaker.state == "closed"


class Unfriendly(type):
    def __getattr__(cls, name: str) -> Any:
        raise ZeroDivisionError


def test_results_whose_class_fails_are_results() -> None:
    breaker = half_open(own, Clock())
    assert type(breaker.call(Unfriendly("Result", (), {}))).__name__ == "Result"
    assert breaker.state == "closed"


def is_bad(result: object) -> bool:
    return result == "bad"


@both
async def test_results_that_are_failures(make: Make) -> None:
    breaker = quick(make, Clock(), failure_on_result=is_bad)

    async def later(value: str) -> str:
        return value

    future: asyncio.Future[str] = asyncio.get_running_loop().create_future()
    ways: list[Callable[[str], Any]] = [
        lambda value: breaker.call(str, value),
        breaker(lambda value: str(value)),
    ]
    async_ways: list[Any] = [breaker(later), breaker(lambda value: later(value))]
    for way in ways:
        assert way("good") == "good"
        assert breaker.state == "closed"
        assert way("bad") == "bad"
        assert breaker.state == "open"
        breaker.force_closed()
    for async_way in async_ways:
        assert await async_way("good") == "good"
        assert breaker.state == "closed"
        assert await async_way("bad") == "bad"
        assert breaker.state == "open"
        breaker.force_closed()
    breaker.call(lambda: future)
    future.set_result("bad")
    await asyncio.sleep(0)
    assert breaker.state == "open"


def test_a_fallback_of_the_breaker() -> None:
    breaker = quick(own, Clock(), fallback=lambda value, *, more=0: (value, more))
    whole: Any = int
    assert breaker.call(whole, "7") == 7
    fail(breaker)
    assert breaker.call(whole, "7", more=1) == ("7", 1)
    assert breaker(abs)(-7) == (-7, 0)  # type: ignore[comparison-overlap]
    with pytest.raises(meshcore.BreakerOpen), breaker:
        pytest.fail("blocks have none")
    assert breaker.snapshot().total_refused == 3


@both
async def test_a_fallback_for_functions_of_every_kind(make: Make) -> None:
    breaker = quick(make, Clock(), fallback=lambda *args: "the breaker's")
    other = meshcore.CircuitBreaker(failures=1)
    fail(other)

    def instead(value: str) -> str:
        return f"not {value}"

    async def async_instead(value: str) -> str:
        return instead(value)

    def items_instead(value: str) -> Iterator[str]:
        yield instead(value)

    async def async_items_instead(value: str) -> AsyncIterator[str]:
        yield instead(value)

    @breaker(fallback=instead)
    def plain(value: str) -> str:
        return value

    @breaker(fallback=instead)
    async def later(value: str) -> str:
        return value

    @breaker(fallback=async_instead)
    async def still_later(value: str) -> str:
        return value

    @breaker(fallback=items_instead)
    def items(value: str) -> Iterator[str]:
        yield value

    @breaker(fallback=async_items_instead)
    async def async_items(value: str) -> AsyncIterator[str]:
        yield value

    @breaker(fallback=instead)
    def nested(value: str) -> None:
        other.acquire()

    async def all_of_them() -> list[object]:
        return [
            plain("x"),
            await later("x"),
            await still_later("x"),
            *items("x"),
            *[each async for each in async_items("x")],
        ]

    assert await all_of_them() == ["x"] * 5
    with pytest.raises(meshcore.BreakerOpen):
        nested("x")  # refused by another: that is the function's own answer
    fail(breaker)
    assert await all_of_them() == ["not x"] * 5


def test_blocks_that_are_timed_are_known_in_every_context() -> None:
    told: list[str] = []
    breaker = half_open(own, Clock(), on_call=lambda call: told.append(call.outcome))
    told.clear()

    def session() -> Iterator[None]:
        with breaker:
            yield

    blocks = [session() for _ in range(2)]
    Context().run(next, blocks[0])
    with pytest.raises(meshcore.BreakerOpen):
        Context().run(next, blocks[1])
    Context().run(next, blocks[0], None)
    with pytest.raises(RuntimeError, match="not entered"):
        breaker.__exit__(None, None, None)
    assert told == ["refused", "success"]
    assert breaker.state == "closed"
