"""A client's connection over HTTP/1.1: a protocol of the loop that makes an exchange of each
request."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, ClassVar, cast

from meshcore._core import Answer, Request, ServerCodec, now_ns
from meshcore.downstream.parting import LOOK_NS, Parting
from meshcore.downstream.reset import reset_on_close
from meshcore.errors import CodecError
from meshcore.exchange.exchange import Exchange

if TYPE_CHECKING:
    from meshcore._core import Body, Chunk, Peer, Response, Ticket
    from meshcore.downstream.listener import Listener

# After a refusal that leaves request bytes unread, wait this long for the client to take the
# answer before the socket is cut: closing at once would reset it and lose the answer
# (RFC 9112 §9.6).
LINGER_NS = 2_000_000_000
# How long a connection that waits for a request is kept when the listener drains: closing at once
# would lose a request that is on its way (RFC 9112 §9.3.1, §9.6). A second is more than what is on
# its way needs.
DRAIN_QUIET_NS = 1_000_000_000


class Http1Connection(asyncio.BaseProtocol):
    """Open connection of a client; at most one exchange at a time, later requests wait."""

    __slots__ = (
        "_chunks",
        "_closing",
        "_draining",
        "_exchange",
        "_feeding",
        "_head_begun",
        "_last",
        "_listener",
        "_parting",
        "_reading",
        "_slot",
        "_transport",
        "choked",
        "codec",
        "peer",
    )

    secure: ClassVar[bool] = False

    def __init__(self, listener: Listener) -> None:
        self._listener = listener
        self.codec = ServerCodec(listener.codec_limits, self.secure)
        self.choked = False
        self._exchange: Exchange | None = None
        self._transport: asyncio.Transport | None = None
        self._reading = True
        self._closing = False
        self._feeding = False
        self._head_begun = False
        self._chunks = False  # the response's body goes out in chunks
        self._parting: Parting | None = None  # it closes as soon as the client has it all
        self._draining = False  # no request is taken but those that are on their way
        self._last = False  # nor those

    # --- called by the loop -------------------------------------------------------------------

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """The loop accepted a client (and ended TLS)."""
        self.adopt(cast("asyncio.Transport", transport))
        if not self._listener.admit(self):
            self.abort()

    def adopt(self, transport: asyncio.Transport) -> None:
        """Serve a transport that the listener has let in."""
        self._transport = transport
        listener = self._listener
        self.peer: Peer = listener.peer_of(transport.get_extra_info("peername"))
        self._draining = listener.draining  # accepted just before the listener closed
        patience = listener.header_timeout_ns
        if self._draining:
            patience = min(patience, DRAIN_QUIET_NS)
        self._slot = listener.deadlines.add(self, now_ns() + patience)

    def data_received(self, data: bytes) -> None:
        """Bytes of requests."""
        if self._closing:
            return  # lingering: the answer is out, what still comes is not read
        now = now_ns()
        try:
            self._dispatch(self.codec.receive(data), now)
        except CodecError as error:
            self._refuse(error, now)

    def _dispatch(self, event: Request | bytes | Body | None, now: int) -> None:
        kind = type(event)
        exchange = self._exchange
        if kind is Request:
            exchange = self._exchange = self._listener.exchange(
                self._listener.driver, self, self._listener.stack, cast("Request", event)
            )
            exchange.begin(now)
        elif event is None:
            if not self.codec.wants_read:
                self.pause_reading()  # pipelined requests wait; the socket keeps the rest
            elif exchange is None and not self._head_begun and self.codec.started:
                # The head is timed from its first byte: a client that dribbles gains nothing.
                self._head_begun = True
                self.arm(now + self._listener.header_timeout_ns)
        elif exchange is None:
            return  # the answer is out already: the rest of the body is not wanted
        elif kind is bytes:
            exchange.on_request_data(cast("bytes", event), now)
        else:
            exchange.on_request_body(cast("Body", event), now)

    def eof_received(self) -> None:
        """The client left: a half-closed one cannot be told from one that is gone, and what it
        asked for is not worked on for nobody. The transport closes."""

    def connection_lost(self, exc: Exception | None) -> None:
        """The connection is gone."""
        self._transport = None
        self._closing = True
        self._listener.deadlines.remove(self._slot)
        self._listener.leave(self)
        exchange, self._exchange = self._exchange, None
        if exchange is not None:
            exchange.on_downstream_lost(now_ns())

    @property
    def listener_name(self) -> str:
        """The listener that accepted it."""
        return self._listener.spec.name

    def pause_writing(self) -> None:
        """The client is slower than the endpoint: read no more of the response, and begin no
        further request until what is queued has gone out."""
        self.choked = True
        exchange = self._exchange
        if exchange is None:
            self.pause_reading()
        elif exchange.up is not None:
            exchange.up.pause_reading()

    def resume_writing(self) -> None:
        """The client took what was queued."""
        self.choked = False
        exchange = self._exchange
        if exchange is None:
            if not self._closing:
                self._go_on(now_ns())
        elif exchange.up is not None:
            exchange.up.resume_reading()

    # --- called by the exchange ---------------------------------------------------------------

    def _write(self, data: bytes) -> None:
        """At once (uvloop), or as soon as the loop can."""
        transport = self._transport
        if transport is not None and not transport.is_closing():
            transport.write(data)

    def send_informational(self, response: Response) -> None:
        """Relay a 1xx."""
        self._write(self.codec.send_informational(response))

    def send_response(self, response: Response, ticket: Ticket, complete: bool) -> None:
        """Relay a head, and what of the body came with it."""
        assert self._exchange is not None
        request, codec = self._exchange.request, self.codec
        close = not complete or (self._draining and self._is_last())
        self._write(codec.send_response(request, response, ticket, close))
        self._chunks = self.codec.chunking

    def send_data(self, data: bytes | Chunk) -> None:
        """A piece of the body: as it is, or as a chunk in one system call."""
        transport = self._transport
        if transport is None or transport.is_closing():
            return
        if type(data) is not bytes:
            data = bytes(data)
        if self._chunks:
            transport.writelines((b"%x\r\n" % len(data), data, b"\r\n"))
        else:
            transport.write(data)

    def send_end(self, body: Body) -> None:
        """The end of the body."""
        if self._chunks:
            self._write(body.chunked_end())

    def send_answer(self, request: Request, answer: Answer, complete: bool) -> None:
        """A whole answer made here."""
        keeps = complete and not (self._draining and self._is_last())
        self._write(self.codec.send_answer(request, answer, keeps))

    def _is_last(self) -> bool:
        """Whether a response must say `close`: only that to the last request that was read, for
        what a client sends behind such a response is lost (RFC 9112 §9.6)."""
        return self._last or not self.codec.pipelined

    def send_ending(self, answer: Answer) -> bool:
        """Not over HTTP/1.1: without the end of its body a response is torn, which says enough."""
        return False

    def begin_tunnel(self, now_ns: int) -> None:
        """What the client sends now is data; what it sent already comes first."""
        early = self.codec.begin_tunnel()
        exchange = self._exchange
        if early and exchange is not None:
            exchange.on_request_data(early, now_ns)

    def pause_reading(self) -> None:
        """Leave further bytes in the socket."""
        if self._reading and self._transport is not None:
            self._reading = False
            self._transport.pause_reading()

    def resume_reading(self) -> None:
        """Read on."""
        if not self._reading and self._transport is not None and not self._closing:
            self._reading = True
            self._transport.resume_reading()

    def arm(self, deadline_ns: int) -> None:
        """Replace the connection's deadline."""
        self._listener.deadlines.arm(self._slot, deadline_ns)

    def finished(self, now: int, complete: bool) -> None:
        """The exchange is over: the next request, or the end of the connection."""
        self._exchange = None
        self._head_begun = False
        codec = self.codec
        if not (complete and codec.keep_alive and codec.start_next()):
            # Where more of the client's is on its way, a plain close would be a reset.
            self._close(now, linger=codec.pipelined or not codec.request_complete)
            return
        self.arm(now + (DRAIN_QUIET_NS if self._draining else self._listener.idle_timeout_ns))
        if self.choked:
            self.pause_reading()
        else:
            self._go_on(now)

    def _go_on(self, now: int) -> None:
        """The next request: one that was read already, or what the socket brings."""
        if not self.codec.started:
            self.resume_reading()
        elif not self._feeding:
            self._feed(now)

    def _feed(self, now: int) -> None:
        """Serve requests that were pipelined, one after the other, without recursion."""
        self._feeding = True
        try:
            while self._exchange is None and not (self._closing or self.choked):
                if not self.codec.started:
                    break
                event = self.codec.next_event()
                self._dispatch(event, now)
                if event is None:
                    self.resume_reading()
                    break
        except CodecError as error:
            self._refuse(error, now)
        finally:
            self._feeding = False

    def abort(self) -> None:
        """Cut the connection with a reset: after a plain end a body without a length would look
        whole (RFC 9112 §8)."""
        self._closing = True
        transport = self._transport
        if transport is not None:
            reset_on_close(transport)
            transport.abort()

    # --- the end ------------------------------------------------------------------------------

    def on_deadline(self, now: int) -> None:
        """The armed deadline passed."""
        exchange = self._exchange
        if self._closing:
            if self._parting is not None:
                self.arm(self._parting.look(now))
        elif exchange is not None:
            exchange.on_deadline(now)
        elif self.codec.started:
            self._answer(Answer.for_reason("request_timeout"), now)
        else:
            self._close(now, linger=False)

    def drain(self, now: int) -> None:
        """Take no further request but those that are on their way; responses say so."""
        self._draining = True
        if self._exchange is None and not (self._closing or self.codec.started):
            self.arm(now + DRAIN_QUIET_NS)

    def end(self, now: int) -> None:
        """The time to drain is over: answer what has begun, if only its head, and close."""
        self._draining = self._last = True
        exchange = self._exchange
        if self._closing:
            return  # what is queued goes out
        if exchange is not None:
            exchange.on_drained(now)
        elif self.codec.started:
            self._answer(Answer.for_reason("draining"), now)
        else:
            self._close(now, linger=False)

    def _refuse(self, error: CodecError, now: int) -> None:
        """The request may not pass: its status, and the end of the connection."""
        exchange = self._exchange
        if exchange is None:
            self._answer(Answer.for_codec_error(error), now)
        else:
            exchange.on_bad_request(Answer.for_codec_error(error), now)

    def _answer(self, answer: Answer, now: int) -> None:
        self._listener.answered(answer)
        self._write(self.codec.send_answer(None, answer, False))
        self._close(now, linger=True)

    def _close(self, now: int, *, linger: bool) -> None:
        """Write what is queued, then close; cut if the client does not take it in time."""
        if linger:
            # Bytes may be on their way: read and drop them, so that no reset eats the answer.
            self.resume_reading()
        self._closing = True
        transport = self._transport
        if transport is None:
            return
        if not linger and transport.can_write_eof() and not transport.get_write_buffer_size():
            transport.close()  # as most do: there is nothing to look after
            return
        idle_ns = self._listener.idle_timeout_ns
        self._parting = Parting(transport, now, idle_ns, LINGER_NS if linger else 0)
        self.arm(now + LOOK_NS)


class SecureHttp1Connection(Http1Connection, asyncio.BufferedProtocol):
    """A connection over TLS: what is decrypted goes into one buffer of the listener.

    Without it the loop allocates the largest read there may be (256 KiB) for each read.
    """

    __slots__ = ()

    secure = True

    def get_buffer(self, sizehint: int) -> memoryview:
        """Where the loop decrypts to; `buffer_updated` follows before any other connection's."""
        return self._listener.received

    def buffer_updated(self, nbytes: int) -> None:
        """So many bytes are there."""
        self.data_received(bytes(self._listener.received[:nbytes]))
