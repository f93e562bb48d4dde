"""Connections that were accepted, and are not made yet, when nothing more is accepted."""

from __future__ import annotations

import asyncio
import contextlib
import socket
import ssl
import struct
from collections.abc import AsyncIterator, Callable, Iterator
from typing import TypeVar
from urllib.parse import urlsplit

import pytest

from meshcore import Proxy
from meshcore.admin.server import Admin
from meshcore.config.snapshot import AdminSpec
from meshcore.downstream.http1 import Http1Connection
from tests.wire.conftest import Certificates, Run, Serve, eventually, metric
from tests.wire.either import asking, request
from tests.wire.h2_client import connect
from tests.wire.origin import Origin, Visit, response
from tests.wire.test_reload import mesh

T = TypeVar("T")
REQUEST = b"GET /readyz HTTP/1.1\r\nhost: a.test\r\nconnection: close\r\n\r\n"
# So many turns of the loop are enough for a connection to be accepted and made.
TURNS = range(1, 7)


@contextlib.asynccontextmanager
async def asked(url: str, turns: int) -> AsyncIterator[socket.socket]:
    """A connection with a request, which the kernel has at once and the loop hears of in its next
    turns."""
    at = urlsplit(url)
    with socket.create_connection((at.hostname, at.port)) as sock:
        sock.sendall(REQUEST)
        sock.setblocking(False)
        for _ in range(turns):
            await asyncio.sleep(0)
        yield sock


async def status(sock: socket.socket) -> bytes:
    """The answer's, once it is there."""
    async with asyncio.timeout(5):
        return (await asyncio.get_running_loop().sock_recv(sock, 4096))[9:12]


@pytest.mark.parametrize("turns", TURNS)
def test_when_another_server_takes_the_place_of_the_first(
    run: Run, serve: Serve, turns: int
) -> None:
    async def main() -> None:
        async with Origin(response(b"x")) as origin, serve(mesh(origin.port)) as proxy:
            assert proxy._worker is not None
            async with asked(proxy.addresses["edge"], turns) as sock:
                await proxy._worker.listeners["edge"].reopen()
                assert await status(sock) == b"200"

    run(main())


@pytest.mark.parametrize("turns", TURNS)
def test_when_the_proxy_stops(run: Run, serve: Serve, turns: int) -> None:
    async def main() -> None:
        async with (
            Origin(response(b"x")) as origin,
            serve(mesh(origin.port)) as proxy,
            asked(proxy.addresses["edge"], turns) as sock,
        ):
            await proxy.stop()
            assert await status(sock) == b"200"

    run(main())


@pytest.mark.parametrize("turns", TURNS)
def test_when_another_program_answers_orders(run: Run, serve: Serve, turns: int) -> None:
    async def main() -> None:
        async with serve(mesh(1) + 'admin: {bind: "127.0.0.1:0"}\n') as proxy:
            assert proxy.admin_address is not None
            assert proxy._admin is not None
            (fd,) = proxy._admin.descriptors().values()
            same = socket.fromfd(fd, socket.AF_INET, socket.SOCK_STREAM)
            async with asked(proxy.admin_address, turns) as sock:
                proxy._admin.stop_accepting()
                successor = Admin(proxy._admin.handlers)
                await successor.listen(AdminSpec("127.0.0.1", 0), same)
                assert await status(sock) == b"200"
                await successor.stop()

    run(main())


class Handshake:
    """A client's side of TLS, driven by hand."""

    def __init__(self, context: ssl.SSLContext, url: str) -> None:
        at = urlsplit(url)
        self.sock = socket.create_connection((at.hostname, at.port))
        self.sock.setblocking(False)
        self._in, self._out = ssl.MemoryBIO(), ssl.MemoryBIO()
        self.tls = context.wrap_bio(self._in, self._out, server_hostname="edge.test")
        with contextlib.suppress(ssl.SSLWantReadError):
            self.tls.do_handshake()
        self.flush()

    def flush(self) -> None:
        """Send what TLS has to say."""
        self.sock.sendall(self._out.read())

    async def until(self, done: Callable[[], T]) -> T:
        """Go on, with what the server says, until it works."""
        async with asyncio.timeout(5):
            while True:
                try:
                    return done()
                except ssl.SSLWantReadError:
                    self.flush()
                    data = await asyncio.get_running_loop().sock_recv(self.sock, 65536)
                    assert data, "it was closed"
                    self._in.write(data)


@pytest.mark.parametrize("h2", ["{}", "false"])
def test_a_handshake_under_way_is_no_idle_connection(
    run: Run, serve: Serve, certificates: Certificates, h2: str
) -> None:
    trusting = certificates.client()

    async def begun(proxy: Proxy) -> Handshake:
        assert proxy._worker is not None
        listener = proxy._worker.listeners["edge"]
        began = Handshake(trusting, proxy.addresses["edge"])
        await eventually(lambda: listener.connections == 1)
        return began

    async def main() -> None:
        async with Origin(response(b"x")) as origin:
            text = mesh(
                origin.port, listener=f", tls: {certificates.listener}, protocols: {{h2: {h2}}}"
            )
            async with serve(text) as proxy:
                client = await begun(proxy)
                stopping = asyncio.ensure_future(proxy.stop())
                await asyncio.sleep(0.1)
                assert not stopping.done()
                await client.until(client.tls.do_handshake)
                client.tls.write(REQUEST)
                client.flush()
                assert (await client.until(lambda: client.tls.read(4096)))[9:12] == b"200"
                await asyncio.wait_for(stopping, 5)
                client.sock.close()
            async with serve(text) as proxy:  # and one that gives up is not waited for long
                client = await begun(proxy)
                stopping = asyncio.ensure_future(proxy.stop())
                client.sock.close()
                await asyncio.wait_for(stopping, 3)

    run(main())


def test_nobody_comes_in_after_the_end(run: Run, serve: Serve, certificates: Certificates) -> None:
    """A handshake outlasts the drain: the proxy ends without it, and serves nobody then."""
    trusting = certificates.client()
    asked: list[bytes] = []

    async def hangs_once(visit: Visit) -> None:
        asked.append(await visit.head())
        if len(asked) == 1:
            await asyncio.Event().wait()
        await visit.send(response(b"x"))

    async def ask(client: Handshake) -> bytes:
        await client.until(client.tls.do_handshake)
        client.tls.write(REQUEST)
        client.flush()
        return await client.until(lambda: client.tls.read(4096))

    async def main() -> None:
        async with Origin(hangs_once) as origin:
            text = mesh(origin.port, listener=f", tls: {certificates.listener}").replace(
                "drain: 2s", "drain: 300ms"
            )
            async with serve(text) as proxy:
                assert proxy._worker is not None
                listener = proxy._worker.listeners["edge"]
                early, late = (Handshake(trusting, proxy.addresses["edge"]) for _ in range(2))
                asking = asyncio.create_task(ask(early))
                await eventually(lambda: len(asked) == 1 and listener.connections == 2)
                await asyncio.wait_for(proxy.stop(), 5)
                assert b" 503 " in await asking
                with pytest.raises((AssertionError, ConnectionError, ssl.SSLError)):
                    await ask(late)
                assert len(asked) == 1
                early.sock.close()
                late.sock.close()

    run(main())


# --- each has a place of `limits.connections` --------------------------------------------------

SAID = {
    "secure, silent": b"",
    "secure, half a hello": b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03",
    "detected, silent": b"",
    "detected, half a preface": b"PRI * HTTP/2.0\r\n",
}


@contextlib.contextmanager
def arriving(url: str, said: bytes) -> Iterator[socket.socket]:
    """A client that says no more, for as long as the block lasts."""
    at = urlsplit(url)
    with socket.create_connection((at.hostname, at.port)) as sock:
        sock.sendall(said)
        sock.setblocking(False)
        yield sock


async def ended(sock: socket.socket) -> None:
    """Without an answer."""
    async with asyncio.timeout(5):
        with contextlib.suppress(ConnectionError):
            assert await asyncio.get_running_loop().sock_recv(sock, 4096) == b""


def counted(proxy: Proxy) -> int:
    """Over all workers, as the limits count."""
    places = ("meshcore_listener_connections", "meshcore_listener_handshakes")
    return sum(metric(proxy, name) for name in places)


@pytest.mark.parametrize("kind", SAID)
def test_who_says_too_little_has_a_place_and_no_more(
    run: Run, serve: Serve, certificates: Certificates, kind: str
) -> None:
    """A newcomer's; of TLS it is the eldest's, whose handshake is to come."""
    secure, said = kind.startswith("secure"), SAID[kind]
    tls = f", tls: {certificates.listener}" if secure else ""
    connections = 1 if secure else 3
    limits = f", limits: {{connections: {connections}, handshakes: 2}}"
    limits += ", timeouts: {header: 700ms, tls_handshake: 700ms}"
    trusting = certificates.client("http/1.1") if secure else None

    async def main() -> None:
        async with (
            Origin(response(b"x")) as origin,
            serve(mesh(origin.port, listener=limits + tls)) as proxy,
        ):
            url = proxy.addresses["edge"]
            async with asking("http1", url, certificates if secure else None) as ask:
                assert (await ask(request())).status == 200
                with arriving(url, said) as first, arriving(url, said) as second:
                    await eventually(lambda: counted(proxy) == proxy.connections == 3)
                    if secure:
                        with arriving(url, said):
                            await ended(first)
                    else:
                        for _ in range(20):
                            with arriving(url, said) as refused:
                                await ended(refused)
                        assert proxy.connections == 3
                    assert (await ask(request())).status == 200  # who is in is served
                    await asyncio.gather(ended(first), ended(second))
                await eventually(lambda: counted(proxy) == proxy.connections == 1)
            await eventually(lambda: counted(proxy) == 0)
            reader, writer = await connect(url, trusting)
            writer.write(REQUEST)
            assert (await reader.read(12))[9:] == b"200"
            writer.close()

    run(main())


def test_a_handshake_that_fails_gives_its_place_back(
    run: Run, serve: Serve, certificates: Certificates
) -> None:
    listener = f", tls: {certificates.listener}, limits: {{connections: 1, handshakes: 1}}"

    async def main() -> None:
        async with (
            Origin(response(b"x")) as origin,
            serve(mesh(origin.port, listener=listener)) as proxy,
        ):
            url = proxy.addresses["edge"]
            for said in (REQUEST, b"\x16\x03\x01\x00\x05" + b"\xff" * 5):
                with arriving(url, said) as sock, contextlib.suppress(ConnectionError):
                    await asyncio.get_running_loop().sock_recv(sock, 4096)  # an alert
                await eventually(lambda: counted(proxy) == proxy.connections == 0)
            with arriving(url, b""):
                await eventually(lambda: counted(proxy) == 1)
            await eventually(lambda: counted(proxy) == proxy.connections == 0)
            async with asking("http1", url, certificates) as ask:
                assert (await ask(request())).status == 200

    run(main())


def test_who_is_not_let_in_has_no_place_until_it_is_gone(run: Run, serve: Serve) -> None:
    """Else a flood of them would keep the places that others leave."""

    async def main() -> None:
        async with serve(mesh(1, listener=", limits: {connections: 1}")) as proxy:
            assert proxy._worker is not None
            listener = proxy._worker.listeners["edge"]
            one, other, third = (Http1Connection(listener) for _ in range(3))
            assert listener.admit(one)
            assert not listener.admit(other)
            listener.leave(one)
            assert listener.admit(third)
            listener.leave(other)
            assert counted(proxy) == 1
            listener.leave(third)
            assert counted(proxy) == 0

    run(main())


def reset_at_once(url: str, first: bytes) -> None:
    """A client that is gone when the loop hears of it."""
    at = urlsplit(url)
    with socket.create_connection((at.hostname, at.port)) as sock:
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        sock.sendall(first)


@pytest.mark.parametrize(
    "listener",
    [
        "",
        ", protocols: {h2: off}",
        ", protocols: {http1: off}",
        ", proxy_protocol: {trusted: [127.0.0.0/8, unix]}",
    ],
    ids=["either", "http1", "h2", "announced"],
)
def test_who_is_gone_before_it_has_an_address_is_nobody(
    run: Run, serve: Serve, listener: str
) -> None:
    async def main() -> None:
        async with (
            Origin(response(b"x")) as origin,
            serve(mesh(origin.port, listener=listener)) as proxy,
        ):
            url = proxy.addresses["edge"]
            for first in (REQUEST, b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", b"PROXY UNKNOWN\r\n"):
                for _ in range(20):
                    reset_at_once(url, first)
                    for _ in TURNS:
                        await asyncio.sleep(0)
            await eventually(lambda: proxy.connections == 0)
            # asyncio has the address from its accept: it is served as one that left.
            assert not [x for x in origin.visits if b"x-forwarded-for: 127.0.0.1" not in x.seen]

    run(main())
