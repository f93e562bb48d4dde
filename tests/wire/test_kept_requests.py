"""A request that is kept, or leads back to itself, keeps nothing else alive for ever."""

from __future__ import annotations

import asyncio
import gc
import weakref
from functools import partial
from typing import Any

import pytest

from meshcore import Answer, Layer, Proxy, Request, Response
from meshcore.config.load import load_text
from tests.wire.blame import PROTOCOLS, Turn, calling, hosting
from tests.wire.conftest import Run, eventually
from tests.wire.either import request
from tests.wire.h2_mesh import Mesh


class Span:
    def __init__(self, request: Request) -> None:
        self.request = request


class Traces(Layer):
    """Notes at a request what leads back to it."""

    def __init__(self) -> None:
        self.spans: list[weakref.ref[Any]] = []

    def on_request(self, request: Request) -> None:
        span = request.state["span"] = Span(request)
        self.spans.append(weakref.ref(span))
        try:
            raise ValueError("no token")
        except ValueError as error:
            request.state["error"] = error  # its traceback knows the request


class AsyncTraces(Traces):
    async def on_request(self, request: Request) -> None:  # type: ignore[override]
        request.state["task"] = asyncio.current_task()
        await asyncio.sleep(0)
        super().on_request(request)


async def answer(turn: Turn) -> None:
    await turn.answer(b"fine")


@pytest.mark.parametrize("client", PROTOCOLS)
@pytest.mark.parametrize("layer", [Traces, AsyncTraces])
def test_a_request_that_leads_back_to_itself_is_let_go(
    run: Run, engine: str, client: str, layer: type[Traces]
) -> None:
    async def go() -> None:
        traces = layer()
        async with hosting("http1", answer) as host:
            mesh = Mesh(engine, host.port).via(layers=[{"python": "a:Traces"}])
            async with Proxy(load_text(str(mesh)), layers={"a:Traces": traces}) as proxy:
                async with calling(client, proxy) as caller:
                    for _ in range(5):
                        assert (await caller.ask(request())).status == 200
                await eventually(lambda: proxy.connections == 0)
                gc.collect()
                assert [span() for span in traces.spans] == [None] * 5

    run(go())


class Keeps(Layer):
    """Keeps the first request that it sees, and its response."""

    def __init__(self) -> None:
        self.kept: Request | None = None
        self.answer: Response | None = None

    def on_request(self, request: Request) -> None:
        self.kept = self.kept or request
        request.state["mine"] = True

    def on_response(self, request: Request, response: Response) -> None:
        self.answer = self.answer or response


def oldest(proxy: Proxy) -> int:
    """The oldest configuration that anybody holds."""
    assert proxy._worker is not None
    return proxy._worker._engine.oldest_version


def is_at(proxy: Proxy, version: int) -> bool:
    """Whether nothing of an older configuration is kept."""
    return oldest(proxy) == version


@pytest.mark.parametrize("client", PROTOCOLS)
@pytest.mark.parametrize("ends", ["whole", "cut"])
def test_a_kept_request_does_not_keep_its_configuration(
    run: Run, engine: str, client: str, ends: str
) -> None:
    async def either(turn: Turn) -> None:
        if ends == "cut" and turn.fields[":path"] == "/first":
            await turn.begin(("content-length", "100"))
            await turn.say(b"torn")
            turn.die()
        else:
            await turn.answer(b"fine")

    async def go() -> None:
        keeps = Keeps()
        async with hosting("http1", either) as host:
            mesh = Mesh(engine, host.port).via(layers=[{"python": "a:Keeps"}])
            mesh.listen(client_address={"trusted_hops": 1})
            config = load_text(str(mesh))
            async with (
                Proxy(config, layers={"a:Keeps": keeps}) as proxy,
                calling(client, proxy) as caller,
            ):
                first = await caller.begin(request("GET", "/first", ("x-forwarded-for", "9.9.9.9")))
                await first.head()
                kept = keeps.kept
                assert kept is not None
                assert (kept.client, kept.route) == ("9.9.9.9", "all")
                before = oldest(proxy)
                await proxy.reload(load_text(str(mesh.via(timeout="7s"))))
                await caller.ask(request())
                await eventually(lambda: oldest(proxy) == before + 1)
                assert (kept.client, kept.route, kept.path) == ("9.9.9.9", "all", "/first")
                assert kept.state["mine"]
                assert keeps.answer is not None
                keeps.answer.set_header("x-late", "1")
                assert keeps.answer.header("x-late") == "1"

    run(go())


class Looks(Layer):
    """Outside: sees what the inner one gives."""

    def __init__(self) -> None:
        self.seen: list[Response] = []

    def on_response(self, request: Request, response: Response) -> None:
        self.seen.append(response)


class Replaces(Keeps):
    """Inside: answers instead of the response, which it keeps."""

    async def on_response(  # type: ignore[override]
        self, request: Request, response: Response
    ) -> Answer:
        super().on_response(request, response)
        await asyncio.sleep(0)
        return Answer(403, body=b"no")


@pytest.mark.parametrize("client", PROTOCOLS)
def test_a_response_that_was_replaced_does_not_keep_its_configuration(
    run: Run, engine: str, client: str
) -> None:
    """Nor does the answer in its place, which an outer layer keeps."""

    async def go() -> None:
        inner, outer = Replaces(), Looks()
        async with hosting("http1", answer) as host:
            layers = [{"python": "a:Outer"}, {"python": "a:Inner"}]
            mesh = Mesh(engine, host.port).via(layers=layers)
            given = {"a:Outer": outer, "a:Inner": inner}
            async with (
                Proxy(load_text(str(mesh)), layers=given) as proxy,
                calling(client, proxy) as caller,
            ):
                assert (await caller.ask(request())).status == 403
                assert inner.answer is not None
                assert (inner.answer.reason, inner.answer.status) == (None, 200)
                assert [seen.status for seen in outer.seen] == [403]
                for timeout in (7, 8):
                    wanted = oldest(proxy) + 1
                    await proxy.reload(load_text(str(mesh.via(timeout=f"{timeout}s"))))
                    await eventually(partial(is_at, proxy, wanted))
                assert inner.kept is not None
                assert inner.kept.route == "all"

    run(go())


@pytest.mark.parametrize("client", PROTOCOLS)
def test_a_request_that_was_drained_does_not_keep_its_configuration(
    run: Run, engine: str, client: str
) -> None:
    """With its listener, which leaves the configuration while its endpoint works."""

    async def hold(turn: Turn) -> None:
        await turn.left()

    async def go() -> None:
        keeps = Keeps()
        async with hosting("http1", hold) as host:
            mesh = Mesh(engine, host.port).via(layers=[{"python": "a:Keeps"}])
            mesh.top["drain"] = "100ms"
            other = str(mesh.another_listener("other"))
            mesh.listeners.clear()
            async with (
                Proxy(load_text(other), layers={"a:Keeps": keeps}) as proxy,
                calling(client, proxy, "other") as caller,
            ):
                call = await caller.begin(request())
                await eventually(lambda: keeps.kept is not None)
                before = oldest(proxy)
                await proxy.reload(load_text(str(mesh)))
                assert (await call.whole()).fields["x-mesh-reason"] == "draining"
                await eventually(lambda: oldest(proxy) == before + 1)
                assert keeps.kept is not None
                assert keeps.kept.route == "all"

    run(go())
