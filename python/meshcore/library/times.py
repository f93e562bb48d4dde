"""Times as programs give them: a text, seconds, or a `timedelta`; and what tells the time."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping
from datetime import timedelta
from typing import Any

from meshcore.config.units import named_ns

Time = str | float | timedelta
"""A text such as ``30s``, a number of seconds, or a `timedelta`."""

Clock = Callable[[], int]
"""A function that gives nanoseconds, for tests; without one it is `CLOCK_MONOTONIC`."""


def check_clock(clock: object) -> None:
    """Raise `TypeError` for what is none."""
    if clock is not None and not callable(clock):
        raise TypeError(f"clock: expected a function that gives nanoseconds, got {clock!r}")


def check_name(name: object) -> None:
    """Raise `TypeError` for what names no part."""
    if name is not None and not isinstance(name, str):
        raise TypeError(f"name: expected a text, got {name!r}")


def as_written(
    given: Mapping[str, Any], times: Collection[str]
) -> tuple[dict[str, Any], list[str]]:
    """What is given as a file has it, and what is wrong with its ``times``, which are left out.

    Other values that are no time are for the model to refuse.
    """
    written, wrong = dict(given), []
    for name in given.keys() & frozenset(times):
        value = given[name]
        if isinstance(value, int | float | timedelta) and not isinstance(value, bool):
            try:
                written[name] = f"{named_ns(name, value)}ns"
            except ValueError as error:
                wrong.append(str(error))
                del written[name]
    return written, sorted(wrong)
