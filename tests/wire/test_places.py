"""Who has the places under an upstream's cap on connections: endpoints, clients, and what hangs."""

from __future__ import annotations

import asyncio
import json
import socket
from collections import Counter
from collections.abc import AsyncIterator, Iterator
from contextlib import AsyncExitStack, asynccontextmanager, contextmanager
from typing import Any, cast

import pytest
from h2.settings import SettingCodes

from meshcore import Proxy
from meshcore._core import now_ns
from meshcore.upstream.chooser import Chooser
from meshcore.upstream.cluster import PATIENCE_NS, Cluster
from meshcore.upstream.http1 import Http1Connection
from meshcore.upstream.pool import Pool, Pooled, Shared
from tests.wire.blame import every_endpoint
from tests.wire.client import Client
from tests.wire.conftest import Certificates, Run, Serve, eventually
from tests.wire.either import asking, request, service
from tests.wire.either import response as answer
from tests.wire.h2_client import H2Client
from tests.wire.h2_mesh import Mesh
from tests.wire.h2_origin import Call, H2Origin
from tests.wire.origin import Origin, Visit, response
from tests.wire.serving import Serving

CREDENTIALS = "authorization: NTLM hello"
WIDE = 1 << 24
SIZE = 12_000_000  # more than sockets hold


def cluster_of(proxy: Proxy) -> Cluster:
    assert proxy._worker is not None
    return proxy._worker._clusters["one"]


def taking(span_s: float) -> Origin:
    """A host whose answers take so long."""

    async def answer(visit: Visit) -> None:
        while True:
            await visit.head()
            await asyncio.sleep(span_s)
            await visit.send(response(b"hi"))

    return Origin(answer)


@contextmanager
def hanging() -> Iterator[int]:
    """A port whose backlog is full: who connects to it hears nothing."""
    with socket.socket() as listening:
        listening.bind(("127.0.0.1", 0))
        listening.listen(0)
        port = listening.getsockname()[1]
        others = [socket.socket() for _ in range(3)]
        for other in others:
            other.setblocking(False)
            other.connect_ex(("127.0.0.1", port))
        try:
            yield port
        finally:
            for other in others:
                other.close()


@asynccontextmanager
async def clients(url: str, number: int) -> AsyncIterator[list[Client]]:
    async with AsyncExitStack() as stack:
        yield [await stack.enter_async_context(Client(url)) for _ in range(number)]


async def asking_on(client: Client, counts: Counter[Client], *fields: str) -> None:
    """One request after the other."""
    while (await client.get("/", *fields)).status == 200:
        counts[client] += 1


async def ended(tasks: list[asyncio.Task[Any]]) -> None:
    for task in tasks:
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)


@pytest.mark.parametrize("is_slow", [False, True], ids=["hung", "slow"])
def test_an_endpoint_that_does_not_answer_leaves_the_others_their_share(
    run: Run, serve: Serve, is_slow: bool
) -> None:
    async def go() -> None:
        async with taking(0.02) as origin, taking(60) as slow:
            with hanging() as hung:
                mesh = Mesh("native", origin.port, slow.port if is_slow else hung)
                mesh.to(
                    balance="round_robin",
                    connect_timeout="60s",
                    limits={"connections": 4, "client_share": "100%"},
                ).via(retry="off", timeout="60s")
                async with serve(str(mesh)) as proxy, clients(proxy.addresses["edge"], 60) as all_:
                    tasks = [asyncio.create_task(each.reply()) for each in all_]
                    for each in all_:
                        await each.send(b"GET / HTTP/1.1\r\nhost: a.test\r\n\r\n")
                    await eventually(lambda: sum(task.done() for task in tasks) == 30)
                    assert {task.result().status for task in tasks if task.done()} == {200}
                    await ended(tasks)

    run(go())


def test_connects_that_hang_give_back_what_they_took_while_nobody_else_had_use_for_it(
    run: Run, serve: Serve
) -> None:
    async def go() -> None:
        async with Origin(response(b"hi")) as origin:
            with hanging() as hung:
                mesh = Mesh("native", origin.port, hung)
                mesh.to(balance="round_robin", connect_timeout="60s", limits={"connections": 4})
                mesh.via(retry="off", timeout="60s")
                async with serve(str(mesh)) as proxy, clients(proxy.addresses["edge"], 12) as all_:
                    tasks = [asyncio.create_task(each.get()) for each in all_[:10]]
                    first, second = (pool.part for pool in cluster_of(proxy).pools)
                    await eventually(lambda: (first.held, second.held) == (0, 4))
                    tasks += [asyncio.create_task(each.get()) for each in all_[10:]]
                    await eventually(lambda: sum(task.done() for task in tasks) == 6)
                    assert (first.held, second.held, second.lacks) == (1, 3, 3)
                    await ended(tasks)

    run(go())


def test_as_many_connections_leave_as_others_lack(
    run: Run, serve: Serve, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Over TLS each end takes a while, with an endpoint that does not answer it two seconds."""
    leaving: list[Http1Connection] = []

    def close(connection: Http1Connection) -> None:
        leaving.append(connection)

    async def go() -> None:
        async with taking(0.02) as origin:
            mesh = Mesh("native", origin.port).to(limits={"connections": 4})
            async with (
                serve(str(mesh)) as proxy,
                clients(proxy.addresses["edge"], 12) as users,
                Client(proxy.addresses["edge"]) as other,
            ):
                counts: Counter[Client] = Counter()
                tasks = [asyncio.create_task(asking_on(each, counts)) for each in users]
                await eventually(lambda: counts.total() > 12)
                monkeypatch.setattr(Http1Connection, "close", close)
                asked = asyncio.create_task(other.get("/", CREDENTIALS))
                await eventually(lambda: bool(leaving))
                before = counts.total()
                await eventually(lambda: counts.total() > before + 60)
                assert len(leaving) == 1
                monkeypatch.undo()
                leaving[0].close()
                assert (await asked).status == 200
                await ended(tasks)

    run(go())


def test_clients_with_connections_of_their_own_have_no_more_turns_than_others(
    run: Run, serve: Serve
) -> None:
    async def go() -> None:
        async with taking(0.04) as origin:
            limits = {"connections": 4, "client_share": "100%"}
            mesh = Mesh("native", origin.port).to(limits=limits).via(timeout="30s")
            async with (
                serve(str(mesh)) as proxy,
                clients(proxy.addresses["edge"], 40) as bound,
                clients(proxy.addresses["edge"], 20) as users,
            ):
                counts: Counter[Client] = Counter()
                tasks = [asyncio.create_task(asking_on(x, counts, CREDENTIALS)) for x in bound]
                await eventually(lambda: len(cluster_of(proxy).branches) == len(bound))
                tasks += [asyncio.create_task(asking_on(x, counts)) for x in users]
                await eventually(lambda: all(counts[x] >= 3 for x in users), 20)
                assert sum(counts[x] for x in bound) <= 8 * len(bound)
                await ended(tasks)

    run(go())


def test_an_endpoint_over_http2_that_takes_nothing_gives_its_place_back(
    run: Run, serve: Serve, engine: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whatever `ping` says: the connection is being closed."""
    monkeypatch.setattr("meshcore.upstream.http2.CLOSE_NS", 200_000_000)

    async def answer_unread(call: Call) -> None:
        call.visit.h2.increment_flow_control_window(WIDE)
        call.visit.flush()
        call.visit.fall_silent()
        await is_stuck.wait()
        await call.answer(b"hi")

    is_stuck = asyncio.Event()

    async def go() -> None:
        async with H2Origin(
            answer_unread, settings={SettingCodes.INITIAL_WINDOW_SIZE: WIDE}
        ) as origin:
            mesh = Mesh(engine, origin.port).to("h2", pool={"idle": "50ms"})
            mesh.origin_h2(ping=0)
            await uploads(serve, mesh, is_stuck)

    run(go())


@pytest.mark.parametrize("is_secure", [False, True], ids=["plain", "tls"])
def test_an_endpoint_that_takes_nothing_gives_its_place_back(
    run: Run, serve: Serve, certificates: Certificates, is_secure: bool
) -> None:
    async def answer_unread(visit: Visit) -> None:
        await visit.head()
        visit.writer.transport.pause_reading()  # type: ignore[attr-defined]  # it reads, too
        await is_stuck.wait()
        await visit.send(response(b"hi"))
        await asyncio.sleep(60)

    is_stuck = asyncio.Event()

    async def go() -> None:
        async with Origin(answer_unread, certificates.origin() if is_secure else None) as origin:
            mesh = Mesh("native", origin.port).to(pool={"idle": "50ms"})
            if is_secure:
                mesh.to(tls={"ca": certificates.ca})
            await uploads(serve, mesh, is_stuck)

    run(go())


async def uploads(serve: Serve, mesh: Mesh, is_stuck: asyncio.Event) -> None:
    """A client whose upload is not taken, and answered all the same."""
    async with serve(str(mesh)) as proxy, Client(proxy.addresses["edge"]) as client:
        head = f"POST / HTTP/1.1\r\nhost: a.test\r\ncontent-length: {SIZE}\r\n\r\n"
        await client.send(head.encode())
        sending = asyncio.create_task(client.send(bytes(SIZE)))
        transport = client.writer.transport
        left = SIZE + 1
        while transport.get_write_buffer_size() < left:
            left = transport.get_write_buffer_size()
            await asyncio.sleep(0.1)
        is_stuck.set()
        assert (await client.reply()).status == 200
        sending.cancel()
        await asyncio.gather(sending, return_exceptions=True)
        await eventually(lambda: not cluster_of(proxy).connections)


def test_care_for_what_hangs_costs_no_more_for_more_upstreams(
    run: Run, serve: Serve, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Each connection in the making is looked at once in a sweep, not once for each upstream."""
    names, cap, looks = [f"u{n}" for n in range(10)], 6, 0

    def pool_of(chooser: Chooser) -> Pool:
        nonlocal looks
        looks += 1
        return cast("Pool", vars(chooser)["pool"])

    def put(chooser: Chooser, pool: Pool) -> None:
        vars(chooser)["pool"] = pool

    async def go() -> None:
        with hanging() as one, hanging() as two:
            mesh = Mesh("native", one, two).to(connect_timeout="60s", balance="round_robin")
            mesh.to(limits={"connections": cap, "client_share": "100%"})
            mesh.via(retry="off", timeout="60s")
            text = json.loads(str(mesh))
            text["upstreams"] = dict.fromkeys(names, text["upstreams"]["one"])
            text["routes"] = [
                mesh.route | {"name": x, "upstream": x, "match": {"path": {"exact": f"/{x}"}}}
                for x in names
            ]
            async with (
                serve(json.dumps(text)) as proxy,
                H2Client(proxy.addresses["edge"]) as client,
            ):
                assert proxy._worker is not None
                clusters = [proxy._worker._clusters[x] for x in names]
                for name in names * (cap + 2):
                    client.ask(f"/{name}")
                await eventually(lambda: all(x.is_full and x.pending == cap + 2 for x in clusters))
                monkeypatch.setattr(Chooser, "pool", property(pool_of, put), raising=False)
                proxy._worker.pools.sweep(now_ns() + PATIENCE_NS)
                monkeypatch.undo()
                assert looks <= 2 * cap * len(names)

    run(go())


@every_endpoint
def test_a_request_for_which_another_makes_room_costs_no_more_for_more_endpoints(
    run: Run, serve: Serve, engine: str, endpoint: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    looks, plain, rounds = 0, Pool.idlest, 3

    def idlest(pool: Pool) -> Iterator[Pooled | Shared]:
        nonlocal looks
        looks += 1
        return plain(pool)

    monkeypatch.setattr(Serving, "address", "0.0.0.0")
    monkeypatch.setattr(Pool, "idlest", idlest)

    async def go() -> None:
        async with service(endpoint, lambda _: answer(b"hi")) as origin:
            mesh = Mesh(engine).to(endpoint, balance="round_robin", limits={"connections": 20})
            endpoints = [f"127.0.0.{n}:{origin.port}" for n in range(1, 101)]
            mesh.to(endpoint, endpoints=endpoints).via(retry="off")
            async with serve(str(mesh)) as proxy, asking("http1", proxy.addresses["edge"]) as ask:
                for _ in range(rounds * len(endpoints)):
                    assert (await ask(request())).status == 200
                cluster = cluster_of(proxy)
                assert cluster.is_full
                assert origin.connections >= (rounds - 1) * len(endpoints), "each made room"
                assert looks <= 10 * rounds * len(endpoints)

    run(go())
