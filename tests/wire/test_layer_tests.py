"""Hooks that `meshcore.testing.run` runs are called as in the proxy, for the same bytes."""

from __future__ import annotations

import asyncio
from collections import defaultdict
from typing import Any
from urllib.parse import urlsplit

import pytest

from meshcore import Layer, Proxy, Request, Response
from meshcore._core import CodecLimits, ServerCodec
from meshcore.config.load import load_text
from meshcore.testing import run as run_layer
from meshcore.testing.messages import told
from tests.wire.conftest import Run


class Sees(Layer):
    """Remembers how it was called, whatever the pieces."""

    def __init__(self) -> None:
        self.pieces: dict[str, list[tuple[bytes, bool]]] = defaultdict(list)
        self.trailers: dict[str, list[tuple[str, str]]] = {}

    def on_request_body(self, request: Request, piece: bytes, end: bool) -> None:
        self.pieces["in"].append((piece, end))

    def on_response_body(
        self, request: Request, response: Response, piece: bytes, end: bool
    ) -> None:
        self.pieces["out"].append((piece, end))

    def on_request_trailers(self, request: Request, trailers: list[tuple[str, str]]) -> None:
        self.trailers["in"] = trailers

    def on_response_trailers(
        self, request: Request, response: Response, trailers: list[tuple[str, str]]
    ) -> None:
        self.trailers["out"] = trailers

    def seen(self) -> Any:
        bodies = {
            way: (b"".join(piece for piece, _ in pieces), [end for _, end in pieces if end])
            for way, pieces in self.pieces.items()
        }
        return bodies, self.trailers


CHUNKED = b"transfer-encoding: chunked\r\n\r\n"
FIVE = b"content-length: 5\r\n\r\nhello"
TRAILERS = b"0\r\nx-sum: 1\r\n\r\n"
REQUESTS = {
    "none": (b"GET", b"\r\n"),
    "head": (b"HEAD", b"\r\n"),
    "length 0": (b"POST", b"content-length: 0\r\n\r\n"),
    "length 5": (b"POST", FIVE),
    "chunked, empty": (b"POST", CHUNKED + b"0\r\n\r\n"),
    "chunked": (b"POST", CHUNKED + b"2\r\nhi\r\n0\r\n\r\n"),
    "trailers alone": (b"POST", CHUNKED + TRAILERS),
}
RESPONSES = {
    "length 0": (b"200", b"content-length: 0\r\n\r\n"),
    "length 5": (b"200", FIVE),
    "chunked, empty": (b"200", CHUNKED + b"0\r\n\r\n"),
    "trailers alone": (b"200", CHUNKED + TRAILERS),
    "204": (b"204", b"\r\n"),
    "304": (b"304", b"\r\n"),
}


def address_of(proxy: Proxy) -> tuple[str, int]:
    at = urlsplit(proxy.addresses["edge"])
    return str(at.hostname), int(at.port or 0)


async def in_the_proxy(layer: Layer, request: bytes, response: bytes) -> None:
    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        writer.write(response)
        await reader.read()
        writer.close()

    server = await asyncio.start_server(serve, "127.0.0.1", 0)
    port = server.sockets[0].getsockname()[1]
    mesh = f"""
version: 1
listeners: {{edge: {{bind: "127.0.0.1:0", layers: [{{python: "a:b"}}]}}}}
routes: [{{name: all, upstream: one}}]
upstreams: {{one: {{endpoints: ["127.0.0.1:{port}"]}}}}
"""
    async with server, Proxy(load_text(mesh), layers={"a:b": layer}) as proxy:
        reader, writer = await asyncio.open_connection(*address_of(proxy))
        writer.write(request)
        await reader.read()
        writer.close()


@pytest.mark.parametrize("told_by", RESPONSES)
@pytest.mark.parametrize("asked", REQUESTS)
def test_the_same_hooks_are_called_for_the_same_bytes(run: Run, asked: str, told_by: str) -> None:
    method, rest = REQUESTS[asked]
    request = method + b" / HTTP/1.1\r\nhost: a.test\r\nconnection: close\r\n" + rest
    status, answer = RESPONSES[told_by]
    whole = b"HTTP/1.1 " + status + b" Told\r\n" + answer
    sent = whole if method != b"HEAD" else whole[: whole.index(b"\r\n\r\n") + 4]

    here, there = Sees(), Sees()
    run(in_the_proxy(there, request, sent))
    read = ServerCodec(CodecLimits(), False).receive(request)
    assert isinstance(read, Request)
    run_layer(here, read, told(whole))
    assert here.seen() == there.seen()
    if asked == "chunked, empty":
        assert here.pieces["in"] == [(b"", True)]
