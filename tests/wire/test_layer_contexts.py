"""What a layer's hooks leave behind: nothing for another request, and no request that hangs."""

from __future__ import annotations

import asyncio
import contextlib
from contextvars import ContextVar
from typing import Any

import pytest

from meshcore import Answer, Layer, LayerError, Proxy, Request, Response
from meshcore.config.load import load_text
from tests.wire.blame import PROTOCOLS, calling, every_way
from tests.wire.conftest import Run, gauges
from tests.wire.either import asking, request, response, service
from tests.wire.h2_mesh import Mesh

WHO: ContextVar[str] = ContextVar("who", default="nobody")
EITHER = pytest.mark.parametrize("hooks", ["plain", "async"])


def note(request: Request, seen: list[str]) -> None:
    """Who was there before, and who is now."""
    seen.append(WHO.get())
    WHO.set(request.header("x-who") or "")


class Plain(Layer):
    def __init__(self, seen: list[str]) -> None:
        self.seen = seen

    def on_request(self, request: Request) -> None:
        note(request, self.seen)

    def on_response(self, request: Request, response: Response) -> None:
        response.set_header("x-who", WHO.get())


class Async(Layer):
    def __init__(self, seen: list[str]) -> None:
        self.seen = seen

    async def on_request(self, request: Request) -> None:
        await asyncio.sleep(0)
        note(request, self.seen)
        await asyncio.sleep(0)

    async def on_response(self, request: Request, response: Response) -> None:
        await asyncio.sleep(0)
        response.set_header("x-who", WHO.get())


def two_layers(engine: str, port: int, endpoint: str) -> str:
    layers = [{"python": "a:First"}, {"python": "a:Second"}]
    return str(Mesh(engine, port).to(endpoint).via(layers=layers))


@every_way
@EITHER
def test_a_context_is_one_requests(
    run: Run, engine: str, client: str, endpoint: str, hooks: str
) -> None:
    """Its layers share it, and both hooks. The next request of the connection, and whoever is
    answered over a connection that a request opened, have one of their own."""
    kind: Any = Plain if hooks == "plain" else Async
    first: list[str] = []
    second: list[str] = []

    async def go() -> None:
        async with service(endpoint, lambda _: response(b"hi")) as origin:
            config = load_text(two_layers(engine, origin.port, endpoint))
            layers = {"a:First": kind(first), "a:Second": kind(second)}
            async with (
                Proxy(config, layers=layers) as proxy,
                asking(client, proxy.addresses["edge"]) as one,
                asking(client, proxy.addresses["edge"]) as other,
            ):
                for ask, who in ((one, "ann"), (one, "bob"), (other, "eve"), (one, "ann")):
                    got = await ask(request("GET", "/", ("x-who", who)))
                    assert got.fields["x-who"] == who
            assert origin.connections == 1
        assert first == ["nobody"] * 4
        assert second == ["ann", "bob", "eve", "ann"]
        assert WHO.get() == "nobody"

    run(go())


class Gives(Layer):
    """Is cancelled, by itself or by what it waits for."""

    def __init__(self, how: str, side: str) -> None:
        self.how, self.side = how, side

    def on_request(self, request: Request) -> Any:
        return self.give_up() if self.side == "request" else None

    def on_response(self, request: Request, response: Response) -> Any:
        return self.give_up() if self.side == "response" else None

    def give_up(self) -> Any:
        if self.how == "raises":
            raise asyncio.CancelledError
        return self.wait()

    async def wait(self) -> None:
        if self.how == "awaits one":
            task = asyncio.ensure_future(asyncio.Event().wait())
            asyncio.get_running_loop().call_soon(task.cancel)
            await task
        raise asyncio.CancelledError


@every_way
@pytest.mark.parametrize("side", ["request", "response"])
@pytest.mark.parametrize("how", ["raises", "raises later", "awaits one"])
def test_a_hook_that_is_cancelled_by_others_is_a_layer_error_at_once(
    run: Run, engine: str, client: str, endpoint: str, side: str, how: str
) -> None:
    async def go() -> None:
        async with service(endpoint, lambda _: response(b"hi")) as origin:
            text = str(Mesh(engine, origin.port).to(endpoint).via(layers=[{"python": "a:Gives"}]))
            async with (
                Proxy(load_text(text), layers={"a:Gives": Gives(how, side)}) as proxy,
                asking(client, proxy.addresses["edge"]) as ask,
            ):
                async with asyncio.timeout(5):
                    got = await ask(request())
                assert (got.status, got.fields["x-mesh-reason"]) == (500, "layer_error")
            assert gauges(proxy) == {}

    run(go())


class Empty(Plain):
    """As one that counts what it holds."""

    def __len__(self) -> int:
        return 0


def test_a_layer_that_holds_nothing_is_one(run: Run, engine: str) -> None:
    seen: list[str] = []

    async def go() -> None:
        async with service("http1", lambda _: response(b"hi")) as origin:
            config = load_text(two_layers(engine, origin.port, "http1"))
            layers = {"a:First": Empty(seen), "a:Second": Empty(seen)}
            async with (
                Proxy(config, layers=layers) as proxy,
                asking("http1", proxy.addresses["edge"]) as ask,
            ):
                assert (await ask(request("GET", "/", ("x-who", "ann")))).fields["x-who"] == "ann"
        assert seen == ["nobody", "ann"]

    run(go())


@pytest.mark.parametrize(
    ("layer", "message"),
    [
        (Plain, r"python layer a:First: a class; hand in an object, Plain\(\)"),
        (object(), "python layer a:First: not a meshcore.Layer"),
        (None, "python layer a:First: not a meshcore.Layer"),
    ],
)
def test_what_is_no_layer_is_refused_when_the_proxy_is_made(layer: Any, message: str) -> None:
    config = load_text(two_layers("native", 1, "http1"))
    with pytest.raises(LayerError, match=message):
        Proxy(config, layers={"a:First": layer, "a:Second": Plain([])})


class Deaf(Layer):
    """Takes no notice of being cancelled until it may end."""

    def __init__(self) -> None:
        self.works, self.may_end = asyncio.Event(), asyncio.Event()

    async def on_request(self, request: Request) -> None:
        self.works.set()
        while not self.may_end.is_set():
            with contextlib.suppress(asyncio.CancelledError):
                await self.may_end.wait()


@pytest.mark.parametrize("client", PROTOCOLS)
@pytest.mark.parametrize("leaves", [False, True])
def test_a_hook_that_takes_no_notice_does_not_keep_a_proxy_from_its_end(
    run: Run, engine: str, client: str, leaves: bool
) -> None:
    async def go() -> None:
        deaf = Deaf()
        mesh = Mesh(engine, 1).via(layers=[{"python": "a:Deaf"}])
        mesh.top["drain"] = "1s"
        proxy = Proxy(load_text(str(mesh)), layers={"a:Deaf": deaf})
        await proxy.start()
        try:
            async with calling(client, proxy) as caller:
                call = await caller.begin(request())
                await deaf.works.wait()
                if leaves:
                    call.leave()
                async with asyncio.timeout(5):
                    await proxy.stop()
        finally:
            deaf.may_end.set()

    run(go())


@pytest.mark.parametrize("client", PROTOCOLS)
@pytest.mark.parametrize("status", [204, 205, 304])
def test_an_answer_that_has_no_body_is_sent_without_one(
    run: Run, engine: str, client: str, status: int
) -> None:
    """Of a 205 the length has to say so (RFC 9110 §15.3.6)."""

    class Answers(Layer):
        def on_request(self, request: Request) -> Answer | None:
            return Answer(status, [], b"body") if request.path == "/answer" else None

    async def go() -> None:
        async with service("http1", lambda _: response(b"hi")) as origin:
            text = str(Mesh(engine, origin.port).via(layers=[{"python": "a:Answers"}]))
            async with (
                Proxy(load_text(text), layers={"a:Answers": Answers()}) as proxy,
                asking(client, proxy.addresses["edge"]) as ask,
            ):
                got = await ask(request("GET", "/answer"))
                assert (got.status, got.body) == (status, b"")
                if status == 205 and client == "http1":  # over HTTP/2 the frame's flag says it
                    assert got.fields["content-length"] == "0"
                assert (await ask(request())).body == b"hi"

    run(go())
