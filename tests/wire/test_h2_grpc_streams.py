"""gRPC calls that last, are tried again, or are given up."""

from __future__ import annotations

import asyncio

import pytest

from tests.wire.conftest import Run, Serve, eventually, gauges, metric
from tests.wire.h2_client import H2Client
from tests.wire.h2_origin import Call, H2Origin
from tests.wire.test_h2_grpc import (
    CANCEL,
    DEADLINE,
    HEAD,
    OK,
    UNAVAILABLE,
    begin,
    ending,
    mesh,
    message,
    seconds,
    status,
    unary,
)

# --- another attempt --------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("first", "how", "when", "attempts"),
    [
        ("14", "only", ["unavailable"], 2),
        ("8", "only", ["resource-exhausted"], 2),
        ("14", "only", ["internal"], 1),
        ("14", "only", ["connect", "refused", "reset"], 1),
        ("14", "message", ["unavailable"], 1),
        ("0", "only", ["unavailable"], 1),
    ],
)
def test_a_call_is_tried_again_as_the_route_says(
    run: Run, serve: Serve, engine: str, first: str, how: str, when: list[str], attempts: int
) -> None:
    async def better(call: Call) -> None:
        done = ending(first, how) if len(origin.calls) == 1 else ending(OK, "message")
        await done(call)

    origin = H2Origin(better)

    async def go() -> None:
        retry = {"retries": 2, "when": when}
        async with (
            origin,
            serve(str(mesh(engine, origin.port).via(retry=retry))) as proxy,
            H2Client(proxy.addresses["edge"]) as client,
        ):
            stream = await unary(client, ("grpc-timeout", "5S"))
            assert len(origin.calls) == attempts
            assert status(stream) == (OK if attempts > 1 else first)
            assert metric(proxy, "meshcore_route_retries_total") == attempts - 1
            if attempts > 1:
                assert bytes(origin.calls[1].body) == message(b"ask")
                # The pause between the two is gone from what is left.
                told = [seconds(call.fields["grpc-timeout"]) for call in origin.calls]
                assert told[1] < told[0] - 0.02
                assert metric(proxy, "meshcore_route_grpc_total", status=OK) == 1

    run(go())


def test_a_call_whose_tries_are_used_up_has_the_status_of_the_last(
    run: Run, serve: Serve, engine: str
) -> None:
    async def go() -> None:
        async with (
            H2Origin(ending(UNAVAILABLE)) as origin,
            serve(
                str(mesh(engine, origin.port).via(retry={"retries": 2, "when": ["unavailable"]}))
            ) as proxy,
            H2Client(proxy.addresses["edge"]) as client,
        ):
            stream = await unary(client)
            assert (status(stream), stream.fields["grpc-message"]) == (UNAVAILABLE, "so%20it%20is")
            assert len(origin.calls) == 3
            # One call, and one failure of it, as the breaker sees it.
            assert metric(proxy, "meshcore_route_grpc_total", status=UNAVAILABLE) == 1
            for _ in range(3):
                assert "x-mesh-reason" not in (await unary(client)).fields

    run(go())


def test_a_call_goes_to_another_endpoint_when_one_is_unavailable(
    run: Run, serve: Serve, engine: str
) -> None:
    async def go() -> None:
        async with (
            H2Origin(ending(UNAVAILABLE)) as sick,
            H2Origin(ending(OK, "message")) as well,
        ):
            text = mesh(engine, sick.port, well.port).via(
                retry={"retries": 1, "when": ["unavailable"]}
            )
            text.to("h2", balance="round_robin")
            async with serve(str(text)) as proxy, H2Client(proxy.addresses["edge"]) as client:
                for _ in range(4):
                    assert status(await unary(client)) == OK
                assert sick.calls
                assert len(well.calls) == 4

    run(go())


# --- calls that last --------------------------------------------------------------------------


async def echo(call: Call) -> None:
    """Give back each piece as it comes."""
    call.send_head(*HEAD)
    at = 0
    while not (call.ended and at == len(call.body)):
        await call.until(lambda at=at: call.ended or len(call.body) > at)  # type: ignore[misc]
        piece, at = bytes(call.body[at:]), len(call.body)
        await call.send(piece)
    call.send_head(("grpc-status", OK), end=True)


def test_a_stream_of_both_sides_lasts_longer_than_the_routes_timeout(
    run: Run, serve: Serve, engine: str
) -> None:
    async def go() -> None:
        async with (
            H2Origin(echo) as origin,
            serve(str(mesh(engine, origin.port).via(timeout="100ms"))) as proxy,
            H2Client(proxy.addresses["edge"]) as client,
        ):
            clock = asyncio.get_running_loop().time
            stream = begin(client)
            begun, said = clock(), b""
            for n in range(6):
                # Each turn later than the one before: the first answers, then silence, then on.
                await eventually(lambda n=n: clock() > begun + n * 0.06)  # type: ignore[misc]
                said += message(b"turn %d" % n)
                await stream.send(message(b"turn %d" % n))
                await stream.until(lambda: bytes(stream.body) == said)  # noqa: B023
            await stream.send(b"", end=True)
            await stream.whole()
            assert status(stream) == OK
            assert clock() - begun > 0.3

    run(go())


def test_a_service_may_begin_to_answer_late(run: Run, serve: Serve, engine: str) -> None:
    async def late(call: Call) -> None:
        await call.whole()
        await release.wait()
        await ending(OK, "message")(call)

    release = asyncio.Event()

    async def go() -> None:
        async with (
            H2Origin(late) as origin,
            serve(str(mesh(engine, origin.port).via(timeout="50ms"))) as proxy,
            H2Client(proxy.addresses["edge"]) as client,
        ):
            begun = asyncio.get_running_loop().time()
            call = asyncio.create_task(unary(client))
            await eventually(lambda: asyncio.get_running_loop().time() > begun + 0.3)
            assert not call.done()
            release.set()
            assert status(await call) == OK

    run(go())


def test_a_stream_that_is_silent_for_the_idle_time_is_ended(
    run: Run, serve: Serve, engine: str
) -> None:
    async def go() -> None:
        async with (
            H2Origin(echo) as origin,
            serve(str(mesh(engine, origin.port).via(idle_timeout="200ms"))) as proxy,
            H2Client(proxy.addresses["edge"]) as client,
        ):
            stream = begin(client)
            await stream.send(message(b"once"))
            await stream.whole()
            assert stream.trailers is not None
            assert stream.trailers["grpc-status"] == DEADLINE
            assert await origin.calls[0].reset() == CANCEL
            assert not client.lost

    run(go())


@pytest.mark.parametrize("when", ["asking", "waiting", "answering"])
def test_a_call_that_is_cancelled_is_so_at_the_service(
    run: Run, serve: Serve, engine: str, when: str
) -> None:
    async def go() -> None:
        async with (
            H2Origin(echo) as origin,
            serve(str(mesh(engine, origin.port))) as proxy,
            H2Client(proxy.addresses["edge"]) as client,
        ):
            stream = begin(client)
            await origin.reached(1)
            if when != "asking":
                await stream.head()
            if when == "answering":
                await stream.send(message(b"ask"))
                await stream.until(lambda: bool(stream.body))
            stream.cancel()
            async with asyncio.timeout(1):
                assert await origin.calls[0].reset() == CANCEL
            await eventually(lambda: gauges(proxy) == {})
            # Whoever cancels says nothing against the service.
            for _ in range(6):
                begin(client).cancel()
            assert status(await unary(client)) == OK

    run(go())
