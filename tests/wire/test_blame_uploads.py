"""Bodies of requests: an early answer is used, and nothing scarce is held by who dribbles."""

from __future__ import annotations

import asyncio
import contextlib
import socket
import time
from collections import Counter
from urllib.parse import urlsplit

import pytest

from tests.wire.blame import (
    GRPC,
    WAYS,
    OneCall,
    Turn,
    blamed,
    calling,
    every_endpoint,
    every_way,
    hosting,
    touchy,
)
from tests.wire.conftest import Run, Serve, eventually, metric
from tests.wire.either import request
from tests.wire.h2_client import H2Client
from tests.wire.h2_peer import ResetError

SIZE = 3_000_000
UPLOADS = 30


# --- early answers ----------------------------------------------------------------------------


def upload(url: str) -> str:
    """The status that an HTTP/1.1 client gets which sends all that it can, and then reads."""
    at = urlsplit(url)
    with socket.create_connection((at.hostname, at.port)) as sock:
        sock.settimeout(10)
        with contextlib.suppress(ConnectionError):
            sock.sendall(b"POST / HTTP/1.1\r\nhost: a\r\ncontent-length: %d\r\n\r\n" % SIZE)
            sock.sendall(bytes(SIZE))
        try:
            return sock.recv(4096)[9:12].decode()
        except ConnectionError:
            return "reset"


async def upload_h2(client: H2Client) -> str:
    """The same over HTTP/2."""
    length = ("content-length", str(SIZE))
    stream = client.ask("/", length, method="POST", end=False)

    async def send() -> None:
        with contextlib.suppress(ResetError):
            await stream.send(bytes(SIZE), end=True)

    sending = asyncio.create_task(send())
    try:
        return (await stream.head())[":status"]
    except ResetError:
        return "reset"
    finally:
        sending.cancel()


async def uploads(protocol: str, url: str) -> Counter[str]:
    """What so many of them get, one after the other."""
    if protocol == "http1":
        return Counter([await asyncio.to_thread(upload, url) for _ in range(UPLOADS)])
    async with H2Client(url) as client:
        return Counter([await upload_h2(client) for _ in range(UPLOADS)])


@every_way
def test_an_answer_to_an_upload_is_used_wherever_a_direct_client_gets_it(
    run: Run, serve: Serve, engine: str, client: str, endpoint: str
) -> None:
    async def refuse(turn: Turn) -> None:
        await turn.answer(b"too much", status=413)
        await turn.close()
        if endpoint == "http1":
            raise ConnectionError  # it reads nothing of the body

    async def go() -> None:
        async with hosting(endpoint, refuse) as host:
            direct = await uploads(endpoint, f"http://127.0.0.1:{host.port}")
            async with serve(str(touchy(engine, endpoint, host.port))) as proxy:
                relayed = await uploads(client, proxy.addresses["edge"])
                assert relayed["413"] >= direct["413"] > 0
                assert blamed(proxy) == set()

    run(go())


@every_way
def test_an_early_401_ends_an_upload_and_blames_nobody(
    run: Run, serve: Serve, engine: str, client: str, endpoint: str
) -> None:
    """The endpoint takes no more of the body, and leaves the connection open."""

    async def refuse(turn: Turn) -> None:
        await turn.answer(b"who are you", ("www-authenticate", "basic"), status=401)
        await asyncio.Event().wait()

    async def go() -> None:
        async with (
            hosting(endpoint, refuse) as host,
            serve(str(touchy(engine, endpoint, host.port))) as proxy,
            calling(client, proxy) as caller,
        ):
            for _ in range(3):
                call = await caller.begin(request("POST"), end=False)
                await call.send(b"x" * 10_000)
                reply = await call.whole()
                assert (reply.status, reply.body) == (401, b"who are you")
            assert blamed(proxy) == set()

    run(go())


# --- bodies that do not end -------------------------------------------------------------------


async def echo(turn: Turn) -> None:
    await turn.answer(await turn.read())


@every_endpoint
@pytest.mark.parametrize(("client", "requests"), [("h2", 1_000), ("http1", 30)])
def test_small_bodies_that_never_end_take_no_place(
    run: Run, serve: Serve, engine: str, client: str, requests: int, endpoint: str
) -> None:
    """As many as the upstream has places; the other client has the same address."""
    clients = 10 if client == "h2" else 1

    async def go() -> None:
        async with contextlib.AsyncExitStack() as stack:
            host = await stack.enter_async_context(hosting(endpoint, echo))
            mesh = touchy(engine, endpoint, host.port).to(endpoint, limits={"requests": requests})
            proxy = await stack.enter_async_context(serve(str(mesh)))
            calls: list[OneCall] = []
            for _ in range(clients):
                caller = await stack.enter_async_context(calling(client, proxy))
                post = request("POST", "/", ("content-length", "10"))
                for _ in range(requests // clients):
                    calls.append(await caller.begin(post, end=False))
                    await calls[-1].send(b"ab")
            other = await stack.enter_async_context(calling(client, proxy))
            await eventually(lambda: metric(proxy, "meshcore_listener_requests_total") == requests)
            for _ in range(20):
                assert (await other.ask(request())).status == 200
            assert len(host.turns) == 20
            await calls[0].send(b"cdefghij", end=True)  # it was kept, and may go on
            assert (await calls[0].whole()).body == b"abcdefghij"

    run(go())


@every_way
@pytest.mark.parametrize("share", ["80%", "100%"])
def test_one_client_leaves_room_for_another(
    run: Run, serve: Serve, engine: str, client: str, endpoint: str, share: str
) -> None:
    """Of a body whose length is unknown nothing is awaited: it takes a place, of which there are
    ten."""

    async def go() -> None:
        async with hosting(endpoint, echo) as host:
            mesh = touchy(engine, endpoint, host.port)
            mesh.to(endpoint, limits={"requests": 10, "client_share": share})
            mesh.listen(client_address={"trusted_hops": 1})
            async with serve(str(mesh)) as proxy, calling(client, proxy) as caller:
                one, other = (("x-forwarded-for", f"9.9.9.{n}") for n in (1, 2))
                most = 8 if share == "80%" else 10
                calls = [
                    await caller.begin(request("POST", "/", one), end=False) for _ in range(most)
                ]
                await host.reached(most)
                reply = await caller.ask(request("GET", "/", one))
                assert (reply.status, reply.fields["x-mesh-reason"]) == (503, "overflow")
                reply = await caller.ask(request("GET", "/", other))
                assert reply.status == (200 if share == "80%" else 503)
                await calls[0].send(b"", end=True)
                assert (await calls[0].whole()).status == 200
                assert (await caller.ask(request("GET", "/", one))).status == 200
                assert blamed(proxy) == set()

    run(go())


@every_way
@pytest.mark.parametrize("kind", ["body", "grpc"])
def test_who_dribbles_keeps_no_breaker_half_open(
    run: Run, serve: Serve, engine: str, client: str, endpoint: str, kind: str
) -> None:
    """There is one probe for all who do, and it is none of those that whole requests take."""

    async def until_it_dies(turn: Turn) -> None:
        if turn.fields[":path"] == "/die":
            return turn.die()
        return await echo(turn)

    async def go() -> None:
        async with hosting(endpoint, until_it_dies) as host:
            breaker = {"open_for": "100ms", "max_open_for": "100ms", "successes": 1}
            mesh = touchy(engine, endpoint, host.port, **breaker).to(endpoint, ejection="off")
            mesh.upstream["endpoints"].pop()
            mesh.via(timeout="400ms")
            async with serve(str(mesh)) as proxy, calling(client, proxy) as caller:

                def state() -> int:
                    return metric(proxy, "meshcore_breaker_state")

                assert (await caller.ask(request("GET", "/die"))).status == 502
                assert state() == 2
                await eventually(lambda: state() == 1)
                fields = (GRPC,) if kind == "grpc" else ()
                drips = await caller.begin(request("POST", "/", *fields), end=False)
                await drips.send(b"x")
                await host.reached(2)
                again = await caller.begin(request("POST", "/", *fields), end=False)
                refused = await again.whole()
                told = refused.fields.get("x-mesh-reason", refused.fields.get("grpc-status"))
                assert told in ("breaker_open", "14")
                assert state() == 1
                assert (await caller.ask(request())).status == 200
                assert state() == 0
                assert metric(proxy, "meshcore_upstream_requests") == 1
                await drips.send(b"", end=True)
                assert (await drips.whole()).status == 200

    run(go())


def test_a_body_that_drips_has_twenty_seconds(serve: Serve) -> None:
    """Then it has given its place back. All ways at a time: it takes as long as it takes."""

    async def drip(call: OneCall) -> None:
        with contextlib.suppress(ConnectionError, ResetError):
            while True:
                await call.send(b"x")
                await asyncio.sleep(0.5)

    async def patient(turn: Turn) -> None:
        if turn.fields[":method"] == "POST":
            await asyncio.Event().wait()  # longer than this origin waits for a body
        await turn.answer(b"fine")

    async def bounded(client: str, endpoint: str) -> None:
        async with hosting(endpoint, patient) as host:
            mesh = touchy("native", endpoint, host.port)
            mesh.to(endpoint, limits={"requests": 3, "client_share": "100%"})
            async with serve(str(mesh)) as proxy, calling(client, proxy) as caller:
                began = time.monotonic()
                calls = [await caller.begin(request("POST"), end=False) for _ in range(3)]
                await host.reached(3)
                assert (await caller.ask(request())).status == 503
                dripping = [asyncio.create_task(drip(call)) for call in calls]
                await asyncio.sleep(15)  # longer than these clients wait for a head
                for call in calls:
                    head = await call.head()
                    assert (head[":status"], head["x-mesh-reason"]) == ("408", "request_timeout")
                assert 19.9 < time.monotonic() - began < 25
                assert (await caller.ask(request())).status == 200
                assert blamed(proxy) == set()
                for task in dripping:
                    task.cancel()
                await asyncio.gather(*dripping, return_exceptions=True)

    async def go() -> None:
        async with asyncio.timeout(40):
            await asyncio.gather(*(bounded(*way) for way in WAYS))

    asyncio.run(go())
