"""One endpoint is not the upstream: one that is dead shuts nobody out, all of them do."""

from __future__ import annotations

import asyncio
from collections import Counter
from contextlib import ExitStack

from tests.wire.blame import (
    Handle,
    Turn,
    blamed,
    calling,
    every_way,
    hosting,
)
from tests.wire.conftest import Run, Serve, eventually, metric, nobody
from tests.wire.either import request
from tests.wire.h2_mesh import Mesh

IN_FLIGHT = 40
# Longer than an end may take that says that a connection was stale.
WORKED_S = 0.02


async def fine(turn: Turn) -> None:
    await turn.read()
    await turn.answer(b"fine")


@every_way
def test_one_endpoint_that_dies_with_much_in_flight_shuts_nobody_out(
    run: Run, serve: Serve, engine: str, client: str, endpoint: str
) -> None:
    """With everything as it is by default."""

    async def until_it_dies(turn: Turn) -> None:
        if turn.fields[":method"] == "GET":
            return await turn.answer(b"fine")
        await dies.wait()
        return turn.die()

    dies = asyncio.Event()

    async def go() -> None:
        async with hosting(endpoint, until_it_dies) as one, hosting(endpoint, fine) as other:
            mesh = Mesh(engine, one.port, other.port).to(endpoint, balance="round_robin")
            async with serve(str(mesh)) as proxy, calling(client, proxy) as caller:
                post = request("POST", body=b"x")
                calls = [await caller.begin(post) for _ in range(2 * IN_FLIGHT)]
                await asyncio.gather(one.reached(IN_FLIGHT), other.reached(IN_FLIGHT))
                assert one.connections == (1 if endpoint == "h2" else IN_FLIGHT)
                await asyncio.sleep(WORKED_S)
                dies.set()
                replies = await asyncio.gather(*(call.whole() for call in calls))
                reasons = Counter(reply.fields.get("x-mesh-reason", "") for reply in replies)
                assert reasons == {"upstream_reset": IN_FLIGHT, "": IN_FLIGHT}
                await one.origin.__aexit__(None, None, None)  # nobody is there any more
                for _ in range(20):
                    assert (await caller.ask(request())).body == b"fine"
                assert "breaker" not in blamed(proxy)

    run(go())


@every_way
def test_when_all_endpoints_are_dead_the_breaker_opens_as_soon_as_that_is_known(
    run: Run, serve: Serve, engine: str, client: str, endpoint: str
) -> None:
    async def go() -> None:
        with ExitStack() as stack:
            dead = [stack.enter_context(nobody()) for _ in range(3)]
            keys = {"circuit_breaker": {"failures": 3}, "ejection": "off"}
            mesh = Mesh(engine, *dead).to(endpoint, balance="round_robin", **keys).via(retry="off")
            async with serve(str(mesh)) as proxy, calling(client, proxy) as caller:
                reasons = [(await caller.ask(request())).fields["x-mesh-reason"] for _ in range(4)]
                assert reasons == ["upstream_connect"] * 3 + ["breaker_open"]

    run(go())


@every_way
def test_failures_of_an_ejected_endpoint_do_not_count(
    run: Run, serve: Serve, engine: str, client: str, endpoint: str
) -> None:
    """What it held when it was ejected fails later, one by one."""
    most = 5
    held: dict[str, list[Turn]] = {"one": [], "other": []}

    def holding(name: str) -> Handle:
        async def handle(turn: Turn) -> None:
            await turn.read()
            if turn.fields[":method"] == "GET":
                return await turn.answer(b"fine")
            held[name].append(turn)
            return await turn.left()

        return handle

    async def go() -> None:
        keys = {"circuit_breaker": {"failures": most}, "ejection": {"failures": most}}
        async with (
            hosting(endpoint, holding("one")) as one,
            hosting(endpoint, holding("other")) as other,
        ):
            mesh = Mesh(engine, one.port, other.port).via(retry="off")
            mesh.to(endpoint, balance="round_robin", **keys)
            async with serve(str(mesh)) as proxy, calling(client, proxy) as caller:
                for _ in range(4 * most):
                    await caller.begin(request("POST", body=b"x"))
                await eventually(lambda: [len(x) for x in held.values()] == [2 * most, 2 * most])

                async def fail(name: str, count: int) -> None:
                    left = metric(proxy, "meshcore_upstream_requests") - count
                    for turn in held[name][:count]:
                        turn.reset()
                    del held[name][:count]
                    await eventually(lambda: metric(proxy, "meshcore_upstream_requests") == left)

                await fail("one", most)
                assert blamed(proxy) == {"endpoint"}
                assert (await caller.ask(request())).body == b"fine"  # the row is ended
                await fail("one", most)
                await fail("other", 1)
                assert blamed(proxy) == {"endpoint"}
                await fail("other", most - 1)  # those of one that is not ejected do
                assert blamed(proxy) == {"endpoint", "breaker"}
                await fail("other", most)

    run(go())
