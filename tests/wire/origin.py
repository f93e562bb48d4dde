"""An upstream that records every byte it gets and answers what the test says."""

from __future__ import annotations

import asyncio
import ssl
from collections.abc import Awaitable, Callable

from tests.wire.serving import Serving

Handler = Callable[["Visit"], Awaitable[None]]


def response(body: bytes = b"", status: str = "200 OK", *fields: str) -> bytes:
    """A whole response with a length."""
    lines = [f"HTTP/1.1 {status}", f"content-length: {len(body)}", *fields]
    return "\r\n".join(lines).encode() + b"\r\n\r\n" + body


class Visit:
    """One connection to the origin."""

    def __init__(
        self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, reached: asyncio.Event
    ) -> None:
        self._reached = reached
        self.reader = reader
        self.writer = writer
        self.seen = b""

    async def head(self) -> bytes:
        """Read a head; `IncompleteReadError` when the proxy closes instead."""
        head = await self.reader.readuntil(b"\r\n\r\n")
        self.seen += head
        self._reached.set()
        return head

    async def body(self, size: int) -> bytes:
        """Read that many bytes."""
        data = await self.reader.readexactly(size)
        self.seen += data
        return data

    async def send(self, data: bytes) -> None:
        """Write, and wait until the proxy takes it."""
        self.writer.write(data)
        await self.writer.drain()


class Origin(Serving):
    """Listens on a free port for as long as its block lasts."""

    def __init__(self, handler: Handler | bytes, tls: ssl.SSLContext | None = None) -> None:
        super().__init__(tls)
        self._handler = handler
        self.visits: list[Visit] = []
        self.reached = asyncio.Event()

    async def _visit(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        visit = Visit(reader, writer, self.reached)
        self.visits.append(visit)
        try:
            if isinstance(self._handler, bytes):
                while True:
                    await visit.head()
                    await visit.send(self._handler)
            else:
                await self._handler(visit)
        except (asyncio.IncompleteReadError, ConnectionError):
            pass  # the proxy left

    @property
    def seen(self) -> bytes:
        """Every byte of every connection."""
        return b"".join(visit.seen for visit in self.visits)
