"""What stands beside a request for a tunnel: content where none can be, bodies that go first."""

from __future__ import annotations

import asyncio

import pytest

from tests.wire.blame import TOUCHY, blamed
from tests.wire.client import Client
from tests.wire.conftest import Run, Serve
from tests.wire.h2_client import H2Client
from tests.wire.h2_mesh import Mesh
from tests.wire.origin import Origin, Visit, response
from tests.wire.tunnel_ends import Echo, h1_request, h2_request

ALL = ["connect", "websocket", "tcp"]
# A second request, if anybody takes it for one.
SMUGGLED = b"GET /smuggled HTTP/1.1\r\nhost: a.test\r\n\r\n"
SWITCH = b"HTTP/1.1 101 x\r\nconnection: upgrade\r\nupgrade: tcp\r\n\r\n"
QUIET = {"circuit_breaker": "off", "ejection": "off"}


def mesh(engine: str, port: int, speaks: str = "http1", upgrade: list[str] | None = None) -> Mesh:
    return Mesh(engine, port).to(speaks, **QUIET).via(upgrade=ALL if upgrade is None else upgrade)


def with_content(method: str, framing: str) -> bytes:
    target = "a.test:443" if method == "CONNECT" else "/"
    head = f"{method} {target} HTTP/1.1\r\nhost: {target if target != '/' else 'a.test'}\r\n"
    if framing == "chunked":
        body = b"%x\r\n%b\r\n0\r\n\r\n" % (len(SMUGGLED), SMUGGLED)
        return f"{head}transfer-encoding: chunked\r\n\r\n".encode() + body
    return f"{head}content-length: {len(SMUGGLED)}\r\n\r\n".encode() + SMUGGLED


# --- content where none can be (RFC 9110 §9.3.6, §9.3.8) -----------------------------------------


@pytest.mark.parametrize("framing", ["chunked", "length"])
@pytest.mark.parametrize("method", ["CONNECT", "TRACE"])
def test_a_method_that_has_no_content_is_refused_with_any(
    run: Run, serve: Serve, engine: str, method: str, framing: str
) -> None:
    async def go() -> None:
        async with (
            Origin(response(b"plain")) as origin,
            serve(str(mesh(engine, origin.port))) as proxy,
            Client(proxy.addresses["edge"]) as client,
        ):
            await client.send(with_content(method, framing))
            reply = await client.reply()
            assert (reply.status, reply.fields["x-mesh-reason"]) == (400, "bad_request")
            assert await client.closed() == b""
            assert origin.visits == []

    run(go())


@pytest.mark.parametrize("method", ["CONNECT", "TRACE"])
def test_so_it_is_over_http2(run: Run, serve: Serve, engine: str, method: str) -> None:
    plain = [(":scheme", "http"), (":path", "/")] if method == "TRACE" else []
    authority = "a.test" if plain else "a.test:443"

    async def go() -> None:
        async with (
            Origin(response(b"plain")) as origin,
            serve(str(mesh(engine, origin.port))) as proxy,
            H2Client(proxy.addresses["edge"]) as client,
        ):
            head = ((":method", method), *plain, (":authority", authority))
            stream = client.open(*head, ("content-length", "5"), end=False)
            await stream.whole()
            assert (stream.status, stream.fields["x-mesh-reason"]) == (400, "bad_request")
            assert (await client.get()).body == b"plain"
            assert len(origin.visits) == 1

    run(go())


@pytest.mark.parametrize("piece", [b"", SMUGGLED])
def test_a_trace_whose_stream_goes_on_has_content(
    run: Run, serve: Serve, engine: str, piece: bytes
) -> None:
    """Without a length, and if it turns out to be none: over HTTP/1.1 it would be announced."""

    async def go() -> None:
        async with (
            Origin(response(b"plain")) as origin,
            serve(str(mesh(engine, origin.port).via(match={"methods": ["TRACE"]}))) as proxy,
            H2Client(proxy.addresses["edge"]) as client,
        ):
            head = ((":method", "TRACE"), (":scheme", "http"), (":path", "/"))
            stream = client.open(*head, (":authority", "a.test"), end=False)
            await stream.send(piece, end=True)
            await stream.whole()
            assert (stream.status, stream.fields["x-mesh-reason"]) == (400, "bad_request")
            assert origin.visits == []

    run(go())


@pytest.mark.parametrize("speaks", ["http1", "h2"])
@pytest.mark.parametrize("method", ["CONNECT", "TRACE"])
def test_an_upgrade_beside_a_method_that_is_about_proxies_is_none(
    run: Run, serve: Serve, engine: str, method: str, speaks: str
) -> None:
    """It would let pass what the route does not list, and leave a CONNECT without a target."""

    async def go() -> None:
        upgrade = b"connection: upgrade\r\nupgrade: websocket\r\n\r\n"
        async with (
            Echo(speaks).origin() as origin,
            serve(str(mesh(engine, origin.port, speaks, ["websocket"]))) as proxy,
            Client(proxy.addresses["edge"]) as client,
        ):
            if method == "CONNECT":
                await client.send(h1_request("connect")[:-2] + upgrade)
            else:
                await client.send(b"TRACE / HTTP/1.1\r\nhost: a.test\r\n" + upgrade)
            reply = await client.reply()
            assert (reply.status, reply.fields["x-mesh-reason"]) == (405, "method_not_allowed")
            assert origin.visits == []

    run(go())


@pytest.mark.parametrize("framing", ["chunked", "length"])
@pytest.mark.parametrize("method", ["GET", "DELETE", "OPTIONS", "PURGE"])
def test_other_methods_may_have_content(
    run: Run, serve: Serve, engine: str, method: str, framing: str
) -> None:
    async def answer(visit: Visit) -> None:
        head = await visit.head()
        if b"chunked" in head:
            await visit.reader.readuntil(SMUGGLED + b"\r\n0\r\n\r\n")
        else:
            assert await visit.body(len(SMUGGLED)) == SMUGGLED
        await visit.send(response(b"read"))

    async def go() -> None:
        async with (
            Origin(answer) as origin,
            serve(str(mesh(engine, origin.port))) as proxy,
            Client(proxy.addresses["edge"]) as client,
        ):
            await client.send(with_content(method, framing))
            assert (await client.reply()).body == b"read"

    run(go())


# --- tunnels that are refused --------------------------------------------------------------------


@pytest.mark.parametrize("allowed", [ALL, []], ids=["by the endpoint", "by the route"])
def test_what_comes_behind_a_refused_connect_is_no_request(
    run: Run, serve: Serve, engine: str, allowed: list[str]
) -> None:
    async def go() -> None:
        async with (
            Origin(response(b"no", "403 Forbidden")) as origin,
            serve(str(mesh(engine, origin.port, upgrade=allowed))) as proxy,
            Client(proxy.addresses["edge"]) as client,
        ):
            await client.send(h1_request("connect") + SMUGGLED)
            reply = await client.reply()
            assert reply.status == (403 if allowed else 405)
            assert reply.fields["connection"] == "close"
            assert await client.closed() == b""
            assert b"smuggled" not in origin.seen

    run(go())


@pytest.mark.parametrize("protocol", ["connect", "websocket"])
@pytest.mark.parametrize("speaks", ["http1", "h2"])
def test_a_connection_that_was_asked_for_a_tunnel_is_not_lent_again(
    run: Run, serve: Serve, engine: str, speaks: str, protocol: str
) -> None:
    async def go() -> None:
        async with (
            Origin(response(b"no", "405 Method Not Allowed")) as origin,
            serve(str(mesh(engine, origin.port))) as proxy,
            Client(proxy.addresses["edge"]) as client,
            H2Client(proxy.addresses["edge"]) as client2,
        ):
            if speaks == "h2":
                stream = client2.open(*h2_request(protocol), end=False)
                await stream.send(SMUGGLED)
                assert (await stream.whole(), stream.status) == (b"no", 405)
            else:
                await client.send(h1_request(protocol))
                assert (await client.reply()).status == 405
            assert (await client2.get("/next")).status == 405
            assert len(origin.visits) == 2
            assert b"smuggled" not in origin.seen

    run(go())


def test_a_protocol_called_connect_is_no_connect(run: Run, serve: Serve, engine: str) -> None:
    async def go() -> None:
        echo = Echo("http1")
        async with (
            echo.origin() as origin,
            serve(str(mesh(engine, origin.port, upgrade=["connect"]))) as proxy,
            Client(proxy.addresses["edge"]) as client,
            H2Client(proxy.addresses["edge"]) as client2,
        ):
            stream = client2.open(*h2_request("connect-udp", path="/?GET=1"), end=False)
            await stream.whole()
            assert stream.status == 405
            method, (name, _), *rest = h2_request("websocket", path="/?GET=1")
            stream = client2.open(method, (name, "connect"), *rest, end=False)
            await stream.whole()
            assert (stream.status, stream.fields["x-mesh-reason"]) == (405, "method_not_allowed")
            assert echo.asked == []
            # An upgrade that may be ignored is (RFC 9110 §7.8).
            await client.get("/", "connection: upgrade", "upgrade: connect")
            assert "upgrade" not in echo.asked[0]

    run(go())


# --- bodies that go before a tunnel (RFC 9110 §7.8) ----------------------------------------------


def upgrading(
    body: bytes, framing: str, *fields: str, protocol: str = "tcp"
) -> tuple[bytes, bytes]:
    """The head and the framed body of a POST that asks for a tunnel."""
    lines = ["POST /exec HTTP/1.1", "host: a.test", f"upgrade: {protocol}", *fields]
    lines.append("connection: upgrade" + (", close" if framing == "close" else ""))
    if framing == "chunked":
        framed = b"%x\r\n%b\r\n0\r\n\r\n" % (len(body), body)
        lines.append("transfer-encoding: chunked")
    else:
        framed = body
        lines.append(f"content-length: {len(body)}")
    return "\r\n".join(lines).encode() + b"\r\n\r\n", framed


@pytest.mark.parametrize("framing", ["chunked", "length", "close"])
@pytest.mark.parametrize("size", [5, 200_000])
@pytest.mark.parametrize("at_once", [True, False])
def test_a_body_goes_first_and_the_tunnel_behind_it(
    run: Run, serve: Serve, engine: str, framing: str, size: int, at_once: bool
) -> None:
    body = b"b" * size
    early = b"early" if at_once else b""

    async def agree(visit: Visit) -> None:
        head = (await visit.head()).lower()
        assert head.startswith(b"post /exec ")
        assert b"upgrade: tcp\r\n" in head
        assert b"connection: upgrade\r\n" in head
        got = b""
        if b"transfer-encoding: chunked" in head:
            while length := int(await visit.reader.readline(), 16):
                got += (await visit.reader.readexactly(length + 2))[:-2]
            assert await visit.reader.readline() == b"\r\n"
        else:
            assert b"content-length: %d\r\n" % size in head
            got = await visit.body(size)
        assert got == body
        await visit.send(SWITCH + b"hello")
        assert await visit.reader.readexactly(len(early) + 6) == early + b"tunnel"
        await visit.send(b"bye")

    async def go() -> None:
        async with (
            Origin(agree) as origin,
            serve(str(mesh(engine, origin.port))) as proxy,
            Client(proxy.addresses["edge"]) as client,
        ):
            head, framed = upgrading(body, framing)
            if at_once:
                await client.send(head + framed + early)
            else:
                for piece in (head, framed[: size // 2], framed[size // 2 :]):
                    await client.send(piece)
                    await asyncio.sleep(0.01)
            assert (await client.head()).status == 101
            assert await client.reader.readexactly(5) == b"hello"
            await client.send(b"tunnel")
            assert await client.closed() == b"bye"

    run(go())


@pytest.mark.parametrize("framing", ["chunked", "length"])
def test_a_body_behind_an_upgrade_that_is_not_allowed_passes(
    run: Run, serve: Serve, engine: str, framing: str
) -> None:
    async def answer(visit: Visit) -> None:
        head = (await visit.head()).lower()
        assert b"upgrade" not in head
        if framing == "chunked":
            await visit.reader.readuntil(b"hello\r\n0\r\n\r\n")
        else:
            await visit.body(5)
        await visit.send(response(b"plain"))

    async def go() -> None:
        async with (
            Origin(answer) as origin,
            serve(str(mesh(engine, origin.port, upgrade=["websocket"]))) as proxy,
            Client(proxy.addresses["edge"]) as client,
        ):
            for protocol in ("tcp", "h2c"):
                head, framed = upgrading(b"hello", framing, protocol=protocol)
                await client.send(head + framed)
                assert (await client.reply()).body == b"plain"

    run(go())


def test_an_endpoint_that_agrees_inside_of_a_request_gets_no_tunnel_and_no_blame(
    run: Run, serve: Serve, engine: str
) -> None:
    """As servers do that do not read the body; how much of it they have is the client's choice."""

    async def agree(visit: Visit) -> None:
        await visit.head()
        await visit.send(SWITCH)
        await visit.reader.read()

    async def go() -> None:
        async with (
            Origin(agree) as origin,
            serve(str(mesh(engine, origin.port).to("http1", **TOUCHY))) as proxy,
        ):
            for _ in range(3):
                async with Client(proxy.addresses["edge"]) as client:
                    head, framed = upgrading(b"hello", "chunked")
                    await client.send(head + framed[:-3])
                    reply = await client.reply()
                    assert reply.status == 501
                    assert reply.fields["x-mesh-reason"] == "upgrade_unsupported"
                    assert await client.closed() == b""
            assert blamed(proxy) == set()

    run(go())


@pytest.mark.parametrize("how", ["no leave", "a body", "another method"])
def test_an_upgrade_that_http2_cannot_say_is_501_and_blames_nobody(
    run: Run, serve: Serve, engine: str, how: str
) -> None:
    async def go() -> None:
        echo = Echo("h2", enables=how != "no leave")
        touchy = {"circuit_breaker": {"failures": 1, "min_calls": 1, "failure_percent": "1%"}}
        async with (
            echo.origin() as origin,
            serve(str(mesh(engine, origin.port, "h2").to("h2", **touchy))) as proxy,
        ):
            for _ in range(3):
                async with Client(proxy.addresses["edge"]) as client:
                    if how == "no leave":
                        await client.send(h1_request("websocket"))
                    elif how == "a body":
                        await client.send(b"".join(upgrading(b"hello", "length")))
                    else:
                        await client.send(h1_request("websocket").replace(b"GET", b"POST"))
                    reply = await client.reply()
                    assert reply.status == 501
                    assert reply.fields["x-mesh-reason"] == "upgrade_unsupported"
            async with Client(proxy.addresses["edge"]) as client:
                assert (await client.get()).body == b"plain"

    run(go())
