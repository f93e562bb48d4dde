"""Control: owns the configuration, the shared memory's registry and the sockets; serves no traffic.

A change goes in two steps, as in a transaction: every worker makes it ready, and only when all
have done so it is put in force; whatever refuses it, nothing has changed.
"""

from __future__ import annotations

import asyncio
import contextlib
import hashlib
import logging
import secrets
import time
from contextlib import asynccontextmanager
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from meshcore._core import Engine, Segment
from meshcore.admin.handlers import OperationRefusedError
from meshcore.config.change import Change, change
from meshcore.config.compile import compile
from meshcore.config.document import MAX_BYTES
from meshcore.config.file import read_file
from meshcore.config.include import bundle, fetch_from, unbundle
from meshcore.config.load import load_bytes
from meshcore.errors import LayerError, SegmentFullError, SegmentLayoutError
from meshcore.process import messages
from meshcore.process.aside import aside
from meshcore.process.child import State
from meshcore.process.cores import cores
from meshcore.process.fleet import Fleet, free_slots
from meshcore.process.history import History, Refusal, Revision
from meshcore.process.layer_places import placed
from meshcore.process.room import share, too_small
from meshcore.process.socket_groups import SocketGroup, SocketGroups
from meshcore.process.source import Source
from meshcore.process.tickets import TicketKeys
from meshcore.process.warned import Warned

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable, Iterable

    from meshcore.config.load import Loaded
    from meshcore.config.snapshot import Snapshot
    from meshcore.errors import ConfigError
    from meshcore.process.child import Child
    from meshcore.process.inheritance import Predecessor

log = logging.getLogger("meshcore")

# A worker that does not answer for so long while a change is made ready lets it fail.
ANSWER_S: Final = 30.0


class Control:
    """What `meshcore run` has one of."""

    def __init__(
        self, file: Path, workers: int | None, *, env: bool = False, key_log: str | None = None
    ) -> None:
        self.file = file
        self._key_log = key_log
        self._env = env
        self._workers = workers
        self.history = History()
        self._source = Source(file)
        self.refusal: Refusal | None = None
        """Of the last change, if it was refused."""
        self.last_reload_s = 0.0
        self.reloads = {True: 0, False: 0}
        self._changing = asyncio.Lock()
        self._warned = Warned()
        self._tickets = TicketKeys()
        self.snapshot: Snapshot
        self.engine: Engine
        self.segment: Segment
        self.groups: SocketGroups
        self.fleet: Fleet
        self._whole: Change | None = None
        self._next = 1
        self._is_writer = True  # of the registry; another program may have been, for a while

    # --- the beginning ------------------------------------------------------------------------

    def load(self, version: int, text: bytes | None = None) -> tuple[Snapshot, bytes]:
        """The snapshot of the file, or of a text in its place. For a thread beside the loop.

        Raises `ConfigError` with every problem, `OSError` when the file cannot be read.
        """
        if text is None:
            raw = self._read()
            loaded = load_bytes(raw, str(self.file), self.file.parent, env=self._env)
            self._warned.tell(loaded)  # an earlier one has had its warnings
            text = bundle(raw, loaded.included)
        else:
            loaded = self._loaded(text)
        return compile(loaded.config, version, cores=cores()), text

    def _loaded(self, text: bytes) -> Loaded:
        raw, files = unbundle(text)
        name, folder = str(self.file), self.file.parent
        return load_bytes(raw, name, folder, env=self._env, fetch=fetch_from(files))

    def placed(self, error: LayerError, text: bytes | None = None) -> ConfigError:
        """What a worker says of a layer, with the places in a text, or in what is in force. As
        `load`."""
        return placed(error, self._loaded(text or self.history.revisions[-1].text))

    def _read(self) -> bytes:
        if hasattr(self, "fleet"):
            return read_file(self.file, MAX_BYTES)
        with self.file.open("rb") as file:  # a shell's `<(…)`, too, which can be read once
            return file.read(MAX_BYTES + 1)

    async def begin(
        self, groups: SocketGroups, on_failure: Callable[[], None], predecessor: Predecessor | None
    ) -> None:
        """Load the file, share its words and bind its sockets; go on where a predecessor was.

        Raises `ConfigError`, `OSError`.
        """
        version = 1 if predecessor is None else predecessor.last_number + 1
        self._next = version + 1
        # Aside, which lets the workers of a predecessor go first.
        self.snapshot, text = await aside(self.load, version)
        self.groups = groups
        await asyncio.to_thread(self._share, predecessor)
        # A predecessor may have had more workers once: the kernel spreads over all their queues.
        lanes = max(self.workers, groups.lanes)
        bound = groups.prepare(self.snapshot.listeners, lanes)
        groups.commit(bound, self.snapshot.listeners)
        origin = "start" if predecessor is None else "upgrade"
        for revision in predecessor.history if predecessor is not None else ():
            self.history.add(revision)
        self.history.add(Revision.of(version, time.time(), origin, text))
        self.fleet = Fleet(self.segment, self, on_failure, lanes)

    def _share(self, predecessor: Predecessor | None) -> None:
        """The shared memory: the predecessor's if it fits, or a new one with what it knew."""
        words, seed = None, secrets.randbits(64)
        if predecessor is not None:
            if self._take_over(predecessor, seed):
                return
            words = predecessor.ask_words()
        self.segment, self.engine, kept = share(self.snapshot, self.workers, seed, words)
        if words is not None:
            log.info("%d objects keep their state", kept)

    def _take_over(self, predecessor: Predecessor, seed: int) -> bool:
        try:
            given = predecessor.segment()
            if not self._fits(given):
                return False
            engine = Engine.control(given, seed=seed, adopt=True)
        except SegmentLayoutError as error:
            log.info("the running program's memory is laid out in another way: %s", error)
            return False
        try:
            engine.apply(self.snapshot.core_json())
        except SegmentFullError:
            return False
        self.segment, self.engine = given, engine
        return True

    def _fits(self, segment: Segment) -> bool:
        return (
            self.snapshot.segment_max_bytes in (None, segment.max_bytes)
            and 2 * self.workers <= segment.worker_slots
            and self.workers <= len(free_slots(segment))
        )

    def files(self) -> dict[Path, bytes]:
        """What the configuration in force was made of, its file and those that it names, and the
        SHA-256 of each."""
        main, included = unbundle(self.history.revisions[-1].text)
        texts = {self.file: main, **{Path(name): text for name, text in included.items()}}
        named = {Path(name): digest for name, digest in self.snapshot.files.items()}
        return {name: hashlib.sha256(text).digest() for name, text in texts.items()} | named

    @property
    def last_number(self) -> int:
        """The last number that a configuration had, be it one that was refused."""
        return self._next - 1

    @property
    def version(self) -> int:
        """The number of the configuration in force."""
        number: int = self.snapshot.delta["config_version"]
        return number

    @property
    def workers(self) -> int:
        """How many workers there shall be."""
        return self._workers or self.snapshot.workers

    # --- what workers are told ----------------------------------------------------------------

    def greet(self, child: Child) -> None:
        """Send a new worker its first message."""
        if self._whole is None:
            self._whole = change(None, self.snapshot)
        places, sockets = self._places(self.groups.current, [child.lane])
        assert child.slot is not None
        folder, tickets = str(self.file.parent), self._tickets.keys
        start = messages.Start(child.slot, self._whole, places, folder, tickets, self._key_log)
        child.send(start, [self.segment.fileno(), *sockets])

    def renew_tickets(self) -> None:
        """Seal TLS tickets with another key from now on, in every worker."""
        self._tickets.renew()
        for child in self.fleet.living():
            child.send(messages.NewTickets(self._tickets.keys))

    def hand_over(self, child: Child, lane: int) -> None:
        """Send a worker the sockets of a lane that nobody accepts from. Raises `OSError` without
        descriptors."""
        self._send_lane(child, lane, self.groups.current)

    def _send_lane(self, child: Child, lane: int, groups: dict[str, SocketGroup]) -> None:
        own = {name: group for name, group in groups.items() if group.by_lane}
        places, sockets = self._places(own, [lane])
        if places:
            child.send(messages.Adopt(lane, places), sockets)

    @staticmethod
    def _places(
        groups: dict[str, SocketGroup], lanes: Iterable[int]
    ) -> tuple[tuple[messages.Place, ...], list[int]]:
        places: dict[messages.Place, int] = {}
        for name, group in groups.items():
            for lane in lanes:
                number, sock = group.of_lane(lane)
                places[(name, number)] = sock.fileno()
        return tuple(places), list(places.values())

    # --- a change -----------------------------------------------------------------------------

    async def reload(self) -> Snapshot:
        """Put the file's configuration in force. Raises `ConfigError`, `OperationRefusedError` or
        `OSError`; then nothing has changed."""
        return await self._reload("reload", None)

    async def rollback(self, version: int | None) -> Snapshot:
        """Put an earlier configuration in force again. Raises as `reload`, and `LookupError`."""
        revision = self.history.back(version)
        return await self._reload(f"rollback to {revision.version}", revision.text)

    async def _reload(self, origin: str, text: bytes | None) -> Snapshot:
        try:
            async with self._turn():
                try:
                    new, source = await aside(self.load, self._next, text)
                    try:
                        await self._change(new)
                    except LayerError as error:
                        raise await aside(self.placed, error, source) from error
                except Exception as error:
                    self._reloaded(Refusal.of(origin, error))
                    raise
                self._reloaded(None)
                self.history.add(Revision.of(self.version, time.time(), origin, source))
                log.info("%s: configuration %d is in force", origin, self.version)
                self._tell_other_file()
                return new
        except Exception as error:
            problems = "\n".join(Refusal.of(origin, error).problems)
            log.error("%s refused, nothing has changed: %s", origin, problems)
            self._tell_other_file()
            raise

    def _reloaded(self, refusal: Refusal | None) -> None:
        self.refusal = refusal
        self.last_reload_s = time.time()
        self.reloads[refusal is None] += 1

    @property
    def file_is_in_force(self) -> bool:
        """Whether the file says what is in force; else a restart is another configuration's."""
        return self._source.says(self.history.revisions[-1])

    def _tell_other_file(self) -> None:
        if not self.file_is_in_force:
            log.warning(
                "%s differs from configuration %d, which is in force: the next reload, upgrade or "
                "restart reads the file",
                self.file,
                self.version,
            )

    @asynccontextmanager
    async def _turn(self) -> AsyncIterator[None]:
        """One change after the other, and none once another program has taken over."""
        async with self._changing:
            if self.fleet.stopping:
                raise OperationRefusedError("the program is at its end, or another has taken over")
            if not self._is_writer:
                self._regain()
            yield

    @asynccontextmanager
    async def standing_still(self) -> AsyncIterator[None]:
        """Nothing changes: another program takes over. If it does not, all goes on as before.

        Workers that end meanwhile are replaced: the names that they look for are kept by whoever
        takes the registry over.
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
            self.segment.release()
            self.fleet.hand_over()

    def _regain(self) -> None:
        """A new program had the registry for a while and is gone: read it anew."""
        self.segment = self.fleet.segment = Segment.open(self.segment.fileno())
        self.engine = Engine.control(self.segment, seed=secrets.randbits(64), adopt=True)
        self.engine.apply(self.snapshot.core_json())
        self._next += 1  # the number that it had
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
            listeners = {k: v for k, v in old.delta["listeners"].items() if k != name}
            delta = {**old.delta, "listeners": listeners, "config_version": self._next}
            new = replace(old, listeners=kept, delta=delta)
            await self._change(new)
            log.info("listener %s is closed and drains", name)
            return new

    async def _change(self, new: Snapshot) -> None:
        workers = self._workers or new.workers
        if 2 * workers > self.segment.worker_slots:
            room = self.segment.worker_slots // 2
            raise OperationRefusedError(
                f"{workers} workers: there is room for {room} until a restart"
            )
        self._next += 1  # a number is used once, also by what is refused
        delta = await asyncio.to_thread(change, self.snapshot, new)
        try:
            prepared = await asyncio.to_thread(self.engine.prepare, delta.core)
        except SegmentFullError:
            slots, size = self.segment.worker_slots, self.segment.max_bytes
            raise await asyncio.to_thread(too_small, new, slots, size, runs=True) from None
        groups = self.groups.prepare(new.listeners, max(workers, self.fleet.lanes))
        try:
            try:
                moved = await self._prepare_all(delta, groups)
            except _LostError as lost:
                log.warning("%s; once more", lost)
                await self.fleet.reaped()  # or it would be asked again
                moved = await self._prepare_all(delta, groups)
        except BaseException as error:
            self.fleet.resume()
            self.groups.abandon(groups)
            if isinstance(error, _LostError):
                raise OperationRefusedError(str(error)) from error
            raise
        # From here on it is in force, whatever becomes of single workers.
        self.engine.commit(prepared)
        self.snapshot, self._whole = new, None
        closes = not {*self.groups.current.values()} <= {*groups.values()}
        self.groups.commit(groups, new.listeners)
        await asyncio.shield(self._commit_all(moved, closes))

    async def _prepare_all(
        self, delta: Change, groups: dict[str, SocketGroup]
    ) -> dict[str, SocketGroup]:
        """Have every worker make a change ready; from then on none is started. Returns the sockets
        that are new to their listeners."""
        self.fleet.resume()
        await self.fleet.staffed()
        self.fleet.hold()
        moved = {n: d for n, d in groups.items() if self.groups.current.get(n) is not d}
        children = self.fleet.ready()
        if not children:
            raise _LostError("no worker is ready")

        async def ask(child: Child) -> Any:
            places, sockets = self._places(moved, [child.lane, *child.adopted])
            return await child.ask(
                lambda token: messages.Prepare(token, delta, places), sockets, ANSWER_S
            )

        try:
            answers = await asyncio.gather(*map(ask, children), return_exceptions=True)
            for child, answer in zip(children, answers, strict=True):
                _must_be_ready(child, answer)
        except BaseException:
            for child in children:
                child.send(messages.Abort())
            raise
        return moved

    async def _commit_all(self, moved: dict[str, SocketGroup], closes: bool) -> None:
        async def ask(child: Child) -> Any:
            return await child.ask(messages.Commit, [], ANSWER_S)

        children = self.fleet.ready()
        answers = await asyncio.gather(*map(ask, children), return_exceptions=True)
        for child, answer in zip(children, answers, strict=True):
            if isinstance(answer, messages.Committed):
                if answer.problem:
                    log.error("worker %d: %s", child.lane, answer.problem)
                self._hand_over_again(child, moved)
            elif child in self.fleet.ready():
                log.error("worker %d did not put the change in force: it is ended", child.lane)
                child.kill()
        self.fleet.scale(self.workers)
        self.fleet.resume()
        # Who drains is asked for no change: it may not have come to close its sockets yet.
        for child in await self.fleet.closed(ANSWER_S) if closes else ():
            log.error("worker %d (%d) drains and still accepts: it is ended", child.lane, child.pid)
            child.kill()

    def _hand_over_again(self, child: Child, moved: dict[str, SocketGroup]) -> None:
        """New sockets, of lanes that it came to stand in for since they were prepared; what it
        has already it does not take twice."""
        for lane in child.adopted:
            with contextlib.suppress(OSError):  # no descriptors: as if it had none itself
                self._send_lane(child, lane, moved)


class _LostError(Exception):
    """A worker ended before it could say what it thinks of a change."""


def _must_be_ready(child: Child, answer: Any) -> None:
    """Raise unless a worker has made a change ready, or was on its way out."""
    if isinstance(answer, messages.WasPrepared) or child.state is State.DRAINING:
        return
    if isinstance(answer, messages.Refused):
        if answer.layer is not None:
            raise answer.layer
        raise OperationRefusedError(f"worker {child.lane}: {answer.reason}")
    if isinstance(answer, BaseException):
        raise OperationRefusedError(f"worker {child.lane}: {answer}") from answer
    if child.state is State.READY and child.is_open:
        raise OperationRefusedError(f"worker {child.lane} does not answer")
    raise _LostError(f"worker {child.lane} ended while it made the change ready")
