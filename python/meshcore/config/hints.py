"""What would be right, where that can be guessed, and values as their writer would know them."""

from __future__ import annotations

import difflib
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterable

# difflib compares with each candidate; more would make a long list of problems slow.
_MAX_CANDIDATES = 1_000


class HintedError(ValueError):
    """What is wrong with a value, and what would be right if that can be guessed."""

    def __init__(self, message: str, hint: str | None, *below: str | int) -> None:
        super().__init__(message)
        self.hint = hint
        self.below = below
        """Where in the value it is."""


def nearest(word: str, known: Iterable[str], cutoff: float = 0.6) -> str | None:
    """A hint with the known word that looks most like this one."""
    candidates = [name for name, _ in zip(known, range(_MAX_CANDIDATES), strict=False)]
    found = difflib.get_close_matches(word, candidates, n=1, cutoff=cutoff)
    return f"did you mean {found[0]}?" if found else None


def shown(value: object) -> str:
    """A value as its author would recognise it, of bounded length."""
    if value is None:
        return "nothing"
    if isinstance(value, dict | list | tuple):
        return f"a {'mapping' if isinstance(value, dict) else 'list'}"
    if isinstance(value, int) and value.bit_length() > 1_000:
        return "a number of more than 300 digits"  # Python prints none of 4,300
    text = str(value).lower() if isinstance(value, bool) else repr(value)
    return text if len(text) <= 60 else f"{text[:60]}…"
