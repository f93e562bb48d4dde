"""An upstream that records every byte it gets and answers what the test says."""

from __future__ import annotations

import asyncio
import ssl
from collections.abc import Awaitable, Callable
from types import TracebackType
from typing import Self

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


class Origin:
    """Listens on a free port for as long as its block lasts."""

    address = "127.0.0.1"

    def __init__(self, handler: Handler | bytes, tls: ssl.SSLContext | None = None) -> None:
        self._handler = handler
        self._tls = tls
        self._tasks: set[asyncio.Task[None]] = set()
        self.visits: list[Visit] = []
        self.reached = asyncio.Event()
        self.port = 0

    async def _visit(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        visit = Visit(reader, writer, self.reached)
        self.visits.append(visit)
        task = asyncio.current_task()
        assert task is not None
        self._tasks.add(task)
        try:
            if isinstance(self._handler, bytes):
                while True:
                    await visit.head()
                    await visit.send(self._handler)
            else:
                await self._handler(visit)
        except (asyncio.IncompleteReadError, ConnectionError, asyncio.CancelledError):
            pass  # the proxy left, or the test is over
        finally:
            self._tasks.discard(task)
            writer.close()

    @property
    def seen(self) -> bytes:
        """Every byte of every connection."""
        return b"".join(visit.seen for visit in self.visits)

    async def __aenter__(self) -> Self:
        self._server = await asyncio.start_server(self._visit, self.address, 0, ssl=self._tls)
        self.port = self._server.sockets[0].getsockname()[1]
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._server.close()
        tasks = list(self._tasks)
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
