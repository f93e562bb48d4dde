"""What requests share at an upstream: a connection, its window, a budget, a cap, our own loop. What
one of them does to it is told to none of the others as their endpoint's failure."""

from __future__ import annotations

import asyncio
import contextlib

import pytest

from meshcore._core import now_ns
from tests.wire.blame import GRPC, Turn, blamed, calling, every_endpoint, every_way, hosting, touchy
from tests.wire.client import Client
from tests.wire.conftest import Run, Serve, eventually, metric, nobody
from tests.wire.either import request
from tests.wire.h2_client import H2Client
from tests.wire.h2_mesh import Mesh
from tests.wire.h2_origin import Call, H2Origin
from tests.wire.origin import Origin, Visit, response


def of_one(engine: str, protocol: str, port: int) -> Mesh:
    """One endpoint whose first failure opens the breaker and ejects it."""
    mesh = touchy(engine, protocol, port)
    mesh.upstream["endpoints"].pop()
    return mesh


# --- a connection of HTTP/2 ----------------------------------------------------------------------


def test_a_body_that_takes_all_of_the_window_holds_nobody_else_up(
    run: Run, serve: Serve, engine: str
) -> None:
    """RFC 9113 §6.9: the connection's window is one for all its streams."""

    async def answer(call: Call) -> None:
        if call.path == "/unread":
            call.credit = False
            await call.reset()
        await call.whole()
        await call.answer(b"read")

    async def go() -> None:
        async with (
            H2Origin(answer, credit=False) as origin,
            serve(str(of_one(engine, "h2", origin.port).via(timeout="2s"))) as proxy,
            H2Client(proxy.addresses["edge"]) as client,
            H2Client(proxy.addresses["edge"]) as other,
        ):
            unread = client.ask("/unread", method="POST", end=False)
            sending = asyncio.create_task(unread.send(b"x" * 200_000))
            await eventually(lambda: bool(origin.calls) and len(origin.calls[0].body) >= 65_535)
            for _ in range(3):
                stream = other.ask("/", method="POST", end=False)
                await stream.send(b"y" * 1_000, end=True)
                assert await stream.whole() == b"read"
            assert len(origin.visits) == 2
            assert blamed(proxy) == set()
            sending.cancel()

    run(go())


@pytest.mark.parametrize("how_many", [1, 8])
def test_a_connection_that_falls_silent_is_one_failure_and_gets_no_more(
    run: Run, serve: Serve, engine: str, how_many: int
) -> None:
    silent = asyncio.Event()

    async def answer(call: Call) -> None:
        if silent.is_set() and call.visit is origin.visits[0]:
            await call.reset()
        await call.answer(b"fine")

    origin = H2Origin(answer)

    async def go() -> None:
        async with origin:
            breaker = {"failures": 2, "min_calls": 2, "failure_percent": 0}
            mesh = Mesh(engine, origin.port).to("h2", circuit_breaker=breaker)
            mesh.via(timeout="200ms", retry="off")
            async with (
                serve(str(mesh)) as proxy,
                H2Client(proxy.addresses["edge"]) as client,
            ):
                assert (await client.get()).status == 200
                silent.set()
                # As if the network had lost it: nothing that is sent there is answered any more.
                origin.visits[0].reader._transport.pause_reading()  # type: ignore[attr-defined]
                streams = [client.ask("/") for _ in range(how_many)]
                for stream in streams:
                    await stream.whole()
                    assert stream.status == 504
                assert [(await client.get()).status for _ in range(5)] == [200] * 5
                assert len(origin.visits) == 2
                assert blamed(proxy) == set()

    run(go())


# --- a cap, a budget -----------------------------------------------------------------------------


@every_endpoint
@pytest.mark.parametrize("client", ["http1", "h2"])
def test_an_idle_connection_yields_its_place_to_another_endpoint(
    run: Run, serve: Serve, engine: str, client: str, endpoint: str
) -> None:
    async def answer(turn: Turn) -> None:
        await turn.answer(b"fine")

    async def go() -> None:
        async with hosting(endpoint, answer) as host:
            mesh = touchy(engine, endpoint, host.port)
            mesh.to(endpoint, limits={"connections": 1}).via(timeout="3s")
            async with serve(str(mesh)) as proxy, calling(client, proxy) as caller:
                for _ in range(6):
                    assert (await caller.ask(request())).status == 200
                assert host.connections == 6

    run(go())


def test_an_answer_that_nobody_takes_holds_nothing_of_the_retry_budget(
    run: Run, serve: Serve, engine: str
) -> None:
    async def answer(visit: Visit) -> None:
        while True:
            if b"/large" not in await visit.head():
                await visit.send(response(b"fine"))
                continue
            visit.writer.write(b"HTTP/1.1 200 OK\r\ncontent-length: 50000000\r\n\r\n")
            for _ in range(500):
                await visit.send(b"x" * 100_000)

    async def go() -> None:
        async with Origin(answer) as origin:
            with nobody() as dead:
                mesh = Mesh(engine, origin.port, dead)
                mesh.to("http1", balance="round_robin", ejection="off", circuit_breaker="off")
                async with serve(str(mesh)) as proxy, contextlib.AsyncExitStack() as stack:
                    for _ in range(8):
                        idle = await stack.enter_async_context(Client(proxy.addresses["edge"]))
                        await idle.send(b"GET /large HTTP/1.1\r\nhost: a\r\n\r\n")
                        assert (await idle.head()).status == 200
                    assert metric(proxy, "meshcore_upstream_retries") == 0
                    async with Client(proxy.addresses["edge"]) as client:
                        assert [(await client.get()).status for _ in range(8)] == [200] * 8

    run(go())


# --- whoever is waited for -----------------------------------------------------------------------


@every_way
@pytest.mark.parametrize("length", ["known", "unknown"])
@pytest.mark.parametrize("how", ["hangs up", "answers"])
def test_an_endpoint_that_gives_up_a_client_that_pauses_is_not_blamed(
    run: Run, serve: Serve, engine: str, client: str, endpoint: str, length: str, how: str
) -> None:
    """As nginx does after `client_body_timeout`: without a word."""

    async def give_up(turn: Turn) -> None:
        if turn.fields[":method"] == "GET":
            return await turn.answer(b"fine")
        await asyncio.sleep(0.7)
        if how == "hangs up":
            turn.die()
            return None
        return await turn.answer(b"too slow", status=504)

    async def go() -> None:
        fields = (("content-length", "100000"),) if length == "known" else ()
        async with hosting(endpoint, give_up) as host:
            mesh = touchy(engine, endpoint, host.port)
            async with serve(str(mesh)) as proxy, calling(client, proxy) as caller:
                asked = request("POST", "/", *fields, body=b"x")
                calls = [await caller.begin(asked, end=False) for _ in range(4)]
                for call in calls:
                    assert (await call.whole()).status == (502 if how == "hangs up" else 504)
                assert blamed(proxy) == set()
                assert (await caller.ask(request())).status == 200

    run(go())


def test_calls_that_are_quiet_are_nobodys_failure(run: Run, serve: Serve, engine: str) -> None:
    """A client may call what says nothing for as long as it likes."""

    async def say_nothing(call: Call) -> None:
        await call.reset()

    async def go() -> None:
        async with (
            H2Origin(say_nothing) as origin,
            serve(str(of_one(engine, "h2", origin.port).via(idle_timeout="100ms"))) as proxy,
            H2Client(proxy.addresses["edge"]) as client,
        ):
            for _ in range(3):
                stream = client.ask("/watch", GRPC, method="POST", end=False)
                await stream.send(b"x", end=True)
                await stream.whole()
                assert stream.fields["x-mesh-reason"] == "upstream_idle"
            assert blamed(proxy) == set()

    run(go())


def test_a_deadline_that_has_passed_asks_nobody(run: Run, serve: Serve, engine: str) -> None:
    async def go() -> None:
        async with (
            H2Origin(b"fine") as origin,
            serve(str(of_one(engine, "h2", origin.port))) as proxy,
            H2Client(proxy.addresses["edge"]) as client,
        ):
            for _ in range(3):
                stream = client.ask("/", GRPC, ("grpc-timeout", "1n"), method="POST", end=False)
                await stream.send(b"x", end=True)
                await stream.whole()
                assert stream.fields["x-mesh-reason"] == "deadline_exceeded"
            assert origin.calls == []
            assert blamed(proxy) == set()

    run(go())


def test_a_loop_that_stood_still_reads_before_deadlines_count(
    run: Run, serve: Serve, engine: str
) -> None:
    """An answer that waits in the socket came in time."""
    answered = asyncio.Event()

    async def answer(visit: Visit) -> None:
        await visit.head()
        visit.writer.write(response(b"fine"))
        answered.set()
        await visit.reader.read()

    async def go() -> None:
        async with (
            Origin(answer) as origin,
            serve(str(of_one(engine, "http1", origin.port).via(timeout="1s"))) as proxy,
            Client(proxy.addresses["edge"]) as client,
        ):
            worker = proxy._worker
            assert worker is not None
            asking = asyncio.create_task(client.get())
            await answered.wait()
            # The loop looks at its clock before it looks into sockets: two seconds have passed.
            for each in (worker.deadlines, worker.listeners["edge"]):
                each.now_ns = lambda: now_ns() + 2_000_000_000
            worker.deadlines._tick()
            reply = await asking
            assert (reply.status, reply.body) == (200, b"fine")
            assert blamed(proxy) == set()

    run(go())


@every_way
def test_an_endpoint_that_takes_no_connection_is_blamed_whatever_is_asked(
    run: Run, serve: Serve, engine: str, client: str, endpoint: str
) -> None:
    """A body that is not over excuses nothing that was never sent."""

    async def go() -> None:
        with nobody() as dead:
            async with (
                serve(str(touchy(engine, endpoint, dead))) as proxy,
                calling(client, proxy) as caller,
            ):
                for _ in range(2):
                    call = await caller.begin(request("POST", "/", body=b"x"), end=False)
                    assert (await call.whole()).status == 502
                assert blamed(proxy) == {"breaker", "endpoint"}

    run(go())


def test_what_a_client_brought_about_hides_no_loss_that_others_met(
    run: Run, serve: Serve, engine: str
) -> None:
    """The end of a connection counts once: for the first whom it is told as a failure."""

    async def die(call: Call) -> None:
        if call.path == "/last":
            await asyncio.sleep(0.1)  # at once it would be a stale one
            call.visit.abort()

    async def go() -> None:
        async with (
            H2Origin(die) as origin,
            serve(str(of_one(engine, "h2", origin.port))) as proxy,
            H2Client(proxy.addresses["edge"]) as client,
            H2Client(proxy.addresses["edge"]) as other,
        ):
            for _ in range(20):
                await client.ask("/", method="POST", end=False).send(b"x")
            await origin.reached(20)
            await asyncio.sleep(0.6)
            assert (await other.get("/last")).status == 502
            assert blamed(proxy) == {"breaker"}

    run(go())


def test_a_request_without_a_body_needs_no_window(run: Run, serve: Serve, engine: str) -> None:
    async def answer(call: Call) -> None:
        if call.path == "/unread":
            call.credit = False
            await call.reset()
        await call.answer(b"fine")

    async def go() -> None:
        async with H2Origin(answer, credit=False) as origin:
            mesh = of_one(engine, "h2", origin.port).to("h2", limits={"connections": 1})
            async with (
                serve(str(mesh)) as proxy,
                H2Client(proxy.addresses["edge"]) as client,
                H2Client(proxy.addresses["edge"]) as other,
            ):
                unread = client.ask("/unread", method="POST", end=False)
                sending = asyncio.create_task(unread.send(b"x" * 200_000))
                await eventually(lambda: bool(origin.calls) and len(origin.calls[0].body) >= 65_535)
                assert [(await other.get()).status for _ in range(3)] == [200] * 3
                assert len(origin.visits) == 1
                sending.cancel()

    run(go())


def test_deadlines_of_clients_end_no_connection(run: Run, serve: Serve, engine: str) -> None:
    """No PING is sent for them either: many endpoints end a connection for those."""
    slow = asyncio.Event()

    async def answer(call: Call) -> None:
        if call.path == "/slow":
            await call.reset()
        await slow.wait()
        await call.answer(b"fine")

    async def go() -> None:
        async with (
            H2Origin(answer) as origin,
            serve(str(of_one(engine, "h2", origin.port))) as proxy,
            H2Client(proxy.addresses["edge"]) as client,
        ):
            watch = client.ask("/watch")
            await origin.reached(1)
            for _ in range(5):
                call = client.ask("/slow", GRPC, ("grpc-timeout", "60m"), method="POST", end=False)
                await call.send(b"x", end=True)
                await call.whole()
                assert call.fields["x-mesh-reason"] == "deadline_exceeded"
            slow.set()
            assert await watch.whole() == b"fine"
            assert len(origin.visits) == 1
            assert origin.visits[0].frames[6] == 0
            assert blamed(proxy) == set()

    run(go())


def test_quiet_calls_are_nobodys_failure_for_per_try_either(
    run: Run, serve: Serve, engine: str
) -> None:
    async def say_nothing(call: Call) -> None:
        await call.reset()

    async def go() -> None:
        async with H2Origin(say_nothing) as origin:
            mesh = of_one(engine, "h2", origin.port).via(retry={"retries": 0, "per_try": "100ms"})
            async with (
                serve(str(mesh)) as proxy,
                H2Client(proxy.addresses["edge"]) as client,
            ):
                for _ in range(3):
                    stream = client.ask("/watch", GRPC, method="POST", end=False)
                    await stream.send(b"x", end=True)
                    await stream.whole()
                    assert stream.fields["x-mesh-reason"] == "upstream_try_timeout"
                assert blamed(proxy) == set()

    run(go())
