"""Where lines of a log go: a stream that is there, or a file that may be moved away meanwhile."""

from __future__ import annotations

import logging
import os
import time
from typing import IO, TYPE_CHECKING, Final, Protocol

if TYPE_CHECKING:
    from collections.abc import Callable

log = logging.getLogger("meshcore.access_log")

# Its owner writes, its group reads, as logrotate makes them; the umask may take more.
MODE: Final = 0o640
# How often it is seen whether a file is still where it was, and tried to open one that could not
# be.
LOOK_S: Final = 1.0
_LINE_FEED: Final = 0x0A


class LogOutput(Protocol):
    """Takes whole lines; for one thread, but for `reopen`."""

    def write(self, piece: bytes) -> int:
        """Write lines, the last with its line feed; how many of them are lost."""

    def reopen(self) -> None:
        """Open anew what has a name, before anything else is written. For any thread."""

    def look(self) -> None:
        """Open anew if that is due."""

    def close(self) -> None:
        """Nothing further is written."""


class LogStream:
    """A stream of the program's, which stays open."""

    def __init__(self, stream: IO[str]) -> None:
        self._stream = stream

    def write(self, piece: bytes) -> int:
        """As of `LogOutput`."""
        try:
            beneath = getattr(self._stream, "buffer", None)
            if beneath is None:
                self._stream.write(piece.decode())
                self._stream.flush()
            else:
                beneath.write(piece)
                beneath.flush()
        except (OSError, ValueError):
            return piece.count(b"\n")  # the reader is gone; requests are not the ones to suffer
        return 0

    def reopen(self) -> None:
        """It has no name."""

    def look(self) -> None:
        """It is where it was."""

    def close(self) -> None:
        """It is the program's."""


class LogFile:
    """A file that is appended to, by other processes too: one write for each piece, so that lines
    are never mixed (O_APPEND; of a pipe PIPE_BUF).

    It is opened anew when it was moved or removed, which is seen within a second, and when it is
    told so. If that cannot be, what was open goes on: no line is lost over it.
    """

    def __init__(self, path: str, clock: Callable[[], float] = time.monotonic) -> None:
        self._path = path
        self._clock = clock
        self._fd: int | None = None
        self._reopen = True
        self._looked_s = 0.0
        self._torn = False  # the last line has no end
        self._failed = False  # and told so
        self._astray = False  # what is open is not where it was, and there is no other

    def write(self, piece: bytes) -> int:
        """As of `LogOutput`."""
        self.look()
        if self._fd is None:
            return piece.count(b"\n")
        begun = b"\n" if self._torn else b""
        try:
            written = os.write(self._fd, begun + piece) - len(begun)
        except OSError as error:
            self._fail(error)
            return piece.count(b"\n")
        if written < len(piece):  # the disk is full, or a quota
            self._torn = written < 0 or (written > 0 and piece[written - 1] != _LINE_FEED)
            return piece.count(b"\n", max(written, 0))
        self._torn = False
        if self._failed and not self._astray:
            self._failed = False
            log.info("the access log is written to %s again", self._path)
        return 0

    def reopen(self) -> None:
        """As of `LogOutput`."""
        self._reopen = True

    def look(self) -> None:
        """Open it if it is told so, or is not where it was; the latter is seen once a second."""
        now = self._clock()
        if not self._reopen:
            if now - self._looked_s < LOOK_S:
                return
            self._looked_s = now
            if self._is_there():
                return
        self._reopen, self._looked_s = False, now
        try:
            fd = _open(self._path)
        except OSError as error:
            self._astray = True
            self._fail(error)
            return
        self.close()
        self._fd, self._torn, self._astray = fd, False, False

    def close(self) -> None:
        """As of `LogOutput`."""
        if self._fd is not None:
            os.close(self._fd)
            self._fd = None

    def _is_there(self) -> bool:
        if self._fd is None:
            return False
        try:
            return os.path.samestat(os.stat(self._path), os.fstat(self._fd))
        except OSError:
            return False

    def _fail(self, error: OSError) -> None:
        """Told once, until it goes well again."""
        if not self._failed:
            self._failed = True
            log.error("cannot write the access log to %s: %s", self._path, error.strerror)


def _open(path: str) -> int:
    # A pipe without a reader is an error then, and not waited for.
    fd = os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_NONBLOCK, MODE)
    os.set_blocking(fd, True)
    return fd
