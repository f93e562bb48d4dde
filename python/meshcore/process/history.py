"""The configurations that were in force, to go back to."""

from __future__ import annotations

import zlib
from collections import deque
from dataclasses import dataclass
from typing import Final

# As many as are kept; a configuration of a hundred thousand routes packs to about a megabyte.
MOST: Final = 10


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
