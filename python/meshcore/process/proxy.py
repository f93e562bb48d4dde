"""The proxy: control and worker in one loop, for a program of one's own."""

from __future__ import annotations

import asyncio
import secrets
import warnings
from contextlib import nullcontext, suppress
from typing import TYPE_CHECKING

from meshcore._core import TicketRing
from meshcore.admin.handlers import Handlers
from meshcore.admin.server import Admin
from meshcore.config.change import change
from meshcore.config.compile import compile
from meshcore.process import layer_counts, own_metrics
from meshcore.process.certificates import Certificates, ExpiryWatch
from meshcore.process.coordinator import Coordinator
from meshcore.process.layers import given_layers, keys_of, load_layer, refuse_arguments
from meshcore.process.local_worker import LocalWorker
from meshcore.process.prepared import prepare
from meshcore.process.room import alone
from meshcore.process.signals import ending
from meshcore.process.socket_groups import SocketGroups
from meshcore.process.tickets import Renewal
from meshcore.process.unlisted import UnlistedAuthorities
from meshcore.process.worker import Worker

if TYPE_CHECKING:
    from collections.abc import Mapping
    from types import TracebackType

    from meshcore.config.model import Config
    from meshcore.exchange.layers import Layer


class Proxy:
    """A proxy made of a configuration.

    ``serve()`` runs until ``stop()``; or ``async with Proxy(config) as proxy:`` runs it beside
    one's own code. Python layers are loaded by name, or handed in as objects under the name that
    the configuration uses.
    """

    def __init__(self, config: Config, *, layers: Mapping[str, Layer] | None = None) -> None:
        first = compile(config)
        whole = change(None, first)
        self._ring = TicketRing()
        self._engine, self._prepared, segment_bytes = alone(
            first, secrets.randbits(64), lambda engine: prepare(engine, whole, self._ring)
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
        self._groups = SocketGroups(by_reuseport=False)
        self._local = LocalWorker(first, segment_bytes)
        self._coordinator = Coordinator(self._local, self._groups, first.version)
        self._certificates = Certificates()
        self._authorities = UnlistedAuthorities()
        watched = (self._certificates, self._authorities)
        self._expiry = ExpiryWatch(*watched, lambda: self._local.snapshot)
        self._admin: Admin | None = None
        self._tickets = Renewal(self._ring, lambda: self._local.snapshot.ticket_keys)
        self._stopped = asyncio.Event()
        self._end_now = asyncio.Event()
        self._end: asyncio.Future[None] | None = None  # once it was asked to stop

    @property
    def _worker(self) -> Worker | None:
        return self._local.worker

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
        worker = self._worker
        return worker.connections if worker is not None else 0

    @property
    def config_version(self) -> int:
        """The number of the configuration in force: 1, and a greater one after each `reload`."""
        return self._engine.version

    def metrics(self, accept: str = "") -> tuple[bytes, str]:
        """All metrics and their content type, in the format that an ``Accept`` field prefers.

        Prometheus text 0.0.4, or OpenMetrics 1.0.
        """
        authorities, snapshot = self._authorities, self._local.snapshot
        families = [
            *self._certificates.families(snapshot),
            # Lists are read beside the loop, in which clients are served.
            *(authorities.families(snapshot) if authorities.has_read(snapshot) else ()),
            *layer_counts.families(self._engine, self._local.layer_counts),
            own_metrics.build_info(),  # of its process the program tells itself
        ]
        return self._engine.metrics(accept, families)

    async def start(self) -> None:
        """Listen on every address. Raises `OSError` when one cannot be had; then none is."""
        if self._worker is not None or self._end is not None:
            raise RuntimeError("a proxy is started once: make another one")
        async with self._coordinator.turn():
            await self._start()

    async def _start(self) -> None:
        listeners, admin = self._local.snapshot.listeners, self._local.snapshot.admin
        self._groups.commit(self._groups.prepare(listeners, 1), listeners)
        made, self._made = self._made, {}  # the worker's, as long as it needs them
        worker = Worker(self._engine, self._given, made, tickets=self._ring)
        self._tickets.begin()
        self._expiry.begin()
        try:
            await self._local.begin(worker, self._prepared, self._groups.current)
            if admin is not None:
                self._admin = Admin(Handlers(self))
                await self._admin.listen(admin)
        except BaseException:
            self._local.worker = self._admin = None
            self._tickets.end()
            self._expiry.end()
            self._groups.close()
            await worker.stop(0)
            raise

    async def reload(self, config: Config) -> None:
        """Put another configuration in force, as a whole or not at all.

        Requests under way end with the one they began with. Whatever keeps its name and kind
        keeps its state. Raises `ConfigError`, `LayerError` or `OSError`; then nothing has changed,
        unless the error is of a listener that does not listen: it is there, and accepts nothing.
        The admin port stays where it was; who may ask what there changes.
        """
        async with self._coordinator.turn():
            if self._worker is None or self._end is not None:
                raise RuntimeError("the proxy is not running")
            new = await asyncio.to_thread(compile, config, self._coordinator.next_version)
            await self._coordinator.change(new, self._decided)

    def _decided(self) -> None:
        self._tickets.look()
        self._expiry.look()
        if self._admin is not None:
            self._admin.permit(self._local.snapshot.admin)

    @property
    def ready(self) -> bool:
        """Whether new requests are taken."""
        return self._worker is not None and self._end is None

    async def serve(self, *, handle_signals: bool = False) -> None:
        """Start, and run until `stop` is called and everything in flight is over.

        Cancelling it stops it likewise; with ``handle_signals``, for a program that is nothing
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
                    self._end_at_once()
                    await self.stop()
                    raise

    async def stop(self) -> None:
        """Stop accepting, finish what is in flight up to ``drain``, then end. Idempotent.

        With a `drain` that has a `delay`, readiness turns red that much sooner.
        """
        await asyncio.shield(self._begin_to_end())  # a cancelled caller does not end it

    def _begin_to_end(self) -> asyncio.Future[None]:
        if self._end is None:
            self._end = asyncio.ensure_future(self._stop())
        return self._end

    def _on_signal(self) -> None:
        if self._end is not None:
            self._end_at_once()
        self._begin_to_end()

    def _end_at_once(self) -> None:
        self._end_now.set()
        if self._worker is not None:
            self._worker.end_now()

    async def _stop(self) -> None:
        try:
            async with self._coordinator.turn():
                pass  # a change that has begun, or the start
            worker, snapshot = self._worker, self._local.snapshot
            if worker is not None:
                await self._delay(snapshot.drain_delay_ns / 1e9)
                worker.stop_accepting()
                self._groups.close()
                drain_ns = 0 if self._end_now.is_set() else snapshot.drain_ns
                await worker.stop(drain_ns / 1e9)
            if self._admin is not None:
                await self._admin.stop()
        finally:
            self._tickets.end()
            self._expiry.end()
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
