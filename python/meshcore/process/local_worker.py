"""The one worker of a program's own proxy, in the loop of that program."""

from __future__ import annotations

from typing import TYPE_CHECKING

from meshcore.process.room import too_small
from meshcore.process.socket_groups import close_sockets

if TYPE_CHECKING:
    import socket
    from collections.abc import Mapping

    from meshcore.config.change import Change
    from meshcore.config.snapshot import Snapshot
    from meshcore.downstream.listener import Listener
    from meshcore.errors import ConfigError
    from meshcore.process.prepared import Prepared
    from meshcore.process.socket_groups import SocketGroup
    from meshcore.process.worker import Worker

    _Sockets = dict[str, dict[int, socket.socket]]


class LocalWorker:
    """The `Workers` of a `Proxy`: its engine is the registry, too, and commits with it."""

    def __init__(self, snapshot: Snapshot, segment_bytes: int) -> None:
        self.snapshot = snapshot
        self.worker: Worker | None = None
        """As long as it serves."""
        self._segment_bytes = segment_bytes
        self._ready: tuple[Prepared, _Sockets] | None = None
        self._opening: tuple[list[Listener], _Sockets] | None = None
        self.layer_counts: dict[str, dict[str, str]] = {}
        """What layers in Python count, and what that is, by what the configuration calls them."""

    async def begin(
        self, worker: Worker, prepared: Prepared, groups: Mapping[str, SocketGroup]
    ) -> None:
        """Serve the first configuration. Raises `OSError`."""
        self.worker = worker
        self.layer_counts = worker.layer_counts(prepared)
        await worker.commit(prepared, _own_sockets(groups))

    def reuseport_slots(self, new: Snapshot) -> int:
        """As `Workers.reuseport_slots`."""
        return 1

    async def prepare(self, delta: Change, moved: Mapping[str, SocketGroup]) -> None:
        """As `Workers.prepare`."""
        assert self.worker is not None
        prepared = await self.worker.prepare(delta)
        self._ready = prepared, _own_sockets(moved)

    def too_small(self, new: Snapshot) -> ConfigError:
        """As `Workers.too_small`."""
        return too_small(new, 1, self._segment_bytes, runs=True)

    def decide(self, new: Snapshot) -> None:
        """As `Workers.decide`: requests that begin from now on see all of it."""
        assert self.worker is not None
        assert self._ready is not None
        (prepared, sockets), self._ready = self._ready, None
        try:
            counts = self.worker.layer_counts(prepared)
            self._opening = self.worker.put(prepared), sockets
        except BaseException:
            close_sockets(sockets)
            raise
        self.snapshot, self.layer_counts = new, counts

    async def commit(
        self,
        moved: Mapping[str, SocketGroup],
        *,
        closes: bool,
    ) -> None:
        """As `Workers.commit`. Raises `OSError` for a socket that does not listen."""
        assert self.worker is not None
        assert self._opening is not None
        (reopened, sockets), self._opening = self._opening, None
        await self.worker.open(reopened, sockets)


def _own_sockets(groups: Mapping[str, SocketGroup]) -> _Sockets:
    """Descriptors for the worker to close. Raises `OSError` when there are none left; then none
    is open."""
    sockets: _Sockets = {}
    try:
        for name, group in groups.items():
            sockets[name] = {0: group.of_slot(0)[1].dup()}
    except OSError:
        close_sockets(sockets)
        raise
    return sockets
