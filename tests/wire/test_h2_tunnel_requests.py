"""Requests for a tunnel that is not to be, or not yet: no byte of theirs is taken for another's."""

from __future__ import annotations

import asyncio

import pytest
from h2.settings import SettingCodes

from tests.wire.client import Client
from tests.wire.conftest import Run, Serve
from tests.wire.h2_client import H2Client
from tests.wire.h2_origin import Call, H2Origin
from tests.wire.origin import Origin, Visit, response
from tests.wire.test_h2_tunnels import LEGS, PROTOCOLS, Leg, mesh
from tests.wire.tunnel_ends import Echo, h1_request, h2_request

EARLY = b"GET /early HTTP/1.1\r\nhost: a\r\n\r\n"
ENABLED = {SettingCodes.ENABLE_CONNECT_PROTOCOL: 1}


class Reluctant:
    """An origin that agrees when it is told to, and notes what it hears before."""

    def __init__(self) -> None:
        self.asked = asyncio.Event()
        self.agree = asyncio.Event()
        self.heard = b""

    def origin(self, speaks: str) -> Origin | H2Origin:
        return H2Origin(self._h2, settings=ENABLED) if speaks == "h2" else Origin(self._h1)

    async def _h1(self, visit: Visit) -> None:
        head = await visit.head()
        if b"/other" in head:
            return await visit.send(response(b"other"))
        self.asked.set()
        listening = asyncio.create_task(visit.reader.readexactly(len(EARLY)))
        await self.agree.wait()
        assert not listening.done()
        if head.startswith(b"CONNECT"):
            await visit.send(b"HTTP/1.1 200 OK\r\n\r\n")
        else:
            lines = b"connection: upgrade\r\nupgrade: websocket\r\n"
            await visit.send(b"HTTP/1.1 101 x\r\n" + lines + b"\r\n")
        self.heard = await listening
        return await visit.send(b"heard")

    async def _h2(self, call: Call) -> None:
        if call.fields.get(":path") == "/other":
            return await call.answer(b"other")
        self.asked.set()
        await self.agree.wait()
        assert not call.body
        call.send_head((":status", "200"))
        await call.until(lambda: len(call.body) == len(EARLY))
        self.heard = bytes(call.body)
        return await call.send(b"heard")


async def another(url: str) -> None:
    """While this goes through, whatever would be sent too early is."""
    async with Client(url) as other:
        assert (await other.get("/other")).body == b"other"


@LEGS
@PROTOCOLS
def test_what_is_said_too_early_waits_for_the_tunnel(
    run: Run, serve: Serve, engine: str, leg: Leg, protocol: str
) -> None:
    """CVE-2026-2833: until the endpoint agrees it could be another request."""

    async def go() -> None:
        end = Reluctant()
        async with (
            end.origin(leg[1]) as origin,
            serve(str(mesh(engine, leg[1], origin.port))) as proxy,
        ):
            url = proxy.addresses["edge"]
            if leg[0] == "http1":
                async with Client(url) as client:
                    await client.send(h1_request(protocol) + EARLY)
                    await end.asked.wait()
                    await another(url)
                    end.agree.set()
                    assert (await client.head()).status == (101 if protocol != "connect" else 200)
                    assert await client.reader.readexactly(5) == b"heard"
            else:
                async with H2Client(url) as client2:
                    stream = client2.open(*h2_request(protocol), end=False)
                    await stream.send(EARLY)
                    await end.asked.wait()
                    await another(url)
                    end.agree.set()
                    await stream.until(lambda: bytes(stream.body) == b"heard")
            assert end.heard == EARLY

    run(go())


@pytest.mark.parametrize("speaks", ["http1", "h2"])
def test_what_follows_a_request_whose_tunnel_is_refused_is_the_next_request(
    run: Run, serve: Serve, engine: str, speaks: str
) -> None:
    async def h1(visit: Visit) -> None:
        while True:
            path = (await visit.head()).split()[1]
            status = "403 Forbidden" if path == b"/chat" else "200 OK"
            await visit.send(response(path, status))

    async def h2(call: Call) -> None:
        path = call.fields[":path"]
        await call.answer(path.encode(), status=403 if path == "/chat" else 200)

    async def go() -> None:
        origin = H2Origin(h2, settings=ENABLED) if speaks == "h2" else Origin(h1)
        async with (
            origin,
            serve(str(mesh(engine, speaks, origin.port))) as proxy,
            Client(proxy.addresses["edge"]) as client,
        ):
            await client.send(h1_request("websocket") + EARLY)
            replies = [await client.reply(), await client.reply()]
            assert [(x.status, x.body) for x in replies] == [(403, b"/chat"), (200, b"/early")]
            if isinstance(origin, Origin):
                # Two requests, and not a byte between them.
                heads = origin.seen.split(b"\r\n\r\n")
                assert [head.split(b"\r\n")[0] for head in heads] == [
                    b"GET /chat HTTP/1.1",
                    b"GET /early HTTP/1.1",
                    b"",
                ]

    run(go())


@pytest.mark.parametrize("speaks", ["http1", "h2"])
def test_what_was_said_on_a_stream_whose_tunnel_is_refused_is_dropped(
    run: Run, serve: Serve, engine: str, speaks: str
) -> None:
    async def h1(visit: Visit) -> None:
        while True:
            path = (await visit.head()).split()[1]
            if path != b"/chat":
                await visit.send(response(b"other"))
                continue
            await agree.wait()
            await visit.send(response(path, "403 Forbidden"))

    async def h2(call: Call) -> None:
        if call.fields[":path"] != "/chat":
            return await call.answer(b"other")
        await agree.wait()
        assert not call.body
        return await call.answer(b"/chat", status=403)

    agree = asyncio.Event()

    async def go() -> None:
        origin = H2Origin(h2, settings=ENABLED) if speaks == "h2" else Origin(h1)
        async with (
            origin,
            serve(str(mesh(engine, speaks, origin.port))) as proxy,
            H2Client(proxy.addresses["edge"]) as client,
        ):
            stream = client.open(*h2_request("websocket"), end=False)
            await stream.send(EARLY)
            await client.round_trip()
            await another(proxy.addresses["edge"])
            agree.set()
            assert await stream.whole() == b"/chat"
            assert stream.status == 403
            assert (await client.get("/next")).body == b"other"
            if isinstance(origin, Origin):
                assert b"/early" not in origin.seen
            else:
                assert [x.fields[":path"] for x in origin.calls] == ["/chat", "/other", "/next"]

    run(go())


# --- where it is not allowed ------------------------------------------------------------------


@pytest.mark.parametrize("speaks", ["http1", "h2"])
@pytest.mark.parametrize(
    ("allowed", "asked"),
    [
        ([], "websocket"),
        (["websocket"], "chat"),
        (["connect"], "websocket"),
        (["websocket"], "h2c"),
    ],
    ids=["none", "other", "connect", "h2c"],
)
def test_an_upgrade_that_is_not_allowed_is_an_ordinary_request(
    run: Run, serve: Serve, engine: str, speaks: str, allowed: list[str], asked: str
) -> None:
    """RFC 9110 §7.8: it may be ignored. An extended CONNECT cannot be: 405."""

    async def go() -> None:
        echo = Echo(speaks)
        async with (
            echo.origin() as origin,
            serve(str(mesh(engine, speaks, origin.port).via(upgrade=allowed))) as proxy,
            Client(proxy.addresses["edge"]) as client,
            H2Client(proxy.addresses["edge"]) as client2,
        ):
            await client.send(h1_request(asked, ("http2-settings", "AAMAAABk")))
            reply = await client.reply()
            assert (reply.status, reply.body) == (200, b"plain")
            assert not {"upgrade", "connection", "http2-settings", ":protocol"} & set(echo.asked[0])
            stream = client2.open(*h2_request(asked), end=False)
            await stream.whole()
            assert (stream.status, stream.fields["x-mesh-reason"]) == (405, "method_not_allowed")
            assert (await client2.get()).body == b"plain"
            assert len(echo.asked) == 2

    run(go())


def test_a_connect_that_is_not_allowed_is_405(run: Run, serve: Serve, engine: str) -> None:
    async def go() -> None:
        echo = Echo("http1")
        async with (
            echo.origin() as origin,
            serve(str(mesh(engine, "http1", origin.port).via(upgrade=["websocket"]))) as proxy,
            Client(proxy.addresses["edge"]) as client,
            H2Client(proxy.addresses["edge"]) as client2,
        ):
            await client.send(h1_request("connect"))
            assert (await client.reply()).status == 405
            stream = client2.open(*h2_request("connect"), end=False)
            await stream.whole()
            assert (stream.status, stream.fields["x-mesh-reason"]) == (405, "method_not_allowed")
            assert (await client2.get()).body == b"plain"
            assert len(echo.asked) == 1

    run(go())


# --- endpoints that cannot, or say what they were not asked ------------------------------------


@pytest.mark.parametrize("speaks", ["http1", "h2"])
def test_an_endpoint_that_did_not_enable_it_is_not_asked(
    run: Run, serve: Serve, engine: str, speaks: str
) -> None:
    """RFC 8441 §3: no `:protocol` to whoever did not send the setting."""

    async def go() -> None:
        echo = Echo("h2", enables=False)
        async with (
            echo.origin() as origin,
            serve(str(mesh(engine, "h2", origin.port))) as proxy,
            H2Client(proxy.addresses["edge"]) as client2,
            Client(proxy.addresses["edge"]) as client,
        ):
            assert (await client2.get()).body == b"plain"
            if speaks == "h2":
                stream = client2.open(*h2_request("websocket"), end=False)
                await stream.head()
                assert stream.status == 501
            else:
                await client.send(h1_request("websocket"))
                assert (await client.head()).status == 501
            assert len(echo.asked) == 1

    run(go())


@pytest.mark.parametrize(
    ("asked", "answer"),
    [
        (b"GET / HTTP/1.1\r\nhost: a\r\n\r\n", b"upgrade: websocket\r\nconnection: upgrade\r\n"),
        (h1_request("websocket"), b"upgrade: other\r\nconnection: upgrade\r\n"),
        (h1_request("websocket"), b""),
    ],
    ids=["unasked", "other", "nothing"],
)
def test_an_endpoint_that_changes_to_what_nobody_asked_for_is_502(
    run: Run, serve: Serve, engine: str, asked: bytes, answer: bytes
) -> None:
    async def go() -> None:
        async with (
            Origin(b"HTTP/1.1 101 x\r\n" + answer + b"\r\nother bytes") as origin,
            serve(str(mesh(engine, "http1", origin.port))) as proxy,
            Client(proxy.addresses["edge"]) as client,
        ):
            await client.send(asked)
            reply = await client.reply()
            assert (reply.status, reply.fields["x-mesh-reason"]) == (502, "upstream_protocol")

    run(go())


@pytest.mark.parametrize("speaks", ["http1", "h2"])
def test_a_client_may_end_its_half_of_a_stream(
    run: Run, serve: Serve, engine: str, speaks: str
) -> None:
    """RFC 8441 §5: END_STREAM is what FIN is to TCP; the other half goes on."""

    async def h1(visit: Visit) -> None:
        await visit.head()
        lines = b"connection: upgrade\r\nupgrade: websocket\r\n"
        await visit.send(b"HTTP/1.1 101 x\r\n" + lines + b"\r\n")
        await visit.send(b"you said " + await visit.reader.read())

    async def h2(call: Call) -> None:
        call.send_head((":status", "200"))
        await call.send(b"you said " + await call.whole(), end=True)

    async def go() -> None:
        origin = H2Origin(h2, settings=ENABLED) if speaks == "h2" else Origin(h1)
        async with (
            origin,
            serve(str(mesh(engine, speaks, origin.port))) as proxy,
            H2Client(proxy.addresses["edge"]) as client,
        ):
            stream = client.open(*h2_request("websocket"), end=False)
            await stream.head()
            await stream.send(b"goodbye", end=True)
            assert await stream.whole() == b"you said goodbye"

    run(go())
