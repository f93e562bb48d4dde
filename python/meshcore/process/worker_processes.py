"""What worker processes are told: the configuration at their start, its sockets, each change."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import time
from typing import TYPE_CHECKING, Any, Final

from meshcore.admin.handlers import OperationRefusedError
from meshcore.config.change import Change, change
from meshcore.process import messages
from meshcore.process.child import ChildState
from meshcore.process.fleet import Fleet
from meshcore.process.room import too_small

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping
    from pathlib import Path

    from meshcore._core import Prepared
    from meshcore.config.snapshot import Snapshot
    from meshcore.errors import ConfigError
    from meshcore.process.child import Child
    from meshcore.process.registry import Registry
    from meshcore.process.socket_groups import SocketGroup, SocketGroups
    from meshcore.process.tickets import TicketKeys

log = logging.getLogger("meshcore")

# A worker that takes longer to answer while a change is prepared makes it fail.
ANSWER_S: Final = 30.0


class WorkerProcesses:
    """The `Workers` of `meshcore run`, and the `Owner` of their fleet."""

    def __init__(
        self,
        snapshot: Snapshot,
        registry: Registry,
        groups: SocketGroups,
        folder: Path,
        *,
        count: int | None,
        key_log: str | None,
        tickets: TicketKeys,
        on_failure: Callable[[], None],
    ) -> None:
        """``count`` goes before what a configuration says, and what that says before ``tickets``;
        ``on_failure``: no worker can start."""
        self.snapshot = snapshot
        self._registry = registry
        self._groups = groups
        self._folder = folder
        self._count = count
        self._key_log = key_log
        self.tickets = tickets
        self._whole: Change | None = None  # what a worker begins with, once one is to begin
        self._prepared: Prepared | None = None
        self.layer_counts: dict[str, dict[str, str]] = {}
        """What layers in Python count, and what that is, by what the configuration calls them."""
        self._prepared_counts: dict[str, dict[str, str]] = {}
        reuseport_slots = max(self.count, groups.reuseport_slots)
        self.fleet = Fleet(registry, self, on_failure, reuseport_slots)

    @property
    def count(self) -> int:
        """How many there shall be."""
        return self._count or self.snapshot.workers

    # --- at any time --------------------------------------------------------------------------

    def greet(self, child: Child) -> None:
        """Send a new worker its first message."""
        if self._whole is None:
            self._whole = change(None, self.snapshot)
        names, sockets = _named_sockets(self._groups.current, [child.reuseport_slot])
        assert child.slot is not None
        folder, tickets = str(self._folder), self._ticket_keys
        start = messages.Start(child.slot, self._whole, names, folder, tickets, self._key_log)
        child.send(start, [self._registry.segment.fileno(), *sockets])

    @property
    def _ticket_keys(self) -> tuple[bytes, ...]:
        return self.snapshot.ticket_keys or self.tickets.keys

    def note_layer_counts(self, counts: dict[str, dict[str, str]]) -> None:
        """A worker may have another version of a class than those before it: all is told."""
        _add(self.layer_counts, counts)

    def look_after_tickets(self) -> None:
        """Seal TLS tickets with another key if it is time, in every worker."""
        if self.tickets.look(time.monotonic()):
            self._send_tickets()

    def _send_tickets(self) -> None:
        for child in self.fleet.living():
            child.send(messages.NewTickets(self._ticket_keys))

    def reopen_log(self) -> None:
        """Have every worker open the file of its access log anew."""
        for child in self.fleet.living():
            child.send(messages.ReopenLog())

    def hand_over(self, child: Child, reuseport_slot: int) -> None:
        """Send a worker the sockets of a reuseport slot that no worker accepts from. Raises
        `OSError` without descriptors."""
        _send_slot(child, reuseport_slot, self._groups.current)

    # --- a change -----------------------------------------------------------------------------

    def reuseport_slots(self, new: Snapshot) -> int:
        """As `Workers.reuseport_slots`: those that ever had a worker keep their sockets."""
        workers = self._count or new.workers
        if workers > (room := self._registry.room):
            raise OperationRefusedError(
                f"{workers} workers: there is room for {room} until a restart"
            )
        return max(workers, self.fleet.reuseport_slots)

    async def prepare(self, delta: Change, moved: Mapping[str, SocketGroup]) -> None:
        """As `Workers.prepare`. From when they are asked until the end of `commit`, or a failure,
        none is started."""
        self._prepared = await asyncio.to_thread(self._registry.engine.prepare, delta.core)
        try:
            try:
                await self._prepare_all(delta, moved)
            except _LostError as lost:
                log.warning("%s; once more", lost)
                await self.fleet.reaped()  # or it would be asked again
                await self._prepare_all(delta, moved)
        except BaseException as error:
            self._prepared = None
            self.fleet.resume()
            if isinstance(error, _LostError):
                raise OperationRefusedError(str(error)) from error
            raise

    async def _prepare_all(self, delta: Change, moved: Mapping[str, SocketGroup]) -> None:
        self.fleet.resume()
        await self.fleet.staffed()
        self.fleet.hold()
        children = self.fleet.ready()
        if not children:
            raise _LostError("no worker is ready")

        async def ask(child: Child) -> Any:
            names, sockets = _named_sockets(moved, [child.reuseport_slot, *child.adopted])
            return await child.ask(
                lambda token: messages.Prepare(token, delta, names), sockets, ANSWER_S
            )

        try:
            answers = await asyncio.gather(*map(ask, children), return_exceptions=True)
            self._prepared_counts = {}
            for child, answer in zip(children, answers, strict=True):
                _must_be_ready(child, answer)
                if isinstance(answer, messages.WasPrepared):
                    _add(self._prepared_counts, answer.layer_counts)
        except BaseException:
            for child in children:
                child.send(messages.Abort())
            raise

    def too_small(self, new: Snapshot) -> ConfigError:
        """As `Workers.too_small`."""
        segment = self._registry.segment
        return too_small(new, segment.worker_slots, segment.max_bytes, runs=True)

    def decide(self, new: Snapshot) -> None:
        """As `Workers.decide`; workers that start from now on begin with it."""
        assert self._prepared is not None
        try:
            self._registry.engine.commit(self._prepared)
        except BaseException:
            self.fleet.resume()
            raise
        gives_tickets = new.ticket_keys != self.snapshot.ticket_keys
        self.snapshot, self._whole, self._prepared = new, None, None
        self.layer_counts = self._prepared_counts
        if gives_tickets:
            self._send_tickets()

    async def commit(self, moved: Mapping[str, SocketGroup], *, closes: bool) -> None:
        """As `Workers.commit`; a worker that does not is ended, and replaced."""
        await self._commit_all(moved)
        self.fleet.scale(self.count)
        self.fleet.resume()
        # A draining worker is asked for no change: it may not have come to close its sockets yet.
        for child in await self.fleet.closed(ANSWER_S) if closes else ():
            log.error(
                "worker %d (%d) drains and still accepts: it is ended",
                child.reuseport_slot,
                child.pid,
            )
            child.kill()

    async def _commit_all(self, moved: Mapping[str, SocketGroup]) -> None:
        async def ask(child: Child) -> Any:
            return await child.ask(messages.Commit, [], ANSWER_S)

        children = self.fleet.ready()
        answers = await asyncio.gather(*map(ask, children), return_exceptions=True)
        for child, answer in zip(children, answers, strict=True):
            if isinstance(answer, messages.Committed):
                if answer.problem:
                    log.error("worker %d: %s", child.reuseport_slot, answer.problem)
                _hand_over_again(child, moved)
            elif child in self.fleet.ready():
                log.error(
                    "worker %d did not put the change in force: it is ended", child.reuseport_slot
                )
                child.kill()


def _named_sockets(
    groups: Mapping[str, SocketGroup], reuseport_slots: Iterable[int]
) -> tuple[tuple[messages.SocketName, ...], list[int]]:
    """The sockets that workers of some reuseport slots accept from, and their descriptors."""
    names: dict[messages.SocketName, int] = {}
    for name, group in groups.items():
        for reuseport_slot in reuseport_slots:
            number, sock = group.of_slot(reuseport_slot)
            names[(name, number)] = sock.fileno()
    return tuple(names), list(names.values())


def _send_slot(child: Child, reuseport_slot: int, groups: Mapping[str, SocketGroup]) -> None:
    own = {name: group for name, group in groups.items() if group.by_reuseport}
    names, sockets = _named_sockets(own, [reuseport_slot])
    if names:
        child.send(messages.Adopt(reuseport_slot, names), sockets)


def _hand_over_again(child: Child, moved: Mapping[str, SocketGroup]) -> None:
    """New sockets, of reuseport slots that it came to stand in for since they were prepared; what
    it has already it does not take twice."""
    for reuseport_slot in child.adopted:
        with contextlib.suppress(OSError):  # no descriptors: as if it had none itself
            _send_slot(child, reuseport_slot, moved)


def _add(known: dict[str, dict[str, str]], counts: dict[str, dict[str, str]]) -> None:
    for layer, names in counts.items():
        known.setdefault(layer, {}).update(names)


class _LostError(Exception):
    """A worker ended before it could say what it thinks of a change."""


def _must_be_ready(child: Child, answer: Any) -> None:
    """Raise unless a worker has made a change ready, or was on its way out."""
    if isinstance(answer, messages.WasPrepared) or child.state is ChildState.DRAINING:
        return
    if isinstance(answer, messages.Refused):
        if answer.layer is not None:
            raise answer.layer
        raise OperationRefusedError(f"worker {child.reuseport_slot}: {answer.reason}")
    if isinstance(answer, BaseException):
        raise OperationRefusedError(f"worker {child.reuseport_slot}: {answer}") from answer
    if child.state is ChildState.READY and child.is_open:
        raise OperationRefusedError(f"worker {child.reuseport_slot} does not answer")
    raise _LostError(f"worker {child.reuseport_slot} ended while it made the change ready")
