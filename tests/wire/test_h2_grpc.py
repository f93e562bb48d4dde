"""gRPC through the proxy: calls are streams, statuses are trailers, deadlines are the client's."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any

import pytest

from tests.wire.conftest import Run, Serve, eventually, metric, nobody
from tests.wire.h2_client import H2Client
from tests.wire.h2_mesh import Mesh
from tests.wire.h2_origin import Call, H2Origin
from tests.wire.h2_peer import Field, Stream

CANCEL = 8
OK, UNIMPLEMENTED, UNAVAILABLE, EXHAUSTED, DEADLINE = "0", "12", "14", "8", "4"
UNITS = {"H": 3600.0, "M": 60.0, "S": 1.0, "m": 1e-3, "u": 1e-6, "n": 1e-9}
HEAD: tuple[Field, ...] = ((":status", "200"), ("content-type", "application/grpc"))


def message(data: bytes) -> bytes:
    """Not compressed, its length, itself."""
    return b"\0" + len(data).to_bytes(4, "big") + data


def seconds(timeout: str) -> float:
    """What a `grpc-timeout` says."""
    return int(timeout[:-1]) * UNITS[timeout[-1]]


def begin(client: H2Client, *fields: Field, path: str = "/pkg.Service/Method") -> Stream:
    """A call without its message."""
    grpc = (("te", "trailers"), ("content-type", "application/grpc+proto"))
    return client.ask(path, *grpc, *fields, method="POST", end=False)


async def unary(client: H2Client, *fields: Field, path: str = "/pkg.Service/Method") -> Stream:
    """A call with one message, and all of its answer."""
    stream = begin(client, *fields, path=path)
    await stream.send(message(b"ask"), end=True)
    await stream.whole()
    return stream


def status(stream: Stream) -> str:
    """How a call ended, wherever that is said."""
    return (stream.trailers or stream.fields)["grpc-status"]


def ending(code: str, how: str = "only") -> Callable[[Call], Any]:
    """A service that ends every call alike: with trailers only, behind a head, behind a message
    at once or later."""

    async def answer(call: Call) -> None:
        await call.whole()
        trailers = (("grpc-status", code), ("grpc-message", "so%20it%20is"))
        if how == "only":
            return call.send_head(*HEAD, *trailers, end=True)
        call.send_head(*HEAD)
        if how in ("message", "later"):
            await call.send(message(b"answer"))
        if how == "later":
            await call.visit.round_trip()
        return call.send_head(*trailers, end=True)

    return answer


def mesh(engine: str, *ports: int) -> Mesh:
    return Mesh(engine, *ports).to("h2", ejection="off").via(timeout="10s")


def test_a_call_goes_through_with_its_metadata(run: Run, serve: Serve, engine: str) -> None:
    async def go() -> None:
        async with (
            H2Origin(ending(OK, "message")) as origin,
            serve(str(mesh(engine, origin.port))) as proxy,
            H2Client(proxy.addresses["edge"]) as client,
        ):
            stream = await unary(client, ("x-key-bin", "AAEC"), ("x-key-bin", "Aw"))
            assert (stream.status, bytes(stream.body)) == (200, message(b"answer"))
            assert stream.trailers == {"grpc-status": OK, "grpc-message": "so%20it%20is"}
            asked = origin.calls[0]
            assert bytes(asked.body) == message(b"ask")
            assert asked.fields["te"] == "trailers"
            assert [v for k, v in asked.lines if k == "x-key-bin"] == ["AAEC", "Aw"]
            assert metric(proxy, "meshcore_route_grpc_total", route="all", status=OK) == 1

    run(go())


# --- answers of the proxy ---------------------------------------------------------------------


def unroutable(text: Mesh) -> None:
    text.via(match={"path": {"exact": "/none"}})


def limited(text: Mesh) -> None:
    text.listen(layers=[{"limit": {"rate": "1/m", "burst": 1}}])


def opened(text: Mesh) -> None:
    text.via(layers=[{"circuit_breaker": {"failures": 1, "open_for": "30s"}}])


def unreachable(text: Mesh) -> None:
    text.to("h2", circuit_breaker="off")


def forbidden(text: Mesh) -> None:
    text.route = {"name": "all", "respond": {"status": 403, "body": "no"}}


@pytest.mark.parametrize(
    ("change", "served", "code", "reason"),
    [
        (unroutable, 0, UNIMPLEMENTED, "no_route"),
        (limited, 1, EXHAUSTED, "rate_limited"),
        (opened, 1, UNAVAILABLE, "breaker_open"),
        (unreachable, 0, UNAVAILABLE, "upstream_connect"),
        (forbidden, 0, "7", None),
    ],
)
def test_an_answer_of_the_proxy_is_trailers_only(
    run: Run,
    serve: Serve,
    engine: str,
    change: Callable[[Mesh], None],
    served: int,
    code: str,
    reason: str | None,
) -> None:
    async def go() -> None:
        with nobody() as port:
            text = mesh(engine, port).via(retry="off")
            change(text)
            async with serve(str(text)) as proxy, H2Client(proxy.addresses["edge"]) as client:
                for _ in range(served):
                    await unary(client)
                stream = await unary(client)
                assert (stream.status, bytes(stream.body), stream.trailers) == (200, b"", None)
                fields = stream.fields
                assert fields["content-type"] == "application/grpc"
                assert (fields["grpc-status"], fields.get("x-mesh-reason")) == (code, reason)
                assert fields["grpc-message"]
                assert "content-length" not in fields
                if reason in ("rate_limited", "breaker_open"):
                    assert int(fields["retry-after"]) >= 1
                # What only looks like it is answered in HTTP.
                web = client.ask("/", ("content-type", "application/grpc-web"), method="POST")
                await web.whole()
                assert web.status >= 400

    run(go())


@pytest.mark.parametrize(
    ("code", "reason"),
    [(2, "upstream_reset"), (7, "upstream_refused"), (11, "upstream_reset"), (1, "upstream_reset")],
)
def test_a_call_that_is_reset_before_its_head_is_unavailable(
    run: Run, serve: Serve, engine: str, code: int, reason: str
) -> None:
    async def reset(call: Call) -> None:
        call.cancel(code)

    async def go() -> None:
        async with (
            H2Origin(reset) as origin,
            serve(str(mesh(engine, origin.port).via(retry="off"))) as proxy,
            H2Client(proxy.addresses["edge"]) as client,
        ):
            stream = await unary(client)
            assert (status(stream), stream.fields["x-mesh-reason"]) == (UNAVAILABLE, reason)

    run(go())


# --- deadlines --------------------------------------------------------------------------------


def test_a_deadline_of_the_client_ends_the_call_and_blames_nobody(
    run: Run, serve: Serve, engine: str
) -> None:
    codes: list[int] = []

    async def never(call: Call) -> None:
        codes.append(await call.reset())

    async def go() -> None:
        breaker = {"circuit_breaker": {"failures": 2, "open_for": "30s"}}
        async with (
            H2Origin(never) as origin,
            serve(str(mesh(engine, origin.port).via(layers=[breaker]))) as proxy,
            H2Client(proxy.addresses["edge"]) as client,
        ):
            begun = asyncio.get_running_loop().time()
            calls = [unary(client, ("grpc-timeout", "100m")) for _ in range(5)]
            for stream in await asyncio.gather(*calls):
                assert (status(stream), stream.fields["x-mesh-reason"]) == (
                    DEADLINE,
                    "deadline_exceeded",
                )
            assert 0.1 <= asyncio.get_running_loop().time() - begun < 10
            await eventually(lambda: codes == [CANCEL] * 5)
            assert status(await unary(client, ("grpc-timeout", "1m"))) == DEADLINE

    run(go())


@pytest.mark.parametrize("given", ["9S", "9000m", "1H", "9000000u", "99999999u"])
def test_the_endpoint_is_given_what_is_left(
    run: Run, serve: Serve, engine: str, given: str
) -> None:
    async def go() -> None:
        async with (
            H2Origin(ending(OK, "message")) as origin,
            serve(str(mesh(engine, origin.port))) as proxy,
            H2Client(proxy.addresses["edge"]) as client,
        ):
            await unary(client, ("grpc-timeout", given))
            left = origin.calls[0].fields["grpc-timeout"]
            assert seconds(given) * 0.5 < seconds(left) < seconds(given)
            assert len(left) <= 9
            await unary(client)
            assert "grpc-timeout" not in origin.calls[1].fields

    run(go())


def test_a_deadline_behind_the_head_is_told(run: Run, serve: Serve, engine: str) -> None:
    async def stall(call: Call) -> None:
        call.send_head(*HEAD)
        await call.send(message(b"first"))
        codes.append(await call.reset())

    codes: list[int] = []

    async def go() -> None:
        async with (
            H2Origin(stall) as origin,
            serve(str(mesh(engine, origin.port))) as proxy,
            H2Client(proxy.addresses["edge"]) as client,
        ):
            stream = begin(client, ("grpc-timeout", "200m"))
            await stream.until(lambda: bool(stream.body))
            assert await stream.whole() == message(b"first")
            assert stream.trailers is not None
            assert stream.trailers["grpc-status"] == DEADLINE
            await eventually(lambda: codes == [CANCEL])

    run(go())


# --- statuses and the breaker -----------------------------------------------------------------


@pytest.mark.parametrize(
    ("code", "how", "opens"),
    [
        ("14", "only", True),
        ("14", "head", True),
        ("13", "head", True),
        ("2", "only", True),
        ("4", "only", True),
        ("15", "only", True),
        ("14", "message", False),  # it worked: the first message settles the call
        ("14", "later", False),
        ("0", "message", False),
        ("3", "only", False),
        ("5", "head", False),
        ("8", "only", False),
        ("1", "only", False),
        ("17", "only", True),  # no number of gRPC's: UNKNOWN
    ],
)
@pytest.mark.parametrize("named", [True, False])
def test_the_status_of_a_call_is_what_the_breaker_learns(
    run: Run, serve: Serve, engine: str, code: str, how: str, opens: bool, named: bool
) -> None:
    """Where the breaker names statuses these open it; else UNAVAILABLE alone, by its rate."""
    rules: dict[str, Any] = {"failures": 5, "min_calls": 5}
    if named:
        rules["on"] = ["unavailable", "internal", "unknown", "deadline-exceeded", "data-loss"]
    elif code != "14":
        opens = False

    async def go() -> None:
        async with (
            H2Origin(ending(code, how)) as origin,
            serve(str(mesh(engine, origin.port).to("h2", circuit_breaker=rules))) as proxy,
            H2Client(proxy.addresses["edge"]) as client,
        ):
            for _ in range(5):
                assert status(await unary(client)) == code
            counted = "2" if code == "17" else code
            assert metric(proxy, "meshcore_route_grpc_total", status=counted) == 5
            last = await unary(client)
            if opens:
                assert last.fields["x-mesh-reason"] == "breaker_open"
            else:
                assert status(last) == code
            assert len(origin.calls) == (5 if opens else 6)

    run(go())


def test_an_answer_without_a_status_counts_as_http(run: Run, serve: Serve, engine: str) -> None:
    async def broken(call: Call) -> None:
        await call.whole()
        await call.answer(b"<html>", ("content-type", "text/html"), status=503)

    async def go() -> None:
        async with (
            H2Origin(broken) as origin,
            serve(str(mesh(engine, origin.port))) as proxy,
            H2Client(proxy.addresses["edge"]) as client,
        ):
            for _ in range(20):
                assert (await unary(client)).status == 503
            assert (await unary(client)).fields["x-mesh-reason"] == "breaker_open"

    run(go())
