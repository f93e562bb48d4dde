"""The load's connections of HTTP/2, for requests and for gRPC streams."""

from __future__ import annotations

import asyncio
from collections import deque
from typing import Protocol, cast

import hpack

from tests.process import load_frames as h2
from tests.process.load_book import Book
from tests.process.load_origin import BODY
from tests.process.load_pool import Pool

AUTHORITY = b"\x01\x06a.test"
GET = b"\x82\x86" + AUTHORITY + b"\x04\x06/plain"
_BOTH = h2.END_HEADERS | h2.END_STREAM


class Asked(Protocol):
    """A stream of the client's."""

    def opened(self, connection: Connection2, number: int) -> None:
        """It has a connection."""

    def headers(self, fields: dict[str, str]) -> None:
        """A head, or trailers."""

    def data(self, data: bytes) -> None:
        """A piece of the body."""

    def end(self, port: int) -> None:
        """The server ended it."""

    def fail(self, what: str, port: int) -> None:
        """It ended in another way."""


class Get:
    """A request and its answer."""

    def __init__(self, book: Book, due_s: float) -> None:
        self._book = book
        self._due_s = due_s
        self._status = ""
        self._body = b""

    def opened(self, connection: Connection2, number: int) -> None: ...

    def headers(self, fields: dict[str, str]) -> None:
        self._status = fields.get(":status", self._status)

    def data(self, data: bytes) -> None:
        self._body += data

    def end(self, port: int) -> None:
        if self._status == "200" and self._body == BODY:
            self._book.answered("http2", self._due_s)
        else:
            self._book.fail("http2", f"answer: {self._status} {self._body!r}", port)

    def fail(self, what: str, port: int) -> None:
        self._book.fail("http2", what, port)


class Connections2(Pool):
    """So many, each for many streams, in turn."""

    def __init__(self, host: str, port: int, size: int, book: Book) -> None:
        super().__init__("http2", (host, port), size, book)
        self._fit: deque[Connection2] = deque()
        self._waiting: deque[tuple[bytes, int, Asked]] = deque()

    def protocol(self) -> asyncio.Protocol:
        return Connection2(self)

    def ask(self, due_s: float) -> None:
        """A request."""
        self.book.asked["http2"] += 1
        self.begin(GET, _BOTH, Get(self.book, due_s))

    def begin(self, block: bytes, flags: int, asked: Asked) -> None:
        """A stream, on the next connection or on the first there is."""
        if not self._fit:
            self._waiting.append((block, flags, asked))
            return
        connection = self._fit[0]
        self._fit.rotate(-1)
        connection.begin(block, flags, asked)

    def fit(self, connection: Connection2) -> None:
        """It takes streams."""
        self._fit.append(connection)
        while self._waiting:
            self.begin(*self._waiting.popleft())

    def unfit(self, connection: Connection2) -> None:
        """It takes no more: there is another in its place."""
        if connection in self._fit:
            self._fit.remove(connection)
            self.closed()


class Connection2(asyncio.Protocol):
    """One."""

    def __init__(self, owner: Connections2) -> None:
        self._owner = owner
        self._frames = h2.Frames()
        self._decoder = hpack.Decoder()
        self.streams: dict[int, Asked] = {}
        self._next = 1
        self._leaving = False

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast("asyncio.Transport", transport)
        self._port = transport.get_extra_info("sockname")[1]
        self._transport.write(h2.PREFACE + h2.settings() + h2.window(0, h2.WINDOW))
        self._owner.fit(self)

    def begin(self, block: bytes, flags: int, asked: Asked) -> None:
        """Open a stream."""
        number, self._next = self._next, self._next + 2
        self.streams[number] = asked
        asked.opened(self, number)
        self._transport.write(h2.frame(h2.HEADERS, number, block, flags))

    def send(self, number: int, data: bytes, flags: int = 0) -> None:
        """A piece of a body: far less than the window ever is."""
        self._transport.write(h2.frame(h2.DATA, number, data, flags))

    def data_received(self, data: bytes) -> None:
        for each in self._frames.of(data):
            self._came(each)
        if self._leaving and not self.streams:
            self._transport.close()

    def _came(self, came: h2.Frame) -> None:
        stream = self.streams.get(came.stream)
        match came.kind:
            case h2.HEADERS:
                fields = dict(self._decoder.decode(came.payload))
                if stream is not None:
                    stream.headers({str(k): str(v) for k, v in fields.items()})
            case h2.DATA if stream is not None:
                stream.data(came.payload)
            case h2.RESET:
                self._fail(came.stream, f"reset: {int.from_bytes(came.payload, 'big')}")
            case h2.SETTINGS if not came.flags & h2.ACK:
                self._transport.write(h2.frame(h2.SETTINGS, 0, flags=h2.ACK))
            case h2.PING if not came.flags & h2.ACK:
                self._transport.write(h2.frame(h2.PING, 0, came.payload, h2.ACK))
            case h2.GOAWAY:
                self._go(int.from_bytes(came.payload[:4], "big"), came.payload[4:])
        if came.kind in (h2.HEADERS, h2.DATA) and came.flags & h2.END_STREAM:
            ended = self.streams.pop(came.stream, None)
            if ended is not None:
                ended.end(self._port)

    def _go(self, last: int, why: bytes) -> None:
        if not self._leaving:
            self._leaving = True
            self._owner.book.closed["GOAWAY"] += 1
            self._owner.unfit(self)
        for number in [each for each in self.streams if each > last]:
            asked = self.streams[number]
            if isinstance(asked, Get):  # RFC 9113 §6.8: nothing was done for it, so it is repeated
                del self.streams[number]
                self._owner.begin(GET, _BOTH, asked)
            else:
                self._fail(number, f"above GOAWAY's last: {why!r}")

    def _fail(self, number: int, what: str) -> None:
        failed = self.streams.pop(number, None)
        if failed is not None:
            failed.fail(what, self._port)

    def connection_lost(self, error: Exception | None) -> None:
        for number in list(self.streams):
            self._fail(number, "lost")
        if not self._leaving:
            self._owner.book.closed["idle"] += 1
            self._owner.unfit(self)
