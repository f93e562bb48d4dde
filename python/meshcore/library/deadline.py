"""Until when what is done now is of use."""

from __future__ import annotations

import asyncio
from contextlib import contextmanager, suppress
from contextvars import ContextVar
from typing import TYPE_CHECKING, Final

from meshcore._core import DeadlineCore, now_ns, surely
from meshcore.config.units import given_ns, named_ns
from meshcore.config.whole import check_whole
from meshcore.errors import DeadlineExceeded, DeadlinePassed, RateLimited
from meshcore.library.pauses import GIVEN_CLOCK_NS, MILLISECOND, loop_seconds, running_loop
from meshcore.library.stacks import caller, entered_by, is_moving, leaving, noted
from meshcore.library.times import check_clock

if TYPE_CHECKING:
    from collections.abc import Callable, Coroutine, Iterator
    from datetime import timedelta
    from types import FrameType, TracebackType

    from meshcore.library.times import Clock


# How often the loop goes round, a millisecond each, before a block that is over is cut off in which
# a task waits for tokens: what waits for that task has to hear of it.
_TURNS: Final = 5


class _Block:
    """A block of a deadline, and the one around it."""

    __slots__ = (
        "around",
        "cut",
        "exits",
        "loop",
        "others",
        "over",
        "owner",
        "place",
        "timer",
        "turns",
        "until_ns",
        "waiting",
    )

    def __init__(
        self, owner: Deadline, frame: FrameType, loop: asyncio.AbstractEventLoop | None
    ) -> None:
        """One that `frame` enters, and that cuts off what is awaited in it in a ``loop``."""
        self.owner = owner
        self.around = around = _innermost(frame)
        # Of this one and of those around it: by its own clock, and by each other one.
        limits = {} if around is None else around.limits()
        until_ns = limits.pop(owner._clock, owner._until_ns)
        self.until_ns = min(until_ns, owner._until_ns)
        self.others = tuple(limits.items())
        self.loop = loop
        self.cut = None if loop is None else asyncio.timeout(None)
        self.timer: asyncio.Handle | None = None
        self.over = False
        self.exits = entered_by(frame, lambda _gone: surely(self.is_over))
        """Of the `ExitStack` that is to leave it, those that it has noted."""
        exits = None if self.exits is None else self.exits()
        self.place = 0 if exits is None else noted(exits, owner)
        """How many of this deadline's it had noted before."""
        self.turns = _TURNS
        self.waiting: set[Limit] = set()
        """Of who waits for tokens inside, in any task or thread."""

    def limits(self) -> dict[Clock, int]:
        return {self.owner._clock: self.until_ns, **dict(self.others)}

    def left_ns(self) -> int:
        """What is left; less than 0: for how long it has been over."""
        left = self.until_ns - self.owner._clock()
        for clock, until_ns in self.others:
            left = min(left, until_ns - clock())
        return left

    def look_after_ns(self) -> int:
        """How long may be slept at most before it is asked again."""
        left_ns = max(self.left_ns(), 0)
        own = self.owner._clock is now_ns and not self.others
        return left_ns if own else min(left_ns, GIVEN_CLOCK_NS)

    def is_over(self, entering: FrameType | None = None) -> bool:
        """Whether it was left, or never will be. O(1), or as many exits as its `ExitStack` has."""
        if not self.over and self.exits is not None and self._is_lost(self.exits(), entering):
            self.owner._undo(self)
        return self.over

    def _is_lost(self, exits: object, entering: FrameType | None) -> bool:
        # What cuts off is of its loop alone.
        if self.loop is not None and asyncio._get_running_loop() is not self.loop:
            return False
        if exits is None:
            return True
        return noted(exits, self.owner) <= self.place and not is_moving(exits, entering)

    def is_of(self, owner: Deadline, exits: object) -> bool:
        """Whether it is a deadline's, and the `ExitStack` with these exits entered it, or none."""
        return self.owner is owner and (self.exits and self.exits()) is exits

    def begin(self) -> None:
        """Cut off what is awaited once nothing is left."""
        if self.loop is None:
            return
        if self.exits is None:
            self.watch()
        else:  # its stack may never note it
            self.timer = self.loop.call_soon(surely, self.watch)

    def watch(self) -> None:
        """As `begin`: a loop may call too early, and a clock that was given may stand still."""
        if self.is_over() or self.cut is None or self.loop is None:
            return
        loop, after_ns = self.loop, GIVEN_CLOCK_NS
        try:
            after_ns = self.look_after_ns()
        finally:  # a clock that was given may raise
            if after_ns <= 0:
                after_ns = self._turn_ns(loop)
            if self.timer is not None:
                self.timer.cancel()  # `surely` calls again what raised
            if after_ns > 0:
                self.timer = loop.call_later(loop_seconds(after_ns), surely, self.watch)
            else:
                self.cut.reschedule(loop.time())

    def _turn_ns(self, loop: asyncio.AbstractEventLoop) -> int:
        """How long it is left alone although it is over: what waits for tokens ends by itself, as
        that says nothing of a service."""
        if not self.turns or (self.turns == _TURNS and not self.waiting):
            return 0
        self.turns -= 1
        for limit in list(self.waiting):
            if limit.on_expired is not None:
                loop.call_soon(surely, limit.on_expired)
        return MILLISECOND

    def spare(self) -> None:
        """What goes on where it was entered is not cut off by it later."""
        cut = self.cut
        if cut is not None and cut.when() is not None and not cut.expired():
            cut.reschedule(None)

    def end(self) -> None:
        self.over = True
        self.exits = None
        # What is over would else hold all that began before it, over and over.
        self.around = _living(self.around)
        if self.timer is not None:
            self.timer.cancel()
            self.timer = None


_block: ContextVar[_Block | None] = ContextVar("deadline", default=None)


def _living(block: _Block | None, entering: FrameType | None = None) -> _Block | None:
    while block is not None and block.is_over(entering):
        block = block.around
    return block


def _innermost(entering: FrameType | None = None) -> _Block | None:
    """The innermost block that is not over: one may be left in another context than it was entered
    in, as that of a generator is, and tasks outlive the block that they were made in."""
    top = _block.get()
    block = _living(top, entering)
    if block is not top:
        _block.set(block)
    return block


class Deadline(DeadlineCore):
    """A moment by which the work of a block is to be done; it counts from when this is made.

    What is called inside inherits it, also in tasks and `asyncio.to_thread`: `meshcore.Retry`
    begins no attempt after it, and who waits for tokens waits no longer. A block inside of another
    can only shorten its time. ``with`` ends nothing by itself (`check` does, where it is called);
    ``async with`` cancels what is awaited inside and raises `DeadlineExceeded`, a `TimeoutError`.
    """

    __slots__ = ("_clock", "_open", "_until_ns")

    def __init__(self, time: str | float | timedelta, *, clock: Clock | None = None) -> None:
        """A text such as ``2s``, seconds or a `timedelta` from now on; `ValueError` for others.

        ``clock`` gives nanoseconds, for tests; who waits looks at it every 10 ms.
        """
        check_clock(clock)
        self._clock = now_ns if clock is None else clock
        now = self._clock() if clock is None else check_whole("clock", clock(), 0, _LATEST_NS)
        self._until_ns = named_ns("time", time) + now
        self._open: list[_Block] = []

    @property
    def left(self) -> float:
        """Seconds that are left; 0 when it is over."""
        return max(self._until_ns - self._clock(), 0) / 1e9

    def check(self) -> None:
        """Raise `DeadlinePassed` if it is over."""
        if self._until_ns <= self._clock():
            raise DeadlinePassed("the deadline has passed")

    def __repr__(self) -> str:
        return f"<Deadline: {self.left:.3f} s left>"

    # Called by the core, which calls again what a handler of a signal broke off.
    def _block(self, cuts: bool) -> _Block:
        """One that has not begun. `RuntimeError` where none can cut."""
        return _Block(self, caller(), running_loop() if cuts else None)

    def _begin(self, block: _Block) -> None:
        if block.cut is not None:
            _run(block.cut.__aenter__())
        self._open.append(block)
        _block.set(block)
        block.begin()

    def _undo(self, block: _Block) -> None:
        """It has not begun, or not quite."""
        block.end()
        self._close(block)
        block.spare()

    def _end(self, found: list[tuple[_Block, bool]]) -> None:
        """Find the block that is over now, and whether it was entered in this context: else it is
        the one of its `ExitStack`, or of this deadline, that began last."""
        if not found:
            block, exits = _innermost(), leaving(caller())
            is_here = block is not None and block.is_of(self, exits)
            if not is_here:
                others = [each for each in list(self._open) if each.is_of(self, exits)]
                block = next(reversed(others or self._open), None)
            if block is None:
                return
            found.append((block, is_here))
        block = found[0][0]
        block.end()
        self._close(block)

    def _close(self, block: _Block) -> None:
        with suppress(ValueError):  # another thread was quicker
            self._open.remove(block)
        _innermost()

    def _cut_off(
        self,
        found: list[tuple[_Block, bool]],
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        """Raise `DeadlineExceeded` if what was awaited in a block was cut off for it."""
        if not found:
            return
        block, is_here = found[0]
        if not is_here:
            block.spare()
        elif block.cut is not None:
            try:
                _run(block.cut.__aexit__(kind, error, trace))
            except TimeoutError as late:
                block.cut = None
                raise DeadlineExceeded("the deadline has passed") from late.__cause__
        block.cut = None


def _run(begun: Coroutine[object, None, object]) -> None:
    """A coroutine of asyncio's that never waits."""
    with suppress(StopIteration):
        begun.send(None)


def left_ns() -> int | None:
    """Nanoseconds until the deadline of what is done now, if there is one; 0 when it is over."""
    block = _innermost()
    return None if block is None else max(block.left_ns(), 0)


class Limit:
    """How long may be waited: for a timeout, by the clock of what is waited for, and until the
    deadline around it."""

    __slots__ = ("_around", "_now", "_until_ns", "on_expired")

    def __init__(self, timeout_ns: int | None, now: Clock, around: _Block | None) -> None:
        self._until_ns = None if timeout_ns is None else now() + timeout_ns
        self._now = now
        self._around = around
        self.on_expired: Callable[[], object] | None = None
        """Called when a deadline around it is over: the waiter looks at it then."""

    def enter(self) -> None:
        """It is waited, inside of all these deadlines."""
        block = self._around
        while block is not None:
            block.waiting.add(self)
            block = block.around

    def leave(self) -> None:
        """No more."""
        self.on_expired = None
        block = self._around
        while block is not None:
            block.waiting.discard(self)
            block = block.around

    def left_ns(self) -> int:
        """What is left; 0 or less when it is over."""
        if self._around is None:
            return self._own_ns()
        return min(self._own_ns(), self._around.left_ns())

    def look_after_ns(self) -> int:
        """How long may be slept at most before it is asked again."""
        given = self._until_ns is not None and self._now is not now_ns
        longest = GIVEN_CLOCK_NS if given else _NEVER_NS
        if self._around is not None:
            longest = min(longest, self._around.look_after_ns())
        return min(longest, max(self.left_ns(), 0))

    def is_timed_out(self) -> bool:
        """Whether the timeout was over first."""
        around = self._around
        return around is None or self._own_ns() <= around.left_ns()

    def _own_ns(self) -> int:
        return _NEVER_NS if self._until_ns is None else self._until_ns - self._now()


_NEVER_NS: Final = 1 << 63
# What 64 bits hold.
_LATEST_NS: Final = (1 << 64) - 1


@contextmanager
def within(
    timeout: str | float | timedelta | None, now: Clock = now_ns, name: str | None = None
) -> Iterator[Limit | None]:
    """How long may be waited: a timeout by a clock, or what is left when that is less.

    Raises `DeadlinePassed` when that is over, with the ``name`` of what is waited for.
    """
    check(name)
    around = _innermost()
    if timeout is None and around is None:
        yield None
        return
    limit = Limit(None if timeout is None else given_ns(timeout), now, around)
    try:
        limit.enter()
        yield limit
    except RateLimited as late:
        if limit.is_timed_out():
            raise
        of = f" of {late.name}" if late.name else ""
        text = f"the deadline passed before there were tokens{of}"
        raise DeadlinePassed(text, late.retry_after_ns, late.name) from None
    finally:
        limit.leave()


def check(name: str | None = None) -> None:
    """Raise `DeadlinePassed` if the deadline of what is done now is over."""
    if left_ns() == 0:
        raise DeadlinePassed("the deadline has passed", 0, name)
