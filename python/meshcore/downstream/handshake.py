"""A client's connection until its TLS is agreed."""

from __future__ import annotations

import asyncio
import logging
from collections import Counter
from typing import TYPE_CHECKING, Final

from meshcore._core import Answer, Reason, misdirected
from meshcore.downstream.first_bytes import FirstBytes
from meshcore.downstream.http1 import Http1Connection
from meshcore.downstream.http2 import Http2Connection
from meshcore.downstream.sockets import end_of
from meshcore.errors import TlsError

if TYPE_CHECKING:
    from collections.abc import Callable

    from meshcore._core import SecureTransport
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


class Handshake(FirstBytes):
    """A connection until its TLS is agreed; handed over as soon as it is.

    It waits for the first byte of a handshake before there is anything of TLS: a client that says
    nothing costs next to nothing, and one that speaks plain HTTP is told.
    """

    __slots__ = ("_ended", "_secure")

    def __init__(self, listener: Listener) -> None:
        super().__init__(listener)
        self._secure: SecureTransport | None = None  # from the first byte on
        self._ended: tuple[str, bool] = ("closed", True)  # why, unless TLS failed; by the client

    def _admitted(self) -> bool:
        return self._listener.admit_handshake(self, self.peer.key)

    def _wait_ns(self) -> int:
        return DRAIN_NS if self._listener.draining else self._listener.spec.tls_handshake_timeout_ns

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """The loop accepted a client; or TLS is agreed."""
        if self._secure is None:
            super().connection_made(transport)
        else:
            self._agreed(self._secure)

    def data_received(self, data: bytes) -> None:
        """The first bytes: what follows is TLS's."""
        listener, transport = self._listener, self._transport
        assert transport is not None
        if data.startswith(_HANDSHAKE):
            listener.handshakes.has_begun(self)
            secure = self._secure = listener.secured(self)
            transport.set_protocol(secure)  # type: ignore[arg-type]  # it is a protocol, too
            secure.connection_made(transport)
            secure.data_received(data)
            return
        listener.stack.handshake_failed("no_tls", by_peer=True)
        if (other := misdirected(data)) is not None or not data[:1].isalpha():
            self._refuse(Answer.for_reason(Reason.BAD_REQUEST, other or _NO_TLS))
        else:
            connection = Http1Connection(listener)
            if self._hand_over(connection, b""):
                connection.refuse(Answer.with_detail(Reason.BAD_REQUEST, _PLAIN), listener.now_ns())

    def _agreed(self, secure: SecureTransport) -> None:
        """A client that named no protocol means HTTP/1.1."""
        self._transport = None
        listener = self._listener
        listener.stack.handshake_made(secure)
        h2 = secure.alpn == "h2"
        connection = (Http2Connection if h2 else Http1Connection)(listener, secure=True)
        has_room = listener.replace(self, connection)
        secure.set_protocol(connection)
        peer = secure.verified_peer(self.peer, listener.client_rules)
        connection.adopt(secure, peer, self._slot)  # type: ignore[arg-type]  # it is a transport
        if not has_room:
            connection.abort()
            return
        if secure.is_certified:
            listener.certified.add(connection, secure)
        if not peer.is_admitted:  # other rules came within its handshake
            connection.dismiss(listener.now_ns())

    def connection_lost(self, exc: Exception | None) -> None:
        """The handshake failed, or the client left."""
        secure, transport = self._secure, self._transport
        super().connection_lost(exc)
        if secure is None or transport is None:
            return
        listener = self._listener
        if not isinstance(exc, TlsError):
            listener.stack.handshake_failed(*self._ended)
        else:
            listener.tls_failed(exc)
            listener.failed_handshakes.log(exc, self._address(transport), secure.server_name)

    def _address(self, transport: asyncio.Transport) -> str:
        """Whom it is told of: of one that was announced there is the address alone."""
        if self._is_announced:
            return self.peer.address
        host, port = end_of(transport.get_extra_info("peername"))
        if host is None:
            return "a unix socket"
        return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"

    def on_deadline(self, now: int) -> None:
        """It took too long, or said nothing."""
        self._end("timeout", by_client=True)

    def drain(self, now: int) -> None:
        """A client that has come may ask once."""
        self._arm(now + DRAIN_NS)

    def end(self, now: int) -> None:
        """The time to drain is over, and nothing was asked."""
        self._ended = ("closed", False)
        self.abort()

    def make_place(self) -> None:
        """Go: there are too many."""
        self._end("overflow", by_client=False)

    def _end(self, why: str, *, by_client: bool) -> None:
        """Whatever it was about is counted once: at the end of its TLS, if that has begun."""
        if self._secure is None:
            self._listener.stack.handshake_failed(why, by_peer=by_client)
        self._ended = (why, by_client)
        self.abort()

    def abort(self) -> None:
        """Cut it."""
        if self._secure is not None and self._transport is not None:
            self._secure.abort()
        else:
            super().abort()
