"""Connections that are given up in the making: places and descriptors come back, whatever the loop
tells of them, and a reload holds for them too."""

from __future__ import annotations

import asyncio
import os
import socket
from collections.abc import Callable, Iterator
from contextlib import AsyncExitStack, contextmanager
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import trustme

from meshcore import load_text
from meshcore.upstream.chooser import Chooser
from meshcore.upstream.cluster import Cluster
from meshcore.upstream.dial import Dialer, Parts
from tests.wire.blame import every_endpoint
from tests.wire.client import Client
from tests.wire.conftest import Certificates, Run, Serve, eventually
from tests.wire.either import Message, asking, request, service
from tests.wire.either import response as answer
from tests.wire.h2_mesh import Mesh
from tests.wire.test_places import CREDENTIALS, cluster_of

CAP = 2

Timers = dict[asyncio.Task[Any] | None, Parts]


def answering(_: Message) -> Message:
    return answer(b"fine")


def descriptors() -> int:
    return len(os.listdir("/proc/self/fd"))


def time_out(chooser: Chooser, timers: Timers) -> None:
    """The time for connecting is over in this turn."""
    parts = timers[chooser.task]
    parts._left, parts._again = 1, True  # however late it is
    parts._end()


def leave(chooser: Chooser, timers: Timers) -> None:
    """Somebody else needs the place."""
    chooser.task.cancel()


@pytest.fixture
def timers(monkeypatch: pytest.MonkeyPatch) -> Timers:
    """The bounds of what is in the making."""
    found: Timers = {}

    class Kept(Parts):
        def __init__(self, *args: Any) -> None:
            super().__init__(*args)
            found[asyncio.current_task()] = self

    monkeypatch.setattr("meshcore.upstream.dial.Parts", Kept)
    return found


@every_endpoint
@pytest.mark.parametrize(
    ("give_up", "is_secure"),
    # Over TLS it is awaited for itself: what is agreed in the turn of its end was in time.
    [(time_out, False), (leave, False), (leave, True)],
    ids=["time out", "leave", "leave over tls"],
)
def test_an_attempt_that_ends_as_it_is_made_gives_all_back(
    run: Run,
    serve: Serve,
    engine: str,
    endpoint: str,
    is_secure: bool,
    give_up: Callable[[Chooser, Timers], None],
    timers: Timers,
    certificates: Certificates,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    made, given_up, gives_up = Chooser.connection_made, 0, True

    def made_and_given_up(chooser: Chooser, transport: asyncio.BaseTransport) -> None:
        nonlocal given_up
        made(chooser, transport)
        if gives_up:
            given_up += 1
            give_up(chooser, timers)

    monkeypatch.setattr(Chooser, "connection_made", made_and_given_up)

    def were_given_up(cluster: Cluster, count: int) -> bool:
        return given_up >= count and not cluster.making

    async def go() -> None:
        nonlocal gives_up
        tls = certificates if is_secure else None
        async with service(endpoint, answering, tls) as origin:
            mesh = Mesh(engine, origin.port).to(endpoint, limits={"connections": CAP})
            mesh.via(timeout="200ms", retry="off")
            if is_secure:
                mesh.to(endpoint, tls={"ca": certificates.ca})
            async with serve(str(mesh)) as proxy, asking("http1", proxy.addresses["edge"]) as ask:
                cluster = cluster_of(proxy)
                # One more is the worker's own, from its first connection on that goes on.
                before = {descriptors() + more for more in (0, 1)}
                while given_up < 2 * CAP:
                    next_one = given_up + 1
                    assert (await ask(request())).status >= 500
                    # The request's time may be over before its connection is made.
                    await eventually(partial(were_given_up, cluster, next_one))
                    await eventually(lambda: descriptors() in before)
                    held = [pool.part.held for pool in cluster.pools]
                    assert (cluster.connections, held) == (0, [0])
                gives_up = False
                await proxy.reload(load_text(str(mesh.via(timeout="30s"))))
                assert (await ask(request())).body == b"fine"
                assert (cluster.connections, cluster.making) == (1, {})

    run(go())


# --- a reload -----------------------------------------------------------------------------------


@contextmanager
def held_up(
    monkeypatch: pytest.MonkeyPatch, ends: bool
) -> Iterator[tuple[list[Any], asyncio.Event]]:
    """The first connect takes until the event; ``ends`` says whether it can be ended before."""
    connect, begun, go_on = Dialer.connect, [], asyncio.Event()

    async def slow(self: Dialer, infos: Any) -> socket.socket:
        begun.append(infos)
        while len(begun) == 1 and not go_on.is_set():
            try:
                await go_on.wait()
            except asyncio.CancelledError:
                if ends:
                    raise
        return await connect(self, infos)

    with monkeypatch.context() as patch:
        patch.setattr(Dialer, "connect", slow)
        yield begun, go_on


@every_endpoint
@pytest.mark.parametrize("is_bound", [False, True], ids=["shared", "bound"])
def test_what_is_in_the_making_is_made_anew_after_a_reload(
    run: Run,
    serve: Serve,
    engine: str,
    endpoint: str,
    is_bound: bool,
    certificates: Certificates,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """It may hang, or fail, in the way that is past."""

    async def go() -> None:
        async with AsyncExitStack() as stack:
            enter = stack.enter_async_context
            origin = await enter(service(endpoint, answering, certificates))
            mesh = Mesh(engine, origin.port).to(endpoint, connect_timeout="60s")
            proxy = await enter(serve(str(mesh)))
            before = await enter(Client(proxy.addresses["edge"]))
            after = await enter(Client(proxy.addresses["edge"]))
            begun, _ = stack.enter_context(held_up(monkeypatch, ends=True))
            asked = asyncio.create_task(before.get("/", *[CREDENTIALS] * is_bound))
            await eventually(lambda: len(begun) == 1)
            await proxy.reload(load_text(str(mesh.to(endpoint, tls={"ca": certificates.ca}))))
            assert (await after.get()).body == b"fine"
            assert (await asked).body == b"fine"
            # What carried a bound client's request is closed behind it.
            left = len(begun) - 1 - is_bound
            await eventually(lambda: cluster_of(proxy).connections == left)

    run(go())


@every_endpoint
@pytest.mark.parametrize(
    ("ends", "leaves"),
    [(True, True), (False, True), (False, False)],
    ids=["ends", "goes on", "waited for"],
)
def test_nothing_is_sent_in_a_way_that_is_past(
    run: Run,
    serve: Serve,
    engine: str,
    endpoint: str,
    ends: bool,
    leaves: bool,
    certificates: Certificates,
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
) -> None:
    """Whatever becomes of a connect that is to end."""
    other = tmp_path / "other.pem"
    trustme.CA().cert_pem.write_to_path(str(other))

    async def go() -> None:
        async with AsyncExitStack() as stack:
            enter = stack.enter_async_context
            origin = await enter(service(endpoint, answering, certificates))
            mesh = Mesh(engine, origin.port).to(endpoint, tls={"insecure": True})
            mesh.to(endpoint, connect_timeout="60s").via(retry="off")
            proxy = await enter(serve(str(mesh)))
            before = await enter(Client(proxy.addresses["edge"]))
            after = await enter(asking("http1", proxy.addresses["edge"]))
            begun, go_on = stack.enter_context(held_up(monkeypatch, ends))
            await before.send(b"GET /before HTTP/1.1\r\nhost: a.test\r\n\r\n")
            await eventually(lambda: len(begun) == 1)
            if leaves:
                before.writer.transport.abort()
                await eventually(lambda: not cluster_of(proxy).queue)
            await proxy.reload(load_text(str(mesh.to(endpoint, tls={"ca": str(other)}))))
            asked = asyncio.ensure_future(after(request("POST", "/secret", body=b"secret")))
            await eventually(lambda: bool(cluster_of(proxy).queue) or asked.done())
            go_on.set()
            assert (await asked).status >= 500
            assert origin.asked == []
            await eventually(lambda: cluster_of(proxy).connections == 0)

    run(go())
