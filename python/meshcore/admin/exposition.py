"""The metrics as text, made once for all who wait for them.

Many routes make a long text. However many clients ask for it, the loop makes one in a turn, and
between two of them answers whoever asks for less.
"""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

from meshcore._core import Answer

if TYPE_CHECKING:
    from collections.abc import Callable


class Exposition:
    """The metrics of one program."""

    def __init__(self, metrics: Callable[[str], tuple[bytes, str]]) -> None:
        self._metrics = metrics
        self._wanted: dict[str, asyncio.Future[Answer]] = {}  # by `accept`, the oldest first

    async def answer(self, accept: str) -> Answer:
        """The metrics as they are in a later turn, in the format that ``accept`` prefers."""
        wanted = self._wanted.get(accept)
        if wanted is None:
            loop = asyncio.get_running_loop()
            if not self._wanted:
                loop.call_soon(self._make)
            wanted = self._wanted[accept] = loop.create_future()
        return await asyncio.shield(wanted)  # one who leaves takes it from nobody else

    def _make(self) -> None:
        accept = next(iter(self._wanted))
        wanted = self._wanted.pop(accept)
        if self._wanted:
            asyncio.get_running_loop().call_soon(self._make)
        try:
            text, kind = self._metrics(accept)
        except Exception as error:
            wanted.set_exception(error)
            return
        wanted.set_result(Answer(200, [("content-type", kind)], text))
