"""Requests and responses in a test's words, read by the codecs that read them in the proxy."""

from __future__ import annotations

import functools
import ipaddress
import json
import re
from collections.abc import Iterable, Iterator
from typing import TYPE_CHECKING, Final, NamedTuple

from meshcore._core import (
    ClientCodec,
    CodecLimits,
    Engine,
    Request,
    Response,
    ServerCodec,
    Verdict,
    h2_add_body,
    h2_read_body,
    h2_read_request,
    now_ns,
)
from meshcore.config.change import change
from meshcore.config.compile import compile
from meshcore.config.hints import shown
from meshcore.config.load import load_text
from meshcore.errors import CodecError, ConfigError
from meshcore.testing.given import octets, pairs_of

if TYPE_CHECKING:
    from meshcore._core import ListenerStack, Peer
    from meshcore.testing.given import Headers

CLIENT: Final = "192.0.2.1"
"""Who asks in tests that do not say (RFC 5737: no client has this address)."""

_TOKEN: Final = re.compile(r"[!#$%&'*+\-.^_`|~0-9A-Za-z]+")
_URL: Final = re.compile(r"(https?)://([^/?#\s@]+)((?:[/?][^\s#]*)?)")
_AUTHORITY: Final = re.compile(r"[^/?#\s@]+:\d+")
_GRPC: Final = re.compile(r"application/grpc(?:$|[+;])")
_WITH_BODY: Final = frozenset(("POST", "PUT", "PATCH"))
_METHODS: Final = _WITH_BODY | {"GET", "HEAD", "DELETE", "OPTIONS", "TRACE", "CONNECT"}
_FRAMING: Final = frozenset(("content-length", "transfer-encoding", "host"))
_NO_BODY: Final = frozenset((101, 204, 304))


class Asking(NamedTuple):
    """A request as a client means it."""

    method: str
    scheme: str
    """Of its URL; empty for CONNECT, which has none."""
    authority: str
    target: str
    fields: list[tuple[str, str]]
    body: bytes
    trailers: tuple[tuple[str, str], ...] = ()

    def read(self, limits: CodecLimits, secure: bool) -> Request:
        """As a listener's codec reads it: over HTTP/1.1, or HTTP/2 if it is a call of gRPC. Raises
        `CodecError` for what that refuses."""
        kind = next((value for name, value in self.fields if name == "content-type"), "")
        if self.method == "POST" and _GRPC.match(kind):
            return self._read_h2(limits, secure)
        lines = [f"{self.method} {self.target} HTTP/1.1", f"host: {self.authority}"]
        lines += [f"{name}: {value}" for name, value in self.fields]
        if self.body or self.trailers or self.method in _WITH_BODY:
            framing, body = _framed(self.body, self.trailers)
            lines.append(framing)
        else:
            body = b""
        found = ServerCodec(limits, secure).receive(_head(lines) + body)
        if not isinstance(found, Request):
            raise ValueError("the request has no end")  # never: its length is ours
        return found

    def _read_h2(self, limits: CodecLimits, secure: bool) -> Request:
        pseudo = [
            (":method", self.method),
            (":scheme", "https" if secure else "http"),
            (":authority", self.authority),
            (":path", self.target),
        ]
        fields = [(_bytes(name), _bytes(value)) for name, value in pseudo + self.fields]
        trailers = [(_bytes(name), _bytes(value)) for name, value in self.trailers] or None
        whole = not (self.body or trailers)
        found = h2_read_request(fields, whole, limits, secure)
        if isinstance(found, str):
            raise ValueError(f"no call of gRPC says so: {found}")
        body = h2_read_body(self.body, True, trailers, limits, len(self.body))
        if isinstance(body, str):
            raise ValueError(f"no call of gRPC says so: {body}")
        h2_add_body(found, body)
        return found


def asking(text: str, headers: Headers, body: bytes, trailers: Headers = ()) -> Asking:
    """What ``GET https://a.example/`` and so on means. Raises `ValueError` for what no client would
    say so, `TypeError` for a body or fields of other types."""
    fields, more = list(_fields(headers)), tuple(_fields(trailers))
    return Asking(*_line(text), fields, octets(body), more)


def _framed(body: bytes, trailers: Iterable[tuple[str, str]]) -> tuple[str, bytes]:
    """The field that says how a body is framed, and that; only chunks have trailers."""
    lines = [f"{name}: {value}" for name, value in trailers]
    if not lines:
        return f"content-length: {len(body)}", body
    chunk = b"%x\r\n%b\r\n" % (len(body), body) if body else b""
    return "transfer-encoding: chunked", chunk + b"0\r\n" + _head(lines)


class Line(NamedTuple):
    """The first line of a request, as people write it."""

    method: str
    scheme: str
    authority: str
    target: str


def _line(text: str) -> Line:
    if not isinstance(text, str):
        raise TypeError(f"request: expected a text, GET https://a.example/, got {shown(text)}")
    method, _, url = text.strip().partition(" ")
    url = url.strip()
    if "://" in method or not url:
        raise ValueError(
            f"{text!r} is no request: expected a method and a URL, GET https://a.example/"
        )
    if not _TOKEN.fullmatch(method):
        raise ValueError(f"{method!r} is no method of HTTP: expected one word such as GET")
    if method not in _METHODS and method.upper() in _METHODS:
        raise ValueError(f"{method!r} is no method of HTTP: write {method.upper()}")
    if not url.isascii():
        raise ValueError(f"{url!r} is no URL: percent-encode what is not ASCII")
    if method == "CONNECT":
        if not _AUTHORITY.fullmatch(url):
            raise ValueError(f"{url!r} is nothing to connect to: expected a.example:443")
        return Line(method, "", url, url)
    found = _URL.fullmatch(url)
    if found is None:
        raise ValueError(
            f"{url!r} is no URL that a request names: expected https://a.example/path?query, "
            "without user, fragment and spaces"
        )
    scheme, authority, target = found.groups()
    return Line(method, scheme, authority, target if target[:1] == "/" else f"/{target}")


def _fields(headers: Headers) -> Iterator[tuple[str, str]]:
    for name, value in pairs_of(headers):
        if not _TOKEN.fullmatch(name) or re.search(r"[\r\n\0]", value):
            raise ValueError(f"{name!r}: {value!r} is no header field")
        if name.lower() in _FRAMING:
            raise ValueError(f"{name}: the URL says the host, and the body its length")
        yield name.lower(), value


def _head(lines: Iterable[str]) -> bytes:
    return _bytes("\r\n".join(lines) + "\r\n\r\n")


def _bytes(text: str) -> bytes:
    return text.encode("utf-8", "surrogateescape")


def peer_of(
    engine: Engine, client: str | None, identity: str | Iterable[str] | None = None
) -> Peer:
    """Who is at an address; ``None``: at a unix socket. ``identity``: the names of its certificate,
    or one; ``None`` without one. Raises `ValueError` for what is none."""
    if client is not None:
        if not isinstance(client, str):
            raise TypeError(f"client: expected the text of an address, got {shown(client)}")
        try:
            ipaddress.ip_address(client)
        except ValueError as error:
            raise ValueError(f"client: {error}") from None
    if identity is None:
        return engine.peer(client)
    names = [identity] if isinstance(identity, str) else list(identity)
    return engine.named_peer(client, names)


def request(
    text: str,
    *,
    headers: Headers = (),
    body: bytes = b"",
    trailers: Headers = (),
    client: str | None = CLIENT,
    route: str | None = None,
) -> Request:
    """A request as a layer meets it: ``request("GET https://a.example/v1?x=1")``.

    ``client`` is its address, ``None`` over a unix socket; ``route`` the name of the route behind
    which the layer stands, ``None`` before routing. Raises `ValueError` for what is no request, and
    for what the proxy answers before it asks a layer.
    """
    asked = asking(text, headers, body, trailers)
    engine, listener = _before_a_layer(route)
    try:
        made = asked.read(CodecLimits(), asked.scheme == "https")
    except CodecError as error:
        raise ValueError(f"no layer sees this request: {error}") from None
    ticket = listener.begin(made, peer_of(engine, client), now_ns())
    if ticket.verdict != Verdict.PAUSE:
        answer = ticket.answer(made)
        raise ValueError(f"no layer sees this request: {answer.status} {answer.reason}")
    return made


@functools.lru_cache(64)
def _before_a_layer(route: str | None) -> tuple[Engine, ListenerStack]:
    """What shows a request to a layer, as the walk of the core does."""
    text = _SHOWN if route is None else _SHOWN_BEHIND.format(json.dumps(route))
    try:
        config = load_text(text)
    except ConfigError as error:
        raise ValueError(f"{route!r} names no route: {error.problems[0].message}") from None
    engine = Engine(seed=0)
    engine.apply(change(None, compile(config)).core)
    return engine, engine.listener("test")


_SHOWN: Final = """
version: 1
listeners:
  test: {bind: "127.0.0.1:0", layers: [{python: "a:Layer"}]}
"""
_SHOWN_BEHIND: Final = """
version: 1
listeners:
  test: {{bind: "127.0.0.1:0"}}
routes:
  - name: {}
    respond: {{status: 200}}
    layers: [{{python: "a:Layer"}}]
"""


def response(
    status: int = 200, *, headers: Headers = (), body: bytes = b"", trailers: Headers = ()
) -> Response:
    """A response as an endpoint gave it, for a layer's `on_response`.

    Raises `ValueError` for a status that ends no request, and for what an endpoint may not say.
    """
    return told(response_data(status, headers, body, trailers))


def told(data: bytes) -> Response:
    """What an endpoint wrote, as the answer to a GET."""
    asked = asking("GET http://a.example/", (), b"").read(CodecLimits(), False)
    engine, listener = _before_a_layer(None)
    peer = engine.peer(None)
    codec = ClientCodec()
    codec.send_request(asked, listener.begin(asked, peer, now_ns()), peer, now_ns())
    return read_response(codec, data)


def response_data(
    status: int, headers: Headers = (), body: bytes = b"", trailers: Headers = ()
) -> bytes:
    """A response as an endpoint writes it."""
    body = octets(body)
    is_whole = isinstance(status, int) and not isinstance(status, bool)
    if not (is_whole and (status == 101 or 200 <= status <= 599)):
        raise ValueError(f"{shown(status)} is no status of a response: expected 200 to 599")
    lines = [f"HTTP/1.1 {status} Told", *(f"{name}: {x}" for name, x in _fields(headers))]
    if status not in _NO_BODY:
        framing, body = _framed(body, _fields(trailers))
        lines.append(framing)
    elif body or trailers:
        raise ValueError(f"a {status} has no body")
    return _head(lines) + body


def read_response(codec: ClientCodec, data: bytes) -> Response:
    """As the codec of an endpoint's connection reads it."""
    try:
        found = codec.receive(data)
    except CodecError as error:
        raise ValueError(f"no endpoint may say so: {error}") from None
    if not isinstance(found, Response):
        raise ValueError("the response has no end")  # never: its length is ours
    return found
