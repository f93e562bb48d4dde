"""Functions that parts are given say at once what they have to say, or are refused."""

from __future__ import annotations

import asyncio
import functools
from collections.abc import Callable
from typing import Any

import pytest

import meshcore
from tests.unit.library.breakers import Make, both


async def later(*_args: object) -> bool:
    return False


class Later:
    async def __call__(self, *_args: object) -> bool:
        return False


async def items(*_args: object) -> Any:
    yield False


ASYNC = {
    "function": later,
    "object": Later(),
    "method": Later().__call__,
    "partial": functools.partial(later),
    "partial object": functools.partial(Later()),
    "generator": items,
}
asyncs = pytest.mark.parametrize("given", ASYNC.values(), ids=ASYNC)
QUICK: dict[str, Any] = {"min_pause": 0, "pause": 0}


@both
@asyncs
@pytest.mark.parametrize(
    "rule", ["failure_on", "ignore", "failure_on_result", "on_call", "on_state_change"]
)
def test_a_breaker_refuses_what_is_async(make: Make, rule: str, given: Any) -> None:
    with pytest.raises(TypeError, match=f"{rule}: expected a function that is not async"):
        make(**{rule: given})


@asyncs
@pytest.mark.parametrize("rule", ["on", "on_result"])
def test_a_retry_refuses_what_is_async(rule: str, given: Any) -> None:
    with pytest.raises(TypeError, match=f"{rule}: expected a function that is not async"):
        meshcore.Retry(**{rule: given})


@asyncs
def test_a_limiter_refuses_clients_that_are_named_later(given: Any) -> None:
    clients = meshcore.ClientLimiter("1/s")
    for made in (clients.limiting, clients.waiting):
        with pytest.raises(TypeError, match=r"a client is a text, or a function .* not async"):
            made(given)


def told_later(*_args: object) -> Any:
    return later()


def test_what_only_the_call_shows_to_be_async_is_an_error_of_the_call() -> None:
    calls: list[int] = []

    def fail() -> None:
        calls.append(1)
        raise KeyError

    message = "the function returns something to await"
    with pytest.raises(TypeError, match=f"^on: {message}"):
        meshcore.Retry(on=told_later, **QUICK).call(fail)
    with pytest.raises(TypeError, match=f"^on_result: {message}"):
        meshcore.Retry(on_result=told_later, **QUICK).call(int)
    assert len(calls) == 1
    breaker = meshcore.CircuitBreaker(failures=1, failure_on=told_later)
    with pytest.raises(TypeError, match=f"^failure_on: {message}"):
        breaker.call(fail)
    assert breaker.state == "closed"
    breaker = meshcore.CircuitBreaker(failures=1, ignore=told_later)
    with pytest.raises(TypeError, match=f"^ignore: {message}"):
        breaker.call(fail)
    breaker = meshcore.CircuitBreaker(failures=1, failure_on_result=told_later)
    with pytest.raises(TypeError, match=f"^failure_on_result: {message}"):
        breaker.call(int)
    assert breaker.state == "closed"


@pytest.mark.parametrize("is_async", [False, True])
@pytest.mark.parametrize(
    ("group", "attempts"),
    [
        (ExceptionGroup("", [OSError(), ExceptionGroup("", [OSError()])]), 2),
        (ExceptionGroup("", [OSError(), KeyError()]), 1),
    ],
)
def test_a_function_is_asked_of_what_is_in_a_group(
    group: ExceptionGroup[Any], attempts: int, is_async: bool
) -> None:
    seen: list[type] = []
    calls = 0

    def is_failure(error: Exception) -> bool:
        seen.append(type(error))
        return isinstance(error, OSError)

    def fail() -> None:
        nonlocal calls
        calls += 1
        raise group

    async def fail_async() -> None:
        fail()

    retry = meshcore.Retry(2, on=is_failure, **QUICK)
    with pytest.raises(ExceptionGroup):
        asyncio.run(retry.call_async(fail_async)) if is_async else retry.call(fail)
    assert calls == attempts
    assert ExceptionGroup not in seen


@pytest.mark.parametrize("value", [7, None, [1]])
async def test_a_plain_function_is_called_once_by_call_async(value: object) -> None:
    calls: list[int] = []

    def plain() -> object:
        calls.append(1)
        return value

    call: Callable[..., Any] = meshcore.Retry(3, on=Exception, **QUICK).call_async
    with pytest.raises(TypeError, match=r"plain at .* is not async: use call"):
        await call(plain)
    assert len(calls) == 1


async def test_a_plain_function_that_returns_something_to_await_is_awaited_again() -> None:
    answers = iter([OSError(), "at last"])

    async def ask() -> str:
        answer = next(answers)
        if isinstance(answer, OSError):
            raise answer
        return str(answer)

    def begin() -> asyncio.Task[str]:
        return asyncio.create_task(ask())

    assert await meshcore.Retry(2, **QUICK).call_async(begin) == "at last"


async def test_a_retrys_deadline_cuts_off_an_attempt_that_hangs() -> None:
    budget, calls = meshcore.RetryBudget(), list[int]()
    retry = meshcore.Retry(3, deadline="20ms", budget=budget)

    @retry
    async def hang() -> None:
        calls.append(1)
        await asyncio.Event().wait()

    for work in (hang(), retry.call_async(hang.__wrapped__)):  # type: ignore[attr-defined]
        with pytest.raises(meshcore.DeadlineExceeded):
            await asyncio.wait_for(work, 10)
    assert len(calls) == 2
    assert (budget.calls, budget.retries) == (0, 0)
