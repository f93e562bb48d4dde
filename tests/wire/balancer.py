"""A balancer that passes bytes on, behind a header of the PROXY protocol."""

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
            await asyncio.gather(_pass(reader, on), _pass(back, writer))
        except ConnectionError:
            pass
        finally:
            on.close()


async def _pass(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    while data := await reader.read(65536):
        writer.write(data)
        await writer.drain()
    writer.close()
