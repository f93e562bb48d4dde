"""Connections of the load: as many as there shall be, at all times."""

from __future__ import annotations

import asyncio
from abc import ABC, abstractmethod

from tests.process.load_book import Book


class Pool(ABC):
    """What closes is replaced. That none is to be had counts as a failed request."""

    def __init__(self, name: str, at: tuple[str, int], size: int, book: Book) -> None:
        self.name = name
        self._at = at
        self._size = size
        self.book = book
        self._open = 0
        self._tasks: set[asyncio.Task[None]] = set()
        self.stopping = False

    @abstractmethod
    def protocol(self) -> asyncio.Protocol:
        """A new connection."""

    @abstractmethod
    def ask(self, due_s: float) -> None:
        """Send a request that is due at that time."""

    def open(self) -> None:
        """Have as many as there shall be."""
        while self._open < self._size and not self.stopping:
            self._open += 1
            task = asyncio.get_running_loop().create_task(self._connect())
            self._tasks.add(task)
            task.add_done_callback(self._tasks.discard)

    async def _connect(self) -> None:
        try:
            await asyncio.get_running_loop().create_connection(self.protocol, *self._at)
        except OSError as error:
            self.book.fail(self.name, f"connect: {error}", 0)
            await asyncio.sleep(0.05)
            self.closed()

    def closed(self) -> None:
        """One is not there any more, or takes no further requests."""
        self._open -= 1
        self.open()
