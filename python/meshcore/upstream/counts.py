"""What is counted of upstreams by those who connect to them."""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol

from meshcore.errors import TlsError
from meshcore.telemetry.counts import UpstreamCount

if TYPE_CHECKING:
    from meshcore._core import SecureTransport
    from meshcore.upstream.pool import Pool


class Counter(Protocol):
    """Counts by the names of upstreams; nothing of one that has left the configuration."""

    def count(self, place: int, n: int = 1, *, upstream: str | None = None) -> None:
        """Something of `UpstreamCount`."""

    def handshake_made(self, upstream: str, transport: SecureTransport) -> None:
        """A TLS handshake that is over."""

    def handshake_failed(self, upstream: str, reason: str, by_peer: bool) -> None:
        """One that came to nothing."""


class UpstreamCounts:
    """The same by pools."""

    __slots__ = ("_counter",)

    def __init__(self, counter: Counter) -> None:
        self._counter = counter

    def add(self, place: UpstreamCount, pool: Pool) -> None:
        """One more."""
        self._counter.count(place, upstream=pool.cluster.spec.name)

    def handshake_made(self, pool: Pool, transport: SecureTransport) -> None:
        """TLS with an endpoint is agreed."""
        self._counter.handshake_made(pool.cluster.spec.name, transport)

    def tls_failed(self, pool: Pool, error: Exception | None) -> None:
        """TLS with an endpoint failed, or it left within the handshake; the time for it is over."""
        name = pool.cluster.spec.name
        if isinstance(error, TlsError):
            self._counter.handshake_failed(name, error.word, error.by_peer)
        else:
            is_late = isinstance(error, TimeoutError)
            self._counter.handshake_failed(name, "timeout" if is_late else "closed", by_peer=True)
