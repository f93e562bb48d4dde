"""What a function returns that is yet to be awaited, where it will not be."""

from __future__ import annotations

import inspect
from typing import TypeVar

T = TypeVar("T")


def dropped(value: T) -> T:
    """A value that is not awaited: that of an async function does not warn that it never was."""
    if inspect.iscoroutine(value):
        value.close()
    return value


def at_once(value: T, otherwise: str) -> T:
    """A value that is there. Raises `TypeError`, which says ``otherwise``, for one that is not."""
    if inspect.isawaitable(value):
        dropped(value)
        raise TypeError(otherwise)
    return value
