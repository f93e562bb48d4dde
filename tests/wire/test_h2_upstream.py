"""What becomes of requests when their endpoint resets them, goes away or is lost."""

from __future__ import annotations

import asyncio

import pytest

from tests.wire.client import Client
from tests.wire.conftest import Run, Serve, metric
from tests.wire.h2_client import H2Client
from tests.wire.h2_mesh import Mesh
from tests.wire.h2_origin import Call, H2Origin
from tests.wire.h2_peer import ResetError

INTERNAL_ERROR, REFUSED, CANCEL = 2, 7, 8
QUIET = {"circuit_breaker": "off", "ejection": "off"}


def mesh(engine: str, *ports: int) -> Mesh:
    return Mesh(engine, *ports).to("h2", **QUIET)


class Once:
    """Does something to each request's first attempt, and answers the second with its body."""

    def __init__(self, code: int) -> None:
        self._code = code
        self.attempts: dict[str, int] = {}

    async def __call__(self, call: Call) -> None:
        if call.path == "/fine":
            return await call.answer(b"fine")
        if call.path == "/hold":
            return await call.answer(await call.whole())
        self.attempts[call.path] = self.attempts.get(call.path, 0) + 1
        if self.attempts[call.path] == 1:
            return call.cancel(self._code)
        return await call.answer(b"got " + await call.whole())


@pytest.mark.parametrize(
    ("code", "method", "status"),
    [
        (REFUSED, "GET", 200),
        (REFUSED, "POST", 200),
        (INTERNAL_ERROR, "GET", 200),
        (INTERNAL_ERROR, "POST", 502),
        (CANCEL, "PUT", 200),
        (CANCEL, "POST", 502),
    ],
)
def test_a_reset_before_the_head_is_tried_again_where_that_is_safe(
    run: Run, serve: Serve, engine: str, code: int, method: str, status: int
) -> None:
    async def go() -> None:
        once = Once(code)
        async with (
            H2Origin(once) as origin,
            serve(str(mesh(engine, origin.port))) as proxy,
            H2Client(proxy.addresses["edge"]) as client,
        ):
            stream = client.ask("/a", method=method, end=False)
            await stream.send(b"hello", end=True)
            body = await stream.whole()
            assert stream.status == status
            if status == 200:
                assert (body, once.attempts["/a"]) == (b"got hello", 2)
            else:
                assert (stream.fields["x-mesh-reason"], once.attempts["/a"]) == (
                    "upstream_reset",
                    1,
                )
            # Only a stream was reset: the connection goes on.
            assert (await client.get("/fine")).body == b"fine"
            assert len(origin.visits) == 1

    run(go())


def test_a_refused_request_without_retries_is_502(run: Run, serve: Serve, engine: str) -> None:
    async def go() -> None:
        async with (
            H2Origin(Once(REFUSED)) as origin,
            serve(str(mesh(engine, origin.port).via(retry="off"))) as proxy,
            Client(proxy.addresses["edge"]) as client,
        ):
            reply = await client.get("/a")
            assert (reply.status, reply.fields["x-mesh-reason"]) == (502, "upstream_refused")

    run(go())


def test_a_body_that_is_not_kept_is_not_sent_twice(run: Run, serve: Serve, engine: str) -> None:
    async def late(call: Call) -> None:
        if call.path == "/fine":
            return await call.answer(b"fine")
        await call.until(lambda: len(call.body) > 100_000)
        return call.cancel(REFUSED)

    async def go() -> None:
        async with (
            H2Origin(late) as origin,
            serve(str(mesh(engine, origin.port))) as proxy,
            H2Client(proxy.addresses["edge"]) as client,
        ):
            stream = client.ask("/", method="PUT", end=False)
            await stream.send(b"x" * 150_000)
            await stream.whole()
            assert (stream.status, stream.fields["x-mesh-reason"]) == (502, "upstream_refused")
            assert len(origin.calls) == 1
            assert (await client.get("/fine")).body == b"fine"

    run(go())


def test_streams_above_the_last_of_a_goaway_go_elsewhere_and_the_others_on(
    run: Run, serve: Serve, engine: str
) -> None:
    async def go_away(call: Call) -> None:
        visit = call.visit
        if visit is origin.visits[0]:
            if call.number == 5:
                visit.send_goaway(last=1)
            if call.number > 1:
                return
            await elsewhere.wait()
        await call.whole()
        await call.answer(b"%d" % origin.visits.index(visit))

    elsewhere = asyncio.Event()
    origin = H2Origin(go_away)

    async def go() -> None:
        async with (
            origin,
            serve(str(mesh(engine, origin.port))) as proxy,
            H2Client(proxy.addresses["edge"]) as client,
        ):
            first = client.ask("/1")
            await origin.reached(1)
            second = client.ask("/2", method="POST", end=False)
            await second.send(b"hello", end=True)
            third = client.ask("/3")
            assert await second.whole() == b"1"
            assert await third.whole() == b"1"
            elsewhere.set()
            assert await first.whole() == b"0"
            await origin.visits[0].gone()  # its last stream is over
            assert (await client.get("/4")).body == b"1"
            assert len(origin.visits) == 2
            assert metric(proxy, "meshcore_route_retries_total") == 2

    run(go())


def test_a_goaway_with_an_error_ends_what_was_processed(
    run: Run, serve: Serve, engine: str
) -> None:
    async def fail(call: Call) -> None:
        if call.visit is not origin.visits[0]:
            await call.answer(b"again")
        elif call.number == 3:
            call.visit.send_goaway(last=3, code=INTERNAL_ERROR)
            await call.visit.writer.drain()
            call.visit.writer.close()

    origin = H2Origin(fail)

    async def go() -> None:
        async with (
            origin,
            serve(str(mesh(engine, origin.port))) as proxy,
            H2Client(proxy.addresses["edge"]) as client,
        ):
            safe = client.ask("/get")
            await origin.reached(1)
            unsafe = client.ask("/post", method="POST")
            await unsafe.whole()
            assert (unsafe.status, unsafe.fields["x-mesh-reason"]) == (502, "upstream_reset")
            assert await safe.whole() == b"again"

    run(go())


@pytest.mark.parametrize("by", ["abort", "close"])
def test_a_connection_that_is_lost_is_told_to_every_stream(
    run: Run, serve: Serve, engine: str, by: str
) -> None:
    """The same for a reset, an end, and each stage of a response."""

    async def lose(call: Call) -> None:
        if call.visit is not origin.visits[0]:
            return await call.answer(b"again")
        if call.path == "/begun":
            call.send_head((":status", "200"), ("content-length", "10"))
            await call.send(b"hello")
        return None

    origin = H2Origin(lose)

    async def go() -> None:
        async with (
            origin,
            serve(str(mesh(engine, origin.port))) as proxy,
            H2Client(proxy.addresses["edge"]) as client,
        ):
            begun = client.ask("/begun")
            post = client.ask("/post", method="POST")
            get = client.ask("/get")
            upload = client.ask("/upload", method="POST", end=False)
            await begun.until(lambda: bool(begun.body))
            await origin.reached(4)
            if by == "abort":
                origin.visits[0].abort()
            else:
                await origin.visits[0].close()
            for stream in (post, upload):
                await stream.whole()
                assert (stream.status, stream.fields["x-mesh-reason"]) == (502, "upstream_reset")
            assert await get.whole() == b"again"
            with pytest.raises(ResetError):
                await begun.whole()
            assert not client.lost

    run(go())


def test_an_endpoint_that_ends_a_kept_connection_costs_nobody_an_answer(
    run: Run, serve: Serve, engine: str
) -> None:
    async def go() -> None:
        async with (
            H2Origin(b"hi") as origin,
            serve(str(mesh(engine, origin.port))) as proxy,
            H2Client(proxy.addresses["edge"]) as client,
        ):
            for n in range(5):
                assert (await client.get()).body == b"hi"
                if n % 2:
                    origin.visits[-1].send_goaway(last=2**31 - 1)
                else:
                    origin.visits[-1].abort()
                assert len(origin.visits) == n + 1

    run(go())


@pytest.mark.usefixtures("unhurried")
@pytest.mark.parametrize(("retry", "second"), [({"retries": 1}, 200), ("off", 502)])
def test_a_kept_connection_that_ends_under_a_request_is_replaced_without_a_failure(
    run: Run, serve: Serve, engine: str, retry: object, second: int
) -> None:
    """With retries off nothing that was written is sent twice."""

    async def once(call: Call) -> None:
        if call.visit is origin.visits[0] and call.number > 1:
            return await call.visit.close()  # it was closing it just then
        return await call.answer(b"hi")

    origin = H2Origin(once)

    async def go() -> None:
        async with (
            origin,
            serve(str(mesh(engine, origin.port).via(retry=retry))) as proxy,
            H2Client(proxy.addresses["edge"]) as client,
        ):
            assert [(await client.get()).status for _ in range(3)] == [200, second, 200]
            assert len(origin.visits) == 2
            assert metric(proxy, "meshcore_route_retries_total") == 0

    run(go())


def test_a_stream_that_is_reset_is_not_taken_for_a_stale_connection(
    run: Run, serve: Serve, engine: str
) -> None:
    async def go() -> None:
        breaker = {"failures": 2, "successes": 1, "open_for": "30s"}
        async with H2Origin(Once(INTERNAL_ERROR)) as origin:
            text = mesh(engine, origin.port).via(retry="off", layers=[{"circuit_breaker": breaker}])
            async with serve(str(text)) as proxy, H2Client(proxy.addresses["edge"]) as client:
                assert (await client.get("/fine")).status == 200
                held = client.ask("/hold", method="POST", end=False)
                await origin.reached(2)
                for path in ("/a", "/b"):
                    stream = await client.get(path)
                    assert (stream.status, stream.fields["x-mesh-reason"]) == (
                        502,
                        "upstream_reset",
                    )
                # The connection is used on, and the breaker heard of both.
                assert len(origin.visits) == 1
                assert (await client.get("/c")).fields["x-mesh-reason"] == "breaker_open"
                await held.send(b"held", end=True)
                assert await held.whole() == b"held"

    run(go())
