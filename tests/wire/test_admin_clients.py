"""Clients of the admin port that say nothing, or take nothing: they keep nobody from its health."""

from __future__ import annotations

import asyncio
import contextlib
import socket
from collections.abc import AsyncIterator
from typing import Any
from urllib.parse import urlsplit

import pytest

from meshcore import Answer, Proxy
from meshcore.admin import connection, server
from meshcore.admin.connection import MAX_HALF_CLOSED, Phase
from tests.wire.client import Client
from tests.wire.conftest import Run, Serve, eventually
from tests.wire.test_reload import mesh

HEALTH = b"GET /healthz HTTP/1.1\r\nhost: a.test\r\n\r\n"
METRICS = b"GET /metrics HTTP/1.1\r\nhost: a.test\r\n\r\n"
OPEN = "application/openmetrics-text"
LARGE = 8 << 20
"""More than sockets hold: Linux lets a connection's two buffers grow to some 10 MB in all, unless
the reader has set its own."""


def admin(text: str = "") -> str:
    return mesh(1) + f'admin: {{bind: "127.0.0.1:0"{text}}}\n'


def of(proxy: Proxy) -> server.Admin:
    assert proxy._admin is not None
    return proxy._admin


@contextlib.asynccontextmanager
async def clients(proxy: Proxy, number: int, source: str | None = None) -> AsyncIterator[Any]:
    """Connections that are there, in the order in which they came."""
    async with contextlib.AsyncExitStack() as stack:
        there: list[Client] = []
        before = len(of(proxy).connections)
        assert proxy.admin_address is not None
        for _ in range(number):
            there.append(await stack.enter_async_context(Client(proxy.admin_address, source)))
        most = min(before + number, server.MAX_CONNECTIONS)
        await eventually(lambda: len(of(proxy).connections) == most)
        yield there


async def ended(client: Client) -> bytes:
    """What a client is still told before its end."""
    async with asyncio.timeout(10):
        try:
            return await client.reader.read()
        except ConnectionError:
            return b""


@pytest.fixture
def soon(monkeypatch: pytest.MonkeyPatch) -> None:
    """All that is waited for is waited for for a moment."""
    monkeypatch.setattr(connection, "LIMIT_S", dict.fromkeys(connection.LIMIT_S, 0.05))


@pytest.mark.parametrize("said", [b"", b"GET /healthz HTTP/1.1\r\nhost: a", METRICS], ids=len)
def test_health_is_told_however_many_are_there(run: Run, serve: Serve, said: bytes) -> None:
    async def main() -> None:
        async with serve(admin()) as proxy, clients(proxy, 3 * server.MAX_CONNECTIONS) as there:
            for client in there[-10:]:
                await client.send(said)
            async with clients(proxy, 1) as (probe,):
                await probe.send(HEALTH)
                assert (await probe.reply()).status == 200
            assert len(of(proxy).connections) <= server.MAX_CONNECTIONS

    run(main())


def test_who_was_silent_longest_makes_place(run: Run, serve: Serve) -> None:
    async def main() -> None:
        most = server.MAX_CONNECTIONS
        async with serve(admin()) as proxy, clients(proxy, most) as there:
            await there[0].send(HEALTH)
            assert (await there[0].reply()).status == 200
            async with clients(proxy, 1):
                assert await ended(there[1]) == b""
                for client in (there[0], there[2], there[-1]):
                    await client.send(HEALTH)
                    assert (await client.reply()).status == 200

    run(main())


def test_many_from_one_address_make_place_for_another(run: Run, serve: Serve) -> None:
    async def main() -> None:
        async with (
            serve(admin()) as proxy,
            clients(proxy, 1, "127.0.0.2") as (probe,),
            clients(proxy, 2 * server.MAX_CONNECTIONS, "127.0.0.3"),
        ):
            await probe.send(HEALTH)
            assert (await probe.reply()).status == 200

    run(main())


@pytest.mark.usefixtures("soon")
@pytest.mark.parametrize(
    "said",
    [b"", b"GET ", HEALTH[:-2], b"POST /x HTTP/1.1\r\nhost: a\r\ncontent-length: 9\r\n\r\nbody"],
    ids=["nothing", "line", "head", "body"],
)
def test_a_request_has_its_time(run: Run, serve: Serve, said: bytes) -> None:
    async def main() -> None:
        async with serve(admin()) as proxy, clients(proxy, 1) as (client,):
            await client.send(said)
            assert await ended(client) == b""

    run(main())


def test_bytes_now_and_then_do_not_lengthen_it(
    run: Run, serve: Serve, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(connection.LIMIT_S, Phase.READING, 0.3)

    async def main() -> None:
        async with serve(admin()) as proxy, clients(proxy, 1) as (client,):
            began = asyncio.get_running_loop().time()
            with contextlib.suppress(ConnectionError):
                while not (client.reader.at_eof() or client.writer.is_closing()):
                    await client.send(b"G")
                    await asyncio.sleep(0.02)
            assert asyncio.get_running_loop().time() - began < 5

    run(main())


@pytest.mark.usefixtures("soon")
def test_a_kept_connection_has_its_time(run: Run, serve: Serve) -> None:
    async def main() -> None:
        async with serve(admin()) as proxy, clients(proxy, 1) as (client,):
            await client.send(HEALTH)
            assert (await ended(client)).startswith(b"HTTP/1.1 200")

    run(main())


def large(proxy: Proxy, monkeypatch: pytest.MonkeyPatch) -> None:
    """Make the metrics too many for sockets to hold."""
    exposition = of(proxy).handlers._exposition
    monkeypatch.setattr(exposition, "_metrics", lambda _: (b"x" * LARGE, "text/plain"))


@contextlib.contextmanager
def reads_nothing(proxy: Proxy, said: bytes) -> Any:
    """A client that asks and takes no answer."""
    at = urlsplit(proxy.admin_address)
    with socket.socket() as sock:
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        sock.connect((at.hostname, at.port))
        sock.sendall(said)
        yield sock


def writing(proxy: Proxy) -> list[connection.AdminConnection]:
    return [each for each in of(proxy).connections if each.phase is Phase.WRITING]


@pytest.mark.usefixtures("soon")
def test_who_takes_no_answer_is_ended(
    run: Run, serve: Serve, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def main() -> None:
        async with serve(admin()) as proxy:
            large(proxy, monkeypatch)
            with reads_nothing(proxy, METRICS):
                await eventually(lambda: bool(of(proxy).connections))
                await eventually(lambda: not of(proxy).connections)

    run(main())


@pytest.mark.usefixtures("soon")
def test_who_takes_no_last_answer_is_ended(
    run: Run, serve: Serve, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def main() -> None:
        async with serve(admin()) as proxy:
            large(proxy, monkeypatch)
            closing = METRICS.replace(b"\r\n\r\n", b"\r\nconnection: close\r\n\r\n")
            with reads_nothing(proxy, closing):
                await eventually(lambda: bool(of(proxy).connections))
                await eventually(lambda: not of(proxy).connections)

    run(main())


def test_answers_that_nobody_takes_are_not_piled_up(
    run: Run, serve: Serve, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(server, "MAX_UNREAD_BYTES", 3 * LARGE)

    async def main() -> None:
        async with serve(admin()) as proxy:
            large(proxy, monkeypatch)
            with contextlib.ExitStack() as stack:
                for _ in range(8):
                    # Pipelined: the second is not answered before the first was taken.
                    stack.enter_context(reads_nothing(proxy, 2 * METRICS))
                    before = set(writing(proxy))
                    await eventually(lambda: not before.issuperset(writing(proxy)))  # noqa: B023
                    held = sum(each.unread_bytes for each in of(proxy).connections)
                    assert held <= server.MAX_UNREAD_BYTES
                assert len(writing(proxy)) >= 2
                async with clients(proxy, 1) as (probe,):
                    await probe.send(HEALTH)
                    assert (await probe.reply()).status == 200

    run(main())


def test_pipelined_requests_are_answered_in_order(run: Run, serve: Serve) -> None:
    async def main() -> None:
        async with serve(admin()) as proxy, clients(proxy, 1) as (client,):
            await client.send(50 * (HEALTH + METRICS) + b"GET /none HTTP/1.1\r\n")
            for _ in range(50):
                assert (await client.reply()).body == b"ok\n"
                assert b"meshcore_" in (await client.reply()).body
            await client.send(b"host: a.test\r\nconnection: close\r\n\r\n")
            assert (await client.reply()).status == 403
            assert await ended(client) == b""

    run(main())


def test_the_metrics_are_made_once_for_all_who_wait(
    run: Run, serve: Serve, monkeypatch: pytest.MonkeyPatch
) -> None:
    made: list[str] = []

    async def main() -> None:
        async with serve(admin()) as proxy, clients(proxy, 20) as there:
            exposition = of(proxy).handlers._exposition

            def metrics(accept: str) -> tuple[bytes, str]:
                made.append(accept)
                return b"text", "text/plain"

            monkeypatch.setattr(exposition, "_metrics", metrics)
            answers = [asyncio.ensure_future(exposition.answer("")) for _ in range(20)]
            answers += [asyncio.ensure_future(exposition.answer(f"{OPEN};q=0.{n}")) for n in (1, 2)]
            answers[0].cancel()
            got = await asyncio.gather(*answers[1:])
            assert {answer.status for answer in got} == {200}
            assert [kind.split(";")[0] for kind in made] == ["text/plain", OPEN]
            monkeypatch.setattr(exposition, "_metrics", lambda _: 1 / 0)
            with pytest.raises(ZeroDivisionError):
                await exposition.answer("")
            monkeypatch.setattr(exposition, "_metrics", metrics)
            await there[0].send(METRICS)
            assert (await there[0].reply()).body == b"text"

    run(main())


@pytest.mark.parametrize("path", ["/metrics", "/healthz"])
def test_a_client_that_shuts_its_half_is_answered(run: Run, serve: Serve, path: str) -> None:
    async def main() -> None:
        async with serve(admin()) as proxy, clients(proxy, 1) as (client,):
            await client.send(2 * f"GET {path} HTTP/1.1\r\nhost: a.test\r\n\r\n".encode())
            client.writer.write_eof()
            assert (await client.reply()).status == 200
            assert (await client.reply()).status == 200
            assert await ended(client) == b""

    run(main())


def test_next_to_nothing_is_made_for_who_has_left(
    run: Run, serve: Serve, monkeypatch: pytest.MonkeyPatch
) -> None:
    made: list[str] = []

    async def main() -> None:
        async with serve(admin()) as proxy:
            handlers = of(proxy).handlers
            go_on = asyncio.Event()

            async def later(accept: str) -> Answer:
                await go_on.wait()
                made.append(accept)
                return Answer(200)

            monkeypatch.setattr(handlers._exposition, "answer", later)
            async with clients(proxy, 20) as there:
                for client in there:
                    await client.send(METRICS + METRICS)
                await eventually(lambda: len(of(proxy).tasks) == 20)
            await eventually(lambda: len(of(proxy).tasks) <= MAX_HALF_CLOSED)
            go_on.set()
            await eventually(lambda: not of(proxy).tasks)
            assert len(made) <= 2 * MAX_HALF_CLOSED, "each asked twice"

    run(main())
