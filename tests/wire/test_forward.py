"""A request through the whole flow, over real sockets."""

from __future__ import annotations

import asyncio

import pytest

from tests.wire.client import Client
from tests.wire.conftest import Run, Serve
from tests.wire.origin import Origin, Visit, response

MESH = """
    version: 1
    drain: 1s
    listeners:
      edge: {{bind: "127.0.0.1:0"}}
    routes:
      - name: all
        upstream: one
        {route}
    upstreams:
      one:
        endpoints: [{endpoints}]
        {upstream}
"""


def mesh(*ports: int, route: str = "timeout: 5s", upstream: str = "connect_timeout: 1s") -> str:
    endpoints = ", ".join(f'"127.0.0.1:{port}"' for port in ports)
    return MESH.format(route=route, endpoints=endpoints, upstream=upstream)


def test_a_request_goes_through_and_the_connections_are_kept(run: Run, serve: Serve) -> None:
    async def go() -> None:
        async with (
            Origin(response(b"hi", "200 OK", "x-from: origin")) as origin,
            serve(mesh(origin.port)) as proxy,
            Client(proxy.addresses["edge"]) as client,
        ):
            for _ in range(3):
                reply = await client.get("/a?b=c", "x-custom: 1", "connection: x-hop", "x-hop: 1")
                assert (reply.status, reply.body) == (200, b"hi")
                assert reply.fields["x-from"] == "origin"
            assert len(origin.visits) == 1
            head = origin.seen.split(b"\r\n\r\n")[0].lower()
            assert head.startswith(b"get /a?b=c http/1.1\r\n")
            assert b"x-custom: 1" in head
            assert b"x-forwarded-for: 127.0.0.1" in head
            assert b"x-request-id: " in head
            assert b"x-hop" not in head

    run(go())


@pytest.mark.parametrize("named", [b"", b"host:\r\n", b"host: a.test\r\n"])
def test_who_names_no_host_asks_the_endpoint(run: Run, serve: Serve, named: bytes) -> None:
    """HTTP/1.0 may leave it out (a balancer's check of health), and servers refuse an empty one."""

    async def go() -> None:
        async with (
            Origin(response(b"hi")) as origin,
            serve(mesh(origin.port)) as proxy,
            Client(proxy.addresses["edge"]) as client,
        ):
            await client.send(b"GET /health HTTP/1.0\r\n" + named + b"\r\n")
            reply = await client.reply()
            if named == b"host:\r\n":
                assert reply.status == 400
            else:
                assert reply.body == b"hi"
                host = b"a.test" if named else b"127.0.0.1:%d" % origin.port
                assert b"\r\nhost: %b\r\n" % host in origin.seen

    run(go())


def test_pipelined_requests_are_answered_in_order(run: Run, serve: Serve) -> None:
    async def echo(visit: Visit) -> None:
        while True:
            path = (await visit.head()).split()[1]
            await visit.send(response(path))

    async def go() -> None:
        async with (
            Origin(echo) as origin,
            serve(mesh(origin.port)) as proxy,
            Client(proxy.addresses["edge"]) as client,
        ):
            paths = [f"/{i}" for i in range(20)]
            await client.send(
                b"".join(f"GET {p} HTTP/1.1\r\nhost: a\r\n\r\n".encode() for p in paths)
            )
            assert [(await client.reply()).body.decode() for _ in paths] == paths

    run(go())


def test_a_body_behind_a_request_under_way_is_read_to_its_end(run: Run, serve: Serve) -> None:
    body = b"x" * 60_000

    async def slow(visit: Visit) -> None:
        await visit.head()
        await go_on.wait()
        await visit.send(response(b"first"))
        await visit.head()
        await visit.body(len(body))
        await visit.send(response(b"second"))

    go_on = asyncio.Event()

    async def go() -> None:
        async with (
            Origin(slow) as origin,
            serve(mesh(origin.port)) as proxy,
            Client(proxy.addresses["edge"]) as client,
        ):
            await client.send(b"GET /1 HTTP/1.1\r\nhost: a\r\n\r\n")
            await origin.reached.wait()
            head = b"PUT /2 HTTP/1.1\r\nhost: a\r\ncontent-length: %d\r\n\r\n" % len(body)
            await client.send(head + body[:20_000])
            for _ in range(10):
                await asyncio.sleep(0)  # turns of the loop: the proxy reads it, and no more
            await client.send(body[20_000:])
            go_on.set()
            assert [(await client.reply()).body for _ in range(2)] == [b"first", b"second"]

    run(go())


def test_a_large_body_streams_both_ways(run: Run, serve: Serve) -> None:
    size = 3_000_000

    async def mirror(visit: Visit) -> None:
        await visit.head()
        await visit.send(f"HTTP/1.1 200 OK\r\ncontent-length: {size}\r\n\r\n".encode())
        left = size
        while left:
            data = await visit.reader.read(65536)
            left -= len(data)
            await visit.send(data)

    async def go() -> None:
        async with (
            Origin(mirror) as origin,
            serve(mesh(origin.port)) as proxy,
            Client(proxy.addresses["edge"]) as client,
        ):
            body = bytes(range(250)) * (size // 250)
            head = f"POST / HTTP/1.1\r\nhost: a\r\ncontent-length: {size}\r\n\r\n".encode()
            reply, _ = await asyncio.gather(client.reply(), client.send(head + body))
            assert reply.body == body

    run(go())


def test_chunks_in_and_out(run: Run, serve: Serve) -> None:
    async def chunked(visit: Visit) -> None:
        head = await visit.head()
        assert b"transfer-encoding: chunked" in head.lower()
        got = b""
        while not got.endswith(b"0\r\n\r\n"):
            got += await visit.reader.read(1000)
        visit.seen += got
        await visit.send(b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n3\r\nabc\r\n")
        await visit.send(b"2\r\nde\r\n0\r\n\r\n")

    async def go() -> None:
        async with (
            Origin(chunked) as origin,
            serve(mesh(origin.port)) as proxy,
            Client(proxy.addresses["edge"]) as client,
        ):
            await client.send(b"POST / HTTP/1.1\r\nhost: a\r\ntransfer-encoding: chunked\r\n\r\n")
            await client.send(b"5\r\nhello\r\n")
            await client.send(b"0\r\n\r\n")
            assert (await client.reply()).body == b"abcde"
            assert b"hello" in origin.seen

    run(go())


def test_a_malformed_request_reaches_nobody(run: Run, serve: Serve) -> None:
    async def go() -> None:
        async with Origin(response()) as origin, serve(mesh(origin.port)) as proxy:
            for bad in (
                b"GET / HTTP/1.1\r\n\r\n",
                b"GET / HTTP/1.1\r\nhost: a\r\nhost: b\r\n\r\n",
                b"GET /\x00 HTTP/1.1\r\nhost: a\r\n\r\n",
                b"POST / HTTP/1.1\r\nhost: a\r\ncontent-length: 1\r\n"
                b"transfer-encoding: chunked\r\n\r\n0\r\n\r\n",
            ):
                async with Client(proxy.addresses["edge"]) as client:
                    await client.send(bad)
                    reply = await client.reply()
                    assert reply.status == 400
                    assert reply.fields["connection"] == "close"
                    assert await client.closed() == b""
            assert origin.visits == []

    run(go())


def test_a_broken_response_is_502_and_its_connection_is_not_used_again(
    run: Run, serve: Serve
) -> None:
    async def go() -> None:
        async with (
            Origin(b"HTTP/1.1 200 OK\r\ncontent-length: 1\r\ncontent-length: 2\r\n\r\na") as origin,
            serve(mesh(origin.port)) as proxy,
            Client(proxy.addresses["edge"]) as client,
        ):
            for _ in range(2):
                reply = await client.get()
                assert (reply.status, reply.fields["x-mesh-reason"]) == (502, "upstream_protocol")
            assert len(origin.visits) == 2

    run(go())


def test_a_dead_upstream_opens_the_breaker(run: Run, serve: Serve) -> None:
    route = "layers: [{circuit_breaker: {failures: 3, successes: 1, open_for: 30s}}]"

    async def go() -> None:
        async with Origin(response()) as origin:
            port = origin.port
        async with serve(mesh(port, route=route)) as proxy, Client(proxy.addresses["edge"]) as c:
            seen = [(await c.get()).fields["x-mesh-reason"] for _ in range(3)]
            assert set(seen) == {"upstream_connect"}
            reply = await c.get()
            assert (reply.status, reply.fields["x-mesh-reason"]) == (503, "breaker_open")
            assert 1 <= int(reply.fields["retry-after"]) <= 31

    run(go())


def test_an_upstream_that_does_not_answer_is_504(run: Run, serve: Serve) -> None:
    async def mute(visit: Visit) -> None:
        await visit.head()
        await visit.reader.read()

    async def go() -> None:
        async with (
            Origin(mute) as origin,
            serve(mesh(origin.port, route="timeout: 200ms")) as proxy,
            Client(proxy.addresses["edge"]) as client,
        ):
            reply = await client.get()
            assert (reply.status, reply.fields["x-mesh-reason"]) == (504, "upstream_timeout")

    run(go())


@pytest.mark.parametrize("pipelined", [b"", b"G"])
def test_a_client_that_leaves_is_told_to_the_upstream(
    run: Run, serve: Serve, pipelined: bytes
) -> None:
    left = asyncio.Event()

    async def wait(visit: Visit) -> None:
        await visit.head()
        assert await visit.reader.read() == b""
        left.set()

    async def go() -> None:
        async with Origin(wait) as origin, serve(mesh(origin.port)) as proxy:
            async with Client(proxy.addresses["edge"]) as client:
                await client.send(b"GET / HTTP/1.1\r\nhost: a\r\n\r\n" + pipelined)
                await origin.reached.wait()
            await asyncio.wait_for(left.wait(), 3)

    run(go())


def test_the_limiter_refuses_one_client_and_serves_another(run: Run, serve: Serve) -> None:
    async def go() -> None:
        async with Origin(response(b"ok")) as origin:
            text = mesh(origin.port).replace(
                'edge: {bind: "127.0.0.1:0"}',
                'edge: {bind: "0.0.0.0:0", layers: [{client_limit: {rate: 1/m, burst: 2}}]}',
            )
            async with serve(text) as proxy:
                url = proxy.addresses["edge"].replace("0.0.0.0", "127.0.0.1")
                async with Client(url, "127.0.0.2") as one, Client(url, "127.0.0.3") as two:
                    assert [(await one.get()).status for _ in range(3)] == [200, 200, 429]
                    assert (await one.get()).fields["x-mesh-reason"] == "rate_limited"
                    assert (await two.get()).status == 200

    run(go())


def test_a_drain_finishes_what_is_in_flight(run: Run, serve: Serve) -> None:
    async def go() -> None:
        release = asyncio.Event()

        async def slow(visit: Visit) -> None:
            await visit.head()
            await release.wait()
            await visit.send(response(b"late"))

        async with (
            Origin(slow) as origin,
            serve(mesh(origin.port)) as proxy,
            Client(proxy.addresses["edge"]) as client,
        ):
            await client.send(b"GET / HTTP/1.1\r\nhost: a\r\n\r\n")
            await origin.reached.wait()
            stopping = asyncio.create_task(proxy.stop())
            await asyncio.sleep(0)
            release.set()
            reply = await client.reply()
            assert (reply.status, reply.body) == (200, b"late")
            assert await client.closed() == b""
            await stopping

    run(go())


@pytest.mark.usefixtures("unhurried")
@pytest.mark.parametrize(("retry", "statuses"), [("{retries: 1}", [200, 200]), ("off", [200, 502])])
def test_a_stale_kept_connection_is_replaced_without_a_failure(
    run: Run,
    serve: Serve,
    retry: str,
    statuses: list[int],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """The endpoint closes just as the second request arrives: the client sees nothing of it, unless
    its route never sends twice what was written."""
    monkeypatch.setattr("meshcore.upstream.pool.HASTY_NS", 0)  # it has outlived its answer

    async def once(visit: Visit) -> None:
        await visit.head()
        await visit.send(response(b"hi"))
        if len(origin.visits) == 1:
            await visit.head()  # and close without an answer
        else:
            await visit.reader.read()

    origin = Origin(once)

    async def go() -> None:
        async with origin, serve(mesh(origin.port, route=f"retry: {retry}")) as proxy:
            async with Client(proxy.addresses["edge"]) as client:
                assert [(await client.get()).status for _ in range(2)] == statuses
            metrics = proxy.metrics()[0].decode()
            assert 'meshcore_route_retries_total{route="all"} 0' in metrics
        assert len(origin.visits) == sum(status == 200 for status in statuses)

    run(go())


def test_a_request_that_may_not_be_repeated_is_not(run: Run, serve: Serve) -> None:
    async def drop(visit: Visit) -> None:
        await visit.head()

    async def go() -> None:
        async with (
            Origin(drop) as origin,
            serve(mesh(origin.port, route="retry: {retries: 3, when: [reset]}")) as proxy,
        ):
            async with Client(proxy.addresses["edge"]) as client:
                reply = await client.get(method="POST")
                assert (reply.status, reply.fields["x-mesh-reason"]) == (502, "upstream_reset")
            assert len(origin.visits) == 1
            async with Client(proxy.addresses["edge"]) as client:
                assert (await client.get()).status == 502
            assert len(origin.visits) > 2

    run(go())


def test_an_idle_connection_makes_room_for_another_endpoint(run: Run, serve: Serve) -> None:
    async def go() -> None:
        upstream = "balance: round_robin\n        limits: {connections: 1}"
        async with (
            Origin(response(b"1")) as one,
            Origin(response(b"2")) as two,
            serve(mesh(one.port, two.port, upstream=upstream)) as proxy,
            Client(proxy.addresses["edge"]) as client,
        ):
            bodies = [(await client.get()).body for _ in range(4)]
            assert sorted(bodies) == [b"1", b"1", b"2", b"2"]

    run(go())
