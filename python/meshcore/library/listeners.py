"""Functions that are told what happens."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any, TypeVar

from meshcore.library.classifying import function, listed

T = TypeVar("T")
Listeners = Callable[[T], object] | Iterable[Callable[[T], object]]
"""One, or several, which are told in turn; what one of them raises is reported, not thrown."""


def listeners(name: str, given: Any, told: type) -> tuple[tuple[Any, ...], type] | None:
    """For the core: who is told, and of what class. Raises `TypeError` for what is no function."""
    if given is None:
        return None
    several = listed(given)
    several = several if isinstance(several, tuple) else (several,)
    return tuple(function(name, each) for each in several), told
