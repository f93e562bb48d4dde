"""What the exchange asks of the world: the driver's side of the sans-I/O line.

The exchange never touches a socket, a clock or a task; it calls these, and tests call it.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    from collections.abc import Iterable

    from meshcore._core import ClientCodec, Peer, ServerCodec
    from meshcore.exchange.exchange import Exchange
    from meshcore.telemetry.access_log import AccessLog


class Task(Protocol):
    """The running hook of an async layer."""

    def cancel(self) -> object:
        """Ask it to end."""


class Downstream(Protocol):
    """The client's connection, as its exchange sees it."""

    codec: ServerCodec
    peer: Peer
    choked: bool
    """More is queued than the client takes."""
    last: bool
    """No request is taken after this one: the response says so."""

    @property
    def listener_name(self) -> str:
        """The listener that accepted it."""

    def send(self, data: bytes) -> None:
        """Write bytes that the codec made."""

    def send_parts(self, parts: Iterable[bytes]) -> None:
        """Write several pieces in one system call."""

    def pause_reading(self) -> None:
        """Stop reading from the client: the upstream is slower."""

    def resume_reading(self) -> None:
        """Read on."""

    def arm(self, deadline_ns: int) -> None:
        """Call ``Exchange.on_deadline`` once ``deadline_ns`` has passed; replaces the last one."""

    def finished(self, now_ns: int, keep_alive: bool) -> None:
        """The exchange is over; read the next request, or close once all is written."""

    def abort(self) -> None:
        """Cut the connection: what was sent must not look whole."""


class Upstream(Protocol):
    """A connection lent by a pool, as its exchange sees it."""

    codec: ClientCodec
    exchange: Exchange | None
    reused: bool
    """It carried a request before."""
    choked: bool
    """More is queued than the endpoint takes."""

    def send(self, data: bytes) -> None:
        """Write bytes that the codec made."""

    def send_parts(self, parts: Iterable[bytes]) -> None:
        """Write several pieces in one system call."""

    def pause_reading(self) -> None:
        """Stop reading from the endpoint: the client is slower."""

    def resume_reading(self) -> None:
        """Read on."""

    def release(self, now_ns: int) -> None:
        """Give the connection back to its pool, which keeps or closes it."""

    def discard(self) -> None:
        """Close the connection: it cannot carry another request."""


class Pools(Protocol):
    """All upstream connections of a worker."""

    def acquire(
        self, endpoint: int, exchange: Exchange, now_ns: int, fresh: bool
    ) -> Upstream | None:
        """An idle connection at once, or ``None``: then one is opened or awaited and
        ``Exchange.on_connected`` or ``Exchange.on_failed`` follows; ``fresh``: a kept one was
        stale, so none of the others is trusted."""

    def cancel(self, endpoint: int, exchange: Exchange) -> bool:
        """The exchange no longer waits; says whether a connection was being opened."""


class Driver(Protocol):
    """The worker: pools, layers and delays."""

    @property
    def access_log(self) -> AccessLog | None:
        """Where requests are written, if anywhere."""

    @property
    def pools(self) -> Pools:
        """Connections to endpoints."""

    def later(self, delay_ns: int, exchange: Exchange, attempt: int) -> None:
        """Call ``Exchange.on_backoff(attempt)`` after a delay."""

    def run_layer(self, exchange: Exchange, layer: int) -> None:
        """Run the ``on_request`` of a Python layer, then ``Exchange.resume`` or ``answer`` it;
        ``Exchange.task`` while it is awaited."""

    def run_response_layers(self, exchange: Exchange) -> bool:
        """Run ``on_response`` of the layers that saw the request; ``False``: one is awaited
        (``Exchange.task``), and ``Exchange.commit`` follows."""
