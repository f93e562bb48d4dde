"""The load's connections of HTTP/1.1."""

from __future__ import annotations

import asyncio
from collections import deque
from typing import cast

from tests.process.load_book import Book
from tests.process.load_origin import BODY
from tests.process.load_pool import Pool

REQUEST = b"GET /plain HTTP/1.1\r\nhost: a.test\r\n\r\n"


class Connections1(Pool):
    """So many, kept alive; one request at a time on each."""

    def __init__(self, host: str, port: int, size: int, book: Book) -> None:
        super().__init__("http1", (host, port), size, book)
        self._idle: deque[Connection1] = deque()
        self._due: deque[float] = deque()

    def protocol(self) -> asyncio.Protocol:
        return Connection1(self)

    def ask(self, due_s: float) -> None:
        """A request on the connection that waits longest, or on the first that is free."""
        self.book.asked[self.name] += 1
        if self._idle:
            self._idle.popleft().send(due_s)
        else:
            self._due.append(due_s)

    def free(self, connection: Connection1) -> None:
        """It can take another request."""
        if self._due:
            connection.send(self._due.popleft())
        else:
            self._idle.append(connection)

    def gone(self, connection: Connection1) -> None:
        """It is closed."""
        if connection in self._idle:
            self._idle.remove(connection)
        self.closed()


class Connection1(asyncio.Protocol):
    """One."""

    def __init__(self, owner: Connections1) -> None:
        self._owner = owner
        self._since_s: float | None = None
        self._leaving = False
        self._buffer = b""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast("asyncio.Transport", transport)
        self._port = transport.get_extra_info("sockname")[1]
        self._owner.free(self)

    def send(self, due_s: float) -> None:
        """The request that was due then."""
        self._since_s = due_s
        self._transport.write(REQUEST)

    def data_received(self, data: bytes) -> None:
        self._buffer += data
        head, found, body = self._buffer.partition(b"\r\n\r\n")
        if not found or (len(body) < len(BODY) and head.startswith(b"HTTP/1.1 200")):
            return
        since, self._since_s, self._buffer = self._since_s, None, b""
        owner = self._owner
        if since is None or not head.startswith(b"HTTP/1.1 200 ") or body != BODY:
            owner.book.fail(owner.name, f"answer: {head[:200]!r}", self._port)
            self._leave()
            return
        owner.book.answered(owner.name, since)
        if b"connection: close" in head.lower():
            owner.book.closed["connection: close"] += 1
            self._leave()
        else:
            owner.free(self)

    def _leave(self) -> None:
        self._leaving = True
        self._transport.close()

    def connection_lost(self, error: Exception | None) -> None:
        if self._since_s is not None:
            self._owner.book.fail(self._owner.name, "lost", self._port)
        elif not self._leaving:
            self._owner.book.closed["idle"] += 1
        self._owner.gone(self)
