"""What one endpoint does wrong, or one client, costs nobody else on their connection."""

from __future__ import annotations

import asyncio
from collections import Counter

import pytest
from h2.settings import SettingCodes
from hyperframe.frame import DataFrame, Frame, HeadersFrame

from tests.wire.conftest import Run, Serve
from tests.wire.h2_client import H2Client
from tests.wire.h2_mesh import Mesh
from tests.wire.h2_origin import Call, H2Origin, H2Visit
from tests.wire.h2_peer import Stream

QUIET = {"circuit_breaker": "off", "ejection": "off"}
# `:status: 200` by the static table.
OK = b"\x88"


def mesh(engine: str, *ports: int, **keys: object) -> Mesh:
    return Mesh(engine, *ports).to("h2", **QUIET, **keys)


def wrong(kind: str, number: int) -> Frame:
    """A frame that no stream may have behind its END_STREAM."""
    if kind == "data":
        return DataFrame(number, b"more")
    return HeadersFrame(number, OK, flags=["END_HEADERS"])


@pytest.mark.parametrize("kind", ["data", "head"])
@pytest.mark.parametrize("at_once", [True, False])
@pytest.mark.parametrize("method", ["GET", "POST"])
def test_a_whole_response_is_one_whatever_comes_behind(
    run: Run, serve: Serve, engine: str, kind: str, at_once: bool, method: str
) -> None:
    held = asyncio.Event()

    async def answer(call: Call) -> None:
        if call.path == "/other":
            await held.wait()
            return await call.answer(b"fine")
        if method == "POST":
            await call.head()
        visit, number = call.visit, call.number
        whole = HeadersFrame(number, OK, flags=["END_HEADERS"]).serialize()
        whole += DataFrame(number, b"all", flags=["END_STREAM"]).serialize()
        late = wrong(kind, number).serialize()
        visit.send_raw(whole + late if at_once else whole)
        if not at_once:
            await visit.round_trip()
            visit.send_raw(late)
        return None

    async def go() -> None:
        async with (
            H2Origin(answer) as origin,
            serve(str(mesh(engine, origin.port))) as proxy,
            H2Client(proxy.addresses["edge"]) as client,
        ):
            other = client.ask("/other")
            await origin.reached(1)
            stream = client.ask("/", method=method, end=method == "GET")
            assert (await stream.whole(), stream.status) == (b"all", 200)
            held.set()
            assert (await other.whole(), other.status) == (b"fine", 200)
            assert len(origin.visits) == 1

    run(go())


def test_a_request_larger_than_the_endpoint_takes_is_431(
    run: Run, serve: Serve, engine: str
) -> None:
    async def go() -> None:
        settings = {SettingCodes.MAX_HEADER_LIST_SIZE: 1_000}
        async with (
            H2Origin(b"fine", settings=settings) as origin,
            serve(str(mesh(engine, origin.port))) as proxy,
            H2Client(proxy.addresses["edge"]) as client,
        ):
            assert (await client.get("/")).status == 200
            large = await client.get("/", ("x-key", "v" * 900))
            assert (large.status, large.fields["x-mesh-reason"]) == (431, "headers_too_large")
            assert (await client.get("/")).status == 200
            assert (len(origin.visits), len(origin.calls)) == (1, 2)

    run(go())


def test_a_response_larger_than_we_take_costs_its_stream(
    run: Run, serve: Serve, engine: str
) -> None:
    held = asyncio.Event()

    async def answer(call: Call) -> None:
        if call.path == "/other":
            await held.wait()
            return await call.answer(b"fine")
        # What the origin's package sends goes into no table of the proxy's if it is so long.
        return await call.answer(b"", ("x-key", "v" * 20_000))

    async def go() -> None:
        limits = {"header_bytes": "2KiB", "headers": 50}
        async with (
            H2Origin(answer) as origin,
            serve(str(mesh(engine, origin.port, limits=limits))) as proxy,
            H2Client(proxy.addresses["edge"]) as client,
        ):
            other = client.ask("/other")
            await origin.reached(1)
            assert (await client.get("/")).status == 502
            held.set()
            assert (await other.whole(), other.status) == (b"fine", 200)
            assert len(origin.visits) == 1

    run(go())


def test_an_endpoint_never_hears_too_many_resets(run: Run, serve: Serve, engine: str) -> None:
    """Netty, and grpc-java, end a connection for more than 200 in 30 s."""
    resets: Counter[H2Visit] = Counter()
    told: asyncio.Queue[H2Visit] = asyncio.Queue()

    async def hold(call: Call) -> None:
        await call.reset()
        told.put_nowait(call.visit)

    async def go() -> None:
        async with (
            H2Origin(hold) as origin,
            serve(str(mesh(engine, origin.port))) as proxy,
            H2Client(proxy.addresses["edge"]) as one,
            H2Client(proxy.addresses["edge"]) as another,
        ):
            for turn in range(23):
                # Of one alone the proxy would not take so many.
                client = another if turn % 2 else one
                streams: list[Stream] = [client.ask("/") for _ in range(10)]
                await origin.reached(10 * (turn + 1))
                for stream in streams:
                    stream.cancel()
                async with asyncio.timeout(10):
                    resets.update([await told.get() for _ in streams])
            assert resets.total() == 230
            assert max(resets.values()) <= 190

    run(go())
