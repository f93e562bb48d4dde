"""What all parts have in common: how they look, who may copy them or derive from them."""

from __future__ import annotations

import asyncio
import contextlib
import copy
import re
import sys
import warnings
from collections.abc import AsyncIterator, Callable, Iterator
from datetime import timedelta
from typing import Any

import pytest

import meshcore
from meshcore.config.layers import CircuitBreaker as Model
from meshcore.library import breaker_rules
from tests.unit.library.breakers import Make, both, fail, quick
from tests.unit.library.test_limiters import Clock


def test_parts_say_what_they_are() -> None:
    clock = Clock()
    budget = meshcore.RetryBudget()
    state = meshcore.SharedState()
    for made, told in [
        (meshcore.TokenBucket("100/s", 5), "<TokenBucket: 100/s, burst 5>"),
        (state.token_bucket("api", "5/m"), "<TokenBucket 'api': 5/m, burst 1>"),
        (meshcore.ClientLimiter("1/s", 2), "<ClientLimiter: 1/s, burst 2>"),
        (meshcore.CircuitBreaker(name="db"), "<CircuitBreaker 'db': closed>"),
        (state.circuit_breaker("db"), "<CircuitBreaker 'db': closed>"),
        (meshcore.CircuitBreaker(), "<CircuitBreaker: closed>"),
        (budget, "<RetryBudget: 0 retries of 0 calls>"),
        (meshcore.Retry(4), "<Retry: at most 4 attempts>"),
        (meshcore.Deadline("2s", clock=clock), "<Deadline: 2.000 s left>"),
        (meshcore.Balancer(["10.0.0.1:80"]), "<Balancer: 1 endpoints>"),
    ]:
        assert repr(made) == told


@pytest.mark.parametrize(
    "made",
    [
        meshcore.TokenBucket("1/s"),
        meshcore.ClientLimiter("1/s"),
        meshcore.CircuitBreaker(),
        meshcore.RetryBudget(),
        meshcore.Retry(),
        meshcore.Balancer(["10.0.0.1:80"]),
    ],
)
@pytest.mark.parametrize("again", [copy.copy, copy.deepcopy])
def test_parts_are_not_copied(made: object, again: Callable[[object], object]) -> None:
    told = f"this {type(made).__name__} is of this process alone and cannot be copied or pickled"
    with pytest.raises(TypeError, match=told):
        again(made)


@pytest.mark.parametrize(
    "part",
    [
        meshcore.TokenBucket,
        meshcore.ClientLimiter,
        meshcore.CircuitBreaker,
        meshcore.RetryBudget,
        meshcore.Retry,
        meshcore.Balancer,
    ],
)
def test_a_class_of_ones_own_may_not_take_other_arguments(part: type) -> None:
    def begin(self: object, url: str) -> None:
        raise AssertionError

    def new(cls: type, *given: Any, **rules: Any) -> Any:
        return part.__new__(cls, *given, **rules)

    with pytest.raises(TypeError, match=r"Mine may not have an __init__ of its own: .* Hold one"):
        type("Mine", (part,), {"__init__": begin})
    type("Mine", (part,), {"__init__": lambda self, *_given: None, "__new__": new})
    derived = type("Mine", (part,), {"more": 7})
    if part is meshcore.CircuitBreaker:
        assert derived(failures=2).more == 7


def test_messages_say_what_would_be_right() -> None:
    said: list[tuple[Callable[[], object], type[Exception], str]] = [
        (lambda: meshcore.Deadline("2"), ValueError, "'2' is not a duration (write 30s"),
        (lambda: meshcore.Retry(pause="250"), ValueError, "pause: '250' is not a duration (write"),
        (
            lambda: meshcore.Retry(pause="10ms"),
            ValueError,
            "not pause=10ms, min_pause=25ms and max_pause=10s",
        ),
        (
            lambda: meshcore.Retry(budget="20%"),  # type: ignore[arg-type]
            TypeError,
            "budget: expected a RetryBudget, got '20%'",
        ),
        (
            lambda: meshcore.TokenBucket("1/s").waiting(timeout="2"),
            ValueError,
            "'2' is not a duration (write",
        ),
        (
            lambda: meshcore.CircuitBreaker().force_open("2"),
            ValueError,
            "'2' is not a duration (write",
        ),
    ]
    for make, kind, told in said:
        with pytest.raises(kind, match=re.escape(told)) as caught:
            make()
        assert type(caught.value) is kind


@pytest.mark.parametrize("rules", [{"max_open_for": "1s"}, {"max_open_for": 5, "open_for": "6s"}])
def test_a_longest_time_that_is_shorter_than_the_first_is_told(rules: Any) -> None:
    with pytest.warns(
        UserWarning, match=r"^max_open_for: never takes effect: open_for \((6|30)s\)"
    ) as told:
        meshcore.CircuitBreaker(**rules)
    assert told[0].filename == __file__
    with warnings.catch_warnings(action="error"):
        meshcore.CircuitBreaker(max_open_for=timedelta(seconds=30))
        meshcore.CircuitBreaker(open_for="10m", last_calls=1, min_calls=1)
    assert Model().open_for == breaker_rules.FIRST_OPEN_NS


@pytest.mark.parametrize("is_async", [False, True])
def test_who_listens_is_told_of_retries(is_async: bool) -> None:
    told: list[meshcore.CallRetried] = []
    answers = iter([first := OSError(), 5, "at last", OSError()])

    def ask() -> Any:
        answer = next(answers)
        if isinstance(answer, OSError):
            raise answer
        return answer

    async def ask_async() -> Any:
        return ask()

    retry = meshcore.Retry(
        3, on_result=lambda answer: answer == 5, on_retry=[told.append], min_pause=0, pause="1ms"
    )
    assert (asyncio.run(retry.call_async(ask_async)) if is_async else retry.call(ask)) == "at last"
    assert [(each.retry, each.attempt, each.error) for each in told] == [
        (retry, 1, first),
        (retry, 2, None),
    ]
    assert all(0 <= each.pause < 0.002 for each in told)
    last = meshcore.Retry(1, on_retry=told.append)
    with pytest.raises(OSError, match=r"^$"):
        last.call(ask)
    assert len(told) == 2, "the last failure is no retry"


def test_a_listener_to_retries_that_fails_is_reported(monkeypatch: pytest.MonkeyPatch) -> None:
    reported: list[Any] = []
    monkeypatch.setattr(sys, "unraisablehook", reported.append)
    calls: list[int] = []

    def flaky() -> str:
        calls.append(1)
        if len(calls) == 1:
            raise OSError
        return "at last"

    def wrong(_told: object) -> None:
        raise ValueError("of the listener")

    retry = meshcore.Retry(on_retry=wrong, min_pause=0, pause=0)
    assert retry.call(flaky) == "at last"
    assert [str(each.exc_value) for each in reported] == ["of the listener"]
    with pytest.raises(TypeError, match="on_retry: expected a function"):
        meshcore.Retry(on_retry=7)  # type: ignore[arg-type]


async def later(*_args: object) -> int:
    return 7


async def items(*_args: object) -> AsyncIterator[int]:
    yield 7


def plain(*_args: object) -> list[int]:
    return [7]


def pieces(*_args: object) -> Iterator[int]:
    yield 7


@both
@pytest.mark.parametrize(
    ("function", "wrong"),
    [
        (plain, [later, items]),
        (pieces, [later, items]),
        (items, [later, pieces]),
        (later, [items]),
    ],
)
def test_a_fallback_of_another_kind_is_refused(
    make: Make, function: Callable[..., Any], wrong: list[Callable[..., Any]]
) -> None:
    for fallback in wrong:
        with pytest.raises(TypeError, match=r"^fallback: .*, got <function"):
            make()(fallback=fallback)(function)
        with pytest.raises(TypeError, match=r"^fallback: .*, got <function"):
            make(fallback=fallback)(function)


@both
async def test_what_only_the_call_shows_of_a_fallback_is_an_error_of_the_call(make: Make) -> None:
    breaker = quick(make, Clock(), fallback=later)
    fail(breaker)
    with pytest.raises(TypeError, match="fallback: call takes none that is async"):
        breaker.call(plain)
    for fallback in (plain, lambda: later()):
        guarded = breaker(fallback=fallback)(items)
        with pytest.raises(TypeError, match="fallback: an async generator's is one too"):
            await anext(aiter(guarded()))


async def test_a_breaker_is_entered_by_stacks() -> None:
    breaker = meshcore.CircuitBreaker(failures=1)
    async with contextlib.AsyncExitStack() as stack:
        await stack.enter_async_context(breaker)
    now = breaker.__aenter__()
    with pytest.raises(StopIteration):
        now.send(None)
    now.close()
    with pytest.raises(OSError, match=r"^$"):
        now.throw(OSError())


async def test_a_time_within_the_breaker_opens_it_and_one_around_it_does_not() -> None:
    breaker = meshcore.CircuitBreaker(failures=2, failure_on=OSError)
    for _ in range(3):
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(0), breaker:
                await asyncio.Event().wait()
    assert breaker.state == "closed"
    for _ in range(2):
        with pytest.raises(TimeoutError):
            async with breaker, asyncio.timeout(0):
                await asyncio.Event().wait()
    assert breaker.state == "open"
