"""The rules of a breaker as a program gives them, judged by the rules of the configuration."""

from __future__ import annotations

import json
from datetime import timedelta
from typing import TYPE_CHECKING, Annotated, Any, Final, TypedDict

from pydantic import AfterValidator, ValidationError

from meshcore.config import layers
from meshcore.config.core_route import PROBE_TIMEOUT, rules
from meshcore.config.explain import as_value_error
from meshcore.config.fault import nearest
from meshcore.config.fields import Duration
from meshcore.config.units import parse_duration, time_ns

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from meshcore._core import Words

Time = str | float | timedelta
"""A text such as ``30s``, a number of seconds, or a `timedelta`."""


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
    failure_on: type[BaseException] | Iterable[type[BaseException]]
    """Exceptions that are failures."""
    clock: Callable[[], int] | None
    """Gives nanoseconds, for tests."""


class AllRules(BreakerRules, total=False):
    """And what a `SharedState` adds."""

    words: Words


TIMES: Final = ("window", "open_for", "max_open_for", "probe_timeout")
# `on` is the proxy's: what a program calls fails with exceptions.
_COUNTED: Final = {*layers.CircuitBreaker.model_fields, "probe_timeout"} - {"on", "slow_call"}
# Leases are counted in ticks of a second (admission/breaker_word.rs).
_SHORTEST, _LONGEST = "2s", "1d"


def _probe_timeout(value: int) -> int:
    if value < parse_duration(_SHORTEST):
        raise ValueError(f"must be at least {_SHORTEST}")
    if value > parse_duration(_LONGEST):
        raise ValueError(f"must be at most {_LONGEST}")
    return value


class _Model(layers.CircuitBreaker):
    probe_timeout: Annotated[Duration, AfterValidator(_probe_timeout)] = PROBE_TIMEOUT


def core_rules(given: AllRules) -> str:
    """In the core's words. Raises `TypeError` for a rule that there is not, `ValueError` for what
    is none, in the words of `meshcore check`."""
    for name in given.keys() - AllRules.__annotations__.keys():
        raise TypeError(f"a breaker has no rule {name}{_hint(name)}")
    counted = {name: value for name, value in given.items() if name in _COUNTED}
    try:
        model = _Model.model_validate({name: _plain(name, x) for name, x in counted.items()})
    except ValidationError as error:
        raise as_value_error(error, _Model) from None
    return json.dumps({**rules(model), "probe_timeout_ns": model.probe_timeout})


def classes(given: object) -> tuple[type[BaseException], ...]:
    """Exceptions, given as one or as several."""
    several = tuple(given) if isinstance(given, tuple | list | set | frozenset) else (given,)
    for each in several:
        if not (isinstance(each, type) and issubclass(each, BaseException)):
            raise TypeError(f"failure_on: expected classes of exceptions, got {each!r}")
    if not several:
        raise ValueError("failure_on: is empty: at least one class must be in it")
    return several


def _plain(name: str, value: Any) -> Any:
    """A time as a file has it; what is none is for the model to refuse."""
    if name in TIMES and isinstance(value, int | float | timedelta):
        try:
            return f"{time_ns(value)}ns"
        except ValueError as error:
            raise ValueError(f"{name}: {error}") from None
    return value


def _hint(name: str) -> str:
    if name == "on":
        return ": failure_on says what a failure is"
    hint = nearest(name, AllRules.__annotations__)
    return f" ({hint})" if hint else ""
