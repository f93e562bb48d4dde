"""The proxy: control and worker in one loop, for a program of one's own."""

from __future__ import annotations

import asyncio
import secrets
import warnings
from contextlib import nullcontext, suppress
from typing import TYPE_CHECKING

from meshcore.admin.handlers import Handlers
from meshcore.admin.server import Admin
from meshcore.config.change import change
from meshcore.config.compile import compile
from meshcore.errors import SegmentFullError
from meshcore.process.certificates import Certificates, StapleWatch
from meshcore.process.layers import given_layers, keys_of, load_layer, refuse_arguments
from meshcore.process.prepared import prepare
from meshcore.process.process_metrics import with_process_metrics
from meshcore.process.room import alone, too_small
from meshcore.process.signals import ending
from meshcore.process.socket_groups import SocketGroups
from meshcore.process.tickets import Renewal
from meshcore.process.worker import Worker

if TYPE_CHECKING:
    import socket
    from collections.abc import Mapping
    from types import TracebackType

    from meshcore.config.model import Config
    from meshcore.exchange.layers import Layer
    from meshcore.process.prepared import Prepared


class Proxy:
    """A proxy made of a configuration.

    ``serve()`` runs until ``stop()``; or ``async with Proxy(config) as proxy:`` runs it beside
    one's own code. Python layers are loaded by name, or handed in as objects under the name that
    the configuration uses.
    """

    def __init__(self, config: Config, *, layers: Mapping[str, Layer] | None = None) -> None:
        self._snapshot = compile(config)
        whole = change(None, self._snapshot)
        self._engine, self._prepared, self._segment_bytes = alone(
            self._snapshot, secrets.randbits(64), lambda engine: prepare(engine, whole)
        )
        keys = keys_of(self._prepared.core)
        self._given = given_layers(layers or {})
        refuse_arguments(keys, self._given)
        self._made = {key: load_layer(key, self._given) for key in keys if key not in self._given}
        unnamed = sorted(self._given.keys() - set(keys))
        if unnamed:
            names = ", ".join(keys) or "none"
            text = f"layers: no stack names {', '.join(unnamed)}; those that are named: {names}"
            warnings.warn(text, stacklevel=2)
        self._groups = SocketGroups(by_lane=False)
        self._certificates = Certificates()
        self._staples = StapleWatch(self._certificates, lambda: self._snapshot)
        self._worker: Worker | None = None
        self._admin: Admin | None = None
        self._tickets: Renewal | None = None
        self._reloading = asyncio.Lock()
        self._next_version = 2
        self._stopped = asyncio.Event()
        self._end_now = asyncio.Event()
        self._end: asyncio.Future[None] | None = None  # once it was asked to stop

    @property
    def addresses(self) -> dict[str, str]:
        """The URL of each listener by name, with real ports; empty before `start`."""
        return self._groups.addresses()

    @property
    def admin_address(self) -> str | None:
        """The URL of the admin port, if there is one."""
        return self._admin.address if self._admin is not None else None

    @property
    def connections(self) -> int:
        """Open client connections."""
        return self._worker.connections if self._worker is not None else 0

    @property
    def config_version(self) -> int:
        """The number of the configuration in force: 1, and a greater one after each `reload`."""
        return self._engine.version

    def metrics(self, accept: str = "") -> tuple[bytes, str]:
        """All metrics and their content type, in the format that an ``Accept`` field prefers.

        Prometheus text 0.0.4, or OpenMetrics 1.0.
        """
        text, kind = self._engine.metrics(accept)
        return with_process_metrics(text, list(self._certificates.families(self._snapshot))), kind

    async def start(self) -> None:
        """Listen on every address. Raises `OSError` when one cannot be had; then none is."""
        if self._worker is not None or self._end is not None:
            raise RuntimeError("a proxy is started once: make another one")
        async with self._reloading:
            await self._start()

    async def _start(self) -> None:
        listeners = self._snapshot.listeners
        self._groups.commit(self._groups.prepare(listeners, 1), listeners)
        made, self._made = self._made, {}  # the worker's, as long as it needs them
        worker = self._worker = Worker(self._engine, self._given, made)
        self._tickets = Renewal()
        self._staples.begin()
        try:
            await worker.commit(self._prepared, self._sockets({x.name for x in listeners}))
            if self._snapshot.admin is not None:
                self._admin = Admin(Handlers(self))
                await self._admin.listen(self._snapshot.admin)
        except BaseException:
            self._worker = self._admin = None
            self._tickets.end()
            self._staples.end()
            self._groups.close()
            await worker.stop(0)
            raise

    def _sockets(self, names: set[str]) -> dict[str, dict[int, socket.socket]]:
        return {name: {0: self._groups.current[name].of_lane(0)[1].dup()} for name in names}

    async def reload(self, config: Config) -> None:
        """Put another configuration in force, as a whole or not at all.

        Requests under way end with the one they began with. Whatever keeps its name and kind
        keeps its state. Raises `ConfigError`, `LayerError` or `OSError`; then nothing has changed.
        The admin port stays where it was; who may ask what there changes.
        """
        await self._reloading.acquire()
        putting: asyncio.Future[None] | None = None
        try:
            worker, prepared, moved = await self._prepare(config)
            # From here on it is in force: who is tired of waiting does not leave it half done.
            putting = asyncio.ensure_future(worker.commit(prepared, self._sockets(moved)))
            await asyncio.shield(putting)
        finally:
            if putting is None or putting.done():
                self._reloading.release()
            else:
                putting.add_done_callback(lambda _: self._reloading.release())

    async def _prepare(self, config: Config) -> tuple[Worker, Prepared, set[str]]:
        worker = self._worker
        if worker is None or self._end is not None:
            raise RuntimeError("the proxy is not running")
        version, self._next_version = self._next_version, self._next_version + 1
        new = await asyncio.to_thread(compile, config, version)
        delta = await asyncio.to_thread(change, self._snapshot, new)
        groups = self._groups.prepare(new.listeners, 1)
        try:
            prepared = await worker.prepare(delta)
        except BaseException as error:
            self._groups.abandon(groups)
            if isinstance(error, SegmentFullError):
                size = self._segment_bytes
                raise await asyncio.to_thread(too_small, new, 1, size, runs=True) from None
            raise
        before = self._groups.current
        moved = {name for name, group in groups.items() if before.get(name) is not group}
        self._groups.commit(groups, new.listeners)
        self._snapshot = new
        if self._admin is not None:
            self._admin.permit(new.admin)
        return worker, prepared, moved

    @property
    def ready(self) -> bool:
        """Whether new requests are taken."""
        return self._worker is not None and self._end is None

    async def serve(self, *, handle_signals: bool = False) -> None:
        """Start, and run until `stop` is called and everything in flight is over.

        Whoever cancels it stops it likewise; with ``handle_signals``, for a program that is nothing
        but a proxy, so do SIGTERM and SIGINT. Asked twice, it ends what is in flight.
        """
        with ending(self._on_signal) if handle_signals else nullcontext():
            await self.start()
            try:
                await self._stopped.wait()
            finally:
                try:
                    await self.stop()
                except asyncio.CancelledError:
                    self._hasten()
                    await self.stop()
                    raise

    async def stop(self) -> None:
        """Stop accepting, finish what is in flight up to ``drain``, then end. Idempotent.

        With a `drain` that has a `delay`, readiness turns red so much sooner.
        """
        await asyncio.shield(self._begin_to_end())  # who is tired of waiting does not end it

    def _begin_to_end(self) -> asyncio.Future[None]:
        if self._end is None:
            self._end = asyncio.ensure_future(self._stop())
        return self._end

    def _on_signal(self) -> None:
        if self._end is not None:
            self._hasten()
        self._begin_to_end()

    def _hasten(self) -> None:
        self._end_now.set()
        if self._worker is not None:
            self._worker.end_now()

    async def _stop(self) -> None:
        try:
            async with self._reloading:
                pass  # a change that has begun, or the start
            if self._worker is not None:
                await self._delay(self._snapshot.drain_delay_ns / 1e9)
                self._worker.stop_accepting()
                self._groups.close()
                drain_ns = 0 if self._end_now.is_set() else self._snapshot.drain_ns
                await self._worker.stop(drain_ns / 1e9)
            if self._admin is not None:
                await self._admin.stop()
        finally:
            if self._tickets is not None:
                self._tickets.end()
            self._staples.end()
            self._stopped.set()

    async def _delay(self, seconds: float) -> None:
        with suppress(TimeoutError):
            async with asyncio.timeout(seconds):
                await self._end_now.wait()

    async def __aenter__(self) -> Proxy:
        await self.start()
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        await self.stop()
