"""The configurations that were in force, to go back to; and the last that was refused."""

from __future__ import annotations

import time
import zlib
from collections import deque
from dataclasses import dataclass
from typing import Final

# As many as are kept; a configuration of a hundred thousand routes packs to about a megabyte.
MOST: Final = 10
# Who has more problems than these mends the first ones first.
MOST_PROBLEMS: Final = 20


@dataclass(frozen=True, slots=True)
class Revision:
    """One configuration that was put in force."""

    version: int
    unix_s: float
    origin: str
    """What put it in force: ``start``, ``reload``, ``rollback to N`` ..."""
    packed: bytes
    """The YAML text, as it was read, compressed."""

    @classmethod
    def of(cls, version: int, unix_s: float, origin: str, text: bytes) -> Revision:
        """A revision of a text."""
        return cls(version, unix_s, origin, zlib.compress(text, 1))

    @property
    def text(self) -> bytes:
        """The YAML text."""
        return zlib.decompress(self.packed)


class History:
    """The last ten, the newest last."""

    def __init__(self) -> None:
        self.revisions: deque[Revision] = deque(maxlen=MOST)

    def add(self, revision: Revision) -> None:
        """A configuration is in force."""
        self.revisions.append(revision)

    def back(self, version: int | None) -> Revision:
        """The one of this number, or the one before the newest. Raises `LookupError`."""
        if version is None:
            if len(self.revisions) < 2:
                raise LookupError("there is no configuration before this one")
            return self.revisions[-2]
        for revision in self.revisions:
            if revision.version == version:
                return revision
        known = ", ".join(str(revision.version) for revision in self.revisions)
        raise LookupError(f"version {version} is not among the last {MOST}: {known}")


@dataclass(frozen=True, slots=True)
class Refusal:
    """A change that was not put in force."""

    unix_s: float
    origin: str
    """What was to put it in force, as of a `Revision`."""
    problems: tuple[str, ...]
    """The first ones, a line each."""

    @classmethod
    def of(cls, origin: str, error: Exception) -> Refusal:
        """What an error says."""
        lines = str(error).splitlines() or [type(error).__name__]
        more = len(lines) - MOST_PROBLEMS
        shown = [*lines[:MOST_PROBLEMS], *([f"and {more:,} more"] if more > 0 else [])]
        return cls(time.time(), origin, tuple(shown))


def stamp(unix_s: float) -> str:
    """A time as people and programs read it."""
    return time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(unix_s))
