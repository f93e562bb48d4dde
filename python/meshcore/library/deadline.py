"""Until when what is done now is of use to anybody."""

from __future__ import annotations

import asyncio
from contextlib import contextmanager, suppress
from contextvars import ContextVar
from typing import TYPE_CHECKING, Self

from meshcore._core import now_ns
from meshcore.config.units import time_ns
from meshcore.errors import DeadlineExceeded, DeadlinePassed, RateLimited

if TYPE_CHECKING:
    from collections.abc import Iterator
    from datetime import timedelta
    from types import TracebackType


class _Block:
    """A block of a deadline, and the one around it."""

    __slots__ = ("around", "cut", "over", "owner", "until_ns")

    def __init__(self, owner: Deadline, until_ns: int, cut: asyncio.Timeout | None) -> None:
        self.owner = owner
        self.until_ns = until_ns  # of this one and of those around it
        self.around = _innermost()
        self.cut = cut
        self.over = False


_block: ContextVar[_Block | None] = ContextVar("deadline", default=None)


def _innermost() -> _Block | None:
    """The innermost block that is not over: one may be left in another context than it was entered
    in, as that of a generator is, and tasks outlive the block that they were made in."""
    block = top = _block.get()
    while block is not None and block.over:
        block = block.around
    if block is not top:
        _block.set(block)
    return block


class Deadline:
    """A moment by which the work of a block is to be done; it counts from when this is made.

    What is called inside inherits it, also in tasks and `asyncio.to_thread`: `meshcore.Retry`
    begins no attempt after it, and who waits for tokens waits no longer. A block inside of another
    can only shorten its time. ``with`` ends nothing by itself (`check` does, where it is called);
    ``async with`` cancels what is awaited inside and raises `DeadlineExceeded`, a `TimeoutError`.
    """

    __slots__ = ("_open", "_until_ns")

    def __init__(self, time: str | float | timedelta) -> None:
        """A text such as ``2s``, seconds or a `timedelta` from now on; `ValueError` for others."""
        self._until_ns = now_ns() + time_ns(time)
        self._open: list[_Block] = []

    @property
    def left(self) -> float:
        """Seconds that are left; 0 when it is over."""
        return max(self._until_ns - now_ns(), 0) / 1e9

    def check(self) -> None:
        """Raise `DeadlinePassed` if it is over."""
        if self._until_ns <= now_ns():
            raise DeadlinePassed("the deadline has passed")

    def __enter__(self) -> Self:
        self._enter(None)
        return self

    def __exit__(self, *_error: object) -> None:
        self._leave()

    async def __aenter__(self) -> Self:
        cut = asyncio.timeout(self._shortest_ns() / 1e9 - now_ns() / 1e9)
        await cut.__aenter__()
        self._enter(cut)
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        block, is_here = self._leave()
        if block is None or block.cut is None:
            return
        if not is_here:
            # Whoever goes on where it was entered is not cut off by it later.
            if not block.cut.expired():
                block.cut.reschedule(None)
            return
        try:
            await block.cut.__aexit__(kind, error, trace)
        except TimeoutError as late:
            raise DeadlineExceeded("the deadline has passed") from late.__cause__

    def _shortest_ns(self) -> int:
        around = _innermost()
        return self._until_ns if around is None else min(self._until_ns, around.until_ns)

    def _enter(self, cut: asyncio.Timeout | None) -> None:
        block = _Block(self, self._shortest_ns(), cut)
        self._open.append(block)
        _block.set(block)

    def _leave(self) -> tuple[_Block | None, bool]:
        """The block that is over now, and whether it was entered in this context: else it is the
        one of this deadline that began last."""
        block = _innermost()
        is_here = block is not None and block.owner is self
        if not is_here:
            block = self._open[-1] if self._open else None
        if block is not None:
            block.over = True
            with suppress(ValueError):  # another thread was quicker
                self._open.remove(block)
        _innermost()
        return block, is_here


def left_ns() -> int | None:
    """Nanoseconds until the deadline of what is done now, if there is one; 0 when it is over."""
    block = _innermost()
    return None if block is None else max(block.until_ns - now_ns(), 0)


@contextmanager
def within(timeout: str | float | timedelta | None) -> Iterator[int | None]:
    """The nanoseconds that may be waited: a timeout, or what is left when that is less.

    Raises `DeadlinePassed` when that is over.
    """
    check()
    wanted, left = None if timeout is None else time_ns(timeout), left_ns()
    if left is None or (wanted is not None and wanted <= left):
        yield wanted
        return
    try:
        yield left
    except RateLimited:
        raise DeadlinePassed("the deadline passed before there were tokens") from None


def check() -> None:
    """Raise `DeadlinePassed` if the deadline of what is done now is over."""
    if left_ns() == 0:
        raise DeadlinePassed("the deadline has passed")
