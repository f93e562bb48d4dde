"""A client's connection over HTTP/2: many exchanges at a time, each on a stream of its own."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, cast

from meshcore._core import (
    Answer,
    Body,
    Chunk,
    ErrorCode,
    H2ServerCodec,
    Reason,
    Request,
    Reset,
    Signal,
    misdirected,
)
from meshcore.downstream.deadlines import NEVER
from meshcore.downstream.http2_stream import Http2Stream
from meshcore.downstream.leaving import GOAWAY_NS, Leaving, Step
from meshcore.downstream.lingering import LOOK_NS, LingeringClose
from meshcore.downstream.reset import reset_on_close
from meshcore.downstream.sockets import end_of
from meshcore.errors import TlsError
from meshcore.exchange.exchange import Exchange
from meshcore.exchange.owner import Owner
from meshcore.wire.http2 import Http2Wire

if TYPE_CHECKING:
    from collections.abc import Iterable

    from meshcore._core import Peer, Ticket
    from meshcore.codec import ServerCodec
    from meshcore.downstream.context import ServerContext

# Bytes that wait on all streams together, beyond which no endpoint of any is read: a client that
# takes nothing holds this much and one read for each stream.
HIGH_WATER = 4 << 20
LOW_WATER = 2 << 20
# A client that has all we sent may have frames on their way (WINDOW_UPDATE for the last of it):
# it has so long to close before they would be answered by a reset.
LINGER_NS = 500_000_000


class Http2Connection(Http2Wire):
    """Open connection of a client."""

    __slots__ = (
        "_goaway_due_ns",
        "_greeted",
        "_head_due_ns",
        "_leaving",
        "_lingering",
        "_slot",
        "full",
        "listener",
        "native",
        "owner",
        "owners",
        "peer",
        "streams",
    )

    codec: ServerCodec

    def __init__(self, listener: ServerContext, *, secure: bool = False) -> None:
        super().__init__(listener.now_ns)
        self.listener = listener
        codec = self.codec = listener.h2_codec(self.heard_ns, secure=secure)
        self.native = codec if type(codec) is H2ServerCodec else None
        self.streams: dict[int, Http2Stream] = {}
        self.owners = listener.deadlines.owners
        self.owner: Owner | None = None
        self.full = False  # the streams together hold too much
        self._greeted = False
        self._leaving: Leaving | None = None  # it takes its last streams
        self._goaway_due_ns = NEVER  # when the next step of that is due
        self._head_due_ns = NEVER  # when the field block that has begun must be whole
        self._lingering: LingeringClose | None = None  # it closes as soon as the client has it all

    # --- called by the loop -------------------------------------------------------------------

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """The loop accepted a client."""
        listener, peername = self.listener, transport.get_extra_info("peername")
        self.adopt(cast("asyncio.Transport", transport), listener.peer_of(peername))
        listener.accept(self, peername)

    def adopt(self, transport: asyncio.Transport, peer: Peer, slot: int | None = None) -> None:
        """Serve a transport that the listener has let in; ``slot``: of its deadline."""
        self.transport, self.peer = transport, peer
        listener = self.listener
        if listener.draining:  # accepted just before the listener closed: it may ask once
            self._goaway_due_ns = self.heard_ns + GOAWAY_NS
        due = min(self.heard_ns + listener.header_timeout_ns, self._goaway_due_ns)
        self._slot = listener.deadlines.add(self, due, slot)

    def data_received(self, data: bytes) -> None:
        """Bytes of frames."""
        super().data_received(data)
        if not (self._greeted or self.streams):
            self._greeted = True
            self.rest(self.heard_ns)
            if self.codec.closed:
                self._log_misdirected(data)
        if self.codec.in_head is (self._head_due_ns == NEVER):
            self._time_head(self.heard_ns)

    def _log_misdirected(self, data: bytes) -> None:
        """What is no HTTP/2 at all has a line in the log: its sender asks why."""
        instead = misdirected(data)
        if instead is not None:
            answer = Answer.for_reason(Reason.BAD_REQUEST, instead)
            self.listener.refused(answer, self.peer, sent=False)

    def _time_head(self, now: int) -> None:
        """A head has begun: it has its time as a whole. Or it is there."""
        begins = self._head_due_ns == NEVER
        self._head_due_ns = now + self.listener.header_timeout_ns if begins else NEVER
        self._rearm(now)

    def receive(self, data: bytes, now: int) -> Iterable[tuple[int, object]] | None:
        """What a read meant, with requests that are begun."""
        codec, listener = self.native, self.listener
        if codec is None:
            return self.codec.receive(data, now)
        return codec.begin(data, listener.stack, self.peer, listener.deadlines.slots, now)

    def dispatch(self, events: Iterable[tuple[int, object]], now: int) -> None:
        """What happened on streams, or (0) to the connection, one after the other."""
        listener, streams, owners = self.listener, self.streams, self.owners
        for number, event in events:
            ticket: Ticket | None = None
            if type(event) is tuple:
                request, ticket, slot = event
            elif type(event) is Request:
                request, slot = event, listener.deadlines.slots.add(NEVER)
            else:
                self._on_event(number, event, now)
                continue
            stream = streams[number] = owners[slot] = Http2Stream(self, number, slot)
            exchange = stream.exchange = Exchange(listener.driver, stream, listener.stack, request)
            if len(streams) == 1 or self._leaving is not None:
                self._opened(now)
            if ticket is None:
                exchange.begin(now)
            else:
                exchange.begun(ticket, now)

    def _opened(self, now: int) -> None:
        """The only stream, or one of a connection that ends."""
        if len(self.streams) == 1:
            self._arm_alive(now)
            if self.listener.draining:
                self.drain(now)
        if self._leaving is not None:
            self._leaving.opened(now)
            self._time_leaving(now)

    def _on_event(self, stream: int, event: object, now: int) -> None:
        """Something other than a request."""
        known = self.streams.get(stream)
        if known is None:
            self._dispatch_other(stream, event, now)
        elif type(event) is Reset:
            known.on_reset(event, now)
        elif isinstance(event, int):
            known.on_signal(event)
        elif (exchange := known.exchange) is None:
            return  # it is over: what its client still says is not wanted
        elif type(event) is Body:
            exchange.on_request_body(event, now)
        elif type(event) is Answer:
            exchange.end_with(event, now)
        else:
            exchange.on_request_data(cast("Chunk | bytes", event), now)

    def _dispatch_other(self, stream: int, event: object, now: int) -> None:
        """What belongs to no exchange: a request that could not begin, or the connection itself."""
        if type(event) is Answer:
            self.listener.refused(event, self.peer)
            self.codec.send_answer(stream, None, event)
            self.codec.leave(stream)
        elif stream == 0 and event == Signal.CLOSED:
            if self.codec.flood is not None:
                self.listener.stack.flooded(self.codec.flood)
            self._close(now)
        elif stream == 0 and event == Signal.HEARD and self._leaving is not None:
            self._leaving.heard(now, not self.streams)
            self._time_leaving(now)

    def eof_received(self) -> None:
        """The client left, and with it every request: what is written to a transport that closes
        goes nowhere."""
        now = self.now_ns()
        self._close(now)
        self._lose_streams(now)

    def connection_lost(self, exc: Exception | None) -> None:
        """The connection is gone."""
        self.transport = None
        self.closing = True
        self.listener.deadlines.remove(self._slot)
        self.listener.leave(self)
        if isinstance(exc, TlsError):
            self.listener.tls_failed(exc)
        self._lose_streams(self.now_ns())
        if self.owner is not None:
            self.listener.driver.pools.left(self.owner)

    def _lose_streams(self, now: int) -> None:
        while self.streams:
            next(reversed(self.streams.values())).on_lost(now)

    def flush(self) -> None:
        """Send what there is; stop every endpoint when all streams together hold too much."""
        if self.closing:
            return  # all that there was is written
        if self._leaving is not None and not (self.streams or self._dispatching):
            self._take_leave(self._leaving, self.now_ns())
        super().flush()
        queued = self.codec.queued
        if not self.full and queued > HIGH_WATER:
            self.full = True
            for stream in list(self.streams.values()):
                stream.check_room()
        elif self.full and queued < LOW_WATER:
            self.full = False
            for stream in list(self.streams.values()):
                stream.check_room()

    # --- called by streams --------------------------------------------------------------------

    def reached(self) -> tuple[str | None, int]:
        """The address and the port that the client is connected to."""
        transport = self.transport
        return end_of(transport and transport.get_extra_info("sockname"))

    def own(self) -> Owner:
        """Whose connections to endpoints are, which no other client may use."""
        if self.owner is None:
            self.owner = Owner()
        return self.owner

    def reset(self, number: int) -> None:
        """End a stream so that what was sent does not look whole."""
        self.codec.reset(number, ErrorCode.INTERNAL_ERROR)
        self.touched()

    # --- time and the end ---------------------------------------------------------------------

    def _arm(self, due_ns: int) -> None:
        due = min(due_ns, self._head_due_ns, self._goaway_due_ns)
        self.listener.deadlines.arm(self._slot, due)

    def _rearm(self, now: int) -> None:
        if self.streams:
            self._arm_alive(now)
        else:
            self.rest(now)

    def rest(self, now: int) -> None:
        """Nothing is under way: the client has the idle time to ask again."""
        if not self.closing:
            self._arm(now + self.listener.idle.timeout_ns)

    def _arm_alive(self, now: int) -> None:
        """Streams are open: look after the client when it is silent for long."""
        ping_ns = self.listener.h2.ping_ns
        self._arm(now + ping_ns if ping_ns else NEVER)

    def on_deadline(self, now: int) -> None:
        """The armed deadline passed."""
        h2 = self.listener.h2
        if self.closing:
            if self._lingering is not None:
                self.listener.deadlines.arm(self._slot, self._lingering.look(now))
        elif now >= self._head_due_ns:
            self.codec.abandon(ErrorCode.ENHANCE_YOUR_CALM)
            self.flush()
            self._close(now)
        elif now >= self._goaway_due_ns:
            if self._leaving is None:  # accepted at the last moment, and asked nothing
                self.drain(now)
            else:
                self._take_leave(self._leaving, now)
                self.flush()
        elif not self.streams:
            self.codec.abandon(ErrorCode.NO_ERROR)  # which says what was the last stream
            self.flush()
            self._close(now)
        elif due := self.look_after(now, h2.ping_ns, h2.ping_timeout_ns):
            self._arm(due)
        else:
            self.abort()

    def _take_leave(self, leaving: Leaving, now: int) -> None:
        """Say what is due."""
        step = leaving.step(now, not self.streams)
        if step is Step.WARN:
            self.codec.warn()
        elif step is Step.SAY_LAST:
            self.codec.send_goaway(b"")
        self._time_leaving(now)

    def _time_leaving(self, now: int) -> None:
        if self._leaving is not None and self._goaway_due_ns != self._leaving.due_ns:
            self._goaway_due_ns = self._leaving.due_ns
            self._rearm(now)

    def drain(self, now: int) -> None:
        """Take no further request, and end when the last stream is over."""
        self._leave(now, self.listener.tell_by_ns)

    def dismiss(self, now: int) -> None:
        """Its client would not come in any more. What has begun is answered, and what it asks for
        before it can have heard of it."""
        self._leave(now, now + GOAWAY_NS)

    def _leave(self, now: int, tell_by_ns: int) -> None:
        if not (self.closing or self._leaving):
            self._leaving = Leaving(now, tell_by_ns)
            self.codec.drain()
            self._time_leaving(now)
            self.flush()

    def end(self, now: int) -> None:
        """The time to drain is over: the end of each stream, and GOAWAY with the reason, behind it
        for clients that take nothing behind one. A stream that cannot be answered is reset as every
        cut is, with INTERNAL_ERROR: after CANCEL a library tells its user that the user gave up."""
        if self.closing:
            return  # what is queued goes out
        leaving, self._leaving = self._leaving, None
        self._goaway_due_ns = NEVER
        warned = leaving is not None and leaving.has_warned
        if warned:
            self.codec.send_goaway(b"draining")
        for stream in list(self.streams.values()):
            stream.end(now)
        if not warned:
            self.codec.send_goaway(b"draining")
        self.flush()

    def abort(self) -> None:
        """Cut the connection."""
        self.closing = True
        transport = self.transport
        if transport is not None:
            reset_on_close(transport)
            transport.abort()

    def _close(self, now: int) -> None:
        """Write what is queued, then close; cut if the client does not take it in time."""
        transport = self.transport
        if self.closing or transport is None or transport.is_closing():
            return
        self.closing = True
        output = self.codec.take_output()
        if output:
            transport.write(output)
        if not self._reading:  # to drop it
            self._reading = True
            transport.resume_reading()
        # A client that floods is not read any more.
        linger_ns = LINGER_NS if self.codec.flood is None else 0
        self._lingering = LingeringClose(transport, now, self.listener.idle.timeout_ns, linger_ns)
        self.listener.deadlines.arm(self._slot, now + LOOK_NS)
