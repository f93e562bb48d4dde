"""A client's connection over HTTP/1.1 below its requests: written, read, timed and closed."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

from meshcore.downstream.http1_phase import ANY, CLOSING
from meshcore.downstream.lingering import LOOK_NS, LingeringClose, unsent_bytes
from meshcore.downstream.reset import reset_on_close

if TYPE_CHECKING:
    from meshcore.downstream.context import ServerContext
    from meshcore.downstream.half_closed import Watch

# After a refusal that leaves request bytes unread, wait this long for the client to take the
# answer before the socket is cut: closing at once would reset it and lose the answer
# (RFC 9112 §9.6).
LINGER_NS = 2_000_000_000


class Http1Wire(asyncio.BaseProtocol):
    """Only connections are made of it, which set all of its state."""

    __slots__ = ("_lingering", "_listener", "_pauses", "_phase", "_slot", "_transport", "_watch")

    _listener: ServerContext
    _transport: asyncio.Transport | None
    _phase: int
    _pauses: int
    """Why it is not read: bits of a set."""
    _slot: int
    """Of its deadline."""
    _lingering: LingeringClose | None
    """It closes as soon as the client has it all."""
    _watch: Watch | None
    """The client says no more, and is served."""

    def write(self, data: bytes) -> None:
        """At the end of the loop's turn, or as soon as the client takes it."""
        transport = self._transport
        if transport is not None and not transport.is_closing():
            transport.write(data)

    def _pause(self, why: int) -> None:
        if not self._pauses and self._transport is not None:
            self._transport.pause_reading()
        self._pauses |= why

    def _resume(self, why: int) -> None:
        if self._pauses & why:
            self._pauses &= ~why
            if not self._pauses and self._transport is not None and self._phase != CLOSING:
                self._transport.resume_reading()

    def arm(self, deadline_ns: int) -> None:
        """Replace the connection's deadline."""
        self._listener.deadlines.arm(self._slot, deadline_ns)

    def abort(self) -> None:
        """Cut the connection now, whatever waits for the client."""
        self._phase = CLOSING
        transport = self._transport
        if transport is not None:
            reset_on_close(transport)
            transport.abort()

    def _hang_up(self, now: int) -> None:
        """Close a connection that waits for a request: one that is on its way is not to tear the
        last response, if the client has not taken that yet."""
        transport = self._transport
        untaken = transport is not None and unsent_bytes(transport) > 0
        self._close(now, linger=untaken)

    def _stop_watch(self) -> None:
        watch, self._watch = self._watch, None
        if watch is not None:
            watch.stop()

    def _close(self, now: int, *, linger: bool, torn: bool = False) -> None:
        """Write what is queued, then close; cut if the client does not take it in time. ``torn``:
        cut in any case."""
        if linger or torn:
            # Bytes may be on their way: read and drop them, so that no reset eats the answer.
            self._resume(ANY)
        self._phase = CLOSING
        self._stop_watch()
        transport = self._transport
        if transport is None:
            return
        if not (torn or linger):
            transport.close()  # TLS has last words, which go out with what is held
            if not transport.get_write_buffer_size():
                return  # as most do: there is nothing to look after
        idle_ns = self._listener.idle.timeout_ns
        linger_ns = LINGER_NS if linger else 0
        self._lingering = LingeringClose(transport, now, idle_ns, linger_ns, torn=torn)
        self.arm(now + LOOK_NS)
