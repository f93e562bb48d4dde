"""Opens what the pools ask for, and lends it to exchanges."""

from __future__ import annotations

import asyncio
import socket
from typing import TYPE_CHECKING

import aiohappyeyeballs

from meshcore._core import Answer, now_ns
from meshcore.exchange.codes import Failure
from meshcore.upstream.connection import SecureUpstreamConnection, UpstreamConnection
from meshcore.upstream.pool import Pool

if TYPE_CHECKING:
    from meshcore.exchange.exchange import Exchange
    from meshcore.upstream.cluster import Cluster

# RFC 8305 §5 recommends 250 ms between attempts at two addresses.
HAPPY_EYEBALLS_DELAY_S = 0.25
# What TLS decrypts into, shared by the connections of a worker.
RECEIVE_BYTES = 64 * 1024


class Connector:
    """All upstream connections of a worker."""

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self._loop = loop
        self.pools: dict[int, Pool] = {}
        self._tasks: set[asyncio.Task[None]] = set()
        self.received = memoryview(bytearray(RECEIVE_BYTES))

    def set_pool(self, endpoint: int, address: str, cluster: Cluster) -> None:
        """Make the pool of an endpoint, or hand an existing one its new cluster."""
        pool = self.pools.get(endpoint)
        if pool is None:
            pool = self.pools[endpoint] = Pool(endpoint, address, cluster)
        else:
            pool.cluster = cluster
        cluster.pools.append(pool)

    # --- the exchange's port ------------------------------------------------------------------

    def acquire(
        self, endpoint: int, exchange: Exchange, now: int, fresh: bool
    ) -> UpstreamConnection | None:
        """An idle connection at once; else ``None``, and the exchange hears later."""
        pool = self.pools[endpoint]
        if fresh:
            for stale in pool.drain():
                stale.close()
        elif pool.idle:
            connection = pool.take(exchange, now)
            if connection is not None:
                assert isinstance(connection, UpstreamConnection)
                return connection
        if not pool.wait(exchange):
            exchange.answer(Answer.for_reason("overflow"), now)
            return None
        self._open_wanted(pool)
        self._make_room(pool.cluster)
        return None

    def cancel(self, endpoint: int, exchange: Exchange) -> bool:
        """The exchange no longer waits; says whether a connection was being opened."""
        pool = self.pools[endpoint]
        pool.forget(exchange)
        return pool.opening > 0

    # --- connections coming and going ---------------------------------------------------------

    def released(self, connection: UpstreamConnection, now: int) -> None:
        """A connection has served its request: the next waiting exchange, or the idle list."""
        pool = connection.pool
        waiting = pool.next_waiting()
        if waiting is not None:
            waiting.on_connected(connection, now)
        else:
            pool.put(connection, now)
            if pool.cluster.pending:
                self._make_room(pool.cluster)

    def _make_room(self, cluster: Cluster) -> None:
        """The cap is the upstream's: an idle connection to one endpoint yields to a request for
        another. What it leaves is taken in `lost`."""
        if cluster.is_full and any(pool.wants_connection() for pool in cluster.pools):
            idle = cluster.oldest_idle()
            if idle is not None:
                idle.close()

    def lost(self, connection: UpstreamConnection) -> None:
        """A connection is closed: its place is free."""
        pool = connection.pool
        pool.cluster.connections -= 1
        pool.remove(connection)
        self._use_room(pool)

    def _use_room(self, pool: Pool) -> None:
        """A place under the cap is free: for the pool that left it, then for any other."""
        self._open_wanted(pool)
        if pool.cluster.pending:
            for other in pool.cluster.pools:
                self._open_wanted(other)

    def _open_wanted(self, pool: Pool) -> None:
        while pool.wants_connection() and not pool.cluster.is_full:
            pool.opening += 1
            pool.cluster.connections += 1
            task = self._loop.create_task(self._open(pool))
            self._tasks.add(task)
            task.add_done_callback(self._tasks.discard)

    async def _open(self, pool: Pool) -> None:
        spec = pool.cluster.spec
        protocol = UpstreamConnection if pool.cluster.tls is None else SecureUpstreamConnection
        connection = protocol(self, pool)
        try:
            async with asyncio.timeout(spec.connect_timeout_ns / 1e9 or None):
                await self._connect(pool, connection)
            if not connection.is_open:
                raise ConnectionResetError("closed before it was lent")
        except (OSError, TimeoutError, UnicodeError):  # the last: a name that IDNA refuses
            pool.opening -= 1
            if not connection.opened:
                pool.cluster.connections -= 1
            waiting = pool.next_waiting()
            if waiting is not None:
                waiting.on_failed(Failure.CONNECT, now_ns())
            self._use_room(pool)
        except BaseException:
            pool.opening -= 1
            if not connection.opened:
                pool.cluster.connections -= 1
            raise
        else:
            pool.opening -= 1
            self.released(connection, now_ns())

    async def _connect(self, pool: Pool, connection: UpstreamConnection) -> None:
        """Connect the socket first, so that a cancelled attempt owns what it must close."""
        spec, tls = pool.cluster.spec, pool.cluster.tls
        sock = await self._socket(pool.address)
        try:
            await self._loop.create_connection(
                lambda: connection,
                sock=sock,
                ssl=tls,
                server_hostname=spec.server_name or host_of(pool.address) if tls else None,
                ssl_handshake_timeout=spec.connect_timeout_ns / 1e9 or None if tls else None,
                ssl_shutdown_timeout=2 if tls else None,
            )
        except BaseException:
            sock.close()
            raise

    async def _socket(self, address: str) -> socket.socket:
        if address.startswith("unix:"):
            sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
            sock.setblocking(False)
            try:
                await self._loop.sock_connect(sock, address.removeprefix("unix:"))
            except BaseException:
                sock.close()
                raise
            return sock
        host, _, port = address.rpartition(":")
        infos = await self._loop.getaddrinfo(host.strip("[]"), int(port), type=socket.SOCK_STREAM)
        return await aiohappyeyeballs.start_connection(
            infos, happy_eyeballs_delay=HAPPY_EYEBALLS_DELAY_S, interleave=1, loop=self._loop
        )

    # --- care ---------------------------------------------------------------------------------

    def sweep(self, now: int) -> None:
        """Close connections that were idle or alive too long."""
        for pool in self.pools.values():
            for connection in pool.expired(now):
                connection.close()

    async def close(self) -> None:
        """Close every idle connection and end every attempt to open one."""
        for task in list(self._tasks):
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        for pool in self.pools.values():
            for connection in pool.drain():
                connection.close()


def host_of(address: str) -> str:
    """The host of ``host:port`` or ``[v6]:port``."""
    return address.rpartition(":")[0].strip("[]")
