"""What the exchange asks of the world: the driver's side of the sans-I/O line.

The exchange never touches a socket, a clock or a task; it calls these, and tests call it. Which
protocol is on either side it does not know: framing is the ports' business.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    from meshcore._core import Answer, Body, Chunk, Peer, Request, Response, Ticket
    from meshcore.exchange.exchange import Exchange
    from meshcore.telemetry.access_log import AccessLog


class Task(Protocol):
    """The running hook of an async layer."""

    def cancel(self) -> object:
        """Ask it to end."""


class Downstream(Protocol):
    """The client, as its exchange sees it: a connection, or a stream of one."""

    peer: Peer
    choked: bool
    """More is queued than the client takes."""

    @property
    def listener_name(self) -> str:
        """The listener that accepted it."""

    def send_informational(self, response: Response) -> None:
        """Relay a 1xx."""

    def send_response(self, response: Response, ticket: Ticket, complete: bool) -> None:
        """Relay a head with the route's changes, and what of the body came with it; ``complete``:
        the request was read to its end."""

    def send_data(self, data: bytes | Chunk) -> None:
        """Send a piece of the body."""

    def send_end(self, body: Body) -> None:
        """End the body, with the trailers of its last piece."""

    def send_answer(self, request: Request, answer: Answer, complete: bool) -> None:
        """Send a whole answer made here."""

    def send_ending(self, answer: Answer) -> bool:
        """End a gRPC response under way with an answer's status; ``False``: it cannot be."""

    def begin_tunnel(self, now_ns: int) -> None:
        """The head that was sent began a tunnel: what the client sends now is data."""

    def pause_reading(self) -> None:
        """Stop reading from the client: the upstream is slower."""

    def resume_reading(self) -> None:
        """Read on."""

    def arm(self, deadline_ns: int) -> None:
        """Call ``Exchange.on_deadline`` once ``deadline_ns`` has passed; replaces the last one."""

    def finished(self, now_ns: int, complete: bool) -> None:
        """The exchange is over, and everything is sent; ``complete`` as in `send_response`."""

    def abort(self) -> None:
        """Cut it: what was sent must not look whole."""


class Upstream(Protocol):
    """What a pool lends: a connection, or a stream of one."""

    exchange: Exchange | None
    reused: bool
    """The connection carried a request before."""
    choked: bool
    """More is queued than the endpoint takes."""

    def send_request(self, request: Request, ticket: Ticket, peer: Peer, now_ns: int) -> bool:
        """Send the head, and what of the body came with it; ``False``: it took no stream.

        Raises `CodecError` for what its protocol cannot say.
        """

    def send_data(self, data: bytes | Chunk) -> None:
        """Send a piece of the body."""

    def send_end(self, body: Body) -> None:
        """End the body, with the trailers of its last piece."""

    def pause_reading(self) -> None:
        """Stop reading from the endpoint: the client is slower."""

    def resume_reading(self) -> None:
        """Read on."""

    def release(self, now_ns: int) -> None:
        """Give it back to its pool, which keeps or closes it."""

    def discard(self) -> None:
        """Cut it: nobody waits for what the endpoint still sends."""


class Pools(Protocol):
    """All upstream connections of a worker."""

    def acquire(
        self, endpoint: int, exchange: Exchange, now_ns: int, fresh: bool
    ) -> Upstream | None:
        """Something to send on at once, or ``None``: then a connection is opened or awaited and
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
