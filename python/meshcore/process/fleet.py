"""The workers of a program: started, looked after, replaced and told to go."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
import signal
from typing import TYPE_CHECKING, Any, Final, Protocol

from meshcore._core import now_ns
from meshcore.process import messages
from meshcore.process.child import Child, ChildState

if TYPE_CHECKING:
    from collections.abc import Callable

    from meshcore.config.snapshot import Snapshot
    from meshcore.process.registry import Registry

log = logging.getLogger("meshcore")

# A worker imports, compiles and binds within a second or two; a large configuration takes longer.
START_S: Final = 60.0
# A worker that lived this long was well: its successor starts at once.
WELL_S: Final = 10.0
# Else the pause doubles, from a tenth of a second: what always crashes must not become a storm.
FIRST_PAUSE_S: Final = 0.1
LONGEST_PAUSE_S: Final = 10.0
# How many starts in a row that never became ready, with no other worker left, end the program.
MOST_FAILURES: Final = 5
# How often heartbeats are looked at. Two looks in a row must find a loop standing still: after the
# whole machine stood still, the worker has the time between them to catch up.
CHECK_S: Final = 1.0
# What a worker may take longer than its drain: last words, and the end of the interpreter.
GRACE_S: Final = 10.0
# How long a process takes at most from the end of its channel to its own.
REAP_S: Final = 1
# How long a worker has to end after SIGABRT, which writes where it stood.
ABORT_S: Final = 1.0


class WorkerFailedError(Exception):
    """No worker can be started. `code` is the exit code that fits; `layer`, if one in Python is
    why, says what is wrong with it."""

    def __init__(self, failure: messages.Failed) -> None:
        super().__init__(failure.reason)
        self.code = failure.code
        self.layer = failure.layer


class Owner(Protocol):
    """Control, as far as workers need it."""

    @property
    def snapshot(self) -> Snapshot:
        """The configuration in force."""

    def greet(self, child: Child) -> None:
        """Send a new worker its first message."""

    def note_layer_counts(self, counts: dict[str, dict[str, str]]) -> None:
        """A worker that is ready tells what its layers count."""

    def hand_over(self, child: Child, reuseport_slot: int) -> None:
        """Send a worker the sockets of a reuseport slot that no worker accepts from."""


class Fleet:
    """Every worker, by reuseport slot: a place in the kernel's spreading of connections."""

    def __init__(
        self, registry: Registry, owner: Owner, on_failure: Callable[[], None], reuseport_slots: int
    ) -> None:
        """``reuseport_slots`` have a group already."""
        self._registry = registry
        self._owner = owner
        self._on_failure = on_failure
        self._children: dict[int, Child] = {}  # by process id
        self._reuseport_slots = 0
        self._ever = reuseport_slots  # that have a group
        self._failed: dict[int, int] = {}  # workers in a row that were not well, by reuseport slot
        self._pauses: dict[int, asyncio.TimerHandle] = {}
        self._renewing: dict[
            int, Child
        ] = {}  # by reuseport slot: workers that go when another is ready
        self._orphans: set[int] = set()  # reuseport slots that no worker could be given
        self._held: list[int] | None = (
            None  # reuseport slots to start when the configuration stands
        )
        self._started = False
        self._news = asyncio.Event()  # a worker said something, ended, or is to end
        self._check_timer: asyncio.TimerHandle | None = None
        self.on_other: Callable[[int, int], None] = lambda pid, code: None
        """Who hears of the ends of processes that are no workers."""
        self.fault: WorkerFailedError | None = None
        self.stopping = self.handed_over = False
        self.restarts = 0

    # --- starting -----------------------------------------------------------------------------

    async def start(self, reuseport_slots: int) -> None:
        """Start a worker for each reuseport slot and wait until all are ready.

        Raises `WorkerFailedError` when one cannot start; the others are then on their way out.
        """
        self._check()
        self.scale(reuseport_slots)
        await self.settled()
        if self.fault is not None:
            raise self.fault
        self._started = True

    def hand_over(self) -> None:
        """Another program owns the memory and the sockets from now on: no worker is started, and
        none stands in for another."""
        self.stopping = self.handed_over = True
        self._news.set()

    async def settled(self) -> None:
        """Wait until no worker is starting."""
        await self._until(self._is_settled)

    def _is_settled(self) -> bool:
        return not any(child.state is ChildState.STARTING for child in self._children.values())

    def scale(self, reuseport_slots: int) -> None:
        """Have workers for this many reuseport slots; those of further ones are drained, and their
        sockets served by the others, so that no connection in their queues is lost."""
        self._reuseport_slots, self._ever = reuseport_slots, max(self._ever, reuseport_slots)
        for reuseport_slot in range(reuseport_slots):
            if self._of(reuseport_slot) is None and reuseport_slot not in self._pauses:
                self._begin(reuseport_slot)
        for child in self.living():
            if child.reuseport_slot >= reuseport_slots:
                self.drain(child)

    def _begin(self, reuseport_slot: int) -> None:
        self._pauses.pop(reuseport_slot, None)
        if (
            self.stopping
            or reuseport_slot >= self._reuseport_slots
            or self._of(reuseport_slot) is not None
        ):
            return
        if self._held is not None:
            self._held.append(reuseport_slot)
            return
        if not self._registry.free_slots() and self._started:
            self._again(reuseport_slot, CHECK_S)  # those that drain will free theirs
            return
        child = Child(reuseport_slot)
        try:
            child.spawn(self._on_message)
            self._children[child.pid] = child
            self._give_slot(child)
            self._owner.greet(child)
        except OSError as error:
            child.failure = messages.Failed(f"cannot start a worker: {error}", 1)
            child.kill()
            if not child.pid:
                self._failed_to_start(child)

    def _give_slot(self, child: Child) -> None:
        """A column of the shared memory; another program may take some at the same time."""
        segment = self._registry.segment
        for slot in self._registry.free_slots():
            try:
                segment.occupy(slot, child.pid, child.began_ns)
            except ValueError:
                continue
            child.slot = slot
            return
        raise OSError(f"all {segment.worker_slots} places of the shared memory are taken")

    def _again(self, reuseport_slot: int, pause_s: float) -> None:
        loop = asyncio.get_running_loop()
        self._pauses[reuseport_slot] = loop.call_later(pause_s, self._begin, reuseport_slot)

    def _on_message(self, child: Child, message: Any) -> None:
        if isinstance(message, messages.Ready) and child.state is ChildState.STARTING:
            child.state = ChildState.READY
            self._owner.note_layer_counts(message.layer_counts)
            self._release_adopted(child)
            going = self._renewing.pop(child.reuseport_slot, None)
            if going is not None:
                self.drain(going)
            self._adopt_orphans()
        elif isinstance(message, messages.Failed):
            child.failure = message
        elif isinstance(message, messages.Closed):
            child.is_closed = True
        elif isinstance(message, messages.NotAdopted):
            # In part, perhaps: the next look finds another for it, or the same again.
            child.adopted.discard(message.reuseport_slot)
            child.send(messages.Release(message.reuseport_slot))
        self._news.set()

    @property
    def reuseport_slots(self) -> int:
        """Reuseport slots that have a group: as many as there ever were workers."""
        return self._ever

    # --- reuseport slots -------------------------------------------------------------------------

    def _of(self, reuseport_slot: int) -> Child | None:
        """The worker of a reuseport slot, on its way in or at work."""
        alive, going = (ChildState.STARTING, ChildState.READY), self._renewing.get(reuseport_slot)
        found = (
            c
            for c in self._children.values()
            if c.reuseport_slot == reuseport_slot and c.state in alive
        )
        return next((child for child in found if child is not going), None)

    def ready(self) -> list[Child]:
        """Workers that accept."""
        return [c for c in self._children.values() if c.state is ChildState.READY]

    async def closed(self, within_s: float) -> list[Child]:
        """Wait until those that drain accept nothing more: until then, what is closed here is open
        there. Returns who does not get that far in time."""

        def open_yet() -> list[Child]:
            going = (c for c in self._children.values() if c.state is ChildState.DRAINING)
            return [child for child in going if not child.is_closed]

        await self._until(lambda: not open_yet(), within_s)
        return open_yet()

    def living(self) -> list[Child]:
        """Every process there is."""
        return list(self._children.values())

    def _release_adopted(self, child: Child) -> None:
        """A reuseport slot has its worker again: who stood in need not."""
        for other in self._children.values():
            if child.reuseport_slot in other.adopted:
                other.adopted.discard(child.reuseport_slot)
                other.send(messages.Release(child.reuseport_slot))

    def _adopt_orphans(self) -> None:
        """Every reuseport slot that has a group is accepted from by a worker: what the kernel puts
        in its queue would wait for ever."""
        ready = self.ready()
        if not ready or self.handed_over:
            return
        served = {
            reuseport_slot
            for child in ready
            for reuseport_slot in (child.reuseport_slot, *child.adopted)
        }
        for reuseport_slot in range(self._ever):
            if reuseport_slot not in served:
                child = min(ready, key=lambda each: (len(each.adopted), each.late))
                try:
                    self._owner.hand_over(child, reuseport_slot)
                except OSError as error:  # no descriptors: the next look tries again
                    if reuseport_slot not in self._orphans:
                        log.error("worker %d has no replacement yet: %s", reuseport_slot, error)
                    self._orphans.add(reuseport_slot)
                    return
                self._orphans.discard(reuseport_slot)
                child.adopted.add(reuseport_slot)

    # --- the end of a worker ------------------------------------------------------------------

    def reap(self) -> None:
        """Wait for what has ended: workers, and whatever a first process of a container is
        handed."""
        while True:
            try:
                # Looked at before it is waited for: as long as its number is taken, no other
                # process clears its slot and gives it to another.
                ended = os.waitid(os.P_ALL, 0, os.WEXITED | os.WNOHANG | os.WNOWAIT)
            except ChildProcessError:
                return
            if ended is None:
                return
            child = self._children.pop(ended.si_pid, None)
            if child is not None:
                child.died()
                if child.slot is not None:
                    self._registry.segment.clear(child.slot)
            _, status = os.waitpid(ended.si_pid, 0)
            code = os.waitstatus_to_exitcode(status)
            if child is not None:
                self._ended(child, ended.si_pid, code)
            else:
                self.on_other(ended.si_pid, code)

    async def staffed(self) -> None:
        """Wait until no worker is starting and one is at work: as long as a worker may have to
        wait for its successor, if all have just ended."""
        await self.settled()
        await self._until(lambda: bool(self.ready()) or self.stopping, LONGEST_PAUSE_S)
        await self.settled()

    async def reaped(self) -> None:
        """Wait until workers whose channel is closed are waited for: that comes a moment later."""
        await self._until(lambda: all(child.is_open for child in self.ready()), REAP_S)

    async def gone(self) -> None:
        """Wait until no process is left."""
        await self._until(lambda: not self._children)

    async def _until(self, done: Callable[[], bool], within_s: float | None = None) -> None:
        """Wait until something is so, or the time is over: it is looked at whenever a worker ended
        or said something."""
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(within_s):
                while not done():
                    self._news.clear()
                    await self._news.wait()

    def _ended(self, child: Child, pid: int, code: int) -> None:
        was, child.state = child.state, ChildState.DEAD
        if self._renewing.get(child.reuseport_slot) is child:
            del self._renewing[child.reuseport_slot]
        self._adopt_orphans()
        if was is ChildState.STARTING:
            ended = f"a worker ended at its start: {_how(code)}"
            child.failure = child.failure or messages.Failed(ended, 1)
            self._failed_to_start(child)
        elif was is ChildState.READY and not self.stopping:
            self._replace(child, pid, code)
        self._news.set()

    def _replace(self, child: Child, pid: int, code: int) -> None:
        self.restarts += 1
        log.warning("worker %d (%d) ended: %s", child.reuseport_slot, pid, _how(code))
        if (now_ns() - child.began_ns) / 1e9 >= WELL_S:
            self._failed.pop(child.reuseport_slot, None)
            self._begin(child.reuseport_slot)
        else:
            self._again(child.reuseport_slot, self._pause_s(child.reuseport_slot))

    def _pause_s(self, reuseport_slot: int) -> float:
        failures = self._failed[reuseport_slot] = self._failed.get(reuseport_slot, 0) + 1
        return min(FIRST_PAUSE_S * 2.0 ** (failures - 1), LONGEST_PAUSE_S)

    def _failed_to_start(self, child: Child) -> None:
        failure = child.failure or messages.Failed("unknown", 1)
        if self.stopping:
            return
        pause_s = self._pause_s(child.reuseport_slot)
        failures = self._failed[child.reuseport_slot]
        if not self._started or (failures >= MOST_FAILURES and not self.ready()):
            self.fault = self.fault or WorkerFailedError(failure)
            self.stopping = True
            self._news.set()
            self._on_failure()
            return
        log.error(
            "worker %d cannot start: %s; again in %.1f s",
            child.reuseport_slot,
            failure.reason,
            pause_s,
        )
        self._again(child.reuseport_slot, pause_s)

    def renew(self, child: Child) -> None:
        """Start another in a worker's place, and drain it when that one is ready."""
        if child.reuseport_slot not in self._renewing:
            self._renewing[child.reuseport_slot] = child
            self._begin(child.reuseport_slot)

    def drain(self, child: Child) -> None:
        """Tell a worker to finish what it has and end; the others stand in for it."""
        if child.state in (ChildState.STARTING, ChildState.READY):
            child.state = ChildState.DRAINING
            drain_ns = self._owner.snapshot.drain_ns
            child.leave_by_ns = now_ns() + drain_ns + int(GRACE_S * 1e9)
            child.send(messages.Drain(drain_ns / 1e9))
            child.adopted.clear()
            self._adopt_orphans()
            self._news.set()

    async def stop(self) -> None:
        """Drain all and wait for their end."""
        self.stopping = True
        self._news.set()
        for pause in self._pauses.values():
            pause.cancel()
        for child in self.living():
            if self._accepts_nothing_yet(child):
                child.kill()
            else:
                self.drain(child)
        await self.gone()  # `_check` ends those that outlive their time
        if self._check_timer is not None:
            self._check_timer.cancel()

    def _accepts_nothing_yet(self, child: Child) -> bool:
        """Whether it has no configuration: its start is not waited for."""
        if child.state is not ChildState.STARTING:
            return False
        return child.slot is None or self._registry.segment.worker(child.slot).version == 0

    def kill(self) -> None:
        """End all at once."""
        for child in self.living():
            child.kill()

    # --- looking after them -------------------------------------------------------------------

    def hold(self) -> None:
        """Start no worker until `resume`: the configuration is being changed."""
        self._held = []

    def resume(self) -> None:
        """Start those who waited."""
        held, self._held = self._held or [], None
        for reuseport_slot in held:
            self._begin(reuseport_slot)

    def _clear_stale_slots(self) -> None:
        """Slots of a program that was killed before it could look after its workers' ends."""
        own = {child.slot for child in self._children.values()}
        segment = self._registry.segment
        for slot in range(segment.worker_slots):
            if slot in own:
                continue
            pid = segment.worker(slot).pid
            if pid and not _lives(pid):
                segment.clear(slot)

    def _check(self) -> None:
        watchdog_ns = self._owner.snapshot.watchdog_ns
        now = now_ns()
        for child in self.living():
            age_ns = now - child.began_ns
            if child.state is ChildState.STARTING and age_ns > START_S * 1e9:
                late = f"a worker was not ready in {START_S:.0f} s"
                child.failure = child.failure or messages.Failed(late, 1)
                child.kill()
            elif child.state is ChildState.DRAINING and now > child.leave_by_ns:
                log.error(
                    "worker %d (%d) does not end: it is killed", child.reuseport_slot, child.pid
                )
                child.kill()
            elif watchdog_ns and child.slot is not None:
                beat_ns = self._registry.segment.worker(child.slot).heartbeat_ns
                still_ns = now - max(beat_ns, child.began_ns)
                self._check_heartbeat(child, still_ns > watchdog_ns)
        self._adopt_orphans()
        if not self.handed_over:
            self._clear_stale_slots()
        self._check_timer = asyncio.get_running_loop().call_later(CHECK_S, self._check)

    def _check_heartbeat(self, child: Child, still: bool) -> None:
        child.late = child.late + 1 if still else 0
        if child.late == 2:
            log.error("worker %d (%d) stands still: it is ended", child.reuseport_slot, child.pid)
            child.kill(signal.SIGABRT)
            asyncio.get_running_loop().call_later(ABORT_S, child.kill)


def _how(code: int) -> str:
    return f"signal {signal.Signals(-code).name}" if code < 0 else f"exit code {code}"


def _lives(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        pass  # another process's by now: but a number is not given out anew so soon
    return True
