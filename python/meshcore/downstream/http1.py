"""A client's connection over HTTP/1.1: a protocol of the loop that makes an exchange of each
request."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, cast

from meshcore._core import Answer, Body, Reason, Request, ServerCodec
from meshcore.downstream.certified import refuses_client
from meshcore.downstream.half_closed import Watch
from meshcore.downstream.http1_phase import (
    ALL,
    ANY,
    CLOSING,
    ENDED,
    EXCHANGE,
    IDLE,
    NONE,
    ON_THEIR_WAY,
    PIPELINE,
    READING,
    SERVING,
    UNREAD,
)
from meshcore.downstream.http1_wire import Http1Wire
from meshcore.downstream.sockets import end_of
from meshcore.errors import CodecError, TlsError
from meshcore.exchange.exchange import Exchange
from meshcore.exchange.owner import Owner
from meshcore.exchange.phase import ANSWERING, TUNNEL
from meshcore.wire.half_closed import end_writing
from meshcore.wire.http1 import BodyWriter

if TYPE_CHECKING:
    from meshcore._core import IdleTime, Peer, Response, Ticket
    from meshcore.downstream.context import ServerContext

# How long a connection that waits for a request is kept when the listener drains: closing at once
# would lose a request that is on its way (RFC 9112 §9.3.1, §9.6). A second is more than what is on
# its way needs.
DRAIN_QUIET_NS = 1_000_000_000


class Http1Connection(BodyWriter, Http1Wire):
    """Open connection of a client; at most one exchange at a time, later requests wait."""

    __slots__ = (
        "_chunks",
        "_exchange",
        "_feeding",
        "_takes",
        "choked",
        "codec",
        "owner",
        "peer",
        "whole_to",
    )

    def __init__(self, listener: ServerContext, *, secure: bool = False) -> None:
        self._listener = listener
        self.codec = ServerCodec(listener.codec_limits, secure)
        self.whole_to: tuple[ServerCodec, asyncio.Transport, IdleTime, int] | None = None
        self.choked = False
        self.owner: Owner | None = None
        self._exchange: Exchange | None = None
        self._transport = None
        self._phase = IDLE
        self._takes = ALL
        self._pauses = 0
        self._feeding = False
        self._chunks = False  # the response's body goes out in chunks
        self._lingering = None
        self._watch = None

    # --- called by the loop -------------------------------------------------------------------

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """The loop accepted a client."""
        listener, peername = self._listener, transport.get_extra_info("peername")
        self.adopt(cast("asyncio.Transport", transport), listener.peer_of(peername))
        listener.accept(self, peername)

    def adopt(self, transport: asyncio.Transport, peer: Peer, slot: int | None = None) -> None:
        """Serve a transport that the listener has let in; ``slot``: of its deadline."""
        listener, self.peer = self._listener, peer
        transport = self._transport = listener.outbox.over(transport)
        due_ns = listener.now_ns() + listener.patience_ns
        slot = self._slot = listener.deadlines.add(self, due_ns, slot)
        self.whole_to = (self.codec, transport, listener.idle, slot)
        if listener.draining:
            self._take_only(ON_THEIR_WAY)

    def data_received(self, data: bytes) -> None:
        """Bytes of requests."""
        if self._phase == CLOSING:
            return  # lingering: the answer is out, what still comes is not read
        listener = self._listener
        now = listener.now_ns()
        deadlines, slot = listener.deadlines.slots, self._slot
        try:
            event = self.codec.begin(data, listener.stack, self.peer, deadlines, slot, now)
            if isinstance(event, tuple):
                request, ticket = event
                self._phase = SERVING
                exchange = Exchange(listener.driver, self, listener.stack, request)
                self._exchange = exchange
                exchange.begun(ticket, now)
            else:
                self._dispatch(event, now)
        except CodecError as error:
            self._refuse(error, now)

    def _dispatch(self, event: Request | bytes | Body | None, now: int) -> None:
        exchange = self._exchange
        if type(event) is Request:
            listener = self._listener
            self._phase = SERVING
            exchange = self._exchange = Exchange(listener.driver, self, listener.stack, event)
            exchange.begin(now)
        elif event is None:
            if not self.codec.wants_read:
                self._pause(PIPELINE)  # pipelined requests wait; the socket keeps the rest
            elif self._phase == IDLE and self.codec.started:
                # The head is timed from its first byte: a client that dribbles gains nothing.
                self._phase = READING
                self.arm(now + self._listener.header_timeout_ns)
        elif exchange is None:
            return  # the answer is out already: the rest of the body is not wanted
        elif type(event) is bytes:
            exchange.on_request_data(event, now)
        elif type(event) is Body:
            exchange.on_request_body(event, now)

    def eof_received(self) -> bool:
        """The client says no more. ``True``: the transport stays open for what it is to have."""
        now, exchange, transport = self._listener.now_ns(), self._exchange, self._transport
        assert transport is not None
        if exchange is None:
            return self._leave(now)
        if transport.get_extra_info("torn"):
            self.cut(now)  # it may be forged: nothing is to look whole
            return self._lingering is not None
        tunnel = exchange.phase == TUNNEL
        served = self._listener.serves_half_closed and exchange.request_done
        if not (exchange.half_closes if tunnel else served):
            return self._leave(now)
        self._pause(ENDED)
        self._take_only(ON_THEIR_WAY)  # the last response says so
        if not exchange.endpoint_ended:  # else this side is shut, too
            self._watch = Watch(transport, self._listener.deadlines, now)
        self._end_tunnel(exchange, now)
        return True

    def _end_tunnel(self, exchange: Exchange, now: int) -> None:
        if (end := self.codec.receive_eof()) is not None:
            exchange.on_request_body(end, now)

    def _leave(self, now: int) -> bool:
        """The client left: a half-closed one cannot be told from one that is gone, and what it
        asked for is not worked on in vain. It ends here, for what is written to a transport
        that closes goes nowhere. ``True``: the transport stays open for what it has of whole
        responses."""
        exchange = self._exchange
        if exchange is not None and exchange.phase == ANSWERING:
            self.cut(now)
        elif self._phase != CLOSING:
            self._close(now, linger=False)
        self._lose(now)
        return self._lingering is not None and self._lingering.torn

    def connection_lost(self, exc: Exception | None) -> None:
        """The connection is gone."""
        self._transport = self.whole_to = None
        self._phase = CLOSING
        self._stop_watch()
        self._listener.deadlines.remove(self._slot)
        self._listener.leave(self)
        if isinstance(exc, TlsError):
            self._listener.tls_failed(exc)
        self._lose(self._listener.now_ns())
        if self.owner is not None:
            self._listener.driver.pools.left(self.owner)

    def _lose(self, now: int) -> None:
        exchange, self._exchange = self._exchange, None
        if exchange is not None:
            exchange.on_downstream_lost(now)

    def pause_writing(self) -> None:
        """The client is slower than the endpoint: begin no further request until what is queued
        has gone out."""
        self.choked = True
        exchange = self._exchange
        if exchange is None:
            self._pause(UNREAD)
        else:
            exchange.on_client_full()

    def resume_writing(self) -> None:
        """The client took what was queued."""
        self.choked = False
        exchange = self._exchange
        if exchange is not None:
            exchange.on_client_room()
            self._resume(UNREAD)  # it began with what the loop had read already
        elif self._pauses & ENDED:
            # In a turn of its own: asyncio closes twice what is closed within this call.
            asyncio.get_running_loop().call_soon(self._go_on_taken)
        elif self._phase != CLOSING:
            self._go_on(self._listener.now_ns())

    def _go_on_taken(self) -> None:
        if self._exchange is None and self._phase != CLOSING:
            self._go_on(self._listener.now_ns())

    # --- called by the exchange ---------------------------------------------------------------

    def reached(self) -> tuple[str | None, int]:
        """The address and the port that the client is connected to."""
        return end_of(self._transport and self._transport.get_extra_info("sockname"))

    def own(self) -> None:
        """From now on the client's connections to endpoints are its alone."""
        self.owner = self.owner or Owner()

    def send_informational(self, response: Response, ticket: Ticket) -> None:
        """Relay a 1xx."""
        self.write(self.codec.send_informational(response, ticket))

    def send_response(self, response: Response, ticket: Ticket) -> None:
        """Relay a head, and what of the body came with it."""
        exchange, codec = self._exchange, self.codec
        assert exchange is not None
        close = not exchange.request_done or (self._takes != ALL and self._is_last())
        self.write(codec.send_response(exchange.request, response, ticket, close))
        self._chunks = codec.chunking

    def relayed(self, sent: bytes | bool, now_ns: int) -> None:
        """A whole response, and the end of its exchange: how much of it is still to be written; or,
        when the next request is awaited already, whether something of it is here."""
        if type(sent) is bool:
            self._exchange = None
            self._phase = IDLE
            if sent or self._pauses or self.choked:
                self._begin_next(sent, now_ns)
        else:
            if sent:
                self.write(sent)
            self.finished(now_ns)

    def send_end(self, body: Body, ticket: Ticket) -> None:
        """The end of the body."""
        exchange = self._exchange
        if self._chunks:
            self.write(self.codec.chunked_end(body, ticket))
        elif exchange is not None and exchange.phase == TUNNEL and self.half_closes:
            assert self._transport is not None
            self._stop_watch()
            end_writing(self._transport)

    def send_answer(self, request: Request, answer: Answer) -> None:
        """A whole answer made here."""
        exchange = self._exchange
        assert exchange is not None
        if refuses_client(answer, self.peer):
            self._take_only(NONE)
        keeps = exchange.request_done and not (self._takes != ALL and self._is_last())
        self.write(self.codec.send_answer(request, answer, keeps))

    def _is_last(self) -> bool:
        """Whether a response must say `close`: only that to the last request that was read, for
        what a client sends behind such a response is lost (RFC 9112 §9.6)."""
        return self._takes == NONE or not self.codec.pipelined

    def send_ending(self, answer: Answer) -> bool:
        """Not over HTTP/1.1: without the end of its body a response is torn, which says enough."""
        return False

    def begin_tunnel(self, now_ns: int) -> None:
        """What the client sends now is data; what it sent already comes first."""
        early = self.codec.begin_tunnel()
        self._resume(PIPELINE)
        exchange = self._exchange
        if early and exchange is not None:
            exchange.on_request_data(early, now_ns)
        if exchange is not None and self._pauses & ENDED:
            self._end_tunnel(exchange, now_ns)

    def pause_reading(self) -> None:
        """Leave further bytes in the socket."""
        self._pause(EXCHANGE)

    def resume_reading(self) -> None:
        """Read on, unless there is another reason not to."""
        self._resume(EXCHANGE)

    def finished(self, now: int) -> None:
        """The exchange is over: the next request, or the end of the connection."""
        exchange, self._exchange = self._exchange, None
        self._phase = IDLE
        codec = self.codec
        assert exchange is not None
        started = codec.start_next() if exchange.request_done else None
        if started is None:
            # Where more of the client's is on its way, a plain close would be a reset.
            asks = codec.may_ask_again or exchange.request.tunnel
            told = codec.pipelined or not codec.request_complete
            self._close(now, linger=(told or asks) and not self._pauses & ENDED)
            return
        if self._takes == ALL or self.choked:  # whose responses are on their way
            self._listener.idle.arm(self._slot, now)
        else:
            self.arm(now + DRAIN_QUIET_NS)
        self._begin_next(started, now)

    def _begin_next(self, started: bool, now: int) -> None:
        if self.choked:
            self._pause(UNREAD)
        elif started or self._pauses:
            self._go_on(now)

    def _take_only(self, what: int) -> None:
        """Take no more than that from now on: each response may have to say so."""
        self._takes = max(self._takes, what)
        self.whole_to = None

    def _go_on(self, now: int) -> None:
        """The next request: one that was read already, or what the socket brings."""
        if self.codec.started:
            if not self._feeding:
                self._feed(now)
        elif self._pauses:
            self._read_on(now)

    def _read_on(self, now: int) -> None:
        """For what is missing of a request: if there is nothing more to read, nothing is."""
        if self._pauses & ENDED:
            self._leave(now)
        else:
            self._resume(ANY)

    def _feed(self, now: int) -> None:
        """Serve requests that were pipelined, one after the other, without recursion."""
        self._feeding = True
        try:
            while self._phase < SERVING and not self.choked:
                if not self.codec.started:
                    break
                event = self.codec.next_event()
                self._dispatch(event, now)
                if event is None:
                    self._read_on(now)
                    break
                exchange = self._exchange
                if self._pauses & ENDED and exchange is not None and not exchange.request_done:
                    self._leave(now)
                    break
            if self._phase == SERVING and self.codec.wants_read:
                self._resume(PIPELINE | UNREAD)  # the rest of what was read ahead of its turn
        except CodecError as error:
            self._refuse(error, now)
        finally:
            self._feeding = False

    def cut(self, now_ns: int) -> None:
        """End with a reset: after a plain end a body without a length would look whole (RFC 9112
        §8). Whole responses before it are the client's first."""
        self._close(now_ns, linger=False, torn=True)
        self._lose(now_ns)

    # --- the end ------------------------------------------------------------------------------

    def on_deadline(self, now: int) -> None:
        """The armed deadline passed."""
        exchange = self._exchange
        if self._phase == CLOSING:
            if self._lingering is not None:
                self.arm(self._lingering.look(now))
        elif exchange is not None:
            exchange.on_deadline(now)
        elif self.codec.started and not self._pauses & UNREAD:
            self.refuse(Answer.for_reason(Reason.REQUEST_TIMEOUT, "head not whole in time"), now)
        else:
            self._hang_up(now)

    def drain(self, now: int) -> None:
        """Take no further request but those that are on their way; responses say so."""
        self._take_only(ON_THEIR_WAY)
        if self._phase == IDLE and not self.codec.started:
            self.arm(now + DRAIN_QUIET_NS)

    def dismiss(self, now: int) -> None:
        """Its client would not come in any more. What has begun is answered, and the next response
        is the last: a client that always sends some of its next request would else never be told
        so."""
        self.drain(now)
        self._take_only(NONE)

    def end(self, now: int) -> None:
        """The time to drain is over: answer what has begun, if only its head, and close."""
        self._take_only(NONE)
        exchange = self._exchange
        if self._phase == CLOSING:
            return  # what is queued goes out
        if exchange is not None:
            exchange.on_drained(now)
        elif self.codec.started:
            self.refuse(Answer.for_reason(Reason.DRAINING, "head not whole"), now)
        else:
            self._hang_up(now)

    def _refuse(self, error: CodecError, now: int) -> None:
        """The request may not pass: its status, and the end of the connection."""
        exchange = self._exchange
        if exchange is None:
            self.refuse(Answer.for_codec_error(error), now)
        else:
            exchange.end_with(Answer.for_codec_error(error), now)

    def refuse(self, answer: Answer, now: int) -> None:
        """Answer what is no request, and close."""
        self._listener.refused(self.codec.about(answer), self.peer)
        self.write(self.codec.send_answer(None, answer, False))
        self._close(now, linger=True)
