"""What pools count: connections to endpoints, and who waits for one."""

from __future__ import annotations

import asyncio

import pytest

from meshcore._core import Engine
from meshcore.config.load import load_text
from tests.wire.blame import every_endpoint
from tests.wire.client import Client
from tests.wire.conftest import Run, Serve, eventually, metric, nobody
from tests.wire.h2_mesh import Mesh
from tests.wire.origin import Origin, response
from tests.wire.test_pending import OVERFLOW, gated, told

CONNECTED = "meshcore_upstream_connections_total"
FAILED = "meshcore_upstream_connect_failures_total"
WAITED = "meshcore_upstream_waits_total"
REFUSED = "meshcore_upstream_waits_refused_total"


@every_endpoint
def test_connections_and_waits_are_counted(
    run: Run, serve: Serve, engine: str, endpoint: str
) -> None:
    async def go() -> None:
        origin, is_open = gated(endpoint)
        caps = {"connections": 2, "pending": 0}
        async with (
            origin,
            serve(str(Mesh(engine, origin.port).to(endpoint, limits=caps))) as proxy,
        ):
            url = proxy.addresses["edge"]
            under_way = []
            for _ in range(2):
                under_way.append(asyncio.create_task(told(url)))
                await eventually(lambda: len(origin.visits) == len(under_way))
            assert await told(url) == OVERFLOW
            is_open.set()
            assert [await each for each in under_way] == [(200, None)] * 2
            assert await told(url) == (200, None)  # over one that is idle now
            counts = [metric(proxy, name) for name in (CONNECTED, FAILED, WAITED, REFUSED)]
            assert counts == [2, 0, 2, 1]

    run(go())


def test_an_endpoint_that_cannot_be_reached_is_counted(run: Run, serve: Serve) -> None:
    async def go() -> None:
        with nobody() as port:
            text = str(Mesh("native", port).via(retry="off"))
            async with serve(text) as proxy:
                assert await told(proxy.addresses["edge"]) == (502, "upstream_connect")
                assert [metric(proxy, name) for name in (CONNECTED, FAILED)] == [0, 1]

    run(go())


def test_what_is_counted_stays_over_a_reload(run: Run, serve: Serve) -> None:
    async def go() -> None:
        async with Origin(response(b"hi")) as origin:
            mesh = Mesh("native", origin.port)
            async with serve(str(mesh)) as proxy, Client(proxy.addresses["edge"]) as client:
                await client.get()
                await proxy.reload(load_text(str(mesh.to(limits={"pending": 7}))))
                await client.get()
                assert metric(proxy, CONNECTED) >= 1
                assert metric(proxy, WAITED) >= 1

    run(go())


def test_a_place_that_is_not_there_is_refused() -> None:
    engine = Engine(seed=1)
    with pytest.raises(ValueError, match="no such count"):
        engine.count(0)
    engine.count(0, upstream="gone")
