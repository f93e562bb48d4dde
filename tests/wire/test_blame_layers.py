"""While a layer looks at a response's head, nothing of the body passes it, and nothing is lost."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pytest
from hyperframe.frame import RstStreamFrame

from meshcore import Layer, Proxy, Request, Response
from meshcore.config.load import load_text
from meshcore.downstream.http2 import Http2Connection
from tests.wire.blame import (
    GRPC,
    H2Turn,
    Turn,
    blamed,
    calling,
    every_endpoint,
    every_way,
    h2_of,
    hosting,
    touchy,
)
from tests.wire.conftest import Run, eventually, gauges
from tests.wire.either import request
from tests.wire.h2_mesh import Mesh

NO_ERROR = 0


def is_full(proxy: Proxy) -> bool:
    """Whether more waits for the client's connection than its streams may hold together."""
    assert proxy._worker is not None
    connections = proxy._worker.listeners["edge"]._connections
    return any(isinstance(each, Http2Connection) and each.full for each in connections)


class Look(Layer):
    """Looks at a response until it may pass."""

    def __init__(self) -> None:
        self.looks = asyncio.Event()
        self.may_pass = asyncio.Event()

    async def on_response(self, request: Request, response: Response) -> None:
        if request.path == "/other":
            return
        self.looks.set()
        await self.may_pass.wait()
        response.set_header("x-seen", "yes")


@asynccontextmanager
async def looked_at(mesh: Mesh) -> AsyncIterator[tuple[Proxy, Look]]:
    """A proxy with the layer; on leaving it holds nothing."""
    look = Look()
    config = load_text(str(mesh.via(layers=[{"python": "test:Look"}])))
    async with Proxy(config, layers={"test:Look": look}) as proxy:
        yield proxy, look
    assert gauges(proxy) == {}


@pytest.mark.parametrize("client", ["http1", "h2"])
@pytest.mark.parametrize("behind", ["nothing", "reset", "end-of-connection"])
@pytest.mark.parametrize("method", ["GET", "POST"])
def test_what_comes_while_a_layer_looks_follows_its_head(
    run: Run, engine: str, client: str, behind: str, method: str
) -> None:
    """RFC 9113 §8.1: NO_ERROR behind a whole response says that the request is of no more use."""

    async def answer(turn: Turn) -> None:
        await turn.begin(("x-from", "endpoint"))
        headed.set()
        await look_at_it.wait()
        for piece in (b"one ", b"two ", b"three"):
            await turn.say(piece)
        await turn.end()
        visit, number = h2_of(turn).visit, h2_of(turn).number
        if behind == "reset":
            visit.send_raw(RstStreamFrame(number, NO_ERROR).serialize())
        await visit.round_trip()
        if behind == "end-of-connection":
            visit.writer.write_eof()
            await visit.gone()
        sent.set()

    headed, look_at_it, sent = asyncio.Event(), asyncio.Event(), asyncio.Event()

    async def go() -> None:
        async with (
            hosting("h2", answer) as host,
            looked_at(touchy(engine, "h2", host.port)) as (proxy, look),
            calling(client, proxy) as caller,
        ):
            # The body of the POST never ends.
            call = await caller.begin(request(method), end=method == "GET")
            await headed.wait()
            await look.looks.wait()
            look_at_it.set()
            await sent.wait()  # all of it is at the proxy now
            look.may_pass.set()
            reply = await call.whole()
            assert (reply.status, reply.fields["x-seen"]) == (200, "yes")
            assert reply.body == b"one two three"
            assert blamed(proxy) == set()

    run(go())


@every_way
def test_pieces_that_come_with_a_head_stay_in_order(
    run: Run, engine: str, client: str, endpoint: str
) -> None:
    """All of it in one read, and so before anybody could be told to stop reading."""
    pieces = [b"%d " % n for n in range(10)]

    async def answer(turn: Turn) -> None:
        if isinstance(turn, H2Turn):
            h2, number = turn.call.visit.h2, turn.call.number
            h2.send_headers(number, [(":status", "200")])
            for piece in pieces:
                h2.send_data(number, piece)
            h2.end_stream(number)
            return turn.call.visit.flush()
        chunks = b"".join(b"%x\r\n%b\r\n" % (len(piece), piece) for piece in pieces)
        head = b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n"
        return await turn.visit.send(head + chunks + b"0\r\n\r\n")

    async def go() -> None:
        async with (
            hosting(endpoint, answer) as host,
            looked_at(touchy(engine, endpoint, host.port)) as (proxy, look),
            calling(client, proxy) as caller,
        ):
            call = await caller.begin(request())
            await look.looks.wait()
            look.may_pass.set()
            reply = await call.whole()
            assert (reply.fields["x-seen"], reply.body) == ("yes", b"".join(pieces))

    run(go())


@every_endpoint
def test_a_client_that_has_room_again_gets_the_head_first(
    run: Run, engine: str, endpoint: str
) -> None:
    """Its connection was full of other responses when the layer began to look."""
    others, size = 90, 150_000  # what waits for all together is more than a connection's bound
    numbers = b"".join(b"%07d\n" % n for n in range(size // 8))

    async def answer(turn: Turn) -> None:
        if turn.fields[":path"] == "/other":
            return await turn.answer(b"x" * size)
        await turn.begin()
        await turn.say(numbers[:1000])
        await looks.wait()
        await turn.say(numbers[1000:])
        return await turn.end()

    looks = asyncio.Event()

    async def go() -> None:
        async with (
            hosting(endpoint, answer) as host,
            looked_at(touchy(engine, endpoint, host.port)) as (proxy, look),
            calling("h2", proxy, credit=False) as caller,
        ):
            peer = caller.h2
            assert peer is not None
            before = [peer.ask("/other") for _ in range(others)]
            await eventually(lambda: is_full(proxy))
            stream = peer.ask("/")
            await look.looks.wait()
            looks.set()
            peer.credit = True
            peer.h2.increment_flow_control_window(2 * others * size)
            for other in before:
                peer.h2.increment_flow_control_window(size, other.number)
            peer.flush()
            for other in before:
                assert len(await other.whole()) == size
            assert not is_full(proxy)
            await peer.round_trip()
            assert not stream.lines
            assert not stream.body
            look.may_pass.set()
            assert await stream.whole() == numbers
            assert stream.fields["x-seen"] == "yes"

    run(go())


class Broken(Layer):
    """Fails at every response."""

    async def on_response(self, request: Request, response: Response) -> None:
        raise ValueError("as asked")


@asynccontextmanager
async def broken(mesh: Mesh) -> AsyncIterator[Proxy]:
    mesh.via(layers=[{"python": "test:Broken"}])
    async with Proxy(load_text(str(mesh)), layers={"test:Broken": Broken()}) as proxy:
        yield proxy


@every_way
def test_a_layer_that_fails_is_no_failure_of_a_service(
    run: Run, engine: str, client: str, endpoint: str
) -> None:
    async def answer(turn: Turn) -> None:
        await turn.answer(b"fine")

    async def go() -> None:
        async with (
            hosting(endpoint, answer) as host,
            broken(touchy(engine, endpoint, host.port)) as proxy,
            calling(client, proxy) as caller,
        ):
            for _ in range(5):
                reply = await caller.ask(request())
                assert (reply.status, reply.fields["x-mesh-reason"]) == (500, "layer_error")
            assert blamed(proxy) == set()

    run(go())


@every_endpoint
def test_a_layer_that_fails_at_a_call_is_no_failure_of_a_service(
    run: Run, engine: str, endpoint: str
) -> None:
    """How the call would have ended is not known yet."""

    async def answer(turn: Turn) -> None:
        await turn.read()
        await turn.begin(GRPC)
        await turn.left()

    async def go() -> None:
        async with (
            hosting(endpoint, answer) as host,
            broken(touchy(engine, endpoint, host.port)) as proxy,
            calling("h2", proxy) as caller,
        ):
            for _ in range(5):
                reply = await caller.ask(request("POST", "/", GRPC, body=b"x"))
                assert reply.fields["x-mesh-reason"] == "layer_error"
            assert blamed(proxy) == set()

    run(go())
