"""What a client chooses is no failure: its types, its deadlines, and when it leaves."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from tests.wire.blame import (
    GRPC,
    WAYS,
    Turn,
    blamed,
    calling,
    every_endpoint,
    every_way,
    hosting,
    idle,
    touchy,
)
from tests.wire.conftest import Run, Serve
from tests.wire.either import request
from tests.wire.h2_mesh import Mesh

DEADLINE_EXCEEDED = "4"
UNKNOWN, UNAVAILABLE = "2", "14"
CALL = b"\0\0\0\0\3ask"


async def hold(turn: Turn) -> None:
    """Say nothing until the proxy gives up."""
    await turn.read()
    await turn.left()


async def stream(turn: Turn) -> None:
    """Begin, and say nothing until the proxy gives up: how the call ends is open."""
    await turn.read()
    await turn.begin(GRPC)
    await turn.left()


async def cut(turn: Turn) -> None:
    turn.die()


@every_way
def test_a_reset_is_a_failure(
    run: Run, serve: Serve, engine: str, client: str, endpoint: str
) -> None:
    """What the other tests rest on: here one failure is seen by both."""

    async def go() -> None:
        async with (
            hosting(endpoint, cut) as host,
            serve(str(touchy(engine, endpoint, host.port))) as proxy,
            calling(client, proxy) as caller,
        ):
            for expected in ({"endpoint"}, {"endpoint", "breaker"}):
                reply = await caller.ask(request())
                assert (reply.status, reply.fields["x-mesh-reason"]) == (502, "upstream_reset")
                assert blamed(proxy) == expected

    run(go())


@every_way
@pytest.mark.parametrize("method", ["HEAD", "GET", "PUT"])
def test_a_type_of_grpc_alone_makes_no_call(
    run: Run, serve: Serve, engine: str, client: str, endpoint: str, method: str
) -> None:
    """Without a gRPC status it would be UNKNOWN, which this breaker counts."""

    async def answer(turn: Turn) -> None:
        await turn.answer(b"", GRPC)

    async def go() -> None:
        async with hosting(endpoint, answer) as host:
            text = touchy(engine, endpoint, host.port, on=["unknown", "unavailable", "reset"])
            async with serve(str(text)) as proxy, calling(client, proxy) as caller:
                for _ in range(5):
                    assert (await caller.ask(request(method, "/", GRPC))).status == 200
                    assert blamed(proxy) == set()

    run(go())


@every_way
@pytest.mark.parametrize(
    ("status", "on", "expected"),
    [(200, "unknown", set()), (200, "unavailable", set()), (503, "503", {"breaker"})],
)
def test_a_call_that_is_answered_in_another_type_counts_as_http(
    run: Run,
    serve: Serve,
    engine: str,
    client: str,
    endpoint: str,
    status: int,
    on: str,
    expected: set[str],
) -> None:
    async def answer(turn: Turn) -> None:
        await turn.read()
        # The status of gRPC is none in a page of HTML.
        page = ("content-type", "text/html"), ("grpc-status", UNAVAILABLE)
        await turn.answer(b"<p>", *page, status=status)

    async def go() -> None:
        async with hosting(endpoint, answer) as host:
            text = touchy(engine, endpoint, host.port, on=[int(on) if on.isdigit() else on])
            async with serve(str(text)) as proxy, calling(client, proxy) as caller:
                for _ in range(2):
                    reply = await caller.ask(request("POST", "/", GRPC, body=CALL))
                    assert (reply.status, reply.body) == (status, b"<p>")
                assert blamed(proxy) == expected

    run(go())


@every_endpoint
@pytest.mark.parametrize("late", [False, True], ids=["with-the-head", "behind-a-message"])
def test_a_deadline_of_the_clients_that_the_service_tells_of_is_neutral(
    run: Run, serve: Serve, engine: str, endpoint: str, late: bool
) -> None:
    async def answer(turn: Turn) -> None:
        await turn.read()
        if late:
            await turn.begin(GRPC)
            await turn.end(("grpc-status", DEADLINE_EXCEEDED))
        else:
            await turn.answer(b"", GRPC, ("grpc-status", DEADLINE_EXCEEDED))

    async def go() -> None:
        async with hosting(endpoint, answer) as host:
            text = touchy(engine, endpoint, host.port, on=["deadline-exceeded"])
            async with serve(str(text)) as proxy, calling("h2", proxy) as caller:
                for _ in range(5):
                    timed = request("POST", "/", GRPC, ("grpc-timeout", "1M"), body=CALL)
                    reply = await caller.ask(timed)
                    ending = reply.trailers or reply.fields
                    assert ending["grpc-status"] == DEADLINE_EXCEEDED
                    assert blamed(proxy) == set()
                # Without one that it set, it is the service's word.
                for _ in range(2):
                    await caller.ask(request("POST", "/", GRPC, body=CALL))
                assert blamed(proxy) == {"breaker"}

    run(go())


@every_endpoint
def test_a_deadline_of_the_clients_that_passes_is_neutral(
    run: Run, serve: Serve, engine: str, endpoint: str
) -> None:
    async def go() -> None:
        async with (
            hosting(endpoint, hold) as host,
            serve(str(touchy(engine, endpoint, host.port))) as proxy,
            calling("h2", proxy) as caller,
        ):
            timed = request("POST", "/", GRPC, ("grpc-timeout", "300m"), body=CALL)
            for asked in (1, 2):
                # Only over HTTP/2 a call is one of gRPC.
                reply = await caller.ask(timed)
                assert reply.fields["grpc-status"] == DEADLINE_EXCEEDED
                assert reply.fields["x-mesh-reason"] == "deadline_exceeded"
                assert len(host.turns) == asked
            assert blamed(proxy) == set()

    run(go())


@every_way
@pytest.mark.parametrize("slow_call", [None, "100ms"], ids=["plain", "slow_call"])
def test_a_client_that_leaves_after_the_head_is_neutral(
    run: Run, serve: Serve, engine: str, client: str, endpoint: str, slow_call: str | None
) -> None:
    """However long it stayed, also where slow calls count."""

    async def go() -> None:
        async with hosting(endpoint, stream) as host:
            keys: dict[str, Any] = {} if slow_call is None else {"slow_call": slow_call}
            text = touchy(engine, endpoint, host.port, **keys)
            async with serve(str(text)) as proxy, calling(client, proxy) as caller:
                for _ in range(5):
                    call = await caller.begin(request("POST", "/", GRPC, body=CALL))
                    await call.head()
                    if slow_call:
                        await asyncio.sleep(0.15)
                    call.leave()
                    await idle(proxy)
                    assert blamed(proxy) == set()

    run(go())


@every_way
@pytest.mark.parametrize(
    ("breaker", "expected"), [({}, set()), ({"slow_call": "100ms"}, {"breaker"})]
)
def test_a_client_that_leaves_before_the_head_counts_only_where_slow_calls_do(
    run: Run,
    serve: Serve,
    engine: str,
    client: str,
    endpoint: str,
    breaker: dict[str, Any],
    expected: set[str],
) -> None:
    async def go() -> None:
        async with hosting(endpoint, hold) as host:
            text = touchy(engine, endpoint, host.port, **breaker)
            async with serve(str(text)) as proxy, calling(client, proxy) as caller:
                calls = [await caller.begin(request()) for _ in range(2)]
                await host.reached(2)
                await asyncio.sleep(0.15)  # they wait
                for call in calls:
                    call.leave()
                await idle(proxy)
                assert blamed(proxy) == expected

    run(go())


def test_long_polls_and_streams_that_are_left_after_more_than_five_seconds(
    run: Run, serve: Serve
) -> None:
    """That was a failure once. Both protocols at a time: it takes as long as it takes."""

    async def left(client: str, endpoint: str) -> None:
        async with hosting(endpoint, by_path) as host:
            # What is on by default, with a clearer eye.
            text = touchy("native", endpoint, host.port).via(timeout="60s")
            async with serve(str(text)) as proxy, calling(client, proxy) as caller:
                polls = [await caller.begin(request()) for _ in range(6)]
                call = request("POST", "/stream", GRPC, body=CALL)
                calls = [await caller.begin(call) for _ in range(5)]
                await asyncio.gather(*(each.head() for each in calls), host.reached(11))
                await asyncio.sleep(5.4)
                for each in polls + calls:
                    each.leave()
                await idle(proxy)
                assert blamed(proxy) == set()

    async def by_path(turn: Turn) -> None:
        await (stream if turn.fields[":path"] == "/stream" else hold)(turn)

    async def go() -> None:
        await asyncio.gather(*(left(*way) for way in WAYS))

    run(go())


@every_endpoint
@pytest.mark.parametrize(
    ("client", "allowed"),
    [("http1", True), ("http1", False), ("h2", True)],  # over HTTP/2 it is refused, not ignored
    ids=["http1-allowed", "http1-ignored", "h2-allowed"],
)
def test_an_upgrade_lengthens_no_timeout(
    run: Run, serve: Serve, engine: str, client: str, endpoint: str, allowed: bool
) -> None:
    """Before the endpoint agrees it is `timeout`; it is long enough to tell the other one apart."""

    async def go() -> None:
        async with hosting(endpoint, silent) as host:
            text = touchy(engine, endpoint, host.port).via(timeout="200ms", idle_timeout="60s")
            if allowed:
                text.via(upgrade=["websocket"])
            async with serve(str(text)) as proxy, calling(client, proxy) as caller:
                if client == "h2":
                    asked = request("CONNECT", "/", (":protocol", "websocket"))
                else:
                    asked = request("GET", "/", ("connection", "upgrade"), ("upgrade", "websocket"))
                calls = [await caller.begin(asked, end=client != "h2") for _ in range(2)]
                async with asyncio.timeout(5):
                    for call in calls:
                        head = await call.head()
                        assert head[":status"] == "504"
                        assert head["x-mesh-reason"] == "upstream_timeout"
                # The endpoint had its time: that is its own.
                assert blamed(proxy) == {"breaker", "endpoint"}

    async def silent(turn: Turn) -> None:
        await turn.left()

    run(go())


def test_one_url_that_answers_500_is_no_outage(run: Run, serve: Serve, engine: str) -> None:
    async def by_path(turn: Turn) -> None:
        await turn.read()
        await turn.answer(b"x", status=500 if turn.fields[":path"] == "/bad" else 200)

    async def served(client: str, endpoint: str) -> None:
        async with hosting(endpoint, by_path) as host:
            text = Mesh(engine, host.port).to(endpoint)
            text.upstream = {
                # Nothing but these.
                key: text.upstream[key]
                for key in ("endpoints", "protocol", "h2")
            }
            async with serve(str(text)) as proxy, calling(client, proxy) as caller:
                for _ in range(5):
                    assert (await caller.ask(request("GET", "/bad"))).status == 500
                assert (await caller.ask(request("GET", "/good"))).status == 200
                # Nor do twenty, of which the rate is made.
                for _ in range(20):
                    assert (await caller.ask(request("GET", "/bad"))).status == 500
                assert blamed(proxy) == set()

    async def go() -> None:
        for way in WAYS:
            await served(*way)

    run(go())
