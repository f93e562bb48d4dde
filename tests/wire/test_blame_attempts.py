"""When an attempt that failed is followed by another, and how long each has."""

from __future__ import annotations

import asyncio

import pytest

from meshcore.exchange.exchange import Exchange
from meshcore.process.worker import Worker
from tests.wire.blame import (
    Turn,
    blamed,
    calling,
    every_way,
    hosting,
    touchy,
)
from tests.wire.conftest import Run, Serve, metric, nobody
from tests.wire.either import request
from tests.wire.h2_mesh import Mesh


async def fine(turn: Turn) -> None:
    await turn.read()
    await turn.answer(b"fine")


@every_way
def test_the_first_retry_elsewhere_does_not_wait_nor_take_a_turn(
    run: Run,
    serve: Serve,
    engine: str,
    client: str,
    endpoint: str,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    asks, later = 24, Worker.later
    pauses: list[int] = []

    def noted(worker: Worker, delay_ns: int, exchange: Exchange, attempt: int) -> None:
        pauses.append(delay_ns)
        later(worker, delay_ns, exchange, attempt)

    monkeypatch.setattr(Worker, "later", noted)

    async def go() -> None:
        with nobody() as dead:
            async with hosting(endpoint, fine) as host:
                quiet = {"circuit_breaker": "off", "ejection": "off"}
                mesh = Mesh(engine, dead, host.port).to(endpoint, balance="round_robin", **quiet)
                async with serve(str(mesh)) as proxy, calling(client, proxy) as caller:
                    assert (await caller.ask(request())).status == 200
                    retried = []
                    for _ in range(asks):
                        before = metric(proxy, "meshcore_route_retries_total")
                        assert (await caller.ask(request())).body == b"fine"
                        retried.append(metric(proxy, "meshcore_route_retries_total") - before)
                    # The turns of first attempts alternate: a retry took none.
                    assert retried in ([0, 1] * (asks // 2), [1, 0] * (asks // 2))
                    assert pauses == []

    run(go())


@every_way
def test_an_attempt_that_takes_too_long_is_tried_at_another_endpoint(
    run: Run, serve: Serve, engine: str, client: str, endpoint: str
) -> None:
    async def hang(turn: Turn) -> None:
        await turn.left()
        left.set()

    left = asyncio.Event()

    async def go() -> None:
        async with hosting(endpoint, hang) as one, hosting(endpoint, fine) as other:
            retry = {"retries": 1, "when": ["connect"], "per_try": "500ms"}
            mesh = touchy(engine, endpoint, one.port, other.port).via(retry=retry, timeout="20s")
            mesh.upstream["endpoints"] = mesh.upstream["endpoints"][::2]
            async with serve(str(mesh)) as proxy, calling(client, proxy) as caller:
                for _ in range(2):
                    assert (await caller.ask(request())).body == b"fine"
                await left.wait()
                assert metric(proxy, "meshcore_route_retries_total") == 1
                assert blamed(proxy) == {"endpoint"}  # its own time it had
                assert len(one.turns) == 1

    run(go())


@every_way
def test_an_attempt_that_takes_too_long_and_may_not_be_repeated_is_the_answer(
    run: Run, serve: Serve, engine: str, client: str, endpoint: str
) -> None:
    async def hang(turn: Turn) -> None:
        await turn.left()

    async def go() -> None:
        async with hosting(endpoint, hang) as host:
            retry = {"retries": 1, "when": ["connect"], "per_try": "100ms"}
            mesh = touchy(engine, endpoint, host.port).via(retry=retry, timeout="20s")
            async with serve(str(mesh)) as proxy, calling(client, proxy) as caller:
                reply = await caller.ask(request("POST", body=b"x"))
                assert reply.status == 504
                assert reply.fields["x-mesh-reason"] == "upstream_try_timeout"
                assert len(host.turns) == 1

    run(go())
