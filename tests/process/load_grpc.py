"""The load's gRPC streams: long ones, that say something now and then and hear it again."""

from __future__ import annotations

import time

from tests.process import load_frames as h2
from tests.process.load_book import Book
from tests.process.load_h2 import AUTHORITY, Connection2, Connections2

CALL = b"".join(
    (
        b"\x83\x86" + AUTHORITY + b"\x04\x09/rpc/Echo",
        h2.literal(b"content-type", b"application/grpc"),
        h2.literal(b"te", b"trailers"),
    )
)
MESSAGE = b"\0\0\0\0\x20" + b"m" * 32


class Call:
    """One stream."""

    def __init__(self, book: Book, until_s: float) -> None:
        self._book = book
        self._until_s = until_s
        self._at: tuple[Connection2, int] | None = None
        self._sent = self._heard = 0
        self._status = self._code = ""
        self._said_all = False
        self.over = False

    def opened(self, connection: Connection2, number: int) -> None:
        self._at = connection, number

    def say(self, *, last: bool) -> None:
        """A message, if there is a connection yet."""
        if self._at is None or self._said_all:
            return
        self._said_all = last or time.monotonic() >= self._until_s
        self._sent += 1
        connection, number = self._at
        connection.send(number, MESSAGE, h2.END_STREAM if self._said_all else 0)

    def headers(self, fields: dict[str, str]) -> None:
        self._status = fields.get(":status", self._status)
        self._code = fields.get("grpc-status", self._code)

    def data(self, data: bytes) -> None:
        self._heard += len(data)

    def end(self, port: int) -> None:
        self.over = True
        said = self._status, self._code, self._heard
        if self._said_all and said == ("200", "0", self._sent * len(MESSAGE)):
            self._book.done["grpc"] += 1
        else:
            self._book.fail("grpc", f"ended: {said} for {self._sent} messages", port)

    def fail(self, what: str, port: int) -> None:
        self.over = True
        self._book.fail("grpc", what, port)


class Calls:
    """So many at all times, each for so long."""

    def __init__(self, connections: Connections2, size: int, lifetime_s: float) -> None:
        self._connections = connections
        self._size = size
        self._lifetime_s = lifetime_s
        self._running: list[Call] = []
        self.stopping = False

    def beat(self) -> None:
        """A message on each; those that are old enough end with it, and others begin."""
        book = self._connections.book
        self._running = [call for call in self._running if not call.over]
        while len(self._running) < self._size and not self.stopping:
            share = 1 - len(self._running) / self._size / 2  # not all end at one time
            call = Call(book, time.monotonic() + self._lifetime_s * share)
            book.asked["grpc"] += 1
            self._connections.begin(CALL, h2.END_HEADERS, call)
            self._running.append(call)
        for call in self._running:
            call.say(last=self.stopping)
