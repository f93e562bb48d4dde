"""Services that answer what they are told: HTTP/1.1 on a port of their own, in threads."""

from __future__ import annotations

import inspect
import socket
import threading
from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack, suppress
from dataclasses import dataclass
from http.server import BaseHTTPRequestHandler
from math import inf
from socketserver import ThreadingTCPServer
from typing import TYPE_CHECKING, Any, Final

from meshcore.testing.given import octets, pairs_of

if TYPE_CHECKING:
    from types import TracebackType
    from typing import Self

    from meshcore.testing.given import Headers

# More is no test's, and is answered with 413.
MAX_BODY_BYTES: Final = 64 << 20
_MAX_LINE_BYTES: Final = 65_536


@dataclass(frozen=True, slots=True)
class Asked:
    """A request that a stub got."""

    method: str
    target: str
    """Path and query, as they came."""
    headers: tuple[tuple[str, str], ...]
    """Names in lower case, in order."""
    body: bytes

    def header(self, name: str) -> str | None:
        """The first value of a field."""
        return next((value for key, value in self.headers if key == name.lower()), None)


@dataclass(frozen=True, slots=True)
class Reply:
    """What a stub answers."""

    status: int = 200
    headers: Headers = ()
    body: bytes = b""
    delay: float = 0.0
    """Seconds before it."""

    def __post_init__(self) -> None:
        """Raise `ValueError` for a status of no answer, `TypeError` for what is of another type."""
        status, delay = self.status, self.delay
        if type(status) is not int or not 200 <= status <= 599:
            raise ValueError(f"status: expected one from 200 to 599, got {status!r}")
        if isinstance(delay, bool) or not isinstance(delay, int | float) or not 0 <= delay < inf:
            raise ValueError(f"delay: expected seconds, got {delay!r}")
        pairs = pairs_of(self.headers)
        if not isinstance(self.headers, Mapping | Sequence):  # gone through but once
            object.__setattr__(self, "headers", pairs)
        octets(self.body)


Said = Reply | int | None
"""An answer, its status alone, or `None`: the connection ends without one."""
Answering = Said | Sequence[Said] | Callable[[Asked], Said]
"""What is answered always; one after the other, the last one from then on; or by a function."""


class StubService:
    """An HTTP/1.1 service on a free port of 127.0.0.1.

    Listens from when it is made until `close`, or the end of its ``with`` block, which raises what
    a function that answers has raised. Such a function is called by several threads.
    """

    def __init__(self, answering: Answering = 200) -> None:
        self.requests: list[Asked] = []
        """What it was asked, in order."""
        self._next: Callable[[Asked], Said]
        self.answer(answering)
        self._errors: list[Exception] = []
        self._closed = threading.Event()
        self._server = _Server(self)
        self._thread = threading.Thread(
            target=self._server.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True
        )
        self._thread.start()

    @property
    def address(self) -> str:
        """``127.0.0.1:port``, as endpoints of an upstream are written."""
        host, port = self._server.server_address[:2]
        return f"{host!s}:{port}"

    @property
    def url(self) -> str:
        """``http://127.0.0.1:port``."""
        return f"http://{self.address}"

    def answer(self, answering: Answering) -> None:
        """From now on answer this. Raises `ValueError` for what is no answer."""
        if callable(answering):
            self._next = _of_what_is_asked(answering)
            return
        several: Any = answering
        if not isinstance(answering, Sequence) or isinstance(answering, str | bytes):
            several = [answering]
        told: list[Said] = list(several)
        if not told:
            raise ValueError("no answers: expected at least one")
        for said in told:
            _reply(said)
        turn = threading.Lock()  # each connection has a thread

        def in_turn(_: Asked) -> Said:
            with turn:
                return told.pop(0) if len(told) > 1 else told[0]

        self._next = in_turn

    def close(self) -> None:
        """Stop, and end all connections. Idempotent. Raises what a function that answers raised."""
        if not self._closed.is_set():
            self._closed.set()
            self._server.shutdown()
            self._server.end_connections()
            self._server.server_close()
            self._thread.join()
        if self._errors:
            raise self._errors.pop(0)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        try:
            self.close()
        except Exception:
            if error is None:
                raise

    def _reply_to(self, asked: Asked) -> Reply | None:
        self.requests.append(asked)
        try:
            reply = _reply(self._next(asked))
        except Exception as error:
            self._errors.append(error)
            return Reply(500, body=f"{type(error).__name__}: {error}\n".encode())
        if reply is not None and reply.delay:
            self._closed.wait(reply.delay)
        return reply


class StubServices:
    """Makes stubs, which end together: what the fixture ``stub_service`` gives."""

    def __init__(self) -> None:
        self._made = ExitStack()

    def __call__(self, answering: Answering = 200) -> StubService:
        """A stub that answers this."""
        return self._made.enter_context(StubService(answering))

    def close(self) -> None:
        """End all of them. Raises as `StubService.close`."""
        self._made.close()


def _reply(said: Said) -> Reply | None:
    if said is None or isinstance(said, Reply):
        return said
    if type(said) is not int or not 200 <= said <= 599:
        raise ValueError(
            f"{said!r} is no answer: expected a status from 200 to 599, a Reply or None"
        )
    return Reply(said)


def _of_what_is_asked(answering: Callable[[Asked], Said]) -> Callable[[Asked], Said]:
    """A function that answers. Raises `TypeError` for one that is not called so."""
    try:
        inspect.signature(answering).bind(None)
    except TypeError:
        raise TypeError(
            f"{answering!r} is to answer what is asked: write it as lambda asked: 200"
        ) from None
    except ValueError:
        pass  # it does not tell what it takes
    return answering


class _Server(ThreadingTCPServer):
    allow_reuse_address = True
    request_queue_size = 128

    def __init__(self, stub: StubService) -> None:
        self.stub = stub
        self._connections: set[socket.socket] = set()
        super().__init__(("127.0.0.1", 0), _Connection)

    def process_request(self, request: Any, client_address: Any) -> None:
        self._connections.add(request)
        super().process_request(request, client_address)

    def shutdown_request(self, request: Any) -> None:
        self._connections.discard(request)
        super().shutdown_request(request)

    def end_connections(self) -> None:
        for connection in list(self._connections):
            with suppress(OSError):  # it has ended meanwhile
                connection.shutdown(socket.SHUT_RDWR)

    def handle_error(self, request: Any, client_address: Any) -> None:
        """Its client is gone."""


class _Connection(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True
    server: _Server

    def handle_one_request(self) -> None:
        self.raw_requestline = self.rfile.readline(_MAX_LINE_BYTES)
        if not self.raw_requestline.endswith(b"\n"):
            self.close_connection = True
            return
        if not self.parse_request():
            return
        body = self._body()
        if body is None:
            self.close_connection = True
            self._say(Reply(413))
            return
        fields = tuple((name.lower(), value) for name, value in self.headers.items())
        reply = self.server.stub._reply_to(Asked(self.command, self.path, fields, body))
        if reply is None:
            self.close_connection = True
        else:
            self._say(reply)

    def _body(self) -> bytes | None:
        """All of it; `None` if it is too large or torn."""
        if "chunked" in self.headers.get("transfer-encoding", "").lower():
            return self._chunks()
        size = int(self.headers.get("content-length", "0"))
        return self._exactly(size)

    def _chunks(self) -> bytes | None:
        pieces: list[bytes] = []
        left = MAX_BODY_BYTES
        while size := int(self.rfile.readline(_MAX_LINE_BYTES).partition(b";")[0], 16):
            left -= size
            piece = self._exactly(size) if left >= 0 else None
            if piece is None:
                return None
            pieces.append(piece)
            self.rfile.readline(3)
        while self.rfile.readline(_MAX_LINE_BYTES).strip():
            pass  # trailers
        return b"".join(pieces)

    def _exactly(self, size: int) -> bytes | None:
        if not 0 <= size <= MAX_BODY_BYTES:
            return None
        body = self.rfile.read(size)
        return body if len(body) == size else None

    def _say(self, reply: Reply) -> None:
        fields = reply.headers.items() if isinstance(reply.headers, Mapping) else reply.headers
        lines = [f"HTTP/1.1 {reply.status} Told", *(f"{name}: {value}" for name, value in fields)]
        has_body = reply.status not in (204, 304)
        if has_body:
            lines.append(f"content-length: {len(reply.body)}")
        if self.close_connection:
            lines.append("connection: close")
        head = "\r\n".join([*lines, "", ""]).encode("utf-8", "surrogateescape")
        self.wfile.write(head + (reply.body if has_body and self.command != "HEAD" else b""))

    def log_message(self, format: str, *args: object) -> None:
        """Tests look at `StubService.requests`."""
