"""State that several processes share: the same name is the same words in each of them."""

from __future__ import annotations

import fcntl
import hashlib
import os
import re
import secrets
import stat
import weakref
from contextlib import contextmanager
from multiprocessing import reduction
from typing import TYPE_CHECKING, Any, Unpack

from meshcore._core import SharedWords
from meshcore.config.units import parse_rate, parse_size
from meshcore.errors import ConfigError
from meshcore.library.breaker import CircuitBreaker
from meshcore.library.breaker_rules import BreakerRules
from meshcore.library.limiters import ClientLimiter, TokenBucket

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from meshcore._core import Words

# Memory with names. Anyone may write here, so what is opened is looked at first (`_check`).
_DIRECTORY = "/dev/shm"  # noqa: S108
# Of which `unlink` can make a path, and which a listing shows as it is.
_NAME = re.compile(r"[A-Za-z0-9_][A-Za-z0-9._-]{0,99}")
# Head, registry and the first columns, with something left for words.
_MIN_SIZE = 512 << 10
# The size of the file is for ever: others have mapped it.
_SEALS = fcntl.F_SEAL_SHRINK | fcntl.F_SEAL_GROW | fcntl.F_SEAL_SEAL


class SharedState:
    """Limiters and breakers whose state several processes of one machine share.

    With a ``name`` it is a file of this user's in ``/dev/shm``, made by whoever comes first and
    found by every other process, also after all have ended, until `unlink` or a restart of the
    machine. Without, only children have it: by fork, or handed to them as an argument of
    `multiprocessing.Process`. ``size`` is the most it may take (`16MiB` is enough for a table of
    some 500,000 clients); memory is used when it is needed, and whoever makes the state decides.

    Calls on what it gives are lock-free words, as without it; only making what was not there
    before takes a lock, which the system frees if its holder dies. Raises `OSError` if the system
    refuses, `PermissionError` for a file that others could write, and
    `meshcore.errors.SegmentLayoutError` for one that another version of meshcore has left.
    """

    __slots__ = ("__weakref__", "_fd", "_name", "_words")

    def __init__(self, name: str | None = None, *, size: str | int = "16MiB") -> None:
        """The state of this name, made if it is not there."""
        wanted = parse_size(size)
        if wanted < _MIN_SIZE:
            raise ValueError(f"a shared state takes at least {_MIN_SIZE >> 10}KiB, not {size}")
        fd, words = _unnamed(wanted) if name is None else _named(_path(name), wanted)
        self._keep(fd, words, name)

    def _keep(self, fd: int, words: SharedWords, name: str | None) -> None:
        self._fd, self._words, self._name = fd, words, name
        weakref.finalize(self, os.close, fd)

    @property
    def name(self) -> str | None:
        """The name by which others find it."""
        return self._name

    def token_bucket(
        self,
        name: str,
        rate: str,
        burst: int | None = None,
        *,
        clock: Callable[[], int] | None = None,
    ) -> TokenBucket:
        """The bucket of this name: full when it is new. Every process says the same rate."""
        words = self._part("token_bucket", name)
        return TokenBucket(rate, burst, clock=clock, words=words)

    def client_limiter(
        self,
        name: str,
        rate: str,
        burst: int | None = None,
        *,
        clients: int = 65_536,
        clock: Callable[[], int] | None = None,
    ) -> ClientLimiter:
        """The table of clients of this name.

        `ValueError` if it is there for another number of ``clients``, or another rate or burst:
        its words would mean something else.
        """
        text = f"{parse_rate(rate)} {burst}".encode()
        rules = int.from_bytes(hashlib.sha256(text).digest()[:8]) | 1
        words = self._part("client_limiter", name, clients, rules)
        return ClientLimiter(rate, burst, clients=clients, clock=clock, words=words)

    def circuit_breaker(self, name: str, **rules: Unpack[BreakerRules]) -> CircuitBreaker:
        """The breaker of this name; ``rules`` as of `CircuitBreaker`, the same in every process."""
        return CircuitBreaker(name=name, words=self._part("circuit_breaker", name), **rules)

    @staticmethod
    def unlink(name: str) -> bool:
        """Remove the file of a name, for whoever comes next; whether there was one.

        Who has it open goes on with it.
        """
        try:
            os.unlink(_path(name))
        except FileNotFoundError:
            return False
        return True

    def _part(self, kind: str, name: str, clients: int = 0, rules: int = 0) -> Words:
        found = self._words.find(kind, name, clients, rules)
        if found is None:
            with _locked(self._fd):
                if self._words.find(kind, name, clients, rules) is None:
                    self._make(kind, name, clients)
            found = self._words.find(kind, name, clients, rules)
        if found is None:
            raise RuntimeError(f"{kind} {name} was made and is not there")
        return found

    def _make(self, kind: str, name: str, clients: int) -> None:
        # Memory that the system does not have would be found out by a signal, later. Columns may
        # need as much again as there is.
        size = os.fstat(self._fd).st_size
        used = 2 * self._words.reserved_bytes + self._words.bytes_of(kind, clients)
        os.posix_fallocate(self._fd, 0, min(used, size))
        try:
            self._words.make(kind, name, clients)
        except ConfigError as error:
            raise ConfigError(
                f"the shared state has no room for {kind} {name} in its {size} bytes: make it "
                "anew with a larger size"
            ) from error

    def __reduce__(self) -> tuple[Any, ...]:
        """By its name, or for a child of `multiprocessing` by its file."""
        if self._name is not None:
            return type(self), (self._name,)
        return _received, (reduction.DupFd(self._fd),)

    def __repr__(self) -> str:
        name = "" if self._name is None else repr(self._name)
        return f"SharedState({name})"


def _received(handle: Any) -> SharedState:
    fd = handle.detach()
    state = SharedState.__new__(SharedState)
    state._keep(fd, SharedWords.open(fd), None)
    return state


def _path(name: str) -> str:
    if _NAME.fullmatch(name) is None:
        raise ValueError(f"{name!r} is no name of a shared state: letters, digits, and . _ -")
    return f"{_DIRECTORY}/meshcore-{os.geteuid()}-{name}"


@contextmanager
def _locked(fd: int) -> Iterator[None]:
    """One at a time, of all threads and processes; freed by the system when the holder dies."""
    # A description of its own: those of one description, as after a fork, do not exclude.
    own = os.open(f"/proc/self/fd/{fd}", os.O_RDWR | os.O_CLOEXEC)
    try:
        fcntl.flock(own, fcntl.LOCK_EX)
        try:
            yield
        finally:
            # Closing is not enough when a fork has copied the descriptor meanwhile.
            fcntl.flock(own, fcntl.LOCK_UN)
    finally:
        os.close(own)


def _unnamed(size: int) -> tuple[int, SharedWords]:
    fd = os.memfd_create("meshcore", os.MFD_CLOEXEC | os.MFD_ALLOW_SEALING)
    try:
        os.ftruncate(fd, size)
        fcntl.fcntl(fd, fcntl.F_ADD_SEALS, _SEALS)
        return fd, SharedWords.create(fd, size, secrets.randbits(64))
    except BaseException:
        os.close(fd)
        raise


def _named(path: str, size: int) -> tuple[int, SharedWords]:
    while True:
        flags = os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC
        fd = os.open(path, flags, 0o600)
        try:
            _check(fd, path)
            with _locked(fd):
                # Whoever unlinked it meanwhile wants the next to begin anew.
                if _is_there(path, fd):
                    return fd, _words(fd, size)
        except BaseException:
            os.close(fd)
            raise
        os.close(fd)


def _check(fd: int, path: str) -> None:
    found = os.fstat(fd)
    if not stat.S_ISREG(found.st_mode):
        raise PermissionError(f"{path} is no regular file")
    if found.st_uid != os.geteuid() or found.st_mode & 0o077:
        raise PermissionError(f"{path} can be used by others than user {os.geteuid()}")


def _is_there(path: str, fd: int) -> bool:
    try:
        return os.path.samestat(os.stat(path, follow_symlinks=False), os.fstat(fd))
    except FileNotFoundError:
        return False


def _words(fd: int, size: int) -> SharedWords:
    """Under the lock: the first word is the last that is written, so zero means nobody was done."""
    if any(os.pread(fd, 8, 0)):
        return SharedWords.open(fd)
    os.ftruncate(fd, 0)
    os.ftruncate(fd, size)
    os.posix_fallocate(fd, 0, _MIN_SIZE)
    return SharedWords.create(fd, size, secrets.randbits(64))
