"""The metrics as text, made once for all who wait for them.

Many routes make a long text: 20 MB and 50 ms for ten thousand. However many clients ask for it, the
loop makes one or hands out one copy in a turn, and in between answers smaller requests.
"""

from __future__ import annotations

import asyncio
from collections import deque
from typing import TYPE_CHECKING, TypeAlias

from meshcore._core import Answer, Engine

if TYPE_CHECKING:
    from collections.abc import Callable

    _Waiting: TypeAlias = deque[asyncio.Future[Answer]]


class Exposition:
    """The metrics of one program."""

    def __init__(self, metrics: Callable[[str], tuple[bytes, str]]) -> None:
        self._metrics = metrics
        self._wanted: dict[str, _Waiting] = {}  # by format, the oldest first
        self._is_busy = False

    async def answer(self, accept: str) -> Answer:
        """The metrics as they are in a later turn, in the format that ``accept`` prefers."""
        loop = asyncio.get_running_loop()
        place: asyncio.Future[Answer] = loop.create_future()
        self._wanted.setdefault(Engine.metrics_type(accept), deque()).append(place)
        if not self._is_busy:
            self._is_busy = True
            loop.call_soon(self._make)
        return await place

    def _make(self) -> None:
        """Make what is wanted first, for those who are still there."""
        wanted = next(iter(self._wanted))
        waiting = deque(place for place in self._wanted.pop(wanted) if not place.done())
        made: Answer | Exception | None = None
        if waiting:
            try:
                text, kind = self._metrics(wanted)
                made = Answer(200, [("content-type", kind)], text)
            except Exception as error:
                made = error
        self._hand_out(made, waiting)

    def _hand_out(self, made: Answer | Exception | None, waiting: _Waiting) -> None:
        while waiting and waiting[0].done():
            waiting.popleft()  # who left has cancelled it
        if waiting:
            place = waiting.popleft()
            if isinstance(made, Exception):
                place.set_exception(made)
            elif made is not None:
                place.set_result(made)
        loop = asyncio.get_running_loop()
        if waiting:
            loop.call_soon(self._hand_out, made, waiting)
        elif self._wanted:
            loop.call_soon(self._make)
        else:
            self._is_busy = False
