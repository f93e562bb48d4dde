"""The end of a connection: a client that is slow has all of it, whatever it says meanwhile."""

from __future__ import annotations

import asyncio
import socket
import ssl
import struct
import time
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import urlsplit

import hpack

from tests.wire.conftest import Run, Serve, eventually
from tests.wire.origin import Origin, response
from tests.wire.test_arriving import certificate
from tests.wire.test_reload import mesh

SIZE = 400_000
TLS_SIZE = 8_000_000
NARROW = 32_768
DATA, HEADERS, SETTINGS, PING, GOAWAY, WINDOW_UPDATE = 0, 1, 4, 6, 7, 8
ACK, END_STREAM, END_HEADERS = 1, 1, 4
PREFACE = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"
HEAD = [(":method", "GET"), (":scheme", "http"), (":authority", "a.test"), (":path", "/")]


def narrow(url: str) -> socket.socket:
    """A connection of little room: most of a response waits in the proxy's kernel."""
    at = urlsplit(url)
    sock = socket.socket()
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, NARROW)
    sock.settimeout(10)
    sock.connect((at.hostname, at.port))
    return sock


def frame(kind: int, flags: int, stream: int, payload: bytes = b"") -> bytes:
    return struct.pack(">I", len(payload))[1:] + struct.pack(">BBI", kind, flags, stream) + payload


def frames(sock: socket.socket) -> Iterator[tuple[int, int, bytes]]:
    """Kind, flags and payload of what comes, until the end."""
    buffer = b""
    while data := sock.recv(16_384):
        buffer += data
        while len(buffer) >= 9 and len(buffer) >= 9 + (size := int.from_bytes(buffer[:3], "big")):
            yield buffer[3], buffer[4], buffer[9 : 9 + size]
            buffer = buffer[9 + size :]


def get_while_it_drains(sock: socket.socket) -> int:
    """Ask when GOAWAY is there, take the response slowly and say so; its bytes."""
    got, asked = 0, False
    sock.sendall(PREFACE + frame(SETTINGS, 0, 0, struct.pack(">HI", 4, SIZE)))
    sock.sendall(frame(WINDOW_UPDATE, 0, 0, struct.pack(">I", SIZE)))
    for kind, flags, payload in frames(sock):
        if kind == PING and not flags & ACK:
            if not asked:
                block = hpack.Encoder().encode(HEAD)
                sock.sendall(frame(HEADERS, END_STREAM | END_HEADERS, 1, block))
            asked = True
            sock.sendall(frame(PING, ACK, 0, payload))
        elif kind == DATA and payload:
            got += len(payload)
            sock.sendall(frame(WINDOW_UPDATE, 0, 0, struct.pack(">I", len(payload))))
            time.sleep(0.005)
    return got


def test_a_window_update_does_not_tear_the_last_response(
    run: Run, serve: Serve, engine: str
) -> None:
    async def main() -> None:
        async with Origin(response(b"x" * SIZE)) as origin:
            text = mesh(origin.port, listener=f", protocols: {{h2: {{engine: {engine}}}}}")
            async with serve(text.replace("drain: 2s", "drain: 9s")) as proxy:
                with narrow(proxy.addresses["edge"]) as sock:
                    getting = asyncio.create_task(asyncio.to_thread(get_while_it_drains, sock))
                    await eventually(lambda: proxy.connections == 1)
                    await asyncio.sleep(0.1)
                    await proxy.stop()
                    assert await getting == SIZE

    run(main())


def get_with_a_pause(url: str, trusting: ssl.SSLContext, pause_s: float) -> int:
    """A response over TLS to its end; a pause when the proxy has written, and closed, it all."""
    got, paused = 0, False
    with trusting.wrap_socket(narrow(url), server_hostname="a.test") as sock:
        sock.sendall(b"GET / HTTP/1.1\r\nhost: a.test\r\nconnection: close\r\n\r\n")
        while data := sock.recv(65_536):
            got += len(data)
            if got > TLS_SIZE - 4_500_000 and not paused:
                paused = True
                time.sleep(pause_s)
    return got


def test_a_slow_client_has_its_time_over_tls_too(run: Run, serve: Serve, tmp_path: Path) -> None:
    tls, trusting = certificate(tmp_path)

    async def main() -> None:
        async with (
            Origin(response(b"x" * TLS_SIZE)) as origin,
            serve(mesh(origin.port, listener=f", {tls}")) as proxy,
        ):
            url = proxy.addresses["edge"]
            assert await asyncio.to_thread(get_with_a_pause, url, trusting, 4.0) > TLS_SIZE

    run(main())
