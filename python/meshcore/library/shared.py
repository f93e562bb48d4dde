"""State that several processes share: the same name is the same words in each of them."""

from __future__ import annotations

import fcntl
import os
import re
import secrets
import stat
import weakref
from multiprocessing import context, reduction
from typing import TYPE_CHECKING, Any, Final, Unpack

from meshcore._core import SharedWords
from meshcore.config.units import format_size, parse_rate, parse_size
from meshcore.errors import ConfigError
from meshcore.library import part, shared_file, tallies
from meshcore.library.breaker import CircuitBreaker
from meshcore.library.breaker_rules import BreakerRules
from meshcore.library.classifying import listed
from meshcore.library.keywords import hinting
from meshcore.library.limiters import ClientLimiter, TokenBucket, check_rules, full_burst
from meshcore.library.retry import RetryBudget, checked_budget
from meshcore.library.shared_rules import breaker_text, budget_text, difference, limit_text

if TYPE_CHECKING:
    from collections.abc import Callable

    from meshcore._core import Words
    from meshcore.library.shared_file import SharedFile

# Memory with names. Anyone may write here, so what is opened is looked at first (`_check`).
DIRECTORY: Final = "/dev/shm"  # noqa: S108
# Of which `unlink` can make a path, and which a listing shows as it is.
_NAME = re.compile(r"[A-Za-z0-9_][A-Za-z0-9._-]{0,99}")
# Head, registry and the first columns, with something left for words.
_MIN_SIZE = 512 << 10
# Places in it are numbers of 32 bits, of lines of 64 bytes.
_MAX_SIZE = 255 << 30
# The size of the file is for ever: others have mapped it.
_SEALS = fcntl.F_SEAL_SHRINK | fcntl.F_SEAL_GROW | fcntl.F_SEAL_SEAL
KINDS: Final = ("token_bucket", "client_limiter", "circuit_breaker", "retry_budget")


class SharedState:
    """Limiters, breakers and retry budgets whose state several processes of one machine share.

    With a ``name`` it is a file of this user's in ``/dev/shm``, made by the first to come and
    found by every other process, also after all have ended, until `unlink` or a restart of the
    machine. Without, only children have it: by fork, or handed to them as an argument of
    `multiprocessing.Process`. ``size`` is the most it may take (`16MiB` is enough for a table of
    some 500,000 clients); memory is used when it is needed, and the maker of the state decides.

    Calls on what it gives are lock-free words, as without it; only making what was not there
    before takes a lock, which the system frees if its holder dies. What it gives is there for any
    number of processes, whatever user they run as after a fork, and also when a daemoniser has
    closed the descriptor (`fileno`), which is needed only to make more. All who ask for a part
    say the same rules: others are a `ValueError` that tells both. Parts are pickled as their
    state is: with a name, by it; without, for a child of `multiprocessing` alone.

    Raises `OSError` if the system refuses, `PermissionError` for a file that others could write,
    and `meshcore.errors.SegmentLayoutError` for one that another version of meshcore has left.
    """

    __slots__ = ("__weakref__", "_file", "_name")

    @hinting
    def __init__(self, name: str | None = None, *, size: str | int = "16MiB") -> None:
        """The state of this name, made if it is not there."""
        wanted = _checked_size(size)
        self._keep(_unnamed(wanted) if name is None else _named(path_of(name), wanted), name)

    def _keep(self, file: SharedFile, name: str | None) -> None:
        self._file, self._name = file, name
        weakref.finalize(self, shared_file.leave, file).atexit = False

    @property
    def name(self) -> str | None:
        """The name by which others find it."""
        return self._name

    def fileno(self) -> int:
        """The descriptor of its file, for a daemoniser that is told what to leave open."""
        return self._file.open_fd()

    @hinting
    def token_bucket(
        self,
        name: str,
        rate: str,
        burst: int | None = None,
        *,
        clock: Callable[[], int] | None = None,
    ) -> TokenBucket:
        """The bucket of this name: full when it is new."""
        check_rules(rate, burst)
        per = parse_rate(rate)
        text = limit_text(per, full_burst(*per, burst))
        words = self._part("token_bucket", name, text)
        rules = {"rate": rate, "burst": burst, "clock": clock}
        origin = part.Origin(self, "token_bucket", name, rules)
        made = TokenBucket(rate, burst, name=name, clock=clock, words=words)
        return part.of(origin, tallies.kept(made))

    @hinting
    def client_limiter(
        self,
        name: str,
        rate: str,
        burst: int | None = None,
        *,
        clients: int = 65_536,
        clock: Callable[[], int] | None = None,
    ) -> ClientLimiter:
        """The table of clients of this name."""
        check_rules(rate, burst, clients)
        per = parse_rate(rate)
        room = SharedWords.clients(clients)
        text = limit_text(per, full_burst(*per, burst), room)
        words = self._part("client_limiter", name, text, room)
        rules = {"rate": rate, "burst": burst, "clients": clients, "clock": clock}
        given: Any = {"clients": clients, "name": name, "clock": clock, "words": words}
        made = tallies.kept(ClientLimiter(rate, burst, **given))
        return part.of(part.Origin(self, "client_limiter", name, rules), made)

    def circuit_breaker(self, name: str, **rules: Unpack[BreakerRules]) -> CircuitBreaker:
        """The breaker of this name; ``rules`` as of `CircuitBreaker`.

        What counts as a failure is each process's own.
        """
        for several in ("failure_on", "ignore", "on_call", "on_state_change"):
            if several in rules:
                # Once for all that is made of them.
                rules[several] = listed(rules[several])
        text = breaker_text(CircuitBreaker(**rules)._rules_text)
        words = self._part("circuit_breaker", name, text)
        origin = part.Origin(self, "circuit_breaker", name, {**rules})
        return part.of(origin, CircuitBreaker(name=name, words=words, **rules))

    @hinting
    def retry_budget(
        self,
        name: str,
        percent: str | int = "20%",
        floor: int = 3,
        *,
        clock: Callable[[], int] | None = None,
    ) -> RetryBudget:
        """The budget of this name: nothing of it is used when it is new."""
        words = self._part("retry_budget", name, budget_text(*checked_budget(percent, floor)))
        rules = {"percent": percent, "floor": floor, "clock": clock}
        made = RetryBudget(percent, floor, clock=clock, words=words)
        return part.of(part.Origin(self, "retry_budget", name, rules), made)

    def remove(self, name: str) -> bool:
        """Take away every part of this name; whether there was one.

        The next to ask gets a new one, by whatever rules; who has it goes on with it. So its
        memory is used for nothing else until `unlink`.
        """
        words = self._file.words
        return self._file.alone(lambda _fd: any([words.retire(kind, name) for kind in KINDS]))

    @staticmethod
    def unlink(name: str) -> bool:
        """Remove the file of a name, so that the next to come makes a new one; whether there was
        one.

        Who has it open goes on with it.
        """
        try:
            os.unlink(path_of(name))
        except FileNotFoundError:
            return False
        return True

    def _part(self, kind: str, name: str, rules: str, clients: int = 0) -> Words:
        if not isinstance(name, str) or not name or not name.isprintable():
            raise ValueError(f"{name!r} is no name of a {kind}: a text that can be printed")
        found = self._file.words.find(kind, name)
        if found is None:
            what = kind, name, clients
            found = self._file.alone(lambda fd: self._made(fd, what, rules))
        words, theirs = found
        if theirs != rules:
            raise difference(f"{kind} {name}", theirs, rules)
        return words

    def _made(self, fd: int, what: tuple[str, str, int], rules: str) -> tuple[Words, str]:
        """With the rules by which it was made, perhaps by another."""
        kind, name, clients = what
        words, size = self._file.words, os.fstat(fd).st_size
        if found := words.find(kind, name):
            return found
        # Memory that the system does not have would be found out by a signal, later.
        first = min(words.reserved_bytes, size)
        if needed := min(words.bytes_of(*what), size - first):
            os.posix_fallocate(fd, first, needed)
        try:
            words.make(kind, name, clients, rules)
        except ConfigError as error:
            raise ConfigError(
                f"the shared state has no room for {kind} {name} in its {size} bytes: make it "
                "anew with a larger size"
            ) from error
        if found := words.find(kind, name):
            return found
        raise RuntimeError(f"{kind} {name} was made and is not there")

    def __reduce__(self) -> tuple[Any, ...]:
        """By its name, or for a child of `multiprocessing` by its file."""
        if self._name is not None:
            return _by_name, (self._name, self._file.owner)
        if context.get_spawning_popen() is None:
            raise TypeError(
                "a SharedState without a name is pickled only as an argument of "
                "multiprocessing.Process: give it a name"
            )
        return _received, (reduction.DupFd(self._file.open_fd()),)

    def __repr__(self) -> str:
        name = "" if self._name is None else repr(self._name)
        return f"SharedState({name})"


def _checked_size(size: object) -> int:
    try:
        wanted = parse_size(size)
    except ValueError as error:
        raise ValueError(f"size: {error}") from None
    if not _MIN_SIZE <= wanted <= _MAX_SIZE:
        least, most = format_size(_MIN_SIZE), format_size(_MAX_SIZE)
        raise ValueError(f"size: must be within {least} and {most}, got {size}")
    return wanted


def _by_name(name: str, owner: int) -> SharedState:
    if owner != os.geteuid():
        raise PermissionError(
            f"the shared state {name!r} is user {owner}'s, and this process is user {os.geteuid()}"
        )
    return SharedState(name)


def _received(handle: Any) -> SharedState:
    file = shared_file.taken(None, handle.detach)
    state = SharedState.__new__(SharedState)
    state._keep(file, None)
    if not hasattr(file, "words"):
        file.words = SharedWords.open(file.open_fd())
    return state


def path_of(name: str) -> str:
    """The file of a state of this user's; `ValueError` for what is no name."""
    if not isinstance(name, str) or _NAME.fullmatch(name) is None:
        raise ValueError(f"{name!r} is no name of a shared state: letters, digits, and . _ -")
    return f"{DIRECTORY}/meshcore-{os.geteuid()}-{name}"


def _unnamed(size: int) -> SharedFile:
    def opened() -> int:
        return os.memfd_create("meshcore", os.MFD_CLOEXEC | os.MFD_ALLOW_SEALING)

    file = shared_file.taken(None, opened)
    try:
        file.words = _created(file.fd, size, 0)
        fcntl.fcntl(file.fd, fcntl.F_ADD_SEALS, _SEALS)
    except BaseException:
        shared_file.leave(file)
        raise
    return file


def _named(path: str, size: int) -> SharedFile:
    def opened() -> int:
        flags = os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC
        fd = os.open(path, flags, 0o600)
        try:
            _check(fd, path)
        except BaseException:
            os.close(fd)
            raise
        return fd

    def is_usable(fd: int) -> bool:
        # It was unlinked meanwhile, so the next is to begin anew.
        if not _is_there(path, fd):
            return False
        if not hasattr(file, "words"):
            file.words = _words(fd, path, size)
        return True

    while True:
        file = shared_file.taken(path, opened)
        try:
            if file.alone(is_usable):
                return file
        except BaseException:
            shared_file.leave(file)
            raise
        shared_file.leave(file)


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


def _words(fd: int, path: str, size: int) -> SharedWords:
    """Under the lock: the first word is the last that is written, so zero means that it was not
    finished."""
    if any(os.pread(fd, 8, 0)):
        return SharedWords.open(fd)
    try:
        return _created(fd, size, _MIN_SIZE)
    except BaseException:
        # A process that waits for the lock finds that it is gone, and tries by itself.
        os.unlink(path)
        raise


def _created(fd: int, size: int, reserved: int) -> SharedWords:
    try:
        os.ftruncate(fd, 0)
        os.ftruncate(fd, size)
        if reserved:
            os.posix_fallocate(fd, 0, reserved)
        return SharedWords.create(fd, size, secrets.randbits(64))
    except OSError as error:
        why = error.strerror if error.errno is None else os.strerror(error.errno)
        raise OSError(
            error.errno, f"a shared state of {size} bytes cannot be made: {why}"
        ) from None
