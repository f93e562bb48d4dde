"""The origin of the load: `python -m tests.process.load_origin`, a process of its own.

Two ports of HTTP/1.1, which answer every request alike (below `/broken` with 500), and one that
echoes gRPC streams over HTTP/2. It prints the three ports, and ends with its input.
"""

from __future__ import annotations

import asyncio
import json
import sys
from collections.abc import Callable
from typing import cast

import uvloop

from tests.process import load_frames as h2

BODY = b"as it was asked, so it is answered"
_LENGTH = b"content-length: %d\r\n\r\n" % len(BODY)
_OK = b"HTTP/1.1 200 OK\r\n" + _LENGTH + BODY
_BROKEN = b"HTTP/1.1 500 Broken\r\n" + _LENGTH + BODY
_RPC_HEAD = b"\x88" + h2.literal(b"content-type", b"application/grpc")
_RPC_END = h2.literal(b"grpc-status", b"0")


class Plain(asyncio.Protocol):
    """Requests have no body."""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast("asyncio.Transport", transport)
        self._rest = b""

    def data_received(self, data: bytes) -> None:
        *heads, self._rest = (self._rest + data).split(b"\r\n\r\n")
        for head in heads:
            self._transport.write(_BROKEN if head.startswith(b"GET /broken") else _OK)


class Echo(asyncio.Protocol):
    """Sends back what comes on a stream, and ends it when the client has."""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast("asyncio.Transport", transport)
        self._frames = h2.Frames()
        self._preface = len(h2.PREFACE)
        self._transport.write(h2.settings() + h2.window(0, h2.WINDOW))

    def data_received(self, data: bytes) -> None:
        skipped = min(self._preface, len(data))
        self._preface -= skipped
        out = b"".join(self._answer(each) for each in self._frames.of(data[skipped:]))
        if out:
            self._transport.write(out)

    def _answer(self, came: h2.Frame) -> bytes:
        ended = came.flags & h2.END_STREAM
        end = h2.frame(h2.HEADERS, came.stream, _RPC_END, h2.END_STREAM | h2.END_HEADERS)
        match came.kind:
            case h2.SETTINGS if not came.flags & h2.ACK:
                return h2.frame(h2.SETTINGS, 0, flags=h2.ACK)
            case h2.PING if not came.flags & h2.ACK:
                return h2.frame(h2.PING, 0, came.payload, h2.ACK)
            case h2.HEADERS:
                head = h2.frame(h2.HEADERS, came.stream, _RPC_HEAD, h2.END_HEADERS)
                return head + end if ended else head
            case h2.DATA:
                echo = h2.frame(h2.DATA, came.stream, came.payload) if came.payload else b""
                return echo + end if ended else echo
        return b""


async def serve() -> None:
    """Until the input ends."""
    loop = asyncio.get_running_loop()
    kinds: list[Callable[[], asyncio.Protocol]] = [Plain, Plain, Echo]
    servers = [await loop.create_server(kind, "127.0.0.1", 0, backlog=1024) for kind in kinds]
    print(json.dumps([server.sockets[0].getsockname()[1] for server in servers]), flush=True)
    await asyncio.to_thread(sys.stdin.read)


if __name__ == "__main__":
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        runner.run(serve())
