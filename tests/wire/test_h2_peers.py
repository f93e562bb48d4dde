"""Other people's clients and services through the proxy: grpcio, grpclib, websockets."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from concurrent import futures
from contextlib import asynccontextmanager
from typing import Any

import grpc
import pytest
from grpclib.client import Channel, StreamStreamMethod, UnaryUnaryMethod
from grpclib.const import Cardinality, Handler, Status
from grpclib.encoding.base import CodecBase
from grpclib.exceptions import GRPCError
from grpclib.server import Server, Stream
from websockets.asyncio.client import connect
from websockets.asyncio.server import ServerConnection
from websockets.asyncio.server import serve as serve_websocket

from meshcore import Proxy
from tests.wire.conftest import Run, Serve, metric
from tests.wire.h2_mesh import Mesh

UNARY, STREAM, FAIL = "/peer/Unary", "/peer/Stream", "/peer/Fail"
NOT_FOUND, NO_SUCH = 5, "no such thing"
PIECES = [b"one", b"", b"x" * 200_000, b"four"]
Calls = Callable[[str], Awaitable[tuple[bytes, list[bytes], tuple[int, str]]]]


def address(proxy: Proxy) -> str:
    """Of its listener."""
    return proxy.addresses["edge"].removeprefix("http://")


def answer(request: bytes) -> bytes:
    """What every service here makes of a message."""
    return request + b"!"


# --- grpcio -----------------------------------------------------------------------------------


def _fail(_: bytes, context: Any) -> bytes:
    context.abort(grpc.StatusCode.NOT_FOUND, NO_SUCH)
    raise AssertionError


def _each(requests: Iterator[bytes], _: Any) -> Iterator[bytes]:
    return (answer(request) for request in requests)


class _Handlers(grpc.GenericRpcHandler):
    def service(self, details: Any) -> Any:
        return {
            UNARY: grpc.unary_unary_rpc_method_handler(lambda request, _: answer(request)),
            STREAM: grpc.stream_stream_rpc_method_handler(_each),
            FAIL: grpc.unary_unary_rpc_method_handler(_fail),
        }.get(details.method)


@asynccontextmanager
async def grpcio_service() -> AsyncIterator[int]:
    """Its port."""
    service = grpc.server(futures.ThreadPoolExecutor(4), handlers=[_Handlers()])
    port = service.add_insecure_port("127.0.0.1:0")
    service.start()
    try:
        yield port
    finally:
        await asyncio.to_thread(service.stop(0).wait)


def _grpcio_calls(address: str) -> tuple[bytes, list[bytes], tuple[int, str]]:
    options = [("grpc.use_local_subchannel_pool", 1)]
    channel: Any  # it does not know what messages are
    with grpc.insecure_channel(address, options) as channel:
        unary = channel.unary_unary(UNARY)(b"hello", timeout=5)
        pieces = list(channel.stream_stream(STREAM)(iter(PIECES), timeout=5))
        with pytest.raises(grpc.RpcError) as failed:
            channel.unary_unary(FAIL)(b"hello", timeout=5)
        error: Any = failed.value
        return unary, pieces, (error.code().value[0], error.details())


async def grpcio_calls(address: str) -> tuple[bytes, list[bytes], tuple[int, str]]:
    """A call of each kind, in a thread: its client blocks."""
    return await asyncio.to_thread(_grpcio_calls, address)


# --- grpclib ----------------------------------------------------------------------------------


class _Raw(CodecBase):
    """Messages are bytes."""

    __content_subtype__ = "proto"

    def encode(self, message: Any, message_type: Any) -> bytes:
        return bytes(message)

    def decode(self, data: bytes, message_type: Any) -> Any:
        return data


class _Service:
    async def unary(self, stream: Stream[bytes, bytes]) -> None:
        await stream.send_message(answer(await stream.recv_message() or b""))

    async def each(self, stream: Stream[bytes, bytes]) -> None:
        async for request in stream:
            await stream.send_message(answer(request))

    async def fail(self, stream: Stream[bytes, bytes]) -> None:
        await stream.recv_message()
        raise GRPCError(Status.NOT_FOUND, NO_SUCH)

    def __mapping__(self) -> dict[str, Handler]:
        return {
            UNARY: Handler(self.unary, Cardinality.UNARY_UNARY, bytes, bytes),
            STREAM: Handler(self.each, Cardinality.STREAM_STREAM, bytes, bytes),
            FAIL: Handler(self.fail, Cardinality.UNARY_UNARY, bytes, bytes),
        }


@asynccontextmanager
async def grpclib_service() -> AsyncIterator[int]:
    """Its port."""
    service = Server([_Service()], codec=_Raw())
    listening = socket.create_server(("127.0.0.1", 0))
    await service.start(sock=listening)
    try:
        yield listening.getsockname()[1]
    finally:
        service.close()
        await service.wait_closed()


async def grpclib_calls(address: str) -> tuple[bytes, list[bytes], tuple[int, str]]:
    """A call of each kind."""
    host, _, port = address.rpartition(":")
    async with Channel(host, int(port), codec=_Raw()) as channel:
        unary = await UnaryUnaryMethod(channel, UNARY, bytes, bytes)(b"hello", timeout=5)
        pieces = await StreamStreamMethod(channel, STREAM, bytes, bytes)(PIECES, timeout=5)
        with pytest.raises(GRPCError) as failed:
            await UnaryUnaryMethod(channel, FAIL, bytes, bytes)(b"hello", timeout=5)
        return unary, pieces, (failed.value.status.value, failed.value.message or "")


SERVICES = {"grpcio": grpcio_service, "grpclib": grpclib_service}
CLIENTS: dict[str, Calls] = {"grpcio": grpcio_calls, "grpclib": grpclib_calls}


@pytest.mark.parametrize("service", SERVICES)
@pytest.mark.parametrize("client", CLIENTS)
def test_calls_of_every_kind_pass_between_other_peoples_ends(
    run: Run, serve: Serve, engine: str, client: str, service: str
) -> None:
    async def go() -> None:
        async with (
            SERVICES[service]() as port,
            serve(str(Mesh(engine, port).to("h2"))) as proxy,
        ):
            unary, pieces, failed = await CLIENTS[client](address(proxy))
            assert unary == b"hello!"
            assert pieces == [answer(piece) for piece in PIECES]
            assert failed == (NOT_FOUND, NO_SUCH)
            assert metric(proxy, "meshcore_route_grpc_total", status="0") == 2
            assert metric(proxy, "meshcore_route_grpc_total", status="5") == 1

    run(go())


def test_a_websocket_passes_between_other_peoples_ends(run: Run, serve: Serve) -> None:
    async def echo(end: ServerConnection) -> None:
        async for message in end:
            await end.send(message)
        await end.wait_closed()

    async def go() -> None:
        async with serve_websocket(echo, "127.0.0.1", 0) as service:
            port = service.sockets[0].getsockname()[1]
            text = Mesh("native", port).via(upgrade=["websocket"])
            async with serve(str(text)) as proxy:
                uri = f"ws://{address(proxy)}/chat"
                async with connect(uri, proxy=None) as end:
                    for message in ("hello", b"\0" * 300_000, ""):
                        await end.send(message)
                        assert await end.recv() == message
                    await (await end.ping())
                assert (end.close_code, end.close_reason) == (1000, "")

    run(go())
