"""What is said of a keyword that there is not."""

from __future__ import annotations

import re
from functools import wraps
from typing import TYPE_CHECKING, Any, Final, TypeVar, cast

from meshcore.config.hints import nearest

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

F = TypeVar("F")

# What other libraries call it: pybreaker, aiobreaker, circuitbreaker, resilience4j, tenacity,
# backoff and limiters. The first that there is here is meant.
_ELSEWHERE: Final = {
    "after": ("on_retry",),
    "backoff": ("pause",),
    "before_sleep": ("on_retry",),
    "capacity": ("burst",),
    "delay": ("pause",),
    "exceptions": ("failure_on", "on"),
    "exclude": ("ignore",),
    "expected_exception": ("failure_on",),
    "fail_max": ("failures",),
    "failure_rate_threshold": ("failure_percent",),
    "failure_threshold": ("failures",),
    "fallback_function": ("fallback",),
    "ignore_exceptions": ("ignore",),
    "limit_for_period": ("rate",),
    "limit_refresh_period": ("rate",),
    "listeners": ("on_state_change",),
    "max_attempts": ("attempts",),
    "max_delay": ("max_pause",),
    "max_retries": ("attempts",),
    "max_time": ("deadline",),
    "max_tries": ("attempts",),
    "max_wait_duration_in_half_open_state": ("probe_timeout",),
    "minimum_number_of_calls": ("min_calls",),
    "on": ("failure_on",),
    "on_backoff": ("on_retry",),
    "permitted_number_of_calls_in_half_open_state": ("probes",),
    "record_exceptions": ("failure_on",),
    "recovery_timeout": ("open_for",),
    "reset_timeout": ("open_for",),
    "retries": ("attempts",),
    "retry": ("on",),
    "retry_exceptions": ("on",),
    "retry_on": ("on",),
    "retry_on_exception": ("on",),
    "retry_on_result": ("on_result",),
    "sliding_window_size": ("last_calls",),
    "slow_call_duration_threshold": ("slow_call",),
    "stop": ("attempts",),
    "success_threshold": ("successes",),
    "timeout": ("open_for", "deadline"),
    "timeout_duration": ("open_for",),
    "tries": ("attempts",),
    "wait": ("pause",),
    "wait_duration": ("pause",),
    "wait_duration_in_open_state": ("open_for",),
}


def no_keyword(name: str, known: Iterable[str]) -> TypeError:
    """With the one that was meant, if that can be guessed."""
    names = sorted(known)
    plain = re.sub(r"(?<=[a-z])(?=[A-Z])", "_", name).lower()
    meant = next((each for each in _ELSEWHERE.get(plain, ()) if each in names), None)
    hint = f"here it is {meant}" if meant else nearest(name, names)
    return TypeError(f"there is no keyword {name}{f': {hint}' if hint else ''}")


def check_keywords(given: Iterable[str], known: Iterable[str]) -> None:
    """Raise `TypeError` for a keyword that is not known."""
    names = frozenset(known)
    for name in given:
        if name not in names:
            raise no_keyword(name, names)


def by_keyword(example: str) -> Callable[[F], F]:
    """A constructor that takes its rules by keyword, which says so."""

    def make(function: F) -> F:
        plain = cast("Callable[..., Any]", function)

        @wraps(plain)
        def made(cls: type, *given: Any, **kwargs: Any) -> Any:
            if given:
                raise TypeError(f"rules are given by name, such as {example}, got {given[0]!r}")
            return plain(cls, **kwargs)

        return cast("F", made)

    return make


def hinting(function: F) -> F:
    """A function with keywords of its own, which says so of each that it does not have."""
    plain = cast("Callable[..., Any]", function)
    code = plain.__code__
    last = code.co_argcount + code.co_kwonlyargcount
    known = code.co_varnames[code.co_posonlyargcount + 1 : last]

    @wraps(plain)
    def hinted(*args: Any, **kwargs: Any) -> Any:
        check_keywords(kwargs, known)
        return plain(*args, **kwargs)

    return cast("F", hinted)
