"""gRPC responses that end behind their head otherwise than with the service's own trailers."""

from __future__ import annotations

import asyncio
import json
from typing import Any

import grpc
import pytest

from tests.wire.conftest import Run, Serve, eventually, metric
from tests.wire.h2_client import H2Client
from tests.wire.h2_mesh import Mesh
from tests.wire.h2_origin import Call, H2Origin
from tests.wire.h2_peer import ResetError
from tests.wire.origin import Origin, Visit
from tests.wire.test_h2_grpc import HEAD, begin, mesh, message

FIRST = message(b"first")
HALF = message(b"second")[:7]
CUT = -1


@pytest.mark.parametrize(
    ("code", "expected"),
    [(CUT, 14), (0, 13), (2, 13), (7, 14), (8, 1), (11, 8), (12, 7), (99, 13)],
    ids=["cut", "NO", "INTERNAL", "REFUSED", "CANCEL", "CALM", "SECURITY", "unknown"],
)
@pytest.mark.parametrize("body", [b"", FIRST, FIRST + HALF], ids=["head", "message", "half"])
def test_what_an_endpoint_tears_ends_with_a_status(
    run: Run,
    serve: Serve,
    engine: str,
    capsys: pytest.CaptureFixture[str],
    code: int,
    expected: int,
    body: bytes,
) -> None:
    """A code of its own keeps what it means to gRPC, as without a proxy."""
    seen = asyncio.Event()

    async def tear(call: Call) -> None:
        call.send_head(*HEAD)
        await call.send(body)
        await seen.wait()
        if code == CUT:
            call.visit.abort()
        else:
            call.cancel(code)

    async def go() -> None:
        async with H2Origin(tear) as origin:
            text = mesh(engine, origin.port)
            text.top["access_log"] = "json"
            async with serve(str(text)) as proxy, H2Client(proxy.addresses["edge"]) as client:
                call = begin(client)
                await call.send(message(b"ask"), end=True)
                await call.until(lambda: bool(call.lines) and bytes(call.body) == body)
                seen.set()
                assert await call.whole() == body
                assert call.trailers is not None
                assert call.trailers["grpc-status"] == str(expected)
                assert call.trailers["grpc-message"] == "upstream reset"
                await eventually(lambda: metric(proxy, "meshcore_requests_cut_total") == 1)

    run(go())
    (line,) = map(json.loads, capsys.readouterr().out.splitlines())
    assert (line["status"], line["grpc_status"], line["reason"]) == (
        200,
        expected,
        "upstream_reset",
    )


def test_what_an_endpoint_of_http1_tears_ends_with_a_status(
    run: Run, serve: Serve, engine: str
) -> None:
    seen = asyncio.Event()

    async def tear(visit: Visit) -> None:
        await visit.head()
        head = (
            b"HTTP/1.1 200 OK\r\ncontent-type: application/grpc\r\ntransfer-encoding: chunked\r\n"
        )
        await visit.send(head + b"\r\n%x\r\n%b\r\n" % (len(FIRST), FIRST))
        await seen.wait()

    async def go() -> None:
        async with (
            Origin(tear) as origin,
            serve(str(Mesh(engine, origin.port))) as proxy,
            H2Client(proxy.addresses["edge"]) as client,
        ):
            call = begin(client)
            await call.send(message(b"ask"), end=True)
            await call.until(lambda: bytes(call.body) == FIRST)
            seen.set()
            await call.whole()
            assert call.trailers is not None
            assert call.trailers["grpc-status"] == "14"

    run(go())


@pytest.mark.parametrize(
    "head",
    [(*HEAD, ("content-length", "100")), ((":status", "200"),), ((":status", "500"), HEAD[1])],
    ids=["length", "type", "status"],
)
def test_what_could_not_be_told_or_is_no_grpc_is_reset(
    run: Run, serve: Serve, engine: str, head: tuple[tuple[str, str], ...]
) -> None:
    seen = asyncio.Event()

    async def tear(call: Call) -> None:
        call.send_head(*head)
        await call.send(FIRST)
        await seen.wait()
        call.visit.abort()

    async def go() -> None:
        async with (
            H2Origin(tear) as origin,
            serve(str(mesh(engine, origin.port))) as proxy,
            H2Client(proxy.addresses["edge"]) as client,
        ):
            call = begin(client)
            await call.send(message(b"ask"), end=True)
            await call.until(lambda: bytes(call.body) == FIRST)
            seen.set()
            with pytest.raises(ResetError) as reset:
                await call.whole()
            assert reset.value.code == 2

    run(go())


def test_a_grpc_library_hears_that_the_endpoint_was_lost(
    run: Run, serve: Serve, engine: str
) -> None:
    async def tear(call: Call) -> None:
        call.send_head(*HEAD)
        await call.send(FIRST)
        await heard.wait()
        call.visit.abort()

    heard = asyncio.Event()

    async def go() -> None:
        loop = asyncio.get_running_loop()
        async with H2Origin(tear) as origin, serve(str(mesh(engine, origin.port))) as proxy:
            address = proxy.addresses["edge"].removeprefix("http://")

            def ask() -> Any:
                channel: Any
                options = [("grpc.use_local_subchannel_pool", 1)]
                with grpc.insecure_channel(address, options) as channel:
                    call = channel.unary_stream("/pkg.Service/Method")(b"ask", timeout=8)
                    assert next(call) == b"first"
                    loop.call_soon_threadsafe(heard.set)
                    with pytest.raises(grpc.RpcError):
                        next(call)
                    return call.code(), call.details()

            told = await asyncio.to_thread(ask)
            assert told == (grpc.StatusCode.UNAVAILABLE, "upstream reset")

    run(go())
