"""A balancer that passes bytes on, behind a header of the PROXY protocol; and who takes one."""

from __future__ import annotations

import asyncio
import socket
import struct
from urllib.parse import urlsplit

from tests.wire.serving import Serving

V2 = b"\r\n\r\n\0\r\nQUIT\n"


def v1(source: str) -> bytes:
    """A line for a client at `source`."""
    family = "TCP6" if ":" in source else "TCP4"
    return f"PROXY {family} {source} {source} 4711 80\r\n".encode()


def v2(source: str, extensions: bytes = b"") -> bytes:
    """The same in version 2."""
    family = socket.AF_INET6 if ":" in source else socket.AF_INET
    ip = socket.inet_pton(family, source)
    addresses = ip + ip + struct.pack("!HH", 4711, 80) + extensions
    kind = 0x21 if family == socket.AF_INET6 else 0x11
    return V2 + struct.pack("!BBH", 0x21, kind, len(addresses)) + addresses


def local() -> bytes:
    """The balancer's own connection, as it checks health."""
    return V2 + struct.pack("!BBH", 0x20, 0, 0)


class Balancer(Serving):
    """For each connection one to a proxy, with the next header first."""

    def __init__(self, proxy: str, *headers: bytes, pieces: bool = False) -> None:
        super().__init__()
        self._at = urlsplit(proxy)
        self._headers = list(headers)
        self._pieces = pieces

    @property
    def url(self) -> str:
        """Where clients connect."""
        return f"http://127.0.0.1:{self.port}"

    async def _visit(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        back, on = await asyncio.open_connection(self._at.hostname, self._at.port)
        header = self._headers.pop(0) if len(self._headers) > 1 else self._headers[0]
        try:
            if self._pieces:
                # The last byte of it comes with the client's first ones.
                for at in range(len(header) - 1):
                    on.write(header[at : at + 1])
                    await asyncio.sleep(0)
                header = header[-1:]
            on.write(header)
            await asyncio.gather(pass_on(reader, on), pass_on(back, writer))
        except ConnectionError:
            pass
        finally:
            on.close()


async def pass_on(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    """Until there is no more."""
    while data := await reader.read(65536):
        writer.write(data)
        await writer.drain()
    writer.close()


async def header_of(reader: asyncio.StreamReader) -> bytes:
    """The header that a connection begins with, of either version."""
    start = await reader.readexactly(len(V2))
    if start != V2:
        return start + await reader.readuntil(b"\r\n")
    fixed = await reader.readexactly(4)
    return start + fixed + await reader.readexactly(int.from_bytes(fixed[2:], "big"))


class Receiver(Serving):
    """In front of a server that knows nothing of headers: keeps them, and passes the rest on."""

    def __init__(self, to: int) -> None:
        super().__init__()
        self._to = to
        self.headers: list[bytes] = []  # of each connection, in turn
        self.by_port: dict[int, bytes] = {}  # as the server sees the connection

    async def _visit(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            header = await header_of(reader)
        except asyncio.IncompleteReadError as error:
            self.headers.append(error.partial)
            return
        self.headers.append(header)
        back, on = await asyncio.open_connection("127.0.0.1", self._to)
        self.by_port[on.get_extra_info("sockname")[1]] = header
        try:
            await asyncio.gather(pass_on(reader, on), pass_on(back, writer))
        except ConnectionError:
            pass
        finally:
            on.close()
