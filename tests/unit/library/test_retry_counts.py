"""A retry tells how many calls there were, and why it gave up."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any

import pytest

import meshcore
from meshcore import Retry

QUICK: dict[str, Any] = {"min_pause": 0, "pause": 0}


def failing(*errors: BaseException) -> Callable[[], str]:
    """Raises each, then returns."""
    left = iter(errors)

    def call() -> str:
        for error in left:
            raise error
        return "done"

    return call


def called(retry: Retry, function: Callable[[], Any], is_async: bool) -> None:
    async def begun() -> Any:
        return function()

    try:
        if is_async:
            asyncio.run(retry.call_async(begun))
        else:
            retry.call(function)
    except (OSError, ValueError, meshcore.Refused, KeyboardInterrupt):
        pass


@pytest.mark.parametrize("is_async", [False, True])
def test_calls_by_their_ends(is_async: bool) -> None:
    retry = Retry(3, on=OSError, **QUICK)
    assert retry.snapshot() == (0, 0, 0, 0.0, 0, 0, 0, 0, 0, (0, 0, 0, 0))
    for errors in (
        (),
        (),
        (OSError(),),
        (OSError(), OSError()),
        (OSError(), OSError(), OSError()),  # given up
        (ValueError(),),  # no failure
        (OSError(), ValueError()),
        (KeyboardInterrupt(),),
    ):
        called(retry, failing(*errors), is_async)
    found = retry.snapshot()
    assert (found.total_calls, found.total_attempts, found.total_retries) == (8, 14, 6)
    assert (found.succeeded_at_once, found.succeeded_after_retries) == (2, 2)
    assert (found.failed_at_once, found.failed_after_retries) == (1, 2)
    assert found.broken_off == 1
    assert found.gave_up == meshcore.GaveUp(attempts=1, asked=0, deadline=0, budget=0)
    assert found.total_paused == 0


@pytest.mark.parametrize("is_async", [False, True])
def test_why_it_gave_up(is_async: bool) -> None:
    budget = meshcore.RetryBudget(0, floor=0)
    one = Retry(5, budget=budget, **QUICK)
    called(one, failing(OSError()), is_async)
    assert one.snapshot().gave_up == (0, 0, 0, 1)

    asked = Retry(5, max_pause="1s")
    called(asked, failing(meshcore.RateLimited("busy", 2_000_000_000)), is_async)
    assert asked.snapshot().gave_up == (0, 1, 0, 0)

    late = Retry(5, min_pause="1s", pause="1s", deadline="100ms")
    called(late, failing(OSError()), is_async)
    assert late.snapshot().gave_up == (0, 0, 1, 0)
    for each in (one, asked, late):
        assert each.snapshot()[5:8] == (0, 1, 0)


@pytest.mark.parametrize("is_async", [False, True])
def test_a_pause_that_took_too_long_is_no_retry(
    is_async: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    now = 0
    retry = Retry(5, min_pause="1s", pause="1s", deadline="10s", clock=lambda: now)

    def oversleep(_seconds: float) -> None:
        nonlocal now
        now += 20_000_000_000

    async def oversleep_async(seconds: float) -> None:
        oversleep(seconds)

    monkeypatch.setattr("meshcore.library.pauses.time.sleep", oversleep)
    monkeypatch.setattr("meshcore.library.pauses.asyncio.sleep", oversleep_async)
    called(retry, failing(OSError()), is_async)
    found = retry.snapshot()
    assert (found.total_attempts, found.failed_at_once, found.gave_up.deadline) == (1, 1, 1)
    assert found.total_paused == 1


async def test_an_attempt_that_is_cut_off_is_given_up_for_the_deadline() -> None:
    retry = Retry(5, deadline="10ms", **QUICK)
    with pytest.raises(meshcore.DeadlineExceeded):
        await retry.call_async(asyncio.sleep, 60)
    assert retry.snapshot()[4:] == (0, 0, 1, 0, 0, (0, 0, 1, 0))
    task = asyncio.create_task(Retry.call_async(retry, asyncio.sleep, 0))
    await task
    assert retry.snapshot().succeeded_at_once == 1


def test_a_result_that_is_a_failure() -> None:
    retry = Retry(2, on_result=lambda result: result == "", **QUICK)
    results = iter(["", "x", "", ""])
    assert retry.call(lambda: next(results)) == "x"
    assert retry.call(lambda: next(results)) == ""
    assert retry.snapshot()[4:] == (0, 1, 0, 1, 0, (1, 0, 0, 0))
