"""A peer over TLS that can say no more and listen on, which the loops' own TLS cannot: OpenSSL
between two buffers."""

from __future__ import annotations

import asyncio
import contextlib
import ssl
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from urllib.parse import urlsplit

from meshcore import Proxy
from tests.wire.either import h1_head
from tests.wire.tunnel_ends import H1End, h1_request


class TlsStreams:
    """Both directions of one connection, as streams of asyncio are."""

    def __init__(
        self,
        reader: asyncio.StreamReader,
        writer: asyncio.StreamWriter,
        context: ssl.SSLContext,
        server_name: str | None = None,
    ) -> None:
        self._reader, self._writer = reader, writer
        self._came, self._said = ssl.MemoryBIO(), ssl.MemoryBIO()
        self._tls = context.wrap_bio(
            self._came,
            self._said,
            server_side=server_name is None,
            server_hostname=server_name,
        )
        self._plain = bytearray()
        self.transport = writer.transport
        self.clean = False  # the peer's end was said

    @property
    def resumed(self) -> bool:
        """Whether the handshake was a short one."""
        return bool(self._tls.session_reused)

    @property
    def session(self) -> ssl.SSLSession | None:
        """What the next one may resume."""
        return self._tls.session

    @session.setter
    def session(self, session: ssl.SSLSession | None) -> None:
        self._tls.session = session

    async def shake(self, behind: bytes = b"") -> None:
        """Agree; `behind` goes as it is, with the last of it."""
        try:
            while True:
                with contextlib.suppress(ssl.SSLWantReadError):
                    self._tls.do_handshake()
                    break
                await self._exchange()
        finally:
            self._writer.write(self._said.read() + behind)  # perhaps an alert

    async def _exchange(self) -> bool:
        """Say what there is, and hear more; whether there was any."""
        if said := self._said.read():
            self._writer.write(said)
        data = await self._reader.read(65_536)
        self._came.write(data) if data else self._came.write_eof()
        return bool(data)

    async def _more(self) -> bool:
        """More plaintext; whether there is to be any."""
        while True:
            try:
                data = self._tls.read(65_536)
            except ssl.SSLWantReadError:
                if not await self._exchange():
                    return False
                continue
            except ssl.SSLZeroReturnError:
                self.clean = True
                return False
            except ssl.SSLEOFError:
                return False
            self.clean = not data
            self._plain += data
            return bool(data)

    # --- as a reader

    async def read(self, size: int = -1) -> bytes:
        """What there is, or with no size all until the end."""
        while (size < 0 or not self._plain) and await self._more():
            pass
        return self._take(len(self._plain) if size < 0 else size)

    async def readexactly(self, size: int) -> bytes:
        """So many bytes."""
        while len(self._plain) < size:
            if not await self._more():
                raise asyncio.IncompleteReadError(bytes(self._plain), size)
        return self._take(size)

    async def readuntil(self, mark: bytes) -> bytes:
        """Up to a mark."""
        while mark not in self._plain:
            if not await self._more():
                raise asyncio.IncompleteReadError(bytes(self._plain), None)
        return self._take(self._plain.index(mark) + len(mark))

    def _take(self, size: int) -> bytes:
        taken = bytes(self._plain[:size])
        del self._plain[:size]
        return taken

    # --- as a writer

    def write(self, data: bytes) -> None:
        """Seal and send."""
        self._tls.write(data)
        self._writer.write(self._said.read())

    def write_together(self, data: bytes) -> None:
        """Seal it, and that nothing follows, and send both at once."""
        self._tls.write(data)
        with contextlib.suppress(ssl.SSLWantReadError):
            self._tls.unwrap()
        self._writer.write(self._said.read())

    async def drain(self) -> None:
        """Wait until it goes out."""
        await self._writer.drain()

    def write_eof(self) -> None:
        """Say no more: close_notify, and no end of the connection."""
        with contextlib.suppress(ssl.SSLWantReadError):
            self._tls.unwrap()
        self._writer.write(self._said.read())

    def close(self) -> None:
        """Go."""
        self._writer.close()


async def shaken(
    url: str, context: ssl.SSLContext, server_name: str, session: ssl.SSLSession | None
) -> TlsStreams:
    """A handshake with whoever listens there, perhaps a short one; closed behind it."""
    at = urlsplit(url)
    reader, writer = await asyncio.open_connection(at.hostname, at.port)
    made = TlsStreams(reader, writer, context, server_name=server_name)
    if session is not None:
        made.session = session
    try:
        await made.shake()
    finally:
        made.close()
    return made


@asynccontextmanager
async def dial_tls(proxy: Proxy, context: ssl.SSLContext) -> AsyncIterator[H1End]:
    """A client's end of a tunnel over HTTP/1.1 and TLS, that can end alone."""
    at = urlsplit(proxy.addresses["edge"])
    streams = TlsStreams(
        *await asyncio.open_connection(at.hostname, at.port), context, server_name="127.0.0.1"
    )
    await streams.shake()
    streams.write(h1_request("websocket"))
    head = await h1_head(streams)  # type: ignore[arg-type]  # as a reader
    yield H1End(streams, streams, head)  # type: ignore[arg-type]  # as both
    streams.close()


@dataclass
class TlsScripted:
    """An origin over HTTP/1.1 and TLS that agrees to every tunnel, and can end alone."""

    script: Callable[[H1End], Awaitable[None]]
    context: ssl.SSLContext
    tasks: set[asyncio.Task[None]] = field(default_factory=set)

    @asynccontextmanager
    async def origin(self) -> AsyncIterator[int]:
        """Listens, on a port."""
        server = await asyncio.start_server(self._serve, "127.0.0.1", 0)
        try:
            yield server.sockets[0].getsockname()[1]
        finally:
            server.close()
            await asyncio.gather(*self.tasks)

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.tasks.add(asyncio.current_task())  # type: ignore[arg-type]  # it is one
        streams = TlsStreams(reader, writer, self.context)
        await streams.shake()
        await streams.readuntil(b"\r\n\r\n")
        streams.write(b"HTTP/1.1 101 x\r\nconnection: upgrade\r\nupgrade: websocket\r\n\r\n")
        await self.script(H1End(streams, streams, {}))  # type: ignore[arg-type]  # as both
        streams.close()
