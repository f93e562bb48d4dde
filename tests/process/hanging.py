"""Requests that wait for an answer that never comes: what keeps a drain going."""

from __future__ import annotations

import socket
from contextlib import ExitStack, suppress
from types import TracebackType
from typing import Self
from urllib.parse import urlsplit


class Hanging:
    """An origin that never answers, and the clients that wait for it."""

    def __enter__(self) -> Self:
        self._open = ExitStack()
        self._origin = self._open.enter_context(socket.create_server(("127.0.0.1", 0)))
        self._origin.settimeout(30)
        self._port = self._origin.getsockname()[1]
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._open.close()

    def routed(self, text: str, drain: str) -> str:
        """A configuration with a route to the origin, and another time to drain."""
        upstreams = f"upstreams: {{u: {{endpoints: ['127.0.0.1:{self._port}']}}}}\n"
        route = "routes: [{name: hang, match: {path: {prefix: /hang}}, upstream: u}, "
        return text.replace("routes: [", upstreams + route).replace("drain: 5s", f"drain: {drain}")

    def ask(self, url: str, times: int = 1) -> None:
        """Have requests under way, on a connection each: the origin has got them."""
        for _ in range(times):
            place = urlsplit(url)
            client = socket.create_connection((place.hostname, place.port), timeout=30)
            self._open.enter_context(client).sendall(b"GET /hang HTTP/1.1\r\nhost: x\r\n\r\n")
            asked, _ = self._origin.accept()
            assert self._open.enter_context(asked).recv(4) == b"GET "


def refuses(url: str) -> bool:
    """Whether nobody listens there."""
    place = urlsplit(url)
    with suppress(ConnectionRefusedError):
        socket.create_connection((place.hostname, place.port), timeout=10).close()
        return False
    return True
