"""The end of a connection: a client that is slow has all of it, whatever it says meanwhile."""

from __future__ import annotations

import asyncio
import socket
import ssl
import threading
import time
from urllib.parse import urlsplit

import hpack

from tests.process import load_frames as h2
from tests.wire.conftest import Certificates, Run, Serve, eventually
from tests.wire.origin import Origin, Visit, response
from tests.wire.test_reload import mesh

SIZE = 400_000
TLS_SIZE = 8_000_000
NARROW = 32_768
HEAD = [(":method", "GET"), (":scheme", "http"), (":authority", "a.test"), (":path", "/")]


def narrow(url: str) -> socket.socket:
    """A connection of little room: most of a response waits in the proxy's kernel."""
    at = urlsplit(url)
    sock = socket.socket()
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, NARROW)
    sock.settimeout(10)
    sock.connect((at.hostname, at.port))
    return sock


def get_while_it_drains(sock: socket.socket, settled: threading.Event) -> int:
    """Ask when GOAWAY is there, take the response slowly and say so; its bytes."""
    got, asked, frames = 0, False, h2.Frames()
    sock.sendall(h2.PREFACE + h2.settings() + h2.window(0, SIZE))
    while data := sock.recv(16_384):
        for came in frames.of(data):
            if came.kind == h2.SETTINGS:
                settled.set()
            elif came.kind == h2.PING and not came.flags & h2.ACK:
                if not asked:
                    block = hpack.Encoder().encode(HEAD)
                    sock.sendall(h2.frame(h2.HEADERS, 1, block, h2.END_STREAM | h2.END_HEADERS))
                asked = True
                sock.sendall(h2.frame(h2.PING, 0, came.payload, h2.ACK))
            elif came.kind == h2.DATA and came.payload:
                got += len(came.payload)
                sock.sendall(h2.window(0, len(came.payload)))
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
                    settled = threading.Event()
                    getting = asyncio.to_thread(get_while_it_drains, sock, settled)
                    got = asyncio.create_task(getting)
                    assert await asyncio.to_thread(settled.wait, 5)
                    await proxy.stop()
                    assert await got == SIZE

    run(main())


def get_with_a_pause(url: str, trusting: ssl.SSLContext, pause_s: float) -> int:
    """A response over TLS to its end; a pause when the proxy has written, and closed, it all."""
    got, paused = 0, False
    with trusting.wrap_socket(narrow(url), server_hostname="edge.test") as sock:
        sock.sendall(b"GET / HTTP/1.1\r\nhost: a.test\r\nconnection: close\r\n\r\n")
        while data := sock.recv(65_536):
            got += len(data)
            if got > TLS_SIZE - 4_500_000 and not paused:
                paused = True
                time.sleep(pause_s)
    return got


def test_a_slow_client_has_its_time_over_tls_too(
    run: Run, serve: Serve, certificates: Certificates
) -> None:
    trusting = certificates.client()

    async def main() -> None:
        async with (
            Origin(response(b"x" * TLS_SIZE)) as origin,
            serve(mesh(origin.port, listener=f", tls: {certificates.listener}")) as proxy,
        ):
            url = proxy.addresses["edge"]
            assert await asyncio.to_thread(get_with_a_pause, url, trusting, 4.0) > TLS_SIZE

    run(main())


def leave_within_a_response(url: str) -> None:
    """Say that nothing more comes, which cuts the response, and go without having read it."""
    with narrow(url) as sock:
        sock.sendall(b"GET / HTTP/1.1\r\nhost: a.test\r\n\r\n")
        sock.recv(1)
        time.sleep(0.2)  # what fits is in the sockets
        sock.shutdown(socket.SHUT_WR)
        time.sleep(0.2)  # the proxy has read it, and reads no more


def test_who_leaves_within_a_response_holds_no_place(run: Run, serve: Serve) -> None:
    async def begin(visit: Visit) -> None:
        await visit.head()
        await visit.send(b"HTTP/1.1 200 OK\r\ncontent-length: 30000000\r\n\r\n" + b"x" * SIZE)
        await visit.reader.read()

    async def main() -> None:
        async with Origin(begin) as origin, serve(mesh(origin.port)) as proxy:
            await asyncio.to_thread(leave_within_a_response, proxy.addresses["edge"])
            await eventually(lambda: proxy.connections == 0)

    run(main())
