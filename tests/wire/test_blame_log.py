"""The access log tells how each request ended: who ended it, why, where, and at which endpoint."""

from __future__ import annotations

import asyncio
import json
from typing import Any

import pytest

from tests.wire.blame import (
    GRPC,
    Turn,
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
from tests.wire.h2_peer import ResetError
from tests.wire.tunnel_ends import Echo, dial

UNAVAILABLE = 14
# The last: no size where a chunk should begin.
TORN = (ResetError, ConnectionError, asyncio.IncompleteReadError, ValueError)


def logged(engine: str, endpoint: str, port: int) -> Mesh:
    mesh = touchy(engine, endpoint, port)
    mesh.upstream |= {"circuit_breaker": "off", "ejection": "off"}
    mesh.top["access_log"] = "json"
    return mesh


def lines(capsys: pytest.CaptureFixture[str]) -> dict[str, dict[str, Any]]:
    """What was told, by target."""
    told = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    return {line["target"]: line for line in told}


def end(line: dict[str, Any]) -> tuple[object, ...]:
    return tuple(line[name] for name in ("status", "reason", "by", "phase"))


@every_way
def test_what_ended_in_part_is_told_as_that(
    run: Run,
    serve: Serve,
    engine: str,
    client: str,
    endpoint: str,
    capsys: pytest.CaptureFixture[str],
) -> None:
    tear = asyncio.Event()

    async def by_path(turn: Turn) -> None:
        path = turn.fields[":path"]
        if path == "/whole":
            return await turn.answer(b"fine")
        if path != "/unheard":
            await turn.begin()
            await turn.say(b"some")
        if path == "/torn":
            await tear.wait()
            return turn.die()
        return await turn.left()

    async def go() -> None:
        async with (
            hosting(endpoint, by_path) as host,
            serve(str(logged(engine, endpoint, host.port))) as proxy,
            calling(client, proxy) as caller,
        ):
            await caller.ask(request("GET", "/whole"))
            torn = await caller.begin(request("GET", "/torn"))
            await torn.head()
            tear.set()
            with pytest.raises(TORN):
                await torn.whole()
            heard = await caller.begin(request("GET", "/heard"))
            await heard.head()
            heard.leave()
            unheard = await caller.begin(request("GET", "/unheard"))
            await host.reached(4)
            unheard.leave()
            await idle(proxy)

    run(go())
    told = lines(capsys)
    assert {target: end(line) for target, line in told.items()} == {
        "/whole": (200, "", "endpoint", ""),
        "/torn": (200, "upstream_reset", "endpoint", "answering"),
        "/heard": (200, "client_gone", "client", "answering"),
        "/unheard": (0, "client_gone", "client", "asked"),
    }
    assert all(line["endpoint"].startswith("127.0.0.") for line in told.values())
    assert told["/torn"]["detail"]


@every_endpoint
@pytest.mark.parametrize("client", ["http1", "h2"])
def test_who_shuts_its_half_gets_what_the_log_tells(
    run: Run,
    serve: Serve,
    engine: str,
    client: str,
    endpoint: str,
    capsys: pytest.CaptureFixture[str],
) -> None:
    """An answer that comes while the connection closes goes nowhere."""

    async def fine(turn: Turn) -> None:
        await turn.answer(b"fine")

    async def go() -> None:
        async with (
            hosting(endpoint, fine) as host,
            serve(str(logged(engine, endpoint, host.port))) as proxy,
        ):
            for n in range(20):
                async with calling(client, proxy) as caller:
                    asked = await caller.begin(request("GET", f"/{n}"))
                    writer = caller.h2.writer if caller.h2 is not None else caller.writers[-1]
                    writer.write_eof()
                    try:
                        got.add((await asked.whole()).status)
                    except TORN:
                        got.add(0)
            await idle(proxy)

    got: set[int] = set()
    run(go())
    assert got == {0}
    told = lines(capsys).values()
    assert len(told) == 20
    assert {line["reason"] for line in told} == {"client_gone"}


@every_endpoint
@pytest.mark.parametrize("client", ["http1", "h2"])
def test_a_tunnel_that_is_cut_for_silence(
    run: Run,
    serve: Serve,
    engine: str,
    client: str,
    endpoint: str,
    capsys: pytest.CaptureFixture[str],
) -> None:
    async def go() -> None:
        echo = Echo(endpoint)
        async with echo.origin() as origin:
            mesh = logged(engine, endpoint, origin.port).via(upgrade=["websocket"])
            mesh.upstream["endpoints"].pop()
            async with (
                serve(str(mesh.via(idle_timeout="100ms"))) as proxy,
                dial(client, proxy) as tunnel,
            ):
                await tunnel.send(b"hello")
                assert await tunnel.read(5) == b"hello"
                await tunnel.ended()
                await idle(proxy)

    run(go())
    (line,) = lines(capsys).values()
    assert end(line) == (101 if client == "http1" else 200, "tunnel_idle", "proxy", "tunnel")


@every_endpoint
@pytest.mark.parametrize("how", ["only", "behind"])
def test_a_call_that_failed_has_its_status(
    run: Run,
    serve: Serve,
    engine: str,
    endpoint: str,
    how: str,
    capsys: pytest.CaptureFixture[str],
) -> None:
    async def fail(turn: Turn) -> None:
        await turn.read()
        status = ("grpc-status", str(UNAVAILABLE))
        if how == "only":
            return await turn.answer(b"", GRPC, status)
        await turn.begin(GRPC)
        await turn.say(b"\0\0\0\0\0")
        return await turn.end(status)

    async def go() -> None:
        async with (
            hosting(endpoint, fail) as host,
            serve(str(logged(engine, endpoint, host.port))) as proxy,
            calling("h2", proxy) as caller,
        ):
            await caller.ask(request("POST", "/call", GRPC, body=b"x"))

    run(go())
    line = lines(capsys)["/call"]
    assert (line["status"], line["grpc_status"]) == (200, UNAVAILABLE)


@every_way
def test_one_address_of_a_client_everywhere(
    run: Run,
    serve: Serve,
    engine: str,
    client: str,
    endpoint: str,
    capsys: pytest.CaptureFixture[str],
) -> None:
    """In the log as for the limiter."""

    async def fine(turn: Turn) -> None:
        await turn.answer(b"fine")

    async def go() -> None:
        async with hosting(endpoint, fine) as host:
            mesh = logged(engine, endpoint, host.port)
            limit = {"client_limit": {"rate": "1/h", "burst": 1}}
            mesh.listen(client_address={"trusted_hops": 1}, layers=[limit])
            async with serve(str(mesh)) as proxy, calling(client, proxy) as caller:
                statuses = [
                    (await caller.ask(request("GET", f"/{n}", ("x-forwarded-for", by)))).status
                    for n, by in enumerate(("9.9.9.9", "9.9.9.9", "8.8.8.8"))
                ]
                assert statuses == [200, 429, 200]

    run(go())
    told = lines(capsys)
    assert [told[f"/{n}"]["client"] for n in range(3)] == ["9.9.9.9", "9.9.9.9", "8.8.8.8"]
    assert told["/1"]["endpoint"] == ""
    assert {told["/0"]["endpoint"][:9], told["/2"]["endpoint"][:9]} == {"127.0.0.1", "127.0.0.2"}


@every_way
def test_an_answer_to_what_was_not_sent_whole_says_so(
    run: Run,
    serve: Serve,
    engine: str,
    client: str,
    endpoint: str,
    capsys: pytest.CaptureFixture[str],
) -> None:
    """It is no failure: the client has all of it, and the rest does not go to the endpoint."""

    async def early(turn: Turn) -> None:
        if turn.fields[":path"] == "/early":
            await turn.answer(b"enough", status=403)
            await turn.left()
            parted.set()
        else:
            await turn.answer(b"fine")

    parted = asyncio.Event()

    async def go() -> None:
        async with (
            hosting(endpoint, early) as host,
            serve(str(logged(engine, endpoint, host.port))) as proxy,
            calling(client, proxy) as caller,
        ):
            reply = await (await caller.begin(request("POST", "/early"), end=False)).whole()
            assert (reply.status, reply.body) == (403, b"enough")
            await parted.wait()
            assert (await caller.ask(request("POST", "/whole"))).body == b"fine"

    run(go())
    told = lines(capsys)
    assert end(told["/early"]) == (403, "", "endpoint", "")
    assert told["/early"]["detail"] == "request not sent whole"
    assert (*end(told["/whole"]), told["/whole"]["detail"]) == (200, "", "endpoint", "", "")
