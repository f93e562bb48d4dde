"""What clients and endpoints of a world say, and how what they were told is read."""

from __future__ import annotations

import functools
import re
from collections.abc import Iterator
from typing import NamedTuple

from tests.unit.exchange.world import Wire, World

GET = b"GET / HTTP/1.1\r\nhost: a\r\n"
PUT = b"PUT / HTTP/1.1\r\nhost: a\r\ncontent-length: 100000\r\n\r\n"
HELLO = b"HTTP/1.1 200 OK\r\ncontent-length: 5\r\n\r\nhello"


def ask(world: World, *parts: bytes) -> Wire:
    """A client that says this, read by read."""
    wire = world.connect_client()
    for part in parts:
        wire.rest.append(part)
        world.deliver(wire)
    return wire


def opened(world: World, *, narrow: bool = False) -> Wire:
    """The connection that the oldest exchange waits for."""
    gate = world.connecting[0]
    gate.narrow = narrow
    world.settle(gate, None)
    return world.endpoints[-1]


def refuse(world: World) -> None:
    """It cannot be made."""
    world.settle(world.connecting[0], ConnectionRefusedError())


def say(world: World, wire: Wire, *parts: bytes) -> None:
    """A peer says this, read by read."""
    for part in parts:
        wire.rest.append(part)
        world.deliver(wire)


@functools.cache
def counted(number: int, size: int) -> bytes:
    """Bytes that tell their place, and whose they are."""
    words = (b"%d.%05d " % (number, place) for place in range(size // 7 + 1))
    return b"".join(words)[:size]


def chunk(data: bytes) -> bytes:
    """A piece of a chunked body; the empty one ends it."""
    return b"%x\r\n%b\r\n" % (len(data), data)


class Message(NamedTuple):
    """A request or a final response, as far as it was read."""

    line: bytes
    fields: bytes
    body: bytes
    whole: bool

    @property
    def number(self) -> int:
        """Of the request: its path."""
        return int(self.line.split(b" ")[1][1:])

    @property
    def status(self) -> int:
        """Of the response."""
        return int(self.line.split(b" ")[1])


def messages(data: bytes) -> Iterator[Message]:
    """What a peer reads of a connection: whole messages, and perhaps one that is torn."""
    while data:
        head, end, rest = data.partition(b"\r\n\r\n")
        line, _, fields = head.partition(b"\r\n")
        body, whole, data = _body(line, fields.lower(), rest)
        if end and line.startswith(b"HTTP/1.1 1") and not line.startswith(b"HTTP/1.1 101"):
            data = rest
        elif end:
            yield Message(line, fields, body, whole)


def _body(line: bytes, fields: bytes, rest: bytes) -> tuple[bytes, bool, bytes]:
    """A body, whether it is whole, and what follows it."""
    if b"transfer-encoding: chunked" in fields:
        return _chunks(rest)
    wants_tunnel = b"upgrade: " in fields and not line.startswith(b"HTTP/1.1 200")
    if wants_tunnel and not re.match(rb"[A-Z]+ /", rest):
        return rest, False, b""
    length = re.search(rb"content-length: (\d+)", fields)
    size = int(length[1]) if length else 0
    return rest[:size], len(rest) >= size, rest[size:]


def _chunks(rest: bytes) -> tuple[bytes, bool, bytes]:
    body = b""
    while b"\r\n" in rest:
        size_text, _, rest = rest.partition(b"\r\n")
        size = int(size_text, 16)
        body += rest[:size]
        if size == 0:
            return body, len(rest) >= 2, rest[2:]
        rest = rest[size + 2 :]
    return body, False, b""


UPGRADE = b"connection: upgrade\r\nupgrade: websocket\r\n"
KINDS = ["GET", "POST", "PUT", "LARGE", "WIDE", "TUNNEL"]


def request(kind: str, number: int, fields: bytes = b"") -> list[bytes]:
    """The reads of a request; what follows the head of a tunnel's comes early, or in time."""
    method = {"GET": b"GET", "POST": b"POST", "TUNNEL": b"GET"}.get(kind, b"PUT")
    head = b"%b /%d HTTP/1.1\r\nhost: a\r\n%b" % (method, number, fields)
    body = counted(number, 100_000)
    if kind == "GET":
        return [head + b"\r\n"]
    if kind == "TUNNEL":
        return [head + UPGRADE + b"\r\n", body[:20], body[20:30_000], body[30_000:]]
    if kind == "POST":  # small: awaited
        return [head + b"content-length: 10\r\n\r\n", body[:5], body[5:10]]
    if kind == "LARGE":
        reads = body[:40_000], body[40_000:80_000], body[80_000:]
        return [head + b"content-length: 100000\r\n\r\n", *reads]
    head += b"transfer-encoding: chunked\r\n\r\n"
    if kind == "WIDE":
        return [head, chunk(body) + chunk(b"")]
    return [head, chunk(body[:5]), chunk(body[5:10]) + chunk(b"")]


def responses(number: int) -> dict[str, list[bytes]]:
    """The reads of what an endpoint may answer; ``b""`` is its end."""
    ok, body = b"HTTP/1.1 200 OK\r\n", counted(number, 90_000)
    empty = b"content-length: 0\r\n\r\n"
    ten, many = b"content-length: 10\r\n\r\n", b"content-length: 90000\r\n\r\n"
    chunked = ok + b"transfer-encoding: chunked\r\n\r\n"
    switch = b"HTTP/1.1 101 Switching Protocols\r\n" + UPGRADE + b"\r\n"
    return {
        "whole": [ok + ten + body[:10]],
        "pieces": [ok, ten + body[:2], body[2:10]],
        "large": [ok + many, body[:30_000], body[30_000:60_000], body[60_000:]],
        "chunks": [chunked + chunk(body[:3]), chunk(body[3:5]) + chunk(body[5:10]) + chunk(b"")],
        "to the end": [ok + b"\r\n" + body[:2], body[2:10], b""],
        "interim": [b"HTTP/1.1 103 Early Hints\r\n\r\n" + ok + empty],
        "error": [b"HTTP/1.1 503 Service Unavailable\r\n" + empty],
        "refusal": [b"HTTP/1.1 413 Too Large\r\nconnection: close\r\n" + ten + body[:10], b""],
        "torn": [ok + ten + body[:2], b""],
        "nothing": [b""],
        "nonsense": [b"220 mail.example.test ESMTP\r\n"],
        "more than asked": [ok + empty + ok + b"\r\n"],
        "tunnel": [switch + body[:20], body[20:40_000], body[40_000:]],
        "tunnel that ends": [switch, body[:20], b""],
    }


RESPONSES = list(responses(0))
