"""A circuit breaker around one's own calls."""

from __future__ import annotations

import secrets
from typing import TYPE_CHECKING, Any, Final, Self, TypeVar, Unpack, cast

from meshcore._core import BreakerCore
from meshcore.config.units import time_ns
from meshcore.library.blocks import Blocks, caller
from meshcore.library.breaker_rules import AllRules, classes, core_rules
from meshcore.library.guarded import Guard, decorated, go_on

if TYPE_CHECKING:
    from collections.abc import Awaitable, Generator
    from types import TracebackType

    from meshcore._core import Permit
    from meshcore.library.blocks import Block
    from meshcore.library.breaker_rules import Time

F = TypeVar("F")


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

    _blocks: Blocks

    def __new__(cls, **given: Unpack[AllRules]) -> Self:
        """A closed breaker; in ``words`` of a `SharedState`, that state's breaker.

        Raises `ValueError` for a rule that is none, `TypeError` for one that there is not.
        """
        rules, failure_on = core_rules(given), classes(given.get("failure_on", Exception))
        seed = secrets.randbits(64)
        clock, words = given.get("clock"), given.get("words")
        new = super().__new__(cls, rules, failure_on, seed, clock, words)
        new._blocks = Blocks()
        return new

    def guard(self) -> Guard:
        """One block, for ``with`` or ``async with``, that may be entered and left anywhere: in
        generators, by an `ExitStack`, in another task or thread."""
        return Guard(self)

    def force_open(self, duration: Time) -> None:
        """Open it for that long: a text such as ``30s``, seconds or a `timedelta`."""
        self.force_open_ns(time_ns(duration))

    # Called by the core, for all but plain calls and blocks of a closed breaker.
    def _keep(self, permit: Permit) -> None:
        self._blocks.keep(permit, caller(_AENTER))

    def _leave(self, raised: BaseException | None, counted: int | None) -> bool | None:
        return self._blocks.leave(raised, caller(_AEXIT), counted)

    def _begin(self, permit: Permit) -> Block:
        return self._blocks.begin(permit)

    def _over(self, block: Block) -> None:
        self._blocks.over(block)

    def _enclosing(self) -> Permit | None:
        return self._blocks.enclosing()

    def _go_on(self, permit: Permit, value: object, is_decorated: bool) -> object:
        return go_on(self, permit, value, is_decorated)

    def __aenter__(self) -> Awaitable[None]:
        """As ``with``; never waits."""
        self.__enter__()
        return _NOW

    def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> Awaitable[None]:
        """As ``with``."""
        self.__exit__(kind, error, trace)
        return _NOW

    def __call__(self, function: F) -> F:
        """Decorate a function of any kind; it is guarded until what it does is over.

        A generator is guarded from its first item to its end, and so is an async one; what can be
        awaited until it was. Raises `TypeError` for a class.
        """
        return cast("F", decorated(self, function))


class _Now:
    """Can be awaited, and is there at once."""

    def __await__(self) -> Generator[Any, Any, None]:
        yield from ()


_NOW: Final = _Now()
_AENTER: Final = CircuitBreaker.__aenter__.__code__
_AEXIT: Final = CircuitBreaker.__aexit__.__code__
