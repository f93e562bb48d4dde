"""Calls that are made again when they fail, and a bound on how many at one time."""

from __future__ import annotations

import functools
import inspect
import math
import secrets
from contextlib import nullcontext
from datetime import timedelta
from typing import TYPE_CHECKING, Any, Final, NamedTuple, NoReturn, ParamSpec, Self, TypeVar

from meshcore._core import BudgetCore, RetryCore, retry_after_ns, tell_all
from meshcore.config.units import format_duration, parse_percent
from meshcore.library import deadline as deadlines
from meshcore.library import judging, part
from meshcore.library.deadline import Deadline
from meshcore.library.keywords import hinting
from meshcore.library.limited import decorated, not_awaitable
from meshcore.library.listeners import Listeners, listeners
from meshcore.library.pauses import pause, pause_blocking, running_loop
from meshcore.library.times import Time, check_clock, named_ns

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Iterable

    from meshcore._core import RetryCall, Words

    Failures = type[BaseException] | Iterable[type[BaseException]] | Callable[[Exception], bool]

P = ParamSpec("P")
R = TypeVar("R")
F = TypeVar("F", bound="Callable[..., Any] | classmethod[Any, ..., Any] | staticmethod[..., Any]")

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
    if isinstance(floor, bool) or not isinstance(floor, int) or not 0 <= floor <= MAX_FLOOR:
        raise ValueError(f"floor: must be a number within 0 and {MAX_FLOOR}, got {floor!r}")
    return parse_percent(percent), floor


def _check_attempts(attempts: object) -> None:
    if isinstance(attempts, bool) or not isinstance(attempts, int):
        raise ValueError(f"attempts: must be a number, got {attempts!r}")
    if not 1 <= attempts <= MAX_ATTEMPTS:
        raise ValueError(f"attempts: must be within 1 and {MAX_ATTEMPTS}, got {attempts}")


class CallRetried(NamedTuple):
    """A call failed, and will be made again."""

    retry: Retry
    attempt: int
    """Which attempt failed, from 1."""
    error: Exception | None
    """What it raised; `None` if its result was the failure."""
    pause: float
    """Seconds before the next one."""


class Retry(RetryCore):
    """Makes a call again when it fails: at most ``attempts`` times in all.

    An exception of ``on`` is a failure: a class, several, or a function that is asked; of a group
    all that is in it. So is a result for which ``on_result`` says true. Other exceptions, and the
    last failure, are the caller's: they are raised, or returned, as they are.

    Before a retry it waits by chance between ``min_pause`` and ``pause``, twice as long at most
    before each further one, never longer than ``max_pause``; and no shorter than the failure asks:
    by its ``retry_after`` (what meshcore refuses has one) or the ``Retry-After`` of its response,
    in seconds or as a date. Who asks for more than ``max_pause`` is not asked again. Nor is anybody
    when the time of ``deadline``, or of a `Deadline` around the call, would be over, or the
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
        on: Failures = Exception,
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
        _check_attempts(attempts)
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
        new._failures = _failures(on)
        new._on_result = None if on_result is None else judging.function("on_result", on_result)
        new._time_ns = None if deadline is None else named_ns("deadline", deadline)
        new._clock = clock
        new._attempts = attempts
        telling = listeners("on_retry", on_retry, CallRetried)
        new._on_retry = () if telling is None else telling[0]
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
                        pause_ns, failed = self._pause_for(call, not_awaitable(result)), None
                        if pause_ns is None:
                            return result
                pause_blocking(pause_ns, self._clock)
                if _is_over(within):
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
                    if failed is not None:
                        raise failed
                    return result
        finally:
            failed = None
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

    def _within(self) -> Deadline | nullcontext[None]:
        if self._time_ns is None:
            return nullcontext()
        return Deadline(self._time_ns / 1e9, clock=self._clock)

    def _pause_after(self, call: RetryCall, error: Exception) -> int | None:
        """Nanoseconds before another attempt, if there is to be one."""
        if not self._failures(error):
            return None
        return self._again(call, error, error)

    def _pause_for(self, call: RetryCall, result: object) -> int | None:
        fails = self._on_result
        if fails is None or not judging.yes_or_no("on_result", fails(result)):
            return None
        return self._again(call, result, None)

    def _again(self, call: RetryCall, failed: object, error: Exception | None) -> int | None:
        pause_ns = call.again(asked_ns(failed), deadlines.left_ns())
        if self._on_retry and pause_ns is not None:
            told = CallRetried(self, call.attempts - 1, error, pause_ns / 1e9)
            tell_all(self._on_retry, told)
        return pause_ns


def _is_over(within: Deadline | nullcontext[None]) -> bool:
    """Whether no time is left after a pause, which may have taken longer than was planned."""
    own = isinstance(within, Deadline) and not within.left
    return own or deadlines.left_ns() == 0


def _failures(on: Failures) -> Callable[[BaseException], bool]:
    if callable(on) and not isinstance(on, type):
        return _by(judging.function("on", on))
    classes = judging.classes("on", on)

    def fails(error: BaseException) -> bool:
        if isinstance(error, classes):
            return True
        return isinstance(error, BaseExceptionGroup) and all(map(fails, error.exceptions))

    return fails


def _by(tells: Callable[[Any], object]) -> Callable[[BaseException], bool]:
    """A function of the program's own, which is asked of all that is in a group, as a breaker's."""

    def fails(error: BaseException) -> bool:
        if isinstance(error, BaseExceptionGroup):
            return all(map(fails, error.exceptions))
        return judging.yes_or_no("on", tells(error))

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
