"""Many streams at a time: how they share connections, and how little they share otherwise."""

from __future__ import annotations

import asyncio
from collections import Counter

import pytest
from h2.settings import SettingCodes

from tests.wire.conftest import Run, Serve, eventually, gauges, metric
from tests.wire.h2_client import H2Client
from tests.wire.h2_mesh import Mesh
from tests.wire.h2_origin import Call, H2Origin, H2Visit
from tests.wire.h2_peer import ResetError
from tests.wire.origin import Origin, Visit, response

REFUSED, CANCEL = 7, 8
MOST = SettingCodes.MAX_CONCURRENT_STREAMS


class Gate:
    """A handler that answers with the path, once the gate is open."""

    def __init__(self) -> None:
        self.open = asyncio.Event()

    async def __call__(self, call: Call) -> None:
        await call.whole()
        await self.open.wait()
        await call.answer(call.path.encode())


def most_open(origin: H2Origin) -> list[int]:
    """Streams of each connection to the origin."""
    return [len(visit.streams) for visit in origin.visits]


def test_many_streams_share_few_connections(run: Run, serve: Serve, engine: str) -> None:
    async def go() -> None:
        gate = Gate()
        async with (
            H2Origin(gate) as origin,
            serve(str(Mesh(engine, origin.port).to("h2").via(timeout="100s"))) as proxy,
            H2Client(proxy.addresses["edge"]) as one,
            H2Client(proxy.addresses["edge"]) as two,
            H2Client(proxy.addresses["edge"]) as three,
        ):
            asked = [
                (client.ask(f"/{n}"), f"/{n}") for n, client in enumerate([one, two, three] * 90)
            ]
            await origin.reached(len(asked))
            assert len(origin.visits) <= 4
            assert max(most_open(origin)) <= 100
            gate.open.set()
            for stream, path in asked:
                assert await stream.whole() == path.encode()
            # They are kept, and all of them are used again.
            assert (await one.get("/again")).body == b"/again"
            assert len(origin.visits) <= 4

    run(go())


def test_streams_over_http1_have_a_connection_each(run: Run, serve: Serve, engine: str) -> None:
    async def go() -> None:
        open_now = asyncio.Semaphore(0)
        release = asyncio.Event()

        async def hold(visit: Visit) -> None:
            while True:
                path = (await visit.head()).split()[1]
                open_now.release()
                await release.wait()
                await visit.send(response(path))

        async with (
            Origin(hold) as origin,
            serve(str(Mesh(engine, origin.port))) as proxy,
            H2Client(proxy.addresses["edge"]) as client,
        ):
            asked = [client.ask(f"/{n}") for n in range(50)]
            for _ in asked:
                await open_now.acquire()
            assert len(origin.visits) == 50
            release.set()
            assert [await x.whole() for x in asked] == [b"/%d" % n for n in range(50)]

    run(go())


@pytest.mark.parametrize("by", ["endpoint", "configuration"])
def test_what_takes_few_streams_has_more_connections(
    run: Run, serve: Serve, engine: str, by: str
) -> None:
    async def go() -> None:
        gate = Gate()
        settings = {MOST: 10} if by == "endpoint" else None
        async with H2Origin(gate, settings=settings) as origin:
            text = Mesh(engine, origin.port).to("h2")
            if by == "configuration":
                text.origin_h2(streams=10)
            async with serve(str(text)) as proxy, H2Client(proxy.addresses["edge"]) as client:
                first = client.ask("/first")
                await origin.reached(1)
                await origin.visits[0].until(lambda: origin.visits[0].settled)
                asked = [client.ask(f"/{n}") for n in range(59)]
                await origin.reached(60)
                assert max(most_open(origin)) <= 10
                assert len(origin.visits) <= 8
                gate.open.set()
                for stream in (first, *asked):
                    await stream.whole()
                    assert stream.status == 200

    run(go())


def test_streams_beyond_what_an_unknown_endpoint_takes_are_not_lost(
    run: Run, serve: Serve, engine: str
) -> None:
    """All come before its SETTINGS are known; it refuses what it does not take."""

    async def few(call: Call) -> None:
        taken = holding[call.visit]
        if taken == 10:
            call.cancel(REFUSED)
            return
        holding[call.visit] += 1
        await origin.reached(40)
        holding[call.visit] -= 1
        await call.answer(b"ok")

    holding: Counter[H2Visit] = Counter()
    origin = H2Origin(few, settings={MOST: 10})

    async def go() -> None:
        async with (
            origin,
            serve(str(Mesh(engine, origin.port).to("h2"))) as proxy,
            H2Client(proxy.addresses["edge"]) as client,
        ):
            asked = [client.ask(f"/{n}") for n in range(40)]
            for stream in asked:
                await stream.whole()
            assert [x.status for x in asked] == [200] * 40

    run(go())


def test_an_endpoint_may_change_how_many_streams_it_takes(
    run: Run, serve: Serve, engine: str
) -> None:
    async def go() -> None:
        gate = Gate()
        async with (
            H2Origin(gate, settings={MOST: 1}) as origin,
            serve(str(Mesh(engine, origin.port).to("h2", limits={"connections": 1}))) as proxy,
            H2Client(proxy.addresses["edge"]) as client,
        ):
            first = client.ask("/first")
            await origin.reached(1)
            waiting = [client.ask(f"/{n}") for n in range(4)]
            await eventually(lambda: sum(gauges(proxy).values()) >= 5)
            assert len(origin.calls) == 1
            origin.visits[0].allow_streams(5)
            await origin.reached(5)
            gate.open.set()
            for stream in (first, *waiting):
                await stream.whole()
            assert len(origin.visits) == 1

    run(go())


def test_streams_wait_for_a_place_when_no_more_connections_may_be_opened(
    run: Run, serve: Serve, engine: str
) -> None:
    async def go() -> None:
        async with (
            H2Origin(b"hi", settings={MOST: 2}) as origin,
            serve(str(Mesh(engine, origin.port).to("h2", limits={"connections": 1}))) as proxy,
            H2Client(proxy.addresses["edge"]) as client,
        ):
            assert (await client.get()).status == 200
            asked = [client.ask() for _ in range(60)]
            assert [await x.whole() for x in asked] == [b"hi"] * 60
            assert len(origin.visits) == 1

    run(go())


def test_more_streams_wait_than_may_is_overflow(run: Run, serve: Serve, engine: str) -> None:
    async def go() -> None:
        gate = Gate()
        limits = {"connections": 1, "pending": 1}
        async with (
            H2Origin(gate, settings={MOST: 1}) as origin,
            serve(str(Mesh(engine, origin.port).to("h2", limits=limits))) as proxy,
            H2Client(proxy.addresses["edge"]) as client,
        ):
            first = client.ask()
            await origin.reached(1)
            second, third = client.ask(), client.ask()
            await third.whole()
            assert (third.status, third.fields["x-mesh-reason"]) == (503, "overflow")
            gate.open.set()
            await first.whole()
            await second.whole()
            assert second.status == 200

    run(go())


# --- leaving ----------------------------------------------------------------------------------


def test_a_stream_that_is_cancelled_ends_its_connection_to_an_endpoint_of_http1(
    run: Run, serve: Serve, engine: str
) -> None:
    left = asyncio.Event()

    async def wait(visit: Visit) -> None:
        if b"/stay" in await visit.head():
            await left.wait()
            await visit.send(response(b"stayed"))
        assert await visit.reader.read() == b""
        left.set()

    async def go() -> None:
        async with (
            Origin(wait) as origin,
            serve(str(Mesh(engine, origin.port))) as proxy,
            H2Client(proxy.addresses["edge"]) as client,
        ):
            going, staying = client.ask("/go"), client.ask("/stay")
            await eventually(lambda: origin.seen.count(b"\r\n\r\n") == 2)
            going.cancel()
            assert await staying.whole() == b"stayed"
            assert left.is_set()
            await eventually(lambda: metric(proxy, "meshcore_route_cancelled_total") == 1)

    run(go())


@pytest.mark.parametrize("when", ["waiting", "body", "request"])
def test_a_stream_that_is_cancelled_is_reset_at_the_endpoint(
    run: Run, serve: Serve, engine: str, when: str
) -> None:
    codes: dict[str, int] = {}

    async def serve_call(call: Call) -> None:
        if call.path == "/stay":
            await call.whole()
            await stay.wait()
            await call.answer(b"stayed")
        if when == "body":
            call.send_head((":status", "200"))
            await call.send(b"some")
        codes[call.path] = await call.reset()
        stay.set()

    stay = asyncio.Event()

    async def go() -> None:
        async with (
            H2Origin(serve_call) as origin,
            serve(str(Mesh(engine, origin.port).to("h2"))) as proxy,
            H2Client(proxy.addresses["edge"]) as client,
        ):
            going = client.ask("/go", method="POST", end=when != "request")
            staying = client.ask("/stay")
            await origin.reached(2)
            if when == "body":
                await going.until(lambda: bool(going.body))
            going.cancel()
            assert await staying.whole() == b"stayed"
            assert codes == {"/go": CANCEL}
            assert len(origin.visits) == 1
            # Nothing is owed to the stream that left: the connection goes on.
            assert (await client.get("/stay")).body == b"stayed"

    run(go())


def test_a_client_that_is_lost_takes_all_its_streams_with_it(
    run: Run, serve: Serve, engine: str
) -> None:
    ended: list[int] = []

    async def wait(call: Call) -> None:
        ended.append(await call.reset())

    async def go() -> None:
        async with (
            H2Origin(wait) as origin,
            serve(str(Mesh(engine, origin.port).to("h2"))) as proxy,
            H2Client(proxy.addresses["edge"]) as other,
        ):
            async with H2Client(proxy.addresses["edge"]) as client:
                for n in range(50):
                    client.ask(f"/{n}")
                stays = other.ask("/stays")
                await origin.reached(51)
            await eventually(lambda: len(ended) == 50)
            assert set(ended) == {CANCEL}
            assert not other.lost
            stays.cancel()
            await eventually(lambda: gauges(proxy) == {})

    run(go())


def test_a_request_that_is_answered_early_is_stopped_and_its_neighbour_goes_on(
    run: Run, serve: Serve, engine: str
) -> None:
    """RFC 9113 §8.1: the answer is whole, and NO_ERROR says that the rest is not wanted."""

    async def early(call: Call) -> None:
        if call.path == "/early":
            await call.answer(b"no", status=403)
        else:
            await call.whole()
            await call.answer(b"%d" % len(call.body))

    async def go() -> None:
        async with (
            H2Origin(early) as origin,
            serve(str(Mesh(engine, origin.port).to("h2"))) as proxy,
            H2Client(proxy.addresses["edge"]) as client,
        ):
            neighbour = client.ask("/late", method="POST", end=False)
            stream = client.ask("/early", method="POST", end=False)
            await stream.send(b"x" * 1000)
            assert await stream.whole() == b"no"
            assert await stream.reset() == 0
            await neighbour.send(b"y" * 300_000, end=True)
            assert await neighbour.whole() == b"300000"

    run(go())


def test_a_stream_reset_by_the_endpoint_is_not_a_whole_response(
    run: Run, serve: Serve, engine: str
) -> None:
    async def torn(call: Call) -> None:
        call.send_head((":status", "200"), ("content-length", "10"))
        await call.send(b"hello")
        await asked.wait()
        call.cancel(2)

    asked = asyncio.Event()

    async def go() -> None:
        async with (
            H2Origin(torn) as origin,
            serve(str(Mesh(engine, origin.port).to("h2"))) as proxy,
            H2Client(proxy.addresses["edge"]) as client,
        ):
            stream = client.ask()
            await stream.until(lambda: bool(stream.body))
            asked.set()
            with pytest.raises(ResetError):
                await stream.whole()
            assert not client.lost

    run(go())
