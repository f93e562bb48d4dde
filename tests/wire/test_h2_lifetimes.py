"""How long connections over HTTP/2 live, and how it is found out that they do not."""

from __future__ import annotations

import asyncio

from tests.wire.conftest import Run, Serve, eventually
from tests.wire.h2_client import H2Client, RawClient
from tests.wire.h2_mesh import Mesh
from tests.wire.h2_origin import Call, H2Origin

CANCEL = 8
PING = 6


def mesh(engine: str, *ports: int) -> Mesh:
    return Mesh(engine, *ports).to("h2", circuit_breaker="off", ejection="off")


def test_an_idle_connection_is_closed_in_time(run: Run, serve: Serve, engine: str) -> None:
    async def go() -> None:
        text = str(mesh(engine, 1).to("h2", pool={"idle": "100ms"}))
        async with H2Origin(b"hi") as origin:
            text = text.replace("127.0.0.1:1", f"127.0.0.1:{origin.port}")
            async with serve(text) as proxy, H2Client(proxy.addresses["edge"]) as client:
                assert (await client.get()).body == b"hi"
                await origin.visits[0].gone()
                assert (await client.get()).body == b"hi"
                assert len(origin.visits) == 2

    run(go())


def test_without_a_pool_every_request_has_its_own_connection(
    run: Run, serve: Serve, engine: str
) -> None:
    async def go() -> None:
        async with (
            H2Origin(b"hi") as origin,
            serve(str(mesh(engine, origin.port).to("h2", pool={"idle": "0"}))) as proxy,
            H2Client(proxy.addresses["edge"]) as client,
        ):
            for _ in range(3):
                assert (await client.get()).body == b"hi"
            assert len(origin.visits) == 3

    run(go())


def test_an_old_connection_finishes_its_streams_and_takes_no_more(
    run: Run, serve: Serve, engine: str
) -> None:
    async def hold(call: Call) -> None:
        if call.path == "/slow":
            await release.wait()
        await call.answer(b"%d" % origin.visits.index(call.visit))

    release = asyncio.Event()
    origin = H2Origin(hold)

    async def go() -> None:
        async with (
            origin,
            serve(str(mesh(engine, origin.port).to("h2", pool={"lifetime": "1s"}))) as proxy,
            H2Client(proxy.addresses["edge"]) as client,
        ):
            slow = client.ask("/slow")
            await origin.reached(1)
            begun = asyncio.get_running_loop().time()
            while (await client.get("/quick")).body == b"0":
                assert asyncio.get_running_loop().time() - begun < 20
            assert len(origin.visits) == 2
            release.set()
            assert await slow.whole() == b"0"
            await origin.visits[0].gone()

    run(go())


# --- signs of life ----------------------------------------------------------------------------


def test_an_endpoint_that_is_silent_with_open_streams_is_found_dead(
    run: Run, serve: Serve, engine: str
) -> None:
    async def vanish(call: Call) -> None:
        call.visit.fall_silent()

    async def go() -> None:
        async with (
            H2Origin(vanish) as origin,
            serve(
                str(mesh(engine, origin.port).origin_h2(ping="100ms", ping_timeout="100ms"))
            ) as proxy,
            H2Client(proxy.addresses["edge"]) as client,
        ):
            stream = client.ask("/", method="POST")
            await stream.whole()
            # Sooner than the route's own time, and told as what it is.
            assert (stream.status, stream.fields["x-mesh-reason"]) == (502, "upstream_reset")

    run(go())


def test_an_endpoint_that_only_takes_its_time_is_not(run: Run, serve: Serve, engine: str) -> None:
    async def slow(call: Call) -> None:
        await call.visit.until(lambda: call.visit.frames[PING] >= 2)
        await call.answer(b"late")

    async def go() -> None:
        async with (
            H2Origin(slow) as origin,
            serve(
                str(mesh(engine, origin.port).origin_h2(ping="100ms", ping_timeout="1s"))
            ) as proxy,
            H2Client(proxy.addresses["edge"]) as client,
        ):
            assert (await client.get()).body == b"late"
            assert len(origin.visits) == 1

    run(go())


def test_a_client_that_is_silent_with_open_streams_is_found_dead(
    run: Run, serve: Serve, engine: str
) -> None:
    async def wait(call: Call) -> None:
        assert await call.reset() == CANCEL
        ended.set()

    ended = asyncio.Event()

    async def go() -> None:
        async with (
            H2Origin(wait) as origin,
            serve(
                str(mesh(engine, origin.port).client_h2(ping="100ms", ping_timeout="1s"))
            ) as proxy,
            H2Client(proxy.addresses["edge"]) as alive,
            RawClient(proxy.addresses["edge"]) as silent,
        ):
            stays = alive.ask()
            await silent.send(silent.head(1))
            await silent.ended()  # it answers no PING
            await asyncio.wait_for(ended.wait(), 3)
            await eventually(lambda: alive.frames[PING] >= 2)
            assert not alive.lost
            stays.cancel()

    run(go())
