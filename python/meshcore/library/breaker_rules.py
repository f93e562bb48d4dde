"""The rules of a breaker as a program gives them.

What is right is seen here at once. Anything else is for the model of the configuration, which says
what is wrong with it (`breaker_model.py`): it is a third of a worker's memory, and in a second
interpreter of a process cannot be imported at all.
"""

from __future__ import annotations

import json
import warnings
from typing import TYPE_CHECKING, Any, Final, TypedDict

from meshcore.config.units import MAX_DURATION, format_duration, parse_percent, time_ns
from meshcore.library.keywords import check_keywords
from meshcore.library.times import Time, check_clock, check_name

if TYPE_CHECKING:
    from collections.abc import Callable

    from meshcore._core import Words
    from meshcore.library.breaker_events import CallEnded, StateChanged
    from meshcore.library.classifying import Exceptions
    from meshcore.library.listeners import Listeners


class BreakerRules(TypedDict, total=False):
    """What a `CircuitBreaker` is made of; each has a default."""

    failures: int
    """Failures in a row that open it; 0: none do."""
    failure_percent: int | str
    """Part of failed calls in the window that opens it; 0: none."""
    min_calls: int
    """Calls in the window before the percentage counts."""
    window: Time
    """The time over which the percentage is counted."""
    last_calls: int
    """It is counted over this many calls instead."""
    slow_call: Time
    """A success that takes longer is a failure, which counts for the percentage."""
    successes: int
    """Successful probes that close it again."""
    probes: int
    """Probes under way at one time."""
    open_for: Time
    """The first time it stays open."""
    max_open_for: Time
    """The longest time it stays open; it doubles after each failed probe."""
    probe_timeout: Time
    """How long a probe that does not end keeps others from finding out."""
    failure_on: Exceptions
    """Exceptions that are failures."""
    ignore: Exceptions
    """Exceptions that say nothing, whatever `failure_on` says."""
    failure_on_result: Callable[[Any], bool]
    """Tells results that are failures, of functions that are called or decorated."""
    fallback: Callable[..., Any]
    """Called with the same arguments in place of a function that may not be called."""
    on_call: Listeners[CallEnded]
    """Told of each call that is over or refused."""
    on_state_change: Listeners[StateChanged]
    """Told when the state has changed."""
    clock: Callable[[], int] | None
    """Gives nanoseconds, for tests."""


class AllRules(BreakerRules, total=False):
    """And what a `SharedState` adds."""

    name: str | None
    """For messages and listeners."""
    words: Words


# As the model has them; a test compares.
_WHOLE: Final = {
    "failures": (0, (1 << 20) - 1),
    "min_calls": (1, (1 << 20) - 1),
    "successes": (1, (1 << 10) - 1),
    "probes": (1, (1 << 10) - 1),
}
_MILLISECOND: Final = 1_000_000
# Leases are counted in ticks of a second (admission/breaker_word.rs).
SHORTEST_PROBE_NS: Final = 2_000_000_000
LONGEST_PROBE_NS: Final = 86_400_000_000_000
TIMES: Final = {
    "window": (_MILLISECOND, MAX_DURATION),
    "open_for": (_MILLISECOND, MAX_DURATION),
    "max_open_for": (_MILLISECOND, MAX_DURATION),
    "slow_call": (0, MAX_DURATION),
    "probe_timeout": (SHORTEST_PROBE_NS, LONGEST_PROBE_NS),
}
COUNTED: Final = frozenset({*_WHOLE, *TIMES, "failure_percent", "last_calls"})


def core_rules(given: AllRules) -> str:
    """In the core's words. Raises `TypeError` for a rule that there is not, `ValueError` for what
    is none, in the words of `meshcore check`."""
    check_keywords(given, AllRules.__annotations__)
    check_clock(given.get("clock"))
    check_name(given.get("name"))
    counted = {name: value for name, value in given.items() if name in COUNTED}
    right = quickly(counted)
    if right is None:
        from meshcore.library.breaker_model import by_model

        right = by_model(counted)
    if "max_open_for" in counted:
        _warn_of_times(right)
    return json.dumps(right)


# Of `open_for`, as the model has it; a test compares.
FIRST_OPEN_NS: Final = 30_000_000_000


def _warn_of_times(rules: dict[str, Any]) -> None:
    """As `meshcore check` does: it is allowed, and surely a mistake."""
    first, longest = rules.get("open_for_ns", FIRST_OPEN_NS), rules["max_open_for_ns"]
    if longest < first:
        text = f"max_open_for: never takes effect: open_for ({format_duration(first)}) is longer"
        warnings.warn(text, stacklevel=5)


def quickly(counted: dict[str, Any]) -> dict[str, int] | None:
    """The rules that are given, if they are plainly right."""
    rules = {}
    try:
        for name, value in counted.items():
            if name == "failure_percent":
                rules[name] = parse_percent(value)
            elif name in TIMES:
                rules[f"{name}_ns"] = _within(time_ns(value), *TIMES[name])
            else:
                rules[name] = _within(value, *_WHOLE[name])
    except (ValueError, TypeError, KeyError):
        return None
    return rules


def _within(value: Any, least: int, most: int) -> int:
    if type(value) is not int or not least <= value <= most:
        raise ValueError
    return value
