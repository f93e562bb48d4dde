"""One thing that is wrong, before anybody knows where it stands in a file."""

from __future__ import annotations

import difflib
import re
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterable

# A name that can stand in a path without quotes.
_PLAIN = re.compile(r"[A-Za-z0-9_-]+")
# difflib compares with each candidate; more would make a long list of faults slow.
_MAX_CANDIDATES = 1_000


@dataclass(frozen=True, slots=True)
class Fault:
    """A problem at a path."""

    path: tuple[str | int, ...]
    message: str
    hint: str | None = None
    of_key: bool = False
    """Whether the key itself is wrong, not its value."""
    quote: bool = False
    """Whether it would be right in quotes."""


class HintedError(ValueError):
    """What is wrong with a value, and what would be right if that can be guessed."""

    def __init__(self, message: str, hint: str | None, *below: str | int) -> None:
        super().__init__(message)
        self.hint = hint
        self.below = below
        """Where in the value it is."""


def path_text(path: Iterable[str | int]) -> str:
    """``routes[3].match.host``; names with other characters are quoted in brackets."""
    text = ""
    for step in path:
        if isinstance(step, int):
            text += f"[{step}]"
        elif _PLAIN.fullmatch(step):
            text += f".{step}" if text else step
        else:
            text += f"[{step!r}]"
    return text


def nearest(word: str, known: Iterable[str], cutoff: float = 0.6) -> str | None:
    """A hint with the known word that looks most like this one."""
    candidates = [name for name, _ in zip(known, range(_MAX_CANDIDATES), strict=False)]
    found = difflib.get_close_matches(word, candidates, n=1, cutoff=cutoff)
    return f"did you mean {found[0]}?" if found else None


def shown(value: object) -> str:
    """A value as whoever wrote it would recognise it, of bounded length."""
    if value is None:
        return "nothing"
    if isinstance(value, dict | list | tuple):
        return f"a {'mapping' if isinstance(value, dict) else 'list'}"
    if isinstance(value, int) and value.bit_length() > 1_000:
        return "a number of more than 300 digits"  # Python prints none of 4,300
    text = str(value).lower() if isinstance(value, bool) else repr(value)
    return text if len(text) <= 60 else f"{text[:60]}…"
