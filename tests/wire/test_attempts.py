"""More than one attempt: which failures are tried again, where, and how often."""

from __future__ import annotations

import pytest

from tests.wire.client import Client
from tests.wire.conftest import Run, Serve, nobody
from tests.wire.origin import Origin, Visit, response
from tests.wire.test_forward import mesh

QUIET = "circuit_breaker: off\n        ejection: off"


def retrying(when: str, retries: int = 1) -> str:
    return f"retry: {{retries: {retries}, when: [{when}]}}"


def test_a_refused_connection_is_tried_at_another_endpoint(run: Run, serve: Serve) -> None:
    async def go() -> None:
        with nobody() as dead:
            async with (
                Origin(response(b"hi")) as origin,
                serve(mesh(dead, origin.port, upstream=QUIET)) as proxy,
                Client(proxy.addresses["edge"]) as client,
            ):
                for method in ("GET", "POST"):  # nothing was sent: either may be tried again
                    for _ in range(4):
                        assert (await client.get(method=method)).status == 200

    run(go())


@pytest.mark.parametrize(
    ("when", "method", "attempts", "status"),
    [
        ("503", "GET", 3, 503),
        ("5xx", "GET", 3, 503),
        ("503", "POST", 1, 503),
        ("500", "GET", 1, 503),
    ],
)
def test_a_status_is_tried_again_as_the_route_says(
    run: Run, serve: Serve, when: str, method: str, attempts: int, status: int
) -> None:
    async def go() -> None:
        text = mesh(0, route=retrying(when, 2), upstream=QUIET)
        async with Origin(response(b"no", "503 Service Unavailable")) as origin:
            text = text.replace('127.0.0.1:0"]', f'127.0.0.1:{origin.port}"]')
            async with serve(text) as proxy, Client(proxy.addresses["edge"]) as client:
                reply = await client.get(method=method)
                assert (reply.status, reply.body) == (status, b"no")
                assert origin.seen.count(method.encode() + b" / ") == attempts

    run(go())


def test_a_body_is_sent_again_whole(run: Run, serve: Serve) -> None:
    bodies = []

    async def second_time(visit: Visit) -> None:
        while True:
            await visit.head()
            bodies.append(await visit.body(5))
            if len(bodies) > 1:
                await visit.send(response(b"hi"))
            else:
                visit.writer.transport.abort()  # a reset, before any byte of a response
                return

    async def go() -> None:
        text = mesh(0, route=retrying("reset"), upstream=QUIET)
        async with Origin(second_time) as origin:
            text = text.replace('127.0.0.1:0"]', f'127.0.0.1:{origin.port}"]')
            async with serve(text) as proxy, Client(proxy.addresses["edge"]) as client:
                await client.send(b"PUT / HTTP/1.1\r\nhost: a\r\ncontent-length: 5\r\n\r\n")
                await client.send(b"hello")
                assert (await client.reply()).body == b"hi"
        assert bodies == [b"hello", b"hello"]

    run(go())


def test_a_client_that_expects_continue_gets_it_from_the_endpoint(run: Run, serve: Serve) -> None:
    async def careful(visit: Visit) -> None:
        assert b"expect: 100-continue" in (await visit.head()).lower()
        await visit.send(b"HTTP/1.1 100 Continue\r\n\r\n")
        await visit.send(response(await visit.body(5)))

    async def refusing(visit: Visit) -> None:
        await visit.head()
        await visit.send(response(b"", "417 Expectation Failed"))

    async def go() -> None:
        head = b"POST / HTTP/1.1\r\nhost: a\r\nexpect: 100-continue\r\ncontent-length: 5\r\n\r\n"
        async with (
            Origin(careful) as origin,
            serve(mesh(origin.port)) as proxy,
            Client(proxy.addresses["edge"]) as client,
        ):
            await client.send(head)
            assert (await client.head()).status == 100
            await client.send(b"hello")
            assert (await client.reply()).body == b"hello"
        async with (
            Origin(refusing) as origin,
            serve(mesh(origin.port)) as proxy,
            Client(proxy.addresses["edge"]) as client,
        ):
            await client.send(head)
            assert (await client.head()).status == 417
            # The body was never sent: nothing else may come on this connection.
            assert await client.closed() == b""

    run(go())
