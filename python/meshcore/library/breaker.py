"""A circuit breaker around one's own calls."""

from __future__ import annotations

import secrets
from typing import TYPE_CHECKING, Any, Self, Unpack, overload

from meshcore._core import BreakerCore
from meshcore.config.units import named_ns
from meshcore.library import part
from meshcore.library.blocks import Blocks
from meshcore.library.breaker_events import BreakerSnapshot, CallEnded, StateChanged
from meshcore.library.breaker_rules import AllRules, core_rules
from meshcore.library.classifying import classifying
from meshcore.library.guarded import Guard, checked_fallback, go_on, guarded
from meshcore.library.keywords import by_keyword
from meshcore.library.listeners import listeners
from meshcore.library.stacks import caller

if TYPE_CHECKING:
    from collections.abc import Callable

    from meshcore._core import Permit
    from meshcore.library.blocks import Block
    from meshcore.library.decorating import F
    from meshcore.library.times import Time


class CircuitBreaker(BreakerCore):
    """Stops calling what fails, and finds out when it is well again.

    Opens after ``failures`` in a row, or when ``failure_percent`` of at least ``min_calls`` calls
    within ``window`` failed (0 switches either rule off). Stays open for ``open_for``, twice as
    long after each failed probe, up to ``max_open_for``. Then at most ``probes`` calls at a time
    find out: ``successes`` of them close it, one failure opens it again.

    Use it as ``with breaker:``, ``async with breaker:``, ``@breaker`` or ``breaker.call(function)``
    (the quickest; not for async functions), and as ``with breaker.guard():`` where a block is left
    elsewhere than it was entered; refused calls raise `meshcore.errors.BreakerOpen`, which says
    when to come back. An exception of ``failure_on`` is a failure; any other `Exception` is a
    success, for the service did answer; what is not an `Exception`, such as a cancellation, says
    nothing, and nor does a refusal of meshcore's. An `ExceptionGroup` counts as what is in it.
    ``acquire()`` gives the permit itself. `BreakerRules` tells every rule.
    """

    _blocks: Blocks

    def __new__(cls, **given: Unpack[AllRules]) -> Self:
        """A closed breaker; in ``words`` of a `SharedState`, that state's breaker.

        Raises `ValueError` for a rule that is none, `TypeError` for one that there is not.
        """
        rules = core_rules(given)
        listening = (
            listeners("on_call", given.get("on_call"), CallEnded),
            listeners("on_state_change", given.get("on_state_change"), StateChanged),
        )
        failures = classifying(
            given.get("failure_on", Exception), given.get("ignore"), given.get("failure_on_result")
        )
        fallback = checked_fallback(given.get("fallback"))
        seed, name = secrets.randbits(64), given.get("name")
        state = given.get("clock"), given.get("words")
        new = super().__new__(cls, rules, failures, listening, seed, name, fallback, *state)
        new._blocks = Blocks()
        return new

    if not TYPE_CHECKING:  # type checkers know by themselves
        __new__ = by_keyword("CircuitBreaker(failures=5)")(__new__)

    def guard(self) -> Guard:
        """One block, for ``with`` or ``async with``, that may be entered and left anywhere: in
        generators, by an `ExitStack`, in another task or thread."""
        return Guard(self)

    def snapshot(self) -> BreakerSnapshot:
        """How it stands now. O(1)."""
        state, left_ns, row, calls, failures, totals = self._figures()
        return BreakerSnapshot(self.name, state, left_ns / 1e9, row, calls, failures, *totals)

    def force_open(self, duration: Time) -> None:
        """Open it for that long: a text such as ``30s``, seconds or a `timedelta`."""
        self._force_open_ns(named_ns("duration", duration))

    # Called by the core, for all but plain calls and blocks of a closed breaker.
    def _keep(self, permit: Permit) -> None:
        self._blocks.keep(permit, caller(), self._lose)

    def _let_go(self, claim: list[Block], block: Block) -> None:
        self._blocks.let_go(claim, block)

    def _forget(self, permit: Permit) -> None:
        self._blocks.forget(permit)

    def _inherit(self) -> int:
        return self._blocks.inherit()

    def _find(self, claim: list[Block], counted: int | None) -> Block | bool:
        return self._blocks.find(claim, caller(), counted)

    def _end(self, block: Block, raised: BaseException | None) -> None:
        self._blocks.end(block, raised)

    def __reduce__(self) -> tuple[Any, ...]:
        """As a part of its `SharedState`; `TypeError` for one of this process alone."""
        return part.reduced(self)

    def __init_subclass__(cls) -> None:
        part.check_subclass(cls)

    def __repr__(self) -> str:
        return part.shown(self, self.state, self.name)

    def _begin(self, permit: Permit) -> Block:
        return self._blocks.begin(permit)

    def _over(self, block: Block) -> None:
        self._blocks.over(block)

    def _enclosing(self) -> Permit | None:
        for block in self._blocks.lost(self, caller()):
            self._lose(block)
        return self._blocks.enclosing()

    def _go_on(self, permit: Permit, value: object, is_decorated: bool) -> object:
        return go_on(self, permit, value, is_decorated)

    @overload
    def __call__(self, function: F, /) -> F: ...
    @overload
    def __call__(self, /, *, fallback: Callable[..., Any] | None = None) -> Callable[[F], F]: ...
    def __call__(
        self, function: Any = None, /, *, fallback: Callable[..., Any] | None = None
    ) -> Any:
        """Decorate a function of any kind; it is guarded until what it does is over.

        A generator is guarded from its first item to its end, and so is an async one; what can be
        awaited until it was. ``@breaker(fallback=other)`` calls ``other`` with the same arguments
        where the function may not be called. Raises `TypeError` for a class.
        """
        instead = self.fallback if fallback is None else checked_fallback(fallback)
        if function is None:
            return lambda function: guarded(self, function, instead)
        return guarded(self, function, instead)
