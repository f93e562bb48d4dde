"""Connections to endpoints that announce the client by the PROXY protocol."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path
from typing import Any

import pytest

from meshcore import Proxy
from meshcore.config.load import load_text
from meshcore.upstream.cluster import Cluster
from meshcore.upstream.http1 import Http1Connection
from tests.wire.balancer import Balancer, Receiver, header_of, local, pass_on, v1, v2
from tests.wire.blame import every_endpoint, every_way
from tests.wire.client import Client
from tests.wire.conftest import Certificates, Run, Serve, eventually, nobody
from tests.wire.either import Message, Service, asking, request, response, service
from tests.wire.h2_client import H2Client
from tests.wire.h2_mesh import Mesh
from tests.wire.origin import Origin, Visit
from tests.wire.origin import response as raw
from tests.wire.serving import Serving

VERSIONS = pytest.mark.parametrize("version", ["v1", "v2"])
BEHIND = {"client_address": {"trusted": ["127.0.0.0/8"]}}


def port_of(url: str) -> int:
    return int(url.rpartition(":")[2])


def told(receiver: Receiver, origin: Service) -> list[bytes]:
    """As whose each request came."""
    return [receiver.by_port[port] for port in origin.ports]


def behind(source: str, path: str = "/") -> Message:
    """A request of a client behind a trusted proxy."""
    return request("GET", path, ("x-forwarded-for", source))


def v1_from(source: str, port: int, to: int) -> bytes:
    return f"PROXY TCP4 {source} 127.0.0.1 {port} {to}\r\n".encode()


@asynccontextmanager
async def announcing(
    endpoint: str, engine: str = "native", version: str = "v1", **keys: Any
) -> AsyncIterator[tuple[Mesh, Receiver, Service]]:
    async with (
        service(endpoint, lambda _: response(b"hi")) as origin,
        Receiver(origin.port) as receiver,
    ):
        mesh = Mesh(engine, receiver.port).to(endpoint, proxy_protocol=version, **keys)
        yield mesh, receiver, origin


def cluster_of(proxy: Proxy) -> Cluster:
    assert proxy._worker is not None
    return proxy._worker._clusters["one"]


def is_forgotten(proxy: Proxy) -> bool:
    """Whether nothing is left of any client."""
    cluster = cluster_of(proxy)
    assert not cluster.lacking
    resting = {branch for pool in cluster.pools for branch in pool.part.resting}
    assert resting <= set(cluster.branches)
    branches = [branch for pool in cluster.pools for branch in pool.branches]
    assert len(branches) == len(cluster.branches)
    return (cluster.connections, cluster.pending, len(cluster.pools), branches) == (0, 0, 1, [])


# --- who is named -------------------------------------------------------------------------------


@VERSIONS
def test_the_client_and_what_it_connected_to(run: Run, serve: Serve, version: str) -> None:
    async def go() -> None:
        async with (
            announcing("http1", version=version) as (mesh, receiver, _),
            serve(str(mesh)) as proxy,
            Client(proxy.addresses["edge"], "127.0.0.7") as client,
        ):
            assert (await client.get()).body == b"hi"
            (header,) = receiver.headers
            _, port = client.writer.get_extra_info("sockname")
            to = port_of(proxy.addresses["edge"])
            if version == "v1":
                assert header == v1_from("127.0.0.7", port, to)
            else:
                ends = bytes([127, 0, 0, 7, 127, 0, 0, 1])
                ends += port.to_bytes(2, "big") + to.to_bytes(2, "big")
                assert header == local()[:12] + b"\x21\x11\x00\x0c" + ends

    run(go())


@every_way
@VERSIONS
def test_whom_a_balancer_announces_is_announced(
    run: Run, serve: Serve, engine: str, client: str, endpoint: str, version: str
) -> None:
    writes = {"v1": v1, "v2": v2}[version]
    headers = [writes("192.0.2.1"), writes("2001:db8::1"), writes("192.0.2.1")]

    async def go() -> None:
        async with announcing(endpoint, engine, version) as (mesh, receiver, origin):
            mesh.listen(proxy_protocol={"trusted": ["127.0.0.0/8"]})
            async with (
                serve(str(mesh)) as proxy,
                Balancer(proxy.addresses["edge"], *headers) as balancer,
            ):
                for _ in headers:
                    async with asking(client, balancer.url) as ask:
                        for path in ("/1", "/2"):
                            assert (await ask(request("GET", path))).body == b"hi"
            # The same address and port again: that is the same client.
            assert receiver.headers == headers[:2]
            assert told(receiver, origin) == [h for h in headers for _ in range(2)]

    run(go())


@pytest.mark.parametrize("client", ["http1", "h2"])
@pytest.mark.parametrize(
    ("version", "header"), [("v1", b"PROXY UNKNOWN\r\n"), ("v2", local())], ids=["v1", "v2"]
)
def test_a_client_without_an_address_is_announced_as_nobody(
    run: Run, serve: Serve, tmp_path: Path, client: str, version: str, header: bytes
) -> None:
    path = str(tmp_path / "edge.sock")

    async def go() -> None:
        async with announcing("http1", version=version) as (mesh, receiver, _):
            async with serve(str(mesh.listen(bind=f"unix:{path}"))), Door(path) as door:
                for _ in range(2):
                    async with asking(client, f"http://127.0.0.1:{door.port}") as ask:
                        assert (await ask(request())).body == b"hi"
            assert receiver.headers == [header]

    run(go())


class Door(Serving):
    """From a port to a unix socket."""

    def __init__(self, path: str) -> None:
        super().__init__()
        self._path = path

    async def _visit(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        back, on = await asyncio.open_unix_connection(self._path)
        try:
            await asyncio.gather(pass_on(reader, on), pass_on(back, writer))
        finally:
            on.close()


@pytest.mark.parametrize("protocol", ["http1", "h2"])
def test_the_header_comes_before_tls(
    run: Run, serve: Serve, certificates: Certificates, protocol: str
) -> None:
    async def go() -> None:
        async with (
            service(protocol, lambda _: response(b"hi"), certificates) as origin,
            Receiver(origin.port) as receiver,
        ):
            tls = {"ca": certificates.ca}
            mesh = Mesh("native", receiver.port).to(protocol, proxy_protocol="v2", tls=tls)
            async with serve(str(mesh)) as proxy, Client(proxy.addresses["edge"]) as client:
                cluster = cluster_of(proxy)
                assert [(await client.get()).body for _ in range(2)] == [b"hi", b"hi"]
            await eventually(lambda: cluster.connections == 0)  # TLS ends with two words
            assert [header[:14] for header in receiver.headers] == [v2("127.0.0.1")[:14]]

    run(go())


# --- whose a connection is ----------------------------------------------------------------------


@every_way
def test_no_connection_carries_the_requests_of_two_clients(
    run: Run, serve: Serve, engine: str, client: str, endpoint: str
) -> None:
    async def go() -> None:
        async with (
            announcing(endpoint, engine) as (mesh, receiver, origin),
            serve(str(mesh)) as proxy,
            asking(client, proxy.addresses["edge"]) as one,
            asking(client, proxy.addresses["edge"]) as other,
        ):
            for ask in (one, other, one, other, other):
                assert (await ask(request())).body == b"hi"
            first, second = receiver.headers
            assert first != second
            assert told(receiver, origin) == [first, second, first, second, second]

    run(go())


@every_way
def test_clients_behind_one_proxy_are_told_apart(
    run: Run, serve: Serve, engine: str, client: str, endpoint: str
) -> None:
    async def go() -> None:
        async with announcing(endpoint, engine) as (mesh, receiver, origin):
            sources = ["192.0.2.1", "192.0.2.2", "192.0.2.1", "127.0.0.1", "192.0.2.2"]
            async with serve(str(mesh.listen(**BEHIND))) as proxy:
                to = port_of(proxy.addresses["edge"])
                for these in (sources, sources):  # over another connection of the proxy, too
                    async with asking(client, proxy.addresses["edge"]) as ask:
                        for source in these:
                            assert (await ask(behind(source))).body == b"hi"
            # Nobody knows the port of a client that is connected to somebody else.
            expected = [v1_from(source, 0, to) for source in sources]
            assert told(receiver, origin) == expected * 2
            assert len(receiver.headers) == 3

    run(go())


@every_way
def test_many_clients_at_one_time_within_few_connections(
    run: Run, serve: Serve, engine: str, client: str, endpoint: str
) -> None:
    limits = {"connections": 3, "client_share": "100%"}

    async def go() -> None:
        async with announcing(endpoint, engine, limits=limits) as (mesh, receiver, origin):
            async with serve(str(mesh.listen(**BEHIND))) as proxy:
                to = port_of(proxy.addresses["edge"])

                async def visit(number: int) -> None:
                    async with asking(client, proxy.addresses["edge"]) as ask:
                        for turn in range(5):
                            source = f"192.0.2.{(number + turn) % 7}"
                            assert (await ask(behind(source, f"/{source}"))).body == b"hi"

                await asyncio.gather(*(visit(number) for number in range(12)))
                cluster = cluster_of(proxy)
                assert cluster.connections <= 3
                assert len(cluster.branches) <= 3
            named = [v1_from(asked.fields[":path"][1:], 0, to) for asked in origin.asked]
            assert told(receiver, origin) == named
            assert len(named) == 60

    run(go())


def test_who_waits_is_not_given_what_another_client_gives_back(run: Run, serve: Serve) -> None:
    seen: list[tuple[bytes, bytes]] = []

    async def main() -> None:
        go_on = asyncio.Event()

        async def handler(visit: Visit) -> None:
            header = await header_of(visit.reader)
            while True:
                seen.append((header, (await visit.head()).split()[1]))
                await go_on.wait()
                await visit.send(raw(b"hi"))

        async with Origin(handler) as origin:
            limits = {"connections": 1}
            mesh = Mesh("native", origin.port).to(proxy_protocol="v1", limits=limits)
            async with (
                serve(str(mesh)) as proxy,
                Client(proxy.addresses["edge"], "127.0.0.2") as one,
                Client(proxy.addresses["edge"], "127.0.0.3") as other,
            ):
                first = asyncio.ensure_future(one.get("/one"))
                await asyncio.wait_for(origin.reached.wait(), 5)
                second = asyncio.ensure_future(other.get("/other"))
                await eventually(lambda: cluster_of(proxy).pending == 1)
                go_on.set()
                assert [(await x).body for x in (first, second)] == [b"hi", b"hi"]
        assert [(h.split()[2], path) for h, path in seen] == [
            (b"127.0.0.2", b"/one"),
            (b"127.0.0.3", b"/other"),
        ]

    run(main())


@VERSIONS
def test_who_always_asks_for_more_does_not_keep_others_waiting(
    run: Run, serve: Serve, version: str
) -> None:
    async def go() -> None:
        async with (
            announcing("http1", version=version, limits={"connections": 2}) as (mesh, *_),
            serve(str(mesh)) as proxy,
            H2Client(proxy.addresses["edge"]) as one,
        ):
            url, over = proxy.addresses["edge"], asyncio.Event()

            async def ask_on() -> None:
                while not over.is_set():
                    assert (await one.get()).status == 200

            asking_on = [asyncio.create_task(ask_on()) for _ in range(20)]
            await eventually(lambda: bool(cluster_of(proxy).lacking))
            for n in range(3, 9):
                async with Client(url, f"127.0.0.{n}") as other:
                    assert (await other.get()).body == b"hi"
            over.set()
            await asyncio.gather(*asking_on)

    run(go())


def test_room_is_made_for_all_who_wait_at_once(
    run: Run, serve: Serve, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Over TLS each end takes a while, with an endpoint that does not answer it two seconds."""
    leaving: list[Http1Connection] = []

    def withdraw(connection: Http1Connection) -> None:
        connection.pool.remove(connection)
        leaving.append(connection)

    async def go() -> None:
        async with (
            announcing("http1", limits={"connections": 8}) as (mesh, *_),
            serve(str(mesh)) as proxy,
        ):
            url = proxy.addresses["edge"]

            async def ask(n: int) -> None:
                async with Client(url, f"127.0.0.{n}") as client:
                    assert (await client.get()).body == b"hi"

            await asyncio.gather(*(ask(n) for n in range(2, 10)))
            monkeypatch.setattr(Http1Connection, "withdraw", withdraw)
            others = [asyncio.create_task(ask(n)) for n in range(20, 27)]
            await eventually(lambda: len(leaving) == 7)
            assert cluster_of(proxy).pending == 7
            for connection in leaving:
                connection.close()
            await asyncio.gather(*others)

    run(go())


def test_a_connection_that_is_old_is_not_handed_on(run: Run, serve: Serve) -> None:
    """As busy as it may be: somebody always waits for it."""

    async def go() -> None:
        async with Origin(raw(b"hi")) as origin:
            keys: dict[str, Any] = {"limits": {"connections": 1}, "pool": {"lifetime": "100ms"}}
            async with serve(str(Mesh("native", origin.port).to(**keys))) as proxy:
                over = asyncio.Event()

                async def ask_on() -> None:
                    async with Client(proxy.addresses["edge"]) as client:
                        while not over.is_set():
                            assert (await client.get()).body == b"hi"

                busy = [asyncio.create_task(ask_on()) for _ in range(4)]
                await eventually(lambda: len(origin.visits) >= 3)
                over.set()
                await asyncio.gather(*busy)

    run(go())


@pytest.mark.parametrize("method", ["GET", "POST"])
def test_what_goes_out_again_is_announced_again(run: Run, serve: Serve, method: str) -> None:
    headers = []

    async def main() -> None:
        async def once(visit: Visit) -> None:
            headers.append(await header_of(visit.reader))
            await visit.head()
            await visit.send(raw(b"hi"))

        async with Origin(once) as origin:
            mesh = Mesh("native", origin.port).to(proxy_protocol="v2")
            async with serve(str(mesh)) as proxy, Client(proxy.addresses["edge"]) as client:
                for _ in range(4):
                    assert (await client.get(method=method)).body == b"hi"
        assert len(headers) == 4
        assert len(set(headers)) == 1

    run(main())


# --- bounds -------------------------------------------------------------------------------------


@every_endpoint
def test_nothing_is_left_of_a_client(run: Run, serve: Serve, endpoint: str) -> None:
    async def go() -> None:
        pool = {"idle": "50ms"}
        async with (
            announcing(endpoint, pool=pool) as (mesh, _, origin),
            serve(str(mesh)) as proxy,
        ):
            async with AsyncExitStack() as stack:
                for _ in range(5):
                    ask = await stack.enter_async_context(asking("http1", proxy.addresses["edge"]))
                    assert (await ask(request())).body == b"hi"
                assert len(cluster_of(proxy).branches) == 5
            assert origin.connections == 5
            await eventually(lambda: is_forgotten(proxy))

    run(go())


@every_endpoint
def test_a_connection_for_each_request_where_none_is_kept(
    run: Run, serve: Serve, endpoint: str
) -> None:
    async def go() -> None:
        async with (
            announcing(endpoint, pool={"idle": "0"}) as (mesh, receiver, _),
            serve(str(mesh)) as proxy,
        ):
            async with asking("http1", proxy.addresses["edge"]) as ask:
                for _ in range(3):
                    assert (await ask(request())).body == b"hi"
            assert len(receiver.headers) == 3
            assert len(set(receiver.headers)) == 1
            await eventually(lambda: is_forgotten(proxy))

    run(go())


def test_the_client_that_asked_nothing_for_the_longest_time_makes_room(
    run: Run, serve: Serve
) -> None:
    async def go() -> None:
        limits = {"connections": 2}
        async with announcing("http1", limits=limits) as (mesh, receiver, origin):
            async with serve(str(mesh.listen(**BEHIND))) as proxy:
                async with asking("http1", proxy.addresses["edge"]) as ask:
                    for last in (1, 2, 1, 3, 1, 2):
                        assert (await ask(behind(f"192.0.2.{last}"))).body == b"hi"
                assert len(cluster_of(proxy).branches) == 2
            assert [h.split()[2][-1:] for h in receiver.headers] == [b"1", b"2", b"3", b"2"]
            assert len(origin.asked) == 6

    run(go())


@pytest.mark.parametrize("end", ["refused", "overflow", "leaves", "times out"])
def test_nothing_is_left_of_who_had_no_connection(run: Run, serve: Serve, end: str) -> None:
    async def go() -> None:
        async with AsyncExitStack() as stack:
            held = asyncio.Event()

            async def hold(visit: Visit) -> None:
                await header_of(visit.reader)
                await visit.head()
                await held.wait()
                await visit.send(raw(b"hi"))

            origin = await stack.enter_async_context(Origin(hold))
            port = stack.enter_context(nobody()) if end == "refused" else origin.port
            limits = {"connections": 1, "pending": 0 if end == "overflow" else 9}
            mesh = Mesh("native", port).to(proxy_protocol="v1", limits=limits)
            mesh.via(timeout="300ms" if end == "times out" else "5s", retry="off")
            proxy = await stack.enter_async_context(serve(str(mesh)))
            url = proxy.addresses["edge"]
            if end != "refused":
                first = await stack.enter_async_context(Client(url))
                head = b"POST / HTTP/1.1\r\nhost: a.test\r\ntransfer-encoding: chunked\r\n\r\n"
                await first.send(head)  # without its end it is not timed
                await asyncio.wait_for(origin.reached.wait(), 5)
            async with Client(url) as second:
                if end == "leaves":
                    await second.send(b"GET / HTTP/1.1\r\nhost: a.test\r\n\r\n")
                    await eventually(lambda: cluster_of(proxy).pending == 1)
                else:
                    reasons = {"refused": "upstream_connect", "times out": "queue_timeout"}
                    reason = (await second.get()).fields["x-mesh-reason"]
                    assert reason == reasons.get(end, end)
            if end == "refused":
                await eventually(lambda: is_forgotten(proxy))
            else:
                await eventually(lambda: not cluster_of(proxy).pending)
                assert len(cluster_of(proxy).branches) <= 1
            held.set()

    run(go())


# --- changes ------------------------------------------------------------------------------------


@every_endpoint
def test_a_change_is_in_force_from_the_next_request_on(
    run: Run, serve: Serve, endpoint: str
) -> None:
    async def go() -> None:
        async with (
            announcing(endpoint) as (mesh, receiver, origin),
            service(endpoint, lambda _: response(b"plain")) as plain,
        ):
            async with serve(str(mesh)) as proxy:
                async with asking("http1", proxy.addresses["edge"]) as ask:
                    found = [(await ask(request())).body]
                    mesh.to(endpoint, proxy_protocol="v2")
                    await proxy.reload(load_text(str(mesh)))
                    found.append((await ask(request())).body)
                    mesh.to(endpoint, proxy_protocol=False)
                    mesh.to(endpoint, endpoints=[f"127.0.0.1:{plain.port}"])
                    await proxy.reload(load_text(str(mesh)))
                    found.append((await ask(request())).body)
                assert found == [b"hi", b"hi", b"plain"]
                pools = cluster_of(proxy).pools
                await eventually(lambda: [len(pool.branches) for pool in pools] == [0])
            assert [header[:6] for header in receiver.headers] == [b"PROXY ", local()[:6]]
            assert len(origin.asked) == 2

    run(go())


def test_what_was_opened_in_another_way_is_not_used_again(run: Run, serve: Serve) -> None:
    lines: list[list[bytes]] = []

    async def main() -> None:
        async def handler(visit: Visit) -> None:
            lines.append([])
            while line := await visit.reader.readline():
                lines[-1].append(line.split()[0])
                if line.startswith(b"GET"):
                    await visit.head()
                    await visit.send(raw(b"hi"))

        async with Origin(handler) as origin:
            mesh = Mesh("native", origin.port)
            async with serve(str(mesh)) as proxy, Client(proxy.addresses["edge"]) as client:
                for version in (False, "v1", False):
                    await proxy.reload(load_text(str(mesh.to(proxy_protocol=version))))
                    assert [(await client.get()).body for _ in range(2)] == [b"hi", b"hi"]
        assert lines == [[b"GET", b"GET"], [b"PROXY", b"GET", b"GET"], [b"GET", b"GET"]]

    run(main())
