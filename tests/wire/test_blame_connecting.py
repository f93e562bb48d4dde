"""Connecting: a loop that stands still blames nobody, and a full backlog is waited for."""

from __future__ import annotations

import asyncio
import socket
import time
from collections.abc import Iterator
from contextlib import AsyncExitStack, closing
from pathlib import Path
from typing import Any

import pytest

from meshcore.upstream.dial import Dialer
from tests.wire.blame import Turn, blamed, calling, every_endpoint, every_way, hosting, touchy
from tests.wire.conftest import Certificates, Run, Serve, eventually, metric, nobody
from tests.wire.either import request
from tests.wire.h2_mesh import Mesh
from tests.wire.h2_origin import Call, H2Origin
from tests.wire.origin import Origin, response


async def fine(turn: Turn) -> None:
    await turn.answer(b"fine")


def standing_still(monkeypatch: pytest.MonkeyPatch, seconds: float) -> None:
    """Have the loop do so in the turn after each connect was begun, and as the handshake begins."""
    connect = Dialer.connect

    async def stalled(self: Dialer, infos: Any) -> socket.socket:
        loop = asyncio.get_running_loop()

        def stall(turns: int) -> None:
            time.sleep(seconds)
            if turns > 1:
                loop.call_soon(stall, turns - 1)

        loop.call_soon(stall, 1)
        sock = await connect(self, infos)
        loop.call_soon(stall, 2)
        return sock

    monkeypatch.setattr(Dialer, "connect", stalled)


@every_way
def test_a_loop_that_stands_still_blames_nobody_for_connecting(
    run: Run,
    serve: Serve,
    engine: str,
    client: str,
    endpoint: str,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    standing_still(monkeypatch, 0.3)

    async def go() -> None:
        async with hosting(endpoint, fine) as host:
            mesh = touchy(engine, endpoint, host.port).to(endpoint, connect_timeout="150ms")
            async with serve(str(mesh)) as proxy, calling(client, proxy) as caller:
                for _ in range(2):
                    assert (await caller.ask(request())).body == b"fine"
                assert blamed(proxy) == set()

    run(go())


@every_endpoint
def test_a_loop_that_stands_still_blames_nobody_for_a_handshake(
    run: Run,
    serve: Serve,
    engine: str,
    endpoint: str,
    certificates: Certificates,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    standing_still(monkeypatch, 0.25)

    async def answer(call: Call) -> None:
        await call.answer(b"fine")

    async def go() -> None:
        h2 = endpoint == "h2"
        tls = certificates.origin("h2" if h2 else "http/1.1")
        origin: Any = H2Origin(answer, tls=tls) if h2 else Origin(response(b"fine"), tls)
        async with origin:
            mesh = touchy(engine, endpoint).to(endpoint, connect_timeout="200ms")
            mesh.upstream["endpoints"] = [f"127.0.0.1:{origin.port}"]
            mesh.upstream["tls"] = {"ca": certificates.ca}
            async with serve(str(mesh)) as proxy, calling("http1", proxy) as caller:
                assert (await caller.ask(request())).body == b"fine"
                assert blamed(proxy) == set()

    run(go())


@every_endpoint
def test_who_does_not_take_a_connection_in_time_has_failed(
    run: Run, serve: Serve, engine: str, endpoint: str
) -> None:
    """Time passes for an endpoint as long as the loop runs."""

    async def go() -> None:
        with socket.create_server(("127.0.0.1", 0), backlog=0) as full, closing(Filled(full)):
            mesh = touchy(engine, endpoint).to(endpoint, connect_timeout="150ms")
            mesh.upstream["endpoints"] = [f"127.0.0.1:{full.getsockname()[1]}"]
            async with serve(str(mesh)) as proxy, calling("http1", proxy) as caller:
                began = time.monotonic()
                reply = await caller.ask(request())
                assert 0.15 <= time.monotonic() - began < 4, "without, it is five seconds"
                assert (reply.status, reply.fields["x-mesh-reason"]) == (502, "upstream_connect")
                assert blamed(proxy)

    run(go())


@every_endpoint
def test_what_one_endpoint_refuses_the_other_serves_however_much_comes_at_once(
    run: Run, serve: Serve, engine: str, endpoint: str
) -> None:
    """Nothing was sent, so another attempt is no load that a budget would bound."""

    async def go() -> None:
        with nobody() as dead:
            async with hosting(endpoint, fine) as host:
                mesh = Mesh(engine, host.port, dead).to(endpoint, balance="round_robin")
                async with serve(str(mesh)) as proxy, AsyncExitStack() as callers:
                    calls = [
                        await callers.enter_async_context(calling("http1", proxy))
                        for _ in range(40)
                    ]
                    asked = (
                        each.ask(request(("GET", "POST")[i % 2])) for i, each in enumerate(calls)
                    )
                    replies = await asyncio.gather(*asked)
                    assert {reply.status for reply in replies} == {200}
                    assert metric(proxy, "meshcore_route_retries_total") > 3  # the floor

    run(go())


class Filled:
    """Connections that a listening socket has no more room behind."""

    def __init__(self, listening: socket.socket) -> None:
        self._held = []
        for _ in range(3):
            sock = socket.socket(listening.family)
            sock.setblocking(False)
            self._held.append(sock)
            if listening.family != socket.AF_UNIX:
                sock.connect_ex(listening.getsockname())
                continue
            try:
                sock.connect(listening.getsockname())
            except BlockingIOError:
                return
        assert listening.family != socket.AF_UNIX, "there is room"

    def close(self) -> None:
        """Give them up."""
        for sock in self._held:
            sock.close()


@pytest.fixture
def full(tmp_path: Path) -> Iterator[socket.socket]:
    """A unix socket whose backlog is full."""
    with socket.socket(socket.AF_UNIX) as listening:
        listening.bind(str(tmp_path / "full.sock"))
        listening.listen(0)
        with closing(Filled(listening)):
            yield listening


def to_unix(engine: str, protocol: str, listening: socket.socket) -> Mesh:
    mesh = touchy(engine, protocol).to(protocol, connect_timeout="300ms")
    mesh.upstream["endpoints"] = [f"unix:{listening.getsockname()}"]
    return mesh


@every_endpoint
def test_a_full_backlog_is_waited_for(
    run: Run, serve: Serve, engine: str, endpoint: str, full: socket.socket
) -> None:
    async def go() -> None:
        async with hosting(endpoint, fine) as host:
            mesh = to_unix(engine, endpoint, full).to(endpoint, connect_timeout="10s")
            async with serve(str(mesh)) as proxy, calling("http1", proxy) as caller:
                call = await caller.begin(request())
                await eventually(lambda: metric(proxy, "meshcore_upstream_requests") == 1)
                serving = await asyncio.start_unix_server(host.origin._accept, sock=full)
                async with serving:
                    assert (await call.whole()).body == b"fine"
                    assert blamed(proxy) == set()

    run(go())


@every_endpoint
def test_a_backlog_that_stays_full_is_a_connection_that_was_not_made(
    run: Run, serve: Serve, engine: str, endpoint: str, full: socket.socket
) -> None:
    """Nothing was sent, so whatever was asked is asked of another endpoint."""

    async def go() -> None:
        mesh = to_unix(engine, endpoint, full)
        async with serve(str(mesh)) as proxy, calling("http1", proxy) as caller:
            reply = await caller.ask(request("POST", body=b"x"))
            assert (reply.status, reply.fields["x-mesh-reason"]) == (502, "upstream_connect")
            assert blamed(proxy)
        async with hosting(endpoint, fine) as host:
            mesh.upstream["endpoints"].append(f"127.0.0.1:{host.port}")
            mesh.route.pop("retry")
            async with serve(str(mesh)) as proxy, calling("http1", proxy) as caller:
                for _ in range(2):
                    reply = await caller.ask(request("POST", body=b"x"))
                    assert reply.body == b"fine"

    run(go())
