"""Those who wait for tokens, in the order in which they came.

A `Line` stands before one bucket. Its first is served as soon as its tokens are there, and none
passes it, however few it asks for. The time is told by one timer for each event loop that has
waiters, and by the first of the threads that wait; each serves the first in line, so a loop that
stands still holds up no other, and n waiters cost O(n).

A handler of a signal may raise between any two steps. So each change is made of steps that may be
made again, the one by which the others are found last, and ends with `Finally` or `surely`.
"""

from __future__ import annotations

import asyncio
import os
import queue
import threading
from collections import OrderedDict
from contextlib import suppress
from functools import partial
from itertools import islice
from typing import TYPE_CHECKING, Any, Final, NamedTuple, TypeVar

from meshcore._core import Finally, surely
from meshcore.errors import RateLimited
from meshcore.library.pauses import GIVEN_CLOCK_NS, MILLISECOND, loop_seconds, running_loop

if TYPE_CHECKING:
    from collections.abc import Callable

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
    name: str | None
    """For those that wait in vain."""


class _Waiter:
    """Who waits: in a line once, until it is served or leaves."""

    __slots__ = ("charges", "gone", "has_taken", "must_recheck", "n")

    def __init__(self, n: int) -> None:
        self.n = n
        self.charges: list[Charge | None] = []
        """What it was served with; the one that takes it out gives it back."""
        self.has_taken = False
        """It goes on with its tokens."""
        self.gone = False
        """It takes none any more."""
        self.must_recheck = False
        """Those behind it have to be told that it left."""

    @property
    def is_lost(self) -> bool:
        """Whether it will never come for anything."""
        return self.gone

    def wake(self) -> bool:
        """Tell it that it was served; whether it could be told, now or before."""
        raise NotImplementedError

    def drive(self, wait_ns: int) -> bool:
        """Have the line served again after that time; whether that is arranged."""
        raise NotImplementedError

    def part(self) -> None:
        """Leave what is kept of its kind beside the line."""
        raise NotImplementedError

    def rest(self) -> None:
        """It waits no longer, in whatever thread that is said."""


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
        return self.gone or self.timer.loop.is_closed()

    def wake(self) -> bool:
        if not self.timer.is_here():
            return self.timer.call(self._resolve)
        self._resolve()
        # Cancelled, and not told yet; or out of time.
        return not (self.future.cancelled() or self.future.exception())

    def drive(self, wait_ns: int) -> bool:
        if self.timer.is_here():
            self.timer.arm(wait_ns)
            return True
        return self.timer.call(self.timer.fire)

    def part(self) -> None:
        self.timer.tasks.discard(self)
        self.timer.rest()

    def rest(self) -> None:
        if self.expiry is not None and self.timer.is_here():
            self.expiry.cancel()

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

    def part(self) -> None:
        threads = list(islice(self._threads, 2))
        if len(threads) > 1 and threads[0] is self:
            threads[1].wake()  # which drives from now on
        self._threads.pop(self, None)

    def sleep(self, limit_ns: int | None) -> None:
        with suppress(queue.Empty):
            self._pokes.get(timeout=None if limit_ns is None else limit_ns / 1e9)


class _Timer:
    """Serves a line by the clock of an event loop, while tasks of that loop wait in it."""

    __slots__ = ("_handle", "_line", "loop", "tasks")

    def __init__(self, line: Line, loop: asyncio.AbstractEventLoop) -> None:
        self.loop = loop
        self.tasks: set[_Task] = set()
        self._line = line
        self._handle: asyncio.TimerHandle | None = None

    @property
    def armed(self) -> bool:
        # What is overdue for that long was broken off.
        return self._handle is not None and self._handle.when() + 1 > self.loop.time()

    def is_here(self) -> bool:
        return asyncio._get_running_loop() is self.loop

    def call(self, function: Callable[[], None]) -> bool:
        """Have the loop call it, whatever thread that runs in; whether it is not closed."""
        try:
            self.loop.call_soon_threadsafe(surely, function)
        except RuntimeError:
            return False
        return True

    def fire(self) -> None:
        wait_ns = GIVEN_CLOCK_NS
        try:
            wait_ns = self._line.serve()
        finally:  # a clock that was given may raise
            self.arm(wait_ns)

    def arm(self, wait_ns: int) -> None:
        """Fire after that time, and not as it was to do before."""
        before, self._handle = self._handle, None
        if self.tasks:
            wait_s = loop_seconds(self._line.patient(wait_ns))
            self._handle = self.loop.call_later(wait_s, surely, self.fire)
        if before is not None:
            before.cancel()

    def rest(self) -> None:
        """If nothing is left that it fires for."""
        if self.tasks:
            return
        self._line.forget(self)
        if self._handle is not None and self.is_here():
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
        self.users: set[object] = set()
        """Of a client's line: who is in it, or about to be."""
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

    def forget(self, timer: _Timer) -> None:
        """A loop has no waiters any more."""
        if self._timers.get(timer.loop) is timer:
            del self._timers[timer.loop]

    async def wait(self, n: int, limit: Limit | None) -> None:
        """Take ``n`` tokens in turn, or raise `RateLimited` when that is over."""
        # Where it cannot wait it is told so at once, not only when it has to.
        loop = running_loop()
        if self._take_at_once(n, limit):
            return
        waiter = _Task(n, self._timers.get(loop) or _Timer(self, loop))
        with Finally(partial(self._leave, waiter)):
            with self._locked():
                timer = self._timers[loop] = waiter.timer
                timer.tasks.add(waiter)
                self._waiting[waiter] = None
            if not timer.armed:
                surely(timer.fire)
            if limit is not None:
                limit.on_expired = partial(self._look, waiter, limit)
                self._watch(waiter, limit)
            await waiter.future
            waiter.has_taken = True

    def block(self, n: int, limit: Limit | None) -> None:
        """As `wait`, for a thread."""
        if self._take_at_once(n, limit):
            return
        waiter = _Thread(n, self._threads)
        with Finally(partial(self._leave, waiter)):
            with self._locked():
                self._threads[waiter] = self._waiting[waiter] = None
            if limit is not None:
                limit.on_expired = waiter.wake
            self._sleep(waiter, limit)
            waiter.has_taken = True

    def _sleep(self, waiter: _Thread, limit: Limit | None) -> None:
        while True:
            wait_ns = self.serve()
            if waiter.charges:
                return
            if limit is not None and limit.left_ns() <= 0:
                raise self._timed_out(wait_ns)
            drives = _first(self._threads) is waiter
            longest = (
                self.patient(wait_ns) if drives else None,
                None if limit is None else limit.look_after_ns(),
            )
            waiter.sleep(min((each for each in longest if each is not None), default=None))

    def serve(self) -> int:
        """Serve from the first on; how long until the next may be, 0: the line is empty."""
        with self._locked():
            while (waiter := _first(self._waiting)) is not None:
                # A waiter with tokens was served before, and it was broken off.
                if not (waiter.charges or waiter.is_lost):
                    wait_ns, charge = self._source.take(waiter.n)
                    if wait_ns and waiter in self._waiting:
                        return wait_ns
                    if wait_ns:
                        continue
                    waiter.charges.append(charge)
                if waiter.is_lost or not waiter.wake():
                    waiter.gone = True
                self._remove(waiter)
        return 0

    def patient(self, wait_ns: int) -> int:
        """How much of that time may be slept at once."""
        return min(wait_ns, self._source.patience_ns)

    def recheck(self) -> None:
        """Tokens came back, or the first left: the first now may have less to wait."""
        while True:
            wait_ns = self.serve()
            first = _first(self._waiting)
            # One whose loop was closed meanwhile is not served: it is lost.
            if first is None or first.drive(wait_ns):
                return

    def _take_at_once(self, n: int, limit: Limit | None) -> bool:
        wait_ns = 0
        if not self._waiting:
            wait_ns, _ = self._source.take(n)
            if not wait_ns:
                return True
        if limit is not None and limit.left_ns() <= 0:
            raise self._timed_out(wait_ns or self.serve())
        return False

    def _look(self, waiter: _Task, limit: Limit) -> None:
        """As `_watch`, now; for callers in this loop."""
        if waiter.timer.is_here():
            waiter.rest()
            self._watch(waiter, limit)

    def _watch(self, waiter: _Task, limit: Limit) -> None:
        """End its wait once nothing is left, which a loop may tell too early."""
        # A waiter that was served has its tokens; a cancelled one leaves by itself.
        if waiter.gone or waiter.future.done():
            return
        after_ns = GIVEN_CLOCK_NS
        try:
            after_ns = limit.look_after_ns()
        finally:  # a clock that was given may raise
            if after_ns > 0:
                wait_s, loop = loop_seconds(after_ns), waiter.timer.loop
                waiter.rest()  # `surely` calls again what raised
                waiter.expiry = loop.call_later(wait_s, surely, self._watch, waiter, limit)
        if after_ns > 0:
            return
        wait_ns = 0
        try:
            wait_ns = self.serve()
        finally:
            if not (waiter.charges or waiter.gone or waiter.future.done()):
                waiter.future.set_exception(self._timed_out(wait_ns))

    def _leave(self, waiter: _Waiter) -> None:
        """A waiter goes, with the tokens that it has taken. What it has not taken goes back."""
        waiter.rest()
        if waiter.has_taken and waiter not in self._waiting:
            return
        if not self.is_ours:
            return  # it waits, or has its tokens, in the process that was forked
        with self._locked():
            waiter.gone = not waiter.has_taken
            if waiter in self._waiting or waiter.charges:
                waiter.must_recheck = True
            self._remove(waiter)
        if waiter.must_recheck:
            self.recheck()

    def _remove(self, waiter: _Waiter) -> None:
        waiter.part()
        self._waiting.pop(waiter, None)
        if waiter.gone and waiter.charges:
            with suppress(IndexError):  # collected as garbage meanwhile
                self._source.give_back(waiter.n, waiter.charges.pop())

    def _timed_out(self, wait_ns: int) -> RateLimited:
        name = self._source.name
        of = f" of {name}" if name else ""
        return RateLimited(f"waited in vain for tokens{of}", wait_ns, name)

    def _locked(self) -> Finally:
        return Finally(self._lock.release, self._lock.acquire)


class Lines:
    """A line for each client with a waiter; gone with the last of them."""

    def __init__(self, patience_ns: int, name: str | None) -> None:
        self._patience_ns = patience_ns
        self._name = name
        self._begin()

    def _begin(self) -> None:
        self._lock = threading.RLock()
        self._lines: dict[int, Line] = {}
        self._process = _forks

    def __len__(self) -> int:
        return len(self._lines)

    def recheck(self, key: int) -> None:
        """Tokens of a client came back."""
        found = self._lines.get(key)
        if found is not None and self._process == _forks:
            surely(found.recheck)

    def enter(self, key: int, user: object, take: Take, give_back: GiveBack) -> Line:
        """The line of a client, for as long as it has a waiter: until `leave`."""
        if self._process != _forks:
            self._begin()
        with self._locked():
            found = self._lines.get(key)
            if found is None:
                line = Line(Source(take, give_back, self._patience_ns, self._name))
            else:
                line = found
            line.users.add(user)
            # Also one that was found: its last user may have been collected as garbage meanwhile.
            self._lines[key] = line
        return line

    def leave(self, key: int, user: object) -> None:
        """A user goes, if it has come."""
        if self._process != _forks:
            return
        with self._locked():
            line = self._lines.get(key)
            if line is None:
                return
            line.users.discard(user)
            if not line.users and self._lines.get(key) is line:
                del self._lines[key]

    def _locked(self) -> Finally:
        return Finally(self._lock.release, self._lock.acquire)


def _first(line: OrderedDict[T, Any]) -> T | None:
    while True:
        try:
            return next(iter(line), None)
        except RuntimeError:  # it changed between the two calls
            continue
