"""What tests of blame share: calls and turns that look the same in both protocols, part by part,
and a mesh in which one failure ejects an endpoint and two open the breaker."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any, cast

import pytest
from h2.exceptions import ProtocolError
from h2.settings import SettingCodes

from meshcore import Proxy
from tests.wire.conftest import eventually, metric
from tests.wire.either import Message, h1_head, h1_rest, h2_message, lines
from tests.wire.h2_client import H2Client, connect
from tests.wire.h2_mesh import Mesh
from tests.wire.h2_origin import Call, H2Origin
from tests.wire.h2_peer import PATIENCE_S, Field, ResetError, Stream
from tests.wire.origin import Origin, Visit

PROTOCOLS = ("http1", "h2")
WAYS = [(client, endpoint) for client in PROTOCOLS for endpoint in PROTOCOLS]
every_way = pytest.mark.parametrize(
    ("client", "endpoint"), WAYS, ids=[f"{c}-to-{e}" for c, e in WAYS]
)
every_endpoint = pytest.mark.parametrize("endpoint", PROTOCOLS)

GRPC: Field = ("content-type", "application/grpc")
# One failure ejects; two in a row or in the window, of different endpoints, open.
TOUCHY: dict[str, Any] = {
    "circuit_breaker": {"failures": 1, "min_calls": 1, "failure_percent": 1},
    "ejection": {"failures": 1, "max_percent": 100},
}


def touchy(engine: str, protocol: str, *ports: int, **breaker: Any) -> Mesh:
    """A mesh that asks a host at two addresses in turn, reacts to the first failure of each, and
    tries nothing again; more keys of its breaker."""
    keys = TOUCHY | {"circuit_breaker": TOUCHY["circuit_breaker"] | breaker}
    mesh = Mesh(engine).to(protocol, balance="round_robin", **keys).via(retry="off")
    mesh.upstream["endpoints"] = [f"127.0.0.{n}:{port}" for port in ports for n in (1, 2)]
    return mesh


def blamed(proxy: Proxy) -> set[str]:
    """What somebody was blamed for by now: `breaker` if one is not closed, `endpoint` if one is
    ejected."""
    found = set()
    for line in proxy.metrics()[0].decode().splitlines():
        name, _, value = line.rpartition(" ")
        if name.startswith("meshcore_breaker_state{") and value != "0":
            found.add("breaker")
        if name.startswith("meshcore_endpoint_available{") and value == "0":
            found.add("endpoint")
    return found


async def idle(proxy: Proxy) -> None:
    """Wait until no request is under way."""
    await eventually(lambda: metric(proxy, "meshcore_upstream_requests") == 0)


# --- a client's calls -------------------------------------------------------------------------


@dataclass
class H1Call:
    """A request on a connection of its own."""

    reader: asyncio.StreamReader
    writer: asyncio.StreamWriter
    asked: dict[str, str]
    chunked: bool
    got: Message | None = None

    async def head(self) -> dict[str, str]:
        """Wait for the response's head."""
        while self.got is None:
            fields = await h1_head(self.reader)
            if fields[":status"] == "101" or not fields[":status"].startswith("1"):
                self.got = Message(fields)
        return self.got.fields

    async def whole(self) -> Message:
        """Wait for all of the response."""
        await self.head()
        assert self.got is not None
        head = self.asked[":method"] == "HEAD"
        await h1_rest(self.reader, self.got, answers_head=head)
        return self.got

    async def send(self, data: bytes, *, end: bool = False) -> None:
        """More of the body."""
        if self.chunked:
            data = b"%x\r\n%b\r\n" % (len(data), data) if data else b""
            data += b"0\r\n\r\n" if end else b""
        self.writer.write(data)
        await self.writer.drain()

    def leave(self) -> None:
        """Go without an answer, or with part of one."""
        self.writer.close()


@dataclass
class H2Call:
    """A request on a stream of a connection that others share."""

    stream: Stream

    async def head(self) -> dict[str, str]:
        """Wait for the response's head."""
        return await self.stream.head()

    async def whole(self) -> Message:
        """Wait for all of the response."""
        await self.stream.whole()
        return h2_message(self.stream)

    async def send(self, data: bytes, *, end: bool = False) -> None:
        """More of the body."""
        await self.stream.send(data, end=end)

    def leave(self) -> None:
        """Go without an answer, or with part of one."""
        self.stream.cancel()


OneCall = H1Call | H2Call


@dataclass
class Caller:
    """Begins calls: over HTTP/2 on one connection, over HTTP/1.1 on one for each."""

    url: str
    h2: H2Client | None = None
    writers: list[asyncio.StreamWriter] = field(default_factory=list)

    async def begin(self, message: Message, *, end: bool = True) -> OneCall:
        """A request; with `end=False` only its head, and what of its body is there."""
        fields, body = message.fields, message.body
        if self.h2 is not None:
            stream = self.h2.open(*fields.items(), end=end and not body)
            if body:
                await stream.send(body, end=end)
            return H2Call(stream)
        reader, writer = await connect(self.url, None)
        self.writers.append(writer)
        chunked = bool(body or not end) and "content-length" not in fields
        start = f"{fields[':method']} {fields[':path']} HTTP/1.1\r\nhost: a.test\r\n"
        coding = "transfer-encoding: chunked\r\n" if chunked else ""
        writer.write(f"{start}{lines(fields)}{coding}\r\n".encode())
        call = H1Call(reader, writer, fields, chunked)
        if body or (chunked and end):
            await call.send(body, end=end)
        return call

    async def ask(self, message: Message) -> Message:
        """A request, and all of its response."""
        return await (await self.begin(message)).whole()


@asynccontextmanager
async def calling(
    protocol: str,
    proxy: Proxy,
    listener: str = "edge",
    *,
    credit: bool = True,
    window: int | None = None,
) -> AsyncIterator[Caller]:
    """A client; over HTTP/2 perhaps one that gives no window back, or that has so much a stream."""
    url = proxy.addresses[listener]
    if protocol == "h2":
        settings = {SettingCodes.INITIAL_WINDOW_SIZE: window} if window is not None else None
        async with H2Client(url, credit=credit, settings=settings) as client:
            yield Caller(url, client)
        return
    caller = Caller(url)
    try:
        yield caller
    finally:
        for writer in caller.writers:
            writer.close()


# --- an origin's turns ------------------------------------------------------------------------


@dataclass
class H1Turn:
    """A request that came to an origin, and the way to answer it."""

    visit: Visit
    fields: dict[str, str]
    chunked: bool = False

    async def read(self) -> bytes:
        """All of its body."""
        message = Message(self.fields)
        try:
            await h1_rest(self.visit.reader, message)
        except ValueError:  # no size where a chunk should begin
            raise ConnectionResetError("the proxy left within a body") from None
        return message.body

    async def begin(self, *fields: Field, status: int = 200) -> None:
        """A head; chunks follow unless it says what else."""
        self.chunked = "content-length" not in dict(fields)
        coding = "transfer-encoding: chunked\r\n" if self.chunked else ""
        out = f"HTTP/1.1 {status} x\r\n{lines(dict(fields))}{coding}\r\n"
        await self.visit.send(out.encode())

    async def say(self, data: bytes) -> None:
        """A piece of the body."""
        await self.visit.send(b"%x\r\n%b\r\n" % (len(data), data) if self.chunked else data)

    async def end(self, *trailers: Field) -> None:
        """The end."""
        if self.chunked:
            await self.visit.send(f"0\r\n{lines(dict(trailers))}\r\n".encode())

    async def answer(self, body: bytes = b"", *fields: Field, status: int = 200) -> None:
        """A whole response."""
        length = ("content-length", str(len(body)))
        await self.begin(*fields, length, status=status)
        if body and self.fields[":method"] != "HEAD":
            await self.say(body)

    def die(self) -> None:
        """Cut the connection."""
        self.visit.writer.transport.abort()

    def reset(self) -> None:
        """End this request alone."""
        self.die()

    async def close(self) -> None:
        """Close it behind what was sent, whatever comes still."""
        self.visit.writer.close()

    async def left(self) -> None:
        """Wait until the proxy gives it up."""
        with contextlib.suppress(ConnectionError):
            while await self.visit.reader.read(65_536):
                pass


@dataclass
class H2Turn:
    """The same over HTTP/2."""

    call: Call

    @property
    def fields(self) -> dict[str, str]:
        """Of the request."""
        return self.call.fields

    async def read(self) -> bytes:
        """All of its body."""
        return await self.call.whole()

    async def begin(self, *fields: Field, status: int = 200) -> None:
        """A head."""
        self.call.send_head((":status", str(status)), *fields)

    async def say(self, data: bytes) -> None:
        """A piece of the body."""
        await self.call.send(data)

    async def end(self, *trailers: Field) -> None:
        """The end."""
        if trailers:
            self.call.send_head(*trailers, end=True)
        else:
            await self.call.send(b"", end=True)

    async def answer(self, body: bytes = b"", *fields: Field, status: int = 200) -> None:
        """A whole response."""
        if self.fields[":method"] == "HEAD":
            body = b""
        await self.call.answer(body, *fields, status=status)

    def die(self) -> None:
        """Cut the connection."""
        self.call.visit.abort()

    def reset(self) -> None:
        """End this request alone."""
        self.call.cancel(2)

    async def close(self) -> None:
        """The request's rest is of no use (RFC 9113 §8.1): end the stream without an error."""
        self.call.cancel(0)

    async def left(self) -> None:
        """Wait until the proxy gives it up."""
        with contextlib.suppress(ConnectionError):
            await self.call.reset()


Turn = H1Turn | H2Turn
Handle = Callable[[Turn], Awaitable[None]]


class Host:
    """An origin and the requests that it got."""

    def __init__(self, protocol: str, handle: Handle) -> None:
        self._handle = handle
        self._pulse = asyncio.Event()
        self.turns: list[Turn] = []
        settings = {SettingCodes.ENABLE_CONNECT_PROTOCOL: 1}
        self.origin: Origin | H2Origin = (
            H2Origin(self._h2, settings=settings) if protocol == "h2" else Origin(self._h1)
        )
        self.origin.address = "0.0.0.0"  # at two addresses it is two endpoints

    @property
    def port(self) -> int:
        """Where it listens."""
        return self.origin.port

    @property
    def connections(self) -> int:
        """How many there were."""
        return len(self.origin.visits)

    async def _h1(self, visit: Visit) -> None:
        while True:
            fields = await h1_head(visit.reader)
            await self._take(H1Turn(visit, fields))

    async def _h2(self, call: Call) -> None:
        await self._take(H2Turn(call))

    async def _take(self, turn: Turn) -> None:
        self.turns.append(turn)
        pulse, self._pulse = self._pulse, asyncio.Event()
        pulse.set()
        with contextlib.suppress(ConnectionError, ResetError, ProtocolError):
            await self._handle(turn)

    async def reached(self, requests: int) -> None:
        """Wait until so many came in all."""
        async with asyncio.timeout(PATIENCE_S):
            while len(self.turns) < requests:
                await self._pulse.wait()


@asynccontextmanager
async def hosting(protocol: str, handle: Handle) -> AsyncIterator[Host]:
    """An origin that does with each request what the test says."""
    host = Host(protocol, handle)
    async with host.origin:
        yield host


def h2_of(turn: Turn) -> Call:
    """The stream of a turn that has one."""
    return cast("H2Turn", turn).call
