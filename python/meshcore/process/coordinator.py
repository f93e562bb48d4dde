"""A change of the configuration in two steps, as in a transaction: every worker makes it ready, and
only when all have done so it is put in force; whatever refuses it, nothing has changed.
"""

from __future__ import annotations

import asyncio
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Protocol

from meshcore.config.change import change
from meshcore.errors import SegmentFullError

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable, Mapping

    from meshcore.config.change import Change
    from meshcore.config.snapshot import Snapshot
    from meshcore.errors import ConfigError
    from meshcore.process.socket_groups import SocketGroup, SocketGroups


class Workers(Protocol):
    """Those who serve: processes, or a worker in this loop."""

    @property
    def snapshot(self) -> Snapshot:
        """The configuration in force."""

    def reuseport_slots(self, new: Snapshot) -> int:
        """How many reuseport slots the sockets of a configuration have. Raises
        `OperationRefusedError` when there is no room for its workers."""

    async def prepare(self, delta: Change, moved: Mapping[str, SocketGroup]) -> None:
        """Make a change ready in all of them, or in none. ``moved`` are the sockets that are new
        to their listeners.

        Raises `ConfigError`, `LayerError`, `OSError`, `OperationRefusedError` and, with no room in
        the shared memory, `SegmentFullError`.
        """

    def too_small(self, new: Snapshot) -> ConfigError:
        """What to say of a configuration for which the shared memory has no room. Compiles it."""

    def decide(self, new: Snapshot) -> None:
        """What was made ready is in force from now on, whatever becomes of single workers; where it
        raises, it is not."""

    async def commit(self, moved: Mapping[str, SocketGroup], *, closes: bool) -> None:
        """Have all of them work by it. ``closes``: some sockets are no listener's any more."""


class Coordinator:
    """Makes one change after the other."""

    def __init__(self, workers: Workers, groups: SocketGroups, last_version: int) -> None:
        self._workers = workers
        self._groups = groups
        self.last_version = last_version
        """The last one that a configuration had that workers were to make ready, be it one that was
        refused."""
        self._lock = asyncio.Lock()
        self._putting: asyncio.Future[None] | None = None

    @property
    def next_version(self) -> int:
        """Of the next configuration. Workers never see two with one version, for the shared memory
        goes by it: one that they, or control, have begun to make ready is not given again. What is
        refused before that, as it cannot be read or wants too many workers, leaves it to the next.
        """
        return self.last_version + 1

    @asynccontextmanager
    async def turn(self) -> AsyncIterator[None]:
        """Nothing else changes meanwhile, nor before what is in force is so everywhere."""
        await self._lock.acquire()
        try:
            yield
        finally:
            putting, self._putting = self._putting, None
            if putting is None or putting.done():
                self._lock.release()
            else:  # its caller has gone
                putting.add_done_callback(lambda _: self._lock.release())

    async def change(self, new: Snapshot, decided: Callable[[], None]) -> None:
        """Put a configuration in force, within a turn; ``decided`` is called when it is.

        Raises `ConfigError`, `LayerError`, `OSError` or `OperationRefusedError`; then nothing has
        changed, unless ``decided`` was called: `OSError` then is of a socket that does not listen.
        A caller that is cancelled does not leave it half done.
        """
        reuseport_slots = self._workers.reuseport_slots(new)
        self.last_version = new.version
        delta = await asyncio.to_thread(change, self._workers.snapshot, new)
        groups = self._groups.prepare(new.listeners, reuseport_slots)
        before = self._groups.current
        moved = {name: group for name, group in groups.items() if before.get(name) is not group}
        try:
            await self._workers.prepare(delta, moved)
            self._workers.decide(new)
        except BaseException as error:
            self._groups.abandon(groups)
            if isinstance(error, SegmentFullError):
                raise await asyncio.to_thread(self._workers.too_small, new) from None
            raise
        closes = not {*before.values()} <= {*groups.values()}
        self._groups.commit(groups, new.listeners)
        decided()
        self._putting = asyncio.ensure_future(self._workers.commit(moved, closes=closes))
        await asyncio.shield(self._putting)
