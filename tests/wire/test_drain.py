"""Draining fails no request that was on its way, and what outlasts it is told why it ends."""

from __future__ import annotations

import asyncio
import json
import threading
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager
from typing import Any

import grpc
import pytest
from h2.settings import SettingCodes
from hyperframe.frame import DataFrame, GoAwayFrame, HeadersFrame, PingFrame

from meshcore import Proxy
from meshcore.downstream import first_bytes, http1, http2, leaving, listener
from tests.wire.client import Client
from tests.wire.conftest import Certificates, Run, Serve, eventually, metric
from tests.wire.h2_client import H2Client, RawClient, connect
from tests.wire.h2_mesh import Mesh
from tests.wire.h2_origin import Call, H2Origin
from tests.wire.h2_peer import ResetError
from tests.wire.origin import Origin, Visit, response
from tests.wire.test_h2_grpc import OK, UNAVAILABLE, begin, message, status
from tests.wire.test_h2_grpc_streams import echo
from tests.wire.tunnel_ends import Echo, dial, h1_request

HIGHEST = 2**31 - 1
INTERNAL_ERROR, CANCEL = 2, 8


# Longer than anybody waits here, so what ends has another reason.
FOR_EVER = "1h"
FOR_EVER_NS = 3_600_000_000_000


@pytest.fixture
def patient(monkeypatch: pytest.MonkeyPatch) -> None:
    """Silence ends nothing: neither a quiet connection, nor the wait for what answers a GOAWAY."""
    for module in (http1, first_bytes, listener):
        monkeypatch.setattr(module, "DRAIN_QUIET_NS", FOR_EVER_NS)
    for module in (http2, leaving):
        monkeypatch.setattr(module, "GOAWAY_NS", FOR_EVER_NS)


def plain(*ports: int, drain: str = FOR_EVER) -> Mesh:
    """A listener that knows HTTP/1.1 only."""
    text = mixed("native", *ports, drain=drain)
    text.listener["protocols"] = {"h2": "off"}
    return text


def mixed(engine: str, *ports: int, drain: str = FOR_EVER) -> Mesh:
    """A listener that looks at a connection's first bytes."""
    text = Mesh(engine, *ports)
    text.listener["timeouts"] = {"header": FOR_EVER}
    text.top["drain"] = drain
    return text


@asynccontextmanager
async def stopping(proxy: Proxy) -> AsyncIterator[Callable[[], float]]:
    """The drain has begun; at its end the proxy has stopped. Gives the seconds since."""
    clock = asyncio.get_running_loop().time
    begun = clock()
    task = asyncio.create_task(proxy.stop())
    await asyncio.sleep(0)
    try:
        yield lambda: clock() - begun
    finally:
        await asyncio.wait_for(task, 30)


def get(path: str = "/", version: str = "1.1", *fields: str) -> bytes:
    return "\r\n".join([f"GET {path} HTTP/{version}", "host: a.test", *fields, "", ""]).encode()


def says_close(fields: dict[str, str]) -> bool:
    return fields.get("connection") == "close"


class Gate:
    """An origin over HTTP/1.1 that answers with the path of each request, once it may."""

    def __init__(self) -> None:
        self.open = asyncio.Event()
        self.asked = 0

    async def __call__(self, visit: Visit) -> None:
        while True:
            path = (await visit.head()).split()[1]
            self.asked += 1
            await self.open.wait()
            await visit.send(response(path))


# --- HTTP/1.1: what is on its way -------------------------------------------------------------


@pytest.mark.parametrize("path", ["/in", "/out"], ids=["relayed", "local"])
@pytest.mark.parametrize(
    ("state", "version"),
    [
        ("kept", "1.1"),
        ("kept", "1.0"),
        ("kept, detected", "1.1"),
        ("fresh", "1.1"),
        ("fresh, detected", "1.1"),
    ],
)
@pytest.mark.usefixtures("patient")
def test_a_request_that_was_on_its_way_is_answered(
    run: Run, serve: Serve, state: str, version: str, path: str
) -> None:
    used, detected = "kept" in state, "detected" in state

    async def go() -> None:
        async with Origin(response(b"hi")) as origin:
            text = mixed("native", origin.port) if detected else plain(origin.port)
            text.via(match={"path": {"prefix": "/in"}})
            async with serve(str(text)) as proxy, Client(proxy.addresses["edge"]) as client:
                kept = "connection: keep-alive"
                if used:
                    await client.send(get("/in", version, kept))
                    assert not says_close((await client.reply()).fields)
                else:
                    await eventually(lambda: proxy.connections == 1)
                async with stopping(proxy):
                    await asyncio.sleep(0.1)
                    await client.send(get(path, version, kept))
                    reply = await client.reply()
                    assert reply.status == (200 if path == "/in" else 404)
                    assert says_close(reply.fields)
                    assert await client.closed() == b""

    run(go())


@pytest.mark.parametrize("kind", ["kept", "fresh", "detected", "secure"])
def test_a_quiet_connection_is_closed_after_a_second(
    run: Run, serve: Serve, kind: str, certificates: Certificates
) -> None:
    async def go() -> None:
        async with Origin(response(b"hi")) as origin:
            text = mixed("native", origin.port) if kind == "detected" else plain(origin.port)
            tls = None
            if kind == "secure":
                text.listen(tls=certificates.listener)
                tls = certificates.client("http/1.1")
            async with serve(str(text)) as proxy:
                reader, writer = await connect(proxy.addresses["edge"], tls)
                if kind in ("kept", "secure"):
                    writer.write(get())
                    await reader.readuntil(b"hi")
                await eventually(lambda: proxy.connections == 1)
                async with stopping(proxy) as since:
                    assert await reader.read() == b""
                    assert since() > 0.9
                    writer.close()

    run(go())


@pytest.mark.usefixtures("patient")
def test_nothing_is_waited_for_when_nobody_is_connected(run: Run, serve: Serve) -> None:
    async def go() -> None:
        async with Origin(response(b"hi")) as origin, serve(str(plain(origin.port))) as proxy:
            async with Client(proxy.addresses["edge"]) as client:
                await client.get()
            await eventually(lambda: proxy.connections == 0)
            async with stopping(proxy):
                pass

    run(go())


@pytest.mark.usefixtures("patient")
def test_the_last_of_the_pipelined_answers_says_close(run: Run, serve: Serve) -> None:
    async def go() -> None:
        gate = Gate()
        async with (
            Origin(gate) as origin,
            serve(str(plain(origin.port))) as proxy,
            Client(proxy.addresses["edge"]) as client,
        ):
            await client.send(get("/1") + get("/2") + get("/3"))
            await origin.reached.wait()
            async with stopping(proxy):
                gate.open.set()
                replies = [await client.reply() for _ in range(3)]
                assert [reply.body for reply in replies] == [b"/1", b"/2", b"/3"]
                assert [says_close(reply.fields) for reply in replies] == [False, False, True]
                assert await client.closed() == b""

    run(go())


def test_a_head_that_had_begun_is_a_request(run: Run, serve: Serve) -> None:
    async def go() -> None:
        async with (
            Origin(response(b"hi")) as origin,
            serve(str(plain(origin.port))) as proxy,
            Client(proxy.addresses["edge"]) as client,
        ):
            await client.get()
            await client.send(get()[:9])
            await eventually(lambda: metric(proxy, "meshcore_route_responses_total") == 1)
            await asyncio.sleep(0.05)
            async with stopping(proxy):
                await asyncio.sleep(1.3)  # longer than the quiet second
                await client.send(get()[9:])
                reply = await client.reply()
                assert (reply.body, says_close(reply.fields)) == (b"hi", True)
                assert await client.closed() == b""

    run(go())


def test_a_response_whose_head_was_out_already_leaves_time_for_another_request(
    run: Run, serve: Serve
) -> None:
    release = asyncio.Event()

    async def slowly(visit: Visit) -> None:
        await visit.head()
        await visit.send(b"HTTP/1.1 200 OK\r\ncontent-length: 4\r\n\r\nha")
        await release.wait()
        await visit.send(b"lf")
        await visit.head()
        await visit.send(response(b"more"))

    async def go() -> None:
        async with (
            Origin(slowly) as origin,
            serve(str(plain(origin.port))) as proxy,
            Client(proxy.addresses["edge"]) as client,
        ):
            await client.send(get())
            assert not says_close((await client.head()).fields)
            assert await client.reader.readexactly(2) == b"ha"
            async with stopping(proxy):
                release.set()
                assert await client.reader.readexactly(2) == b"lf"
                reply = await client.get()
                assert (reply.body, says_close(reply.fields)) == (b"more", True)
                assert await client.closed() == b""

    run(go())


def test_a_connection_accepted_meanwhile_is_served_one_request(run: Run, serve: Serve) -> None:
    async def go() -> None:
        async with (
            Origin(response(b"hi")) as origin,
            serve(str(plain(origin.port))) as proxy,
        ):
            assert proxy._worker is not None
            proxy._worker.listeners["edge"].drain(FOR_EVER_NS)  # and still accept
            async with Client(proxy.addresses["edge"]) as client:
                reply = await client.get()
                assert (reply.body, says_close(reply.fields)) == (b"hi", True)
                assert await client.closed() == b""
            async with Client(proxy.addresses["edge"]) as silent:
                assert await asyncio.wait_for(silent.closed(), 30) == b""

    run(go())


# --- HTTP/2: two steps ------------------------------------------------------------------------


def goaways(client: RawClient) -> list[int]:
    found = [frame for frame in client.frames if isinstance(frame, GoAwayFrame)]
    assert all(frame.error_code == 0 for frame in found)
    return [frame.last_stream_id for frame in found]


async def answer_ping(client: RawClient) -> None:
    ping = await client.until(PingFrame, 0)
    await client.send(PingFrame(0, ping.opaque_data, flags=["ACK"]))


@pytest.mark.parametrize("when", ["before the PING", "before its answer"])
def test_a_stream_before_the_goaway_of_a_quiet_client_is_served(
    run: Run, serve: Serve, engine: str, when: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It may read no GOAWAY before its next request: so it is told the last stream at once."""
    monkeypatch.setattr(leaving, "GOAWAY_NS", FOR_EVER_NS)

    async def go() -> None:
        async with (
            Origin(response(b"hi")) as origin,
            serve(str(mixed(engine, origin.port))) as proxy,
            RawClient(proxy.addresses["edge"]) as client,
        ):
            await client.send(client.head(1))
            assert await client.status(1) == 200
            async with stopping(proxy):
                if when == "before its answer":
                    await client.until(PingFrame, 0)
                assert not goaways(client)
                await client.send(client.head(3))
                assert await client.status(3) == 200
                await answer_ping(client)
                await client.ended()
                assert goaways(client) == [3]

    run(go())


def test_a_stream_between_the_two_goaways_is_served(
    run: Run, serve: Serve, engine: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(leaving, "GOAWAY_NS", FOR_EVER_NS)

    async def go() -> None:
        gate = Gate()
        async with (
            Origin(gate) as origin,
            serve(str(mixed(engine, origin.port))) as proxy,
            RawClient(proxy.addresses["edge"]) as client,
        ):
            await client.send(client.head(1))
            await eventually(lambda: len(origin.visits) == 1)
            async with stopping(proxy):
                await asyncio.sleep(0.4)  # as far away is this client, it seems
                await answer_ping(client)
                gate.open.set()
                assert await client.status(1) == 200
                await client.until(GoAwayFrame, 0)
                assert goaways(client) == [HIGHEST]
                await client.send(client.head(3))
                assert await client.status(3) == 200
                await client.ended()
                assert goaways(client) == [HIGHEST, 3]

    run(go())


def test_a_client_that_answers_no_ping_is_told_once_what_was_the_last(
    run: Run, serve: Serve, engine: str
) -> None:
    async def go() -> None:
        async with (
            Origin(response(b"hi")) as origin,
            serve(str(mixed(engine, origin.port))) as proxy,
            RawClient(proxy.addresses["edge"]) as client,
        ):
            await client.send(client.head(1))
            assert await client.status(1) == 200
            async with stopping(proxy) as since:
                await client.ended()
                assert goaways(client) == [1]
                assert since() > 0.9

    run(go())


def test_a_client_that_answers_nothing_opens_no_streams_for_ever(
    run: Run, serve: Serve, engine: str
) -> None:
    release = asyncio.Event()

    async def slow(call: Call) -> None:
        await release.wait()
        await call.answer(b"late")

    async def go() -> None:
        async with (
            H2Origin(slow) as origin,
            serve(str(mixed(engine, origin.port).to("h2"))) as proxy,
            RawClient(proxy.addresses["edge"]) as client,
        ):
            await client.send(client.head(1))
            await origin.reached(1)
            async with stopping(proxy):
                await client.until(PingFrame, 0)
                await client.send(client.head(3))  # it goes on as if nothing were
                await eventually(lambda: goaways(client) == [HIGHEST, 3])
                await client.send(client.head(5))
                release.set()
                assert [await client.status(number) for number in (1, 3)] == [200, 200]
                await client.ended()
                assert 5 not in client.heads
                assert len(origin.calls) == 2

    run(go())


@pytest.mark.parametrize("asks", [True, False], ids=["asks", "silent"])
def test_a_connection_accepted_meanwhile_may_ask_once(
    run: Run, serve: Serve, engine: str, asks: bool, request: pytest.FixtureRequest
) -> None:
    if asks:
        request.getfixturevalue("patient")

    async def go() -> None:
        async with (
            Origin(response(b"hi")) as origin,
            serve(str(mixed(engine, origin.port))) as proxy,
        ):
            assert proxy._worker is not None
            proxy._worker.listeners["edge"].drain(FOR_EVER_NS)
            async with H2Client(proxy.addresses["edge"]) as client:
                if asks:
                    assert (await client.get()).body == b"hi"
                await asyncio.wait_for(client.gone(), 30)
                assert client.goaway == (1 if asks else 0, 0)

    run(go())


def test_a_client_that_never_spoke_is_not_waited_for(run: Run, serve: Serve, engine: str) -> None:
    async def go() -> None:
        text = mixed(engine, 1)
        text.listener["protocols"]["http1"] = "off"
        async with (
            serve(str(text)) as proxy,
            RawClient(proxy.addresses["edge"], greets=False) as client,
        ):
            await eventually(lambda: proxy.connections == 1)
            async with stopping(proxy) as since:
                await client.ended()
                assert goaways(client) == [0]
            assert since() > 0.9

    run(go())


# --- the end of the drain ---------------------------------------------------------------------


async def never(call: Call) -> None:
    """Read all, and say nothing."""
    await call.until(lambda: False)


async def half(call: Call) -> None:
    """Begin an answer."""
    call.send_head((":status", "200"))
    await call.send(b"begun")
    await call.until(lambda: False)


def refusals(proxy: Proxy) -> int:
    return metric(proxy, "meshcore_local_answers_total", reason="draining")


def logged(capsys: pytest.CaptureFixture[str]) -> list[tuple[str, int, str]]:
    lines = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    return [(line["target"], line["status"], line["reason"]) for line in lines]


@pytest.mark.usefixtures("patient")
def test_a_request_that_waits_for_its_response_is_answered(
    run: Run, serve: Serve, engine: str, capsys: pytest.CaptureFixture[str]
) -> None:
    async def go() -> None:
        async with H2Origin(never) as origin:
            text = mixed(engine, origin.port, drain="200ms").to("h2")
            text.top["access_log"] = "json"
            async with (
                serve(str(text)) as proxy,
                Client(proxy.addresses["edge"]) as old,
                H2Client(proxy.addresses["edge"]) as new,
            ):
                await old.send(get("/old"))
                stream, call = new.ask("/new"), begin(new, path="/call")
                await call.send(message(b"ask"))
                await origin.reached(3)
                async with stopping(proxy) as since:
                    reply = await old.reply()
                    assert (reply.status, reply.fields["x-mesh-reason"]) == (503, "draining")
                    assert says_close(reply.fields)
                    assert await old.closed() == b""
                    await asyncio.gather(stream.whole(), call.whole())
                    assert (stream.status, stream.fields["x-mesh-reason"]) == (503, "draining")
                    assert (call.status, status(call)) == (200, UNAVAILABLE)
                    assert call.fields["grpc-message"] == "draining"
                    await new.gone()
                    assert new.debug == b"draining"
                    assert since() > 0.15
                assert refusals(proxy) == 3
                assert [await each.reset() for each in origin.calls] == [CANCEL] * 3

    run(go())
    told = [(status_of, reason) for _, status_of, reason in sorted(logged(capsys))]
    assert told == [(503, "draining")] * 3


def test_half_a_head_is_answered(run: Run, serve: Serve) -> None:
    async def go() -> None:
        async with serve(str(plain(1, drain="100ms"))) as proxy:
            async with Client(proxy.addresses["edge"]) as client:
                await client.send(get()[:20])
                await asyncio.sleep(0.05)
                async with stopping(proxy):
                    reply = await client.reply()
                    assert (reply.status, reply.fields["x-mesh-reason"]) == (503, "draining")
                    assert await client.closed() == b""
                    client.writer.close()
            assert refusals(proxy) == 1

    run(go())


def test_what_was_pipelined_behind_it_is_not_begun(run: Run, serve: Serve) -> None:
    async def go() -> None:
        gate = Gate()
        async with (
            Origin(gate) as origin,
            serve(str(plain(origin.port, drain="100ms"))) as proxy,
            Client(proxy.addresses["edge"]) as client,
        ):
            await client.send(get("/1") + get("/2"))
            await origin.reached.wait()
            async with stopping(proxy):
                reply = await client.reply()
                assert (reply.status, says_close(reply.fields)) == (503, True)
                assert await client.closed() == b""
                client.writer.close()
            assert gate.asked == 1

    run(go())


@pytest.mark.usefixtures("patient")
def test_a_grpc_stream_ends_with_a_status(
    run: Run, serve: Serve, engine: str, capsys: pytest.CaptureFixture[str]
) -> None:
    async def go() -> None:
        async with H2Origin(echo) as origin:
            text = mixed(engine, origin.port, drain="200ms").to("h2")
            text.top["access_log"] = "json"
            async with serve(str(text)) as proxy, H2Client(proxy.addresses["edge"]) as client:
                call = begin(client)
                await call.send(message(b"once"))
                await call.until(lambda: bool(call.body))
                async with stopping(proxy):
                    await call.send(message(b"again"))
                    await call.whole()
                    assert bytes(call.body) == message(b"once") + message(b"again")
                    assert call.trailers is not None
                    assert call.trailers["grpc-status"] == UNAVAILABLE
                    assert call.trailers["grpc-message"] == "draining"
                    await client.gone()
                assert client.debug == b"draining"
                assert await origin.calls[0].reset() == CANCEL
                assert refusals(proxy) == 0  # it was answered by the service

    run(go())
    assert [(code, reason) for _, code, reason in logged(capsys)] == [(200, "draining")]


def _grpcio_stream(address: str, heard: Callable[[], object]) -> tuple[list[bytes], Any, str]:
    """What somebody else's client reports; its own side of the call does not end."""
    over = threading.Event()

    def requests() -> Iterator[bytes]:
        yield b"once"
        over.wait(10)

    pieces: list[bytes] = []
    channel: Any
    with grpc.insecure_channel(address, [("grpc.use_local_subchannel_pool", 1)]) as channel:
        call = channel.stream_stream("/pkg.Service/Method")(requests(), timeout=8)
        try:
            for piece in call:
                pieces.append(piece)
                heard()
        except grpc.RpcError:
            pass
        finally:
            over.set()
        return pieces, call.code(), call.details()


def test_a_grpc_library_reports_the_reason(run: Run, serve: Serve, engine: str) -> None:
    async def go() -> None:
        loop, heard = asyncio.get_running_loop(), asyncio.Event()
        async with (
            H2Origin(echo) as origin,
            serve(str(mixed(engine, origin.port, drain="200ms").to("h2"))) as proxy,
        ):
            address = proxy.addresses["edge"].removeprefix("http://")
            call = asyncio.create_task(
                asyncio.to_thread(
                    _grpcio_stream, address, lambda: loop.call_soon_threadsafe(heard.set)
                )
            )
            await asyncio.wait_for(heard.wait(), 5)
            async with stopping(proxy):
                assert await call == ([b"once"], grpc.StatusCode.UNAVAILABLE, "draining")

    run(go())


@pytest.mark.usefixtures("patient")
def test_another_response_under_way_is_reset(
    run: Run, serve: Serve, engine: str, capsys: pytest.CaptureFixture[str]
) -> None:
    async def go() -> None:
        async with H2Origin(half) as origin:
            text = mixed(engine, origin.port, drain="200ms").to("h2")
            text.top["access_log"] = "json"
            async with (
                serve(str(text)) as proxy,
                H2Client(proxy.addresses["edge"]) as client,
                Client(proxy.addresses["edge"]) as old,
            ):
                stream = client.ask("/new")
                await stream.until(lambda: bool(stream.body))
                await old.send(get("/old"))
                await old.reader.readuntil(b"begun")
                async with stopping(proxy):
                    with pytest.raises(ResetError) as found:
                        await stream.whole()
                    assert found.value.code == INTERNAL_ERROR
                    assert (client.goaway, client.debug) == ((stream.number, 0), b"draining")
                    with pytest.raises(ConnectionError):
                        await old.closed()
                assert refusals(proxy) == 0

    run(go())
    assert sorted(logged(capsys)) == [("/new", 200, "draining"), ("/old", 200, "draining")]


@pytest.mark.parametrize("speaks", ["http1", "h2"])
@pytest.mark.usefixtures("patient")
def test_a_tunnel_is_cut(
    run: Run, serve: Serve, engine: str, speaks: str, capsys: pytest.CaptureFixture[str]
) -> None:
    async def go() -> None:
        far = Echo("h2")
        async with far.origin() as origin:
            text = mixed(engine, origin.port, drain="200ms").to("h2").via(upgrade=["websocket"])
            text.top["access_log"] = "json"
            async with serve(str(text)) as proxy, dial(speaks, proxy) as end, stopping(proxy):
                await end.send(b"hello")
                assert await end.read(5) == b"hello"
                with pytest.raises((ConnectionError, ResetError)):
                    await end.read(1)

    run(go())
    assert [reason for _, _, reason in logged(capsys)] == ["draining"]


def test_a_tunnel_may_still_be_opened(run: Run, serve: Serve) -> None:
    """`connection` says upgrade then, and nothing else."""

    async def go() -> None:
        far = Echo("http1")
        async with far.origin() as origin:
            text = plain(origin.port, drain="300ms").via(upgrade=["websocket"])
            async with serve(str(text)) as proxy, Client(proxy.addresses["edge"]) as client:
                await eventually(lambda: proxy.connections == 1)
                async with stopping(proxy):
                    await client.send(h1_request("websocket"))
                    head = await client.head()
                    assert (head.status, head.fields["connection"]) == (101, "upgrade")
                    await client.send(b"hello")
                    assert await client.reader.readexactly(5) == b"hello"

    run(go())


def test_a_client_that_does_not_take_its_last_words_is_cut(
    run: Run, serve: Serve, engine: str
) -> None:
    async def go() -> None:
        async with (
            H2Origin(never) as origin,
            serve(str(mixed(engine, origin.port, drain="100ms").to("h2"))) as proxy,
            RawClient(
                proxy.addresses["edge"], settings={SettingCodes.INITIAL_WINDOW_SIZE: 0}
            ) as client,
        ):
            await client.send(client.head(1))
            await origin.reached(1)
            async with stopping(proxy) as since:
                assert await client.status(1) == 503
                await client.ended()
            assert since() > 1.5
            assert not any(isinstance(x, DataFrame) for x in client.frames)
            assert sum(isinstance(x, HeadersFrame) for x in client.frames) == 1

    run(go())


def test_a_stream_may_last_until_the_end_of_the_drain(run: Run, serve: Serve, engine: str) -> None:
    async def go() -> None:
        async with (
            H2Origin(echo) as origin,
            serve(str(mixed(engine, origin.port).to("h2"))) as proxy,
            H2Client(proxy.addresses["edge"]) as client,
        ):
            call = begin(client)
            await call.head()
            async with stopping(proxy):
                await asyncio.sleep(1.2)  # longer than any wait for what may come
                await call.send(message(b"on"), end=True)
                await call.whole()
                assert (bytes(call.body), status(call)) == (message(b"on"), OK)
                await client.gone()

    run(go())
