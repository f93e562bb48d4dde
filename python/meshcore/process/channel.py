"""Messages with descriptors between control and its workers, over a pair of sockets.

Both ends are one program on one host, started by one another: messages are pickled objects. What is
large goes into a memfd that is sent along, so that a message never waits for a buffer in parts.
"""

from __future__ import annotations

import array
import os
import pickle
import socket
from collections import deque
from typing import TYPE_CHECKING, Any, Final

if TYPE_CHECKING:
    import asyncio
    from collections.abc import Callable, Sequence

# A quarter of the buffer that Linux gives a socket (net.core.wmem_default, 208 KiB).
INLINE_BYTES: Final = 48 * 1024
# The most descriptors that the kernel passes at once (SCM_MAX_FD of Linux is 253).
MAX_FDS: Final = 250

_INLINE: Final = b"i"
_APART: Final = b"a"


def pair() -> tuple[socket.socket, socket.socket]:
    """Both ends; a message is a packet, so that none is read in halves."""
    return socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)


class Channel:
    """One end. `on_message` gets each message and its descriptors, which are the receiver's to
    close; `on_closed` hears once that the other end is gone."""

    def __init__(
        self,
        loop: asyncio.AbstractEventLoop,
        sock: socket.socket,
        on_message: Callable[[Any, list[int]], None],
        on_closed: Callable[[], None],
    ) -> None:
        self._loop = loop
        self._sock = sock
        self._on_message = on_message
        self._on_closed = on_closed
        self._waiting: deque[tuple[bytes, list[int]]] = deque()
        self.is_open = True
        sock.setblocking(False)
        loop.add_reader(sock.fileno(), self._readable)

    def send(self, message: object, fds: Sequence[int] = ()) -> None:
        """Send a message and copies of descriptors. Never waits; what the other end does not take
        is queued. Nothing happens once it is gone."""
        if not self.is_open:
            return
        packet, own = _packed(message, fds)
        self._waiting.append((packet, own))
        if len(self._waiting) == 1:
            self._flush()

    def _flush(self) -> None:
        while self._waiting:
            packet, fds = self._waiting[0]
            try:
                rights = (socket.SOL_SOCKET, socket.SCM_RIGHTS, array.array("i", fds))
                self._sock.sendmsg([packet], [rights] if fds else [], socket.MSG_NOSIGNAL)
            except BlockingIOError:
                self._loop.add_writer(self._sock.fileno(), self._flush)
                return
            except OSError:
                self.close()  # the reader hears of it, or has
                self._on_closed()
                return
            self._waiting.popleft()
            _close_all(fds)
        self._loop.remove_writer(self._sock.fileno())

    def _readable(self) -> None:
        try:
            message, fds = receive(self._sock)
        except (BlockingIOError, InterruptedError):
            return
        except (EOFError, OSError):
            self.close()
            self._on_closed()
            return
        self._on_message(message, fds)

    def close(self) -> None:
        """Close this end. Idempotent."""
        if self.is_open:
            self.is_open = False
            self._loop.remove_reader(self._sock.fileno())
            self._loop.remove_writer(self._sock.fileno())
            self._sock.close()
            for _, fds in self._waiting:
                _close_all(fds)
            self._waiting.clear()


def receive(sock: socket.socket) -> tuple[Any, list[int]]:
    """The next message. Raises `EOFError` when the other end is gone."""
    fds = array.array("i")
    size = fds.itemsize * (MAX_FDS + 1)
    flags = getattr(socket, "MSG_CMSG_CLOEXEC", 0)
    packet, ancillary, _, _ = sock.recvmsg(INLINE_BYTES + 1, socket.CMSG_SPACE(size), flags)
    for level, kind, data in ancillary:
        if level == socket.SOL_SOCKET and kind == socket.SCM_RIGHTS:
            fds.frombytes(data[: len(data) - len(data) % fds.itemsize])
    found = list(fds)
    if not packet:
        raise EOFError
    if packet[:1] == _INLINE:
        return pickle.loads(packet[1:]), found  # noqa: S301 - from our own parent or child
    with os.fdopen(found.pop(0), "rb") as apart:
        return pickle.loads(apart.read()), found  # noqa: S301 - as above


def send_message(sock: socket.socket, message: object, fds: Sequence[int] = ()) -> None:
    """Send a message and wait until it is taken."""
    packet, own = _packed(message, fds)
    try:
        rights = (socket.SOL_SOCKET, socket.SCM_RIGHTS, array.array("i", own))
        sock.sendmsg([packet], [rights] if own else [], socket.MSG_NOSIGNAL)
    finally:
        _close_all(own)


def _packed(message: object, fds: Sequence[int]) -> tuple[bytes, list[int]]:
    """The packet, and descriptors of its own, so that the caller may close what it has."""
    if len(fds) > MAX_FDS:
        raise ValueError(f"{len(fds)} descriptors, at most {MAX_FDS} in a message")
    data = pickle.dumps(message, pickle.HIGHEST_PROTOCOL)
    own = [os.dup(fd) for fd in fds]
    if len(data) < INLINE_BYTES:
        return _INLINE + data, own
    apart = os.memfd_create("message")
    with os.fdopen(os.dup(apart), "wb") as file:
        file.write(data)
    os.lseek(apart, 0, os.SEEK_SET)
    return _APART, [apart, *own]


def _close_all(fds: Sequence[int]) -> None:
    for fd in fds:
        os.close(fd)
