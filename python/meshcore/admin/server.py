"""A small HTTP server on the admin address, over the proxy's own codec."""

from __future__ import annotations

import asyncio
import os
from typing import TYPE_CHECKING, Final, Protocol, cast

from meshcore._core import Answer, CodecLimits, Request, ServerCodec
from meshcore.errors import CodecError

if TYPE_CHECKING:
    from meshcore.config.snapshot import AdminSpec

TEXT: Final = "text/plain; charset=utf-8"
# An admin client that says nothing for this long is dropped; scrapers reconnect.
IDLE_S: Final = 75.0
MAX_CONNECTIONS: Final = 100


class Subject(Protocol):
    """What the admin port tells about."""

    @property
    def ready(self) -> bool:
        """Whether new requests are taken."""

    def metrics(self, accept: str = "") -> tuple[bytes, str]:
        """All metrics as text, and its content type."""


class Admin:
    """Serves ``/healthz``, ``/readyz`` and ``/metrics``; anything else is 404."""

    def __init__(self, spec: AdminSpec, subject: Subject) -> None:
        self._spec = spec
        self._subject = subject
        self._server: asyncio.Server | None = None
        self.connections: set[AdminConnection] = set()

    async def start(self) -> None:
        """Bind and serve. Raises `OSError` when the address cannot be had."""
        loop = asyncio.get_running_loop()
        host, port = self._spec.host, self._spec.port
        try:
            self._server = await loop.create_server(lambda: AdminConnection(self), host, port)
        except OSError as error:
            # The loop's own text differs from loop to loop, and says it twice.
            code = error.errno or 0
            reason = os.strerror(code) if code > 0 else error.strerror
            where = f"cannot listen on {host}:{port}"
            raise OSError(error.errno, f"{where}: {reason}") from error

    @property
    def address(self) -> str:
        """Its URL, with the real port."""
        assert self._server is not None
        name = self._server.sockets[0].getsockname()
        host = f"[{name[0]}]" if ":" in name[0] else name[0]
        return f"http://{host}:{name[1]}"

    async def stop(self) -> None:
        """Stop serving."""
        if self._server is not None:
            self._server.close()
        for connection in list(self.connections):
            connection.close()

    def answer(self, request: Request) -> Answer:
        """The answer to one request."""
        if request.method not in ("GET", "HEAD"):
            return Answer(405, [("allow", "GET, HEAD"), ("content-type", TEXT)], b"GET only\n")
        if request.path == "/healthz":
            return Answer(200, [("content-type", TEXT)], b"ok\n")
        if request.path == "/readyz":
            ready = self._subject.ready
            body = b"ready\n" if ready else b"draining\n"
            return Answer(200 if ready else 503, [("content-type", TEXT)], body)
        if request.path == "/metrics":
            body, kind = self._subject.metrics(request.header("accept") or "")
            return Answer(200, [("content-type", kind)], body)
        return Answer(404, [("content-type", TEXT)], b"try /healthz, /readyz or /metrics\n")


class AdminConnection(asyncio.Protocol):
    """One client of the admin port."""

    def __init__(self, admin: Admin) -> None:
        self._admin = admin
        self._codec = ServerCodec(CodecLimits(), False)
        self._transport: asyncio.Transport | None = None
        self._idle: asyncio.TimerHandle | None = None
        self._request: Request | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """The loop accepted a client."""
        self._transport = cast("asyncio.Transport", transport)
        self._admin.connections.add(self)
        if len(self._admin.connections) > MAX_CONNECTIONS:
            self.close()
        self._rearm()

    def _rearm(self) -> None:
        if self._idle is not None:
            self._idle.cancel()
        self._idle = asyncio.get_running_loop().call_later(IDLE_S, self.close)

    def data_received(self, data: bytes) -> None:
        """Bytes of requests."""
        self._rearm()
        try:
            event = self._codec.receive(data)
            while event is not None:
                if isinstance(event, Request):
                    self._request = event
                if self._codec.request_complete and self._request is not None:
                    request, self._request = self._request, None
                    self._send(self._codec.send_answer(request, self._admin.answer(request), True))
                    if not self._codec.keep_alive:
                        self.close()
                        return
                    self._codec.start_next()
                event = self._codec.next_event()
        except CodecError as error:
            self._send(self._codec.send_answer(None, Answer.for_codec_error(error), False))
            self.close()

    def _send(self, data: bytes) -> None:
        if self._transport is not None:
            self._transport.write(data)

    def close(self) -> None:
        """Close the connection."""
        if self._transport is not None:
            self._transport.close()

    def connection_lost(self, exc: Exception | None) -> None:
        """The connection is gone."""
        self._transport = None
        self._admin.connections.discard(self)
        if self._idle is not None:
            self._idle.cancel()
