"""The lingering close of a client's connection: what was written goes out, what still comes is
dropped.

A socket that is closed answers what still comes with a reset, and with it goes all that the kernel
has not sent yet (RFC 9112 §9.6): a WINDOW_UPDATE is enough. So a connection stays open until the
client has it all.

A torn response ends with a reset, and that too drops what is not sent: of whole responses before it
as well. So the reset waits until the client has what was written, for as long as it takes some.
"""

from __future__ import annotations

import asyncio
import struct
from fcntl import ioctl
from termios import TIOCOUTQ
from typing import TYPE_CHECKING, Final

from meshcore.downstream.deadlines import NEVER
from meshcore.downstream.reset import reset_on_close
from meshcore.wire.half_closed import end_writing, is_reset

if TYPE_CHECKING:
    from meshcore.downstream.context import ServerContext

# How long the loop has for its own part of a close.
CLOSE_NS: Final = 2_000_000_000
# How often the kernel is asked how much the client has not taken yet.
LOOK_NS: Final = 100_000_000
# How long a client has to read the alert that refuses it, and to close.
ALERT_NS: Final = 2_000_000_000


def unsent_bytes(transport: asyncio.Transport) -> int:
    """What was written and the client's kernel has not acknowledged: of the loop's buffer and of
    the socket's. O(1), a system call."""
    size = transport.get_write_buffer_size()
    sock = transport.get_extra_info("socket")
    if sock is None:
        return size
    try:
        (queued,) = struct.unpack("i", ioctl(sock.fileno(), TIOCOUTQ, b"\0\0\0\0"))
    except (OSError, ValueError):  # it is closed
        return size
    return size + int(queued)


class LingeringClose:
    """Closes a connection once its client has what was written (RFC 9112 §9.6).

    A client that is slow has ``idle_ns`` for each step, as long as it takes some; else it is reset:
    what it has is torn. Where more of its bytes may be on their way, it has ``linger_ns`` from the
    last step to close first. ``torn``: the last response is, and the client is to know it.
    """

    __slots__ = ("_idle_ns", "_linger_ns", "_moved_ns", "_transport", "_unsent", "torn")

    def __init__(
        self,
        transport: asyncio.Transport,
        now: int,
        idle_ns: int,
        linger_ns: int,
        *,
        torn: bool = False,
    ) -> None:
        self.torn = torn
        self._transport = transport
        self._idle_ns = idle_ns
        self._linger_ns = linger_ns
        self._unsent = unsent_bytes(transport)
        self._moved_ns = now
        if torn:
            if not self._unsent:
                self._reset()
        elif linger_ns:
            end_writing(transport)
        else:
            self._linger_ns = CLOSE_NS
            transport.close()

    def _reset(self) -> None:
        reset_on_close(self._transport)
        self._transport.abort()

    def look(self, now: int) -> int:
        """Close or cut it, if it is time; else when to look again."""
        unsent = unsent_bytes(self._transport)
        if self.torn and is_reset(self._transport):
            # It has ended its side before: the loop does not read on, and would not see it.
            self._reset()
            return NEVER
        if unsent < self._unsent:
            self._unsent, self._moved_ns = unsent, now
        quiet_ns = now - self._moved_ns
        if quiet_ns < (self._idle_ns if unsent else self._linger_ns):
            return now + LOOK_NS
        if unsent or self.torn:
            self._reset()
        else:
            self._transport.abort()  # all has gone out
        return NEVER


class AlertReader(asyncio.Protocol):
    """Keeps a connection open until its client has read the alert that refuses it, and closes. A
    client that still sends, as one of TLS 1.3 may behind its handshake, would else be reset before
    it has read why. What it sends is dropped."""

    __slots__ = ("_listener", "_slot", "_transport")

    def __init__(self, listener: ServerContext, transport: asyncio.Transport) -> None:
        self._listener = listener
        self._transport = transport
        self._slot = listener.deadlines.add(self, listener.now_ns() + ALERT_NS)
        transport.set_protocol(self)
        transport.resume_reading()
        end_writing(transport)

    def data_received(self, data: bytes) -> None:
        """It is dropped."""

    def connection_lost(self, exc: Exception | None) -> None:
        """The client has read it, or is gone."""
        self._listener.deadlines.remove(self._slot)
        self._listener.leave(self)

    def on_deadline(self, now: int) -> None:
        """It had its time."""
        self.abort()

    def drain(self, now: int) -> None:
        """It asks for nothing any more."""

    def end(self, now: int) -> None:
        """It ends by itself, and soon."""

    def abort(self) -> None:
        """Cut it."""
        self._transport.abort()
