"""What a review of HTTP/2 found: each of these went wrong once."""

from __future__ import annotations

import asyncio
import contextlib
import socket
import time
from typing import Any
from urllib.parse import urlsplit

import pytest
from h2.exceptions import ProtocolError
from hyperframe.frame import DataFrame, GoAwayFrame, HeadersFrame, SettingsFrame, WindowUpdateFrame

from meshcore import Proxy
from tests.wire.client import Client
from tests.wire.conftest import Run, Serve, eventually, metric, nobody
from tests.wire.h2_client import PREFACE, H2Client, RawClient, frame
from tests.wire.h2_mesh import Mesh
from tests.wire.h2_origin import Call, H2Origin
from tests.wire.h2_peer import Field, ResetError, Stream
from tests.wire.origin import Origin, response
from tests.wire.tunnel_ends import h1_request, h2_request

DATA, RST_STREAM = 0, 3
NO_ERROR, CANCEL, CALM = 0, 8, 11
POISON = b"HTTP/1.1 200 OK\r\ncontent-length: 6\r\n\r\nPOISON"
QUIET = {"circuit_breaker": "off", "ejection": "off"}


def mesh(engine: str, *ports: int) -> Mesh:
    return Mesh(engine, *ports).to("h2", **QUIET)


# --- responses --------------------------------------------------------------------------------


@pytest.mark.parametrize("late", [False, True], ids=["at-once", "later"])
@pytest.mark.parametrize(("method", "status"), [("HEAD", "200"), ("GET", "204"), ("GET", "304")])
def test_what_follows_a_head_without_a_body_is_no_response(
    run: Run, serve: Serve, engine: str, method: str, status: str, late: bool
) -> None:
    """In HTTP/1.1 it would be taken for the next one."""

    async def split(call: Call) -> None:
        if call.path == "/other":
            return await call.answer(b"other")
        call.send_head((":status", status))
        if late:
            await headed.wait()
        return await call.send(POISON)

    headed = asyncio.Event()

    async def go() -> None:
        async with (
            H2Origin(split) as origin,
            serve(str(mesh(engine, origin.port))) as proxy,
            Client(proxy.addresses["edge"]) as client,
            Client(proxy.addresses["edge"]) as other,
        ):
            seen = b""
            # The last: what uvloop says of a transport that was closed meanwhile.
            with contextlib.suppress(ConnectionError, asyncio.IncompleteReadError, RuntimeError):
                await client.send(f"{method} / HTTP/1.1\r\nhost: a\r\n\r\n".encode())
                seen += await client.reader.readuntil(b"\r\n\r\n")
                headed.set()
                assert (await other.get("/other")).body == b"other"  # behind the poison
                last = b"GET /other HTTP/1.1\r\nhost: a\r\nconnection: close\r\n\r\n"
                await client.send(last)
                seen += await client.closed()
            assert b"POISON" not in seen
            assert seen.count(b"HTTP/1.1 200 OK") <= (method == "HEAD") + seen.endswith(b"other")

    run(go())


def test_a_response_that_is_whole_is_a_slow_clients_though_its_endpoint_is_gone(
    run: Run, serve: Serve, engine: str
) -> None:
    sent = 0

    async def much(call: Call) -> None:
        nonlocal sent
        h2 = call.visit.h2
        call.send_head((":status", "200"))
        with contextlib.suppress(TimeoutError):
            while True:  # until it is paused: then the window stays shut
                async with asyncio.timeout(0.3):
                    await call.until(lambda: h2.local_flow_control_window(call.number) > 0)
                room = min(h2.local_flow_control_window(call.number), h2.max_outbound_frame_size)
                await call.send(b"x" * room)
                sent += room
        await call.send(b"", end=True)
        await call.visit.close()

    async def go() -> None:
        async with (
            H2Origin(much) as origin,
            serve(str(mesh(engine, origin.port))) as proxy,
            Client(proxy.addresses["edge"]) as client,
        ):
            await client.send(b"GET / HTTP/1.1\r\nhost: a\r\n\r\n")
            await origin.reached()
            await origin.visits[0].gone()
            assert (await client.reply()).body == b"x" * sent

    run(go())


# --- connections to endpoints -----------------------------------------------------------------


class Late(H2Origin):
    """Says nothing on a connection until it may."""

    def __init__(self, handler: bytes) -> None:
        super().__init__(handler)
        self.may = asyncio.Event()

    async def _visit(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await self.may.wait()
        await super()._visit(reader, writer)


async def upgrades_h1(stack: contextlib.AsyncExitStack, url: str, most: int) -> list[Any]:
    """Ask for so many tunnels; what to wait for."""
    clients = [await stack.enter_async_context(Client(url)) for _ in range(most)]
    for client in clients:
        await client.send(h1_request("websocket"))
    return [client.head() for client in clients]


async def upgrades_h2(stack: contextlib.AsyncExitStack, url: str, most: int) -> list[Any]:
    """The same, 100 on each connection."""

    async def headed(stream: Stream) -> Stream:
        await stream.head()
        return stream

    clients = [await stack.enter_async_context(H2Client(url)) for _ in range(most // 100)]
    ask = h2_request("websocket")
    return [headed(client.open(*ask, end=False)) for client in clients for _ in range(100)]


@pytest.mark.parametrize("speaks", ["http1", "h2"])
def test_every_upgrade_that_waited_for_an_endpoint_that_takes_none_is_answered(
    run: Run, serve: Serve, engine: str, speaks: str
) -> None:
    def waiting(proxy: Proxy) -> int:
        return metric(proxy, "meshcore_upstream_requests")

    async def go() -> None:
        async with Late(b"hi") as origin:
            text = mesh(engine, origin.port).via(upgrade=["websocket"])
            text.to("h2", connect_timeout="8s", limits={"pending": 1000})
            async with serve(str(text)) as proxy, contextlib.AsyncExitStack() as stack:
                ask = upgrades_h1 if speaks == "http1" else upgrades_h2
                answers = await ask(stack, proxy.addresses["edge"], 300)
                await eventually(lambda: waiting(proxy) == 300)
                origin.may.set()
                async with asyncio.timeout(8):
                    statuses = {one.status for one in await asyncio.gather(*answers)}
                assert statuses <= {501, 502}
                async with Client(proxy.addresses["edge"]) as client:
                    assert (await client.get()).body == b"hi"

    run(go())


@pytest.mark.parametrize("address", ["silent", "refused"])
def test_all_who_waited_for_a_connection_hear_at_once_that_there_is_none(
    run: Run, serve: Serve, engine: str, address: str
) -> None:
    async def say_nothing(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with contextlib.suppress(ConnectionError):
            await reader.read()
        writer.close()

    async def go() -> None:
        server = await asyncio.start_server(say_nothing, "127.0.0.1", 0)
        with nobody() as refusing:
            silent = server.sockets[0].getsockname()[1]
            port = silent if address == "silent" else refusing
            text = mesh(engine, port).to("h2", connect_timeout="300ms").via(retry="off")
            clock = asyncio.get_running_loop().time
            async with serve(str(text)) as proxy, H2Client(proxy.addresses["edge"]) as client:
                begun = clock()
                streams = await asyncio.gather(*(client.get() for _ in range(12)))
                assert {stream.status for stream in streams} <= {502, 503}
                assert clock() - begun < 1.5
            server.close()

    run(go())


@pytest.mark.parametrize("apart", [False, True], ids=["together", "apart"])
def test_resets_behind_early_responses_do_not_cost_others_the_connection(
    run: Run, serve: Serve, engine: str, apart: bool
) -> None:
    """RFC 9113 §8.1: with NO_ERROR an endpoint asks for no more of the request."""

    async def early(call: Call) -> None:
        if call.path == "/hold":
            return await call.answer(await call.whole())
        await call.answer(b"early")
        if apart:
            await call.visit.writer.drain()
            await asyncio.sleep(0.02)
        try:
            call.cancel(NO_ERROR)
        except ProtocolError:  # the proxy was quicker, which this endpoint does not see
            call.visit.send_raw(frame(RST_STREAM, call.number, bytes(4)))

    async def upload(client: H2Client) -> None:
        stream = client.ask("/", method="POST", end=False)
        await stream.send(b"some")
        await stream.until(lambda: stream.ended)
        assert (stream.status, bytes(stream.body)) == (200, b"early")

    async def go() -> None:
        async with (
            H2Origin(early) as origin,
            serve(str(mesh(engine, origin.port).via(retry="off"))) as proxy,
            H2Client(proxy.addresses["edge"]) as neighbour,
            H2Client(proxy.addresses["edge"]) as client,
        ):
            held = neighbour.ask("/hold", method="POST", end=False)
            await origin.reached()
            for _ in range(6):
                await asyncio.gather(*(upload(client) for _ in range(50)))
            await held.send(b"held", end=True)
            assert await held.whole() == b"held"
            # Where the proxy had to stop each request itself, an endpoint would count the resets:
            # the later uploads went over another connection.
            assert len(origin.visits) <= (2 if apart else 1)

    run(go())


def test_data_for_streams_that_were_cancelled_does_not_cost_others_the_connection(
    run: Run, serve: Serve, engine: str
) -> None:
    async def pour(call: Call) -> None:
        if call.path == "/hold":
            return await call.answer(await call.whole())
        call.send_head((":status", "200"))
        with contextlib.suppress(ResetError):
            for _ in range(30):
                await call.send(b"x" * 1000)
                await asyncio.sleep(0)
        await call.reset()
        return call.visit.send_raw(frame(DATA, call.number, b"late"))

    async def go() -> None:
        async with (
            H2Origin(pour) as origin,
            # The client's package resets again for each frame that comes late.
            serve(str(mesh(engine, origin.port).client_h2(resets="100000/s"))) as proxy,
            H2Client(proxy.addresses["edge"]) as neighbour,
            H2Client(proxy.addresses["edge"]) as client,
        ):
            held = neighbour.ask("/hold", method="POST", end=False)
            await origin.reached()
            for _ in range(3):
                streams = [client.ask("/") for _ in range(50)]
                for stream in streams:
                    await stream.until(lambda stream=stream: bool(stream.body))  # type: ignore[misc]
                for stream in streams:
                    stream.cancel(CANCEL)
                await client.round_trip()
            await held.send(b"held", end=True)
            assert await held.whole() == b"held"
            assert len(origin.visits) == 1

    run(go())


# --- clients ----------------------------------------------------------------------------------


async def stopped(url: str) -> RawClient:
    """A client that takes nothing, and has asked for nothing yet."""
    at = urlsplit(url)
    narrow = socket.socket()
    narrow.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
    narrow.setblocking(False)
    await asyncio.get_running_loop().sock_connect(narrow, (at.hostname, at.port))
    raw = RawClient(url)
    raw.reader, raw.writer = await asyncio.open_connection(sock=narrow)
    raw.fall_silent()
    wide = WindowUpdateFrame(0, window_increment=1 << 30)
    await raw.send(PREFACE, SettingsFrame(settings={4: 1 << 20}), wide)
    return raw


@pytest.mark.parametrize("part", ["frame", "block"])
@pytest.mark.parametrize("asked", [31, 90])
def test_a_client_that_takes_nothing_has_no_more_time_for_a_head(
    run: Run, serve: Serve, engine: str, asked: int, part: str
) -> None:
    async def go() -> None:
        async with Origin(response(b"x" * 100_000)) as origin:
            text = Mesh(engine, origin.port)
            text.listen(timeouts={"header": "200ms", "idle": "300ms"})
            async with serve(str(text)) as proxy:
                raw = await stopped(proxy.addresses["edge"])
                await raw.send(*(raw.head(n) for n in range(1, 2 * asked, 2)))
                await eventually(lambda: len(origin.seen) > 0)
                await asyncio.sleep(0.3)  # what the sockets take is in them
                assert proxy.connections == 1
                begun = HeadersFrame(2 * asked + 1, raw.block()).serialize()
                await raw.send(begun[:12] if part == "frame" else begun)
                await eventually(lambda: proxy.connections == 0, 2.5)
                raw.writer.transport.abort()

    run(go())


def test_trailers_that_are_refused_cost_as_much_as_resets(
    run: Run, serve: Serve, engine: str
) -> None:
    """CVE-2025-8671: the endpoint works on each of these requests, and for nothing."""

    async def work(call: Call) -> None:
        await call.whole()

    async def go() -> None:
        async with (
            H2Origin(work) as origin,
            serve(str(mesh(engine, origin.port).client_h2(resets="20/s"))) as proxy,
            RawClient(proxy.addresses["edge"]) as raw,
        ):
            fields: list[Field] = [(f"x-{n}", "y") for n in range(101)]
            began = time.monotonic()
            for first in range(1, 2_000, 40):
                numbers, opened = range(first, first + 40, 2), first // 2 + 20
                post = [raw.head(n, (":method", "POST"), end=False) for n in numbers]
                await raw.send(*post, *(DataFrame(n, b"x") for n in numbers))
                async with asyncio.timeout(10):
                    while not raw.lost and len(origin.calls) < opened:  # noqa: ASYNC110
                        await asyncio.sleep(0.001)
                await raw.send(*(raw.only(n, *fields) for n in numbers))
            assert await raw.ended() in (CALM, None)
            assert metric(proxy, "meshcore_listener_h2_ended_total") == 1
            # 40 at once, and 20 more in each second; those of a turn are told together.
            most = 40 + 20 * (1 + int(time.monotonic() - began))
            assert len(origin.calls) <= most + 40

    run(go())


@pytest.mark.parametrize("length", ["0", "5"])
@pytest.mark.parametrize("protocol", ["connect", "websocket"])
def test_a_request_for_a_tunnel_has_no_length(
    run: Run, serve: Serve, engine: str, protocol: str, length: str
) -> None:
    """RFC 9110 §9.3.6: what follows is the tunnel's."""

    async def go() -> None:
        async with H2Origin(b"hi") as origin:
            text = mesh(engine, origin.port).via(upgrade=["connect", "websocket"])
            async with serve(str(text)) as proxy, RawClient(proxy.addresses["edge"]) as raw:
                fields = h2_request(protocol, ("content-length", length))
                await raw.send(raw.only(1, *fields, end=False))
                assert await raw.status(1) == 400
                await raw.send(raw.head(3))
                assert await raw.status(3) == 200
                assert len(origin.calls) == 1

    run(go())


def test_a_connection_that_is_closed_for_idleness_says_which_stream_was_the_last(
    run: Run, serve: Serve, engine: str
) -> None:
    async def go() -> None:
        async with Origin(response(b"hi")) as origin:
            text = Mesh(engine, origin.port).listen(timeouts={"idle": "300ms"})
            async with serve(str(text)) as proxy, RawClient(proxy.addresses["edge"]) as raw:
                await raw.send(*(raw.head(n) for n in (1, 3, 5)))
                assert await raw.ended() == 0
                said = [x.last_stream_id for x in raw.frames if isinstance(x, GoAwayFrame)]
                assert said == [5]

    run(go())
