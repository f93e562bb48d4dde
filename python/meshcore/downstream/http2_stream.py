"""One request of an HTTP/2 connection, as its exchange sees the client."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from meshcore._core import Signal, body_of
from meshcore.codec import STREAM_HIGH_WATER
from meshcore.downstream.certified import refuses_client
from meshcore.exchange.phase import TUNNEL

if TYPE_CHECKING:
    from meshcore._core import Answer, Body, Chunk, Peer, Request, Reset, Response, Ticket
    from meshcore.downstream.http2 import Http2Connection
    from meshcore.exchange.exchange import Exchange
    from meshcore.exchange.owner import Owner


class Http2Stream:
    """Open stream, from its request's head until all of the response is sent."""

    __slots__ = (
        "_connection",
        "_full",
        "_queued",
        "choked",
        "exchange",
        "number",
        "owner",
        "peer",
        "slot",
        "whole_to",
    )

    exchange: Exchange | None
    """While it is not over: what waits for its client afterwards holds nothing of it."""
    _queued: int
    """Once it is over: how much was still queued."""
    half_closes: Final = True

    def __init__(self, connection: Http2Connection, number: int, slot: int) -> None:
        self._connection = connection
        self.number = number
        self.slot = slot  # of the deadlines
        native = connection.native
        self.whole_to = (native, number) if native is not None else None
        self.peer: Peer = connection.peer
        self.owner: Owner | None = None
        self._full = False  # of its own: more waits on it than its client takes
        self.choked = connection.full

    # --- called by the connection -------------------------------------------------------------

    def on_signal(self, signal: int) -> None:
        """Something other than a message or the end."""
        if signal == Signal.WRITABLE:
            self._full = False
            self.check_room()
        elif signal == Signal.SENT:
            self._leave(self._connection.now_ns())

    def on_reset(self, reset: Reset, now: int) -> None:
        """The client, or a fault of its, ended the stream."""
        exchange = self._leave(now)
        if exchange is None:
            return
        if reset.kind == Signal.MALFORMED:
            exchange.on_malformed(reset.detail, now)
        else:
            exchange.on_downstream_lost(now, reset.detail)

    def on_lost(self, now: int) -> None:
        """The client is gone."""
        exchange = self._leave(now)
        if exchange is not None:
            exchange.on_downstream_lost(now)

    def reached(self) -> tuple[str | None, int]:
        """The address and the port that the client is connected to."""
        return self._connection.reached()

    def own(self) -> None:
        """From now on the client's connections to endpoints are its alone."""
        self.owner = self._connection.own()

    def _leave(self, now: int) -> Exchange | None:
        exchange = self.exchange
        self._connection.listener.deadlines.slots.remove(self.slot)
        self.relayed(-1, now)
        return exchange

    def check_room(self) -> None:
        """Whether its own queue or that of all streams together is full has changed."""
        choked, exchange = self._full or self._connection.full, self.exchange
        if choked is not self.choked and exchange is not None:
            self.choked = choked
            if choked:
                exchange.on_client_full()
            else:
                exchange.on_client_room()

    def on_deadline(self, now: int) -> None:
        """The armed deadline passed; behind the exchange, the client's to take what is queued."""
        if self.exchange is not None:
            self.exchange.on_deadline(now)
            self._connection.touched()
            return
        queued = self._connection.codec.queued_on(self.number)
        if 0 < queued < self._queued:
            self._queued = queued
            self.arm(now + self._connection.listener.idle.timeout_ns)
        else:
            self._connection.reset(self.number)
            self._leave(now)

    def end(self, now: int) -> None:
        """The time to drain is over; behind the exchange, what is queued goes out."""
        if self.exchange is not None:
            self.exchange.on_drained(now)

    # --- called by the exchange ---------------------------------------------------------------

    def send_informational(self, response: Response, ticket: Ticket) -> None:
        """Relay a 1xx."""
        self._connection.codec.send_informational(self.number, response, ticket)
        self._connection.touched()

    def send_response(self, response: Response, ticket: Ticket) -> None:
        """Relay a head, and what of the body came with it."""
        connection, exchange = self._connection, self.exchange
        assert exchange is not None
        request = exchange.request
        queued = connection.codec.send_response(self.number, request, response, ticket)
        if not connection.flushes:
            connection.touched()
        if queued > STREAM_HIGH_WATER:
            self._fill()

    def relayed(self, sent: int, now_ns: int) -> None:
        """A whole response, and the end of its exchange: how much of it waits, -1 for nothing; then
        its slot is given back already."""
        connection = self._connection
        self.exchange = None
        if sent < 0:
            streams = connection.streams
            del connection.owners[self.slot], streams[self.number]
            if not streams:
                connection.rest(now_ns)
        else:
            self._queued = sent
            self.arm(now_ns + connection.listener.idle.timeout_ns)
        if not connection.flushes:
            connection.touched()

    def send_data(self, data: bytes | Chunk) -> None:
        """A piece of the body."""
        connection = self._connection
        queued = connection.codec.send_data(self.number, data)
        if not connection.flushes:
            connection.touched()
        if queued > STREAM_HIGH_WATER:
            self._fill()

    def _fill(self) -> None:
        if not self._full:
            self._full = True
            self.check_room()

    def send_end(self, body: Body, ticket: Ticket) -> None:
        """The end of the body."""
        self._connection.codec.send_end(self.number, body, ticket)
        self._connection.touched()

    def send_answer(self, request: Request, answer: Answer) -> None:
        """A whole answer made here."""
        connection = self._connection
        connection.codec.send_answer(self.number, request, answer)
        connection.touched()
        if refuses_client(answer, self.peer):
            # Not at once: some clients read nothing behind GOAWAY, and it overtakes the answer.
            connection.listener.certified.refused(connection)

    def send_ending(self, answer: Answer) -> bool:
        """Trailers that end a gRPC response: its client reports their status. Where a length was
        promised they would be malformed (RFC 9113 §8.1.1)."""
        exchange = self.exchange
        assert exchange is not None
        response = exchange.response
        if response is not None and response.header("content-length") is not None:
            return False
        self.send_end(answer.trailers(), exchange.ticket)
        return True

    def begin_tunnel(self, now_ns: int) -> None:
        """What the client sends now is data: until now it was not read."""
        exchange = self.exchange
        assert exchange is not None
        request = exchange.request
        if request.end:  # it ended with its head
            exchange.on_request_body(body_of(request), now_ns)
        else:
            self.resume_reading()

    def pause_reading(self) -> None:
        """Give the client no more window."""
        self._connection.codec.pause(self.number)

    def resume_reading(self) -> None:
        """Take what waits, and give its window back; nothing of a tunnel passes before there is
        one."""
        exchange = self.exchange
        if exchange is not None and exchange.phase != TUNNEL and exchange.request.tunnel:
            return
        self._connection.codec.resume(self.number)
        self._connection.touched()

    def arm(self, deadline_ns: int) -> None:
        """Replace the stream's deadline."""
        self._connection.listener.deadlines.arm(self.slot, deadline_ns)

    def finished(self, now: int) -> None:
        """The exchange is over: the stream is, too, once the client has taken what is queued."""
        codec = self._connection.codec
        if codec.leave(self.number):
            self._leave(now)
        else:
            self.relayed(codec.queued_on(self.number), now)

    def cut(self, now_ns: int) -> None:
        """Reset: what was sent must not look whole."""
        self._connection.reset(self.number)
        self._leave(now_ns)
