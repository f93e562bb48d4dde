"""What layers in Python count is in the metrics, over reloads too."""

from __future__ import annotations

import asyncio
from typing import ClassVar

from meshcore import Answer, Layer, Proxy, Request
from meshcore.config.load import load_text
from meshcore.testing import Mesh
from tests.wire.client import Client
from tests.wire.conftest import Run, metric

HITS, MORE = "meshcore_layer_hits_total", "meshcore_layer_more_total"
TEXT = """\
version: 1
listeners: {{edge: {{bind: "127.0.0.1:0", layers: [{edge}]}}}}
routes:
- {{name: all, respond: {{body: hello}}, layers: [{route}]}}
"""


class Hits(Layer):
    counts: ClassVar = {"hits": "Requests that came by.", "more": "What they said."}

    def __init__(self, by: int = 1) -> None:
        self.by = by
        self.count("hits")  # not in force yet

    async def on_request(self, request: Request) -> Answer | None:
        self.count("hits", self.by)
        said = request.header("x-more")
        if said is not None:
            await asyncio.to_thread(self.count, "more", int(said))
        return None


class Others(Layer):
    counts: ClassVar = {"hits": "Other hits."}

    def on_request(self, request: Request) -> None:
        self.count("hits")


OWN, OTHERS = (f"{__name__}:{name}" for name in ("Hits", "Others"))


def text(edge: str = "", route: str = "") -> str:
    return TEXT.format(edge=edge, route=route)


def twice(by: int) -> str:
    return f'python: {{class: "{OWN}", with: {{by: {by}}}}}'


def test_it_is_counted_by_what_the_configuration_calls_a_layer(run: Run) -> None:
    async def go() -> None:
        config = load_text(text(f"python: {OWN}", f"{twice(5)}, python: given:Given"))
        layers = {"given:Given": Others()}
        async with Proxy(config, layers=layers) as proxy, Client(proxy.addresses["edge"]) as client:
            assert metric(proxy, HITS) == 0
            lines = proxy.metrics()[0].decode().splitlines()
            assert f'{MORE}{{layer="{OWN}"}} 0' in lines
            assert f"# HELP {MORE} What they said." in lines
            assert f"# TYPE {MORE} counter" in lines
            assert lines.count(f"# TYPE {HITS} counter") == 1
            for _ in range(3):
                assert (await client.get("/", "x-more: 7")).status == 200
            assert metric(proxy, HITS, layer=OWN) == 18
            assert metric(proxy, HITS, layer="given:Given") == 3
            assert metric(proxy, MORE) == 42  # of both
            told = proxy.metrics("application/openmetrics-text")[0].decode()
            assert f"# TYPE {MORE.removesuffix('_total')} counter\n" in told

    run(go())


def test_it_stays_as_long_as_the_layer_does(run: Run) -> None:
    async def go() -> None:
        config = load_text(text(f"python: {OWN}"))
        async with Proxy(config) as proxy, Client(proxy.addresses["edge"]) as client:
            await client.get()
            await proxy.reload(load_text(text(route=f"{twice(10)}, python: {OTHERS}")))
            assert metric(proxy, HITS, layer=OWN) == 1
            await client.get()
            assert metric(proxy, HITS, layer=OWN) == 11
            await proxy.reload(load_text(text(f"python: {OTHERS}")))
            assert f'layer="{OWN}"' not in proxy.metrics()[0].decode()
            await client.get()
            assert metric(proxy, HITS) == metric(proxy, HITS, layer=OTHERS) == 2
            await proxy.reload(load_text(text()))
            assert "meshcore_layer_" not in proxy.metrics()[0].decode()
            await client.get()
            await proxy.reload(load_text(text(f"python: {OWN}")))
            assert metric(proxy, HITS) == 0
            await client.get()
            assert metric(proxy, HITS) == 1

    run(go())


def test_a_request_of_a_configuration_before_counts_as_long_as_its_layer_is_named(
    run: Run,
) -> None:
    class Slow(Layer):
        counts: ClassVar = {"hits": "Slow ones."}

        def __init__(self) -> None:
            self.came, self.go = asyncio.Event(), asyncio.Event()

        async def on_request(self, request: Request) -> None:
            self.came.set()
            await self.go.wait()
            self.count("hits")

    async def go(stays: bool) -> None:
        slow = Slow()
        config = load_text(text("python: slow:Slow"))
        async with (
            Proxy(config, layers={"slow:Slow": slow}) as proxy,
            Client(proxy.addresses["edge"]) as client,
        ):
            asked = asyncio.create_task(client.get())
            await slow.came.wait()
            await proxy.reload(load_text(text(route="python: slow:Slow" if stays else "")))
            slow.go.set()
            assert (await asked).status == 200
            assert metric(proxy, HITS) == stays
            assert ("meshcore_layer_" in proxy.metrics()[0].decode()) is stays

    run(go(stays=True))
    run(go(stays=False))


def test_a_mesh_under_test_tells_what_its_layers_have_counted() -> None:
    mesh = Mesh(text(f"python: {OWN}", f"python: {OTHERS}"))
    for _ in range(2):
        assert mesh.decide("GET http://a.example/", headers={"x-more": "4"}).status == 200
    assert [mesh.counted(OWN, "hits"), mesh.counted(OTHERS, "hits")] == [2, 2]
    assert mesh.counted(OWN, "none") == 0
