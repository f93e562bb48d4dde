"""A connection to an endpoint over HTTP/2: lent to many exchanges, a stream to each."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Final, cast

from meshcore._core import Answer, Cause, Chunk, Reason, Reset, Response, Signal
from meshcore.codec import STREAM_HIGH_WATER
from meshcore.errors import TlsError
from meshcore.exchange.ports import Lost
from meshcore.upstream.socket_state import has_ended, rest_of, stale_within_ns
from meshcore.upstream.tls import describe_end, end_of_tls, loss_of, refuses_us
from meshcore.wire.http2 import Http2Wire

if TYPE_CHECKING:
    from collections.abc import Iterable

    from meshcore._core import Body, Peer, Request, Ticket
    from meshcore.codec import ClientCodec
    from meshcore.exchange.exchange import Exchange
    from meshcore.upstream.pool import Pool
    from meshcore.upstream.pool_owner import PoolOwner


# What a request waits for that is no fault of its endpoint: others have used up the window.
HELD_UP: Final = Cause.excused()
# How long an endpoint may take what is left to write on a connection that is being closed: it has a
# place under the cap until then.
CLOSE_NS: Final = 2_000_000_000


class Http2Stream:
    """A stream that is lent to one exchange; it is opened with the request."""

    __slots__ = (
        "_connection",
        "_ending",
        "_kept",
        "_number",
        "_opened_ns",
        "began",
        "choked",
        "exchange",
    )

    half_closes: Final = True

    def __init__(self, connection: Http2Connection, kept: bool) -> None:
        self._connection = connection
        self._number = 0
        self._opened_ns = 0
        self._kept = kept  # the connection was not opened for this request
        self.began = False  # some of the response has come
        self._ending = False  # the client's side of a tunnel has ended, and may not be sent yet
        self.choked = False
        self.exchange: Exchange | None = None

    # --- called by the connection -------------------------------------------------------------

    def on_event(self, event: object, now: int) -> None:
        """A part of the response, or of what became of the stream."""
        exchange = self.exchange
        if exchange is None:
            return
        if type(event) is Response:
            connection, passed = self._connection, None
            self.began = connection.answered = True
            if exchange.request_done and exchange.layers is None:
                number, request, ticket = self._number, exchange.request, exchange.ticket
                to = exchange.down.whole_to
                passed = connection.codec.relay(number, event, request, ticket, to, now)
            if passed is None:
                exchange.on_response(event, now)
            elif type(passed) is tuple:
                exchange.on_passed(*passed, now)
            else:
                self.exchange = None
                connection.closed(number)
                exchange.on_whole(passed, now)
        elif type(event) is Chunk or type(event) is bytes:
            exchange.on_response_data(event, now)
        elif type(event) is Reset:
            self.on_lost(event.kind, event.detail, now, event.code)
        elif type(event) is int:
            self._on_signal(exchange, event, now)
        elif isinstance(event, Answer):
            exchange.on_failed(event.number, event.detail, now)
        else:
            exchange.on_response_body(cast("Body", event), now)

    def _on_signal(self, exchange: Exchange, signal: int, now: int) -> None:
        if signal == Signal.SENT or (signal == Signal.WRITABLE and not self._ending):
            self.choked = False
            exchange.on_endpoint_room(now)

    def on_lost(self, kind: int, detail: str, now: int, code: int | None = None) -> None:
        """The endpoint reset it (with this code), or the connection is gone."""
        exchange, connection = self.exchange, self._connection
        connection.closed(self._number)
        if exchange is None:
            return
        if connection.codec.flood is not None:
            # Our own limit ended the connection, for one stream or for none: no failure of it.
            exchange.on_failed(Reason.RESPONSE_TOO_LARGE, "flood", now)
        elif kind == Signal.MALFORMED:
            exchange.on_failed(Reason.UPSTREAM_PROTOCOL, detail, now)
        elif kind == Signal.REFUSED and not self.began:
            exchange.on_failed(Reason.UPSTREAM_REFUSED, detail, now)
        elif connection.refused and not self.began:
            exchange.on_failed(Reason.UPSTREAM_CONNECT, detail, now, connection.end)
        else:
            cause = connection.end_of(self.began)
            stale = cause is not None and not self.began and self._is_stale(now)
            exchange.on_cut(detail, now, Lost(self.began, stale, cause, None if cause else code))

    def _is_stale(self, now: int) -> bool:
        """The connection was kept, and said nothing since this was sent, just now."""
        connection = self._connection
        silent = self._kept and connection.heard_ns <= self._opened_ns
        return silent and now - self._opened_ns <= connection.stale_within_ns

    # --- called by the exchange ---------------------------------------------------------------

    def send_request(self, request: Request, ticket: Ticket, peer: Peer, now_ns: int) -> bool:
        """The head, and what of the body came with it."""
        connection = self._connection
        number = connection.codec.forward(request, ticket, peer, now_ns)
        if number is None:
            return False
        self._number = number
        self._opened_ns = now_ns
        connection.streams[number] = self
        connection.lent -= 1
        connection.kept = True
        if not connection.flushes:
            connection.touched()
        return True

    def send_data(self, data: bytes | Chunk) -> None:
        """A piece of the body."""
        connection = self._connection
        queued = connection.codec.send_data(self._number, data)
        connection.touched()
        if queued > STREAM_HIGH_WATER and not self.choked and self.exchange is not None:
            self.choked = True
            self.exchange.on_endpoint_full(connection.heard_ns)

    def send_end(self, body: Body, ticket: Ticket) -> None:
        """The end of the body."""
        self._connection.codec.send_end(self._number, body, ticket)
        self._connection.touched()
        if ticket.tunnels:
            self._ending = self.choked = True  # until all is sent

    def why_silent(self) -> Cause | None:
        """What other requests may have met, too, of one that has no response in time."""
        connection = self._connection
        silent = connection.heard_ns <= self._opened_ns
        if silent:
            connection.retire()  # it may be dead: who comes next has another one
        if connection.codec.is_held_up(self._number):
            return HELD_UP
        return connection.end if silent else None

    def pause_reading(self) -> None:
        """Give the endpoint no more window."""
        self._connection.codec.pause(self._number)

    def resume_reading(self) -> None:
        """Take what waits, and give its window back."""
        self._connection.codec.resume(self._number)
        self._connection.touched()

    def release(self, now: int) -> None:
        """Request and response are complete; the end of the request may still wait for window."""
        self.exchange = None
        connection = self._connection
        connection.codec.leave(self._number)
        if not connection.flushes:
            connection.touched()
        connection.closed(self._number)

    def discard(self) -> None:
        """It is not waited for any more."""
        self.exchange = None
        connection = self._connection
        if self._number:
            connection.codec.leave(self._number)
            connection.touched()
        connection.closed(self._number)


class Http2Connection(Http2Wire):
    """Open connection; it takes streams until its endpoint or its age says no."""

    __slots__ = (
        "_closing_ns",
        "_pools",
        "answered",
        "born_ns",
        "end",
        "had_room",
        "idle_since_ns",
        "kept",
        "lent",
        "looked_ns",
        "loss",
        "pool",
        "ready",
        "refused",
        "retired",
        "stale_within_ns",
        "streams",
        "torn",
    )

    codec: ClientCodec

    def __init__(self, pools: PoolOwner, pool: Pool) -> None:
        super().__init__(pools.now_ns)
        self._pools = pools
        self.pool = pool
        cluster = pool.cluster
        self.codec = cluster.new_h2_codec(cluster.tls is not None, self.heard_ns)
        self.streams: dict[int, Http2Stream] = {}
        self.lent = 0  # streams that are not opened yet
        self.had_room = 0  # for so many when it lent one last, that one too
        self.ready = asyncio.Event()  # the endpoint said how many streams it takes, or is gone
        self.retired = False  # it takes no more streams
        self.kept = False  # it has carried what it was opened for
        self.answered = False  # a response has begun on it
        self.refused = False  # its endpoint does not take us
        self.loss: OSError | None = None  # why it is lost
        self.end = Cause()  # that it is over, or silent
        self.torn = Cause()  # that it is over, to who has a response that had begun
        self.stale_within_ns = 0  # of its end
        self.born_ns = self.idle_since_ns = self.heard_ns
        self.looked_ns = 0
        self._closing_ns = 0  # since when it was seen to be closing

    # --- called by the loop -------------------------------------------------------------------

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """The loop hands us the open connection: the preface goes out at once."""
        self.transport = cast("asyncio.Transport", transport)
        self.flush()

    def dispatch(self, events: Iterable[tuple[int, object]], now: int) -> None:
        """What happened on streams, or (0) to the connection, one after the other."""
        streams = self.streams
        for number, event in events:
            stream = streams.get(number)
            if stream is not None:
                stream.on_event(event, now)
            elif number == 0 and event in (Signal.GOING_AWAY, Signal.CLOSED):
                self.retire()

    def data_received(self, data: bytes) -> None:
        """Bytes of frames; some may have made room for another stream."""
        super().data_received(data)
        if not self.ready.is_set():
            if self.codec.can_open(self.heard_ns) or self.codec.closed:
                self.ready.set()
        elif self.pool.waiting and not self.retired:
            self._pools.has_room(self, self.heard_ns)

    def eof_received(self) -> None:
        """The endpoint sends no more. The transport closes."""
        self.retire()

    def connection_lost(self, exc: Exception | None) -> None:
        """The connection is gone, and every stream with it: each hears what became of it, behind
        what the endpoint had sent."""
        now, transport = self.now_ns(), self.transport
        if transport is None:
            return  # it was dropped
        if exc is not None and not self.closing:
            for data in rest_of(transport):
                self._dispatch(self.codec.receive(data, now), now)
        exc = end_of_tls(transport, exc)
        self.loss = loss_of(transport, exc)
        if isinstance(exc, TlsError):
            self._pools.counts.tls_failed(self.pool, exc)
        self.refused = refuses_us(exc) and not self.answered
        detail = describe_end(transport, exc, answers=self.answered)
        self.stale_within_ns = stale_within_ns(transport)
        self.transport = None
        self.closing = True
        self.retired = True
        self.pool.remove_shared(self)  # before its streams hear: they may ask for room
        self.ready.set()
        try:
            self._dispatch(self.codec.receive_eof(), now)
            while self.streams:
                self.streams.popitem()[1].on_lost(Signal.RESET, detail, now)
        finally:
            self._pools.lost_shared(self)

    # --- called by streams --------------------------------------------------------------------

    def end_of(self, began: bool) -> Cause | None:
        """Why a stream of it ended, if for the end of the connection: it was lost, or ended by what
        the endpoint sent. However many streams it had, that is one failure of its endpoint. That a
        response is torn may be its client's own doing: it excuses none that had not begun."""
        if self.transport is not None and not self.codec.closed:
            return None
        return self.torn if began and not self.end.counted else self.end

    def closed(self, number: int) -> None:
        """A stream is over: there is room for another."""
        if not number:
            self.lent -= 1  # it was never opened
        elif self.streams.pop(number, None) is None:
            return
        if not (self.streams or self.lent):  # `is_idle`, which would be a call for each request
            self.idle_since_ns = self.heard_ns
            if self.retired:
                self.close()
                return
            pool = self.pool
            if self.idle_since_ns < pool.part.rests_ns or pool.cluster.branches:
                pool.rest(self.idle_since_ns)
        pool = self.pool
        if pool.cluster.queue and not self.retired:
            self._pools.has_room(self, self.now_ns())
        if pool.owner is not None and self.is_idle and not self.retired:
            pool.idled(self)

    # --- called by the pool -------------------------------------------------------------------

    @property
    def is_lost(self) -> bool:
        """Whether the transport is gone."""
        return self.transport is None

    @property
    def is_open(self) -> bool:
        """Neither lost nor about to be, and willing to take streams."""
        lost = self.transport is None or self.transport.is_closing()
        return not (lost or self.retired or self.codec.closed)

    @property
    def is_idle(self) -> bool:
        """Whether no stream is open or lent."""
        return not (self.streams or self.lent)

    def room(self, now: int) -> int:
        """How many more streams it takes now, even if what is sent on it waits."""
        return 0 if self.retired or self.closing else self.codec.can_open(now) - self.lent

    def lend(self, now: int, clogged: bool) -> Http2Stream | None:
        """A stream, if it takes another one now; ``clogged``: even if what is sent waits, because
        its socket is full or others have used up its window."""
        if self.retired or self.closing or (self.choked and not clogged):
            return None
        codec = self.codec
        room = (codec.can_open(now) if clogged else codec.can_carry(now)) - self.lent
        if room <= 0:
            return None
        self.had_room = room
        self.lent += 1
        return Http2Stream(self, self.kept)

    @property
    def authenticates(self) -> bool:
        """Whether its endpoint has shown that it authenticates this connection."""
        return self.codec.authenticates

    def is_alive(self) -> bool:
        """Whether no end of file waits in the socket."""
        return self.transport is not None and not has_ended(self.transport)

    def resume_writing(self) -> None:
        """The endpoint took what was queued: it takes streams again."""
        super().resume_writing()
        if self.pool.waiting and not self.retired:
            self._pools.has_room(self, self.now_ns())

    def retire(self) -> None:
        """Take no more streams, and close when the last one is over."""
        if not self.retired:
            self.retired = True
            self.pool.remove_shared(self)
        if self.is_idle:
            self.close()

    def withdraw(self) -> None:
        """Close it, which carries no request."""
        self.retire()

    def drop(self) -> None:
        """Cut what was never lent; its end is not reported, whether the loop tells of it or not."""
        transport, self.transport = self.transport, None
        self.closing = self.retired = True
        if transport is not None:
            transport.abort()

    def close(self) -> None:
        """Close it: no stream is open. What is queued (GOAWAY, if it went wrong) goes out first."""
        transport = self.transport
        if transport is not None and not transport.is_closing():
            transport.write(self.codec.take_output())
            transport.close()

    def sweep(self, now: int) -> None:
        """Look after an endpoint that is silent while streams are open; what is being closed ends,
        whether what is left to write is taken or not."""
        transport, h2 = self.transport, self.pool.cluster.spec.h2
        if transport is None:
            return
        if transport.is_closing():
            self._closing_ns = self._closing_ns or now
            if now - self._closing_ns >= CLOSE_NS:
                transport.abort()
        elif (
            self.streams and h2.ping_ns and not self.look_after(now, h2.ping_ns, h2.ping_timeout_ns)
        ):
            transport.abort()
