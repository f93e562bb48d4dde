"""The file behind a `SharedState`, once in each process: its descriptor, its mapping, its lock."""

from __future__ import annotations

import errno
import fcntl
import os
import threading
import time
from collections import deque
from functools import partial
from typing import TYPE_CHECKING, TypeVar

from meshcore._core import Finally

if TYPE_CHECKING:
    from collections.abc import Callable

    from meshcore._core import SharedWords

T = TypeVar("T")

# How long before a lock is asked for again that the system took for a circle.
_AGAIN_S = 0.001


class SharedFile:
    """All states of a file in this process have it together.

    Its lock is a record lock: a process has it and not a descriptor, so it excludes those that were
    forked, needs no permission once the file is open, and ends with its process. Closing any
    descriptor of the file lets go of it: there is one, and others are closed while the lock is
    free. Other interpreters of the process have objects and descriptors of their own: a second
    lock, which is a descriptor's, excludes those.

    The descriptor's number is not trusted: a daemoniser may have closed it, and another file may
    have it since. It is ours as long as it leads to our file.
    """

    __slots__ = ("_lock", "_path", "_to_close", "_users", "fd", "identity", "owner", "words")

    words: SharedWords

    def __init__(self, fd: int, path: str | None) -> None:
        self.fd, self._path = fd, path
        self.identity = _identity(fd)
        self.owner = os.fstat(fd).st_uid
        self._users = 0
        self._to_close: list[int] = []
        self._lock = threading.Lock()

    def is_open(self) -> bool:
        """Whether the descriptor is still ours."""
        try:
            return _identity(self.fd) == self.identity
        except OSError:
            return False

    def open_fd(self) -> int:
        """The descriptor; opened again by its name if it was closed. Raises `OSError`."""
        if not self.is_open():
            self.fd = self._opened_again()
        return self.fd

    def _opened_again(self) -> int:
        if self._path is not None:
            try:
                fd = os.open(self._path, os.O_RDWR | os.O_NOFOLLOW | os.O_CLOEXEC)
            except FileNotFoundError:
                pass
            else:
                if _identity(fd) == self.identity:
                    return fd
                os.close(fd)
        which = "it has no name" if self._path is None else f"{self._path} is not it any more"
        raise OSError(
            errno.EBADF,
            f"the descriptor of this shared state was closed, as daemons do, and {which}: what was "
            "made of it goes on, nothing new can be made; keep its fileno() open, or make the "
            "state later",
        )

    def alone(self, work: Callable[[int], T]) -> T:
        """What a function gives that is called with the descriptor, by one at a time of all threads
        and processes. It ends with the lock's end, also if a handler of a signal raises."""
        with Finally(self._lock.release, self._lock.acquire), Finally(self._unlock):
            fd = self.open_fd()
            fcntl.flock(fd, fcntl.LOCK_EX)
            _lock_record(fd)
            return work(fd)

    def _unlock(self) -> None:
        if self.is_open():
            fcntl.lockf(self.fd, fcntl.LOCK_UN)
            fcntl.flock(self.fd, fcntl.LOCK_UN)
        self._close_pending()

    def _close_later(self, fd: int) -> None:
        self._to_close.append(fd)
        with _at_once(self._lock) as held:
            if held:
                self._close_pending()

    def _close_pending(self) -> None:
        while self._to_close:
            os.close(self._to_close.pop())

    def _close(self) -> None:
        self._close_pending()
        if self.is_open():
            os.close(self.fd)


_files: dict[tuple[int, int], SharedFile] = {}
# States that are gone: the collector finds them at any time, also while the gate is held.
_left: deque[SharedFile] = deque()
# It is held while one of these files is opened or closed: what has just been opened may have the
# number of one that was closed elsewhere.
_gate = threading.Lock()


def taken(path: str | None, opened: Callable[[], int]) -> SharedFile:
    """The file whose descriptor a function gives, for one user more."""
    with Finally(_gate.release, _gate.acquire):
        fd = opened()
        try:
            found = _files.setdefault(_identity(fd), SharedFile(fd, path))
        except BaseException:
            os.close(fd)
            raise
        if found.fd != fd:
            if found.is_open():
                found._close_later(fd)
            else:
                found.fd = fd
        found._users += 1
    _sweep()
    return found


def leave(file: SharedFile) -> None:
    """One user less; the last one closes it."""
    _left.append(file)
    _sweep()


def _sweep() -> None:
    # The holder of the gate sweeps when done.
    while _left:
        with _at_once(_gate) as held:
            if not held:
                return
            while _left:
                file = _left.popleft()
                file._users -= 1
                if not file._users:
                    del _files[file.identity]
                    file._close()


def _at_once(lock: threading.Lock) -> Finally:
    """The block has the lock if it was free: the value says so."""
    return Finally(lock.release, partial(lock.acquire, False))


def _renew() -> None:
    """In the child of a fork: threads that held these are not in it. With the descriptor it has the
    second lock, too, and would keep it if its parent were killed."""
    global _gate
    _gate = threading.Lock()
    for file in _files.values():
        file._lock = threading.Lock()
        if file.is_open():
            fcntl.flock(file.fd, fcntl.LOCK_UN)


os.register_at_fork(after_in_child=_renew)


def _identity(fd: int) -> tuple[int, int]:
    found = os.fstat(fd)
    return found.st_dev, found.st_ino


def _lock_record(fd: int) -> None:
    while True:
        try:
            fcntl.lockf(fd, fcntl.LOCK_EX)
        except OSError as error:
            # Two threads of ours have to do with two files, and the system thinks of us as one.
            if error.errno != errno.EDEADLK:
                raise
            time.sleep(_AGAIN_S)
        else:
            return
