"""Endpoints that end connections behind their answers, without saying so: requests that can be are
sent on new connections, and nobody is blamed."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from meshcore.upstream import http1, pool
from meshcore.upstream.socket_state import is_quiet
from tests.wire.blame import (
    H1Turn,
    OneCall,
    Turn,
    blamed,
    calling,
    every_endpoint,
    hosting,
    touchy,
)
from tests.wire.conftest import Run, Serve, eventually, metric
from tests.wire.either import request
from tests.wire.h2_mesh import Mesh

CLIENTS = 10


def of_one(engine: str, protocol: str, port: int, **keys: Any) -> Mesh:
    """A mesh that opens at the first failure of its only endpoint, and tries again by default."""
    mesh = touchy(engine, protocol, port).to(protocol, **keys)
    mesh.upstream["endpoints"].pop()
    mesh.route.pop("retry")
    return mesh


async def fine(turn: Turn) -> None:
    await turn.read()
    await turn.answer(b"fine")


async def answer_and_close(turn: Turn) -> None:
    """The end is on its way with the answer."""
    await fine(turn)
    await turn.close()


class LetsDown:
    """Ends a connection when its second request is there."""

    def __init__(self) -> None:
        self.known: set[object] = set()
        self.let_down = 0

    async def __call__(self, turn: Turn) -> None:
        await turn.read()
        visit: object = turn.visit if isinstance(turn, H1Turn) else turn.call.visit
        if visit in self.known:
            self.let_down += 1
            turn.die()
        else:
            self.known.add(visit)
            await turn.answer(b"fine")


@pytest.mark.usefixtures("unhurried")
@pytest.mark.parametrize("connections", [3, 100])
def test_who_was_let_down_by_a_kept_connection_gets_a_new_one(
    run: Run, serve: Serve, engine: str, connections: int
) -> None:
    """Also when all that the cap allows are kept ones, which others give back meanwhile."""
    lets_down = LetsDown()

    async def go() -> None:
        async with hosting("http1", lets_down) as host:
            mesh = of_one(engine, "http1", host.port, limits={"connections": connections})
            async with serve(str(mesh)) as proxy, calling("http1", proxy) as caller:
                for _ in range(5):
                    replies = await asyncio.gather(*(caller.ask(request()) for _ in range(CLIENTS)))
                    assert [reply.status for reply in replies] == [200] * CLIENTS
                assert lets_down.let_down
                assert blamed(proxy) == set()

    run(go())


@pytest.mark.usefixtures("unhurried")
def test_who_waits_for_a_new_connection_has_the_place_of_one_that_is_given_back(
    run: Run, serve: Serve, engine: str
) -> None:
    """Else it would wait for as long as others come who take kept ones."""
    fall, go_on = asyncio.Event(), asyncio.Event()

    async def by_path(turn: Turn) -> None:
        path = turn.fields[":path"]
        paths.append(path)
        if path == "/down" and not fall.is_set():
            await fall.wait()
            turn.die()
            return
        if path == "/before":
            await go_on.wait()
        await turn.answer(b"fine")

    paths: list[str] = []

    async def go() -> None:
        async with hosting("http1", by_path) as host:
            mesh = of_one(engine, "http1", host.port, limits={"connections": 1})
            async with serve(str(mesh)) as proxy, calling("http1", proxy) as caller:

                async def begin(path: str, under_way: int) -> OneCall:
                    call = await caller.begin(request("GET", path))
                    await eventually(
                        lambda: metric(proxy, "meshcore_upstream_requests") == under_way
                    )
                    return call

                assert (await caller.ask(request("GET", "/first"))).status == 200
                calls = [await begin("/down", 1)]
                await host.reached(2)
                calls.append(await begin("/before", 2))
                fall.set()
                await host.reached(3)
                calls.append(await begin("/behind", 3))
                go_on.set()
                for call in calls:
                    assert (await call.whole()).status == 200
                assert paths == ["/first", "/down", "/before", "/down", "/behind"]
                assert blamed(proxy) == set()

    run(go())


@pytest.mark.usefixtures("unhurried")
@pytest.mark.parametrize("client", ["http1", "h2"])
def test_who_was_let_down_gets_no_stream_of_a_connection_that_may_be_gone_too(
    run: Run, serve: Serve, engine: str, client: str
) -> None:
    lets_down, arrived = LetsDown(), asyncio.Event()
    turns = 0

    async def together(turn: Turn) -> None:
        """First as many as there are clients, each on a connection of its own."""
        nonlocal turns
        turns += 1
        if turns == CLIENTS:
            arrived.set()
        await arrived.wait()
        await lets_down(turn)

    async def go() -> None:
        async with hosting("h2", together) as host:
            mesh = of_one(engine, "h2", host.port).origin_h2(streams=1)
            async with serve(str(mesh)) as proxy, calling(client, proxy) as caller:
                calls = [await caller.begin(request()) for _ in range(CLIENTS)]
                for call in calls:
                    assert (await call.whole()).status == 200
                assert host.connections >= CLIENTS
                for _ in range(3):
                    before = lets_down.let_down
                    assert (await caller.ask(request())).status == 200
                    assert lets_down.let_down == before + 1
                assert blamed(proxy) == set()

    run(go())


@pytest.mark.usefixtures("unhurried")
@pytest.mark.parametrize(("method", "connections"), [("GET", CLIENTS), ("GET", 100), ("POST", 100)])
def test_an_endpoint_that_closes_behind_each_answer_fails_no_request(
    run: Run,
    serve: Serve,
    engine: str,
    method: str,
    connections: int,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(pool, "HASTY_NS", 10**10)  # however busy it is

    async def go() -> None:
        async with hosting("http1", answer_and_close) as host:
            mesh = of_one(engine, "http1", host.port, limits={"connections": connections})
            async with serve(str(mesh)) as proxy, calling("http1", proxy) as caller:
                body = b"x" if method == "POST" else b""

                async def client() -> None:
                    for _ in range(10):
                        assert (await caller.ask(request(method, body=body))).status == 200

                await asyncio.gather(*(client() for _ in range(CLIENTS)))
                assert blamed(proxy) == set()

    run(go())


@pytest.mark.parametrize("method", ["GET", "POST"])
def test_an_endpoint_that_keeps_connections_is_not_looked_at(
    run: Run, serve: Serve, engine: str, method: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A look is a system call more for each request."""
    looks = 0

    def look(transport: asyncio.Transport) -> bool:
        nonlocal looks
        looks += 1
        return is_quiet(transport)

    monkeypatch.setattr(http1, "is_quiet", look)
    monkeypatch.setattr(pool, "PEEK_AFTER_UNSAFE_NS", 10**10)  # however busy we are

    async def go() -> None:
        async with hosting("http1", fine) as host:
            mesh = of_one(engine, "http1", host.port)
            async with serve(str(mesh)) as proxy, calling("http1", proxy) as caller:
                for _ in range(2):
                    assert (await caller.ask(request())).status == 200
                before = looks
                for _ in range(20):
                    body = b"x" if method == "POST" else b""
                    assert (await caller.ask(request(method, body=body))).status == 200
                assert (looks, host.connections) == (before, 1)

    run(go())


@every_endpoint
def test_what_is_not_repeated_has_a_new_connection_until_kept_ones_are_known_to_last(
    run: Run, serve: Serve, engine: str, endpoint: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """An endpoint over HTTP/2 says when it goes."""
    monkeypatch.setattr(pool, "HASTY_NS", 10**10)  # none is idle for so long here
    connections = 1 if endpoint == "h2" else 2

    async def go() -> None:
        async with (
            hosting(endpoint, fine) as host,
            serve(str(of_one(engine, endpoint, host.port))) as proxy,
            calling("http1", proxy) as caller,
        ):
            for _ in range(2):
                assert (await caller.ask(request("POST", body=b"x"))).status == 200
            assert host.connections == connections
            assert (await caller.ask(request())).status == 200  # on a kept one
            for _ in range(5):
                assert (await caller.ask(request("POST", body=b"x"))).status == 200
            assert host.connections == connections

    run(go())


@pytest.mark.parametrize("kept", [True, False])
def test_a_connection_that_outlived_its_answer_is_as_good_as_a_new_one(
    run: Run, serve: Serve, engine: str, kept: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    """If its socket says so, too."""
    monkeypatch.setattr(pool, "HASTY_NS", 0)

    async def go() -> None:
        async with hosting("http1", fine if kept else answer_and_close) as host:
            mesh = of_one(engine, "http1", host.port)
            async with serve(str(mesh)) as proxy, calling("http1", proxy) as caller:
                for _ in range(3):
                    assert (await caller.ask(request("POST", body=b"x"))).status == 200
                assert host.connections == (1 if kept else 3)

    run(go())
