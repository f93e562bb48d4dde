"""The rules of a breaker as a program gives them, judged by the rules of the configuration."""

from __future__ import annotations

import json
from datetime import timedelta
from typing import TYPE_CHECKING, Annotated, Any, Final, TypedDict

from pydantic import AfterValidator, Field, ValidationError

from meshcore.config import layers
from meshcore.config.core_route import PROBE_TIMEOUT, rules
from meshcore.config.explain import as_value_error
from meshcore.config.fault import nearest
from meshcore.config.fields import Duration
from meshcore.config.units import parse_duration, time_ns

if TYPE_CHECKING:
    from collections.abc import Callable

    from meshcore._core import Words
    from meshcore.library.breaker_events import CallEnded, StateChanged
    from meshcore.library.judging import Exceptions
    from meshcore.library.listeners import Listeners

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
    last_calls: int
    """It is counted over so many calls instead."""
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
    """For messages and for whoever listens."""
    words: Words


TIMES: Final = ("window", "open_for", "max_open_for", "probe_timeout", "slow_call")
# `on` is the proxy's: what a program calls fails with exceptions.
_COUNTED: Final = {*layers.CircuitBreaker.model_fields, "probe_timeout", "last_calls"} - {"on"}
# What fits the breaker's words (admission/last_calls.rs).
MAX_LAST_CALLS: Final = 3_008
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
    last_calls: int | None = Field(None, ge=1, le=MAX_LAST_CALLS)


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
    own = {"probe_timeout_ns": model.probe_timeout, "last_calls": model.last_calls or 0}
    if model.last_calls is not None:
        own["min_calls"] = _least_calls(model, model.last_calls)
    return json.dumps({**rules(model), **own})


def _least_calls(model: _Model, last_calls: int) -> int:
    if "window" in model.model_fields_set:
        raise ValueError("window: last_calls is given, too: leave one of them out")
    if "min_calls" not in model.model_fields_set:
        return min(model.min_calls, last_calls)
    if model.min_calls > last_calls:
        raise ValueError(
            f"min_calls: {model.min_calls} are never among the last {last_calls} calls"
        )
    return model.min_calls


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
