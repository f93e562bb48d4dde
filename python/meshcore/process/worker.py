"""A worker: one loop, one engine, all connections; the driver that exchanges call."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

from meshcore._core import now_ns
from meshcore.codec.engines import client_engine
from meshcore.downstream.deadlines import Deadlines
from meshcore.downstream.listener import Listener
from meshcore.process.layers import LayerRunner
from meshcore.process.memory import FreePages
from meshcore.upstream.cluster import Cluster
from meshcore.upstream.connector import Connector
from meshcore.upstream.tls import client_context

if TYPE_CHECKING:
    from meshcore._core import Engine
    from meshcore.config.snapshot import Snapshot
    from meshcore.exchange.exchange import Exchange
    from meshcore.exchange.layers import Layer
    from meshcore.telemetry.access_log import AccessLog

# How often idle upstream connections are looked through.
SWEEP_S = 1.0


class Worker:
    """Owns traffic: listeners, pools, deadlines and the delays of retries."""

    def __init__(
        self,
        snapshot: Snapshot,
        engine: Engine,
        layers: dict[str, Layer],
        access_log: AccessLog | None = None,
    ) -> None:
        loop = asyncio.get_running_loop()
        self._loop = loop
        self._engine = engine
        self.access_log = access_log
        self.deadlines = Deadlines(loop)
        self.pools = Connector(loop)
        self._layers = LayerRunner(loop, [layers[name] for name in engine.python_layers()])
        self.listeners = {
            spec.name: Listener(spec, engine, self, self.deadlines) for spec in snapshot.listeners
        }
        clusters = {
            spec.name: Cluster(
                spec,
                client_context(spec.tls, spec.protocol) if spec.tls is not None else None,
                client_engine(spec.h2),
            )
            for spec in snapshot.upstreams
        }
        for endpoint, upstream, address in engine.endpoints():
            self.pools.set_pool(endpoint, address, clusters[upstream])
        self._pages = FreePages()
        self._sweeper: asyncio.TimerHandle | None = None

    async def start(self) -> None:
        """Listen on every address, or on none: what was bound is closed when one fails."""
        started: list[Listener] = []
        try:
            for listener in self.listeners.values():
                await listener.start()
                started.append(listener)
        except BaseException:
            for listener in started:
                listener.stop_accepting()
            raise
        self._sweeper = self._loop.call_later(SWEEP_S, self._sweep)

    async def stop(self, drain_s: float) -> None:
        """Stop accepting, finish what is in flight for up to ``drain_s`` seconds, then end it."""
        for listener in self.listeners.values():
            listener.stop_accepting()
            listener.drain()
        try:
            async with asyncio.timeout(drain_s):
                for listener in self.listeners.values():
                    await listener.drained()
        except TimeoutError:
            for listener in self.listeners.values():
                listener.end(now_ns())
            for listener in self.listeners.values():
                await listener.drained()
        if self._sweeper is not None:
            self._sweeper.cancel()
        await self._layers.close()
        await self.pools.close()
        self.deadlines.close()

    def _sweep(self) -> None:
        self.pools.sweep(now_ns())
        self._pages.observe(sum(each.connections for each in self.listeners.values()))
        self._sweeper = self._loop.call_later(SWEEP_S, self._sweep)

    # --- the exchange's driver ----------------------------------------------------------------

    def later(self, delay_ns: int, exchange: Exchange, attempt: int) -> None:
        """Go on with a retry after its pause."""
        self._loop.call_later(delay_ns / 1e9, _retry, exchange, attempt)

    def run_layer(self, exchange: Exchange, layer: int) -> None:
        """Run a Python layer's `on_request`."""
        self._layers.on_request(exchange, layer)

    def run_response_layers(self, exchange: Exchange) -> bool:
        """Run `on_response` of the layers that saw the request."""
        return self._layers.on_response(exchange)


def _retry(exchange: Exchange, attempt: int) -> None:
    exchange.on_backoff(attempt, now_ns())
