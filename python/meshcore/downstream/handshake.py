"""A client's connection until its TLS is agreed."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Final, cast

from meshcore._core import Answer, Reason, now_ns
from meshcore.downstream.first_bytes import FirstBytes
from meshcore.downstream.http1 import Http1Connection
from meshcore.downstream.http2 import Http2Connection
from meshcore.errors import TlsError

if TYPE_CHECKING:
    from meshcore._core import Peer, SecureTransport
    from meshcore.downstream.listener import Listener

# A listener that drains waits so long for a handshake.
DRAIN_NS: Final = 2_000_000_000
# How every client of TLS begins: the type of a handshake's records (RFC 8446 §5.1).
_HANDSHAKE: Final = b"\x16"


class SecureDetection(FirstBytes):
    """Waits for the first byte of a handshake: a client that says nothing costs next to nothing,
    and one that speaks plain HTTP is told."""

    __slots__ = ()

    def data_received(self, data: bytes) -> None:
        """The first bytes."""
        listener = self._listener
        if data.startswith(_HANDSHAKE):
            handshake = Handshake(listener, self.peer)
            secure = listener.secured(handshake)
            transport = self._leave_to(handshake)
            transport.set_protocol(cast("asyncio.BaseProtocol", secure))
            secure.connection_made(transport)
            handshake.begin(secure, self._due_ns)
            secure.data_received(data)
        elif data[:1].isalpha():
            connection = Http1Connection(listener)
            self._hand_over(connection, b"")
            plain = "plain HTTP where TLS is spoken"
            connection.refuse(Answer.for_reason(Reason.BAD_REQUEST, plain), now_ns())
        else:
            self._refuse(Answer.for_reason(Reason.BAD_REQUEST, "no TLS"))

    def _wait_ns(self) -> int:
        return DRAIN_NS if self._listener.draining else self._listener.spec.tls_handshake_timeout_ns

    def drain(self, now: int) -> None:
        """A client that has come may ask once."""
        self._arm(now + DRAIN_NS)


class Handshake(asyncio.BaseProtocol):
    """A connection whose handshake is under way: counted like any other, and handed over as soon as
    it is done."""

    __slots__ = ("_due_ns", "_listener", "_peer", "_slot", "_transport")

    def __init__(self, listener: Listener, peer: Peer | None) -> None:
        self._listener = listener
        self._peer = peer  # if it is another than the socket's

    def begin(self, transport: SecureTransport, due_ns: int) -> None:
        """It has until then."""
        self._transport: SecureTransport | None = transport
        self._due_ns = due_ns
        self._slot = self._listener.deadlines.add(self, due_ns)

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """The handshake is done. A client that named no protocol means HTTP/1.1."""
        secure, self._transport = self._transport, None
        assert secure is not None
        listener = self._listener
        listener.deadlines.remove(self._slot)
        h2 = secure.alpn == "h2"
        if not (h2 or listener.spec.http1):
            listener.leave(self)
            secure.abort()
            return
        connection = (Http2Connection if h2 else Http1Connection)(listener, secure=True)
        listener.replace(self, connection)
        secure.set_protocol(connection)
        connection.adopt(cast("asyncio.Transport", secure))
        if self._peer is not None:
            connection.peer = self._peer

    def connection_lost(self, exc: Exception | None) -> None:
        """The handshake failed, or the client left."""
        if self._transport is None:
            return
        listener, transport = self._listener, self._transport
        self._transport = None
        listener.deadlines.remove(self._slot)
        listener.leave(self)
        if isinstance(exc, TlsError):
            peer = self._peer or listener.peer_of(transport.get_extra_info("peername"))
            listener.refused(Answer.for_reason(Reason.BAD_REQUEST, f"TLS: {exc}"), peer, sent=False)

    def eof_received(self) -> None:
        """The client left within it."""

    def on_deadline(self, now: int) -> None:
        """It took too long."""
        self.abort()

    def drain(self, now: int) -> None:
        """A client that has come may ask once."""
        self._listener.deadlines.arm(self._slot, min(self._due_ns, now + DRAIN_NS))

    def end(self, now: int) -> None:
        """The time to drain is over, and nothing was asked."""
        self.abort()

    def abort(self) -> None:
        """Cut it."""
        if self._transport is not None:
            self._transport.abort()
