"""Either side may leave at any byte: nobody hangs, nothing stays held, nothing torn looks whole."""

from __future__ import annotations

import asyncio
import contextlib

import pytest

from tests.wire.client import Client
from tests.wire.conftest import Run, Serve
from tests.wire.origin import Origin, Visit, response
from tests.wire.test_forward import mesh

REQUEST = b"POST /a HTTP/1.1\r\nhost: a\r\ntransfer-encoding: chunked\r\n\r\n3\r\nabc\r\n0\r\n\r\n"
RESPONSES = {
    "length": response(b"hello", "200 OK", "x-a: b"),
    "chunked": b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n5\r\nhello\r\n0\r\n\r\n",
    "interim": b"HTTP/1.1 103 Early Hints\r\nlink: a\r\n\r\n" + response(b"hello"),
}


def test_the_client_leaves_after_every_byte(run: Run, serve: Serve) -> None:
    async def answer(visit: Visit) -> None:
        await visit.head()
        await visit.reader.readuntil(b"0\r\n\r\n")
        await visit.send(response(b"late"))

    async def go() -> None:
        async with Origin(answer) as origin, serve(mesh(origin.port)) as proxy:
            for cut in range(len(REQUEST) + 1):
                async with Client(proxy.addresses["edge"]) as client:
                    await client.send(REQUEST[:cut])
            async with Client(proxy.addresses["edge"]) as client:
                await client.send(REQUEST)
                assert (await client.reply()).body == b"late"

    run(go())


@pytest.mark.parametrize("kind", RESPONSES)
def test_the_endpoint_leaves_after_every_byte(run: Run, serve: Serve, kind: str) -> None:
    whole = RESPONSES[kind]
    cut = 0

    async def torn(visit: Visit) -> None:
        await visit.head()
        await visit.send(whole[:cut])

    async def go() -> None:
        nonlocal cut
        quiet = "retry: off\n        layers: [{circuit_breaker: {failures: 100000}}]"
        upstream = "circuit_breaker: off\n        ejection: off"
        text = mesh(0, route=quiet, upstream=upstream)
        async with Origin(torn) as origin:
            text = text.replace('127.0.0.1:0"]', f'127.0.0.1:{origin.port}"]')
            async with serve(text) as proxy:
                for length in range(len(whole)):
                    cut = length
                    async with Client(proxy.addresses["edge"]) as client:
                        await client.send(b"GET / HTTP/1.1\r\nhost: a\r\nconnection: close\r\n\r\n")
                        got = await client.closed()
                        assert b"HTTP/1.1 502" in got or not got.endswith((b"hello", b"0\r\n\r\n"))

    run(go())


def test_the_proxy_ends_with_requests_at_every_stage(run: Run, serve: Serve) -> None:
    """What outlasts `drain` is ended; the proxy ends, and holds nothing (asserted by `serve`)."""

    async def never(visit: Visit) -> None:
        await visit.head()
        if len(origin.visits) % 2:
            await visit.send(b"HTTP/1.1 200 OK\r\ncontent-length: 10\r\n\r\nhal")
        await visit.reader.read()

    async def leave(client: Client) -> None:
        with contextlib.suppress(ConnectionError):  # a reset is an end too
            await client.closed()
        client.writer.close()

    origin = Origin(never)

    async def go() -> None:
        text = mesh(0).replace("drain: 1s", "drain: 50ms")
        async with origin:
            text = text.replace('127.0.0.1:0"]', f'127.0.0.1:{origin.port}"]')
            async with serve(text) as proxy:
                clients = [Client(proxy.addresses["edge"]) for _ in range(8)]
                for i, client in enumerate(clients):
                    await client.__aenter__()
                    await client.send(REQUEST[: 12 * i + 1])
                    if i > 4:
                        await origin.reached.wait()
                await asyncio.gather(proxy.stop(), *map(leave, clients))

    run(go())


def test_a_torn_body_without_a_length_ends_with_a_reset(run: Run, serve: Serve) -> None:
    async def torn(visit: Visit) -> None:
        await visit.head()
        await visit.send(b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n5\r\nhello\r\n")
        await seen.wait()
        await visit.send(b"nonsense")

    seen = asyncio.Event()

    async def go() -> None:
        async with (
            Origin(torn) as origin,
            serve(mesh(origin.port)) as proxy,
            Client(proxy.addresses["edge"]) as client,
        ):
            await client.send(b"GET / HTTP/1.0\r\nhost: a\r\n\r\n")
            await client.reader.readuntil(b"hello")
            seen.set()
            with pytest.raises(ConnectionError):
                await client.closed()

    run(go())
