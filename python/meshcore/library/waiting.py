"""Those who wait for tokens, in the order in which they came.

A `Line` stands before one bucket. Its first is served as soon as its tokens are there, and nobody
passes it, however few he asks for. The time is told by one timer for each event loop that has
waiters, and by the first of the threads that wait; each serves whoever is first, so a loop that
stands still holds up nobody else's, and n waiters cost O(n).
"""

from __future__ import annotations

import asyncio
import os
import queue
import threading
from collections import OrderedDict
from contextlib import contextmanager, suppress
from typing import TYPE_CHECKING, Any, Final, NamedTuple, TypeVar

from meshcore.errors import RateLimited
from meshcore.library.pauses import GIVEN_CLOCK_NS, MILLISECOND, loop_seconds, running_loop

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from meshcore._core import Charge
    from meshcore.library.deadline import Limit

    # Takes tokens, or tells the nanoseconds until they may be there.
    Take = Callable[[int], tuple[int, Charge | None]]
    GiveBack = Callable[[int, Charge | None], None]

T = TypeVar("T")

# More than a bucket can ever hold is asked for: waiting would not end.
NEVER_NS: Final = (1 << 64) - 1
# Longest sleep before the bucket is looked at again. One's own says when it is given tokens back;
# other processes do not.
OWN_NS: Final = 3_600_000 * MILLISECOND
SHARED_NS: Final = 1_000 * MILLISECOND

_forks = 0


def _forked() -> None:
    global _forks
    _forks += 1


os.register_at_fork(after_in_child=_forked)


class Source(NamedTuple):
    """The bucket that a line stands before."""

    take: Take
    give_back: GiveBack
    patience_ns: int


class _Waiter:
    """Who waits: in a line once, until it is served or leaves."""

    __slots__ = ("charge", "n", "served")

    def __init__(self, n: int) -> None:
        self.n = n
        self.served = False
        self.charge: Charge | None = None

    @property
    def is_lost(self) -> bool:
        """Whether it will never come for anything."""
        return False

    def wake(self) -> bool:
        """Tell it that it was served; whether it can still be told."""
        raise NotImplementedError

    def drive(self, wait_ns: int) -> bool:
        """Have the line served again after that time; whether somebody will."""
        raise NotImplementedError


class _Task(_Waiter):
    """A task, which waits for a future of its loop."""

    __slots__ = ("expiry", "future", "timer")

    def __init__(self, n: int, timer: _Timer) -> None:
        super().__init__(n)
        self.timer = timer
        self.expiry: asyncio.TimerHandle | None = None
        self.future: asyncio.Future[None] = timer.loop.create_future()

    @property
    def is_lost(self) -> bool:
        return self.timer.loop.is_closed()

    def wake(self) -> bool:
        if self.timer.is_here():
            if self.future.done():  # cancelled, and not told yet
                return False
            self.future.set_result(None)
            return True
        return self.timer.call(self._resolve)

    def drive(self, wait_ns: int) -> bool:
        if self.timer.is_here():
            self.timer.arm(wait_ns)
            return True
        return self.timer.call(self.timer.fire)

    def _resolve(self) -> None:
        if not self.future.done():
            self.future.set_result(None)


class _Thread(_Waiter):
    """A thread, which sleeps until it is poked."""

    __slots__ = ("_pokes", "_threads")

    def __init__(self, n: int, threads: OrderedDict[_Thread, None]) -> None:
        super().__init__(n)
        self._pokes: queue.SimpleQueue[None] = queue.SimpleQueue()
        self._threads = threads

    def wake(self) -> bool:
        self._pokes.put(None)
        return True

    def drive(self, wait_ns: int) -> bool:
        first = _first(self._threads)
        return first is not None and first.wake()

    def sleep(self, limit_ns: int | None) -> None:
        with suppress(queue.Empty):
            self._pokes.get(timeout=None if limit_ns is None else limit_ns / 1e9)


class _Timer:
    """Serves a line by the clock of an event loop, while tasks of that loop wait in it."""

    __slots__ = ("_handle", "_line", "loop", "tasks")

    def __init__(self, line: Line, loop: asyncio.AbstractEventLoop) -> None:
        self.loop = loop
        self.tasks = 0
        self._line = line
        self._handle: asyncio.TimerHandle | None = None

    @property
    def armed(self) -> bool:
        return self._handle is not None

    def is_here(self) -> bool:
        return asyncio._get_running_loop() is self.loop

    def call(self, function: Callable[[], None]) -> bool:
        """Have the loop call it, whatever thread that runs in; whether it is not closed."""
        try:
            self.loop.call_soon_threadsafe(function)
        except RuntimeError:
            return False
        return True

    def fire(self) -> None:
        self.disarm()
        wait_ns = GIVEN_CLOCK_NS
        try:
            wait_ns = self._line.serve()
        finally:  # a clock that was given may raise
            if self.tasks:
                self.arm(wait_ns)

    def arm(self, wait_ns: int) -> None:
        self.disarm()
        self._handle = self.loop.call_later(loop_seconds(self._line.patient(wait_ns)), self.fire)

    def disarm(self) -> None:
        if self._handle is not None:
            self._handle.cancel()
            self._handle = None


def patience_ns(words: object, clock: object) -> int:
    """How long a waiter sleeps at most."""
    return GIVEN_CLOCK_NS if clock else SHARED_NS if words else OWN_NS


class Line:
    """Who waits for one bucket, in this process.

    The lock is held for a few steps at a time, and reentrant: a waiter may be collected as garbage
    while its line is served, in the same thread. So what was looked at may be gone a step later.
    """

    def __init__(self, source: Source) -> None:
        self.users = 0
        """Of a client's line: how many are in it, or about to be."""
        self._source = source
        self._waiting: OrderedDict[_Waiter, None] = OrderedDict()
        self._threads: OrderedDict[_Thread, None] = OrderedDict()
        self._timers: dict[asyncio.AbstractEventLoop, _Timer] = {}
        self._lock = threading.RLock()
        self._process = _forks

    def __len__(self) -> int:
        return len(self._waiting)

    @property
    def is_ours(self) -> bool:
        """Whether it was made in this process: after a fork those in it wait elsewhere."""
        return self._process == _forks

    async def wait(self, n: int, limit: Limit | None) -> None:
        """Take ``n`` tokens in turn, or raise `RateLimited` when that is over."""
        # Where it cannot wait it is told so at once, not only when it has to.
        loop = running_loop()
        if self._take_at_once(n, limit):
            return
        with self._lock:
            timer = self._timers.get(loop) or _Timer(self, loop)
            timer.tasks += 1
            self._timers[loop] = timer
            waiter = _Task(n, timer)
            self._waiting[waiter] = None
        try:
            if not timer.armed:
                timer.fire()
            if limit is not None:
                self._watch(waiter, limit)
            await waiter.future
        except BaseException:
            self._leave(waiter)
            raise
        finally:
            if waiter.expiry is not None:
                waiter.expiry.cancel()

    def block(self, n: int, limit: Limit | None) -> None:
        """As `wait`, for a thread."""
        if self._take_at_once(n, limit):
            return
        waiter = _Thread(n, self._threads)
        with self._lock:
            self._waiting[waiter] = self._threads[waiter] = None
        try:
            self._sleep(waiter, limit)
        except BaseException:
            self._leave(waiter)
            raise

    def _sleep(self, waiter: _Thread, limit: Limit | None) -> None:
        while True:
            wait_ns = self.serve()
            if waiter.served:
                return
            if limit is not None and limit.left_ns() <= 0:
                if not self._leave(waiter, keep=True):
                    raise _timed_out(wait_ns)
                return
            drives = _first(self._threads) is waiter
            longest = (
                self.patient(wait_ns) if drives else None,
                None if limit is None else limit.look_after_ns(),
            )
            waiter.sleep(min((each for each in longest if each is not None), default=None))

    def serve(self) -> int:
        """Serve from the first on; how long until the next may be, 0: nobody waits."""
        source = self._source
        with self._lock:
            while (waiter := _first(self._waiting)) is not None:
                if waiter.is_lost:
                    self._remove(waiter)
                    continue
                wait_ns, charge = source.take(waiter.n)
                if wait_ns and waiter in self._waiting:
                    return wait_ns
                if wait_ns:
                    continue
                if not self._remove(waiter):
                    source.give_back(waiter.n, charge)
                    continue
                waiter.served, waiter.charge = True, charge
                if not waiter.wake():
                    waiter.served = False
                    source.give_back(waiter.n, charge)
        return 0

    def patient(self, wait_ns: int) -> int:
        """How much of that time may be slept at once."""
        return min(wait_ns, self._source.patience_ns)

    def stir(self) -> None:
        """Tokens came back, or the first left: whoever is first now may have less to wait."""
        while True:
            wait_ns = self.serve()
            first = _first(self._waiting)
            if first is None or first.drive(wait_ns):
                return
            self._remove(first)  # its loop was closed meanwhile

    def _take_at_once(self, n: int, limit: Limit | None) -> bool:
        wait_ns = 0
        if not self._waiting:
            wait_ns, _ = self._source.take(n)
            if not wait_ns:
                return True
        if limit is not None and limit.left_ns() <= 0:
            raise _timed_out(wait_ns or self.serve())
        return False

    def _watch(self, waiter: _Task, limit: Limit) -> None:
        """End its wait once nothing is left, which a loop may tell too early."""
        if limit.left_ns() > 0:
            wait_s = loop_seconds(limit.look_after_ns())
            waiter.expiry = waiter.timer.loop.call_later(wait_s, self._watch, waiter, limit)
            return
        # Who was served meanwhile has its tokens; who is being cancelled leaves by itself.
        wait_ns = self.serve()
        if not waiter.future.done() and not self._leave(waiter, keep=True):
            waiter.future.set_exception(_timed_out(wait_ns))

    def _leave(self, waiter: _Waiter, *, keep: bool = False) -> bool:
        """Take a waiter out; whether it had been served. What it does not ``keep`` goes back."""
        with self._lock:
            was_first = _first(self._waiting) is waiter
            self._remove(waiter)
            served = waiter.served
            if served and not keep:
                waiter.served = False
                self._source.give_back(waiter.n, waiter.charge)
        if was_first or (served and not keep):
            self.stir()
        return served

    def _remove(self, waiter: _Waiter) -> bool:
        """Take it out of the line; whether it was still in it."""
        with self._lock:
            if waiter not in self._waiting:
                return False
            del self._waiting[waiter]
            if isinstance(waiter, _Task):
                timer = waiter.timer
                timer.tasks -= 1
                if not timer.tasks:
                    self._timers.pop(timer.loop, None)
                    if timer.is_here():
                        timer.disarm()
            elif isinstance(waiter, _Thread):
                was_driving = _first(self._threads) is waiter
                self._threads.pop(waiter, None)
                if was_driving and (heir := _first(self._threads)) is not None:
                    heir.wake()
            return True


class Lines:
    """A line for each client that somebody waits for; gone with the last of them."""

    def __init__(self, patience_ns: int) -> None:
        self._patience_ns = patience_ns
        self._begin()

    def _begin(self) -> None:
        self._lock = threading.RLock()
        self._process = _forks
        self._lines: dict[int, Line] = {}

    def __len__(self) -> int:
        return len(self._lines)

    def stir(self, key: int) -> None:
        """Tokens of a client came back."""
        found = self._lines.get(key)
        if found is not None and self._process == _forks:
            found.stir()

    @contextmanager
    def of(self, key: int, take: Take, give_back: GiveBack) -> Iterator[Line]:
        """The line of a client, for as long as somebody is in it."""
        if self._process != _forks:
            self._begin()
        lines, lock = self._lines, self._lock
        with lock:
            found = lines.get(key)
            line = Line(Source(take, give_back, self._patience_ns)) if found is None else found
            line.users += 1
            # Also one that was found: its last user may have been collected as garbage meanwhile.
            lines[key] = line
        try:
            yield line
        finally:
            with lock:
                line.users -= 1
                if not line.users and lines.get(key) is line:
                    del lines[key]


def _first(line: OrderedDict[T, Any]) -> T | None:
    while True:
        try:
            return next(iter(line), None)
        except RuntimeError:  # it changed between the two calls
            continue


def _timed_out(wait_ns: int) -> RateLimited:
    return RateLimited("waited in vain for tokens", wait_ns)
