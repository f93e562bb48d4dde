"""Clients over HTTP/1.1 that shut their sending side behind a request: `half_close`."""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from meshcore import Proxy
from meshcore.downstream.http1 import Http1Connection
from meshcore.downstream.reset import reset_on_close
from tests.wire.client import Client
from tests.wire.conftest import Run, Serve, eventually, gauges, metric
from tests.wire.origin import Origin, Visit, response
from tests.wire.tunnel_ends import End, Scripted, h1_request

WITHIN_S = 5
GET = b"GET /%b HTTP/1.1\r\nhost: a.test\r\n\r\n"
MUCH = bytes(range(250)) * 32_000


def mesh(port: int, half_close: str = "serve", **listener: object) -> str:
    edge = {"bind": "127.0.0.1:0", "half_close": half_close} | listener
    route = {"name": "all", "upstream": "one", "timeout": "5s", "upgrade": ["websocket"]}
    return json.dumps(
        {
            "version": 1,
            "drain": "300ms",
            "listeners": {"edge": edge},
            "routes": [route],
            "upstreams": {"one": {"endpoints": [f"127.0.0.1:{port}"]}},
        }
    )


def cut(proxy: Proxy, **labels: str) -> int:
    return metric(proxy, "meshcore_requests_cut_total", **labels)


class Late:
    """Answers with the path, when it is told to."""

    def __init__(self) -> None:
        self.answer = asyncio.Event()
        self.asked: list[bytes] = []

    def origin(self) -> Origin:
        return Origin(self._visit)

    async def _visit(self, visit: Visit) -> None:
        while True:
            path = (await visit.head()).split()[1]
            self.asked.append(path)
            await self.answer.wait()
            await visit.send(response(path))


def half_close(client: Client) -> None:
    client.writer.write_eof()


def ends_of(monkeypatch: pytest.MonkeyPatch) -> asyncio.Queue[bool]:
    """What the loop was told of each client's end, from now on: whether it goes on."""
    ends = asyncio.Queue[bool]()
    before = Http1Connection.eof_received

    def eof_received(self: Http1Connection) -> bool:
        goes_on = before(self)
        ends.put_nowait(goes_on)
        return goes_on

    monkeypatch.setattr(Http1Connection, "eof_received", eof_received)
    return ends


@asynccontextmanager
async def half_closed(
    serve: Serve, monkeypatch: pytest.MonkeyPatch
) -> AsyncIterator[tuple[Late, Proxy, Client]]:
    """A client that has asked for `/one` and shut its sending side; nothing was answered yet."""
    late, ends = Late(), ends_of(monkeypatch)
    async with (
        late.origin() as origin,
        serve(mesh(origin.port)) as proxy,
        Client(proxy.addresses["edge"]) as client,
    ):
        await client.send(GET % b"one")
        half_close(client)
        assert await asyncio.wait_for(ends.get(), WITHIN_S)
        yield late, proxy, client


def test_a_whole_request_is_answered(
    run: Run, serve: Serve, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def go() -> None:
        async with half_closed(serve, monkeypatch) as (late, proxy, client):
            late.answer.set()
            reply = await client.reply()
            assert (reply.status, reply.body) == (200, b"/one")
            assert reply.fields["connection"] == "close"
            assert await asyncio.wait_for(client.closed(), WITHIN_S) == b""
            assert cut(proxy) == 0
            assert metric(proxy, "meshcore_route_responses_total") == 1

    run(go())


def test_it_is_dropped_unless_the_listener_serves_it(run: Run, serve: Serve) -> None:
    async def go() -> None:
        late = Late()
        async with late.origin() as origin:
            text = mesh(origin.port, "drop")
            async with serve(text) as proxy, Client(proxy.addresses["edge"]) as client:
                await client.send(GET % b"one")
                half_close(client)
                assert await asyncio.wait_for(client.closed(), WITHIN_S) == b""
                await eventually(lambda: gauges(proxy) == {})
                assert cut(proxy, reason="client_gone", by="client") == cut(proxy) == 1

    run(go())


@pytest.mark.parametrize("tail", [b"", b"GET /four HTTP/1.1\r\nho"], ids=["whole", "a part"])
def test_all_whole_requests_of_a_pipeline_are_answered_and_no_other(
    run: Run, serve: Serve, monkeypatch: pytest.MonkeyPatch, tail: bytes
) -> None:
    async def go() -> None:
        late, ends = Late(), ends_of(monkeypatch)
        async with (
            late.origin() as origin,
            serve(mesh(origin.port)) as proxy,
            Client(proxy.addresses["edge"]) as client,
        ):
            await client.send(GET % b"one" + GET % b"two" + GET % b"three" + tail)
            half_close(client)
            assert await asyncio.wait_for(ends.get(), WITHIN_S)
            late.answer.set()
            for path in (b"/one", b"/two", b"/three"):
                assert (await client.reply()).body == path
            assert await asyncio.wait_for(client.closed(), WITHIN_S) == b""
            assert late.asked == [b"/one", b"/two", b"/three"]

    run(go())


def test_more_than_is_read_ahead_is_answered(run: Run, serve: Serve) -> None:
    async def go() -> None:
        async with (
            Origin(response(b"x")) as origin,
            serve(mesh(origin.port)) as proxy,
            Client(proxy.addresses["edge"]) as client,
        ):
            many = 2_000  # some 74 KB; 16 KiB are read ahead
            await client.send(GET % b"" * many)
            half_close(client)
            got = await asyncio.wait_for(client.closed(), 20)
            assert got.count(b"HTTP/1.1 200 ") == many

    run(go())


PUT = b"PUT /two HTTP/1.1\r\nhost: a\r\n"


@pytest.mark.parametrize(
    ("rest", "begun"),
    [
        (b"GET /two HTTP/1.1\r\nho", 0),
        (PUT + b"content-length: 9\r\n\r\nabc", 1),
        (PUT + b"content-length: 100000\r\n\r\nabc", 1),
        (PUT + b"transfer-encoding: chunked\r\n\r\n3\r\nabc\r\n", 1),
    ],
    ids=["head", "small body", "large body", "chunked body"],
)
@pytest.mark.parametrize("behind", [b"", GET % b"one"], ids=["alone", "behind another"])
def test_an_incomplete_request_is_one_whose_client_left(
    run: Run, serve: Serve, behind: bytes, rest: bytes, begun: int
) -> None:
    async def answer(visit: Visit) -> None:
        while True:
            head = await visit.head()
            if head.startswith(b"PUT"):
                await visit.reader.read()
                return
            await visit.send(response(b"x"))

    async def go() -> None:
        async with (
            Origin(answer) as origin,
            serve(mesh(origin.port)) as proxy,
            Client(proxy.addresses["edge"]) as client,
        ):
            await client.send(behind + rest)
            half_close(client)
            if behind:
                assert (await client.reply()).body == b"x"
            assert await asyncio.wait_for(client.closed(), WITHIN_S) == b""
            await eventually(lambda: gauges(proxy) == {})
            assert cut(proxy, reason="client_gone", by="client") == cut(proxy) == begun

    run(go())


def test_a_request_with_a_body_is_answered(run: Run, serve: Serve) -> None:
    async def answer(visit: Visit) -> None:
        await visit.head()
        body = await visit.body(100_000)
        await visit.send(response(body[::-1]))

    async def go() -> None:
        async with (
            Origin(answer) as origin,
            serve(mesh(origin.port)) as proxy,
            Client(proxy.addresses["edge"]) as client,
        ):
            head = b"PUT / HTTP/1.1\r\nhost: a\r\ncontent-length: 100000\r\n\r\n"
            await client.send(head + MUCH[:100_000])
            half_close(client)
            assert (await client.reply()).body == MUCH[:100_000][::-1]
            assert await asyncio.wait_for(client.closed(), WITHIN_S) == b""

    run(go())


def test_an_end_within_a_response_does_not_cut_it(
    run: Run, serve: Serve, monkeypatch: pytest.MonkeyPatch
) -> None:
    """More than the system's buffers hold, and the client takes it late."""
    go_on, full = asyncio.Event(), asyncio.Event()
    pause_writing = Http1Connection.pause_writing

    def fill(self: Http1Connection) -> None:
        pause_writing(self)
        full.set()

    monkeypatch.setattr(Http1Connection, "pause_writing", fill)

    async def answer(visit: Visit) -> None:
        await visit.head()
        await visit.send(b"HTTP/1.1 200 OK\r\ncontent-length: %d\r\n\r\n" % len(MUCH))
        await go_on.wait()
        await visit.send(MUCH)

    async def go() -> None:
        ends = ends_of(monkeypatch)
        async with (
            Origin(answer) as origin,
            serve(mesh(origin.port)) as proxy,
            Client(proxy.addresses["edge"]) as client,
        ):
            await client.send(GET % b"")
            reply = await client.head()
            half_close(client)
            assert await asyncio.wait_for(ends.get(), WITHIN_S)
            client.writer.transport.pause_reading()  # type: ignore[attr-defined]  # it reads, too
            go_on.set()
            await asyncio.wait_for(full.wait(), WITHIN_S)
            client.writer.transport.resume_reading()  # type: ignore[attr-defined]
            assert reply.status == 200
            assert await asyncio.wait_for(client.closed(), 20) == MUCH
            await eventually(lambda: proxy.connections == 0)
            assert cut(proxy) == 0

    run(go())


@pytest.mark.parametrize("asked_before", [False, True], ids=["new", "kept"])
def test_a_connection_that_asks_nothing_ends_at_once(
    run: Run, serve: Serve, asked_before: bool
) -> None:
    async def go() -> None:
        async with (
            Origin(response(b"x")) as origin,
            serve(mesh(origin.port)) as proxy,
            Client(proxy.addresses["edge"]) as client,
        ):
            if asked_before:
                assert (await client.get()).body == b"x"
            half_close(client)
            assert await asyncio.wait_for(client.closed(), WITHIN_S) == b""
            await eventually(lambda: proxy.connections == 0)

    run(go())


def test_a_client_that_is_gone_is_seen_while_the_endpoint_is_silent(
    run: Run, serve: Serve, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def go() -> None:
        async with half_closed(serve, monkeypatch) as (_, proxy, client):
            assert gauges(proxy) != {}
            reset_on_close(client.writer.transport)  # type: ignore[arg-type]
            client.writer.transport.abort()
            await eventually(lambda: gauges(proxy) == {})
            assert cut(proxy, reason="client_gone", by="client") == cut(proxy) == 1
            assert proxy.connections == 0

    run(go())


def test_a_client_that_is_gone_is_seen_by_writing(
    run: Run, serve: Serve, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("meshcore.downstream.half_closed.LOOK_NS", 10**12)  # it is not looked for

    async def stream(visit: Visit) -> None:
        await visit.head()
        await visit.send(b"HTTP/1.1 200 OK\r\n\r\n")
        while True:
            await visit.send(b"more")
            await asyncio.sleep(0.005)

    async def go() -> None:
        ends = ends_of(monkeypatch)
        async with (
            Origin(stream) as origin,
            serve(mesh(origin.port)) as proxy,
            Client(proxy.addresses["edge"]) as client,
        ):
            await client.send(GET % b"")
            await client.head()
            half_close(client)
            assert await asyncio.wait_for(ends.get(), WITHIN_S)
            client.writer.close()  # what comes is answered with a reset
            await eventually(lambda: gauges(proxy) == {})
            assert cut(proxy, reason="client_gone", by="client") == cut(proxy) == 1

    run(go())


def test_what_is_half_closed_costs_nothing_while_nothing_comes(
    run: Run, serve: Serve, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The end of a file can be read again and again."""

    async def go() -> None:
        late, ends = Late(), ends_of(monkeypatch)
        async with (
            late.origin() as origin,
            serve(mesh(origin.port)) as proxy,
            Client(proxy.addresses["edge"]) as client,
        ):
            await client.send(GET % b"one")
            half_close(client)
            assert await asyncio.wait_for(ends.get(), WITHIN_S)
            busy = time.process_time()
            await asyncio.sleep(0.5)
            assert time.process_time() - busy < 0.25
            assert ends.empty()
            late.answer.set()
            assert (await client.reply()).body == b"/one"

    run(go())


def test_a_tunnel_that_was_asked_for_begins_and_is_half_closed(
    run: Run, serve: Serve, monkeypatch: pytest.MonkeyPatch
) -> None:
    agree = asyncio.Event()

    async def answer(end: End) -> None:
        assert await end.rest() == b"early"
        await end.send(b"late")
        await end.finish()

    async def go() -> None:
        far, ends = Scripted("http1", answer), ends_of(monkeypatch)

        async def reluctant(visit: Visit) -> None:
            await agree.wait()
            await far._h1(visit)

        async with (
            Origin(reluctant) as origin,
            serve(mesh(origin.port)) as proxy,
            Client(proxy.addresses["edge"]) as client,
        ):
            await client.send(h1_request("websocket") + b"early")
            half_close(client)
            assert await asyncio.wait_for(ends.get(), WITHIN_S)
            agree.set()
            assert (await client.head()).status == 101
            assert await asyncio.wait_for(client.closed(), WITHIN_S) == b"late"
            await eventually(lambda: gauges(proxy) == {})
            assert cut(proxy) == 0

    run(go())


def test_the_end_of_a_drain_answers_it(
    run: Run, serve: Serve, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def go() -> None:
        async with half_closed(serve, monkeypatch) as (_, proxy, client):
            stopping = asyncio.create_task(proxy.stop())
            reply = await client.reply()
            assert (reply.status, reply.fields["x-mesh-reason"]) == (503, "draining")
            assert await asyncio.wait_for(client.closed(), WITHIN_S) == b""
            await asyncio.wait_for(stopping, WITHIN_S)

    run(go())


def test_a_unix_socket_half_closes(run: Run, serve: Serve, tmp_path: Path) -> None:
    path = tmp_path / "edge.sock"

    async def go() -> None:
        async with (
            Origin(response(b"x")) as origin,
            serve(mesh(origin.port, bind=f"unix:{path}")),
        ):
            reader, writer = await asyncio.open_unix_connection(str(path))
            writer.write(GET % b"")
            writer.write_eof()
            assert (await asyncio.wait_for(reader.read(), WITHIN_S)).endswith(b"\r\n\r\nx")
            writer.close()

    run(go())
