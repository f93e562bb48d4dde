"""Opens what the pools ask for, and lends it to exchanges."""

from __future__ import annotations

import asyncio
import logging
from typing import TYPE_CHECKING, Final, cast

from meshcore._core import Answer, Cause, Reason
from meshcore.telemetry.counts import UpstreamCount
from meshcore.upstream.branch import Branch, branch_of
from meshcore.upstream.chooser import Chooser
from meshcore.upstream.counts import UpstreamCounts
from meshcore.upstream.dial import Dialer, host_and_port, patience, why_unconnected
from meshcore.upstream.http1 import Http1Connection
from meshcore.upstream.http2 import Http2Connection
from meshcore.upstream.pool import Pool
from meshcore.upstream.socket_state import detail_of
from meshcore.upstream.tls import UNLENT

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from aiohappyeyeballs import AddrInfoType

    from meshcore._core import Outbox
    from meshcore.exchange.exchange import Exchange
    from meshcore.exchange.owner import Owner
    from meshcore.exchange.ports import Upstream
    from meshcore.upstream.cluster import Cluster, Placed
    from meshcore.upstream.counts import Counter
    from meshcore.upstream.part import Part
    from meshcore.upstream.pool import Pooled, Shared
    from meshcore.upstream.pool_owner import HalfClosed

    Connection = Http1Connection | Http2Connection

log = logging.getLogger("meshcore.upstream")

# How often the connections of single clients are looked through: there may be as many pools of them
# as clients.
BRANCHES_NS: Final = 1_000_000_000


class Connector:
    """All upstream connections of a worker."""

    def __init__(
        self,
        loop: asyncio.AbstractEventLoop,
        counter: Counter,
        outbox: Outbox,
        clock: Callable[[], int],
    ) -> None:
        """``clock`` is `now_ns`, or a test's."""
        self.now_ns = clock
        self._loop = loop
        self.counts = UpstreamCounts(counter)
        self.outbox = outbox
        self._dialer = Dialer(loop)
        self.pools: dict[int, Pool] = {}
        # Open, whether they take streams or not, in the order of their ages.
        self._shared: dict[Shared, None] = {}
        # Whose endpoint says no more in a tunnel that goes on.
        self.half_closed: dict[HalfClosed, None] = {}
        self._retired: dict[int, int] = {}  # endpoints, and the version that is without them
        self._branches_due_ns = 0

    def set_pool(self, endpoint: int, address: str, cluster: Cluster) -> None:
        """Make the pool of an endpoint, if it is new."""
        if endpoint not in self.pools:
            pool = self.pools[endpoint] = Pool(endpoint, address, cluster)
            cluster.pools[pool] = None

    def renew(self, cluster: Cluster, now: int) -> None:
        """The upstream is connected to in another way from now on: what is open serves what it
        carries, and no more; what is in the making is made anew."""
        for pool in (*cluster.pools, *cluster.branches):
            pool.renewed_ns = now
            pool.announces = cluster.spec.proxy_protocol
            self._close_old(pool, now)
        for making in list(cluster.making):
            making.cancel()
        self._use_room(cluster)  # the cap may be another

    def retire(self, endpoint: int, version: int, now: int) -> None:
        """An endpoint has left the configuration. Requests that began before may still ask for
        it, so the pool goes when no request holds a version before this one; until then it has
        its part in the upstream's caps as the others have."""
        pool = self.pools.get(endpoint)
        if pool is None or pool.retired:
            return
        self._retired[endpoint] = version
        for each in (pool, *pool.branches.values()):
            each.retired = True
            self._close_old(each, now)

    def forget(self, oldest_version: int) -> None:
        """No request holds a configuration before this one."""
        for endpoint, version in list(self._retired.items()):
            pool = self.pools[endpoint]
            if version <= oldest_version and pool.is_empty:
                del self._retired[endpoint], self.pools[endpoint], pool.cluster.pools[pool]

    # --- the exchange's port ------------------------------------------------------------------

    def acquire(self, endpoint: int, exchange: Exchange, now: int, fresh: bool) -> Upstream | None:
        """A connection or a stream at once; else ``None``, and the exchange hears later."""
        pool = self.pools[endpoint]
        if pool.announces or exchange.down.owner is not None:
            pool = branch_of(pool, exchange, now)
        if fresh:
            for stale in pool.sweep_idle(now):
                stale.close()
        elif pool.idle:
            connection = pool.take(exchange, now)
            if connection is not None:
                return connection  # type: ignore[return-value]  # an Http1Connection
        since = now if fresh else None
        if pool.shared:
            stream = pool.lend(exchange, now, since)
            if stream is not None:
                if pool.low and pool.wants_spare(now) and not pool.cluster.is_full:
                    self._begin_open(pool)
                return stream
        elif pool.doubts and not fresh and pool.prefers_new(exchange, now):
            since = 0  # of HTTP/2, whose endpoints say that they go, any
        if not pool.wait(exchange, since, now):
            self.counts.add(UpstreamCount.NO_PLACE, pool)
            exchange.answer(Answer.for_reason(Reason.OVERFLOW, "limits.pending"), now)
            self._settle(pool)
            return None
        self.counts.add(UpstreamCount.WAITED, pool)
        self._open_wanted(pool)
        self._make_room(pool.cluster, pool.part, now)
        return None

    def cancel(self, endpoint: int, exchange: Exchange) -> Reason | None:
        """The exchange no longer waits; why it did, unless for the endpoint."""
        pool = self.pools[endpoint]
        if exchange in pool.cluster.queue:
            pool = pool.cluster.queue[exchange].pool  # or a branch
        reason = pool.forget(exchange)
        self._settle(pool)
        return reason

    def left(self, owner: Owner) -> None:
        """A client is gone, and so is what was its alone; what it has on loan is closed when given
        back."""
        for branch in list(owner.branches):
            self._end(branch)

    # --- connections coming and going ---------------------------------------------------------

    def has_room(self, connection: Shared, now: int) -> None:
        """Lend streams to those who wait, as far as there are any; open more for the rest."""
        pool = connection.pool
        if pool.lending:
            return  # a stream was given back by one who waited: the loop below goes on
        pool.lending = True
        try:
            while self._lend_waiting(pool, now):
                pass
        finally:
            pool.lending = False
        self._open_wanted(pool)
        if pool.cluster.queue:
            self._make_room(pool.cluster, pool.part, now)

    @staticmethod
    def _lend_waiting(pool: Pool, now: int) -> bool:
        if not pool.waiting:
            return False
        first = pool.waiting[0]
        stream = pool.lend(first, now, pool.fresh.get(first))
        if stream is None and pool.fresh:
            first = pool.first_not_fresh() or first
            stream = pool.lend(first, now) if first not in pool.fresh else None
        if stream is None:
            return False
        pool.leave(first)
        first.on_connected(stream, now)
        return True

    def released(self, connection: Pooled, now: int) -> None:
        """A connection has served its request: the next waiting exchange, or the idle list."""
        pool = connection.pool
        if pool.waiting and self._hand_on(connection, now):
            return
        if pool.retired or connection.born_ns < pool.renewed_ns:
            connection.close()
        else:
            pool.put(connection, now)
            if pool.cluster.queue:
                self._make_room(pool.cluster, pool.part, now)

    def _hand_on(self, connection: Pooled, now: int) -> bool:
        """To one who waits. An end that came with the answer is not read before the next turn, so
        it is looked for; a request that a kept connection failed gets none of them, but its place,
        if there is no other."""
        pool, cluster = connection.pool, connection.pool.cluster
        connection.idle_since_ns = now
        if (
            not cluster.spec.pool_idle_ns
            or pool.is_old(connection, now)
            or not pool.is_alive(connection, now)
        ):
            connection.close()
            return True
        waiting = pool.first_not_fresh()
        successor = cluster.successor(connection, waiting, now) if cluster.is_full else None
        if successor is not None:
            cluster.leave(connection, successor)
            connection.close()
            return True
        if waiting is None:
            return False
        pool.leave(waiting)
        waiting.on_connected(connection, now)  # type: ignore[arg-type]  # an Http1Connection
        return True

    def released_unread(self, connection: Pooled) -> None:
        """A connection has served its request, but was not read at the end of the response: what
        may wait in it answers no request. Looked at a turn later, when it
        has been read on."""
        self._loop.call_soon(self._take_back, connection)

    def _take_back(self, connection: Pooled) -> None:
        if connection.is_alive():
            self.released(connection, self.now_ns())
        else:
            connection.close()

    @staticmethod
    def _make_room(cluster: Cluster, own: Part | None, now: int) -> None:
        """The cap is the upstream's: an idle connection to one endpoint yields to a request for
        another, or one that takes no more to one that would. What it leaves is taken in `lost`."""
        while cluster.is_full and (found := cluster.yielding(own, now)) is not None:
            connection, successor = found
            cluster.leave(connection, successor)
            connection.withdraw()

    def lost(self, connection: Pooled) -> None:
        """A connection is closed: its place is free."""
        connection.pool.remove(connection)
        self._lost(connection.pool, connection)

    def lost_shared(self, connection: Shared) -> None:
        """The same of one that lends streams."""
        connection.pool.remove_shared(connection)
        self._shared.pop(connection, None)
        self._lost(connection.pool, connection)

    def _lost(self, pool: Pool, connection: Placed) -> None:
        cluster = pool.cluster
        self._end_place(pool, connection)
        self._use_room(cluster)
        if cluster.queue:
            self._make_room(cluster, pool.part, self.now_ns())
        self._settle(pool)

    def _end_place(self, pool: Pool, connection: Placed) -> None:
        successor = pool.cluster.end(pool, connection)
        if successor is not None and not pool.cluster.is_full:
            self._begin_open(successor)

    @staticmethod
    def _settle(pool: Pool) -> None:
        """Of one client's connections there may be none left."""
        if isinstance(pool, Branch):
            pool.settle()

    def _use_room(self, cluster: Cluster) -> None:
        """Places under the cap are free: they are given out in turn."""
        while not cluster.is_full and (needy := cluster.neediest()) is not None:
            self._begin_open(needy.first())

    def _open_wanted(self, pool: Pool) -> None:
        while pool.lacks and not pool.cluster.is_full:
            self._begin_open(pool)

    def _begin_open(self, pool: Pool) -> None:
        pool.cluster.begin(pool)
        making, chooser = pool.cluster.making, Chooser(self, pool)
        making[chooser] = None
        chooser.task = self._loop.create_task(self._open(pool, chooser))
        chooser.task.add_done_callback(lambda _: making.pop(chooser))

    async def _open(self, pool: Pool, chooser: Chooser) -> None:
        chooser.began_ns = self.now_ns()
        span_s = pool.cluster.spec.connect_timeout_ns / 1e9
        try:
            infos = self._dialer.known(pool.address) or await self._look_up(pool, span_s)
            async with patience(self._loop, span_s):
                await self._connect(pool, chooser, infos)
                connection = chooser.chosen
                if isinstance(connection, Http2Connection):
                    await connection.ready.wait()
            if connection is None or not connection.is_open:
                loss = connection.loss if connection is not None else None
                raise loss or ConnectionResetError(UNLENT)
            # As the upstream was then: it may have been renewed.
            connection.born_ns = chooser.began_ns
        except Exception as error:
            if not isinstance(error, OSError | UnicodeError):  # the last: what IDNA refuses
                log.exception("cannot connect to %s", pool.address)
            if chooser.is_shaking and isinstance(error, TimeoutError):
                self.counts.tls_failed(pool, error)
            self._give_up(pool, chooser)
            self._fail_waiting(pool, why_unconnected(error), detail_of(error))
        except BaseException:
            # A successor may lack none any more; who waited for it has another.
            is_left = chooser.placed in pool.cluster.leaving or chooser.began_ns < pool.renewed_ns
            self._give_up(pool, chooser)
            if is_left:
                self._use_room(pool.cluster)
                self._settle(pool)
            raise
        else:
            pool.opening -= 1
            pool.recount()
            self._ready(pool, connection)

    async def _look_up(self, pool: Pool, span_s: float) -> Sequence[AddrInfoType]:
        """Timed for itself: what is left of the time for a connection is not the resolver's."""
        pool.resolving += 1
        try:
            return await self._dialer.look_up(pool.address, span_s)
        finally:
            pool.resolving -= 1

    def _give_up(self, pool: Pool, chooser: Chooser) -> None:
        """An attempt is over, and so is its place. uvloop closes what it was cancelled on without
        reporting it, so no end is waited for."""
        pool.opening -= 1
        pool.recount()
        connection = chooser.chosen
        if connection is None:
            self._end_place(pool, chooser)
        elif connection.is_lost:
            pool.cluster.keep_place(chooser)  # its end has given the place back
        else:
            pool.cluster.replace(chooser, connection)
            connection.drop()
            self._end_place(pool, connection)

    def _fail_waiting(self, pool: Pool, reason: Reason, detail: str) -> None:
        """No connection: those whom it would have served hear it, as one cause; the others may have
        the next."""
        self.counts.add(UpstreamCount.NOT_CONNECTED, pool)
        now, cause = self.now_ns(), Cause()
        for _ in range(min(pool.streams_each, len(pool.waiting))):
            waiting = pool.next_waiting()
            if waiting is None:
                break
            waiting.on_failed(reason, detail, now, cause)
        self._use_room(pool.cluster)
        self._settle(pool)

    def _ready(self, pool: Pool, connection: Connection) -> None:
        """A connection is open, and it is known what it speaks."""
        now = self.now_ns()
        if connection.born_ns < pool.renewed_ns:
            connection.close()  # in a way that is past
            self._open_wanted(pool)
            return
        self.counts.add(UpstreamCount.CONNECTED, pool)
        if isinstance(connection, Http1Connection):
            pool.streams_each = 1
            if pool.waiting:
                waiting = pool.waiting[0]
                pool.leave(waiting)
                waiting.on_connected(connection, now)
            else:
                self.released(connection, now)
            self._open_wanted(pool)
        else:
            pool.share(connection, now)
            self._shared[connection] = None
            self.has_room(connection, now)
            connection.kept = True  # whom it was opened for has it, or has left
            if connection.is_idle and not connection.retired:
                pool.idled(connection)

    async def _connect(self, pool: Pool, chooser: Chooser, infos: Sequence[AddrInfoType]) -> None:
        """Connect the socket first, so that a cancelled attempt owns what it must close."""
        tls = pool.cluster.tls
        sock = await self._dialer.connect(infos)
        try:
            if pool.header:
                await self._loop.sock_sendall(sock, pool.header)
            secure = tls and tls.session(self._name_of(pool), chooser)
            chooser.is_shaking = secure is not None
            protocol = chooser if secure is None else cast("asyncio.BaseProtocol", secure)
            transport, _ = await self._loop.create_connection(lambda: protocol, sock=sock)
        except BaseException:
            chooser.made.cancel()
            sock.close()
            raise
        try:
            await chooser.made
        except BaseException:
            transport.abort()
            raise

    @staticmethod
    def _name_of(pool: Pool) -> str:
        """By which an endpoint is asked for, and verified."""
        return pool.cluster.spec.server_name or host_and_port(pool.address)[0]

    # --- care ---------------------------------------------------------------------------------

    def sweep(self, now: int) -> None:
        """Close connections that were idle or alive too long, and look after silent ones."""
        for pool in self.pools.values():
            self._close_old(pool, now)
        if now >= self._branches_due_ns:
            self._branches_due_ns = now + BRANCHES_NS
            for pool in self.pools.values():
                for branch in pool.branches.values():
                    self._close_old(branch, now)
        for cluster in {pool.cluster for pool in self.pools.values() if pool.part.lacks}:
            self._make_room(cluster, None, now)
            for making, successor in cluster.claims(now):
                if making.cancel():
                    cluster.leave(making.placed, successor)
        for each in list(self._shared):
            each.sweep(now)
        for lent in list(self.half_closed):
            lent.look()

    def _close_old(self, pool: Pool, now: int) -> None:
        for connection in pool.expired(now):
            connection.close()
        for shared in pool.expired_shared(now):
            shared.retire()

    async def close(self) -> None:
        """Close every idle connection and end every attempt to open one."""
        clusters = {pool.cluster for pool in self.pools.values()}
        while tasks := [making.task for cluster in clusters for making in cluster.making]:
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)
        for root in self.pools.values():
            for pool in (root, *root.branches.values()):
                self._end(pool)

    @staticmethod
    def _end(pool: Pool) -> None:
        pool.retired = True
        for connection in pool.drain():
            connection.close()
        for shared in list(pool.shared):
            shared.retire()
