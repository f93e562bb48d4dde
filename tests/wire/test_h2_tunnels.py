"""Bytes both ways: upgrades of HTTP/1.1, extended CONNECT of HTTP/2, and one for the other."""

from __future__ import annotations

import asyncio
import base64

import pytest

from tests.wire.conftest import Run, Serve, eventually, gauges, metric
from tests.wire.h2_mesh import Mesh
from tests.wire.tunnel_ends import ACCEPT, Echo, dial

Leg = tuple[str, str]
LEGS = pytest.mark.parametrize(
    "leg",
    [("http1", "http1"), ("h2", "http1"), ("http1", "h2"), ("h2", "h2")],
    ids="-".join,
)
PROTOCOLS = pytest.mark.parametrize("protocol", ["websocket", "connect"])


def mesh(engine: str, speaks: str, port: int) -> Mesh:
    return Mesh(engine, port).to(speaks).via(upgrade=["websocket", "connect"])


@LEGS
def test_a_websocket_is_opened_as_each_side_does_it(
    run: Run, serve: Serve, engine: str, leg: Leg
) -> None:
    async def go() -> None:
        echo = Echo(leg[1])
        async with (
            echo.origin() as origin,
            serve(str(mesh(engine, leg[1], origin.port))) as proxy,
            dial(leg[0], proxy, ("sec-websocket-protocol", "chat")) as end,
        ):
            asked = echo.asked[0]
            assert asked["sec-websocket-version"] == "13"
            assert asked["sec-websocket-protocol"] == "chat"
            if leg[1] == "http1":
                assert asked[":start"] == "GET /chat HTTP/1.1"
                assert (asked["upgrade"], asked["connection"]) == ("websocket", "upgrade")
                assert len(base64.b64decode(asked["sec-websocket-key"])) == 16
                assert "content-length" not in asked
                assert "transfer-encoding" not in asked
            else:
                assert (asked[":protocol"], asked[":path"]) == ("websocket", "/chat")
                assert not {"sec-websocket-key", "upgrade", "connection"} & set(asked)
            assert end.head["x-origin"] == "1"
            if leg[0] == "http1":
                assert end.head[":status"] == "101"
                assert end.head["upgrade"] == "websocket"
                assert end.head["connection"] == "upgrade"
                # HTTP/2 has no such field: then it is made, for the client's key.
                assert end.head["sec-websocket-accept"] == ACCEPT.lower()
            else:
                assert end.head[":status"] == "200"
                assert not {"sec-websocket-accept", "upgrade", "connection"} & set(end.head)

    run(go())


@LEGS
@PROTOCOLS
def test_bytes_pass_both_ways_for_as_long_as_they_like(
    run: Run, serve: Serve, engine: str, leg: Leg, protocol: str
) -> None:
    async def go() -> None:
        echo = Echo(leg[1])
        clock = asyncio.get_running_loop().time
        async with (
            echo.origin() as origin,
            serve(str(mesh(engine, leg[1], origin.port).via(timeout="300ms"))) as proxy,
            dial(leg[0], proxy, protocol=protocol) as end,
        ):
            begun = clock()
            await end.send(b"hello")
            assert await end.read(5) == b"hello"
            much = bytes(range(250)) * 8_000
            found, _ = await asyncio.gather(end.read(len(much)), end.send(much))
            assert found == much
            await eventually(lambda: clock() > begun + 0.5)  # the route's timeout is 300 ms
            # Nothing in it is HTTP.
            http = b"GET / HTTP/1.1\r\nhost: a\r\n\r\n0\r\n\r\n"
            await end.send(http)
            assert await end.read(len(http)) == http
            assert len(echo.asked) == 1
            for to in ("upstream", "downstream"):
                passed = metric(proxy, "meshcore_route_tunnel_bytes_total", to=to)
                assert passed == 5 + len(much) + len(http)

    run(go())


@LEGS
@PROTOCOLS
def test_a_client_that_leaves_is_told_to_the_endpoint(
    run: Run, serve: Serve, engine: str, leg: Leg, protocol: str
) -> None:
    async def go() -> None:
        echo = Echo(leg[1])
        async with (
            echo.origin() as origin,
            serve(str(mesh(engine, leg[1], origin.port))) as proxy,
            dial(leg[0], proxy, protocol=protocol) as end,
        ):
            await end.send(b"hello")
            await end.read(5)
            end.leave()
            await asyncio.wait_for(echo.ended.wait(), 3)
            await eventually(lambda: gauges(proxy) == {})

    run(go())


@LEGS
@PROTOCOLS
def test_an_endpoint_that_leaves_is_told_to_the_client(
    run: Run, serve: Serve, engine: str, leg: Leg, protocol: str
) -> None:
    async def go() -> None:
        echo = Echo(leg[1])
        async with (
            echo.origin() as origin,
            serve(str(mesh(engine, leg[1], origin.port))) as proxy,
            dial(leg[0], proxy, protocol=protocol) as end,
        ):
            await end.send(b"hello")
            assert await end.read(5) == b"hello"
            echo.hang_up.set()
            await asyncio.wait_for(end.ended(), 3)
            end.leave()  # until it does, it may have more to say
            await eventually(lambda: gauges(proxy) == {})

    run(go())


@LEGS
def test_a_tunnel_that_is_silent_is_ended_on_both_sides(
    run: Run, serve: Serve, engine: str, leg: Leg
) -> None:
    async def go() -> None:
        echo = Echo(leg[1])
        async with (
            echo.origin() as origin,
            serve(str(mesh(engine, leg[1], origin.port).via(idle_timeout="500ms"))) as proxy,
            dial(leg[0], proxy) as end,
        ):
            clock = asyncio.get_running_loop().time
            for _ in range(4):  # each byte counts
                begun = clock()
                await end.send(b"x")
                assert await end.read(1) == b"x"
                await eventually(lambda begun=begun: clock() > begun + 0.15)  # type: ignore[misc]
            await asyncio.wait_for(asyncio.gather(end.ended(), echo.ended.wait()), 3)
            await eventually(lambda: gauges(proxy) == {})

    run(go())


@LEGS
def test_a_tunnel_lasts_for_the_drain_and_no_longer(
    run: Run, serve: Serve, engine: str, leg: Leg
) -> None:
    async def go() -> None:
        echo = Echo(leg[1])
        async with echo.origin() as origin:
            text = mesh(engine, leg[1], origin.port)
            text.top["drain"] = "300ms"
            async with serve(str(text)) as proxy, dial(leg[0], proxy) as end:
                stopping = asyncio.create_task(proxy.stop())
                await asyncio.sleep(0)
                await end.send(b"hello")
                await eventually(lambda: bytes(echo.heard) == b"hello")
                await asyncio.wait_for(end.ended(), 3)
                await stopping

    run(go())
