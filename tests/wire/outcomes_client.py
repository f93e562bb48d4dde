"""A client that asks in HTTP/1.1, in HTTP/2 or for a gRPC call, and sees how that ends."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Protocol

import pytest

from meshcore import Proxy
from tests.wire.either import h1_head
from tests.wire.h2_client import H2Client, connect
from tests.wire.h2_peer import Field, ResetError, Stream
from tests.wire.tunnel_ends import h1_request, h2_request

# What an endpoint says first of a body that does not end; a gRPC message, too.
BEGUN = b"\0\0\0\0\5begun"
CALL: tuple[Field, ...] = (("te", "trailers"), ("content-type", "application/grpc"))


@dataclass
class Got:
    """A whole answer."""

    status: int
    fields: dict[str, str]
    body: bytes
    grpc: str | None = None


class Asker(Protocol):
    """One connection, and one request on it at a time."""

    async def ask(self, path: str, *fields: Field, body: bytes = b"", end: bool = True) -> None:
        """Send a request; of a body that does not end only this."""

    async def raw(self, data: bytes) -> None:
        """More of the body, as it is."""

    async def tunnel(self, path: str) -> None:
        """Ask for a tunnel, and wait until it is open."""

    async def connect(self) -> None:
        """Ask for a tunnel to another host."""

    async def options(self, path: str, *fields: Field) -> None:
        """Ask what is possible."""

    async def got(self) -> Got:
        """Wait for the whole answer."""

    async def begun(self) -> None:
        """Wait until what the endpoint said first is here."""

    async def torn(self) -> None:
        """Wait for an end that is none."""

    async def leave(self) -> None:
        """Go."""

    def fall_silent(self) -> None:
        """Take nothing more."""


class H1Asker:
    """HTTP/1.1."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.reader, self.writer = reader, writer

    async def ask(self, path: str, *fields: Field, body: bytes = b"", end: bool = True) -> None:
        method = "GET" if end and not body else "POST"
        lines = "".join(f"{name}: {value}\r\n" for name, value in fields)
        length = f"content-length: {len(body)}\r\n" if end and body else ""
        length = length if end else "transfer-encoding: chunked\r\n"
        head = f"{method} {path} HTTP/1.1\r\nhost: a.test\r\n{lines}{length}\r\n"
        await self.raw(head.encode())
        if body and not end:
            await self.raw(b"%x\r\n%b\r\n" % (len(body), body))
        elif body:
            await self.raw(body)

    async def raw(self, data: bytes) -> None:
        self.writer.write(data)
        await self.writer.drain()

    async def tunnel(self, path: str) -> None:
        await self.raw(h1_request("websocket", path=path))
        assert (await h1_head(self.reader))[":status"] == "101"

    async def connect(self) -> None:
        await self.raw(h1_request("connect"))

    async def options(self, path: str, *fields: Field) -> None:
        lines = "".join(f"{name}: {value}\r\n" for name, value in fields)
        await self.raw(f"OPTIONS {path} HTTP/1.1\r\nhost: a.test\r\n{lines}\r\n".encode())

    async def got(self) -> Got:
        fields = await h1_head(self.reader)
        status = int(fields.pop(":status"))
        body = await self.reader.readexactly(int(fields["content-length"]))
        return Got(status, fields, body)

    async def begun(self) -> None:
        await self.reader.readuntil(BEGUN)

    async def torn(self) -> None:
        with pytest.raises(ConnectionError):
            await self.reader.read()

    async def leave(self) -> None:
        self.writer.transport.abort()

    def fall_silent(self) -> None:
        self.writer.transport.pause_reading()  # type: ignore[attr-defined]  # it reads, too


class H2Asker:
    """HTTP/2, or with `grpc` a call."""

    def __init__(self, client: H2Client, grpc: bool) -> None:
        self.client, self._grpc = client, grpc
        self.stream: Stream

    async def ask(self, path: str, *fields: Field, body: bytes = b"", end: bool = True) -> None:
        self._open(path, fields, only_head=end and not body and not self._grpc)
        if self._grpc:
            await self.stream.send(body or BEGUN, end=end)
        elif body or not end:
            await self.stream.send(body, end=end)

    def _open(self, path: str, fields: tuple[Field, ...], only_head: bool) -> None:
        method = "GET" if only_head else "POST"
        fields = (*CALL, *fields) if self._grpc else fields
        self.stream = self.client.ask(path, *fields, method=method, end=only_head)

    async def raw(self, data: bytes) -> None:
        await self.stream.send(data)

    async def tunnel(self, path: str) -> None:
        self.stream = self.client.open(*h2_request("websocket", path=path), end=False)
        assert (await self.stream.head())[":status"] == "200"

    async def connect(self) -> None:
        self.stream = self.client.open(*h2_request("connect"), end=False)

    async def options(self, path: str, *fields: Field) -> None:
        self.stream = self.client.ask(path, *fields, method="OPTIONS")

    async def got(self) -> Got:
        body = await self.stream.whole()
        fields = self.stream.fields | (self.stream.trailers or {})
        return Got(self.stream.status, fields, body, fields.get("grpc-status"))

    async def begun(self) -> None:
        await self.stream.until(lambda: bytes(self.stream.body).startswith(BEGUN))

    async def torn(self) -> None:
        with pytest.raises(ResetError):
            await self.stream.whole()

    async def leave(self) -> None:
        self.stream.cancel()
        await self.client.round_trip()

    def fall_silent(self) -> None:
        self.stream.credit = False


@asynccontextmanager
async def asking(speaks: str, proxy: Proxy) -> AsyncIterator[Asker]:
    """A client of the proxy."""
    url = proxy.addresses["edge"]
    if speaks != "h1":
        async with H2Client(url) as client:
            yield H2Asker(client, speaks == "grpc")
        return
    reader, writer = await connect(url, None)
    yield H1Asker(reader, writer)
    writer.close()
