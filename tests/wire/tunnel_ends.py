"""Both ends of a tunnel through the proxy, in either protocol; the origin gives everything back."""

from __future__ import annotations

import asyncio
import base64
import contextlib
import hashlib
import ssl
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field

from h2.settings import SettingCodes

from meshcore import Proxy
from meshcore.downstream.reset import reset_on_close
from tests.wire.either import h1_head
from tests.wire.h2_client import H2Client, connect
from tests.wire.h2_origin import Call, H2Origin
from tests.wire.h2_peer import Field, ResetError, Stream
from tests.wire.origin import Origin, Visit

KEY = "dGhlIHNhbXBsZSBub25jZQ=="
ACCEPT = "s3pPLMBiTxaQ9kYGzzhZRbK+xOo="  # for it (RFC 6455 §1.3)
ACCEPTS = "sec-websocket-accept"


def accept_of(key: str) -> str:
    """RFC 6455 §4.2.2."""
    digest = hashlib.sha1(f"{key}258EAFA5-E914-47DA-95CA-C5AB0DC85B11".encode()).digest()
    return base64.b64encode(digest).decode()


@dataclass
class H1End:
    """A client's end over HTTP/1.1."""

    reader: asyncio.StreamReader
    writer: asyncio.StreamWriter
    head: dict[str, str]

    async def send(self, data: bytes) -> None:
        """Bytes for the other end."""
        self.writer.write(data)
        await self.writer.drain()

    async def read(self, size: int) -> bytes:
        """So many bytes of the other end's."""
        return await self.reader.readexactly(size)

    async def ended(self) -> None:
        """Wait until the other end is gone."""
        with contextlib.suppress(ConnectionError):
            await self.reader.read()

    async def rest(self) -> bytes:
        """All that the other end still says."""
        return await self.reader.read()

    async def finish(self) -> None:
        """Say no more, and listen on."""
        self.writer.write_eof()

    def leave(self) -> None:
        """Go."""
        self.writer.close()

    def tear(self) -> None:
        """Go with a reset."""
        reset_on_close(self.writer.transport)  # type: ignore[arg-type]  # it reads, too
        self.writer.transport.abort()


@dataclass
class H2End:
    """A client's end over HTTP/2."""

    stream: Stream
    at: int = 0

    @property
    def head(self) -> dict[str, str]:
        """Of the response."""
        return self.stream.fields

    async def send(self, data: bytes) -> None:
        """Bytes for the other end."""
        await self.stream.send(data)

    async def read(self, size: int) -> bytes:
        """So many bytes of the other end's."""
        await self.stream.until(lambda: len(self.stream.body) >= self.at + size)
        self.at += size
        return bytes(self.stream.body[self.at - size : self.at])

    async def ended(self) -> None:
        """Wait until the other end is gone."""
        with contextlib.suppress(ResetError, ConnectionError):
            await self.stream.until(lambda: self.stream.ended)

    async def rest(self) -> bytes:
        """All that the other end still says."""
        return (await self.stream.whole())[self.at :]

    async def finish(self) -> None:
        """Say no more, and listen on."""
        await self.stream.send(b"", end=True)

    def leave(self) -> None:
        """Go."""
        self.stream.cancel()

    tear = leave


End = H1End | H2End


def h1_request(protocol: str, *fields: Field, path: str = "/chat") -> bytes:
    """The request for a tunnel; of `connect` to a.test:443."""
    lines = "".join(f"{name}: {value}\r\n" for name, value in fields)
    if protocol == "connect":
        return f"CONNECT a.test:443 HTTP/1.1\r\nhost: a.test:443\r\n{lines}\r\n".encode()
    upgrade = f"connection: upgrade\r\nupgrade: {protocol}\r\n"
    key = f"sec-websocket-key: {KEY}\r\nsec-websocket-version: 13\r\n"
    return f"GET {path} HTTP/1.1\r\nhost: a.test\r\n{upgrade}{key}{lines}\r\n".encode()


def h2_request(protocol: str, *fields: Field, path: str = "/chat") -> tuple[Field, ...]:
    """The same for HTTP/2 (RFC 8441 §4, RFC 9113 §8.5)."""
    if protocol == "connect":
        return ((":method", "CONNECT"), (":authority", "a.test:443"), *fields)
    return (
        (":method", "CONNECT"),
        (":protocol", protocol),
        (":scheme", "http"),
        (":path", path),
        (":authority", "a.test"),
        ("sec-websocket-version", "13"),
        *fields,
    )


@asynccontextmanager
async def dial(
    speaks: str,
    proxy: Proxy,
    *fields: Field,
    protocol: str = "websocket",
    tls: ssl.SSLContext | None = None,
) -> AsyncIterator[End]:
    """Ask for a tunnel, and wait for the answer's head."""
    url = proxy.addresses["edge"]
    if speaks == "h2":
        async with H2Client(url, tls=tls) as client:
            stream = client.open(*h2_request(protocol, *fields), end=False)
            await stream.head()
            yield H2End(stream)
        return
    reader, writer = await connect(url, tls)
    writer.write(h1_request(protocol, *fields))
    yield H1End(reader, writer, await h1_head(reader))
    writer.close()


Script = Callable[[End], Awaitable[None]]


@dataclass
class Scripted:
    """An origin that agrees to every tunnel, and then does what the test says."""

    speaks: str
    script: Script
    window: int = 65_535  # of each stream, for HTTP/2
    tls: ssl.SSLContext | None = None

    def origin(self) -> Origin | H2Origin:
        """Listens."""
        if self.speaks == "http1":
            return Origin(self._h1, tls=self.tls)
        codes = SettingCodes
        settings = {codes.ENABLE_CONNECT_PROTOCOL: 1, codes.INITIAL_WINDOW_SIZE: self.window}
        return H2Origin(self._h2, settings=settings, tls=self.tls)

    async def _h1(self, visit: Visit) -> None:
        head = await visit.head()
        switch = b"101 x\r\nconnection: upgrade\r\nupgrade: websocket"
        agreed = b"200 OK" if head.startswith(b"CONNECT") else switch
        await visit.send(b"HTTP/1.1 " + agreed + b"\r\n\r\n")
        await self.script(H1End(visit.reader, visit.writer, {}))

    async def _h2(self, call: Call) -> None:
        call.send_head((":status", "200"))
        await self.script(H2End(call))


@dataclass
class Echo:
    """An origin that agrees to every tunnel and gives back what comes through."""

    speaks: str
    enables: bool = True  # RFC 8441 §3, for HTTP/2
    asked: list[dict[str, str]] = field(default_factory=list)
    heard: bytearray = field(default_factory=bytearray)
    ended: asyncio.Event = field(default_factory=asyncio.Event)
    hang_up: asyncio.Event = field(default_factory=asyncio.Event)

    def origin(self) -> Origin | H2Origin:
        """Listens."""
        if self.speaks == "http1":
            return Origin(self._h1)
        settings = {SettingCodes.ENABLE_CONNECT_PROTOCOL: 1} if self.enables else None
        return H2Origin(self._h2, settings=settings)

    async def _h1(self, visit: Visit) -> None:
        while not await self._agree(visit):
            await visit.send(b"HTTP/1.1 200 OK\r\ncontent-length: 5\r\n\r\nplain")
        copying = asyncio.create_task(self._copy(visit))
        hanging = asyncio.create_task(self.hang_up.wait())
        await asyncio.wait((copying, hanging), return_when=asyncio.FIRST_COMPLETED)
        for task in (copying, hanging):
            task.cancel()
        await asyncio.gather(copying, hanging, return_exceptions=True)

    async def _agree(self, visit: Visit) -> bool:
        """Read a head; whether it asked for a tunnel, which is begun then."""
        head = (await visit.head()).decode().split("\r\n")
        parts = (line.partition(": ") for line in head[1:-2])
        fields = {name.lower(): value for name, _, value in parts}
        self.asked.append({":start": head[0]} | fields)
        if head[0].startswith("CONNECT"):
            await visit.send(b"HTTP/1.1 200 OK\r\n\r\n")
            return True
        if "upgrade" not in fields:
            return False
        lines = f"upgrade: {fields['upgrade']}\r\nconnection: upgrade\r\nx-origin: 1\r\n"
        accept = accept_of(fields.get("sec-websocket-key", ""))
        await visit.send(f"HTTP/1.1 101 x\r\n{lines}{ACCEPTS}: {accept}\r\n\r\n".encode())
        return True

    async def _copy(self, visit: Visit) -> None:
        with contextlib.suppress(ConnectionError):
            while data := await visit.reader.read(65_536):
                self.heard += data
                await visit.send(data)
        self.ended.set()

    async def _h2(self, call: Call) -> None:
        self.asked.append(call.fields)
        if call.fields[":method"] != "CONNECT":
            await call.whole()
            return await call.answer(b"plain")
        call.send_head((":status", "200"), ("x-origin", "1"))
        at, hung = 0, False
        hanging = asyncio.create_task(self.hang_up.wait())
        hanging.add_done_callback(lambda _: call.visit.changed())
        try:
            while not (hung or call.ended):
                await call.until(
                    lambda at=at: (  # type: ignore[misc]
                        len(call.body) > at or call.ended or hanging.done()
                    )
                )
                piece, hung = bytes(call.body[at:]), hanging.done()
                at += len(piece)
                self.heard += piece
                await call.send(piece)
            await call.send(b"", end=True)
        finally:
            hanging.cancel()
            self.ended.set()
        return None
