"""`limits.pending`: who waits for a connection when no more may be opened."""

from __future__ import annotations

import asyncio

import pytest

from tests.wire.blame import every_endpoint
from tests.wire.client import Client
from tests.wire.conftest import Run, Serve, eventually
from tests.wire.h2_mesh import Mesh
from tests.wire.h2_origin import H2Origin
from tests.wire.origin import Origin, response
from tests.wire.test_drain import Gate as Http1Gate
from tests.wire.test_h2_streams import MOST
from tests.wire.test_h2_streams import Gate as H2Gate

OVERFLOW = (503, "overflow")


def gated(endpoint: str) -> tuple[Origin | H2Origin, asyncio.Event]:
    """An origin that answers once it may; over HTTP/2 one stream of a connection at a time."""
    if endpoint == "h2":
        gate2 = H2Gate()
        return H2Origin(gate2, settings={MOST: 1}), gate2.open
    gate1 = Http1Gate()
    return Origin(gate1), gate1.open


async def told(url: str) -> tuple[int, str | None]:
    async with Client(url) as client:
        reply = await client.get()
        return reply.status, reply.fields.get("x-mesh-reason")


@every_endpoint
def test_none_waits_and_as_many_go_as_connections_may_be_opened(
    run: Run, serve: Serve, engine: str, endpoint: str
) -> None:
    async def go() -> None:
        origin, is_open = gated(endpoint)
        caps = {"connections": 3, "pending": 0}
        async with (
            origin,
            serve(str(Mesh(engine, origin.port).to(endpoint, limits=caps))) as proxy,
        ):
            url = proxy.addresses["edge"]
            under_way = []
            for _ in range(3):
                under_way.append(asyncio.create_task(told(url)))
                await eventually(lambda: len(origin.visits) == len(under_way))
            assert await told(url) == OVERFLOW
            is_open.set()
            assert [await each for each in under_way] == [(200, None)] * 3
            assert await told(url) == (200, None)  # over one that is idle now

    run(go())


def test_a_burst_that_finds_no_connection_goes_all_the_same(run: Run, serve: Serve) -> None:
    async def go() -> None:
        async with Origin(response(b"hi")) as origin:
            text = str(Mesh("native", origin.port).to(limits={"pending": 0}))
            async with serve(text) as proxy:
                url = proxy.addresses["edge"]
                found = await asyncio.gather(*(told(url) for _ in range(20)))
                assert found == [(200, None)] * 20

    run(go())


@every_endpoint
def test_an_idle_connection_to_another_endpoint_yields_to_who_may_not_wait(
    run: Run, serve: Serve, engine: str, endpoint: str
) -> None:
    """A host at two addresses in turn, with one connection for both."""

    async def go() -> None:
        origin, is_open = gated(endpoint)
        is_open.set()
        origin.address = "0.0.0.0"
        async with origin:
            mesh = (
                Mesh(engine)
                .via(retry="off")
                .to(endpoint, balance="round_robin", limits={"connections": 1, "pending": 0})
            )
            mesh.upstream["endpoints"] = [f"127.0.0.{n}:{origin.port}" for n in (1, 2)]
            async with serve(str(mesh)) as proxy:
                url = proxy.addresses["edge"]
                assert [await told(url) for _ in range(4)] == [(200, None)] * 4

    run(go())


@pytest.mark.parametrize("pending", [0, 1])
def test_as_many_wait_as_may(run: Run, serve: Serve, pending: int) -> None:
    async def go() -> None:
        origin, is_open = gated("http1")
        caps = {"connections": 1, "pending": pending}
        async with (
            origin,
            serve(str(Mesh("native", origin.port).to(limits=caps))) as proxy,
        ):
            url = proxy.addresses["edge"]
            first = asyncio.create_task(told(url))
            await eventually(lambda: len(origin.visits) == 1)
            others = [asyncio.create_task(told(url)) for _ in range(3)]
            await eventually(lambda: sum(each.done() for each in others) == 3 - pending)
            is_open.set()
            found = sorted([await each for each in others])
            assert found == [(200, None)] * pending + [OVERFLOW] * (3 - pending)
            assert await first == (200, None)

    run(go())
