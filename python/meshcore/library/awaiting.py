"""What a function returns that is yet to be awaited, where nobody will."""

from __future__ import annotations

import inspect
from typing import TypeVar

T = TypeVar("T")


def dropped(value: T) -> T:
    """A value that nobody awaits: that of an async function tells nobody that it never was."""
    if inspect.iscoroutine(value):
        value.close()
    return value


def at_once(value: T, otherwise: str) -> T:
    """A value that is there. Raises `TypeError`, which says ``otherwise``, for one that is not."""
    if inspect.isawaitable(value):
        dropped(value)
        raise TypeError(otherwise)
    return value
