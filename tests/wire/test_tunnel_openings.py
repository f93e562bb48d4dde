"""What opens a tunnel: the fields that one protocol has and the other has not, and every answer
that agrees to one, in either engine."""

from __future__ import annotations

import asyncio

import pytest
from h2.settings import SettingCodes

from meshcore import Answer, Layer, Proxy, Request, Response
from meshcore.config.load import load_text
from tests.wire.client import Client
from tests.wire.conftest import Run, Serve
from tests.wire.either import asking, request
from tests.wire.h2_client import H2Client
from tests.wire.h2_mesh import Mesh
from tests.wire.h2_origin import Call, H2Origin
from tests.wire.h2_peer import Field
from tests.wire.origin import Origin, Visit
from tests.wire.tunnel_ends import (
    ACCEPT,
    ACCEPTS,
    KEY,
    Echo,
    accept_of,
    dial,
    h1_request,
    h2_request,
)

ENABLED = {SettingCodes.ENABLE_CONNECT_PROTOCOL: 1}
SEC_KEY = "sec-websocket-key"


def mesh(engine: str, speaks: str, port: int) -> Mesh:
    return Mesh(engine, port).to(speaks).via(upgrade=["websocket", "chat", "connect"])


# --- the key of HTTP/1.1, and what proves that it was read ---------------------------------------


@pytest.mark.parametrize("protocol", ["websocket", "chat"])
def test_an_endpoint_gets_one_key_and_no_client_of_http2_makes_it(
    run: Run, serve: Serve, engine: str, protocol: str
) -> None:
    """RFC 8441 §5: it has none. Of another protocol the field means nothing, and passes."""

    async def go() -> None:
        heads: list[bytes] = []

        async def agree(visit: Visit) -> None:
            heads.append(await visit.head())
            lines = f"connection: upgrade\r\nupgrade: {protocol}\r\n{ACCEPTS}: theirs\r\n"
            await visit.send(f"HTTP/1.1 101 x\r\n{lines}\r\n".encode())

        async with (
            Origin(agree) as origin,
            serve(str(mesh(engine, "http1", origin.port))) as proxy,
            dial("h2", proxy, (SEC_KEY, KEY), protocol=protocol) as end,
        ):
            assert end.head[":status"] == "200"
            (head,) = heads
            lines = [line for line in head.split(b"\r\n") if line.startswith(SEC_KEY.encode())]
            if protocol == "websocket":
                assert len(lines) == 1
                assert KEY.encode() not in lines[0]
                assert ACCEPTS not in end.head
            else:
                assert lines == [f"{SEC_KEY}: {KEY}".encode()]
                assert end.head[ACCEPTS] == "theirs"

    run(go())


@pytest.mark.parametrize("protocol", ["websocket", "chat"])
def test_a_client_gets_one_proof_and_no_endpoint_of_http2_makes_it(
    run: Run, serve: Serve, engine: str, protocol: str
) -> None:
    async def go() -> None:
        asked: list[dict[str, str]] = []

        async def agree(call: Call) -> None:
            asked.append(call.fields)
            call.send_head((":status", "200"), (ACCEPTS, "theirs"))
            await call.until(lambda: call.ended)

        async with (
            H2Origin(agree, settings=ENABLED) as origin,
            serve(str(mesh(engine, "h2", origin.port))) as proxy,
            Client(proxy.addresses["edge"]) as client,
        ):
            await client.send(h1_request(protocol))
            head = await client.reader.readuntil(b"\r\n\r\n")
            lines = [line for line in head.split(b"\r\n") if line.startswith(ACCEPTS.encode())]
            ours = ACCEPT if protocol == "websocket" else "theirs"
            assert lines == [f"{ACCEPTS}: {ours}".encode()]
            assert asked[0].get(SEC_KEY) == (None if protocol == "websocket" else KEY)

    run(go())


@pytest.mark.parametrize("speaks", ["http1", "h2"])
def test_between_two_of_a_protocol_key_and_proof_are_theirs(
    run: Run, serve: Serve, engine: str, speaks: str
) -> None:
    async def go() -> None:
        echo = Echo(speaks)
        async with (
            echo.origin() as origin,
            serve(str(mesh(engine, speaks, origin.port))) as proxy,
            dial(speaks, proxy) as end,
        ):
            key = echo.asked[0].get(SEC_KEY)
            assert key == (KEY if speaks == "http1" else None)
            assert end.head.get(ACCEPTS) == (accept_of(KEY).lower() if key else None)

    run(go())


# --- who agrees (RFC 9110 §9.3.6: whatever 2xx) --------------------------------------------------


@pytest.mark.parametrize("client", ["http1", "h2"])
@pytest.mark.parametrize("protocol", ["connect", "websocket"])
@pytest.mark.parametrize(
    "answer",
    [
        ((":status", "204"),),
        ((":status", "200"), ("content-length", "1")),
        ((":status", "206"), ("content-length", "0")),
    ],
    ids=["204", "length", "no-length"],
)
def test_whatever_2xx_begins_a_tunnel_of_http2(
    run: Run, serve: Serve, engine: str, client: str, protocol: str, answer: tuple[Field, ...]
) -> None:
    async def go() -> None:
        async def agree(call: Call) -> None:
            call.send_head(*answer)
            await call.until(lambda: bytes(call.body) == b"hello")
            await call.send(b"heard")
            await call.until(lambda: call.ended)

        async with (
            H2Origin(agree, settings=ENABLED) as origin,
            serve(str(mesh(engine, "h2", origin.port))) as proxy,
            dial(client, proxy, protocol=protocol) as end,
        ):
            agreed = "101" if (client, protocol) == ("http1", "websocket") else "200"
            assert end.head[":status"] == agreed
            assert "content-length" not in end.head
            await end.send(b"hello")
            assert await asyncio.wait_for(end.read(5), 3) == b"heard"

    run(go())


# --- what is said of a length --------------------------------------------------------------------


@pytest.mark.parametrize("speaks", ["http1", "h2"])
@pytest.mark.parametrize("protocol", ["connect", "websocket"])
def test_no_length_of_a_client_is_said_of_a_tunnel(
    run: Run, serve: Serve, engine: str, speaks: str, protocol: str
) -> None:
    """From an HTTP/2 client it is refused."""

    async def go() -> None:
        echo = Echo(speaks)
        async with (
            echo.origin() as origin,
            serve(str(mesh(engine, speaks, origin.port))) as proxy,
            dial("http1", proxy, ("content-length", "0"), protocol=protocol) as end,
        ):
            await end.send(b"hello")
            assert await end.read(5) == b"hello"
            is_upgrade = (speaks, protocol) == ("http1", "websocket")
            assert echo.asked[0].get("content-length") == ("0" if is_upgrade else None)

    run(go())


# --- answers of our own --------------------------------------------------------------------------


class Agrees(Layer):
    """Answers a CONNECT itself, as if there were a tunnel."""

    def __init__(self, status: int, *, late: bool) -> None:
        self.answer = Answer(status, [("x-of", "layer")], b"hello")
        self.late = late

    def on_request(self, request: Request) -> Answer | None:
        return None if self.late else self.answer

    def on_response(self, request: Request, response: Response) -> Answer | None:
        return self.answer if self.late and response.reason is None else None


@pytest.mark.parametrize("late", [False, True], ids=["before", "behind"])
@pytest.mark.parametrize("client", ["http1", "h2", "extended"])
@pytest.mark.parametrize("status", [200, 204, 299, 302, 403])
def test_no_answer_of_a_layer_begins_a_tunnel(
    run: Run, engine: str, client: str, status: int, late: bool
) -> None:
    """To its client a 2xx would: what follows would be the tunnel's (RFC 9110 §9.3.6)."""

    async def refuse(visit: Visit) -> None:
        await visit.head()
        await visit.send(b"HTTP/1.1 403 x\r\ncontent-length: 0\r\n\r\n")

    async def go() -> None:
        async with Origin(refuse) as origin:
            text = mesh(engine, "http1", origin.port).listen(layers=[{"python": "a:Layer"}])
            layers = {"a:Layer": Agrees(status, late=late)}
            async with Proxy(load_text(str(text)), layers=layers) as proxy:
                url = proxy.addresses["edge"]
                if client == "http1":
                    async with Client(url) as h1:
                        await h1.send(h1_request("connect"))
                        reply = await h1.reply()
                        got, fields = reply.status, dict(reply.fields)
                else:
                    async with H2Client(url) as h2:
                        protocol = "connect" if client == "h2" else "websocket"
                        stream = h2.open(*h2_request(protocol), end=False)
                        await stream.whole()
                        got, fields = int(stream.status), stream.fields
        if status < 300:
            assert (got, fields["x-mesh-reason"]) == (500, "layer_error")
            assert "x-of" not in fields
        else:
            assert (got, fields["x-of"]) == (status, "layer")

    run(go())


def test_an_upgrade_may_be_answered_without_one(run: Run, engine: str) -> None:
    async def go() -> None:
        async with Origin(b"") as origin:
            text = mesh(engine, "http1", origin.port).listen(layers=[{"python": "a:Layer"}])
            layers = {"a:Layer": Agrees(200, late=False)}
            async with (
                Proxy(load_text(str(text)), layers=layers) as proxy,
                Client(proxy.addresses["edge"]) as client,
            ):
                await client.send(h1_request("websocket"))
                assert (await client.reply()).body == b"hello"

    run(go())


@pytest.mark.parametrize("asks", ["http1", "h2"])
def test_an_endpoint_says_what_to_change_to(run: Run, serve: Serve, asks: str) -> None:
    """RFC 9110 §15.5.22: in a 426, over HTTP/1.1."""
    head = b"HTTP/1.1 426 x\r\nupgrade: websocket, chat\r\nconnection: upgrade\r\n"
    expected = ["websocket, chat", "upgrade"] if asks == "http1" else [None, None]

    async def go() -> None:
        async with (
            Origin(head + b"content-length: 4\r\n\r\nneed") as origin,
            serve(str(Mesh("native", origin.port))) as proxy,
            asking(asks, proxy.addresses["edge"]) as ask,
        ):
            for _ in range(2):
                got = await ask(request())
                assert (got.status, got.body) == (426, b"need")
                assert [got.fields.get(name) for name in ("upgrade", "connection")] == expected

    run(go())
