"""A request and its response, in whichever protocol: a client and an origin that look the same."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field, replace

from tests.wire.conftest import Certificates
from tests.wire.h2_client import H2Client, connect
from tests.wire.h2_origin import Call, H2Origin
from tests.wire.h2_peer import Field, Stream
from tests.wire.origin import Origin, Visit

NO_BODY = (204, 304)


@dataclass
class Message:
    """A request or a response; pseudo fields are made of a start line."""

    fields: dict[str, str]
    body: bytes = b""
    trailers: dict[str, str] = field(default_factory=dict)
    interim: list[dict[str, str]] = field(default_factory=list)

    @property
    def status(self) -> int:
        """Of a response."""
        return int(self.fields[":status"])


def request(
    method: str = "GET",
    path: str = "/",
    *fields: Field,
    body: bytes = b"",
    trailers: dict[str, str] | None = None,
) -> Message:
    """A request for a.test."""
    head = {":method": method, ":scheme": "http", ":authority": "a.test", ":path": path}
    return Message(head | dict(fields), body, trailers or {})


def response(
    body: bytes = b"",
    *fields: Field,
    status: int = 200,
    trailers: dict[str, str] | None = None,
    interim: list[dict[str, str]] | None = None,
) -> Message:
    """A response."""
    head = {":status": str(status)} | dict(fields)
    return Message(head, body, trailers or {}, interim or [])


# --- HTTP/1.1 ---------------------------------------------------------------------------------


def lines(fields: dict[str, str]) -> str:
    return "".join(f"{k}: {v}\r\n" for k, v in fields.items() if not k.startswith(":"))


def h1_bytes(message: Message) -> bytes:
    """Chunks unless it has a length or no body; a trailer needs chunks."""
    of, out = message.fields, ""
    for head in message.interim:
        out += f"HTTP/1.1 {head[':status']} x\r\n{lines(head)}\r\n"
    if ":method" in of:
        out += f"{of[':method']} {of[':path']} HTTP/1.1\r\nhost: {of[':authority']}\r\n"
        bodiless = not message.body and not message.trailers
    else:
        out += f"HTTP/1.1 {of[':status']} x\r\n"
        bodiless = message.status in NO_BODY
    chunked = not bodiless and "content-length" not in of
    out += lines(of) + ("transfer-encoding: chunked\r\n" if chunked else "") + "\r\n"
    if not chunked:
        return out.encode() + message.body
    data = b"%x\r\n%b\r\n" % (len(message.body), message.body) if message.body else b""
    return out.encode() + data + f"0\r\n{lines(message.trailers)}\r\n".encode()


async def h1_head(reader: asyncio.StreamReader) -> dict[str, str]:
    """Read a head."""
    start, *rest = (await reader.readuntil(b"\r\n\r\n")).decode().split("\r\n")[:-2]
    fields = dict(line.lower().split(": ", 1) for line in rest)
    if start.startswith("HTTP/"):
        return {":status": start.split()[1]} | fields
    method, path, _ = start.split()
    return {":method": method, ":path": path, ":authority": fields.get("host", "")} | fields


async def h1_message(reader: asyncio.StreamReader, *, answers_head: bool = False) -> Message:
    """Read a request or a response."""
    interim = []
    while (fields := await h1_head(reader)).get(":status", "").startswith("1"):
        interim.append(fields)
    message = Message(fields, interim=interim)
    await h1_rest(reader, message, answers_head=answers_head)
    return message


async def h1_rest(
    reader: asyncio.StreamReader, message: Message, *, answers_head: bool = False
) -> None:
    """Read what follows a head."""
    fields = message.fields
    if answers_head or fields.get(":status") in ("204", "304"):
        return
    if "content-length" in fields:
        message.body = await reader.readexactly(int(fields["content-length"]))
    elif "transfer-encoding" in fields:
        body = bytearray()
        while size := int(await reader.readline(), 16):
            body += (await reader.readexactly(size + 2))[:-2]
        message.body = bytes(body)
        while line := (await reader.readline()).decode().strip():
            name, _, value = line.partition(": ")
            message.trailers[name.lower()] = value


# --- HTTP/2 -----------------------------------------------------------------------------------


async def h2_send(stream: Stream, message: Message, *, head: bool = True) -> None:
    """Write what follows the interim heads."""
    for fields in message.interim:
        stream.send_head(*fields.items())
    only_head = not message.body and not message.trailers
    if head:
        stream.send_head(*message.fields.items(), end=only_head)
    if message.body:
        await stream.send(message.body, end=not message.trailers)
    if message.trailers:
        stream.send_head(*message.trailers.items(), end=True)


def h2_message(stream: Stream) -> Message:
    """What came on a stream."""
    return Message(stream.fields, bytes(stream.body), stream.trailers or {}, stream.interim)


# --- either -----------------------------------------------------------------------------------

Ask = Callable[[Message], Awaitable[Message]]


@asynccontextmanager
async def asking(
    protocol: str, url: str, certificates: Certificates | None = None
) -> AsyncIterator[Ask]:
    """One connection to the proxy, and what asks on it."""
    if protocol == "h2":
        tls = certificates.client("h2") if certificates else None
        async with H2Client(url, tls=tls) as client:

            async def ask2(message: Message) -> Message:
                fields = message.fields | {":scheme": url.partition(":")[0]}
                stream = client.open(*fields.items(), end=not (message.body or message.trailers))
                await asyncio.gather(
                    h2_send(stream, replace(message, fields=fields), head=False), stream.whole()
                )
                return h2_message(stream)

            yield ask2
        return
    reader, writer = await connect(url, certificates.client("http/1.1") if certificates else None)

    async def ask1(message: Message) -> Message:
        writer.write(h1_bytes(message))
        head = message.fields[":method"] == "HEAD"
        found, _ = await asyncio.gather(h1_message(reader, answers_head=head), writer.drain())
        return found

    yield ask1
    writer.close()


@dataclass
class Service:
    """An origin: what it was asked, and how often somebody connected."""

    origin: Origin | H2Origin
    asked: list[Message]
    ports: list[int]
    """From which port each of them came."""

    @property
    def port(self) -> int:
        """Where it listens."""
        return self.origin.port

    @property
    def connections(self) -> int:
        """Connections so far."""
        return len(self.origin.visits)


@asynccontextmanager
async def service(
    protocol: str, answer: Callable[[Message], Message], certificates: Certificates | None = None
) -> AsyncIterator[Service]:
    """An origin that reads whole requests and answers each."""
    asked: list[Message] = []
    ports: list[int] = []

    async def answer1(visit: Visit) -> None:
        while True:
            asked.append(await h1_message(visit.reader))
            ports.append(visit.writer.get_extra_info("peername")[1])
            await visit.send(h1_bytes(answer(asked[-1])))

    async def answer2(call: Call) -> None:
        await call.whole()
        asked.append(h2_message(call))
        ports.append(call.visit.writer.get_extra_info("peername")[1])
        await h2_send(call, answer(asked[-1]))

    origin: Origin | H2Origin
    if protocol == "h2":
        origin = H2Origin(answer2, tls=certificates.origin("h2") if certificates else None)
    else:
        origin = Origin(answer1, tls=certificates.origin("http/1.1") if certificates else None)
    async with origin:
        yield Service(origin, asked, ports)
