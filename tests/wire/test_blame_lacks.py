"""What we refuse or lack is no failure of a service: limits, our own caps."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hyperframe.frame import PingFrame

from tests.wire.blame import (
    GRPC,
    Turn,
    blamed,
    calling,
    every_endpoint,
    every_way,
    hosting,
    touchy,
)
from tests.wire.conftest import Run, Serve
from tests.wire.either import request
from tests.wire.h2_origin import Call, H2Origin


@every_way
def test_a_response_with_too_many_fields_is_no_failure_of_a_service(
    run: Run, serve: Serve, engine: str, client: str, endpoint: str
) -> None:
    many = tuple((f"x-{n}", "v") for n in range(101))

    async def answer(turn: Turn) -> None:
        await turn.answer(b"x", *many)

    async def go() -> None:
        async with hosting(endpoint, answer) as host:
            mesh = touchy(engine, endpoint, host.port)
            async with serve(str(mesh)) as proxy, calling(client, proxy) as caller:
                for _ in range(6):
                    reply = await caller.ask(request())
                    assert reply.status == 502
                    assert reply.fields["x-mesh-reason"] == "response_too_large"
                assert blamed(proxy) == set()
            async with (
                serve(str(mesh.to(endpoint, limits={"headers": 110}))) as proxy,
                calling(client, proxy) as caller,
            ):
                assert (await caller.ask(request())).fields["x-100"] == "v"

    run(go())


@every_endpoint
@pytest.mark.parametrize("client", ["http1", "h2"])
def test_a_request_that_waits_too_long_for_our_own_cap_blames_nobody(
    run: Run, serve: Serve, engine: str, client: str, endpoint: str
) -> None:
    async def by_path(turn: Turn) -> None:
        if turn.fields[":path"] == "/hold":
            await turn.begin()
            return await turn.left()
        return await turn.answer(b"fine")

    async def go() -> None:
        async with hosting(endpoint, by_path) as host:
            caps = {"connections": 1, "pending": 1}
            mesh = touchy(engine, endpoint, host.port).to(endpoint, limits=caps)
            mesh.upstream["endpoints"].pop()
            mesh.origin_h2(streams=1).via(timeout="200ms", idle_timeout="60s")
            async with serve(str(mesh)) as proxy, calling(client, proxy) as caller:
                held = await caller.begin(request("GET", "/hold"))
                await held.head()
                waits = await caller.begin(request())
                refused = await caller.ask(request())
                assert (refused.status, refused.fields["x-mesh-reason"]) == (503, "overflow")
                reply = await waits.whole()
                assert (reply.status, reply.fields["x-mesh-reason"]) == (504, "queue_timeout")
                assert blamed(proxy) == set()
                held.leave()

    run(go())


def test_so_does_a_call_that_may_be_silent(run: Run, serve: Serve, engine: str) -> None:
    """It has no timeout, so it waits for as long as it may be idle."""

    async def hold(turn: Turn) -> None:
        await turn.begin()
        await turn.left()

    async def go() -> None:
        async with hosting("h2", hold) as host:
            mesh = touchy(engine, "h2", host.port).to("h2", limits={"connections": 1})
            mesh.upstream["endpoints"].pop()
            mesh.origin_h2(streams=1).via(idle_timeout="200ms")
            every: dict[str, Any] = json.loads(str(mesh))
            held_long = {
                "name": "hold",
                "match": {"path": {"exact": "/hold"}},
                "idle_timeout": "60s",
            }
            every["routes"].append(mesh.route | held_long)
            async with serve(json.dumps(every)) as proxy, calling("h2", proxy) as caller:
                held = await caller.begin(request("GET", "/hold"))
                await held.head()
                reply = await caller.ask(request("POST", "/", GRPC, body=b"\0\0\0\0\3ask"))
                assert reply.fields["x-mesh-reason"] == "queue_timeout"
                assert blamed(proxy) == set()
                held.leave()

    run(go())


@pytest.mark.parametrize("client", ["http1", "h2"])
def test_a_connection_that_we_end_for_its_frames_is_no_failure_of_a_service(
    run: Run, serve: Serve, engine: str, client: str
) -> None:
    pings = b"".join(PingFrame(0, opaque_data=bytes(8)).serialize() for _ in range(5_000))

    async def flood(call: Call) -> None:
        call.visit.send_raw(pings)

    async def go() -> None:
        async with H2Origin(flood) as origin:
            mesh = touchy(engine, "h2", origin.port)
            mesh.upstream["endpoints"].pop()
            async with serve(str(mesh)) as proxy, calling(client, proxy) as caller:
                for _ in range(3):
                    reply = await caller.ask(request())
                    assert reply.status == 502
                    assert reply.fields["x-mesh-reason"] == "response_too_large"
                assert len(origin.visits) == 3
                assert blamed(proxy) == set()

    run(go())
