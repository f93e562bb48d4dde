"""A circuit breaker around one's own calls."""

from __future__ import annotations

import functools
import inspect
import json
import secrets
from contextvars import ContextVar
from typing import TYPE_CHECKING, Any, ParamSpec, Self, TypeVar, cast

from meshcore._core import BreakerCore
from meshcore.config.units import parse_duration
from meshcore.library import part

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable
    from types import TracebackType

    from meshcore._core import Permit, Words

P = ParamSpec("P")
R = TypeVar("R")


class CircuitBreaker(BreakerCore):
    """Stops calling what fails, and finds out when it is well again.

    Opens after ``failures`` in a row, or when ``failure_percent`` of at least ``min_calls`` calls
    within ``window`` failed (0 switches either rule off). Stays open for ``open_for``, twice as
    long after each failed probe, up to ``max_open_for``. Then at most ``probes`` calls at a time
    find out: ``successes`` of them close it, one failure opens it again.

    Use it as ``with breaker:``, ``async with breaker:``, ``@breaker`` or ``breaker.call(function)``
    (the quickest; not for async functions); refused calls raise
    `meshcore.errors.BreakerOpen`, which says when to come back. An exception of ``failure_on`` is
    a failure; any other `Exception` is a success, for the service did answer; what is not an
    `Exception`, such as a cancellation, says nothing. ``acquire()`` gives the permit itself.
    """

    _held: ContextVar[tuple[Permit, ...]]

    def __new__(  # every rule has a name and a default
        cls,
        *,
        failures: int = 5,
        successes: int = 2,
        open_for: str = "30s",
        failure_on: tuple[type[Exception], ...] = (Exception,),
        clock: Callable[[], int] | None = None,
        words: Words | None = None,
        **more: Any,
    ) -> Self:
        """A closed breaker; in ``words`` of a `SharedState`, that state's breaker.

        ``more``: ``max_open_for``, ``failure_percent``, ``min_calls``, ``window``, ``probes``.
        Raises `ValueError` for a rule that is none.
        """
        rules: dict[str, int] = {"failures": failures, "successes": successes}
        rules["open_for_ns"] = parse_duration(open_for)
        for name, value in more.items():
            is_time = name in ("max_open_for", "window")
            rules[f"{name}_ns" if is_time else name] = parse_duration(value) if is_time else value
        new = super().__new__(
            cls, json.dumps(rules), failure_on, secrets.randbits(64), clock, words
        )
        new._held = ContextVar("permits", default=())
        return new

    # Called by the core for a block whose permit is not like those of the other blocks: a probe,
    # or one of another epoch. By context: tasks are inside at the same time, each with its own.
    def _keep(self, permit: Permit) -> None:
        self._held.set((*self._held.get(), permit))

    def _kept(self) -> Permit | None:
        held = self._held.get()
        # A task inherits the permits of the one that made it: those are not its own.
        if not held or held[-1].settled:
            return None
        self._held.set(held[:-1])
        return held[-1]

    def __reduce__(self) -> tuple[Any, ...]:
        """As a part of its `SharedState`; `TypeError` for one of this process alone."""
        return part.reduced(self)

    async def __aenter__(self) -> None:
        """As ``with``; never waits."""
        self.__enter__()

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        """As ``with``."""
        self.__exit__(kind, error, trace)

    def __call__(self, function: Callable[P, R]) -> Callable[P, R]:
        """Decorate a function, plain or async."""
        if inspect.iscoroutinefunction(function):

            @functools.wraps(function)
            async def guarded_async(*args: P.args, **kwargs: P.kwargs) -> Any:
                with self:
                    return await cast("Callable[..., Awaitable[Any]]", function)(*args, **kwargs)

            return cast("Callable[P, R]", guarded_async)

        call = self.call

        @functools.wraps(function)
        def guarded(*args: P.args, **kwargs: P.kwargs) -> R:
            return call(function, *args, **kwargs)

        return guarded
