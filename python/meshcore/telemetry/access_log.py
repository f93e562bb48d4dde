"""One line for each request, written by a thread of its own so that the loop never waits."""

from __future__ import annotations

import json
import threading
import time
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Final

from meshcore._core import LogLines
from meshcore.telemetry.counts import ProgramCount

if TYPE_CHECKING:
    from collections.abc import Callable

    from meshcore._core import Answer, ListenerStack, Peer
    from meshcore.exchange.exchange import Exchange
    from meshcore.telemetry.log_output import LogOutput

# Lines that wait for a slow disk or pipe; more are dropped and counted, never waited for.
MAX_WAITING: Final = 65_536
# Lines that come within this time are written together: waking a thread for each would cost more
# than the line.
GATHER_S: Final = 0.01
# How long the last lines may take when the proxy ends.
CLOSE_S: Final = 2.0


class AccessLog:
    """Writes a ``text`` or ``json`` line for each request that is over, after the last line of the
    log before it. An observer of exchanges, for one thread."""

    def __init__(
        self,
        form: str,
        output: LogOutput,
        before: AccessLog | None = None,
        count: Callable[[ProgramCount, int], None] = lambda place, n: None,
    ) -> None:
        """``count`` hears of lines that were dropped, in another thread."""
        self._lines = LogLines({"text": False, "json": True}[form], MAX_WAITING)
        self._output = output
        self._count = count
        self._wake = threading.Event()
        self._closing = threading.Event()
        self._unwritten = 0
        self._counted = 0  # of those that were dropped
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
        if self._lines.add(exchange.ticket, exchange.request, exchange.down.peer):
            self._wake.set()

    def refused(self, stack: ListenerStack, answer: Answer, sent: bool, peer: Peer) -> None:
        """What was no request has a line too: its sender asks why."""
        if self._lines.add_refused(stack, answer, sent, peer):
            self._wake.set()

    def record(self, line: str) -> None:
        """Queue a line; when too many wait it is dropped and counted. Never blocks. O(1)."""
        if self._lines.add_text(line):
            self._wake.set()

    @property
    def dropped(self) -> int:
        """Lines that were not written."""
        return self._lines.dropped + self._unwritten

    def reopen(self) -> None:
        """Open its file anew, if it has one. For any thread."""
        self._output.reopen()
        self._wake.set()

    def close(self) -> None:
        """Write what waits, for at most two seconds."""
        self._closing.set()
        self._wake.set()
        self._thread.join(CLOSE_S)

    def _write_all(self, before: threading.Thread | None) -> None:
        if before is not None:
            before.join(CLOSE_S)
        self._output.look()  # what is wrong with it is told before the first request
        while not self._closing.is_set():
            self._wake.wait()
            self._wake.clear()
            self._write_waiting()
            self._closing.wait(GATHER_S)
        self._write_waiting()
        self._output.close()

    def _write_waiting(self) -> None:
        """Write all that waits, in pieces that a pipe takes at once; tell of what was dropped."""
        self._output.look()
        for piece, _ in self._lines.take():
            self._unwritten += self._output.write(piece)
        dropped = self.dropped
        if dropped != self._counted:
            self._count(ProgramCount.LOG_LINES_DROPPED, dropped - self._counted)
            self._counted = dropped
        # What is full now may take it later.
        if dropped != self._told and not self._output.write(dropped_line(dropped).encode()):
            self._told = dropped


def dropped_line(count: int) -> str:
    """A line that says how many entries are missing so far; JSON in both forms."""
    stamp = datetime.fromtimestamp(time.time(), UTC).isoformat(timespec="milliseconds")
    return json.dumps({"time": stamp, "dropped": count}) + "\n"
