"""Probes of a half-open breaker: who may have one, and what it is good for."""

from __future__ import annotations

import asyncio

import pytest

from meshcore import Layer, Proxy, Request
from meshcore.config.load import load_text
from tests.wire.blame import GRPC, Turn, blamed, calling, every_way, hosting
from tests.wire.conftest import Run, eventually, metric
from tests.wire.either import request
from tests.wire.h2_mesh import Mesh

RULES = {"failures": 1, "failure_percent": 0, "open_for": "10ms", "max_open_for": "10ms"}


async def half_open(proxy: Proxy) -> None:
    """Wait until the breaker lets probes through."""
    await eventually(lambda: metric(proxy, "meshcore_breaker_state") == 1)


def length(size: int) -> tuple[str, str]:
    return ("content-length", str(size))


@every_way
@pytest.mark.parametrize("place", ["route", "upstream"])
def test_a_small_body_is_no_slow_upload_to_a_breaker(
    run: Run, engine: str, client: str, endpoint: str, place: str
) -> None:
    async def answer(turn: Turn) -> None:
        if turn.fields[":path"] == "/die":
            turn.die()
            return
        await turn.read()
        await turn.answer(b"fine")

    async def go() -> None:
        rules = RULES | {"successes": 1}
        async with hosting(endpoint, answer) as host:
            mesh = Mesh(engine, host.port).via(retry="off").to(endpoint)
            if place == "route":
                mesh.via(layers=[{"circuit_breaker": rules}])
            else:
                mesh.to(endpoint, circuit_breaker=rules)
            async with Proxy(load_text(str(mesh))) as proxy, calling(client, proxy) as caller:
                await caller.ask(request("GET", "/die"))
                await half_open(proxy)
                upload = await caller.begin(request("POST", "/", length(1 << 20)), end=False)
                await upload.send(b"x")
                await host.reached(2)
                other = await caller.begin(request("POST", "/", length(1 << 20)), end=False)
                assert (await other.head())["x-mesh-reason"] == "breaker_open", "one at a time"
                small = await caller.begin(request("POST", "/", length(5)), end=False)
                await asyncio.sleep(0.02)  # as the field does
                await small.send(b"hello", end=True)
                assert (await small.whole()).status == 200
                assert blamed(proxy) == set(), "it was a probe, and the service is well"
                upload.leave()

    run(go())


class Auth(Layer):
    """Asks somebody whether a request may pass."""

    def __init__(self) -> None:
        self.asked = 0
        self.may_pass = asyncio.Event()

    async def on_request(self, request: Request) -> None:
        self.asked += 1
        await self.may_pass.wait()


@pytest.mark.parametrize(
    ("client", "what"), [("h2", "call"), ("h2", "upload"), ("http1", "upload")]
)
def test_a_request_whose_layers_take_long_is_a_probe_all_the_same(
    run: Run, engine: str, client: str, what: str
) -> None:
    timeout_s = 0.4

    async def answer(turn: Turn) -> None:
        if turn.fields[":path"] == "/die":
            turn.die()
            return
        await turn.read()
        await asyncio.sleep(timeout_s / 8)
        await turn.begin(*fields)
        await turn.say(b"\0\0\0\0\0")
        await turn.end(("grpc-status", "0"))

    fields = [GRPC] if what == "call" else []

    async def go() -> None:
        auth = Auth()
        auth.may_pass.set()
        async with hosting("h2", answer) as host:
            mesh = Mesh(engine, host.port).to("h2", circuit_breaker=RULES | {"successes": 1})
            mesh.via(retry="off", timeout=f"{timeout_s}s", layers=[{"python": "a:Auth"}])
            async with (
                Proxy(load_text(str(mesh)), layers={"a:Auth": auth}) as proxy,
                calling(client, proxy) as caller,
            ):
                await caller.ask(request("GET", "/die"))
                await half_open(proxy)
                auth.may_pass.clear()
                asked = await caller.begin(request("POST", "/s/m", *fields), end=what == "call")
                await eventually(lambda: auth.asked == 2)
                await asyncio.sleep(timeout_s)  # its layer's time
                auth.may_pass.set()
                await host.reached(2)
                if what == "upload":
                    await asyncio.sleep(timeout_s / 8)  # the deadlines are looked at meanwhile
                    await asked.send(b"", end=True)
                assert (await asked.whole()).status == 200
                assert blamed(proxy) == set(), "it has closed the breaker"

    run(go())


@every_way
def test_what_a_breaker_refuses_behind_a_layer_is_not_charged_to_limits_behind_it(
    run: Run, engine: str, client: str, endpoint: str
) -> None:
    requests, burst = 5, 7

    async def answer(turn: Turn) -> None:
        if turn.fields[":path"] == "/die":
            turn.die()
            return
        await may_answer.wait()
        await turn.answer(b"fine")

    may_answer = asyncio.Event()

    async def go() -> None:
        auth = Auth()
        auth.may_pass.set()
        limit = {"client_limit": {"rate": f"{burst}/h", "burst": burst}}
        layers = [{"circuit_breaker": RULES | {"successes": 1}}, limit, {"python": "a:Auth"}]
        async with hosting(endpoint, answer) as host:
            mesh = Mesh(engine, host.port).to(endpoint).via(retry="off", layers=layers)
            async with (
                Proxy(load_text(str(mesh)), layers={"a:Auth": auth}) as proxy,
                calling(client, proxy) as caller,
            ):
                await caller.ask(request("GET", "/die"))
                await half_open(proxy)
                auth.may_pass.clear()
                calls = [await caller.begin(request()) for _ in range(requests)]
                await eventually(lambda: auth.asked == 1 + requests)
                auth.may_pass.set()
                await host.reached(2)
                refused = "meshcore_local_answers_total"
                await eventually(
                    lambda: metric(proxy, refused, reason="breaker_open") == requests - 1
                )
                may_answer.set()
                assert [(await call.whole()).status for call in calls].count(200) == 1
                # Two of seven were charged: the one that failed, and the probe.
                replies = [(await caller.ask(request())).status for _ in range(burst - 1)]
                assert replies == [200] * (burst - 2) + [429]

    run(go())
