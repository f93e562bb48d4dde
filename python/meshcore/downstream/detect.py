"""Which protocol a client speaks: by ALPN over TLS, by its first bytes without.

RFC 9113 §3.2, §3.3: over TLS the handshake says it; without, a client that knows begins with the
preface, which is no request of HTTP/1.1.
"""

from __future__ import annotations

import asyncio
import ssl
from typing import TYPE_CHECKING, Final, cast

from meshcore._core import Answer, Reason, now_ns
from meshcore.downstream.first_bytes import FirstBytes
from meshcore.downstream.http1 import Http1Connection
from meshcore.downstream.http1_secure import SecureHttp1Connection
from meshcore.downstream.http2 import Http2Connection, SecureHttp2Connection

if TYPE_CHECKING:
    from meshcore.downstream.listener import Listener
    from meshcore.downstream.tls import Handshake

# A listener that drains waits so long for a handshake.
HANDSHAKE_NS: Final = 2_000_000_000
_HTTP: Final = "HTTP without TLS on a listener with tls"
# What OpenSSL says of first bytes that are none of TLS.
_INSTEAD: Final = {
    "HTTP_REQUEST": _HTTP,
    "HTTPS_PROXY_REQUEST": _HTTP,
    "WRONG_VERSION_NUMBER": "no TLS on a listener with tls",
}
PREFACE = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"


class SecureDetection(asyncio.BaseProtocol):
    """A connection whose handshake is under way: counted like any other, and handed over as soon as
    it is done."""

    __slots__ = ("_handshake", "_listener", "_slot", "_transport")

    def __init__(self, listener: Listener, handshake: Handshake) -> None:
        self._listener = listener
        self._handshake = handshake
        self._transport: asyncio.Transport | None = None
        self._slot: int | None = None  # of the deadlines, while the listener drains

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """The loop accepted a client; or, the second time, the handshake is done."""
        made = cast("asyncio.Transport", transport)
        if self._transport is not None:
            self._hand_over(made)
        elif self._listener.admit(self):
            self._transport = made
            if self._listener.draining:
                self.drain(now_ns())
            self._handshake.begin(made, self).add_done_callback(self._over)
        else:
            made.abort()

    def _hand_over(self, made: asyncio.Transport) -> None:
        """A client that named no protocol means HTTP/1.1."""
        tls = made.get_extra_info("ssl_object")
        h2 = tls is not None and tls.selected_alpn_protocol() == "h2"
        if not (h2 or self._handshake.http1):
            self.abort()
            return
        kind = SecureHttp2Connection if h2 else SecureHttp1Connection
        connection = kind(self._listener)
        self._listener.replace(self, connection)
        self._part()
        made.set_protocol(connection)
        connection.adopt(made)

    def _over(self, made: asyncio.Future[None]) -> None:
        """The handshake is over. One that fails says nothing, unless it was no TLS at all."""
        error = made.exception() if not made.cancelled() else None
        if self._transport is not None:
            if isinstance(error, ssl.SSLError) and (instead := _INSTEAD.get(error.reason)):
                answer = Answer.for_reason(Reason.BAD_REQUEST, instead)
                peer = self._listener.peer_of(self._transport.get_extra_info("peername"))
                self._listener.refused(answer, peer, sent=False)
            self._part()
            self._listener.leave(self)

    def _part(self) -> None:
        self._transport = None
        if self._slot is not None:
            self._listener.deadlines.remove(self._slot)
            self._slot = None

    def on_deadline(self, now: int) -> None:
        """It took too long for a listener that drains; else the loop has an eye on it."""
        self.abort()

    def drain(self, now: int) -> None:
        """A client that has come may ask once."""
        if self._slot is None:
            self._slot = self._listener.deadlines.add(self, now + HANDSHAKE_NS)

    def end(self, now: int) -> None:
        """The time to drain is over, and nothing was asked."""
        self.abort()

    def abort(self) -> None:
        """Cut it."""
        if self._transport is not None:
            self._transport.abort()


class Detection(FirstBytes):
    """Tells the protocols of a plain connection apart."""

    __slots__ = ()

    def data_received(self, data: bytes) -> None:
        """The first bytes: enough when they are, or are not, the preface."""
        first = self._first = self._first + data if self._first else data
        if first.startswith(PREFACE):
            self._hand_over(Http2Connection(self._listener), first)
        elif PREFACE.startswith(first):
            return  # too few to tell
        else:
            self._hand_over(Http1Connection(self._listener), first)
