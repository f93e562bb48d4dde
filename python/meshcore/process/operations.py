"""What people, scrapers and the command line ask of a running program."""

from __future__ import annotations

import asyncio
import logging
import os
import time
from typing import TYPE_CHECKING, Any

from meshcore._core import WorkerSlot, __version__, now_ns
from meshcore.admin.handlers import OperationRefusedError
from meshcore.process import breakers, layer_counts, own_metrics, shadows
from meshcore.process.aside import aside
from meshcore.process.certificates import Certificates, ExpiryWatch, listeners_overview
from meshcore.process.child import ChildState
from meshcore.process.history import stamp
from meshcore.process.notify import notify
from meshcore.process.process_metrics import Family, counter, counters, gauge, gauges
from meshcore.process.unlisted import UnlistedAuthorities

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Iterator

    from meshcore.config.snapshot import Snapshot
    from meshcore.process.child import Child
    from meshcore.process.control import Control
    from meshcore.process.history import Refusal

log = logging.getLogger("meshcore")


class Operations:
    """The operator of the admin port."""

    def __init__(
        self, control: Control, hand_over: Callable[[], Awaitable[int]], stop: Callable[[], None]
    ) -> None:
        """``hand_over`` starts another program and gives its process id; ``stop`` drains all."""
        self._control = control
        self._hand_over = hand_over
        self._stop = stop
        self._upgrading = asyncio.Lock()
        self._certificates = Certificates()
        self._authorities = UnlistedAuthorities()
        watched = (self._certificates, self._authorities)
        self.expiry = ExpiryWatch(*watched, lambda: control.snapshot)
        self.serving = False
        self.on_change: Callable[[], None] = lambda: None

    # --- to be looked at ----------------------------------------------------------------------

    @property
    def ready(self) -> bool:
        """Whether new requests are taken: by us, or by the program that has our addresses."""
        fleet = self._control.fleet
        return fleet.handed_over or (self.serving and bool(fleet.ready()))

    def metrics(self, accept: str = "") -> tuple[bytes, str]:
        """All metrics of all workers as text, and its content type."""
        self._control.look_at_source()  # for what is said of it
        return self._control.registry.engine.metrics(accept, list(self._families()))

    def _families(self) -> Iterator[Family]:
        control, fleet = self._control, self._control.fleet
        yield gauge(
            "meshcore_config_last_reload_success",
            "1 unless the last attempt to change the configuration was refused.",
            control.refusal is None,
        )
        yield gauge(
            "meshcore_config_last_reload_timestamp_seconds",
            "When that was; 0: never.",
            control.last_reload_s,
        )
        yield counters(
            "meshcore_config_reloads_total",
            "Attempts to change the configuration.",
            {(("result", "ok" if ok else "refused"),): n for ok, n in control.reloads.items()},
        )
        yield gauges(
            "meshcore_workers",
            "Worker processes.",
            {(("state", state.value),): n for state, n in _states(fleet.living()).items()},
        )
        yield counter(
            "meshcore_worker_restarts_total",
            "Workers that ended without being told to.",
            fleet.restarts,
        )
        yield from self._certificates.families(control.snapshot)
        # Lists are read beside the loop: the moment that this takes they are not told of.
        if self._authorities.has_read(control.snapshot):
            yield from self._authorities.families(control.snapshot)
        yield from layer_counts.families(control.registry.engine, control.workers.layer_counts)
        yield from self._of_memory()
        yield own_metrics.build_info()
        yield from own_metrics.families(child.pid for child in fleet.living())

    def _of_memory(self) -> Iterator[Family]:
        control, segment = self._control, self._control.registry.segment
        yield gauge(
            "meshcore_segment_bytes",
            "Shared memory that is given out, at most segment_max.",
            segment.reserved_bytes,
        )
        yield gauge(
            "meshcore_segment_retired_bytes",
            "Shared memory of what left the configuration and is still held by requests.",
            segment.retired_bytes,
        )
        yield gauge(
            "meshcore_config_oldest_version",
            "Number of the oldest configuration that a request still ends by.",
            segment.oldest_version or control.snapshot.version,
        )

    async def status(self) -> dict[str, Any]:
        """Workers, versions, listeners."""
        control = self._control
        while not self._authorities.has_read(control.snapshot):
            await aside(self._authorities.of, control.snapshot)
        now, unix_s, is_in_force = now_ns(), time.time(), control.look_at_source()
        return {
            "version": __version__,
            "pid": os.getpid(),
            "ready": self.ready,
            **control.source.overview(),
            "config_version": control.snapshot.version,
            "file_is_in_force": is_in_force,
            "last_reload_success": control.refusal is None,
            "refused": _refused(control.refusal),
            "listeners": control.groups.addresses(),
            "tls": listeners_overview(control.snapshot),
            "certificates": self._certificates.overview(control.snapshot, unix_s),
            "unlisted_authorities": self._authorities.overview(control.snapshot, unix_s),
            "revocation_lists": self._authorities.lists_overview(control.snapshot, unix_s),
            **breakers.overview(control.registry.engine, now),
            **shadows.overview(control.snapshot.resources),
            "workers": [self._worker(child, now) for child in _in_order(control.fleet.living())],
            "history": [
                {"version": r.version, "time": stamp(r.unix_s), "origin": r.origin}
                for r in control.history.revisions
            ],
        }

    def _worker(self, child: Child, now: int) -> dict[str, Any]:
        segment, slot = self._control.registry.segment, child.slot
        column = segment.worker(slot) if slot is not None else WorkerSlot()
        return {
            "worker": child.reuseport_slot,
            "pid": child.pid,
            "state": child.state.value,
            "slot": child.slot,
            "for_s": round((now - child.began_ns) / 1e9, 1),
            "silent_s": round((now - max(column.heartbeat_ns, child.began_ns)) / 1e9, 1),
            "config_version": column.version,
            "oldest_version": column.oldest_version,
            "stands_in_for": sorted(child.adopted),
        }

    # --- orders -------------------------------------------------------------------------------

    async def reload(self) -> dict[str, Any]:
        """Put the file's configuration in force."""
        self._refuse_beside_upgrade()
        return await self.reload_unasked()

    async def reload_unasked(self) -> dict[str, Any]:
        """The same without a caller that waits for an answer: behind an upgrade that fails it is
        done."""
        return await self._change(self._control.reload())

    async def rollback(self, version: int | None = None) -> dict[str, Any]:
        """Put an earlier configuration in force again: the one before this one, or a number."""
        self._refuse_beside_upgrade()
        return await self._change(self._control.rollback(version))

    def _refuse_beside_upgrade(self) -> None:
        """It would have to wait, and after the upgrade it is another program's to do."""
        if self._control.fleet.handed_over:
            raise OperationRefusedError("another program has taken over")
        if self._upgrading.locked():
            raise OperationRefusedError("an upgrade is under way")

    async def _change(self, work: Awaitable[Snapshot]) -> dict[str, Any]:
        notify("RELOADING=1", f"MONOTONIC_USEC={now_ns() // 1_000}")
        try:
            snapshot = await work
        finally:
            notify("READY=1")
        self.on_change()
        self.expiry.look()
        return {"config_version": snapshot.version}

    async def upgrade(self) -> dict[str, Any]:
        """Start the program anew, hand everything over, drain and end."""
        try:
            if self._upgrading.locked() or not self.serving:
                raise OperationRefusedError("an upgrade, or the end, is under way")
            async with self._upgrading, self._control.standing_still():
                pid = await self._hand_over()
        except (OperationRefusedError, OSError) as error:
            log.error("upgrade refused, nothing has changed: %s", error)
            raise
        self.serving = False
        return {"pid": pid}

    async def set_breaker(self, given: dict[str, str]) -> dict[str, Any]:
        """Open or close a breaker by hand, for all workers."""
        self._refuse_beside_upgrade()
        return breakers.set_by_hand(self._control.registry.engine, given)

    async def drain(self, listener: str | None, worker: int | None) -> dict[str, Any]:
        """Drain a listener, which stays closed until the next reload; a worker, which is
        replaced; or everything, as SIGTERM does."""
        if listener is not None and worker is not None:
            raise ValueError("a listener or a worker, not both")
        if listener is not None or worker is not None or self._control.fleet.handed_over:
            self._refuse_beside_upgrade()
        if listener is not None:
            return await self._change(self._control.drain_listener(listener))
        if worker is not None:
            found = [c for c in self._control.fleet.ready() if c.reuseport_slot == worker]
            if not found:
                raise LookupError(f"there is no worker {worker} at work")
            self._control.fleet.renew(found[0])
            return {"worker": worker, "pid": found[0].pid}
        self._stop()
        return {"pid": os.getpid()}


def _states(children: list[Child]) -> dict[ChildState, int]:
    states = (ChildState.STARTING, ChildState.READY, ChildState.DRAINING)
    return {state: sum(child.state is state for child in children) for state in states}


def _in_order(children: list[Child]) -> list[Child]:
    return sorted(children, key=lambda child: (child.reuseport_slot, child.began_ns))


def _refused(refusal: Refusal | None) -> dict[str, Any] | None:
    if refusal is None:
        return None
    time = stamp(refusal.unix_s)
    return {"time": time, "origin": refusal.origin, "problems": list(refusal.problems)}
