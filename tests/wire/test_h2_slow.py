"""Who is slow on purpose: heads that do not end, windows that do not open, crumbs of data."""

from __future__ import annotations

import asyncio

import pytest
from h2.settings import SettingCodes
from hyperframe.frame import ContinuationFrame, DataFrame, HeadersFrame, RstStreamFrame

from tests.wire.conftest import Run, Serve, eventually, gauges
from tests.wire.h2_client import H2Client, RawClient
from tests.wire.h2_mesh import Mesh
from tests.wire.h2_origin import Call, H2Origin
from tests.wire.origin import Origin, response


@pytest.mark.parametrize("beside", [False, True], ids=["alone", "beside-a-stream"])
def test_a_head_that_does_not_end_has_the_time_of_a_head(
    run: Run, serve: Serve, engine: str, beside: bool
) -> None:
    """docs/configuration.md, `timeouts.header`: from a head's first byte to its last."""

    async def hold(call: Call) -> None:
        await call.reset()

    async def go() -> None:
        async with H2Origin(hold) as origin:
            text = Mesh(engine, origin.port).to("h2")
            text.listen(timeouts={"header": "200ms", "idle": "30s"})
            async with serve(str(text)) as proxy, RawClient(proxy.addresses["edge"]) as raw:
                if beside:
                    await raw.send(raw.head(1))
                    await origin.reached(1)
                await raw.send(HeadersFrame(3, raw.block()))
                await raw.send(ContinuationFrame(3, b""))
                async with asyncio.timeout(3):
                    await raw.ended()

    run(go())


@pytest.mark.parametrize("size", [10, 5_000_000], ids=["small", "large"])
def test_a_stream_whose_window_stays_shut_is_reset_in_time(
    run: Run, serve: Serve, engine: str, size: int
) -> None:
    """CVE-2019-9517; by the listener's time when all is queued, else by the route's."""

    async def give(call: Call) -> None:
        await call.answer(b"x" * size)

    async def go() -> None:
        async with H2Origin(give) as origin:
            text = Mesh(engine, origin.port).to("h2").via(idle_timeout="500ms")
            text.listen(timeouts={"idle": "500ms"})
            async with (
                serve(str(text)) as proxy,
                RawClient(proxy.addresses["edge"], {4: 0}) as raw,
            ):
                await raw.send(*(raw.head(n) for n in range(1, 41, 2)))
                for stream in range(1, 41, 2):
                    assert (await raw.until(RstStreamFrame, stream)).error_code != 0
                await eventually(lambda: gauges(proxy) == {})
                async with H2Client(proxy.addresses["edge"]) as other:
                    assert len((await other.get()).body) == size

    run(go())


def test_a_body_that_stops_is_given_up_and_its_neighbour_is_not(
    run: Run, serve: Serve, engine: str
) -> None:
    """gRPC has no time of 30 s for the next byte, but its route's."""

    async def echo(call: Call) -> None:
        await call.answer(await call.whole())

    async def go() -> None:
        async with (
            H2Origin(echo) as origin,
            serve(str(Mesh(engine, origin.port).to("h2").via(idle_timeout="200ms"))) as proxy,
            H2Client(proxy.addresses["edge"]) as client,
        ):
            stops = client.ask("/", ("content-type", "application/grpc"), method="POST", end=False)
            await stops.send(b"some")
            await stops.whole()
            assert stops.fields["x-mesh-reason"] == "request_timeout"
            assert (await client.post("/", b"more")).body == b"more"

    run(go())


def test_crumbs_for_a_client_that_takes_none_do_not_cost_others_the_connection(
    run: Run, serve: Serve, engine: str
) -> None:
    """Both go over one connection to the endpoint, which sends small DATA frames to a client
    without a window: that client waits, and nobody else does."""

    async def drip(call: Call) -> None:
        if call.path == "/small":
            return await call.answer(b"small")
        call.send_head((":status", "200"))
        dripping.set()
        for _ in range(12_000):
            await call.send(b"x" * 20)
        return await call.send(b"", end=True)

    dripping = asyncio.Event()

    async def go() -> None:
        async with (
            H2Origin(drip) as origin,
            serve(str(Mesh(engine, origin.port).to("h2"))) as proxy,
            H2Client(
                proxy.addresses["edge"], settings={SettingCodes.INITIAL_WINDOW_SIZE: 1}
            ) as slow,
            H2Client(proxy.addresses["edge"]) as neighbour,
        ):
            await slow.until(lambda: slow.settled)
            held = slow.ask("/drip")
            held.credit = False
            await dripping.wait()
            for _ in range(100):
                assert (await neighbour.get("/small")).body == b"small"
            assert len(origin.visits) == 1
            # When it takes them in the end, it gets them all.
            held.credit = True
            slow.h2.update_settings({SettingCodes.INITIAL_WINDOW_SIZE: 1 << 20})
            slow.flush()
            assert await held.whole() == b"x" * 240_000

    run(go())


def test_crumbs_for_an_endpoint_that_takes_none_wait(run: Run, serve: Serve, engine: str) -> None:
    """A client that streams small messages is no attacker because its service is slow."""

    async def slow(call: Call) -> None:
        call.credit = False
        await release.wait()
        call.visit.h2.increment_flow_control_window(1 << 20, call.number)
        call.credit = True
        call.visit.flush()
        await call.answer(b"%d" % len(await call.whole()))

    release = asyncio.Event()

    async def go() -> None:
        async with (
            H2Origin(slow) as origin,
            serve(str(Mesh(engine, origin.port).to("h2"))) as proxy,
            H2Client(proxy.addresses["edge"]) as client,
        ):
            stream = client.ask("/", method="POST", end=False)
            more_than_a_window = asyncio.Event()

            async def pour() -> None:
                for crumb in range(12_000):
                    await stream.send(b"x" * 20)
                    if crumb * 20 > 100_000:
                        more_than_a_window.set()
                await stream.send(b"", end=True)

            pouring = asyncio.create_task(pour())
            await more_than_a_window.wait()
            release.set()
            await pouring
            assert await stream.whole() == b"240000"

    run(go())


def test_a_client_that_dribbles_its_request_is_served(run: Run, serve: Serve, engine: str) -> None:
    async def go() -> None:
        async with (
            Origin(response(b"hi")) as origin,
            serve(str(Mesh(engine, origin.port))) as proxy,
            RawClient(proxy.addresses["edge"]) as raw,
        ):
            data = raw.head(1).serialize() + raw.head(3).serialize()
            for byte in data:
                await raw.send(bytes([byte]))
                await asyncio.sleep(0)
            assert [await raw.status(n) for n in (1, 3)] == [200, 200]
            await raw.until(DataFrame, 3)

    run(go())
