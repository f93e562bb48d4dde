"""Python layers on real connections: they see, change, answer, fail, and outlive what they may."""

from __future__ import annotations

import asyncio
import textwrap
import time
from pathlib import Path

import pytest
from hyperframe.frame import PingFrame, RstStreamFrame

from meshcore import Answer, Layer, LayerError, Proxy, Request, Response
from meshcore.config.load import load_text
from tests.wire.client import Client
from tests.wire.conftest import Run, gauges
from tests.wire.h2_client import RawClient
from tests.wire.origin import Origin, Visit, response
from tests.wire.test_forward import mesh


class Probe(Layer):
    """What a request's `x-do` says."""

    def __init__(self) -> None:
        self.reached = asyncio.Event()
        self.go = asyncio.Event()
        self.cancelled = False

    async def on_request(self, request: Request) -> Answer | None:
        do = request.header("x-do")
        if do == "answer":
            return Answer(418, [("x-from", "layer")], b"tea")
        if do == "raise":
            raise ValueError("as asked")
        if do == "wait":
            await self._wait()
        request.set_header("x-tenant", "acme")
        request.remove_header("x-do")
        return None

    async def on_response(self, request: Request, response: Response) -> None:
        if response.header("x-do") == "wait":
            await self._wait()
        if response.header("x-do") == "raise":
            raise ValueError("as asked")
        response.set_header("x-seen", str(response.status))

    async def _wait(self) -> None:
        self.reached.set()
        try:
            await self.go.wait()
        except asyncio.CancelledError:
            self.cancelled = True
            raise


async def ask(answer: bytes, *fields: str) -> tuple[int, dict[str, str], bytes, bytes]:
    """One request through a layer: status, fields and body of the answer, and what was sent on."""
    layers = "layers: [{python: 'test:Probe'}]"
    async with Origin(answer) as origin:
        config = load_text(textwrap.dedent(mesh(origin.port, route=layers)))
        async with (
            Proxy(config, layers={"test:Probe": Probe()}) as proxy,
            Client(proxy.addresses["edge"]) as client,
        ):
            reply = await client.get("/", *fields)
        assert gauges(proxy) == {}
        return reply.status, reply.fields, reply.body, origin.seen


def test_a_layer_changes_both_ways(run: Run) -> None:
    async def go() -> None:
        status, fields, body, sent = await ask(response(b"hi"), "x-do: pass")
        assert (status, fields["x-seen"], body) == (200, "200", b"hi")
        assert b"x-tenant: acme\r\n" in sent
        assert b"x-do" not in sent

    run(go())


def test_a_layer_answers_by_itself(run: Run) -> None:
    async def go() -> None:
        status, fields, body, sent = await ask(response(b"hi"), "x-do: answer")
        assert (status, fields["x-from"], body, sent) == (418, "layer", b"tea", b"")

    run(go())


@pytest.mark.parametrize("side", ["request", "response"])
def test_a_layer_that_raises_is_a_500_and_the_next_request_goes_on(run: Run, side: str) -> None:
    async def go() -> None:
        extra = ("x-do: raise",) if side == "response" else ()
        answer = response(b"hi", "200 OK", *extra)
        own = ("x-do: raise",) if side == "request" else ()
        status, fields, _, _ = await ask(answer, *own)
        assert (status, fields["x-mesh-reason"]) == (500, "layer_error")

    run(go())


@pytest.mark.parametrize("side", ["request", "response"])
def test_a_client_that_leaves_cancels_the_layer(run: Run, side: str) -> None:
    async def go() -> None:
        probe = Probe()
        layers = "layers: [{python: 'test:Probe'}]"
        extra = ("x-do: wait",) if side == "response" else ()
        async with Origin(response(b"hi", "200 OK", *extra)) as origin:
            config = load_text(textwrap.dedent(mesh(origin.port, route=layers)))
            async with (
                Proxy(config, layers={"test:Probe": probe}) as proxy,
                Client(proxy.addresses["edge"]) as client,
            ):
                own = b"x-do: wait\r\n" if side == "request" else b""
                await client.send(b"GET / HTTP/1.1\r\nhost: a\r\n" + own + b"\r\n")
                await probe.reached.wait()
            assert gauges(proxy) == {}
        assert probe.cancelled

    run(go())


def test_a_hook_that_is_cancelled_before_its_first_step_is_closed(
    run: Run, recwarn: pytest.WarningsRecorder
) -> None:
    async def go() -> None:
        config = load_text(textwrap.dedent(mesh(1, route="layers: [{python: 'test:Probe'}]")))
        async with (
            Proxy(config, layers={"test:Probe": Probe()}) as proxy,
            RawClient(proxy.addresses["edge"]) as client,
        ):
            # One read, and so one turn of the loop.
            await client.send(client.head(1), RstStreamFrame(1, 8), PingFrame(0))
            await client.until(PingFrame, 0)

    run(go())
    assert [str(each.message) for each in recwarn] == []


def test_a_whole_response_outlives_its_connection(run: Run) -> None:
    async def go() -> None:
        probe = Probe()
        layers = "layers: [{python: 'test:Probe'}]"

        async def once(visit: Visit) -> None:
            await visit.head()
            await visit.send(response(b"hi", "200 OK", "x-do: wait"))

        async with Origin(once) as origin:
            config = load_text(textwrap.dedent(mesh(origin.port, route=layers)))
            async with (
                Proxy(config, layers={"test:Probe": probe}) as proxy,
                Client(proxy.addresses["edge"]) as client,
            ):
                await client.send(b"GET / HTTP/1.1\r\nhost: a\r\n\r\n")
                await probe.reached.wait()
                probe.go.set()
                reply = await client.reply()
                assert (reply.status, reply.body) == (200, b"hi")

    run(go())


def test_a_slow_import_stops_no_request(
    run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, request: pytest.FixtureRequest
) -> None:
    monkeypatch.syspath_prepend(str(tmp_path))
    module = "slow_" + "".join(filter(str.isalnum, request.node.name))
    (tmp_path / f"{module}.py").write_text(
        "import asyncio, time\n"
        "from meshcore import Layer\n"
        "time.sleep(1)\n"
        "class Slow(Layer):\n"
        "    def __init__(self):\n"
        "        self.made_on = asyncio.get_running_loop()\n"
        "    async def on_request(self, request):\n"
        "        assert asyncio.get_running_loop() is self.made_on\n"
        "        request.set_header('x-slow', 'yes')\n"
        "class Broken(Layer):\n"
        "    def __init__(self):\n"
        "        raise OSError('no disk')\n"
    )

    async def main() -> None:
        async with Origin(response(b"x")) as origin:
            without = load_text(textwrap.dedent(mesh(origin.port)))
            layers = "layers: [{python: '%s:%s'}]"
            with_slow, with_broken = (
                load_text(textwrap.dedent(mesh(origin.port, route=layers % (module, name))))
                for name in ("Slow", "Broken")
            )
            async with Proxy(without) as proxy, Client(proxy.addresses["edge"]) as client:
                began = time.monotonic()
                reloading = asyncio.ensure_future(proxy.reload(with_slow))
                slowest = 0.0
                while not reloading.done():
                    asked = time.monotonic()
                    assert (await client.get()).status == 200
                    slowest = max(slowest, time.monotonic() - asked)
                await reloading
                assert time.monotonic() - began >= 1
                assert slowest < 0.5
                await client.get()
                assert b"x-slow: yes" in origin.seen
                with pytest.raises(LayerError, match="Broken: no disk"):
                    await proxy.reload(with_broken)
                assert (await client.get()).status == 200

    run(main())
