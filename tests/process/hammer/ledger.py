"""What hammered processes leave behind, whenever they are killed.

A count is one word of a shared file, written by one process: a store of eight bytes is whole or was
not made. An event is one small append. Both are the kernel's at once and outlive who wrote them.
"""

from __future__ import annotations

import mmap
import os
import struct
from collections.abc import Iterator
from pathlib import Path
from typing import Final, NamedTuple

SEATS: Final = 16
"""Processes that write at one time; a seat's counts go on with its next process."""


class Ledger:
    """Counts by seat and number."""

    def __init__(self, path: Path, counts: int) -> None:
        self._counts = counts
        size = SEATS * counts * 8
        with path.open("a+b") as file:
            file.truncate(size)
            self._memory = mmap.mmap(file.fileno(), size)
        self._words = memoryview(self._memory).cast("Q")

    def add(self, seat: int, count: int) -> None:
        """One more; only the process of that seat does it."""
        self._words[seat * self._counts + count] += 1

    def sum(self, count: int) -> int:
        """What all seats have."""
        return sum(self._words[seat * self._counts + count] for seat in range(SEATS))

    def close(self) -> None:
        """Give the mapping back."""
        self._words.release()
        self._memory.close()


class Event(NamedTuple):
    """Something that a process did, and when."""

    what: int
    at_ns: int


_EVENT: Final = struct.Struct("<2q")


class Events:
    """A process's own file of events."""

    def __init__(self, path: Path) -> None:
        self._fd = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)

    def say(self, what: int, at_ns: int) -> None:
        """Note an event."""
        os.write(self._fd, _EVENT.pack(what, at_ns))

    @staticmethod
    def read(path: Path) -> Iterator[Event]:
        """What was noted, in order."""
        data = path.read_bytes() if path.exists() else b""
        return (Event(*each) for each in _EVENT.iter_unpack(data))
