"""Calls that are made again when they fail, and a bound on how many at one time."""

from __future__ import annotations

import asyncio
import functools
import math
import secrets
import time
from contextlib import nullcontext
from datetime import timedelta
from typing import TYPE_CHECKING, Any, Final, ParamSpec, Self, TypeVar

from meshcore._core import BudgetCore, RetryCore, retry_after_ns
from meshcore.config.units import parse_percent
from meshcore.library import deadline as deadlines
from meshcore.library import judging, part
from meshcore.library.deadline import Deadline
from meshcore.library.keywords import hinting
from meshcore.library.limited import decorated, not_awaitable
from meshcore.library.times import Time, check_clock, named_ns

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Iterable
    from contextlib import AbstractContextManager

    from meshcore._core import RetryCall, Words

    Failures = type[BaseException] | Iterable[type[BaseException]] | Callable[[BaseException], bool]

P = ParamSpec("P")
R = TypeVar("R")
F = TypeVar("F")

# As in a configuration: 2^20 retries are always enough.
MAX_FLOOR: Final = 1 << 20
MAX_ATTEMPTS: Final = 1_000
_MAX_NS: Final = (1 << 63) - 1


class RetryBudget(BudgetCore):
    """How many retries there may be at one time: a part of the calls under way, at least ``floor``.

    So retries cannot double the load of a service in trouble. One budget is for all `Retry` that
    call one service; one of a `SharedState` is for all processes. What a process that was killed
    had under way is forgotten after a minute, and so is what takes longer.
    """

    @hinting
    def __new__(
        cls,
        percent: str | int = "20%",
        floor: int = 3,
        *,
        clock: Callable[[], int] | None = None,
        words: Words | None = None,
    ) -> Self:
        """A budget of which nothing is used; in ``words`` of a `SharedState`, that state's."""
        check_clock(clock)
        checked = checked_budget(percent, floor)
        return super().__new__(cls, *checked, clock, words)

    def __reduce__(self) -> tuple[Any, ...]:
        """As a part of its `SharedState`; `TypeError` for one of this process alone."""
        return part.reduced(self)


def checked_budget(percent: str | int, floor: int) -> tuple[int, int]:
    """Both as numbers; `ValueError` for what is out of range."""
    if isinstance(floor, bool) or not isinstance(floor, int) or not 0 <= floor <= MAX_FLOOR:
        raise ValueError(f"floor: must be a number within 0 and {MAX_FLOOR}, got {floor!r}")
    return parse_percent(percent), floor


class Retry(RetryCore):
    """Makes a call again when it fails: at most ``attempts`` times in all.

    An exception of ``on`` is a failure: a class, several, or a function that is asked; of a group
    all that is in it. So is a result for which ``on_result`` says true. Other exceptions, and the
    last failure, are the caller's: they are raised, or returned, as they are.

    Before a retry it waits by chance between ``min_pause`` and ``pause``, twice as long at most
    before each further one, never longer than ``max_pause``; and no shorter than the failure asks:
    by its ``retry_after`` (what meshcore refuses has one) or the ``Retry-After`` of its response,
    in seconds. Who asks for more than ``max_pause`` is not asked again. Nor is anybody when the
    time of ``deadline``, or of a `Deadline` around the call, would be over, or the ``budget`` has
    no room.

    Use it as ``@retry``, ``retry.call(function, …)`` or ``await retry.call_async(function, …)``.
    One object is for any number of calls at one time.
    """

    _failures: Callable[[BaseException], bool]
    _on_result: Callable[[Any], bool] | None
    _time_ns: int | None

    @hinting
    def __new__(
        cls,
        attempts: int = 3,
        *,
        on: Failures = Exception,
        on_result: Callable[[Any], bool] | None = None,
        min_pause: Time = "25ms",
        pause: Time = "250ms",
        max_pause: Time = "10s",
        deadline: Time | None = None,
        budget: RetryBudget | None = None,
        clock: Callable[[], int] | None = None,
    ) -> Self:
        """Rules for any number of calls; `ValueError` for rules that are none, `TypeError` for what
        is no class or function."""
        check_clock(clock)
        if isinstance(attempts, bool) or not isinstance(attempts, int):
            raise ValueError(f"attempts: must be a number, got {attempts!r}")
        if not 1 <= attempts <= MAX_ATTEMPTS:
            raise ValueError(f"attempts: must be within 1 and {MAX_ATTEMPTS}, got {attempts}")
        pauses = (
            named_ns("min_pause", min_pause),
            named_ns("pause", pause),
            named_ns("max_pause", max_pause),
        )
        if not pauses[0] <= pauses[1] <= pauses[2]:
            raise ValueError("pause must be within min_pause and max_pause")
        seed = secrets.randbits(64)
        new = super().__new__(cls, attempts, pauses, seed, budget, clock)
        new._failures = _failures(on)
        new._on_result = None if on_result is None else judging.function("on_result", on_result)
        new._time_ns = None if deadline is None else named_ns("deadline", deadline)
        return new

    def call(self, function: Callable[P, R], /, *args: P.args, **kwargs: P.kwargs) -> R:
        """Call a function, again when it fails. Between attempts the thread sleeps."""
        deadlines.check()
        call = self.begin()
        try:
            with self._within():
                while True:
                    try:
                        result = function(*args, **kwargs)
                    except Exception as error:
                        pause = self._pause_after(call, error)
                        if pause is None:
                            raise
                    else:
                        pause = self._pause_for(call, not_awaitable(result))
                        if pause is None:
                            return result
                    time.sleep(pause)
        finally:
            call.end()

    async def call_async(
        self, function: Callable[P, Awaitable[R]], /, *args: P.args, **kwargs: P.kwargs
    ) -> R:
        """The same for an async function."""
        deadlines.check()
        call = self.begin()
        try:
            with self._within():
                while True:
                    try:
                        result = await function(*args, **kwargs)
                    except Exception as error:
                        pause = self._pause_after(call, error)
                        if pause is None:
                            raise
                    else:
                        pause = self._pause_for(call, result)
                        if pause is None:
                            return result
                    await asyncio.sleep(pause)
        finally:
            call.end()

    def __call__(self, function: F) -> F:
        """Decorate a function, plain or async.

        Raises `TypeError` for generators, whose call does nothing, and for a plain function that
        returns something to await when it is called.
        """

        def plain(call: Callable[..., Any]) -> Callable[..., Any]:
            @functools.wraps(call)
            def retried(*args: Any, **kwargs: Any) -> Any:
                return self.call(call, *args, **kwargs)

            return retried

        def of_async(call: Callable[..., Any]) -> Callable[..., Any]:
            @functools.wraps(call)
            async def retried_async(*args: Any, **kwargs: Any) -> Any:
                return await self.call_async(call, *args, **kwargs)

            return retried_async

        return decorated(function, plain, of_async)

    def _within(self) -> AbstractContextManager[object]:
        return nullcontext() if self._time_ns is None else Deadline(self._time_ns / 1e9)

    def _pause_after(self, call: RetryCall, error: Exception) -> float | None:
        """Seconds before another attempt, if there is to be one."""
        if not self._failures(error):
            return None
        return _pause(call, asked_ns(error))

    def _pause_for(self, call: RetryCall, result: object) -> float | None:
        if self._on_result is None or not self._on_result(result):
            return None
        return _pause(call, asked_ns(result))


def _pause(call: RetryCall, asked: int) -> float | None:
    pause_ns = call.again(asked, deadlines.left_ns())
    return None if pause_ns is None else pause_ns / 1e9


def _failures(on: Failures) -> Callable[[BaseException], bool]:
    if callable(on) and not isinstance(on, type):
        asked: Callable[[BaseException], bool] = judging.function("on", on)
        return asked
    classes = judging.classes("on", on)

    def fails(error: BaseException) -> bool:
        if isinstance(error, classes):
            return True
        return isinstance(error, BaseExceptionGroup) and all(map(fails, error.exceptions))

    return fails


def asked_ns(outcome: object) -> int:
    """For how long what failed asks to be left alone; 0 if it does not say.

    An exception's ``retry_after`` in seconds, or the header of a response: its own, or of the
    ``response`` that it has, as with httpx, requests, aiohttp and urllib. Of a group the longest.
    """
    if isinstance(outcome, BaseExceptionGroup):
        return max(map(asked_ns, outcome.exceptions))
    exact = _told(outcome, "retry_after_ns")
    if isinstance(exact, int):
        return min(max(exact, 0), _MAX_NS)
    seconds = _told(outcome, "retry_after")
    if isinstance(seconds, timedelta):
        seconds = seconds.total_seconds()
    if isinstance(seconds, int | float) and math.isfinite(seconds):
        return min(max(int(seconds * 1e9), 0), _MAX_NS)
    for told in (outcome, _told(outcome, "response")):
        headers = _told(told, "headers")
        value, date = _field(headers, "retry-after"), _field(headers, "date")
        if isinstance(value, str) and value.isascii():
            return retry_after_ns(value.strip(), date if isinstance(date, str) else None) or 0
    return 0


def _told(outcome: object, name: str) -> Any:
    """What it says under that name. A property that raises says nothing: what failed is to be told,
    not that."""
    try:
        return getattr(outcome, name, None)
    except Exception:
        return None


def _field(headers: Any, name: str) -> Any:
    get = _told(headers, "get")
    try:
        return (get(name) or get(name.title())) if callable(get) else None
    except Exception:
        return None
