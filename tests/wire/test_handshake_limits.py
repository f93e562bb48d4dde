"""Handshakes under way have a bound of their own, and nobody is kept out by silence."""

from __future__ import annotations

import asyncio
import contextlib
import ssl
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from typing import Any
from urllib.parse import urlsplit

import pytest

from meshcore import Proxy
from tests.wire.balancer import v1
from tests.wire.client import Client
from tests.wire.conftest import Certificates, Run, Serve, eventually, metric
from tests.wire.h2_mesh import Mesh
from tests.wire.origin import Origin, response
from tests.wire.tls_streams import TlsStreams

GET = b"GET / HTTP/1.1\r\nhost: a.test\r\n\r\n"
OPEN = "meshcore_listener_connections"
UNDER_WAY = "meshcore_listener_handshakes"
FAILED = "meshcore_listener_tls_failures_total"
FIRST = [b"", b"\x16\x03\x01"]  # of those who say nothing, or no more


@asynccontextmanager
async def secured(
    serve: Serve, certificates: Certificates, limits: dict[str, int], **keys: Any
) -> AsyncIterator[Proxy]:
    async with Origin(response(b"hi")) as origin:
        mesh = Mesh("native", origin.port)
        mesh.listen(tls=certificates.listener, limits=limits, **keys)
        async with serve(str(mesh)) as proxy:
            yield proxy


@asynccontextmanager
async def streams(
    proxy: Proxy, context: ssl.SSLContext, source: str = "127.0.0.1", first: bytes = b""
) -> AsyncIterator[TlsStreams]:
    at = urlsplit(proxy.addresses["edge"])
    reader, writer = await asyncio.open_connection(at.hostname, at.port, local_addr=(source, 0))
    writer.write(first)
    made = TlsStreams(reader, writer, context, server_name="127.0.0.1")
    try:
        yield made
    finally:
        made.close()


async def answered(client: TlsStreams) -> None:
    client.write(GET)
    assert (await client.readuntil(b"hi")).startswith(b"HTTP/1.1 200")


@pytest.mark.parametrize("first", FIRST)
def test_silent_sockets_shut_nobody_out(
    run: Run, serve: Serve, certificates: Certificates, first: bytes
) -> None:
    """A hundred of them, of which twenty may be there; and before a flood is over."""

    async def go() -> None:
        limits = {"connections": 2, "handshakes": 20}
        async with secured(serve, certificates, limits) as proxy, AsyncExitStack() as flood:
            for _ in range(10):
                for _ in range(10):
                    silent = await flood.enter_async_context(Client(proxy.addresses["edge"]))
                    await silent.send(first)
                async with streams(proxy, certificates.client(), "127.0.0.2") as client:
                    await client.shake()
                    await answered(client)
            assert metric(proxy, FAILED, reason="overflow", by="proxy") >= 80
            assert metric(proxy, UNDER_WAY) <= 20
            await eventually(lambda: metric(proxy, OPEN) == 0)  # none of them is a connection

    run(go())


def test_who_has_begun_a_handshake_goes_on_beside_a_flood_from_elsewhere(
    run: Run, serve: Serve, certificates: Certificates
) -> None:
    """However long it takes: it is the eldest, and not of the crowd."""

    async def go() -> None:
        limits = {"connections": 2, "handshakes": 4}
        async with (
            secured(serve, certificates, limits) as proxy,
            AsyncExitStack() as flood,
            streams(proxy, certificates.client(), "127.0.0.2") as slow,
        ):
            await eventually(lambda: metric(proxy, UNDER_WAY) == 1)
            for _ in range(40):
                await flood.enter_async_context(Client(proxy.addresses["edge"]))
            await eventually(lambda: metric(proxy, FAILED, reason="overflow") == 37)
            await slow.shake()
            await answered(slow)
            assert metric(proxy, UNDER_WAY) == 3

    run(go())


def test_of_one_client_the_eldest_goes(run: Run, serve: Serve, certificates: Certificates) -> None:
    async def go() -> None:
        limits = {"connections": 9, "handshakes": 2}
        async with secured(serve, certificates, limits) as proxy, AsyncExitStack() as opened:
            url = proxy.addresses["edge"]
            clients = [await opened.enter_async_context(Client(url)) for _ in range(3)]
            assert await clients[0].closed() == b""
            assert metric(proxy, UNDER_WAY) == 2

    run(go())


def test_an_established_connection_takes_a_place_of_a_connection(
    run: Run, serve: Serve, certificates: Certificates
) -> None:
    async def go() -> None:
        limits = {"connections": 2, "handshakes": 9}
        context = certificates.client()
        async with secured(serve, certificates, limits) as proxy, AsyncExitStack() as opened:
            for number in range(2):
                client = await opened.enter_async_context(streams(proxy, context))
                await client.shake()
                await answered(client)
                assert (metric(proxy, OPEN), metric(proxy, UNDER_WAY)) == (number + 1, 0)
            async with streams(proxy, context) as third:
                with contextlib.suppress(ConnectionError, ssl.SSLError):
                    await third.shake()
                    third.write(GET)
                    assert await third.read() == b""
            assert (metric(proxy, OPEN), metric(proxy, UNDER_WAY)) == (2, 0)
        # Both are gone, and their places are free.

    run(go())


def test_plain_http_at_a_port_of_tls_takes_a_place_too(
    run: Run, serve: Serve, certificates: Certificates
) -> None:
    async def go() -> None:
        limits = {"connections": 1, "handshakes": 9}
        async with secured(serve, certificates, limits) as proxy:
            async with streams(proxy, certificates.client()) as held:
                await held.shake()
                await answered(held)
                async with Client(proxy.addresses["edge"]) as plain:
                    with contextlib.suppress(ConnectionError):
                        await plain.send(GET)
                        assert await plain.closed() == b""
            await eventually(lambda: metric(proxy, OPEN) == 0)
            async with Client(proxy.addresses["edge"]) as plain:
                await plain.send(GET)
                assert b" 400 " in await plain.closed()
            await eventually(lambda: metric(proxy, OPEN) == metric(proxy, UNDER_WAY) == 0)

    run(go())


def test_behind_a_balancer_clients_are_told_apart_as_it_announces_them(
    run: Run, serve: Serve, certificates: Certificates
) -> None:
    async def go() -> None:
        limits = {"connections": 2, "handshakes": 4}
        trusted = {"trusted": ["127.0.0.0/8"]}
        async with (
            secured(serve, certificates, limits, proxy_protocol=trusted) as proxy,
            AsyncExitStack() as flood,
        ):
            context = certificates.client()
            async with streams(proxy, context, first=v1("192.0.2.7")) as slow:
                await eventually(lambda: metric(proxy, UNDER_WAY) == 1)
                for _ in range(20):
                    client = await flood.enter_async_context(Client(proxy.addresses["edge"]))
                    await client.send(v1("192.0.2.8"))
                await eventually(lambda: metric(proxy, FAILED, reason="overflow") == 17)
                await slow.shake()
                await answered(slow)

    run(go())


def test_a_drain_ends_with_handshakes_under_way(
    run: Run, serve: Serve, certificates: Certificates
) -> None:
    async def go() -> None:
        async with (
            AsyncExitStack() as opened,
            secured(
                serve, certificates, {"handshakes": 2}, timeouts={"tls_handshake": "1h"}
            ) as proxy,
        ):
            for _ in range(4):
                await opened.enter_async_context(Client(proxy.addresses["edge"]))
            await eventually(lambda: metric(proxy, FAILED, reason="overflow") == 2)
            await proxy.stop()

    run(go())
