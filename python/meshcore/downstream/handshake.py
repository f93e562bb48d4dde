"""A client's connection until its TLS is agreed."""

from __future__ import annotations

import asyncio
import logging
from collections import Counter
from typing import TYPE_CHECKING, Final, cast

from meshcore._core import Answer, Reason, misdirected
from meshcore.downstream.first_bytes import FirstBytes
from meshcore.downstream.http1 import Http1Connection
from meshcore.downstream.http2 import Http2Connection
from meshcore.downstream.sockets import end_of
from meshcore.errors import TlsError

if TYPE_CHECKING:
    from collections.abc import Callable

    from meshcore._core import Peer, SecureTransport
    from meshcore.downstream.listener import Listener

# How long a listener that drains waits for a handshake.
DRAIN_NS: Final = 2_000_000_000
# How every client of TLS begins: the type of a handshake's records (RFC 8446 §5.1).
_HANDSHAKE: Final = b"\x16"
_PLAIN: Final = "HTTP without TLS on a listener with tls"
_NO_TLS: Final = "no TLS on a listener with tls"
# How many failed handshakes of a listener are logged in a second: a scanner makes thousands.
_MOST_LOGGED: Final = 10
_SECOND_NS: Final = 1_000_000_000

log = logging.getLogger("meshcore.tls")


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
            transport, _ = self._leave_to(handshake)
            transport.set_protocol(cast("asyncio.BaseProtocol", secure))
            secure.connection_made(transport)
            handshake.begin(secure, self._due_ns)
            secure.data_received(data)
            return
        listener.stack.handshake_failed("no_tls", by_peer=True)
        if (other := misdirected(data)) is not None or not data[:1].isalpha():
            self._refuse(Answer.for_reason(Reason.BAD_REQUEST, other or _NO_TLS))
        else:
            connection = Http1Connection(listener)
            if self._hand_over(connection, b""):
                connection.refuse(Answer.with_detail(Reason.BAD_REQUEST, _PLAIN), listener.now_ns())

    def _admitted(self) -> bool:
        return self._listener.admit_handshake(self, self._socket_peer().key)

    def _wait_ns(self) -> int:
        return DRAIN_NS if self._listener.draining else self._listener.spec.tls_handshake_timeout_ns

    def on_deadline(self, now: int) -> None:
        """It said nothing for too long."""
        self._listener.stack.handshake_failed("timeout", by_peer=True)
        self.abort()

    def drain(self, now: int) -> None:
        """A client that has come may ask once."""
        self._arm(now + DRAIN_NS)


class FailedHandshakes:
    """Tells the log of a listener's, and not of all."""

    def __init__(self, name: str, clock: Callable[[], int]) -> None:
        self._name = name
        self._now_ns = clock
        self._since_ns = 0
        self._logged = 0
        self._left_out: Counter[str] = Counter()  # by why: a few dozen words

    def log(self, error: TlsError, address: str, server_name: str | None) -> None:
        """Of one. O(1)."""
        now = self._now_ns()
        if now - self._since_ns >= _SECOND_NS:
            self._log_left_out()
            self._since_ns, self._logged = now, 0
        if self._logged == _MOST_LOGGED:
            self._left_out[_failure_text(error)] += 1
            return
        self._logged += 1
        asked = f", which asks for {server_name}," if server_name is not None else ""
        said = "" if error.by_peer or error.alert is None else f" (told {error.alert})"
        why = f"the client says {error}" if error.by_peer else f"{error}{said}"
        log.info("listener %s: TLS with %s%s failed: %s", self._name, address, asked, why)

    def _log_left_out(self) -> None:
        if self._left_out:
            why = ", ".join(f"{times} of {word}" for word, times in self._left_out.most_common())
            left_out = self._left_out.total()
            log.info("listener %s: %d more TLS handshakes failed: %s", self._name, left_out, why)
            self._left_out.clear()


def _failure_text(error: TlsError) -> str:
    return f"{error.word} by the {'client' if error.by_peer else 'proxy'}"


def _address_text(peer: Peer | None, peername: object) -> str:
    """Whom it is told of: of one that was announced there is the address alone."""
    if peer is not None:
        return peer.address
    host, port = end_of(peername)
    if host is None:
        return "a unix socket"
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"


class Handshake(asyncio.BaseProtocol):
    """A connection whose handshake is under way; handed over as soon as it is done."""

    __slots__ = ("_due_ns", "_ended", "_listener", "_peer", "_slot", "_transport")

    def __init__(self, listener: Listener, peer: Peer | None) -> None:
        self._listener = listener
        self._peer = peer  # if it is another than the socket's
        self._ended: tuple[str, bool] = ("closed", True)  # why, unless TLS failed; by the client

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
        listener.stack.handshake_made(secure)
        h2 = secure.alpn == "h2"
        connection = (Http2Connection if h2 else Http1Connection)(listener, secure=True)
        has_room = listener.replace(self, connection)
        secure.set_protocol(connection)
        connection.adopt(cast("asyncio.Transport", secure))
        if not has_room:
            connection.abort()
            return
        peer = self._peer or connection.peer
        connection.peer = secure.verified_peer(peer, listener.client_rules)
        if secure.is_certified:
            listener.certified.add(connection, secure)
        if not connection.peer.is_admitted:  # other rules came within its handshake
            connection.dismiss(listener.now_ns())

    def connection_lost(self, exc: Exception | None) -> None:
        """The handshake failed, or the client left."""
        if self._transport is None:
            return
        listener, transport = self._listener, self._transport
        self._transport = None
        listener.deadlines.remove(self._slot)
        listener.leave(self)
        if not isinstance(exc, TlsError):
            listener.stack.handshake_failed(*self._ended)
        else:
            listener.tls_failed(exc)
            address = _address_text(self._peer, transport.get_extra_info("peername"))
            listener.failed_handshakes.log(exc, address, transport.server_name)

    def eof_received(self) -> None:
        """The client left within it."""

    def on_deadline(self, now: int) -> None:
        """It took too long."""
        self._ended = ("timeout", True)
        self.abort()

    def drain(self, now: int) -> None:
        """A client that has come may ask once."""
        self._listener.deadlines.arm(self._slot, min(self._due_ns, now + DRAIN_NS))

    def end(self, now: int) -> None:
        """The time to drain is over, and nothing was asked."""
        self._ended = ("closed", False)
        self.abort()

    def make_place(self) -> None:
        """Go: there are too many."""
        self._ended = ("overflow", False)
        self.abort()

    def abort(self) -> None:
        """Cut it."""
        if self._transport is not None:
            self._transport.abort()
