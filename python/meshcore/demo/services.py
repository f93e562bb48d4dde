"""The services behind the demo's mesh: echo replicas, one of them flaky, and a slow one."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass
from typing import cast

from meshcore._core import Answer, CodecLimits, Request, ServerCodec
from meshcore.errors import CodecError


@dataclass
class Behaviour:
    """How a service answers; changed while it runs."""

    name: str
    delay_s: float = 0.0
    # Of every ``fail_one_in`` requests one is answered 503; 0: none.
    fail_one_in: int = 0
    seen: int = 0


class ServiceConnection(asyncio.Protocol):
    """One connection to a service."""

    def __init__(self, behaviour: Behaviour) -> None:
        self._behaviour = behaviour
        self._codec = ServerCodec(CodecLimits(), False)
        self._transport: asyncio.Transport | None = None
        self._request: Request | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """The loop accepted a client."""
        self._transport = cast("asyncio.Transport", transport)

    def data_received(self, data: bytes) -> None:
        """Bytes of requests."""
        try:
            event = self._codec.receive(data)
        except CodecError:
            self._close()
            return
        if isinstance(event, Request):
            self._request = event
        if self._codec.request_complete and self._request is not None:
            behaviour = self._behaviour
            behaviour.seen += 1
            if behaviour.fail_one_in and behaviour.seen % behaviour.fail_one_in == 0:
                self._answer(self._request, 503)
            elif behaviour.delay_s:
                loop = asyncio.get_running_loop()
                loop.call_later(behaviour.delay_s, self._answer, self._request)
            else:
                self._answer(self._request)

    def _answer(self, request: Request, status: int = 200) -> None:
        transport = self._transport
        if transport is None or transport.is_closing():
            return
        body = f"{self._behaviour.name} {request.method} {request.path}\n".encode()
        fields = [("content-type", "text/plain"), ("x-replica", self._behaviour.name)]
        transport.write(self._codec.send_answer(request, Answer(status, fields, body), True))
        if self._codec.start_next() is None:
            self._close()

    def _close(self) -> None:
        if self._transport is not None:
            self._transport.close()

    def connection_lost(self, exc: Exception | None) -> None:
        """The connection is gone."""
        self._transport = None


async def serve(behaviour: Behaviour) -> tuple[asyncio.Server, int]:
    """Start a service on a free port of loopback; gives the server and its port."""
    loop = asyncio.get_running_loop()
    server = await loop.create_server(lambda: ServiceConnection(behaviour), "127.0.0.1", 0)
    return server, server.sockets[0].getsockname()[1]
