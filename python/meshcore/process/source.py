"""The configuration's file, and whether it still says what is in force.

After a refused change, or a step back, it does not: all goes well until a restart reads it.
"""

from __future__ import annotations

import hashlib
from typing import TYPE_CHECKING

from meshcore.config.document import MAX_BYTES
from meshcore.config.file import read_file

if TYPE_CHECKING:
    from pathlib import Path

    from meshcore.process.history import Revision

_Stamp = tuple[int, int, int, int]


class Source:
    """A file; read again only when it looks like another."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._stamp: _Stamp | None = None
        self._digest = b""
        self._of: tuple[Revision | None, bytes] = (None, b"")

    def says(self, revision: Revision) -> bool:
        """Whether it holds the text of a revision. A file that cannot be read does not."""
        if self._of[0] is not revision:
            self._of = (revision, hashlib.sha256(revision.text).digest())
        try:
            return self._read() == self._of[1]
        except OSError:
            return False

    def _read(self) -> bytes:
        found = self.path.stat()
        stamp = (found.st_dev, found.st_ino, found.st_size, found.st_mtime_ns)
        if stamp != self._stamp:
            self._digest = hashlib.sha256(read_file(self.path, MAX_BYTES)).digest()
            self._stamp = stamp
        return self._digest
