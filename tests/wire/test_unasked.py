"""What an endpoint says that nobody asked for is never another client's answer."""

from __future__ import annotations

import asyncio

import pytest

from meshcore import Layer, Proxy, Request, Response
from meshcore.config.load import load_text
from tests.wire.client import Client
from tests.wire.conftest import Certificates, Run, gauges
from tests.wire.origin import Origin, Visit, response
from tests.wire.test_forward import mesh

LAYERS = "layers: [{python: 'test:Looking'}]"


class Looking(Layer):
    """Looks at the first response until the endpoint has said more."""

    def __init__(self) -> None:
        self.looks = asyncio.Event()
        self.said = asyncio.Event()

    async def on_response(self, request: Request, response: Response) -> None:
        self.looks.set()
        await self.said.wait()


@pytest.mark.parametrize("then", ["next", "queued"])
@pytest.mark.parametrize("secure", [False, True], ids=["plain", "tls"])
@pytest.mark.parametrize(
    "more", [response(b"stolen"), b"HTTP/1.1 200 O", b""], ids=["answer", "part", "end"]
)
def test_nothing_is_taken_for_the_next_answer(
    run: Run, certificates: Certificates, more: bytes, secure: bool, then: str
) -> None:
    """``more`` waits behind a response that a layer still looks at: nobody reads it meanwhile."""
    layer = Looking()

    async def visit(visit: Visit) -> None:
        await visit.head()
        await visit.send(response(b"one" if len(origin.visits) == 1 else b"two"))
        await layer.looks.wait()
        if more:
            await visit.send(more)
        else:
            visit.writer.close()
        layer.said.set()
        if more:
            await visit.reader.read()

    async def go() -> None:
        upstream = "limits: {connections: 1}"
        if secure:
            upstream += f"\n        tls: {{ca: '{certificates.ca}'}}"
        config = load_text(mesh(origin.port, route=LAYERS, upstream=upstream))
        async with Proxy(config, layers={"test:Looking": layer}) as proxy:
            edge = proxy.addresses["edge"]
            async with Client(edge) as first, Client(edge) as second:
                asked = asyncio.create_task(first.get())
                if then == "queued":
                    await layer.looks.wait()
                    waiting = asyncio.create_task(second.get())
                assert (await asked).body == b"one"
                if then == "next":
                    waiting = asyncio.create_task(second.get())
                assert (await waiting).body == b"two"
            assert len(origin.visits) == 2
        assert gauges(proxy) == {}

    origin = Origin(visit, certificates.origin() if secure else None)

    async def main() -> None:
        async with origin:
            await go()

    run(main())


@pytest.mark.parametrize("secure", [False, True], ids=["plain", "tls"])
def test_a_connection_that_was_quiet_meanwhile_is_kept(
    run: Run, certificates: Certificates, secure: bool
) -> None:
    layer = Looking()
    layer.said.set()

    async def main() -> None:
        async with Origin(response(b"hi"), certificates.origin() if secure else None) as origin:
            upstream = f"tls: {{ca: '{certificates.ca}'}}" if secure else ""
            config = load_text(mesh(origin.port, route=LAYERS, upstream=upstream))
            async with (
                Proxy(config, layers={"test:Looking": layer}) as proxy,
                Client(proxy.addresses["edge"]) as client,
            ):
                for _ in range(20):
                    assert (await client.get()).body == b"hi"
            assert len(origin.visits) == 1
        assert gauges(proxy) == {}

    run(main())
