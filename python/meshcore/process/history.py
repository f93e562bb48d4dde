"""The configurations that a source gave and that were in force, to go back to; and why the last
change was refused.
"""

from __future__ import annotations

import hashlib
import time
import zlib
from collections import deque
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

if TYPE_CHECKING:
    from collections.abc import Iterable

# As many as are kept; a configuration of a hundred thousand routes packs to about a megabyte.
MOST: Final = 10
# How many problems of a refused configuration are kept: the first ones.
MOST_PROBLEMS: Final = 20


@dataclass(frozen=True, slots=True)
class Revision:
    """One configuration that was put in force."""

    version: int
    unix_s: float
    origin: str
    """What put it in force: ``start``, ``reload``, ``rollback to N`` ..."""
    packed: bytes
    """The document that its source gave, compressed."""
    digest: bytes
    """SHA-256 of the document."""

    @classmethod
    def of(cls, version: int, origin: str, document: bytes) -> Revision:
        """A revision that is put in force now."""
        digest = hashlib.sha256(document).digest()
        return cls(version, time.time(), origin, zlib.compress(document, 1), digest)

    @property
    def document(self) -> bytes:
        """What its source makes the same configuration of again."""
        return zlib.decompress(self.packed)

    def exported(self) -> dict[str, Any]:
        """For another program, perhaps of another version: keys may be added, and no key ever
        changes its meaning."""
        return {
            "version": self.version,
            "unix_s": self.unix_s,
            "origin": self.origin,
            "packed": self.packed,
            "digest": self.digest,
        }

    @classmethod
    def imported(cls, given: dict[str, Any]) -> Revision:
        """The other side of `exported`."""
        packed = given["packed"]
        digest = given.get("digest") or hashlib.sha256(zlib.decompress(packed)).digest()
        return cls(given["version"], given["unix_s"], given["origin"], packed, digest)


class History:
    """The last ten, the newest last."""

    def __init__(self, earlier: Iterable[Revision] = ()) -> None:
        self.revisions: deque[Revision] = deque(earlier, maxlen=MOST)

    @property
    def newest(self) -> Revision:
        """The last that a start, a reload or a step back put in force: it is so still, but for
        listeners that were drained since. Raises `IndexError` before the first."""
        return self.revisions[-1]

    def add(self, revision: Revision) -> None:
        """A configuration is in force."""
        self.revisions.append(revision)

    def back(self, version: int | None) -> Revision:
        """The one of this number, or the one before the newest, whatever was drained since. Raises
        `LookupError`."""
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
