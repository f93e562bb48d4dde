"""A loop's transports over sockets of the kernel, whose numbers are given out anew at once."""

from __future__ import annotations

import errno
import socket
from collections import deque
from collections.abc import Callable, Iterable
from typing import Any

from meshcore._core import Outbox

HIGH_BYTES = 20_000


class Turns:
    """What a loop runs soon, in order."""

    def __init__(self) -> None:
        self.soon: deque[Callable[[], object]] = deque()

    def call_soon(self, call: Callable[[], object]) -> None:
        self.soon.append(call)

    def turn(self) -> None:
        """Run what is ready now."""
        for _ in range(len(self.soon)):
            self.soon.popleft()()


class Owner:
    """A protocol that notes what it is told."""

    def __init__(self) -> None:
        self.lost: list[Exception | None] = []
        self.choked = False
        self.on_full: Callable[[], object] = lambda: None

    def pause_writing(self) -> None:
        assert not self.choked
        self.choked = True
        self.on_full()

    def resume_writing(self) -> None:
        assert self.choked
        self.choked = False

    def connection_lost(self, error: Exception | None) -> None:
        self.lost.append(error)


class Transport:
    """A loop's: writes at once, keeps the rest; its descriptor is closed behind the word of its
    end, as both loops do it."""

    def __init__(self, turns: Turns, owner: Owner, sock: socket.socket) -> None:
        self._turns = turns
        self.owner = owner
        self.sock = sock
        self.rest = bytearray()
        self.closing = False
        self.ended = False
        self.writes = 0

    def write(self, data: bytes) -> None:
        assert not self.owner.lost, "a loop's handle is closed"
        if self.ended:
            raise RuntimeError("behind write_eof")
        if self.closing and not self.rest:
            return
        self.writes += 1
        self.rest += data
        if len(self.rest) == len(data):
            self.pump()
        if len(self.rest) > HIGH_BYTES and not self.owner.choked:
            self.owner.pause_writing()

    def writelines(self, pieces: Iterable[bytes]) -> None:
        self.write(b"".join(pieces))

    def pump(self) -> None:
        """The socket takes more, perhaps."""
        if self.owner.lost:
            return
        try:
            while self.rest:
                del self.rest[: self.sock.send(self.rest, socket.MSG_NOSIGNAL)]
        except BlockingIOError:
            return
        except OSError as error:
            self.fail(error)
            return
        if self.owner.choked:
            self.owner.resume_writing()
        if self.ended and not self.closing:
            self._shut()
        if self.closing:
            self._turns.call_soon(self.lose)

    def _shut(self) -> None:
        try:
            self.sock.shutdown(socket.SHUT_WR)
        except OSError as error:
            assert error.errno == errno.ENOTCONN  # noqa: PT017 - of a peer that is gone

    def fail(self, error: Exception | None) -> None:
        """It ends, whatever waits."""
        was, self.closing = self.closing, True
        self.rest.clear()
        if not was or not self.owner.lost:
            self._turns.call_soon(lambda: self.lose(error))

    def lose(self, error: Exception | None = None) -> None:
        """Tell of the end, and close the descriptor: from now on its number is another's."""
        if not self.owner.lost:
            self.rest.clear()
            self.owner.connection_lost(error)
            self.sock.close()

    def write_eof(self) -> None:
        self.ended = True
        if not self.rest and not self.closing:
            self._shut()

    def close(self) -> None:
        if not self.closing:
            self.closing = True
            if not self.rest:
                self._turns.call_soon(self.lose)

    def abort(self) -> None:
        self.fail(None)

    def is_closing(self) -> bool:
        return self.closing

    def get_write_buffer_size(self) -> int:
        return len(self.rest)

    def get_extra_info(self, name: str, default: Any = None) -> Any:
        return self.sock if name == "socket" else default


class Connected:
    """A connection with an outbox, and who is at its other end."""

    def __init__(self, turns: Turns, outbox: Outbox, room_bytes: int = 0) -> None:
        ours, self.peer = socket.socketpair()
        for sock in (ours, self.peer):
            sock.setblocking(False)
        if room_bytes:
            ours.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, room_bytes)
        self.number = ours.fileno()
        self.owner = Owner()
        self.inner = Transport(turns, self.owner, ours)
        self.out: Any = outbox.over(self.inner)  # type: ignore[arg-type]  # a loop's, as far as asked
        self.got = bytearray()

    def read(self) -> bytes:
        """All that has come until now."""
        try:
            while data := self.peer.recv(65_536):
                self.got += data
        except OSError:
            pass  # nothing more now, or ever
        return bytes(self.got)

    def end(self) -> None:
        """Nothing of it is left."""
        self.peer.close()
        self.inner.sock.close()
