"""A connection to an endpoint over HTTP/1.1, which feeds the exchange that it is lent to."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Final, cast

from meshcore._core import Body, ClientCodec, Reason, Response, has_written_all
from meshcore.errors import CodecError, TlsError
from meshcore.exchange.phase import ASKED
from meshcore.exchange.ports import Lost
from meshcore.upstream.socket_state import is_quiet, rest_of, stale_within_ns
from meshcore.upstream.tls import describe_end, end_of_tls, loss_of, refuses_us
from meshcore.wire.half_closed import end_writing, is_reset
from meshcore.wire.http1 import BodyWriter

if TYPE_CHECKING:
    from meshcore._core import Peer, Request, Ticket
    from meshcore.exchange.exchange import Exchange
    from meshcore.upstream.pool import Pool
    from meshcore.upstream.pool_owner import PoolOwner


# RFC 9112 §9.8: the end of a connection ends no body, where TLS did not say so before.
TORN: Final = "ended without close_notify"


class Http1Connection(BodyWriter, asyncio.BaseProtocol):
    """Open connection, idle in its pool or lent to one exchange."""

    __slots__ = (
        "_chunks",
        "_pools",
        "_reading",
        "_sent_ns",
        "_transport",
        "born_ns",
        "choked",
        "codec",
        "exchange",
        "idle_since_ns",
        "kept",
        "loss",
        "opened_ns",
        "pool",
    )

    def __init__(self, pools: PoolOwner, pool: Pool) -> None:
        self._pools = pools
        self.pool = pool
        self.codec = ClientCodec(pool.cluster.spec.codec_limits())
        self.exchange: Exchange | None = None
        self._transport: asyncio.Transport | None = None
        self.choked = False
        self._reading = True
        self._chunks = False  # the request's body goes out in chunks
        self.loss: OSError | None = None  # why it is lost
        self.kept = False  # it was idle, or has served a request
        self._sent_ns = 0
        self.born_ns = self.opened_ns = self.idle_since_ns = self._pools.now_ns()

    # --- called by the loop -------------------------------------------------------------------

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """The loop hands us the open connection."""
        self._transport = self._pools.outbox.over(cast("asyncio.Transport", transport))

    def data_received(self, data: bytes) -> None:
        """Bytes of a response, or bytes without a request."""
        exchange = self.exchange
        if exchange is None:
            # Before any request, or after the response: never to be taken for an answer.
            self.withdraw()
            return
        now = self._pools.now_ns()
        codec = self.codec
        try:
            if exchange.phase == ASKED:
                # Nothing of a body can come: bytes are what goes out to the client.
                is_plain = exchange.layers is None and exchange.request_done
                to = exchange.down.whole_to if is_plain else None
                event = codec.relay(data, exchange.request, exchange.ticket, to, now)
                kind = type(event)
                if kind is bool or kind is bytes or kind is int:
                    self.exchange = None
                    self.release(now)
                    exchange.on_whole(event, now)
                    return
            else:
                event = codec.receive(data)
            while event is not None:
                self._dispatch(exchange, event, now)
                if self.exchange is not exchange:
                    return
                event = codec.next_event()
        except CodecError as error:
            exchange.on_failed(error.number, error.detail, now)  # it may not pass

    @staticmethod
    def _dispatch(
        exchange: Exchange, event: tuple[Response, int] | Response | bytes | int | Body, now: int
    ) -> None:
        if type(event) is tuple:
            exchange.on_passed(*event, now)
        elif type(event) is Response:
            exchange.on_response(event, now)
        elif type(event) is bytes:
            exchange.on_response_data(event, now)
        elif type(event) is Body:
            exchange.on_response_body(event, now)

    def eof_received(self) -> bool:
        """The endpoint sends no more: the end of a body without a length, or a loss."""
        exchange, transport = self.exchange, self._transport
        assert transport is not None
        if exchange is None:
            self.pool.ended(self, self._pools.now_ns())
            self.withdraw()
        elif transport.get_extra_info("torn"):  # what has no length may have gone on
            now = self._pools.now_ns()
            began = self.codec.response_began
            exchange.on_cut(self._detail(None, began, TORN), now, self._lost(began, now))
        else:
            self._receive_eof(exchange, self._pools.now_ns())
            if self.exchange is not None and exchange.endpoint_ended:
                if not exchange.request_done:  # else this side is shut, too
                    self._pools.half_closed[self] = None
                return True
        return False

    def _receive_eof(self, exchange: Exchange, now: int) -> None:
        began = self.codec.response_began  # a codec that failed does not know
        try:
            event = self.codec.receive_eof()
        except CodecError:
            detail = self._detail(None, began)
            exchange.on_cut(detail, now, self._lost(began, now))
        else:
            if event is not None:
                self._dispatch(exchange, event, now)

    def withdraw(self) -> None:
        """Close it, which carries no request: it is not lent before it is lost."""
        self.pool.remove(self)
        self.close()

    def _detail(self, error: Exception | None, began: bool, detail: str | None = None) -> str:
        assert self._transport is not None
        answers = began or self.kept
        return describe_end(self._transport, error, answers=answers, detail=detail)

    def _lost(self, began: bool, now: int) -> Lost:
        """``stale``: a kept connection had ended before the request could reach the endpoint."""
        if began or not self.kept:
            return Lost(began)
        pool = self.pool
        hasty = pool.is_hasty and pool.was_hasty(self, now)  # others went so before
        pool.ended(self, now)
        return Lost(began, hasty or now - self._sent_ns <= stale_within_ns(self._transport))

    def connection_lost(self, exc: Exception | None) -> None:
        """The connection is gone. What the endpoint had sent before is read first: an answer that
        came is used, also when it came before all of the request was written."""
        now = self._pools.now_ns()
        exchange, transport = self.exchange, self._transport
        if transport is None:
            return  # it was dropped
        if exchange is not None and exc is not None:
            for data in rest_of(transport):
                self.data_received(data)
                if self.exchange is not exchange:
                    break
        exchange = self.exchange
        exc = end_of_tls(transport, exc)
        self.loss = loss_of(transport, exc)
        if isinstance(exc, TlsError):
            self._pools.counts.tls_failed(self.pool, exc)
        if exchange is not None:
            began = self.codec.response_began
            detail = self._detail(exc, began)
            if refuses_us(exc) and not (began or self.kept):
                exchange.on_failed(Reason.UPSTREAM_CONNECT, detail, now)
            else:
                exchange.on_cut(detail, now, self._lost(began, now))
        self._transport = self.exchange = None
        self._pools.half_closed.pop(self, None)
        self._pools.lost(self)

    def pause_writing(self) -> None:
        """The endpoint is slower than the client."""
        self.choked = True
        if self.exchange is not None:
            self.exchange.on_endpoint_full(self._pools.now_ns())

    def resume_writing(self) -> None:
        """The endpoint took what was queued."""
        self.choked = False
        exchange = self.exchange
        if exchange is not None and exchange.endpoint_ended:
            # In a turn of its own: asyncio closes twice what is closed within this call.
            asyncio.get_running_loop().call_soon(self._on_room)
        else:
            self._on_room()

    def _on_room(self) -> None:
        if self.exchange is not None and not self.choked:
            self.exchange.on_endpoint_room(self._pools.now_ns())

    # --- called by the exchange ---------------------------------------------------------------

    def send_request(self, request: Request, ticket: Ticket, peer: Peer, now_ns: int) -> bool:
        """The head, and what of the body came with it."""
        transport = self._transport
        data = self.codec.forward(request, ticket, peer, transport, now_ns)
        self._sent_ns = now_ns
        self._chunks = not request.end and request.chunked
        if data is not None and transport is not None and not transport.is_closing():
            transport.write(data)
        return True

    def send_end(self, body: Body, ticket: Ticket) -> None:
        """The end of the body; in a tunnel, of what the client says."""
        transport = self._transport
        if transport is None or transport.is_closing():
            return
        if self._chunks:
            self._chunks = False  # what a tunnel carries is not in chunks
            transport.write(self.codec.chunked_end(body, ticket))
        elif self.codec.in_tunnel and transport.can_write_eof():
            self._pools.half_closed.pop(self, None)
            transport.set_write_buffer_limits(0)  # `choked` while anything is left
            end_writing(transport)

    def why_silent(self) -> None:
        """Nothing that others met: no other request is on this connection."""

    def pause_reading(self) -> None:
        """Leave further bytes in the socket."""
        if self._reading and self._transport is not None:
            self._reading = False
            self._transport.pause_reading()

    def resume_reading(self) -> None:
        """Read on."""
        if not self._reading and self._transport is not None:
            self._reading = True
            self._transport.resume_reading()

    def release(self, now: int) -> None:
        """Back to the pool, or closed when it cannot carry another request."""
        transport = self._transport
        # What it answered without an endpoint may never take: nothing could be sent behind.
        if transport is None or not has_written_all(transport):
            self.discard()
            return
        if not self.codec.can_reuse:
            self.exchange = None
            transport.close()  # it has all: nothing is cut, and over TLS it hears so
            return
        if not self.kept:
            self.kept = True
        elif self.pool.doubts:
            self.pool.doubts -= 1
        if self._reading:
            self._pools.released(self, now)
        else:
            self.resume_reading()
            self._pools.released_unread(self)

    def discard(self) -> None:
        """Cut: the endpoint shall not go on with a request that is over."""
        self.exchange = None
        transport = self._transport
        if transport is not None:
            transport.abort()

    # --- called by the pool -------------------------------------------------------------------

    @property
    def is_lost(self) -> bool:
        """Whether the transport is gone."""
        return self._transport is None

    @property
    def is_open(self) -> bool:
        """Neither lost nor about to be."""
        return self._transport is not None and not self._transport.is_closing()

    @property
    def authenticates(self) -> bool:
        """Whether its endpoint has shown that it authenticates this connection."""
        return self.codec.authenticates

    def is_alive(self) -> bool:
        """Look into the socket without taking anything out of it."""
        transport = self._transport
        if transport is None or not self.is_open:
            return False
        return is_quiet(transport)

    def look(self) -> None:
        """The endpoint says no more in a tunnel that goes on: cut it if it is gone."""
        transport = self._transport
        if transport is not None and is_reset(transport):
            transport.abort()

    def drop(self) -> None:
        """Cut what was never lent; its end is not reported, whether the loop tells of it or not."""
        transport, self._transport = self._transport, None
        if transport is not None:
            transport.abort()

    def close(self) -> None:
        """Close an idle connection."""
        transport = self._transport
        if transport is not None:
            transport.close()
