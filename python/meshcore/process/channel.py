"""Messages with descriptors between control and its workers, over a pair of sockets.

Both ends are one program on one host, started by one another: messages are pickled objects. What is
large goes into a memfd that is sent along, so that a message never waits for a buffer in parts.
"""

from __future__ import annotations

import array
import os
import pickle
import select
import signal
import socket
from collections import deque
from contextlib import nullcontext
from typing import TYPE_CHECKING, Any, Final

if TYPE_CHECKING:
    import asyncio
    from collections.abc import Callable, Mapping, Sequence
    from contextlib import AbstractContextManager

# A quarter of the buffer that Linux gives a socket (net.core.wmem_default, 208 KiB).
INLINE_BYTES: Final = 48 * 1024
# The most descriptors that the kernel passes at once (SCM_MAX_FD of Linux is 253).
MAX_FDS: Final = 250

# What a sender waits when the kernel has too much in flight, without telling when it has not.
AGAIN_S: Final = 0.05

_INLINE: Final = b"i"
_APART: Final = b"a"
_MORE: Final = b"m"  # descriptors of the message that follows

Packet = tuple[bytes, list[int]]


class DescriptorsLostError(Exception):
    """A message came without all of its descriptors: this process may have no more of them.

    `message` may be an outline of it."""

    def __init__(self, message: Any) -> None:
        super().__init__("no descriptors are left")
        self.message = message


def pair() -> tuple[socket.socket, socket.socket]:
    """Both ends; a message is a packet, so that none is read in halves."""
    return socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)


def spawn(
    command: list[str],
    environment: Mapping[str, str],
    number: int,
    defaults: Sequence[signal.Signals] = (),
) -> tuple[int, socket.socket]:
    """Start a program with one end of a pair as descriptor ``number``; its process id, and our end.

    By exec, so that it has no thread, lock or other descriptor of ours; ``defaults`` are signals
    that it is not to ignore because we do. Raises `OSError`."""
    ours, theirs = pair()
    try:
        pid = os.posix_spawn(
            command[0],
            command,
            environment,
            file_actions=[(os.POSIX_SPAWN_DUP2, theirs.fileno(), number)],
            setsigmask=[],
            setsigdef=defaults,
        )
    except BaseException:
        ours.close()
        raise
    finally:
        theirs.close()
    return pid, ours


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
        self._on_lost: Callable[[Any], None] = lambda message: on_message(message, [])
        self.reading: AbstractContextManager[None] = nullcontext()
        """Held while descriptors are received."""
        self._waiting: deque[Packet] = deque()
        self._inbox = Inbox(sock)
        self.is_open = True
        sock.setblocking(False)
        loop.add_reader(sock.fileno(), self._readable)

    def on_lost(self, act: Callable[[Any], None]) -> None:
        """Who hears of a message whose descriptors did not all come."""
        self._on_lost = act

    def send(self, message: object, fds: Sequence[int] = ()) -> None:
        """Send a message and copies of descriptors. Never waits; what the other end does not take
        is queued. Nothing happens once it is gone. Raises `OSError` when there are no descriptors
        left to copy to; then nothing is sent."""
        if not self.is_open:
            return
        idle = not self._waiting
        self._waiting.extend(_packed(message, fds))
        if idle:
            self._flush()

    def _flush(self) -> None:
        if not self.is_open:
            return
        while self._waiting:
            packet, fds = self._waiting[0]
            try:
                _send(self._sock, packet, fds)
            except BlockingIOError:
                self._loop.add_writer(self._sock.fileno(), self._flush)
                return
            except (BrokenPipeError, ConnectionError):
                self.close()
                self._on_closed()
                return
            except OSError:  # too many descriptors are in flight, or no memory: it passes
                self._loop.call_later(AGAIN_S, self._flush)
                return
            self._waiting.popleft()
            _close_all(fds)
        self._loop.remove_writer(self._sock.fileno())

    def _readable(self) -> None:
        try:
            with self.reading:
                received = self._inbox.receive()
        except (BlockingIOError, InterruptedError):
            return
        except DescriptorsLostError as lost:
            self._on_lost(lost.message)
            return
        except (EOFError, OSError):
            self.close()
            self._on_closed()
            return
        if received is not None:
            self._on_message(*received)

    def catch_up(self) -> None:
        """Hear at once what has come already."""
        while self.is_open and _has_news(self._sock):
            self._readable()

    def close(self) -> None:
        """Close this end. Idempotent."""
        if self.is_open:
            self.is_open = False
            self._loop.remove_reader(self._sock.fileno())
            self._loop.remove_writer(self._sock.fileno())
            self._sock.close()
            self._inbox.close()
            for _, fds in self._waiting:
                _close_all(fds)
            self._waiting.clear()


def _has_news(sock: socket.socket) -> bool:
    poll = select.poll()
    poll.register(sock, select.POLLIN)
    return bool(poll.poll(0))


class Inbox:
    """Puts packets together to messages."""

    def __init__(self, sock: socket.socket) -> None:
        self._sock = sock
        self._fds: list[int] = []
        self._lost = False

    def receive(self) -> tuple[Any, list[int]] | None:
        """Read one packet; a message and its descriptors when it was the last of it.

        Raises `EOFError` when the other end is gone, `DescriptorsLostError`.
        """
        fds = array.array("i")
        size = socket.CMSG_SPACE(fds.itemsize * (MAX_FDS + 1))
        cloexec = getattr(socket, "MSG_CMSG_CLOEXEC", 0)
        packet, ancillary, flags, _ = self._sock.recvmsg(INLINE_BYTES + 1, size, cloexec)
        for level, kind, data in ancillary:
            if level == socket.SOL_SOCKET and kind == socket.SCM_RIGHTS:
                fds.frombytes(data[: len(data) - len(data) % fds.itemsize])
        self._fds += fds
        self._lost = self._lost or bool(flags & socket.MSG_CTRUNC)
        if not packet:
            self.close()
            raise EOFError
        if packet[:1] == _MORE:
            return None
        found, lost = self._fds, self._lost
        self._fds, self._lost = [], False
        if not lost:
            return _unpacked(packet, found), found
        _close_all(found)
        raise DescriptorsLostError(pickle.loads(packet[1:]))  # noqa: S301 - as below

    def message(self) -> tuple[Any, list[int]]:
        """The next message, waited for. Raises as `receive`."""
        while (received := self.receive()) is None:
            pass
        return received

    def close(self) -> None:
        """Close descriptors whose message never came."""
        _close_all(self._fds)
        self._fds = []


def _unpacked(packet: bytes, fds: list[int]) -> Any:
    """The message; takes the descriptor that it lies in, if it lies apart."""
    if packet[:1] == _INLINE:
        return pickle.loads(packet[1:])  # noqa: S301 - from our own parent or child
    with os.fdopen(fds.pop(0), "rb") as apart:
        return pickle.loads(apart.read())  # noqa: S301 - as above


def send_message(sock: socket.socket, message: object, fds: Sequence[int] = ()) -> None:
    """Send a message and wait until it is taken."""
    for packet, own in _packed(message, fds):
        try:
            _send(sock, packet, own)
        finally:
            _close_all(own)


def _send(sock: socket.socket, packet: bytes, fds: Sequence[int]) -> None:
    rights = (socket.SOL_SOCKET, socket.SCM_RIGHTS, array.array("i", fds))
    sock.sendmsg([packet], [rights] if fds else [], socket.MSG_NOSIGNAL)


def _packed(message: object, fds: Sequence[int]) -> list[Packet]:
    """The packets, with descriptors of their own, so that the caller may close what it has."""
    data = pickle.dumps(message, pickle.HIGHEST_PROTOCOL)
    own: list[int] = []
    try:
        if len(data) >= INLINE_BYTES:
            own.append(_apart(data))
        for fd in fds:
            own.append(os.dup(fd))  # one by one: those before a failure are closed below
    except OSError:
        _close_all(own)
        raise
    packet = _INLINE + data if len(data) < INLINE_BYTES else _APART + _outline(message)
    # The descriptor that the message lies in is the first of all.
    parts = [own[i : i + MAX_FDS] for i in range(0, len(own), MAX_FDS)] or [[]]
    return [*((_MORE, part) for part in parts[:-1]), (packet, parts[-1])]


def _outline(message: object) -> bytes:
    """What is told of a message that lies apart, should that not arrive: `outline` of it."""
    outline = getattr(message, "outline", None)
    return pickle.dumps(outline() if outline is not None else None, pickle.HIGHEST_PROTOCOL)


def _apart(data: bytes) -> int:
    fd = os.memfd_create("message")
    try:
        with os.fdopen(os.dup(fd), "wb") as file:
            file.write(data)
        os.lseek(fd, 0, os.SEEK_SET)
    except BaseException:
        os.close(fd)
        raise
    return fd


def _close_all(fds: Sequence[int]) -> None:
    for fd in fds:
        os.close(fd)
