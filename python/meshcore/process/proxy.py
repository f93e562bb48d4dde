"""The proxy: control and worker in one loop, for a program of one's own or `meshcore run`."""

from __future__ import annotations

import asyncio
import gc
import secrets
import sys
from typing import TYPE_CHECKING

from meshcore._core import Engine
from meshcore.admin.server import Admin
from meshcore.config.compile import compile
from meshcore.process.layers import load_layer
from meshcore.process.memory import tune_allocator
from meshcore.process.worker import Worker
from meshcore.telemetry.access_log import AccessLog

if TYPE_CHECKING:
    from collections.abc import Mapping
    from types import TracebackType

    from meshcore.config.model import Config
    from meshcore.exchange.layers import Layer


# Objects that are made, less those that went, before the collector looks at the young ones: a
# thousand requests in flight are no garbage.
GC_ALLOCATIONS = 20_000


class Proxy:
    """A proxy made of a configuration.

    ``serve()`` runs until ``stop()``; or ``async with Proxy(config) as proxy:`` runs it beside
    one's own code. Python layers are loaded by name, or handed in as objects under the name that
    the configuration uses.
    """

    def __init__(self, config: Config, *, layers: Mapping[str, Layer] | None = None) -> None:
        self._config = config
        self._snapshot = compile(config)
        self._engine = Engine(seed=secrets.randbits(64))
        self._engine.apply(self._snapshot.core_json())
        given = dict(layers or {})
        self._layers = {
            name: given.get(name) or load_layer(name) for name in self._engine.python_layers()
        }
        self._access_log: AccessLog | None = None
        self._worker: Worker | None = None
        self._admin: Admin | None = None
        self._stopping = asyncio.Event()
        self._stopped = asyncio.Event()

    @property
    def addresses(self) -> dict[str, str]:
        """The URL of each listener by name, with real ports; empty before `start`."""
        if self._worker is None:
            return {}
        return {name: x.address for name, x in self._worker.listeners.items()}

    @property
    def admin_address(self) -> str | None:
        """The URL of the admin port, if there is one."""
        return self._admin.address if self._admin is not None else None

    @property
    def connections(self) -> int:
        """Open client connections."""
        if self._worker is None:
            return 0
        return sum(x.connections for x in self._worker.listeners.values())

    def metrics(self, accept: str = "") -> tuple[bytes, str]:
        """All metrics and their content type, in the format that an ``Accept`` field prefers.

        Prometheus text 0.0.4, or OpenMetrics 1.0.
        """
        return self._engine.metrics(accept)

    async def start(self) -> None:
        """Listen on every address. Raises `OSError` when one cannot be had; then none is."""
        tune_allocator()
        if self._snapshot.access_log != "off":
            self._access_log = AccessLog(self._snapshot.access_log, sys.stdout)
        worker = Worker(self._snapshot, self._engine, self._layers, self._access_log)
        await worker.start()
        self._worker = worker
        if self._snapshot.admin is not None:
            self._admin = Admin(self._snapshot.admin, self)
            try:
                await self._admin.start()
            except BaseException:
                await worker.stop(0)
                raise
        # What lives now lives as long as the proxy: the collector need not look at it again.
        gc.freeze()
        # Requests leave no cycles; what is alive at one time is not worth looking at more often.
        gc.set_threshold(GC_ALLOCATIONS, *gc.get_threshold()[1:])

    @property
    def ready(self) -> bool:
        """Whether new requests are taken."""
        return self._worker is not None and not self._stopping.is_set()

    async def serve(self) -> None:
        """Start, and run until `stop` is called and everything in flight is over."""
        await self.start()
        await self._stopped.wait()

    async def stop(self) -> None:
        """Stop accepting, finish what is in flight up to ``drain``, then end. Idempotent."""
        if self._stopping.is_set():
            await self._stopped.wait()
            return
        self._stopping.set()
        if self._worker is not None:
            await self._worker.stop(self._snapshot.drain_ns / 1e9)
        if self._admin is not None:
            await self._admin.stop()
        if self._access_log is not None:
            await asyncio.to_thread(self._access_log.close)
        self._stopped.set()

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
