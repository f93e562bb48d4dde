"""Times as programs give them: a text, seconds, or a `timedelta`."""

from __future__ import annotations

from datetime import timedelta

from meshcore.config.fault import HintedError
from meshcore.config.units import time_ns

Time = str | float | timedelta
"""A text such as ``30s``, a number of seconds, or a `timedelta`."""


def given_ns(value: Time) -> int:
    """Nanoseconds; a `ValueError` says what would be right, if that can be guessed."""
    try:
        return time_ns(value)
    except HintedError as error:
        hint = f" ({error.hint})" if error.hint else ""
        raise ValueError(f"{error}{hint}") from None


def named_ns(name: str, value: Time) -> int:
    """The same; the `ValueError` says of which argument it is."""
    try:
        return given_ns(value)
    except ValueError as error:
        raise ValueError(f"{name}: {error}") from None


def as_written(name: str, value: object) -> object:
    """As a file has it; what is no time is for the model to refuse."""
    if isinstance(value, int | float | timedelta) and not isinstance(value, bool):
        return f"{named_ns(name, value)}ns"
    return value
