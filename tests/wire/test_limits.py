"""What a client may not do has its exact status and a closed connection; others go on."""

from __future__ import annotations

import asyncio

import pytest

from tests.wire.client import Client
from tests.wire.conftest import Run, Serve
from tests.wire.origin import Origin, Visit, response
from tests.wire.test_forward import mesh

LIMITED = """{bind: "127.0.0.1:0",
        timeouts: {header: 200ms, idle: IDLE},
        limits: {connections: 3, header_bytes: 1KiB, headers: 5, target_bytes: 256B,
                 body_bytes: 10}}
"""
HEAD = b"POST / HTTP/1.1\r\nhost: a\r\n"


def limited(port: int, idle: str = "5s") -> str:
    return mesh(port).replace('{bind: "127.0.0.1:0"}', LIMITED.replace("IDLE", idle))


@pytest.mark.parametrize(
    ("sent", "status"),
    [
        (b"GET /" + b"a" * 256 + b" HTTP/1.1\r\nhost: a\r\n\r\n", 414),
        (HEAD + b"x: " + b"a" * 1024 + b"\r\n\r\n", 431),
        (HEAD + b"x: y\r\n" * 5 + b"\r\n", 431),
        (HEAD + b"content-length: 11\r\n\r\n", 413),
        (HEAD + b"transfer-encoding: chunked\r\n\r\nb\r\n01234567890\r\n0\r\n\r\n", 413),
        (HEAD + b"x", 408),
        (b"PRI * HTTP/3.0\r\n\r\n", 505),
        (HEAD + b"transfer-encoding: gzip\r\n\r\n", 501),
        (b"\x16\x03\x01\x02\x00", 400),
        (HEAD + b"connection: " + b"a," * 33 + b"\r\n\r\n", 400),
    ],
    ids=[
        "target",
        "bytes",
        "fields",
        "body",
        "chunks",
        "time",
        "version",
        "coding",
        "tls",
        "options",
    ],
)
def test_what_is_too_much_is_refused(run: Run, serve: Serve, sent: bytes, status: int) -> None:
    async def go() -> None:
        async with Origin(response(b"hi")) as origin, serve(limited(origin.port)) as proxy:
            async with Client(proxy.addresses["edge"]) as other:
                assert (await other.get()).status == 200
                async with Client(proxy.addresses["edge"]) as client:
                    await client.send(sent)
                    said = await client.closed()
                    assert said.startswith(b"HTTP/1.1 %d " % status), said
                    assert b"\r\nconnection: close\r\n" in said.lower()
                assert (await other.get()).status == 200
            assert origin.seen.count(b"GET / ") == 2
            assert b"POST" not in origin.seen

    run(go())


def test_an_idle_connection_is_closed_without_a_word(run: Run, serve: Serve) -> None:
    async def go() -> None:
        async with Origin(response(b"hi")) as origin, serve(limited(origin.port, "200ms")) as proxy:
            for asks in (0, 1):
                async with Client(proxy.addresses["edge"]) as client:
                    for _ in range(asks):
                        assert (await client.get()).status == 200
                    assert await client.closed() == b""

    run(go())


def test_one_connection_too_many_is_closed(run: Run, serve: Serve) -> None:
    async def go() -> None:
        async with Origin(response(b"hi")) as origin, serve(limited(origin.port)) as proxy:
            url = proxy.addresses["edge"]
            async with Client(url) as one, Client(url) as two, Client(url) as three:
                for client in (one, two, three):
                    assert (await client.get()).status == 200
                async with Client(url) as fourth:
                    with pytest.raises((ConnectionError, asyncio.IncompleteReadError)):
                        await fourth.get()
                assert (await one.get()).status == 200

    run(go())


def test_more_requests_than_the_upstream_takes_are_overflow(run: Run, serve: Serve) -> None:
    held = asyncio.Event()

    async def hold(visit: Visit) -> None:
        await visit.head()
        held.set()
        await visit.reader.read()

    async def go() -> None:
        caps = "limits: {requests: 1}"
        async with Origin(hold) as origin, serve(mesh(origin.port, upstream=caps)) as proxy:
            url = proxy.addresses["edge"]
            async with Client(url) as first, Client(url) as second:
                await first.send(b"GET / HTTP/1.1\r\nhost: a\r\n\r\n")
                await held.wait()
                reply = await second.get()
                assert (reply.status, reply.fields["x-mesh-reason"]) == (503, "overflow")

    run(go())


def test_more_that_wait_for_a_connection_than_may_are_overflow(run: Run, serve: Serve) -> None:
    async def hold(visit: Visit) -> None:
        await visit.head()
        await visit.reader.read()

    async def go() -> None:
        caps = "limits: {connections: 1, pending: 1}"
        async with Origin(hold) as origin, serve(mesh(origin.port, upstream=caps)) as proxy:
            url = proxy.addresses["edge"]
            async with Client(url) as first, Client(url) as second, Client(url) as third:
                for client in (first, second):
                    await client.send(b"GET / HTTP/1.1\r\nhost: a\r\n\r\n")
                    await origin.reached.wait()
                reply = await third.get()
                assert (reply.status, reply.fields["x-mesh-reason"]) == (503, "overflow")

    run(go())


@pytest.mark.parametrize("where", ["listener", "route"])
def test_a_request_leaves_its_cap_when_it_is_over(run: Run, serve: Serve, where: str) -> None:
    async def go() -> None:
        cap = "layers: [{in_flight: {max: 1}}]"
        async with Origin(response(b"hi")) as origin:
            text = mesh(origin.port, route=cap if where == "route" else "timeout: 5s")
            if where == "listener":
                text = text.replace('"127.0.0.1:0"}', f'"127.0.0.1:0", {cap}}}')
            async with serve(text) as proxy, Client(proxy.addresses["edge"]) as client:
                for _ in range(3):
                    assert (await client.get()).status == 200

    run(go())
