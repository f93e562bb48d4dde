"""llhttp's vectors: where it is strict so is the codec, and the tables say where they differ."""

from __future__ import annotations

import re

import pytest

from meshcore._core import (
    Body,
    ClientCodec,
    CodecLimits,
    Engine,
    ListenerStack,
    Request,
    Response,
    ServerCodec,
)
from meshcore.config.compile import compile
from meshcore.config.load import load_text
from meshcore.errors import CodecError

from .llhttp_vectors import Vector, vectors

CONFIG = """
version: 1
listeners: {edge: {bind: "127.0.0.1:0"}}
routes: [{name: r, upstream: u}]
upstreams: {u: {endpoints: ["127.0.0.1:1"], circuit_breaker: off, ejection: off}}
"""

# Requests that llhttp takes, with the reason for which they are refused here.
STRICTER = {
    # One empty line may stand before a request (RFC 9112 §2.2), here are two.
    "connection/5": "empty line before the start line",
    # What follows a CONNECT is the tunnel's (RFC 9110 §9.3.6).
    "method/4": "CONNECT with content",
    # Only OPTIONS may have `*` for a target (RFC 9112 §3.2.4).
    "method/5": "invalid target",
    # Other protocols than HTTP/1.
    "method/12": "invalid version",
    "method/13": "invalid version",
    "method/14": "invalid version",
    "sample/10": "invalid start line",
    # The authority is no host and port (RFC 3986 §3.2.2).
    "sample/3": "invalid host",
    "sample/4": "invalid host",
    # One coding, `chunked`, is spoken (RFC 9112 §6.1).
    "transfer-encoding/20": "unknown transfer coding",
    "transfer-encoding/21": "more than one transfer-encoding",
    # The Host that this test adds is another than the target's (RFC 9112 §3.2.2).
    "uri/3": "host and target disagree",
    "uri/4": "host and target disagree",
    "uri/6": "host and target disagree",
    "uri/10": "host and target disagree",
    # A fragment is never sent (RFC 9112 §3.2).
    "uri/8": "# in query",
}
# Requests that llhttp refuses and this codec passes.
LAXER = {
    # Answered, then closed: what follows is never read.
    "connection/3": "data after the last request",
    "connection/9": "data after the last request",
    "connection/10": "data after the last request",
    # No upgrade is offered: the fields are dropped, the request is an ordinary one.
    "connection/14": "upgrade",
    "connection/18": "upgrade",
    "connection/19": "upgrade",
    "connection/20": "upgrade",
    "connection/21": "upgrade",
    # CONNECT is read like any request; its route says whether there is a tunnel, its response
    # where that begins.
    "method/2": "CONNECT",
    "method/3": "CONNECT",
    "uri/9": "CONNECT",
    # Any token is a method (RFC 9110 §9.1); routes say which are served.
    "invalid/4": "unknown method",
    "invalid/14": "unknown method",
}
# llhttp speaks while the head is incomplete; here it is judged whole, and these end before.
HEAD_CUT_OFF = {
    "content-length/3",
    "content-length/4",
    "content-length/17",
    "invalid/7",
    "invalid/18",
    "invalid/19",
    "sample/13",
}
# Lenient llhttp, for which there is no switch here: what even so is not refused.
LENIENT = {
    "connection/4": "data after the last request",
    "connection/11": "data after the last request",
    "content-length/18": "head cut off",
    "invalid/8": "head cut off",
    "lenient-header-value-relaxed/5": "head cut off",
    "sample/14": "head cut off",
}
# Its meta says to llhttp that there is no body whatever the head says.
SKIP_BODY = {"content-length/16"}

# Responses that llhttp takes, with the reason for which they are refused here.
RESPONSE_STRICTER = {
    # An empty line between two responses (RFC 9112 §2.2 allows it before requests only).
    "connection/17": "empty line before the start line",
    "sample/20": "empty line before the start line",
    "sample/2": "not a status line",
    "sample/3": "not a status line",
    "sample/18": "invalid version",
    "transfer-encoding/2": "invalid transfer-encoding",
    "transfer-encoding/3": "more than one transfer-encoding",
    "transfer-encoding/4": "unknown transfer coding",
    # The vector ends before the response does, and so does its connection.
    "connection/18": "closed inside a body",
    "sample/6": "closed inside a body",
    "content-length/3": "closed inside a body",
    "content-length/4": "closed inside a body",
    "transfer-encoding/8": "closed inside a body",
}
# Responses with more behind their end: they are passed on, and the connection is not used again.
RESPONSE_LEFT_OVER = {
    "connection/6",
    "connection/8",
    "connection/15",
    "connection/16",
    "pipelining/1",
}
# Lenient llhttp takes what follows `close`; here it is never read.
RESPONSE_LENIENT = {"connection/7", "connection/9"}


def with_host(data: bytes) -> bytes:
    """Most vectors lack the Host that HTTP/1.1 requires (RFC 9112 §3.2): give them one."""
    heads = re.compile(rb"^([-A-Z]+ \S+ HTTP/1\.1\r\n)(?!(?:.+\r\n)*host:)", re.I | re.M)
    return heads.sub(rb"\1Host: a\r\n", data)


def serve(data: bytes, step: int) -> tuple[int, int, str | None]:
    """Whole requests, bytes of body behind the read of a head, and the error if any."""
    codec = ServerCodec(CodecLimits(), False)
    whole = body = 0
    try:
        for at in range(0, len(data), step):
            event = codec.receive(data[at : at + step])
            while event is not None:
                body += length(event)
                if not codec.request_complete:
                    break
                whole += 1
                if codec.start_next() is None:
                    return whole, body, None
                event = codec.next_event()
    except CodecError as error:
        return whole, body, str(error)
    return whole, body, None


def length(event: Request | Response | Body | bytes) -> int:
    """Bytes of body in an event that is no head."""
    if isinstance(event, Body):
        return len(event.data)
    return len(event) if isinstance(event, bytes) else 0


@pytest.mark.parametrize("step", [1, 5, 1 << 20])
@pytest.mark.parametrize("vector", vectors("request"), ids=lambda v: v.name)
def test_request(vector: Vector, step: int) -> None:
    whole, body, error = serve(with_host(vector.data), step)
    if vector.name in LAXER | LENIENT or vector.name in HEAD_CUT_OFF | SKIP_BODY:
        assert error is None
    elif vector.name in STRICTER:
        assert error is not None
        assert STRICTER[vector.name] in error
    elif vector.lenient or vector.error:
        assert error is not None
    else:
        assert error is None
        assert whole == vector.messages
        assert step > 1 or body == vector.body


@pytest.fixture(scope="module")
def listener() -> ListenerStack:
    engine = Engine(seed=1)
    engine.apply(compile(load_text(CONFIG)).core_json())
    return engine.listener("edge")


def respond(listener: ListenerStack, data: bytes, step: int) -> tuple[ClientCodec, int, str | None]:
    """The codec that read `data` as the answer to a GET, the bytes of body, and the error."""
    request = ServerCodec(CodecLimits(), False).receive(b"GET / HTTP/1.1\r\nHost: a\r\n\r\n")
    assert isinstance(request, Request)
    peer = Engine(seed=1).peer("127.0.0.1")
    codec = ClientCodec()
    codec.send_request(request, listener.begin(request, peer, 1), peer, 1)
    body = 0
    try:
        for at in range(0, len(data), step):
            event = codec.receive(data[at : at + step])
            while event is not None:
                body += length(event)
                if isinstance(event, Response) and event.informational:
                    event = codec.next_event()
                elif not isinstance(event, bytes) and event.end:
                    return codec, body, None
                else:
                    break
        codec.receive_eof()
    except CodecError as error:
        return codec, body, str(error)
    return codec, body, None


@pytest.mark.parametrize("step", [1, 5, 1 << 20])
@pytest.mark.parametrize("vector", vectors("response"), ids=lambda v: v.name)
def test_response(listener: ListenerStack, vector: Vector, step: int) -> None:
    codec, body, error = respond(listener, vector.data, step)
    if vector.name in RESPONSE_LEFT_OVER | RESPONSE_LENIENT:
        assert error is None
        # Fed by small steps the rest is not read yet: an idle connection that is read is closed.
        assert step < len(vector.data) or not codec.can_reuse
    elif vector.name in RESPONSE_STRICTER:
        assert error is not None
        assert RESPONSE_STRICTER[vector.name] in error
    elif vector.lenient or vector.error:
        assert error is not None
        assert not codec.can_reuse
    else:
        assert error is None
        assert step > 1 or body == vector.body


def test_the_tables_name_vectors() -> None:
    requests = {vector.name for vector in vectors("request")}
    responses = {vector.name for vector in vectors("response")}
    assert len(vectors("request")) + len(vectors("response")) == 250
    assert set(STRICTER) | set(LAXER) | set(LENIENT) | HEAD_CUT_OFF | SKIP_BODY <= requests
    assert set(RESPONSE_STRICTER) | RESPONSE_LEFT_OVER | RESPONSE_LENIENT <= responses
