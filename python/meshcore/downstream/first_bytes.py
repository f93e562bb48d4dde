"""A connection of which it is not known yet what it is."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

from meshcore.downstream.http1 import DRAIN_QUIET_NS

if TYPE_CHECKING:
    from meshcore._core import Answer, Peer
    from meshcore.downstream.http1 import Http1Connection
    from meshcore.downstream.http2 import Http2Connection
    from meshcore.downstream.listener import Listener


class FirstBytes(asyncio.Protocol):
    """Waits for the first bytes, for as long as for a head, and hands over to whom they concern."""

    __slots__ = ("_due_ns", "_first", "_is_announced", "_listener", "_slot", "_transport", "peer")

    peer: Peer
    """Who is at the other end."""

    def __init__(self, listener: Listener) -> None:
        self._listener = listener
        self._first = b""
        self._transport: asyncio.Transport | None = None
        self._is_announced = False  # it is another than the socket's

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """The loop accepted a client."""
        listener, peername = self._listener, transport.get_extra_info("peername")
        self.adopt(transport, listener.peer_of(peername))  # type: ignore[arg-type]  # of a loop
        if not (listener.knows(peername) and self._admitted()):
            self.abort()

    def _admitted(self) -> bool:
        return self._listener.admit(self)

    def adopt(self, transport: asyncio.Transport, peer: Peer, slot: int | None = None) -> None:
        """Look at a transport that the listener has let in; ``slot``: of its deadline."""
        self._transport, self.peer = transport, peer
        self._due_ns = self._listener.now_ns() + self._wait_ns()
        self._slot = self._listener.deadlines.add(self, self._due_ns, slot)

    def _wait_ns(self) -> int:
        return self._listener.patience_ns

    def _arm(self, due_ns: int) -> None:
        self._due_ns = min(self._due_ns, due_ns)
        self._listener.deadlines.arm(self._slot, self._due_ns)

    def _hand_over(
        self, connection: Http1Connection | Http2Connection | FirstBytes, rest: bytes
    ) -> bool:
        """It is known what it is, which has the deadline's slot from now on. The transport tells
        this no more."""
        transport, self._transport = self._transport, None
        assert transport is not None
        has_room = self._listener.replace(self, connection)
        transport.set_protocol(connection)
        connection.adopt(transport, self.peer, self._slot)
        if not has_room:
            connection.abort()
            return False
        if isinstance(connection, FirstBytes):
            connection._is_announced = self._is_announced
        else:
            self._listener.came_plain(connection)
        if rest:
            connection.data_received(rest)
        return True

    def eof_received(self) -> None:
        """The client left without a word. The transport closes."""

    def connection_lost(self, exc: Exception | None) -> None:
        """The client is gone before it said what it speaks."""
        if self._transport is not None:
            self._transport = None
            self._listener.deadlines.remove(self._slot)
            self._listener.leave(self)

    def make_place(self) -> None:
        """Go: too many handshakes are to come."""
        self._listener.stack.handshake_failed("overflow", by_peer=False)
        self.abort()

    def _refuse(self, answer: Answer) -> None:
        """Cut it, which cannot be answered, and say why."""
        self._listener.refused(answer, self.peer, sent=False)
        self.abort()

    def on_deadline(self, now: int) -> None:
        """It said too little for too long."""
        self.abort()

    def drain(self, now: int) -> None:
        """Nothing was asked yet: it may be on its way."""
        if not self._first:
            self._arm(now + DRAIN_QUIET_NS)

    def end(self, now: int) -> None:
        """The time to drain is over, and nothing was asked."""
        self.abort()

    def abort(self) -> None:
        """Cut it."""
        if self._transport is not None:
            self._transport.abort()
