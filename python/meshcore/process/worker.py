"""A worker: one loop, one engine, all connections; the driver that exchanges call."""

from __future__ import annotations

import asyncio
import sys
import time
from contextlib import suppress
from typing import TYPE_CHECKING

from meshcore._core import Inbox, Outbox
from meshcore._core import now_ns as system_clock
from meshcore.downstream.deadlines import NEVER, DeadlineTimer
from meshcore.downstream.listener import Listener
from meshcore.downstream.sockets import until_made
from meshcore.process import layer_counts
from meshcore.process.layers import (
    LayerRunner,
    import_layer,
    keys_of,
    look_beside,
    make_layer,
    refuse_arguments,
)
from meshcore.process.memory import FreePages
from meshcore.process.prepared import Prepared, prepare
from meshcore.process.socket_groups import Address
from meshcore.telemetry.access_log import AccessLog
from meshcore.telemetry.log_output import LogFile, LogStream
from meshcore.upstream.cluster import Cluster
from meshcore.upstream.connector import Connector

if TYPE_CHECKING:
    import socket
    from collections.abc import Callable, Iterable, Mapping
    from pathlib import Path

    from meshcore._core import Engine, KeyLog, TicketRing, TlsServer
    from meshcore.config.change import Change
    from meshcore.config.snapshot import AccessLogSpec, ListenerSpec
    from meshcore.exchange.exchange import Exchange
    from meshcore.exchange.flow import Flow
    from meshcore.exchange.layers import Layer

    Sockets = Mapping[str, Mapping[int, socket.socket]]

# How often idle upstream connections are looked through, and control is shown that we live.
SWEEP_S = 1.0
# What a listener accepted in its last moment is a connection by then.
SETTLED_NS = 500_000_000
# A hook that is cancelled may end within this, when the drain has left no time for it.
LAYERS_S = 1.0


class Worker:
    """Owns traffic: listeners, pools, deadlines and the delays of retries.

    It begins with no configuration; each `Change` is prepared and then put in force.
    """

    def __init__(
        self,
        engine: Engine,
        given: Mapping[str, Layer] | None = None,
        made: Mapping[str, Layer] | None = None,
        folder: Path | None = None,
        *,
        tickets: TicketRing,
        key_log: KeyLog | None = None,
        clock: Callable[[], int] = system_clock,
    ) -> None:
        """``given``: layers by name, for good; ``made``: by key, while a configuration has them;
        sessions of TLS are resumed by ``tickets``, and their secrets go to ``key_log``;
        ``clock`` is a test's."""
        loop = self._loop = asyncio.get_running_loop()
        self._engine, self.now_ns = engine, clock
        self._tickets, self._key_log = tickets, key_log
        self._given = dict(given or {})
        self._made = {**(made or {}), **self._given}
        self._folder = folder  # of the configuration's file, where layers may be too
        self.observer: AccessLog | None = None
        self._log_spec: AccessLogSpec | None = None
        self.deadlines = DeadlineTimer(loop, clock)
        self._inbox = Inbox(loop)
        self.outbox = Outbox(loop.call_soon, self._inbox)
        self.pools = Connector(loop, engine, self.outbox, clock)
        self._layers = LayerRunner(loop, clock)
        self.run_layer = self._layers.on_request
        """Run a Python layer's; itself, for a call more for each request would be seen."""
        self.request_hooks = self._layers.request_hooks
        self.listeners: dict[str, Listener] = {}
        self._leaving: dict[Listener, int] = {}  # and when its time is over
        self._drain_ns = 0
        self._clusters: dict[str, Cluster] = {}
        self._endpoints: dict[str, set[int]] = {}
        self._pages = FreePages()
        self._tasks: set[asyncio.Task[None]] = set()
        self._sweeper = loop.call_later(SWEEP_S, self._sweep)
        self._patience: asyncio.Timeout | None = None

    # --- configuration ------------------------------------------------------------------------

    async def prepare(self, change: Change) -> Prepared:
        """Make a change ready beside what is in force; see `prepare` for errors, and `LayerError`
        for a layer that cannot be loaded."""
        prepared, found = await asyncio.to_thread(self._prepare_beside, change)
        for key, layer in found.items():
            self._made[key] = make_layer(key, layer)
        return prepared

    def _prepare_beside(self, change: Change) -> tuple[Prepared, dict[str, object]]:
        """What may take its time, in a thread: compiling, and importing the layers that are new."""
        prepared = prepare(self._engine, change, self._tickets, self._key_log)
        new = [key for key in keys_of(prepared.core) if key not in self._made]
        refuse_arguments(new, self._given)
        if new and self._folder is not None:
            look_beside(self._folder)
        return prepared, {key: import_layer(key, self._given) for key in new}

    def layer_counts(self, prepared: Prepared) -> dict[str, dict[str, str]]:
        """What the layers of a change that is ready count, by what it calls them."""
        return layer_counts.declared(self._layers_of(prepared))

    def _layers_of(self, prepared: Prepared) -> list[tuple[str, Layer]]:
        return [(key, self._made[key]) for key in sorted(keys_of(prepared.core))]

    async def commit(self, prepared: Prepared, sockets: Sockets) -> None:
        """Put a change in force; ``sockets`` are those of listeners that are new or bound anew.

        Requests that begin from now on see all of it, those under way none. Raises `OSError` when
        a socket does not listen; then the listener is there and accepts nothing.
        """
        await self.open(self.put(prepared), sockets)

    async def open(self, reopened: Iterable[Listener], sockets: Sockets) -> None:
        """Listen, behind `put`: where listeners were to be reopened, and on sockets that are new to
        theirs. Raises `OSError`, as `commit`."""
        for listener in reopened:
            await listener.reopen()
        for name, bound in sockets.items():
            await self.listeners[name].start(bound)
        await until_made()  # a server that was closed accepts for a turn more

    def put(self, prepared: Prepared) -> list[Listener]:
        """The part of `commit` that waits for nothing; returns listeners to be reopened.

        The order is relied on: all that may fail comes before `Engine.commit`, which takes the
        change whole or raises; what comes after it only writes down what was made ready. So a
        failure leaves the configuration before this one whole, here and in the core.
        """
        change, now = prepared.change, self.now_ns()
        upstreams = prepared.core.upstreams()
        keys = prepared.core.python_layers()
        layers = [self._made[key] if key is not None else None for key in keys]
        in_force = self._layers_of(prepared)
        log = self.observer
        if change.access_log != self._log_spec:
            log = self._make_log(change.access_log)
        try:
            self._engine.commit(prepared.core)
        except BaseException:
            if log is not None and log is not self.observer:
                self._spawn_close(log)
            raise
        self._engine.report(now)
        self._drain_ns = change.drain_ns
        self._layers.put_in_force(layers)
        layer_counts.bind(in_force, self._engine)
        # Others are of requests that are over: their arguments have changed, or they are gone.
        kept = {*keys, *self._given}
        self._made = {key: layer for key, layer in self._made.items() if key in kept}
        self._put_upstreams(prepared, upstreams, now)
        self._put_log(change.access_log, log)
        return self._put_listeners(prepared, now)

    def _put_listeners(self, prepared: Prepared, now: int) -> list[Listener]:
        change = prepared.change
        for name in change.removed_listeners:
            if (left := self.listeners.pop(name, None)) is not None:
                self._leave(left, now)
        for listener in self.listeners.values():
            listener.renew_stack()
        reopened = []
        for spec in change.listeners:
            tls = prepared.listener_tls[spec.name]
            known = self.listeners.get(spec.name)
            self._apply_rules_to_leaving(spec, tls)
            if known is not None and Address.of(known.spec) == Address.of(spec):
                if known.change(spec, tls):
                    reopened.append(known)
                continue
            if known is not None:
                known.apply_client_rules(tls)
                self._leave(known, now)
            self.listeners[spec.name] = Listener(
                spec, tls, self._engine, self, self.deadlines, self.outbox
            )
        return reopened

    def _apply_rules_to_leaving(self, spec: ListenerSpec, tls: TlsServer | None) -> None:
        """Those that drain go by the rules of the listener that has their address or name now."""
        for leaving in self._leaving:
            has_address = Address.of(leaving.spec) == Address.of(spec)
            if has_address or leaving.spec.name == spec.name:
                leaving.apply_client_rules(tls)

    def _put_upstreams(
        self,
        prepared: Prepared,
        upstreams: Iterable[tuple[str, Iterable[tuple[int, str]]]],
        now: int,
    ) -> None:
        change = prepared.change
        for spec in change.upstreams:
            tls, codec = prepared.upstream_tls[spec.name], prepared.upstream_codecs[spec.name]
            cluster = self._clusters.get(spec.name)
            if cluster is None:
                self._clusters[spec.name] = Cluster(spec, tls, codec)
            else:
                cluster.spec, cluster.tls, cluster.new_h2_codec = spec, tls, codec
                self.pools.renew(cluster, now)
        for name, endpoints in upstreams:
            for endpoint, address in endpoints:
                self.pools.set_pool(endpoint, address, self._clusters[name])
            present = {endpoint for endpoint, _ in endpoints}
            self._retire(self._endpoints.get(name, set()) - present, change.version, now)
            self._endpoints[name] = present
        for name in change.removed_upstreams:
            self._clusters.pop(name, None)
            self._retire(self._endpoints.pop(name, set()), change.version, now)

    def _retire(self, endpoints: set[int], version: int, now: int) -> None:
        for endpoint in endpoints:
            self.pools.retire(endpoint, version, now)

    def _make_log(self, spec: AccessLogSpec | None) -> AccessLog | None:
        if spec is None:
            return None
        output = LogStream(sys.stdout) if spec.path is None else LogFile(spec.path)
        return AccessLog(spec.format, output, self.observer, self._engine.count)

    def reopen_log(self) -> None:
        """Open the file of the access log anew: it was moved."""
        if self.observer is not None:
            self.observer.reopen()

    def _put_log(self, spec: AccessLogSpec | None, log: AccessLog | None) -> None:
        if spec == self._log_spec:
            return
        if self.observer is not None:
            self._spawn_close(self.observer)
        self._log_spec, self.observer = spec, log

    def _spawn_close(self, log: AccessLog) -> None:
        task = self._loop.create_task(asyncio.to_thread(log.close))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    def _leave(self, listener: Listener, now: int) -> None:
        """It accepts nothing more; what it has is drained beside the others."""
        listener.stop_accepting()
        listener.drain(self._drain_ns)
        self._leaving[listener] = now + self._drain_ns

    # --- the end ------------------------------------------------------------------------------

    @property
    def connections(self) -> int:
        """Open client connections."""
        return sum(x.connections for x in [*self.listeners.values(), *self._leaving])

    def stop_accepting(self) -> None:
        """Accept nothing more. What is open goes on."""
        for listener in self.listeners.values():
            listener.stop_accepting()

    async def stop(self, drain_s: float) -> None:
        """Stop accepting, finish what is in flight for up to ``drain_s`` seconds, then end it."""
        until = self._loop.time() + drain_s
        listeners = [*self.listeners.values(), *self._leaving]
        for listener in self.listeners.values():
            listener.stop_accepting()
            listener.drain(int(drain_s * 1e9))
        self._patience = asyncio.timeout(drain_s)
        try:
            async with self._patience:
                for listener in listeners:
                    await listener.drained()
        except TimeoutError:
            for listener in listeners:
                listener.end(self.now_ns())
            for listener in listeners:
                await listener.drained()
        self._sweeper.cancel()
        await self._layers.close(max(until - self._loop.time(), LAYERS_S))
        await self.pools.close()
        self.deadlines.close()
        self._inbox.close()
        if self.observer is not None:
            await asyncio.to_thread(self.observer.close)
        await asyncio.gather(*self._tasks)

    def end_now(self) -> None:
        """End now what `stop` waits for."""
        if self._patience is not None:
            with suppress(RuntimeError):  # it does not wait any more
                self._patience.reschedule(self._loop.time())

    def _sweep(self) -> None:
        now = self.now_ns()
        self.pools.sweep(now)
        self._engine.report(now)
        unix_s = time.time()
        for listener in (*self.listeners.values(), *self._leaving):
            listener.sweep(now, unix_s)
        self.pools.forget(self._engine.oldest_version)
        for listener, until in list(self._leaving.items()):
            if not listener.connections and now - listener.drained_since_ns >= SETTLED_NS:
                del self._leaving[listener]
            elif now >= until:
                self._leaving[listener] = NEVER
                listener.end(now)
        self._pages.observe(self.connections)
        self._sweeper = self._loop.call_later(SWEEP_S, self._sweep)

    # --- the exchange's driver ----------------------------------------------------------------

    def later(self, delay_ns: int, exchange: Exchange, attempt: int) -> None:
        """Go on with a retry after its pause."""
        self._loop.call_later(delay_ns / 1e9, self._retry, exchange, attempt)

    def go_on_from(self, exchange: Exchange, ran: object) -> None:
        """Go on behind what `request_hooks` gave."""
        self._layers.go_on_from(exchange, ran)

    def emit_layer_ends(self, exchange: Exchange) -> None:
        """Run `on_end` of the layers that have one."""
        self._layers.on_end(exchange)

    def run_response_layers(self, exchange: Exchange) -> bool:
        """Run `on_response` of the layers that saw the request."""
        return self._layers.on_response(exchange)

    def run_body_hooks(self, exchange: Exchange, flow: Flow) -> bool:
        """Have layers change a piece of a body."""
        return self._layers.on_body(exchange, flow)

    def _retry(self, exchange: Exchange, attempt: int) -> None:
        exchange.on_backoff(attempt, self.now_ns())
