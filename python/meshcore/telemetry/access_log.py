"""One line for each request, written by a thread of its own so that the loop never waits."""

from __future__ import annotations

import json
import queue
import threading
import time
from datetime import UTC, datetime
from typing import IO, TYPE_CHECKING, Final, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Callable

# Lines that wait for a slow disk or pipe; more are dropped and counted, never waited for.
MAX_WAITING: Final = 65_536
# So much at once is not mixed up with what other processes write to the same pipe (PIPE_BUF).
ATOMIC_BYTES: Final = 4096
# How long the last lines may take when the proxy ends.
CLOSE_S: Final = 2.0


class Entry(NamedTuple):
    """What is written of a request. Text of the client's is quoted when it is written."""

    ended_s: float
    """Unix time."""
    listener: str
    client: str
    method: str
    host: str
    target: str
    """Path and query as forwarded."""
    protocol: str
    status: int
    """0: the client left before a response."""
    reason: str
    """Why the proxy answered itself; empty when the endpoint did."""
    route: str
    attempts: int
    duration_ms: float
    """From the head of the request to the end of the response."""
    request_id: str


class AccessLog:
    """Writes entries as ``text`` or ``json`` lines, after the last line of the log before it.
    `record` is for one thread."""

    def __init__(self, form: str, stream: IO[str], before: AccessLog | None = None) -> None:
        self._line: Callable[[Entry], str] = {"text": text_line, "json": json_line}[form]
        self._stream = stream
        self._entries: queue.SimpleQueue[Entry | None] = queue.SimpleQueue()
        self._dropped = 0
        self._told = 0
        self._unflushed = 0
        self._thread: threading.Thread = threading.Thread(
            target=self._write_all,
            args=(before._thread if before is not None else None,),
            name="access-log",
            daemon=True,
        )
        self._thread.start()

    def record(self, entry: Entry) -> None:
        """Queue an entry; when too many wait it is dropped and counted. Never blocks. O(1)."""
        if self._entries.qsize() >= MAX_WAITING:
            self._dropped += 1
        else:
            self._entries.put(entry)

    @property
    def dropped(self) -> int:
        """Entries that were not written."""
        return self._dropped

    def close(self) -> None:
        """Write what waits, for at most two seconds."""
        self._entries.put(None)
        self._thread.join(CLOSE_S)

    def _write_all(self, before: threading.Thread | None) -> None:
        if before is not None:
            before.join(CLOSE_S)
        while (entry := self._entries.get()) is not None:
            self._dropped += not self._write(self._line(entry))
            if self._entries.empty():
                self._catch_up()
        self._catch_up()

    def _catch_up(self) -> None:
        """Nothing waits: tell of what was dropped, and let the reader see it all."""
        if self._dropped != self._told:
            self._told = self._dropped
            self._write(dropped_line(self._told))
        self._write("", flush=True)

    def _write(self, text: str, *, flush: bool = False) -> bool:
        size = len(text.encode())
        try:
            if self._unflushed and self._unflushed + size > ATOMIC_BYTES:
                self._unflushed = 0
                self._stream.flush()
            self._stream.write(text)
            self._unflushed += size
            if flush:
                self._unflushed = 0
                self._stream.flush()
        except (OSError, ValueError):
            return False  # the reader is gone; requests are not the ones to suffer
        return True


def stamp(unix_s: float) -> str:
    """RFC 3339 in UTC with milliseconds."""
    return datetime.fromtimestamp(unix_s, UTC).isoformat(timespec="milliseconds")


def json_line(entry: Entry) -> str:
    """One JSON object."""
    fields = entry._asdict()
    fields["time"] = stamp(fields.pop("ended_s"))
    fields["duration_ms"] = round(entry.duration_ms, 3)
    return json.dumps(fields, separators=(",", ":")) + "\n"


def text_line(entry: Entry) -> str:
    """Words in a fixed order; what the client chose is quoted as JSON text."""
    asked = json.dumps(f"{entry.method} {entry.host}{entry.target} HTTP/{entry.protocol}")
    return (
        f"{stamp(entry.ended_s)} {entry.listener} {entry.client} {asked} {entry.status} "
        f"{entry.reason or '-'} {entry.route or '-'} {entry.attempts} {entry.duration_ms:.3f}ms "
        f"{json.dumps(entry.request_id)}\n"
    )


def dropped_line(count: int) -> str:
    """A line that says how many entries are missing so far; JSON in both forms."""
    return json.dumps({"time": stamp(time.time()), "dropped": count}) + "\n"
