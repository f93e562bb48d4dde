"""While layers look at what clients are to get for a failure, its blame is settled already."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pytest

from meshcore import Layer, Proxy, Request, Response
from meshcore.config.load import load_text
from tests.wire.blame import (
    GRPC,
    PROTOCOLS,
    Turn,
    blamed,
    calling,
    every_way,
    h2_of,
    hosting,
    touchy,
)
from tests.wire.conftest import Run, eventually, gauges, metric, nobody
from tests.wire.either import request
from tests.wire.h2_mesh import Mesh

CALLS = 10


class Look(Layer):
    """Looks at every response until it may pass."""

    def __init__(self) -> None:
        self.looking = 0
        self.may_pass = asyncio.Event()

    async def on_response(self, request: Request, response: Response) -> None:
        self.looking += 1
        await self.may_pass.wait()

    async def sees(self, responses: int) -> None:
        """Wait until it looks at so many."""
        await eventually(lambda: self.looking == responses)


@asynccontextmanager
async def looked_at(mesh: Mesh, *more: Layer) -> AsyncIterator[tuple[Proxy, Look]]:
    """A proxy with the layer outermost; on leaving it holds nothing."""
    look = Look()
    layers: dict[str, Layer] = {"a:Look": look} | {
        f"a:Inner{n}": each for n, each in enumerate(more)
    }
    config = load_text(str(mesh.via(layers=[{"python": name} for name in layers])))
    async with Proxy(config, layers=layers) as proxy:
        yield proxy, look
    assert gauges(proxy) == {}


@pytest.mark.parametrize("layers", [1, 2])
def test_a_connection_that_is_lost_under_heads_that_layers_look_at_counts_once(
    run: Run, engine: str, layers: int
) -> None:
    """With a second layer the outer one looks at the answers that are given for it, too."""

    async def answer(turn: Turn) -> None:
        await turn.read()
        if turn.fields[":path"] == "/first":
            await turn.answer(b"fine")
        else:
            await turn.begin(GRPC)
            await turn.left()

    async def go() -> None:
        inner = [Look() for _ in range(layers - 1)]
        async with hosting("h2", answer) as host:
            mesh = Mesh(engine, host.port).via(retry="off")
            mesh.to("h2", circuit_breaker={"failures": 2, "failure_percent": 0})
            async with looked_at(mesh, *inner) as (proxy, look), calling("h2", proxy) as caller:
                innermost = (inner or [look])[-1]
                look.may_pass.set()
                for each in inner:
                    each.may_pass.set()
                await caller.ask(request("GET", "/first"))
                for lost in (1, 2):
                    innermost.may_pass.clear()
                    innermost.looking = 0
                    before = len(host.turns)
                    calls = [
                        await caller.begin(request("POST", "/s/m", GRPC)) for _ in range(CALLS)
                    ]
                    await host.reached(before + CALLS)
                    await innermost.sees(CALLS)
                    assert host.connections == lost
                    h2_of(host.turns[-1]).visit.abort()
                    for call in calls:
                        reply = await call.whole()
                        assert reply.fields["x-mesh-reason"] == "upstream_reset"
                        assert reply.fields["grpc-status"] == "14"
                    assert blamed(proxy) == (set() if lost == 1 else {"breaker"})

    run(go())


@every_way
@pytest.mark.parametrize("then", ["leaves", "stays"])
def test_a_failure_is_told_before_layers_look_at_its_answer(
    run: Run, engine: str, client: str, endpoint: str, then: str
) -> None:
    async def die(turn: Turn) -> None:
        turn.die()

    async def go() -> None:
        async with (
            hosting(endpoint, die) as host,
            looked_at(touchy(engine, endpoint, host.port)) as (proxy, look),
            calling(client, proxy) as caller,
        ):
            calls = [await caller.begin(request()) for _ in range(2)]
            await look.sees(2)
            assert blamed(proxy) == {"breaker", "endpoint"}
            assert gauges(proxy) == {}, "others may have their places"
            if then == "leaves":
                for call in calls:
                    call.leave()
                cut = "meshcore_requests_cut_total"
                await eventually(lambda: metric(proxy, cut, reason="upstream_reset") == 2)
                assert metric(proxy, "meshcore_local_answers_total") == 0
            look.may_pass.set()
            if then == "stays":
                assert [(await call.whole()).status for call in calls] == [502, 502]
                assert metric(proxy, "meshcore_local_answers_total") == 2
            assert blamed(proxy) == {"breaker", "endpoint"}

    run(go())


@pytest.mark.parametrize("client", PROTOCOLS)
def test_a_failed_answer_holds_no_place_that_another_request_wants(
    run: Run, engine: str, client: str
) -> None:
    async def go() -> None:
        with nobody() as port:
            mesh = Mesh(engine, port).via(retry="off")
            limits = {"requests": 1, "client_share": "100%"}
            mesh.to("http1", circuit_breaker="off", ejection="off", limits=limits)
            async with looked_at(mesh) as (proxy, look), calling(client, proxy) as caller:
                first = await caller.begin(request())
                await look.sees(1)
                second = await caller.begin(request())
                await look.sees(2)
                look.may_pass.set()
                for call in (first, second):
                    reply = await call.whole()
                    assert reply.fields["x-mesh-reason"] == "upstream_connect"

    run(go())
