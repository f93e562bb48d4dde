"""Until when what is done now is of use to anybody."""

from __future__ import annotations

import asyncio
from contextlib import contextmanager
from contextvars import ContextVar
from typing import TYPE_CHECKING, NamedTuple, Self

from meshcore._core import now_ns
from meshcore.config.units import time_ns
from meshcore.errors import DeadlineExceeded, RateLimited

if TYPE_CHECKING:
    from collections.abc import Iterator
    from datetime import timedelta
    from types import TracebackType


class _Block(NamedTuple):
    """A block that is under way in this context, and the one around it."""

    owner: Deadline
    until_ns: int
    around: _Block | None
    cut: asyncio.Timeout | None


_block: ContextVar[_Block | None] = ContextVar("deadline", default=None)


class Deadline:
    """A moment by which the work of a block is to be done; it counts from when this is made.

    What is called inside inherits it, also in tasks and `asyncio.to_thread`: `meshcore.Retry`
    begins no attempt after it, and who waits for tokens waits no longer. A block inside of another
    can only shorten its time. ``with`` ends nothing by itself (`check` does, where it is called);
    ``async with`` cancels what is awaited inside and raises `DeadlineExceeded`, a `TimeoutError`.
    """

    __slots__ = ("_cuts", "_until_ns")

    def __init__(self, time: str | float | timedelta) -> None:
        """A text such as ``2s``, seconds or a `timedelta` from now on; `ValueError` for others."""
        self._until_ns = now_ns() + time_ns(time)
        self._cuts: list[asyncio.Timeout] = []

    @property
    def left(self) -> float:
        """Seconds that are left; 0 when it is over."""
        return max(self._until_ns - now_ns(), 0) / 1e9

    def check(self) -> None:
        """Raise `DeadlineExceeded` if it is over."""
        if self._until_ns <= now_ns():
            raise DeadlineExceeded("the deadline has passed")

    def __enter__(self) -> Self:
        self._enter(None)
        return self

    def __exit__(self, *_error: object) -> None:
        self._leave()

    async def __aenter__(self) -> Self:
        cut = asyncio.timeout(self._shortest_ns() / 1e9 - now_ns() / 1e9)
        await cut.__aenter__()
        self._cuts.append(cut)
        self._enter(cut)
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        block = self._leave()
        if block is None or block.cut is None:
            # Left where it was not entered: whoever goes on there is not cut off by it later.
            if self._cuts and not (lost := self._cuts.pop()).expired():
                lost.reschedule(None)
            return
        self._cuts.remove(block.cut)
        try:
            await block.cut.__aexit__(kind, error, trace)
        except TimeoutError as late:
            raise DeadlineExceeded("the deadline has passed") from late.__cause__

    def _shortest_ns(self) -> int:
        around = _block.get()
        return self._until_ns if around is None else min(self._until_ns, around.until_ns)

    def _enter(self, cut: asyncio.Timeout | None) -> None:
        _block.set(_Block(self, self._shortest_ns(), _block.get(), cut))

    def _leave(self) -> _Block | None:
        # A generator may be left in another context than it was entered in: there is none to end.
        block = _block.get()
        if block is None or block.owner is not self:
            return None
        _block.set(block.around)
        return block


def left_ns() -> int | None:
    """Nanoseconds until the deadline of what is done now, if there is one; 0 when it is over."""
    block = _block.get()
    return None if block is None else max(block.until_ns - now_ns(), 0)


@contextmanager
def within(timeout: str | float | timedelta | None) -> Iterator[int | None]:
    """The nanoseconds that may be waited: a timeout, or what is left when that is less.

    Raises `DeadlineExceeded` when that is over.
    """
    check()
    wanted, left = None if timeout is None else time_ns(timeout), left_ns()
    if left is None or (wanted is not None and wanted <= left):
        yield wanted
        return
    try:
        yield left
    except RateLimited:
        raise DeadlineExceeded("the deadline passed before there were tokens") from None


def check() -> None:
    """Raise `DeadlineExceeded` if the deadline of what is done now is over."""
    if left_ns() == 0:
        raise DeadlineExceeded("the deadline has passed")
