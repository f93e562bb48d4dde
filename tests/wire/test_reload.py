"""Another configuration under a proxy that serves: old requests end as they began."""

from __future__ import annotations

import asyncio
import contextlib
import socket
import ssl
from pathlib import Path
from typing import Any

import pytest
import trustme

from meshcore import ConfigError, Layer, LayerError, load_text
from meshcore.config.change import change
from meshcore.config.compile import compile
from meshcore.downstream.listener import Listener
from meshcore.process.proxy import Proxy
from tests.ports import free_port
from tests.wire.client import Client
from tests.wire.conftest import Run, Serve, eventually, metric
from tests.wire.origin import Handler, Origin, Visit, response


def mesh(*ports: int, more: str = "", listener: str = "", upstream: str = "") -> str:
    endpoints = ", ".join(f"127.0.0.1:{port}" for port in ports)
    return f"""
version: 1
drain: 2s
listeners: {{edge: {{bind: "127.0.0.1:0"{listener}}}}}
routes: [{{name: all, upstream: u{more}}}]
upstreams: {{u: {{endpoints: [{endpoints}]{upstream}}}}}
"""


CAP = ", limits: {connections: 1}"


def test_a_request_under_way_ends_where_it_began(run: Run, serve: Serve) -> None:
    async def main() -> None:
        go_on = asyncio.Event()

        async def slow(visit: Visit) -> None:
            await visit.head()
            await go_on.wait()
            await visit.send(response(b"old"))
            await visit.reader.read()

        async with (
            Origin(slow) as old,
            Origin(response(b"new")) as new,
            serve(mesh(old.port)) as proxy,
            Client(proxy.addresses["edge"]) as first,
        ):
            asked = asyncio.ensure_future(first.get())
            await old.reached.wait()
            await proxy.reload(load_text(mesh(new.port)))
            assert proxy.config_version == 2
            async with Client(proxy.addresses["edge"]) as second:
                assert (await second.get()).body == b"new"
            go_on.set()
            assert (await asked).body == b"old"
            assert (await first.get()).body == b"new"

    run(main())


def test_connections_to_an_endpoint_that_left_are_closed(run: Run, serve: Serve) -> None:
    async def main() -> None:
        gone = asyncio.Event()

        async def kept(visit: Visit) -> None:
            try:
                while True:
                    await visit.head()
                    await visit.send(response(b"old"))
            finally:
                gone.set()

        async with (
            Origin(kept) as old,
            Origin(response(b"new")) as new,
            serve(mesh(old.port)) as proxy,
            Client(proxy.addresses["edge"]) as client,
        ):
            assert (await client.get()).body == b"old"
            assert not gone.is_set()
            await proxy.reload(load_text(mesh(new.port)))
            await asyncio.wait_for(gone.wait(), 5)
            assert (await client.get()).body == b"new"
            # Put back, it is an endpoint like any other.
            await proxy.reload(load_text(mesh(old.port)))
            assert (await client.get()).body == b"old"

    run(main())


@pytest.mark.parametrize("removed", ["endpoint", "upstream"])
def test_who_waits_for_an_endpoint_that_left_has_a_connection_in_turn(
    run: Run, serve: Serve, removed: str
) -> None:
    async def main() -> None:
        go_on = asyncio.Event()

        def slow(body: bytes) -> Handler:
            async def handler(visit: Visit) -> None:
                while True:
                    await visit.head()
                    await go_on.wait()
                    await visit.send(response(body))

            return handler

        async with (
            Origin(slow(b"x")) as x,
            Origin(slow(b"y")) as y,
            serve(mesh(x.port, y.port, upstream=CAP)) as proxy,
            Client(proxy.addresses["edge"]) as one,
            Client(proxy.addresses["edge"]) as other,
        ):
            assert proxy._worker is not None
            cluster = proxy._worker._clusters["u"]
            # They take turns: one of them has the connection, and one waits for the other endpoint.
            asked = [asyncio.ensure_future(client.get()) for client in (one, other)]
            await eventually(lambda: x.reached.is_set() != y.reached.is_set())
            await eventually(lambda: cluster.pending == 1)
            stays = x if x.reached.is_set() else y
            text = mesh(stays.port, upstream=CAP)
            if removed == "upstream":
                text = text.replace("u: {", "v: {").replace("upstream: u", "upstream: v")
            await proxy.reload(load_text(text))
            go_on.set()
            bodies = [(await asyncio.wait_for(each, 5)).body for each in asked]
            assert sorted(bodies) == [b"x", b"y"]
            pools = proxy._worker.pools
            await eventually(lambda: len(pools.pools) == 1)
            assert len(cluster.pools) == (1 if removed == "endpoint" else 0)
            assert cluster.connections <= 1
            pools.retire(99, 9, 0)  # not there: nothing happens

    run(main())


def test_state_is_kept_by_name(run: Run, serve: Serve) -> None:
    limited = ", layers: [limit: {rate: 1/h, burst: 3}]"

    async def main() -> None:
        async with (
            Origin(response(b"x")) as one,
            Origin(response(b"y")) as two,
            serve(mesh(one.port, more=limited)) as proxy,
            Client(proxy.addresses["edge"]) as client,
        ):
            assert [(await client.get()).status for _ in range(2)] == [200, 200]
            await proxy.reload(load_text(mesh(one.port, two.port, more=limited)))
            assert [(await client.get()).status for _ in range(2)] == [200, 429]
            assert metric(proxy, "meshcore_route_responses_total", **{"class": "2xx"}) == 3

    run(main())


def test_limits_keep_what_was_spent_in_another_order_and_at_another_rate(
    run: Run, serve: Serve
) -> None:
    def listed(*layers: str) -> str:
        return f", layers: [{', '.join(layers)}]"

    client = "client_limit: {{rate: {}, burst: 2}}".format
    host = "limit: {rate: 1/h, burst: 9, key: host}"
    second = "limit: {name: second, rate: 1/h, burst: 9, key: host}"

    async def main() -> None:
        async with (
            Origin(response(b"x")) as origin,
            serve(mesh(origin.port, listener=listed(host, client("1/h")))) as proxy,
            Client(proxy.addresses["edge"]) as asks,
        ):
            assert [(await asks.get()).status for _ in range(3)] == [200, 200, 429]
            for layers in (
                listed(client("1/h"), host),
                listed("in_flight: {max: 9}", second, host, client("1/h")),
                listed(client("3/d"), host, second),
                listed(host, client("1/h")),
            ):
                await proxy.reload(load_text(mesh(origin.port, listener=layers)))
                assert (await asks.get()).status == 429, layers
            await proxy.reload(load_text(mesh(origin.port, listener=listed(host))))
            assert [(await asks.get()).status for _ in range(8)] == [200] * 7 + [429]

    run(main())


@pytest.mark.parametrize(
    ("text", "error"),
    [
        (mesh(1).replace("u: {", "v: {"), ConfigError),
        (mesh(1, more=", layers: [python: nowhere:Layer]"), LayerError),
    ],
)
def test_what_is_refused_changes_nothing(
    run: Run, serve: Serve, text: str, error: type[Exception]
) -> None:
    async def main() -> None:
        async with (
            Origin(response(b"x")) as origin,
            serve(mesh(origin.port)) as proxy,
            Client(proxy.addresses["edge"]) as client,
        ):
            with pytest.raises(error):
                await proxy.reload(load_text(text))
            assert proxy.config_version == 1
            assert (await client.get()).body == b"x"
            await proxy.reload(load_text(mesh(origin.port)))
            assert (await client.get()).body == b"x"

    run(main())


@pytest.mark.parametrize("part", ["layers", "log", "commit"])
def test_what_fails_when_it_is_put_in_force_changes_nothing(
    run: Run, serve: Serve, part: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Plain(Layer):
        pass

    def fails(*_: object, **__: object) -> None:
        raise RuntimeError("as asked")

    async def main() -> None:
        async with Origin(response(b"x")) as origin, serve(mesh(origin.port)) as proxy:
            worker = proxy._worker
            assert worker is not None
            worker._made["m:Plain"] = Plain()
            cluster, pools = worker._clusters["u"], dict(worker.pools.pools)
            text = mesh(1, more=", layers: [python: m:Plain]", upstream=CAP)
            text = text.replace("drain: 2s", "drain: 9s") + "access_log: json\n"
            new = compile(load_text(text), 2)
            prepared = await worker.prepare(change(proxy._local.snapshot, new))
            if part == "layers":
                del worker._made["m:Plain"]
            elif part == "commit":
                other = await worker.prepare(change(proxy._local.snapshot, proxy._local.snapshot))
                worker._engine.commit(other.core)
            else:
                monkeypatch.setattr("meshcore.process.worker.AccessLog", fails)
            with pytest.raises((KeyError, RuntimeError, ValueError)):
                worker.put(prepared)
            assert (worker._clusters, worker.pools.pools) == ({"u": cluster}, pools)
            assert (worker._log_spec, worker._drain_ns) == (None, 2_000_000_000)
            assert proxy.config_version == 1
            async with Client(proxy.addresses["edge"]) as client:
                assert (await client.get()).body == b"x"

    run(main())


def test_a_port_that_is_taken_changes_nothing(run: Run, serve: Serve) -> None:
    async def main() -> None:
        async with Origin(response(b"x")) as origin, serve(mesh(origin.port)) as proxy:
            two = mesh(origin.port).replace(
                "listeners: {", f'listeners: {{more: {{bind: "127.0.0.1:{origin.port}"}}, '
            )
            with pytest.raises(OSError, match="cannot listen"):
                await proxy.reload(load_text(two))
            assert [*proxy.addresses] == ["edge"]
            async with Client(proxy.addresses["edge"]) as client:
                assert (await client.get()).body == b"x"

    run(main())


def test_listeners_come_go_and_move(run: Run, serve: Serve) -> None:
    async def main() -> None:
        async with Origin(response(b"x")) as origin, serve(mesh(origin.port)) as proxy:
            edge = proxy.addresses["edge"]
            two = mesh(origin.port).replace(
                "listeners: {", 'listeners: {more: {bind: "127.0.0.1:0"}, '
            )
            await proxy.reload(load_text(two))
            more = proxy.addresses["more"]
            assert proxy.addresses["edge"] == edge
            async with Client(edge) as stays, Client(more) as leaves:
                for client in (stays, leaves):
                    assert (await client.get()).body == b"x"
                await proxy.reload(load_text(mesh(origin.port)))
                assert "connection" not in (await stays.get()).fields
                # It may have been on its way.
                reply = await leaves.get()
                assert (reply.status, reply.fields["connection"]) == (200, "close")
                assert await leaves.closed() == b""
            with pytest.raises(OSError, match=r"111|refused"):
                await Client(more).__aenter__()

    run(main())


def test_a_certificate_changes_for_new_connections(run: Run, serve: Serve, tmp_path: Path) -> None:
    authority = trustme.CA()
    trusting = ssl.create_default_context()
    authority.configure_trust(trusting)
    cert, key = tmp_path / "cert.pem", tmp_path / "key.pem"

    def issue(name: str) -> None:
        pair = authority.issue_cert(name, "127.0.0.1")
        pair.cert_chain_pems[0].write_to_path(str(cert))
        pair.private_key_pem.write_to_path(str(key))

    async def names(port: int) -> set[str]:
        _, writer = await asyncio.open_connection("127.0.0.1", port, ssl=trusting)
        found = writer.get_extra_info("peercert")["subjectAltName"]
        writer.close()
        return {value for kind, value in found if kind == "DNS"}

    async def main() -> None:
        issue("one.test")
        async with Origin(response(b"x")) as origin:
            text = mesh(origin.port, listener=f", tls: {{cert: {cert}, key: {key}}}")
            async with serve(text) as proxy:
                port = int(proxy.addresses["edge"].rpartition(":")[2])
                assert await names(port) == {"one.test"}
                reader, writer = await asyncio.open_connection("127.0.0.1", port, ssl=trusting)
                issue("two.test")
                await proxy.reload(load_text(text))
                assert await names(port) == {"two.test"}
                writer.write(b"GET / HTTP/1.1\r\nhost: a.test\r\n\r\n")
                assert (await reader.readline()).startswith(b"HTTP/1.1 200 ")
                writer.close()
                await eventually(lambda: proxy.connections == 0)

    run(main())


def test_the_log_goes_on_and_off(
    run: Run, serve: Serve, capsys: pytest.CaptureFixture[str]
) -> None:
    async def main() -> None:
        async with Origin(response(b"x")) as origin:
            text = mesh(origin.port)
            async with serve(text) as proxy, Client(proxy.addresses["edge"]) as client:
                await client.get("/one")
                await proxy.reload(load_text("access_log: json\n" + text))
                await client.get("/two")
                await proxy.reload(load_text("access_log: text\n" + text))
                await client.get("/three")
                await proxy.reload(load_text(text))
                await client.get("/four")

    run(main())
    lines = capsys.readouterr().out.splitlines()
    assert [next(x for x in ("/two", "/three") if x in line) for line in lines] == [
        "/two",
        "/three",
    ]


def test_a_hundred_changes_under_load_fail_no_request_and_leave_nothing(
    run: Run, serve: Serve
) -> None:
    async def main() -> None:
        over = False
        answers = 0

        async def ask(proxy: Proxy) -> None:
            nonlocal answers
            async with Client(proxy.addresses["edge"]) as client:
                while not over:
                    reply = await client.get()
                    assert (reply.status, reply.body) == (200, b"x")
                    answers += 1

        async with contextlib.AsyncExitStack() as stack:
            origins = [await stack.enter_async_context(Origin(response(b"x"))) for _ in range(4)]
            ports = [origin.port for origin in origins]
            proxy = await stack.enter_async_context(serve(mesh(*ports)))
            asking = [asyncio.create_task(ask(proxy)) for _ in range(8)]
            for number in range(100):
                some = [ports[number % 4], ports[(number + 1) % 4]]
                pool = f", connect_timeout: {number % 3 + 1}s"
                await proxy.reload(load_text(mesh(*some, upstream=pool)))
            over = True
            await asyncio.gather(*asking)
            assert answers > 100
            worker = proxy._worker
            assert worker is not None
            await eventually(lambda: len(worker.pools.pools) == 2)
            (cluster,) = worker._clusters.values()
            await eventually(lambda: cluster.connections <= 16)

    run(main())


def with_another(text: str, port: int) -> str:
    """One more listener, at a port that is given."""
    return text.replace("listeners: {", f'listeners: {{two: {{bind: "127.0.0.1:{port}"}}, ')


def test_who_is_tired_of_waiting_leaves_nothing_half_done(
    run: Run, serve: Serve, monkeypatch: pytest.MonkeyPatch
) -> None:
    start = Listener.start
    reached, go_on = asyncio.Event(), asyncio.Event()

    async def slow(self: Listener, sockets: dict[int, socket.socket]) -> None:
        reached.set()
        await go_on.wait()
        await start(self, sockets)

    async def main() -> None:
        async with Origin(response(b"x")) as origin, serve(mesh(origin.port)) as proxy:
            monkeypatch.setattr(Listener, "start", slow)
            more = with_another(mesh(origin.port), 0)
            changing = asyncio.create_task(proxy.reload(load_text(more)))
            await reached.wait()
            changing.cancel()
            with pytest.raises(asyncio.CancelledError):
                await changing
            assert proxy.config_version == 2
            assert {*proxy.addresses} == {"edge", "two"}
            go_on.set()
            monkeypatch.undo()
            # What comes next finds all of it, and nothing twice.
            await proxy.reload(load_text(more))
            for url in proxy.addresses.values():
                async with Client(url) as client:
                    assert (await client.get()).body == b"x"
            await proxy.reload(load_text(mesh(origin.port)))
            worker = proxy._worker
            assert worker is not None
            assert [*worker.listeners] == ["edge"]

    run(main())


def test_a_stop_beside_a_reload_leaves_nothing_that_listens(run: Run) -> None:
    port = free_port()

    async def main() -> None:
        for steps in range(6):
            proxy = Proxy(load_text(mesh(1)))
            await proxy.start()
            changing = asyncio.create_task(proxy.reload(load_text(with_another(mesh(1), port))))
            for _ in range(steps):
                await asyncio.sleep(0)
            await proxy.stop()
            (outcome,) = await asyncio.gather(changing, return_exceptions=True)
            assert outcome is None or "not running" in str(outcome)
            with pytest.raises(ConnectionRefusedError):
                await asyncio.open_connection("127.0.0.1", port)

    run(main())


def test_a_stop_waits_for_a_change_whose_caller_gave_up(
    run: Run, serve: Serve, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def main() -> None:
        async with Origin(response(b"x")) as origin, serve(mesh(origin.port)) as proxy:
            worker = proxy._worker
            assert worker is not None
            listen, begun, go_on = worker.open, asyncio.Event(), asyncio.Event()

            async def slow(*given: Any) -> None:
                begun.set()
                await go_on.wait()
                await listen(*given)

            monkeypatch.setattr(worker, "open", slow)
            tired = asyncio.create_task(proxy.reload(load_text(mesh(origin.port))))
            await begun.wait()
            tired.cancel()
            with pytest.raises(asyncio.CancelledError):
                await tired
            stopping = asyncio.create_task(proxy.stop())
            await asyncio.sleep(0.05)
            assert worker.listeners["edge"]._servers  # it waits for the change
            stopping.cancel()
            with pytest.raises(asyncio.CancelledError):
                await stopping
            go_on.set()
            await asyncio.wait_for(proxy.stop(), 3)
            await asyncio.wait_for(proxy._stopped.wait(), 1)
            assert proxy.config_version == 2

    run(main())
