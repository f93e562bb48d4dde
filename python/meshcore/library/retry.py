"""Calls that are made again when they fail, and a bound on how many at one time."""

from __future__ import annotations

import functools
import inspect
import math
import secrets
from contextlib import nullcontext
from datetime import timedelta
from typing import TYPE_CHECKING, Any, Final, NamedTuple, NoReturn, ParamSpec, Self, TypeVar

from meshcore._core import BudgetCore, RetryCore, emit_all, retry_after_ns
from meshcore.config.units import format_duration, named_ns, parse_percent
from meshcore.config.whole import check_whole
from meshcore.errors import DeadlineExceeded
from meshcore.library import classifying, part
from meshcore.library import deadline as deadlines
from meshcore.library.awaiting import at_once
from meshcore.library.deadline import Deadline
from meshcore.library.keywords import hinting
from meshcore.library.limited import MAKE_IT_ASYNC, preceded
from meshcore.library.listeners import Listeners, listeners
from meshcore.library.pauses import pause, pause_blocking, running_loop
from meshcore.library.times import Time, check_clock

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from meshcore._core import RetryCall, Words
    from meshcore.library.classifying import Exceptions
    from meshcore.library.decorating import F

P = ParamSpec("P")
R = TypeVar("R")

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

    def __init_subclass__(cls) -> None:
        part.check_subclass(cls)

    def __repr__(self) -> str:
        return part.shown(self, f"{self.retries} retries of {self.calls} calls")


def checked_budget(percent: str | int, floor: int) -> tuple[int, int]:
    """Both as numbers; `ValueError` for what is out of range."""
    return parse_percent(percent), check_whole("floor", floor, 0, MAX_FLOOR)


class CallRetried(NamedTuple):
    """A call failed, and will be made again."""

    retry: Retry
    attempt: int
    """Which attempt failed, from 1."""
    error: Exception | None
    """What it raised; `None` if its result was the failure."""
    pause: float
    """Seconds before the next one."""


class GaveUp(NamedTuple):
    """How often it was given up, by why no attempt followed one that failed."""

    attempts: int
    """There were as many as there may be."""
    asked: int
    """Who was asked wants to be left alone for longer than ``max_pause``."""
    deadline: int
    """All would have been over before it, or was in the middle of an attempt."""
    budget: int
    """The budget had no room for it."""


class RetrySnapshot(NamedTuple):
    """What became of the calls of a `Retry`, all in this process since it was made here."""

    total_calls: int
    """Calls that have begun."""
    total_attempts: int
    """Attempts that these made, or will after their pause."""
    total_retries: int
    """Attempts without the first ones."""
    total_paused: float
    """Seconds of pauses, by which retries were put off."""
    succeeded_at_once: int
    """Calls that are over, by a result that is no failure."""
    succeeded_after_retries: int
    failed_at_once: int
    """Calls that are over, by the last failure or by an exception that is not of ``on``."""
    failed_after_retries: int
    broken_off: int
    """Calls that are over otherwise, such as by a cancellation."""
    gave_up: GaveUp
    """Of those that failed, why no attempt followed."""


class Retry(RetryCore):
    """Makes a call again when it fails: at most ``attempts`` times in all.

    An exception of ``on`` is a failure: a class, several, or a function that is asked; of a group
    all that is in it. So is a result for which ``on_result`` says true. Other exceptions, and the
    last failure, are the caller's: they are raised, or returned, as they are.

    Before a retry it waits by chance between ``min_pause`` and ``pause``, twice as long at most
    before each further one, never longer than ``max_pause``; and no shorter than the failure asks:
    by its ``retry_after`` (what meshcore refuses has one) or the ``Retry-After`` of its response,
    in seconds or as a date. Who asks for more than ``max_pause`` is not asked again. Nor is a
    service when the time of ``deadline``, or of a `Deadline` around the call, would be over, or the
    ``budget`` has no room. ``on_retry`` is told a `CallRetried` before each of these pauses.

    Use it as ``@retry``, ``retry.call(function, …)`` or ``await retry.call_async(function, …)``.
    One object is for any number of calls at one time.
    """

    _attempts: int
    _clock: Callable[[], int] | None
    _failures: Callable[[BaseException], bool]
    _on_result: Callable[[Any], bool] | None
    _on_retry: tuple[Callable[[CallRetried], object], ...]
    _time_ns: int | None

    @hinting
    def __new__(
        cls,
        attempts: int = 3,
        *,
        on: Exceptions = Exception,
        on_result: Callable[[Any], bool] | None = None,
        min_pause: Time = "25ms",
        pause: Time = "250ms",
        max_pause: Time = "10s",
        deadline: Time | None = None,
        budget: RetryBudget | None = None,
        on_retry: Listeners[CallRetried] | None = None,
        clock: Callable[[], int] | None = None,
    ) -> Self:
        """Rules for any number of calls; `ValueError` for rules that are none, `TypeError` for what
        is no class or function."""
        check_clock(clock)
        attempts = check_whole("attempts", attempts, 1, MAX_ATTEMPTS)
        pauses = (
            named_ns("min_pause", min_pause),
            named_ns("pause", pause),
            named_ns("max_pause", max_pause),
        )
        if not pauses[0] <= pauses[1] <= pauses[2]:
            least, first, most = map(format_duration, pauses)
            told = f"pause={first}, min_pause={least} and max_pause={most}"
            raise ValueError(f"pause must be within min_pause and max_pause, not {told}")
        if budget is not None and not isinstance(budget, RetryBudget):
            raise TypeError(f"budget: expected a RetryBudget, got {budget!r}")
        seed = secrets.randbits(64)
        new = super().__new__(cls, attempts, pauses, seed, budget, clock)
        new._failures = classifying.all_of("on", on)
        new._on_result = None if on_result is None else classifying.function("on_result", on_result)
        new._time_ns = None if deadline is None else named_ns("deadline", deadline)
        new._clock = clock
        new._attempts = attempts
        retried = listeners("on_retry", on_retry, CallRetried)
        new._on_retry = () if retried is None else retried[0]
        return new

    def __reduce__(self) -> NoReturn:
        """`TypeError`: its functions and its calls are of this process alone."""
        part.of_one_process(self)

    def __init_subclass__(cls) -> None:
        part.check_subclass(cls)

    def __repr__(self) -> str:
        return part.shown(self, f"at most {self._attempts} attempts")

    def call(self, function: Callable[P, R], /, *args: P.args, **kwargs: P.kwargs) -> R:
        """Call a function, again when it fails. Between attempts the thread sleeps."""
        deadlines.check()
        within, failed = self._within(), None
        call = self.begin()
        try:
            while True:
                with within:
                    try:
                        result = function(*args, **kwargs)
                    except Exception as error:
                        pause_ns, failed = self._pause_after(call, error), error
                        if pause_ns is None:
                            raise
                    else:
                        result, failed = at_once(result, MAKE_IT_ASYNC), None
                        pause_ns = self._pause_for(call, result)
                        if pause_ns is None:
                            return result
                pause_blocking(pause_ns, self._clock)
                if _is_over(within):
                    call.too_late()
                    if failed is not None:
                        raise failed
                    return result
        finally:
            failed = None  # its traceback has this frame
            call.end()

    async def call_async(
        self, function: Callable[P, Awaitable[R]], /, *args: P.args, **kwargs: P.kwargs
    ) -> R:
        """The same for an async function, which ``deadline`` cuts off. By asyncio alone."""
        # Told before anything is called, not when it failed and there is to be a pause.
        running_loop()
        deadlines.check()
        within, failed = self._within(), None
        call = self.begin()
        try:
            while True:
                async with within:
                    try:
                        begun = function(*args, **kwargs)
                        is_begun = inspect.isawaitable(begun)
                        if is_begun:
                            result = await begun
                    except Exception as error:
                        pause_ns, failed = self._pause_after(call, error), error
                        if pause_ns is None:
                            raise
                    else:
                        if not is_begun:
                            raise TypeError(f"{function!r} is not async: use call")
                        pause_ns, failed = self._pause_for(call, result), None
                        if pause_ns is None:
                            return result
                await pause(pause_ns, self._clock)
                if _is_over(within):
                    call.too_late()
                    if failed is not None:
                        raise failed
                    return result
        except DeadlineExceeded:
            call.cut_off()
            raise
        finally:
            failed = None
            call.end()

    def snapshot(self) -> RetrySnapshot:
        """What became of the calls. O(1)."""
        (calls, retries, paused_ns), (broken_off, succeeded, failed), gave_up = self._figures()
        return RetrySnapshot(
            calls,
            calls + retries,
            retries,
            paused_ns / 1e9,
            succeeded[0],
            succeeded[1],
            failed[0],
            failed[1],
            sum(broken_off),
            GaveUp(*gave_up),
        )

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

        return preceded(function, plain, of_async)

    def _within(self) -> Deadline | nullcontext[None]:
        if self._time_ns is None:
            return nullcontext()
        return Deadline(self._time_ns / 1e9, clock=self._clock)

    def _pause_after(self, call: RetryCall, error: Exception) -> int | None:
        """Nanoseconds before another attempt, if there is to be one."""
        if not self._failures(error):
            call.fail()
            return None
        return self._again(call, error, error)

    def _pause_for(self, call: RetryCall, result: object) -> int | None:
        fails = self._on_result
        if fails is None or not classifying.yes_or_no("on_result", fails(result)):
            call.succeed()
            return None
        return self._again(call, result, None)

    def _again(self, call: RetryCall, failed: object, error: Exception | None) -> int | None:
        pause_ns = call.again(asked_ns(failed), deadlines.left_ns())
        if self._on_retry and pause_ns is not None:
            event = CallRetried(self, call.attempts - 1, error, pause_ns / 1e9)
            emit_all(self._on_retry, event)
        return pause_ns


def _is_over(within: Deadline | nullcontext[None]) -> bool:
    """Whether no time is left after a pause, which may have taken longer than was planned."""
    own = isinstance(within, Deadline) and not within.left
    return own or deadlines.left_ns() == 0


def asked_ns(outcome: object) -> int:
    """For how long what failed asks to be left alone; 0 if it does not say.

    An exception's ``retry_after`` in seconds, or the header of a response: its own, or of the
    ``response`` that it has, as with httpx, requests, aiohttp and urllib. Of a group the longest.
    """
    if isinstance(outcome, BaseExceptionGroup):
        return max(map(asked_ns, outcome.exceptions))
    exact = _attribute(outcome, "retry_after_ns")
    if isinstance(exact, int) and not isinstance(exact, bool):
        return min(max(exact, 0), _MAX_NS)
    seconds = _attribute(outcome, "retry_after")
    if isinstance(seconds, timedelta):
        seconds = seconds.total_seconds()
    is_number = isinstance(seconds, int | float) and not isinstance(seconds, bool)
    if is_number and abs(seconds) < math.inf:
        # As few as a product holds: a service that says more is not asked again either way.
        return min(int(max(min(seconds, _MAX_NS / 1e9), 0) * 1e9), _MAX_NS)
    for source in (outcome, _attribute(outcome, "response")):
        headers = _attribute(source, "headers")
        value, date = _field(headers, "retry-after"), _field(headers, "date")
        if isinstance(value, str) and value.isascii():
            return retry_after_ns(value.strip(), date if isinstance(date, str) else None) or 0
    return 0


def _attribute(outcome: object, name: str) -> Any:
    """What it says under that name. A property that raises says nothing: what failed is to be told,
    not that."""
    try:
        return getattr(outcome, name, None)
    except Exception:
        return None


def _field(headers: Any, name: str) -> Any:
    get = _attribute(headers, "get")
    try:
        return (get(name) or get(name.title())) if callable(get) else None
    except Exception:
        return None
