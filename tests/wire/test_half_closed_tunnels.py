"""One end of a tunnel says no more and listens on: over all pairs of protocols, either way."""

from __future__ import annotations

import asyncio
import contextlib
import json

import pytest

from meshcore import Proxy
from meshcore.upstream.http1 import Http1Connection
from tests.wire.conftest import Certificates, Run, Serve, eventually, gauges, metric
from tests.wire.h2_client import H2Client
from tests.wire.h2_mesh import Mesh
from tests.wire.h2_origin import Call, H2Origin
from tests.wire.h2_peer import ResetError
from tests.wire.test_h2_tunnel_requests import ENABLED
from tests.wire.test_h2_tunnels import LEGS, PROTOCOLS, Leg, mesh
from tests.wire.tls_streams import TlsScripted, dial_tls
from tests.wire.tunnel_ends import End, H1End, H2End, Scripted, dial, h2_request

MUCH = bytes(range(250)) * 2_000
WITHIN_S = 5


def cut(proxy: Proxy, **labels: str) -> int:
    """Requests that ended without a whole answer."""
    return metric(proxy, "meshcore_requests_cut_total", **labels)


async def told(end: End) -> None:
    """Wait until the other end says no more; whether all of it came does not matter."""
    with contextlib.suppress(ConnectionError, ResetError):
        await end.rest()


@LEGS
@PROTOCOLS
def test_what_a_client_said_is_answered_behind_its_end(
    run: Run, serve: Serve, engine: str, leg: Leg, protocol: str
) -> None:
    """As `docker exec -i` and kubectl do."""

    async def sort(end: End) -> None:
        assert await end.rest() == b"b\na\n"
        await end.send(MUCH)
        await end.finish()

    async def go() -> None:
        far = Scripted(leg[1], sort)
        async with (
            far.origin() as origin,
            serve(str(mesh(engine, leg[1], origin.port))) as proxy,
            dial(leg[0], proxy, protocol=protocol) as end,
        ):
            await end.send(b"b\na\n")
            await end.finish()
            assert await asyncio.wait_for(end.rest(), WITHIN_S) == MUCH
            await eventually(lambda: gauges(proxy) == {})  # nobody has left
            assert cut(proxy) == 0
            for to, size in (("upstream", 4), ("downstream", len(MUCH))):
                assert metric(proxy, "meshcore_route_tunnel_bytes_total", to=to) == size

    run(go())


@LEGS
@PROTOCOLS
def test_an_endpoint_that_says_no_more_is_told_the_rest(
    run: Run, serve: Serve, engine: str, leg: Leg, protocol: str
) -> None:
    heard = asyncio.Queue[bytes]()

    async def greet(end: End) -> None:
        await end.send(b"hello")
        await end.finish()
        heard.put_nowait(await end.rest())

    async def go() -> None:
        far = Scripted(leg[1], greet)
        async with (
            far.origin() as origin,
            serve(str(mesh(engine, leg[1], origin.port))) as proxy,
            dial(leg[0], proxy, protocol=protocol) as end,
        ):
            assert await asyncio.wait_for(end.rest(), WITHIN_S) == b"hello"
            assert gauges(proxy) != {}
            await end.send(MUCH)
            await end.finish()
            assert await asyncio.wait_for(heard.get(), WITHIN_S) == MUCH
            await eventually(lambda: gauges(proxy) == {})
            assert cut(proxy) == 0

    run(go())


@LEGS
def test_a_slow_endpoint_has_all_of_it_before_the_tunnel_is_over(
    run: Run, serve: Serve, engine: str, leg: Leg, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Both have ended by then: what waits for the endpoint keeps the tunnel."""
    much = MUCH * (16 if leg[1] == "http1" else 1)  # beyond what the system's buffers hold
    heard = asyncio.Queue[bytes]()
    full = asyncio.Event()
    pause_writing = Http1Connection.pause_writing

    def fill(self: Http1Connection) -> None:
        pause_writing(self)
        full.set()

    monkeypatch.setattr(Http1Connection, "pause_writing", fill)

    async def listen_slowly(end: End) -> None:
        await end.finish()
        if isinstance(end, H2End):
            return heard.put_nowait(await end.rest())
        await full.wait()
        parts = []
        while part := await end.reader.read(65_536):
            parts.append(part)
            await asyncio.sleep(0.001)  # what waits for it is never gone before the end
        return heard.put_nowait(b"".join(parts))

    async def go() -> None:
        far = Scripted(leg[1], listen_slowly, window=500)
        async with (
            far.origin() as origin,
            serve(str(mesh(engine, leg[1], origin.port))) as proxy,
            dial(leg[0], proxy) as end,
        ):
            assert await asyncio.wait_for(end.rest(), WITHIN_S) == b""

            async def say_all() -> None:
                await end.send(much)
                await end.finish()

            saying = asyncio.create_task(say_all())
            assert await asyncio.wait_for(heard.get(), 20) == much
            await saying
            await eventually(lambda: gauges(proxy) == {})
            assert cut(proxy) == 0

    run(go())


@LEGS
@pytest.mark.parametrize("first", ["client", "endpoint"])
def test_a_half_closed_tunnel_that_is_silent_is_ended(
    run: Run, serve: Serve, engine: str, leg: Leg, first: str
) -> None:
    heard = asyncio.Queue[None]()

    async def fall_silent(end: End) -> None:
        if first == "endpoint":
            await end.finish()
        else:
            assert await end.rest() == b""
            heard.put_nowait(None)
        await asyncio.Event().wait()

    async def go() -> None:
        far = Scripted(leg[1], fall_silent)
        async with (
            far.origin() as origin,
            serve(str(mesh(engine, leg[1], origin.port).via(idle_timeout="300ms"))) as proxy,
            dial(leg[0], proxy) as end,
        ):
            if first == "client":
                await end.finish()
                await asyncio.wait_for(heard.get(), WITHIN_S)
            await asyncio.wait_for(told(end), WITHIN_S)
            await eventually(lambda: gauges(proxy) == {})
            assert cut(proxy, reason="tunnel_idle", by="proxy") == cut(proxy) == 1

    run(go())


@LEGS
def test_a_client_that_is_gone_behind_its_end_is_told_to_the_endpoint(
    run: Run, serve: Serve, engine: str, leg: Leg
) -> None:
    """Nothing is written to it meanwhile."""
    ended, gone = asyncio.Event(), asyncio.Event()

    async def wait(end: End) -> None:
        assert await end.rest() == b""
        ended.set()
        await gone.wait()

    async def go() -> None:
        far = Scripted(leg[1], wait)
        async with (
            far.origin() as origin,
            serve(str(mesh(engine, leg[1], origin.port))) as proxy,
            dial(leg[0], proxy) as end,
        ):
            await end.finish()
            await asyncio.wait_for(ended.wait(), WITHIN_S)
            assert gauges(proxy) != {}
            end.tear()
            await eventually(lambda: gauges(proxy) == {})
            assert cut(proxy, reason="client_gone", by="client") == cut(proxy) == 1
            gone.set()

    run(go())


@LEGS
@pytest.mark.parametrize("first", ["client", "endpoint"])
def test_an_end_that_meets_a_reset_nobody_saw_is_one(
    run: Run,
    serve: Serve,
    engine: str,
    leg: Leg,
    first: str,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Whoever has ended is not read, and here not looked after."""
    monkeypatch.setattr("meshcore.downstream.half_closed.LOOK_NS", 10**12)
    monkeypatch.setattr("meshcore.upstream.http1.is_reset", lambda _: False)
    ended, torn = asyncio.Event(), asyncio.Event()

    async def end_first_or_last(end: End) -> None:
        if first == "endpoint":
            await end.finish()
            await ended.wait()
            end.tear()
            torn.set()
        else:
            assert await end.rest() == b""
            ended.set()
            await torn.wait()
            await end.finish()

    async def go() -> None:
        far = Scripted(leg[1], end_first_or_last)
        async with (
            far.origin() as origin,
            serve(str(mesh(engine, leg[1], origin.port))) as proxy,
            dial(leg[0], proxy) as end,
        ):
            if first == "endpoint":
                assert await asyncio.wait_for(end.rest(), WITHIN_S) == b""
                ended.set()
                await torn.wait()
                await end.finish()
            else:
                await end.finish()
                await asyncio.wait_for(ended.wait(), WITHIN_S)
                end.tear()
                torn.set()
            await eventually(lambda: gauges(proxy) == {})
            assert cut(proxy, reason="client_gone") == cut(proxy) <= 1

    run(go())


@LEGS
@pytest.mark.parametrize("speaks", [False, True], ids=["silent client", "client that speaks"])
def test_an_endpoint_that_is_gone_behind_its_end_leaves_its_last_words(
    run: Run, serve: Serve, engine: str, leg: Leg, speaks: bool
) -> None:
    """Whoever has said all and hears no more has ended the tunnel; its words are not torn."""
    tear = asyncio.Event()

    async def part(end: End) -> None:
        await end.send(MUCH)
        await end.finish()
        await tear.wait()
        end.tear()

    async def go() -> None:
        far = Scripted(leg[1], part)
        async with (
            far.origin() as origin,
            serve(str(mesh(engine, leg[1], origin.port))) as proxy,
            dial(leg[0], proxy) as end,
        ):
            await end.read(len(MUCH) - 5)  # the end of them is on its way, or here
            tear.set()
            if speaks:
                with contextlib.suppress(ConnectionError, ResetError):
                    await end.send(MUCH)
            assert await asyncio.wait_for(end.rest(), WITHIN_S) == MUCH[-5:]
            await eventually(lambda: gauges(proxy) == {})
            assert cut(proxy) == 0
            assert metric(proxy, "meshcore_endpoint_ejections_total") == 0

    run(go())


@LEGS
@pytest.mark.parametrize("first", ["client", "endpoint"])
def test_a_half_closed_tunnel_lasts_for_the_drain_and_no_longer(
    run: Run, serve: Serve, engine: str, leg: Leg, first: str
) -> None:
    async def half(end: End) -> None:
        if first == "endpoint":
            await end.finish()
        assert await end.rest() == b"input"
        if first == "client":
            await end.send(b"output")
        await asyncio.Event().wait()

    async def go() -> None:
        far = Scripted(leg[1], half)
        async with far.origin() as origin:
            text = mesh(engine, leg[1], origin.port)
            text.top["drain"] = "300ms"
            async with serve(str(text)) as proxy, dial(leg[0], proxy) as end:
                await end.send(b"input")
                if first == "client":
                    await end.finish()
                stopping = asyncio.create_task(proxy.stop())
                await asyncio.sleep(0)
                if first == "client":
                    assert await asyncio.wait_for(end.read(6), WITHIN_S) == b"output"
                await asyncio.wait_for(told(end), WITHIN_S)
                await asyncio.wait_for(stopping, WITHIN_S)

    run(go())


@pytest.mark.parametrize("protocol", ["websocket", "connect"])
@pytest.mark.parametrize("speaks", ["http1", "h2"])
def test_a_request_that_ends_its_stream_has_said_all(
    run: Run, serve: Serve, engine: str, speaks: str, protocol: str
) -> None:
    async def answer(end: End) -> None:
        assert await end.rest() == b""
        await end.send(b"yes")
        await end.finish()

    async def go() -> None:
        async with (
            Scripted(speaks, answer).origin() as origin,
            serve(str(mesh(engine, speaks, origin.port))) as proxy,
            H2Client(proxy.addresses["edge"]) as client,
        ):
            stream = client.open(*h2_request(protocol), end=True)
            assert await stream.whole() == b"yes"
            assert stream.status == 200
            await eventually(lambda: gauges(proxy) == {})

    run(go())


@PROTOCOLS
@pytest.mark.parametrize("speaks", ["http1", "h2"])
def test_a_response_that_ends_its_stream_has_said_all(
    run: Run, serve: Serve, engine: str, speaks: str, protocol: str
) -> None:
    heard = asyncio.Queue[bytes]()

    async def listen(call: Call) -> None:
        call.send_head((":status", "200"), end=True)
        heard.put_nowait(await call.whole())

    async def go() -> None:
        async with (
            H2Origin(listen, settings=ENABLED) as origin,
            serve(str(mesh(engine, "h2", origin.port))) as proxy,
            dial(speaks, proxy, protocol=protocol) as end,
        ):
            assert await asyncio.wait_for(end.rest(), WITHIN_S) == b""
            await end.send(b"mine")
            await end.finish()
            assert await asyncio.wait_for(heard.get(), WITHIN_S) == b"mine"
            await eventually(lambda: gauges(proxy) == {})
            assert cut(proxy) == 0

    run(go())


@LEGS
def test_a_half_closed_tunnel_is_one_line_of_the_log(
    run: Run, serve: Serve, engine: str, leg: Leg, capsys: pytest.CaptureFixture[str]
) -> None:
    """It was answered, whoever ended first."""

    async def go() -> None:
        for first in ("client", "endpoint"):

            async def say(end: End, first: str = first) -> None:
                if first == "endpoint":
                    await end.finish()
                await end.rest()
                if first == "client":
                    await end.finish()

            async with Scripted(leg[1], say).origin() as origin:
                text = mesh(engine, leg[1], origin.port)
                text.top["access_log"] = "json"
                async with serve(str(text)) as proxy, dial(leg[0], proxy) as end:
                    if first == "endpoint":
                        await end.rest()
                    await end.finish()
                    await asyncio.wait_for(told(end), WITHIN_S)
                    await eventually(lambda proxy=proxy: gauges(proxy) == {})  # type: ignore[misc]

    run(go())
    lines = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    assert [(line["reason"], line["by"]) for line in lines] == [("", "endpoint")] * 2


# --- over TLS ------------------------------------------------------------------------------------


def over_tls(engine: str, port: int, certificates: Certificates) -> Mesh:
    return mesh(engine, "http1", port).to("http1", tls={"ca": certificates.ca})


@pytest.mark.parametrize("first", ["client", "endpoint"])
def test_over_tls_each_side_of_http1_ends_alone(
    run: Run, serve: Serve, engine: str, certificates: Certificates, first: str
) -> None:
    """Its close_notify is the end of its direction, on both connections."""
    heard = asyncio.Queue[bytes]()

    async def answer(end: H1End) -> None:
        if first == "client":
            heard.put_nowait(await end.rest())
            await end.send(MUCH)
            await end.finish()
        else:
            await end.send(MUCH)
            await end.finish()
            heard.put_nowait(await end.rest())

    async def go() -> None:
        far = TlsScripted(answer, certificates.origin("http/1.1"))
        async with far.origin() as port:
            text = over_tls(engine, port, certificates).listen(tls=certificates.listener)
            async with (
                serve(str(text)) as proxy,
                dial_tls(proxy, certificates.client("http/1.1")) as end,
            ):
                if first == "client":
                    await end.send(b"mine")
                    await end.finish()
                assert await asyncio.wait_for(end.rest(), WITHIN_S) == MUCH
                if first == "endpoint":
                    assert gauges(proxy) != {}
                    await end.send(b"mine")
                    await end.finish()
                assert await asyncio.wait_for(heard.get(), WITHIN_S) == b"mine"
                await eventually(lambda: gauges(proxy) == {})
                assert cut(proxy) == 0

    run(go())


def test_over_tls_an_end_that_nobody_said_tears_also_what_waits_for_a_slow_client(
    run: Run, serve: Serve, engine: str, certificates: Certificates
) -> None:
    """What is cut is not signed as whole."""

    async def flood(end: H1End) -> None:
        with contextlib.suppress(ConnectionError):
            await end.send(MUCH * 40)
            await end.rest()

    async def go() -> None:
        far = TlsScripted(flood, certificates.origin("http/1.1"))
        async with far.origin() as port:
            text = over_tls(engine, port, certificates).listen(tls=certificates.listener)
            async with (
                serve(str(text)) as proxy,
                dial_tls(proxy, certificates.client("http/1.1")) as end,
            ):
                await end.read(1)
                await asyncio.sleep(0.2)  # what it does not take waits
                end.writer.transport.write_eof()
                with contextlib.suppress(ConnectionError):
                    await end.rest()
                assert not end.writer.clean  # type: ignore[attr-defined]
                await eventually(lambda: gauges(proxy) == {})

    run(go())


@pytest.mark.parametrize("side", ["client", "endpoint"])
def test_over_tls_an_end_that_nobody_said_tears_the_tunnel(
    run: Run, serve: Serve, engine: str, certificates: Certificates, side: str
) -> None:
    """Whoever is on the way can end a connection, but not its TLS (RFC 8446 §6.1)."""
    told = asyncio.Queue[bool]()

    async def leave(end: H1End) -> None:
        if side == "endpoint":
            await end.send(b"half")
            end.writer.transport.write_eof()
        with contextlib.suppress(ConnectionError):
            await end.rest()
        told.put_nowait(end.writer.clean)  # type: ignore[attr-defined]

    async def go() -> None:
        far = TlsScripted(leave, certificates.origin("http/1.1"))
        async with far.origin() as port:
            text = over_tls(engine, port, certificates).listen(tls=certificates.listener)
            async with (
                serve(str(text)) as proxy,
                dial_tls(proxy, certificates.client("http/1.1")) as end,
            ):
                if side == "client":
                    end.writer.transport.write_eof()
                with contextlib.suppress(ConnectionError):
                    await asyncio.wait_for(end.rest(), WITHIN_S)
                assert not end.writer.clean  # type: ignore[attr-defined]
                assert not await asyncio.wait_for(told.get(), WITHIN_S)
                await eventually(lambda: gauges(proxy) == {})
                assert cut(proxy) == 1

    run(go())


def test_over_tls_a_stream_of_http2_half_closes(
    run: Run, serve: Serve, engine: str, certificates: Certificates
) -> None:
    async def answer(end: End) -> None:
        assert await end.rest() == b"mine"
        await end.send(b"yours")
        await end.finish()

    async def go() -> None:
        far = Scripted("h2", answer, tls=certificates.origin("h2"))
        async with far.origin() as origin:
            text = mesh(engine, "h2", origin.port).to("h2", tls={"ca": certificates.ca})
            text.listen(tls=certificates.listener)
            async with (
                serve(str(text)) as proxy,
                dial("h2", proxy, tls=certificates.client("h2")) as end,
            ):
                await end.send(b"mine")
                await end.finish()
                assert await asyncio.wait_for(end.rest(), WITHIN_S) == b"yours"
                await eventually(lambda: gauges(proxy) == {})
                assert cut(proxy) == 0

    run(go())
