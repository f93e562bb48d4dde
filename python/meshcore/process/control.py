"""Control: owns the configuration, the registry of shared memory and the sockets; serves no
clients."""

from __future__ import annotations

import contextlib
import logging
import time
from contextlib import asynccontextmanager
from dataclasses import replace
from typing import TYPE_CHECKING

from meshcore.admin.handlers import OperationRefusedError
from meshcore.errors import LayerError
from meshcore.process.aside import aside
from meshcore.process.coordinator import Coordinator
from meshcore.process.history import History, Refusal, Revision
from meshcore.process.registry import Registry
from meshcore.process.source import Draft
from meshcore.process.tickets import TicketKeys
from meshcore.process.worker_processes import WorkerProcesses

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable

    from meshcore.config.snapshot import Snapshot
    from meshcore.errors import ConfigError
    from meshcore.process.inheritance import Predecessor
    from meshcore.process.socket_groups import SocketGroups
    from meshcore.process.source import Source

log = logging.getLogger("meshcore")


class Control:
    """What `meshcore run` has one of."""

    def __init__(
        self,
        source: Source,
        history: History,
        registry: Registry,
        groups: SocketGroups,
        workers: WorkerProcesses,
        last_version: int,
    ) -> None:
        """Of what has begun; see `begin`."""
        self.source = source
        self.history = history
        self.registry = registry
        self.groups = groups
        self.workers = workers
        self.fleet = workers.fleet
        self._coordinator = Coordinator(workers, groups, last_version)
        self._is_writer = True  # of the registry; another program may have been, for a while
        self.refusal: Refusal | None = None
        """Of the last change, if it was refused, until `look_at_source` has settled it."""
        self._is_for_source = False  # what was refused is what the source said
        self.last_reload_s = 0.0
        self.reloads = {True: 0, False: 0}

    @classmethod
    async def begin(
        cls,
        source: Source,
        groups: SocketGroups,
        predecessor: Predecessor | None,
        *,
        workers: int | None,
        key_log: str | None,
        on_failure: Callable[[], None],
    ) -> Control:
        """Read the configuration, share its words and bind its sockets; go on where a predecessor
        was. ``workers`` and ``on_failure`` are as of `WorkerProcesses`.

        Raises `ConfigError`, `OSError`.
        """
        version = 1 if predecessor is None else predecessor.last_version + 1
        # Aside, which lets the workers of a predecessor go first.
        draft = await aside(source.read, version)
        snapshot, count = draft.snapshot, workers or draft.snapshot.workers
        registry = await aside(Registry.begin, snapshot, count, predecessor)
        # A predecessor may have had more workers once: the kernel spreads over all their queues.
        bound = groups.prepare(snapshot.listeners, max(count, groups.reuseport_slots))
        groups.commit(bound, snapshot.listeners)
        given = predecessor.tickets if predecessor is not None else None
        tickets = TicketKeys.imported(given, time.monotonic())
        processes = WorkerProcesses(
            snapshot,
            registry,
            groups,
            source.folder,
            count=workers,
            key_log=key_log,
            tickets=tickets,
            on_failure=on_failure,
        )
        origin = "start" if predecessor is None else "upgrade"
        history = History(predecessor.history if predecessor is not None else ())
        history.add(Revision.of(version, origin, draft.document))
        return cls(source, history, registry, groups, processes, version)

    @property
    def snapshot(self) -> Snapshot:
        """The configuration in force."""
        return self.workers.snapshot

    @property
    def last_version(self) -> int:
        """As `Coordinator.last_version`."""
        return self._coordinator.last_version

    def in_force(self) -> Draft:
        """The configuration in force, and the document that it was made of: behind the drain of a
        listener that says more than is in force. O(document)."""
        return Draft(self.snapshot, self.history.newest.document)

    def placed(self, error: LayerError) -> ConfigError:
        """What a worker says of a layer, with its places in the document of what is in force. For
        a thread."""
        return self.source.placed(error, self.history.newest.document)

    # --- a change -----------------------------------------------------------------------------

    async def reload(self) -> Snapshot:
        """Put in force what the source says now. Raises `ConfigError`, `OperationRefusedError` or
        `OSError`; then nothing has changed."""
        return await self._logged("reload", self.source.read)

    async def rollback(self, version: int | None) -> Snapshot:
        """Put an earlier configuration in force again. Raises as `reload`, and `LookupError`."""
        revision = self.history.back(version)

        def restored(version: int) -> Draft:
            document = revision.document
            return Draft(self.source.restore(document, version), document)

        return await self._logged(f"rollback to {revision.version}", restored)

    async def _logged(self, origin: str, read: Callable[[int], Draft]) -> Snapshot:
        try:
            async with self._turn():
                return await self._put(origin, read)
        except Exception as error:
            problems = "\n".join(Refusal.of(origin, error).problems)
            log.error("%s refused, nothing has changed: %s", origin, problems)
            self._log_other_source()
            raise

    async def _put(self, origin: str, read: Callable[[int], Draft]) -> Snapshot:
        def decided() -> None:
            self._count(None)
            self.history.add(Revision.of(draft.snapshot.version, origin, draft.document))

        is_read = False
        try:
            draft = await aside(read, self._coordinator.next_version)
            is_read = True
            try:
                await self._coordinator.change(draft.snapshot, decided)
            except LayerError as error:
                raise await aside(self.source.placed, error, draft.document) from error
        except Exception as error:
            self._count(Refusal.of(origin, error))
            # A port that is taken and layers refuse the same text that is in force.
            self._is_for_source = origin == "reload" and (
                not is_read or not self._source_is_in_force()
            )
            raise
        log.info("%s: configuration %d is in force", origin, draft.snapshot.version)
        self._log_other_source()
        return draft.snapshot

    def look_at_source(self) -> bool:
        """Whether the source says what is in force, in all files that it names too; else a restart
        is another configuration's, as it is after the drain of a listener. Where it does, what was
        refused for what it said before is settled. O(files)."""
        is_in_force = self._source_is_in_force()
        if is_in_force and self.refusal is not None and self._is_for_source:
            log.info("%s is again as configuration %d", self.source.name, self.snapshot.version)
            self.refusal = None
        return is_in_force

    def _count(self, refusal: Refusal | None) -> None:
        self.refusal = refusal
        self.last_reload_s = time.time()
        self.reloads[refusal is None] += 1

    def _source_is_in_force(self) -> bool:
        newest, snapshot = self.history.newest, self.snapshot
        is_newest = newest.version == snapshot.version
        return is_newest and self.source.says(newest.digest, snapshot.files)

    def _log_other_source(self) -> None:
        if not self.look_at_source():
            log.warning(
                "%s, or a file that it names, differs from configuration %d, which is in force: "
                "the next reload, upgrade or restart reads it",
                self.source.name,
                self.snapshot.version,
            )

    @asynccontextmanager
    async def _turn(self) -> AsyncIterator[None]:
        """One change after the other, and none once another program has taken over."""
        async with self._coordinator.turn():
            if self.fleet.stopping:
                raise OperationRefusedError("the program is at its end, or another has taken over")
            if not self._is_writer:
                self._regain()
            yield

    @asynccontextmanager
    async def standing_still(self) -> AsyncIterator[None]:
        """Nothing changes: another program takes over. If it does not, all goes on as before.

        Workers that end meanwhile are replaced: the names that they look for are kept by the one
        that takes the registry over.
        """
        async with self._turn():
            await self.fleet.settled()
            try:
                yield
            except BaseException:
                self._is_writer = False
                with contextlib.suppress(OSError):  # no descriptors: before the next change then
                    self._regain()
                raise
            self.registry.release()
            self.fleet.hand_over()

    def _regain(self) -> None:
        """A new program had the registry for a while and is gone."""
        self.registry.regain(self.snapshot)
        self._coordinator.last_version += 1  # it had one
        self._is_writer = True

    async def drain_listener(self, name: str) -> Snapshot:
        """Close a listener and drain its connections, until the next reload opens it again.

        Raises `LookupError` for one that is not there, `OperationRefusedError` for the last one.
        """
        async with self._turn():
            old = self.snapshot
            kept = tuple(spec for spec in old.listeners if spec.name != name)
            if len(kept) == len(old.listeners):
                raise LookupError(f"there is no listener named {name!r}")
            if not kept:
                raise OperationRefusedError(f"{name!r} is the last listener: drain the whole")
            listeners = {k: v for k, v in old.resources["listeners"].items() if k != name}
            version = self._coordinator.next_version
            resources = {**old.resources, "listeners": listeners, "config_version": version}
            new = replace(old, listeners=kept, resources=resources)
            await self._coordinator.change(new, lambda: None)
            log.info("listener %s is closed and drains", name)
            return new
