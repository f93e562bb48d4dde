"""One line for each request, written by a thread of its own so that the loop never waits."""

from __future__ import annotations

import json
import threading
import time
from collections import deque
from datetime import UTC, datetime
from typing import IO, TYPE_CHECKING, Final

if TYPE_CHECKING:
    from meshcore._core import Answer, Listener, Peer
    from meshcore.exchange.exchange import Exchange

# Lines that wait for a slow disk or pipe; more are dropped and counted, never waited for.
MAX_WAITING: Final = 65_536
# So much at once is not mixed up with what other processes write to the same pipe (PIPE_BUF).
ATOMIC_BYTES: Final = 4096
# Lines that come within this time are written together: waking a thread for each would cost more
# than the line.
GATHER_S: Final = 0.01
# How long the last lines may take when the proxy ends.
CLOSE_S: Final = 2.0


class AccessLog:
    """Writes a ``text`` or ``json`` line for each request that is over, after the last line of the
    log before it. An observer of exchanges, for one thread."""

    def __init__(self, form: str, stream: IO[str], before: AccessLog | None = None) -> None:
        self._json = {"text": False, "json": True}[form]
        self._stream = stream
        self._lines: deque[str] = deque()
        self._wake = threading.Event()
        self._closing = threading.Event()
        self._dropped = 0
        self._told = 0
        self._thread: threading.Thread = threading.Thread(
            target=self._write_all,
            args=(before._thread if before is not None else None,),
            name="access-log",
            daemon=True,
        )
        self._thread.start()

    def began(self, exchange: Exchange, now_ns: int) -> None:
        """Nothing is written of a request before it is over."""

    def ended(self, exchange: Exchange) -> None:
        """Its ticket knows what the line tells."""
        ticket = exchange.ticket
        self.record(ticket.access_line(exchange.request, exchange.down.peer, self._json))

    def refused(self, stack: Listener, answer: Answer, sent: bool, peer: Peer) -> None:
        """What was no request has a line too: whoever sent it asks why."""
        self.record(stack.access_line(answer, sent, peer, self._json))

    def record(self, line: str) -> None:
        """Queue a line; when too many wait it is dropped and counted. Never blocks. O(1)."""
        if len(self._lines) >= MAX_WAITING:
            self._dropped += 1
            return
        self._lines.append(line)
        if not self._wake.is_set():
            self._wake.set()

    @property
    def dropped(self) -> int:
        """Lines that were not written."""
        return self._dropped

    def close(self) -> None:
        """Write what waits, for at most two seconds."""
        self._closing.set()
        self._wake.set()
        self._thread.join(CLOSE_S)

    def _write_all(self, before: threading.Thread | None) -> None:
        if before is not None:
            before.join(CLOSE_S)
        while not self._closing.is_set():
            self._wake.wait()
            self._wake.clear()
            self._write_waiting()
            self._closing.wait(GATHER_S)
        self._write_waiting()

    def _write_waiting(self) -> None:
        """Write all that waits, and tell of what was dropped."""
        lines: list[str] = []
        size = 0
        while self._lines:
            line = self._lines.popleft()
            length = len(line) if line.isascii() else len(line.encode())
            if lines and size + length > ATOMIC_BYTES:
                self._write_lines(lines)
                lines, size = [], 0
            lines.append(line)
            size += length
        if lines:
            self._write_lines(lines)
        if self._dropped != self._told:
            self._told = self._dropped
            self._write(dropped_line(self._told))

    def _write_lines(self, lines: list[str]) -> None:
        if not self._write("".join(lines)):
            self._dropped += len(lines)

    def _write(self, text: str) -> bool:
        try:
            self._stream.write(text)
            self._stream.flush()
        except (OSError, ValueError):
            return False  # the reader is gone; requests are not the ones to suffer
        return True


def dropped_line(count: int) -> str:
    """A line that says how many entries are missing so far; JSON in both forms."""
    stamp = datetime.fromtimestamp(time.time(), UTC).isoformat(timespec="milliseconds")
    return json.dumps({"time": stamp, "dropped": count}) + "\n"
