"""What the exchange asks of the world: the driver's side of the sans-I/O line.

The exchange never touches a socket, a clock or a task; it calls these, and tests call it. Which
protocol is on either side it does not know: framing is the ports' business.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NamedTuple, Protocol

from meshcore._core import Reason

if TYPE_CHECKING:
    from asyncio import Transport

    from meshcore._core import (
        Answer,
        Body,
        Cause,
        Chunk,
        H2ServerCodec,
        IdleTime,
        ListenerStack,
        Peer,
        Request,
        RequestHooks,
        Response,
        ServerCodec,
        Ticket,
    )
    from meshcore.exchange.exchange import Exchange
    from meshcore.exchange.flow import Flow
    from meshcore.exchange.layers import Layer
    from meshcore.exchange.owner import Owner

    WholeTo = tuple[ServerCodec, Transport, IdleTime, int] | tuple[H2ServerCodec, int]


class Lost(NamedTuple):
    """What is known of a connection, or a stream, that ended before its response."""

    began: bool
    """Something of the response has come."""
    stale: bool = False
    """The connection was used before, and ended before the request could reach the endpoint."""
    cause: Cause | None = None
    """What other requests may have met, too."""
    code: int | None = None
    """Of the RST_STREAM with which the endpoint ended it."""

    def reason(self, headed: bool) -> Reason:
        """As what it ends the attempt; ``headed``: the response's whole head is here."""
        if self.began:
            # No other attempt is safe; behind the head it is what the endpoint cut.
            return Reason.UPSTREAM_RESET if headed else Reason.UPSTREAM_PROTOCOL
        return Reason.UPSTREAM_STALE if self.stale else Reason.UPSTREAM_RESET


class Task(Protocol):
    """The running hook of an async layer."""

    def cancel(self) -> object:
        """Ask it to end."""


class Passage(Protocol):
    """The layers of a request."""

    ends: list[Layer] | None
    """Those that are to be told of its end, if any."""
    streams: list[Layer] | None
    """Those that let it pass and are to see its body, trailers, or those of its response."""
    inward: Flow | None
    """The request's body, while such layers have some of it to change."""
    outward: Flow | None
    """The response's, once its head is out."""

    def __len__(self) -> int:
        """How many are to see the response."""

    def clear(self) -> None:
        """None of them is."""

    def leave_out(self, layer: Layer | None) -> None:
        """That one is not: what it answers or fails with is for others to see."""


class Observer(Protocol):
    """Is told of every request when it begins and when it is over: logs, traces. Absent, it costs
    a comparison at each end."""

    def began(self, exchange: Exchange, now_ns: int) -> None:
        """The request has a ticket; nothing was done with it yet. Not told of those that began
        before there was an observer."""

    def ended(self, exchange: Exchange) -> None:
        """It is over, and its ticket says how; once."""

    def refused(self, stack: ListenerStack, answer: Answer, sent: bool, peer: Peer) -> None:
        """What came on a listener was no request, and was answered so; or cut, if not ``sent``."""


class Downstream(Protocol):
    """The client, as its exchange sees it: a connection, or a stream of one."""

    peer: Peer
    owner: Owner | None
    """Whose connections to endpoints are, if its client shares none."""
    choked: bool
    """More is queued than the client takes; what changes is told by ``Exchange.on_client_full`` and
    ``on_client_room``."""

    @property
    def half_closes(self) -> bool:
        """Whether its tunnel can end in one direction alone."""

    @property
    def whole_to(self) -> WholeTo | None:
        """What sends a whole response in one call, and where to, while the connection goes on
        behind it: awaiting the next request as long as a listener does, by a slot; or with its
        other streams."""

    def reached(self) -> tuple[str | None, int]:
        """The address and the port that the client is connected to; ``None`` for a unix socket."""

    def own(self) -> None:
        """The client authenticates connections: from now on it has an `owner`."""

    def send_informational(self, response: Response, ticket: Ticket) -> None:
        """Relay a 1xx."""

    def send_response(self, response: Response, ticket: Ticket) -> None:
        """Relay a head with the route's changes, and what of the body came with it."""

    def relayed(self, sent: Any, now_ns: int) -> None:
        """`whole_to` has sent a whole response, which made this of it; the exchange is over."""

    def send_data(self, data: bytes | Chunk) -> None:
        """Send a piece of the body."""

    def send_end(self, body: Body, ticket: Ticket) -> None:
        """End the body, with the trailers of its last piece; or the endpoint's side of a tunnel."""

    def send_answer(self, request: Request, answer: Answer) -> None:
        """Send a whole answer made here."""

    def send_ending(self, answer: Answer) -> bool:
        """End a gRPC response under way with an answer's status; ``False``: it cannot be."""

    def begin_tunnel(self, now_ns: int) -> None:
        """The head that was sent began a tunnel: what the client sends now is data."""

    def pause_reading(self) -> None:
        """Leave what the client sends where it is."""

    def resume_reading(self) -> None:
        """Read on."""

    def arm(self, deadline_ns: int) -> None:
        """Call ``Exchange.on_deadline`` once ``deadline_ns`` has passed; replaces the last one."""

    def finished(self, now_ns: int) -> None:
        """The exchange is over, and everything is sent."""

    def cut(self, now_ns: int) -> None:
        """End the response so that what was sent of it does not look whole."""


class Upstream(Protocol):
    """What a pool lends: a connection, or a stream of one."""

    exchange: Exchange | None
    """Who has it."""
    choked: bool
    """More is queued than the endpoint takes; what changes is told by
    ``Exchange.on_endpoint_full`` and ``on_endpoint_room``. Behind the end of a tunnel's side, that
    anything is."""

    @property
    def half_closes(self) -> bool:
        """Whether its tunnel can end in one direction alone."""

    def send_request(self, request: Request, ticket: Ticket, peer: Peer, now_ns: int) -> bool:
        """Tell the ticket, and send the head and what of the body came with it; ``False``: it took
        no stream.

        Raises `CodecError` for what its protocol cannot say.
        """

    def send_data(self, data: bytes | Chunk) -> None:
        """Send a piece of the body."""

    def send_end(self, body: Body, ticket: Ticket) -> None:
        """End the body, with the trailers of its last piece; or the client's side of a tunnel."""

    def why_silent(self) -> Cause | None:
        """A response did not come in time: what other requests may have met, too, be it that the
        connection is silent, or that all of the body waits behind what others sent, which says
        nothing of the endpoint. A connection that is silent takes no more."""

    def pause_reading(self) -> None:
        """Leave what the endpoint sends where it is."""

    def resume_reading(self) -> None:
        """Read on."""

    def release(self, now_ns: int) -> None:
        """Give it back to its pool, which keeps or closes it."""

    def discard(self) -> None:
        """Cut it: what the endpoint still sends is not wanted."""


class Pools(Protocol):
    """All upstream connections of a worker."""

    def acquire(
        self, endpoint: int, exchange: Exchange, now_ns: int, fresh: bool
    ) -> Upstream | None:
        """Something to send on at once, or ``None``: then a connection is opened or awaited and
        ``Exchange.on_connected`` or ``Exchange.on_failed`` follows; ``fresh``: a kept one was
        stale, so none of the others is trusted."""

    def cancel(self, endpoint: int, exchange: Exchange) -> Reason | None:
        """The exchange no longer waits; what held it up, unless it was the endpoint: our own cap
        (QUEUE_TIMEOUT), or the look-up of its name (UPSTREAM_RESOLVE)."""

    def left(self, owner: Owner) -> None:
        """A client that shares no connections is gone, and its requests are over: close its."""


class Driver(Protocol):
    """The worker: pools, layers and delays."""

    @property
    def observer(self) -> Observer | None:
        """The observer of requests, if there is one."""

    @property
    def pools(self) -> Pools:
        """Connections to endpoints."""

    def later(self, delay_ns: int, exchange: Exchange, attempt: int) -> None:
        """Call ``Exchange.on_backoff(attempt)`` after a delay."""

    @property
    def request_hooks(self) -> RequestHooks:
        """The ``on_request`` of layers that have no other hook."""

    def go_on_from(self, exchange: Exchange, ran: object) -> None:
        """They were run, and gave this: as `run_layer` goes on behind a hook."""

    def run_layer(self, exchange: Exchange, layer: int) -> None:
        """Run the ``on_request`` of a Python layer, then ``Exchange.resume`` or ``answer`` it;
        ``Exchange.task`` while it is awaited."""

    def run_response_layers(self, exchange: Exchange) -> bool:
        """Run ``on_response`` of the layers that saw the request; ``False``: one is awaited
        (``Exchange.task``), and ``Exchange.on_looked`` follows, or it was answered."""

    def run_body_hooks(self, exchange: Exchange, flow: Flow) -> bool:
        """Have layers change the piece that a flow has in hand, as far as they are not done with
        it; ``False``: one is awaited (``Flow.task``), and ``Exchange.on_hooked`` follows, or it
        ended the exchange."""

    def emit_layer_ends(self, exchange: Exchange) -> None:
        """It is over: tell the layers that asked for it, soon."""
