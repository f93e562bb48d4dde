"""Layers and the answers that are given here: who sees them, changes them, replaces them."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import pytest

from meshcore import Answer, Layer, Proxy, Request, Response
from meshcore.config.load import load_text
from tests.wire.blame import GRPC, Turn, blamed, calling, every_way, hosting, touchy
from tests.wire.conftest import Run, gauges, metric
from tests.wire.either import Message, request
from tests.wire.h2_client import connect
from tests.wire.h2_mesh import Mesh
from tests.wire.origin import Origin, response

HOOKS = pytest.mark.parametrize("hooks", ["plain", "async"])
CORS = "access-control-allow-origin"


class Cors(Layer):
    """Outermost: every answer of its requests leaves with its field."""

    def __init__(self) -> None:
        self.saw: list[tuple[int, str | None]] = []

    def on_response(self, request: Request, response: Response) -> Any:
        self.saw.append((response.status, response.reason))
        response.set_header(CORS, "*")


class AsyncCors(Cors):
    async def on_request(self, request: Request) -> None:
        await asyncio.sleep(0)

    async def on_response(self, request: Request, response: Response) -> None:
        await asyncio.sleep(0)
        super().on_response(request, response)


class Inner(Layer):
    """Does what the request's `x-do` says, and what the response's does."""

    def on_request(self, request: Request) -> Answer | None:
        match request.header("x-do"):
            case "answer":
                return Answer(403, [("x-by", "inner")], b"no")
            case "raise":
                raise ValueError("as asked")
            case "nonsense":
                return "nonsense"  # type: ignore[return-value]
        return None

    def on_response(self, request: Request, response: Response) -> Any:
        match request.header("x-out"):
            case "raise":
                raise ValueError("as asked")
            case "answer":
                return Answer(410, [("x-by", "inner"), ("x-was", str(response.status))], b"gone")
            case "nonsense":
                return 5
        return None


class AsyncInner(Inner):
    async def on_request(self, request: Request) -> Answer | None:  # type: ignore[override]
        await asyncio.sleep(0)
        return super().on_request(request)

    async def on_response(self, request: Request, response: Response) -> Any:
        await asyncio.sleep(0)
        return super().on_response(request, response)


async def answer(turn: Turn) -> None:
    """An endpoint that answers, or dies at the path `/die`."""
    if turn.fields[":path"] == "/die":
        turn.die()
        return
    await turn.read()
    await turn.answer(b"fine")


@asynccontextmanager
async def guarded(
    mesh: Mesh, hooks: str, *behind: dict[str, Any]
) -> AsyncIterator[tuple[Proxy, Cors]]:
    """A proxy with both layers, the outer one first, and whatever stands behind them."""
    cors = Cors() if hooks == "plain" else AsyncCors()
    inner = Inner() if hooks == "plain" else AsyncInner()
    mesh.via(layers=[{"python": "a:Cors"}, {"python": "a:Inner"}, *behind])
    layers: dict[str, Layer] = {"a:Cors": cors, "a:Inner": inner}
    async with Proxy(load_text(str(mesh)), layers=layers) as proxy:
        yield proxy, cors
    assert gauges(proxy) == {}


def told(reply: Message) -> tuple[int, str, str]:
    """Status, reason and the outer layer's field."""
    return reply.status, reply.fields.get("x-mesh-reason", ""), reply.fields.get(CORS, "")


@every_way
@HOOKS
def test_the_outer_layer_sees_every_answer(
    run: Run, engine: str, client: str, endpoint: str, hooks: str
) -> None:
    limit = {"limit": {"rate": "4/h", "burst": 4}}

    async def go() -> None:
        async with (
            hosting(endpoint, answer) as host,
            guarded(Mesh(engine, host.port).to(endpoint), hooks, limit) as (proxy, cors),
            calling(client, proxy) as caller,
        ):
            assert told(await caller.ask(request())) == (200, "", "*")
            reply = await caller.ask(request("GET", "/", ("x-do", "answer")))
            assert (told(reply), reply.fields["x-by"]) == ((403, "", "*"), "inner")
            assert reply.body == b"no"
            for wrong in ("raise", "nonsense"):
                reply = await caller.ask(request("GET", "/", ("x-do", wrong)))
                assert told(reply) == (500, "layer_error", "*")
            reply = await caller.ask(request("GET", "/die"))
            assert told(reply) == (502, "upstream_reset", "*")
            # Two are left: what layers answered before the limit was not charged.
            for _ in range(2):
                assert told(await caller.ask(request())) == (200, "", "*")
            reply = await caller.ask(request())
            assert told(reply) == (429, "rate_limited", "*")
            assert b"rate limited" in reply.body
            assert int(reply.fields["content-length"]) == len(reply.body)
            reply = await caller.ask(request("HEAD", "/"))
            assert (told(reply), reply.body) == ((429, "rate_limited", "*"), b"")
            assert (500, "layer_error") in cors.saw
            assert (403, "layer_response") in cors.saw
            assert cors.saw[0] == (200, None)

    run(go())


@every_way
@HOOKS
def test_a_layer_replaces_a_response(
    run: Run, engine: str, client: str, endpoint: str, hooks: str
) -> None:
    async def go() -> None:
        async with (
            hosting(endpoint, answer) as host,
            guarded(Mesh(engine, host.port).to(endpoint), hooks) as (proxy, _),
            calling(client, proxy) as caller,
        ):
            for path, was in (("/", "200"), ("/die", "502"), ("/", "200")):
                reply = await caller.ask(request("GET", path, ("x-out", "answer")))
                assert (told(reply), reply.body) == ((410, "", "*"), b"gone")
                assert (reply.fields["x-was"], reply.fields["x-by"]) == (was, "inner")
            for wrong in ("raise", "nonsense"):
                reply = await caller.ask(request("GET", "/", ("x-out", wrong)))
                assert told(reply) == (500, "layer_error", "*")
                # Of an answer made here it is final: nobody else sees it.
                reply = await caller.ask(request("GET", "/die", ("x-out", wrong)))
                assert told(reply) == (500, "layer_error", "")
            assert metric(proxy, "meshcore_route_responses_total", **{"class": "4xx"}) == 3

    run(go())


@HOOKS
def test_a_replaced_response_that_is_whole_keeps_its_connection(
    run: Run, engine: str, hooks: str
) -> None:
    async def go() -> None:
        async with (
            hosting("http1", answer) as host,
            guarded(Mesh(engine, host.port).to("http1"), hooks) as (proxy, _),
            calling("http1", proxy) as caller,
        ):
            for _ in range(5):
                reply = await caller.ask(request("GET", "/", ("x-out", "answer")))
                assert reply.status == 410
            assert host.connections == 1

    run(go())


@every_way
def test_what_a_layer_makes_of_a_failure_is_still_the_endpoints(
    run: Run, engine: str, client: str, endpoint: str
) -> None:
    async def go() -> None:
        async with (
            hosting(endpoint, answer) as host,
            guarded(touchy(engine, endpoint, host.port), "async") as (proxy, _),
            calling(client, proxy) as caller,
        ):
            reply = await caller.ask(request("GET", "/die", ("x-out", "answer")))
            assert reply.status == 410
            assert blamed(proxy) != set()

    run(go())


@HOOKS
def test_a_call_is_refused_in_trailers_that_layers_see(run: Run, engine: str, hooks: str) -> None:
    limit = {"limit": {"rate": "1/h", "burst": 1}}

    async def go() -> None:
        async with (
            hosting("h2", answer) as host,
            guarded(Mesh(engine, host.port).to("h2"), hooks, limit) as (proxy, cors),
            calling("h2", proxy) as caller,
        ):
            await caller.ask(request("POST", "/", GRPC, body=b""))
            reply = await caller.ask(request("POST", "/", GRPC, body=b""))
            assert (reply.status, reply.fields["grpc-status"]) == (200, "8")
            assert told(reply) == (200, "rate_limited", "*")
            assert cors.saw[-1] == (200, "rate_limited")

    run(go())


class Aloof(Cors):
    local_answers = False


def test_a_layer_may_not_want_to_see_them(run: Run, engine: str) -> None:
    async def go() -> None:
        layers: dict[str, Layer] = {"a:Aloof": Aloof(), "a:Inner": Inner()}
        async with hosting("http1", answer) as host:
            mesh = Mesh(engine, host.port)
            mesh.via(layers=[{"python": "a:Aloof"}, {"python": "a:Inner"}])
            async with (
                Proxy(load_text(str(mesh)), layers=layers) as proxy,
                calling("http1", proxy) as caller,
            ):
                assert told(await caller.ask(request())) == (200, "", "*")
                reply = await caller.ask(request("GET", "/", ("x-do", "answer")))
                assert told(reply) == (403, "", "")

    run(go())


class Slow(Cors):
    def __init__(self) -> None:
        super().__init__()
        self.looks = asyncio.Event()

    async def on_response(self, request: Request, response: Response) -> None:
        self.looks.set()
        await asyncio.Event().wait()


@pytest.mark.parametrize("client", ["http1", "h2"])
def test_a_client_that_leaves_meanwhile_ends_it(run: Run, engine: str, client: str) -> None:
    async def go() -> None:
        slow = Slow()
        async with hosting("http1", answer) as host:
            mesh = Mesh(engine, host.port).via(layers=[{"python": "a:Slow"}, {"python": "a:Inner"}])
            async with Proxy(
                load_text(str(mesh)), layers={"a:Slow": slow, "a:Inner": Inner()}
            ) as proxy:
                async with calling(client, proxy) as caller:
                    call = await caller.begin(request("GET", "/", ("x-do", "answer")))
                    await slow.looks.wait()
                    call.leave()
                await asyncio.sleep(0)
            assert gauges(proxy) == {}

    run(go())


class Looks(Layer):
    """What a request says of itself."""

    def __init__(self) -> None:
        self.seen: list[Any] = []

    def on_request(self, request: Request) -> None:
        request.set_header("x-forwarded-for", "6.6.6.6")
        self.seen += [request.client, request.scheme, request.route]
        request.state["n"] = len(self.seen)
        if (octets := request.header("x-octets")) is not None:
            request.set_header("x-copy", octets)

    def on_response(self, request: Request, response: Response) -> None:
        self.seen += [request.state["n"], request.route]
        response.add_header("set-cookie", "b=2")
        with pytest.raises(ValueError, match="content-length is set by the codec"):
            response.add_header("content-length", "1")
        with pytest.raises(ValueError, match="invalid value for x-a"):
            response.add_header("x-a", "1\r\nx-b: 2")


@every_way
def test_a_request_knows_whose_it_is(run: Run, engine: str, client: str, endpoint: str) -> None:
    async def go() -> None:
        looks = Looks()
        async with hosting(endpoint, answer) as host:
            mesh = Mesh(engine, host.port).to(endpoint).via(layers=[{"python": "a:Looks"}])
            mesh.listen(client_address={"trusted_hops": 1})
            async with (
                Proxy(load_text(str(mesh)), layers={"a:Looks": looks}) as proxy,
                calling(client, proxy) as caller,
            ):
                reply = await caller.ask(request("GET", "/", ("x-forwarded-for", "9.9.9.9")))
                assert reply.status == 200
                assert looks.seen == ["9.9.9.9", "http", "all", 3, "all"]

    run(go())


def test_octets_survive_a_copy_and_fields_are_added(run: Run) -> None:
    async def go() -> None:
        async with Origin(response(b"", "200 OK", "set-cookie: a=1")) as origin:
            mesh = Mesh("native", origin.port).via(layers=[{"python": "a:Looks"}])
            layers: dict[str, Layer] = {"a:Looks": Looks()}
            async with Proxy(load_text(str(mesh)), layers=layers) as proxy:
                reader, writer = await connect(proxy.addresses["edge"], None)
                writer.write(b"GET / HTTP/1.1\r\nhost: a\r\nx-octets: caf\xe9\xff\r\n\r\n")
                head = await reader.readuntil(b"\r\n\r\n")
                writer.close()
            cookies = [line for line in head.split(b"\r\n") if line.startswith(b"set-cookie")]
            assert cookies == [b"set-cookie: a=1", b"set-cookie: b=2"]
            assert b"\r\nx-octets: caf\xe9\xff\r\n" in origin.seen
            assert b"\r\nx-copy: caf\xe9\xff\r\n" in origin.seen

    run(go())


class Stubborn(Layer):
    """Asks somebody, and takes no notice when its request is over meanwhile."""

    def __init__(self) -> None:
        self.asks, self.told = asyncio.Event(), asyncio.Event()

    async def on_request(self, request: Request) -> None:
        self.asks.set()
        while not self.told.is_set():
            with contextlib.suppress(asyncio.CancelledError):
                await self.told.wait()


class Waits(Cors):
    """An outer layer that takes its time over an answer."""

    def __init__(self) -> None:
        super().__init__()
        self.looks, self.may_pass = asyncio.Event(), asyncio.Event()

    async def on_response(self, request: Request, response: Response) -> None:
        self.looks.set()
        await self.may_pass.wait()
        super().on_response(request, response)


@pytest.mark.parametrize("client", ["http1", "h2"])
@pytest.mark.parametrize("ends", ["while it is looked at", "behind it"])
def test_what_a_hook_says_too_late_is_not_heard(
    run: Run, engine: str, client: str, ends: str
) -> None:
    """The request was refused for its body while the hook worked: it goes to no endpoint."""

    async def go() -> None:
        stubborn, waits = Stubborn(), Waits()
        async with hosting("http1", answer) as host:
            mesh = Mesh(engine, host.port)
            mesh.via(layers=[{"python": "a:Waits"}, {"python": "a:Stubborn"}])
            mesh.listen(limits={"body_bytes": 10})
            layers: dict[str, Layer] = {"a:Waits": waits, "a:Stubborn": stubborn}
            async with (
                Proxy(load_text(str(mesh)), layers=layers) as proxy,
                calling(client, proxy) as caller,
            ):
                call = await caller.begin(request("POST", "/"), end=False)
                await stubborn.asks.wait()
                await call.send(b"x" * 100)
                await waits.looks.wait()
                if ends == "while it is looked at":
                    stubborn.told.set()
                    for _ in range(5):
                        await asyncio.sleep(0)
                waits.may_pass.set()
                assert told(await call.whole()) == (413, "body_too_large", "*")
                stubborn.told.set()
                for _ in range(5):
                    await asyncio.sleep(0)
                assert host.turns == []
            assert gauges(proxy) == {}

    run(go())
