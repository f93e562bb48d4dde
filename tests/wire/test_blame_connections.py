"""A connection that is lost is one failure of its endpoint, and one that was stale is none."""

from __future__ import annotations

import asyncio
from collections import Counter

import pytest

from tests.wire.blame import (
    GRPC,
    H2Turn,
    Turn,
    blamed,
    calling,
    every_endpoint,
    hosting,
    touchy,
)
from tests.wire.conftest import Run, Serve
from tests.wire.either import request
from tests.wire.h2_mesh import Mesh

IN_FLIGHT = 40
# Longer than an end may take that says that a connection was stale.
WORKED_S = 0.02


def of_one_endpoint(engine: str, port: int, failures: int) -> Mesh:
    """A mesh that reacts to so many failures of its only endpoint."""
    mesh = Mesh(engine, port).to("h2", ejection="off", circuit_breaker={"failures": failures})
    return mesh.via(retry="off")


@pytest.mark.parametrize(
    ("client", "answered"),
    [("http1", False), ("h2", False), ("h2", True)],  # a call of gRPC, whose status is to come
    ids=["http1-asked", "h2-asked", "h2-answered"],
)
@pytest.mark.parametrize("last_word", ["reset", "closed", "goaway"])
@pytest.mark.parametrize("failures", [1, 2])
def test_a_lost_connection_is_one_failure_however_many_streams_it_had(
    run: Run,
    serve: Serve,
    engine: str,
    client: str,
    last_word: str,
    answered: bool,
    failures: int,
) -> None:
    """One opens the breaker that waits for one, and not the one that waits for two."""
    turns: list[H2Turn] = []
    arrived = asyncio.Event()

    async def hold(turn: Turn) -> None:
        assert isinstance(turn, H2Turn)
        if answered:
            await turn.begin(GRPC)
        turns.append(turn)
        if len(turns) == IN_FLIGHT:
            arrived.set()

    async def go() -> None:
        async with (
            hosting("h2", hold) as host,
            serve(str(of_one_endpoint(engine, host.port, failures))) as proxy,
            calling(client, proxy) as caller,
        ):
            asked = request("POST", "/", GRPC, body=b"x") if answered else request()
            calls = [await caller.begin(asked) for _ in range(IN_FLIGHT)]
            await arrived.wait()
            for call in calls if answered else ():
                await call.head()
            await asyncio.sleep(WORKED_S)
            visit = turns[0].call.visit
            if last_word == "goaway":
                visit.send_goaway((1 << 31) - 1, 2)
            if last_word == "reset":
                visit.abort()
            else:
                visit.writer.close()
            for call in calls:
                reply = await call.whole()
                if answered:
                    assert reply.trailers["grpc-status"] == "14"
                else:
                    assert reply.fields["x-mesh-reason"] == "upstream_reset"
            assert host.connections == 1
            assert blamed(proxy) == ({"breaker"} if failures == 1 else set())

    run(go())


@pytest.mark.parametrize("client", ["http1", "h2"])
@pytest.mark.parametrize("failures", [1, 2])
def test_a_stream_that_is_stale_hides_no_failure_of_its_connection(
    run: Run, serve: Serve, engine: str, client: str, failures: int
) -> None:
    """The youngest may not have reached the endpoint, which had worked for the others."""

    async def die_at_the_last(turn: Turn) -> None:
        if turn.fields[":path"] == "/last":
            turn.die()

    async def go() -> None:
        async with (
            hosting("h2", die_at_the_last) as host,
            serve(str(of_one_endpoint(engine, host.port, failures))) as proxy,
            calling(client, proxy) as caller,
        ):
            calls = [await caller.begin(request("POST", body=b"x")) for _ in range(3)]
            await host.reached(3)
            await asyncio.sleep(WORKED_S)
            calls.append(await caller.begin(request("POST", "/last")))
            replies = await asyncio.gather(*(call.whole() for call in calls))
            reasons = Counter(reply.fields["x-mesh-reason"] for reply in replies)
            assert reasons["upstream_reset"] >= 3  # the last is stale, if all was fast
            assert blamed(proxy) == ({"breaker"} if failures == 1 else set())

    run(go())


@pytest.mark.parametrize("retry", ["on", "off"])
@pytest.mark.parametrize("method", ["GET", "POST"])
@every_endpoint
def test_what_worked_a_while_and_closed_has_perhaps_done_it(
    run: Run, serve: Serve, engine: str, endpoint: str, method: str, retry: str
) -> None:
    """On a kept connection, too: it is not stale when its end comes late."""
    asks = 0

    async def second_dies(turn: Turn) -> None:
        nonlocal asks
        await turn.read()
        asks += 1
        if asks == 2:
            await asyncio.sleep(0.1)  # it works
            return turn.die()
        return await turn.answer(b"fine")

    async def go() -> None:
        async with hosting(endpoint, second_dies) as host:
            mesh = touchy(engine, endpoint, host.port)
            mesh.upstream["endpoints"].pop()
            mesh.to(endpoint, circuit_breaker="off", ejection="off")
            if retry == "on":
                mesh.route.pop("retry")
            async with serve(str(mesh)) as proxy, calling("http1", proxy) as caller:
                assert (await caller.ask(request())).body == b"fine"
                body = b"x" if method == "POST" else b""
                reply = await caller.ask(request(method, body=body))
                if (method, retry) == ("GET", "on"):
                    assert (reply.status, asks) == (200, 3)
                else:
                    assert reply.fields["x-mesh-reason"] == "upstream_reset"
                    assert asks == 2

    run(go())
