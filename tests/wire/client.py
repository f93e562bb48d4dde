"""A client that writes raw bytes and reads responses one by one."""

from __future__ import annotations

import asyncio
import ssl
from dataclasses import dataclass
from types import TracebackType
from typing import Self
from urllib.parse import urlsplit


@dataclass
class Reply:
    """A response as it came."""

    status: int
    fields: dict[str, str]
    body: bytes


class Client:
    """One connection to the proxy."""

    def __init__(
        self, url: str, source: str | None = None, tls: ssl.SSLContext | None = None
    ) -> None:
        self._at = urlsplit(url)
        self._source = source
        self._tls = tls

    async def __aenter__(self) -> Self:
        local = (self._source, 0) if self._source else None
        self.reader, self.writer = await asyncio.open_connection(
            self._at.hostname, self._at.port, local_addr=local, ssl=self._tls
        )
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.writer.close()

    async def send(self, data: bytes) -> None:
        """Write bytes."""
        self.writer.write(data)
        await self.writer.drain()

    async def head(self) -> Reply:
        """Read a response head."""
        lines = (await self.reader.readuntil(b"\r\n\r\n")).decode().split("\r\n")
        fields = dict(line.lower().split(": ", 1) for line in lines[1:-2])
        return Reply(int(lines[0].split()[1]), fields, b"")

    async def reply(self) -> Reply:
        """Read a whole response."""
        reply = await self.head()
        if reply.fields.get("transfer-encoding") == "chunked":
            while size := int(await self.reader.readline(), 16):
                reply.body += (await self.reader.readexactly(size + 2))[:-2]
            await self.reader.readuntil(b"\r\n")
        elif (length := reply.fields.get("content-length")) is not None:
            reply.body = await self.reader.readexactly(int(length))
        elif reply.status >= 200 and reply.status not in (204, 304):
            reply.body = await self.reader.read()
        return reply

    async def get(self, path: str = "/", *fields: str, method: str = "GET") -> Reply:
        """One request without a body, and its response."""
        lines = [f"{method} {path} HTTP/1.1", "host: a.test", *fields]
        await self.send("\r\n".join(lines).encode() + b"\r\n\r\n")
        return await self.reply()

    async def closed(self) -> bytes:
        """What comes until the proxy closes; then the client does, as clients do."""
        rest = await self.reader.read()
        self.writer.close()
        return rest
