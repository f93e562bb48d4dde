"""Connections of one endpoint, and who waits for one: decides, does no I/O.

Of HTTP/1.1 the idle ones are kept, last in, first out: the most recently used is the least likely
to have been closed by the other side, and the others grow old and go. Of HTTP/2 all are kept, and
each lends a stream to every exchange that it has room for.
"""

from __future__ import annotations

from collections import deque
from typing import TYPE_CHECKING, Final, Protocol

from meshcore._core import Reason
from meshcore.upstream.part import Part

if TYPE_CHECKING:
    from collections.abc import Iterator, Sized

    from meshcore.exchange.exchange import Exchange
    from meshcore.exchange.owner import Owner
    from meshcore.exchange.ports import Upstream
    from meshcore.upstream.branch import Branch, Key
    from meshcore.upstream.cluster import Cluster


class Pooled(Protocol):
    """What a pool needs to know of a connection."""

    pool: Pool
    idle_since_ns: int
    born_ns: int
    opened_ns: int  # it may have been begun some time before
    kept: bool  # it was not opened for the request that it is lent to

    @property
    def authenticates(self) -> bool:
        """Whether its endpoint has shown that it authenticates this connection."""

    def is_alive(self) -> bool:
        """Whether no end of file waits in the socket: asked before a long-idle one is lent."""

    def close(self) -> None:
        """Close it: it carries no request."""

    def withdraw(self) -> None:
        """The same of one that may still be idle in its pool."""


class Shared(Protocol):
    """What a pool needs to know of a connection that lends streams."""

    pool: Pool
    idle_since_ns: int
    born_ns: int
    heard_ns: int
    looked_ns: int  # when its socket was looked into
    had_room: int  # for so many streams when it lent one last, that one too

    @property
    def authenticates(self) -> bool:
        """Whether its endpoint has shown that it authenticates this connection."""

    @property
    def streams(self) -> Sized:
        """Those that are open."""

    @property
    def is_idle(self) -> bool:
        """Whether no stream is open or lent."""

    def room(self, now_ns: int) -> int:
        """How many more streams it takes now, even if what is sent on it waits."""

    def lend(self, now_ns: int, clogged: bool) -> Upstream | None:
        """A stream, if it takes another one now; ``clogged``: even if what is sent on it waits."""

    def is_alive(self) -> bool:
        """Whether no end of file waits in the socket."""

    def retire(self) -> None:
        """Take no more streams, and close when the last one is over."""

    def withdraw(self) -> None:
        """Close it: it carries no request."""

    def sweep(self, now_ns: int) -> None:
        """Look after it if it has been silent."""


# Looked at before it is lent again, once it was idle for this long: within one turn of the loop
# an end of file would have been seen already. What would not be repeated is looked after sooner.
PEEK_AFTER_NS = 100_000_000
PEEK_AFTER_UNSAFE_NS = 1_000_000
# An end so soon behind an answer was meant to follow it: the endpoint closes without saying so (RFC
# 9112 §9.6 asks it to). It comes with the answer, or a busy host's time slices later.
HASTY_NS: Final = 50_000_000
# How many answers on kept connections are awaited before those of an endpoint are lent unseen, and
# after such an end again. A request that takes new connections only sees none, so it is forgotten.
DOUBTS_OF_NEW: Final = 1
DOUBTS_OF_HASTY: Final = 16
HASTY_FOR_NS: Final = 10_000_000_000
SWEEP_AFTER_NS = 100_000_000
FOREVER_NS: Final = 1 << 63
# When less than this part of a connection's streams is left, the next connection is opened.
SPARE_PART = 8


class Pool:
    """The connections of one endpoint.

    Every open connection, idle or lent, counts against the cluster's ``max_connections``; every
    waiting exchange against its ``max_pending``, which refuses whom nothing is made for.
    """

    __slots__ = (
        "address",
        "announces",
        "branches",
        "cluster",
        "coming",
        "connections",
        "doubts",
        "endpoint",
        "fresh",
        "hasty_ns",
        "header",
        "idle",
        "lacks",
        "lacks_since_ns",
        "lending",
        "low",
        "opening",
        "owner",
        "part",
        "renewed_ns",
        "resolving",
        "retired",
        "shared",
        "streams_each",
        "swept_ns",
        "waiting",
    )

    def __init__(self, endpoint: int, address: str, cluster: Cluster, header: bytes = b"") -> None:
        self.endpoint = endpoint
        self.address = address
        self.cluster = cluster
        self.idle: dict[Pooled, None] = {}  # in the order they were put
        self.shared: list[Shared] = []  # the fullest that has room comes first to give streams
        # What the next connection is likely to take: one exchange, or so many streams.
        self.streams_each = 1 if cluster.spec.protocol == "http1" else cluster.spec.h2.streams
        if not cluster.spec.pool_idle_ns:
            self.streams_each = 1
        self.announces = cluster.spec.proxy_protocol  # then each client has a branch
        self.branches: dict[Key, Branch] = {}
        self.header = header  # what a connection begins with, before TLS
        self.owner: Owner | None = None  # the client's connection that it is a part for
        self.part = Part(self)  # that of its branches, too
        self.connections = 0  # open or being opened
        self.coming = 0  # places that others are about to leave to it
        self.lacks = 0  # connections that who waits needs beside those in the making or coming
        self.lacks_since_ns = 0  # when the first came of those whom none of them will serve
        self.low = False  # the connection that lent last has few streams left
        self.lending = False  # streams are being given to those who wait
        self.opening = 0
        self.resolving = 0  # of them, those whose endpoint's name is looked up
        self.renewed_ns = 0  # what was opened before then is not lent again
        self.retired = False  # nothing is kept that carries no request
        self.waiting: deque[Exchange] = deque()
        # Of them, those who take none that has served another request, or of HTTP/2 none that was
        # not heard of since then.
        self.fresh: dict[Exchange, int] = {}
        self.doubts = DOUBTS_OF_NEW  # that the endpoint keeps connections over HTTP/1.1
        self.hasty_ns = 0  # when it was last seen that it does not
        self.swept_ns = 0  # when all that is idle was looked into

    def take(self, exchange: Exchange, now_ns: int) -> Pooled | None:
        """The freshest idle connection that is still good. Amortised O(1)."""
        if self.doubts and self.prefers_new(exchange, now_ns):
            return self._take_proven(now_ns)
        idle, spec = self.idle, self.cluster.spec
        lifetime_ns = spec.pool_lifetime_ns or FOREVER_NS
        while idle:
            connection = idle.popitem()[0]
            quiet = now_ns - connection.idle_since_ns
            if (
                quiet < spec.pool_idle_ns
                # `is_old`, written out: a call more for each request would be seen.
                and connection.born_ns >= self.renewed_ns
                and now_ns - connection.born_ns < lifetime_ns
                and (
                    (quiet < PEEK_AFTER_UNSAFE_NS and not self.doubts)
                    or (quiet < PEEK_AFTER_NS and not self.doubts and exchange.ticket.repeatable)
                    or self.is_alive(connection, now_ns)
                )
            ):
                return connection
            connection.close()
        return None

    def _take_proven(self, now_ns: int) -> Pooled | None:
        """The one that has been idle longest, if it has outlived the end that a hasty endpoint
        would have put to it. Amortised O(1)."""
        idle, spec = self.idle, self.cluster.spec
        while idle:
            connection = next(iter(idle))
            quiet = now_ns - connection.idle_since_ns
            good = quiet < spec.pool_idle_ns and not self.is_old(connection, now_ns)
            if good and quiet < HASTY_NS:
                return None
            del idle[connection]
            if good and self.is_alive(connection, now_ns):
                return connection
            connection.close()
        return None

    def prefers_new(self, exchange: Exchange, now_ns: int) -> bool:
        """In doubt: whether a new connection is worth its price. An endpoint that ends connections
        behind its answers would fail what is not repeated, and let down the rest."""
        if self.is_hasty and now_ns - self.hasty_ns > HASTY_FOR_NS:
            self.doubts = DOUBTS_OF_NEW
        if self.cluster.is_full:
            return self.is_hasty and not exchange.ticket.repeatable
        return self.is_hasty or not exchange.ticket.repeatable

    @property
    def is_hasty(self) -> bool:
        """Whether its endpoint was seen to end connections behind its answers."""
        return self.doubts > DOUBTS_OF_NEW

    def is_alive(self, connection: Pooled, now_ns: int) -> bool:
        """Look into one that is to be lent."""
        alive = connection.is_alive()
        if not alive:
            self.ended(connection, now_ns)
        return alive

    def ended(self, connection: Pooled, now_ns: int) -> None:
        """The endpoint has ended a kept connection without a word."""
        if self.was_hasty(connection, now_ns):
            self.doubts, self.hasty_ns = DOUBTS_OF_HASTY, now_ns

    def was_hasty(self, connection: Pooled, now_ns: int) -> bool:
        """Whether an end that comes now is so soon that it is not of the request that met it."""
        return now_ns - connection.idle_since_ns <= HASTY_NS

    def wait(self, exchange: Exchange, fresh_since_ns: int | None, now_ns: int) -> bool:
        """Queue an exchange; false when the queue is full. It takes any connection, or only what is
        new since then."""
        cluster = self.cluster
        if cluster.pending >= cluster.spec.max_pending and not self._has_place(now_ns):
            return False
        cluster.wait(self, exchange, now_ns)
        self.waiting.append(exchange)
        if fresh_since_ns is not None:
            self.fresh[exchange] = fresh_since_ns
        self.recount()
        return True

    def _has_place(self, now_ns: int) -> bool:
        """Whether one more need not wait for another: a connection in the making takes it, or may
        be made, or one that is idle yields. Amortised as `Resting.oldest`."""
        cluster = self.cluster
        if not cluster.is_full or len(self.waiting) < self.opening * self.streams_each:
            return True
        if cluster.queue or cluster.leaving:
            return False
        return cluster.oldest_idle(self.part, now_ns) is not None

    def next_waiting(self) -> Exchange | None:
        """The exchange that has waited longest."""
        if not self.waiting:
            return None
        exchange = self.waiting[0]
        self.leave(exchange)
        return exchange

    def first_not_fresh(self) -> Exchange | None:
        """The one that has waited longest of those who take any connection. O(waiting)."""
        if not self.fresh:
            return self.waiting[0] if self.waiting else None
        return next((each for each in self.waiting if each not in self.fresh), None)

    def leave(self, exchange: Exchange) -> None:
        """It waits no more. O(waiting)."""
        if self.waiting[0] is exchange:
            self.waiting.popleft()
        else:
            self.waiting.remove(exchange)
        self.fresh.pop(exchange, None)
        del self.cluster.queue[exchange]
        self.recount()

    def recount(self) -> None:
        """Who waits, what is in the making or coming, or what one connection serves may have
        changed. O(1), or less than O(waiting): what is served by those is passed over."""
        served = (self.opening + self.coming) * self.streams_each
        lacks, since_ns = 0, 0
        if len(self.waiting) > served:
            lacks = -((served - len(self.waiting)) // self.streams_each)
            since_ns = self.cluster.queue[self.waiting[served]].since_ns
        elif not self.lacks:
            return
        self.part.lack(self, lacks, since_ns)
        self.cluster.place(self.part)

    def lacks_fresh(self) -> bool:
        """Whether a request waits for a new connection that none in the making or coming will
        serve."""
        return len(self.fresh) > (self.opening + self.coming) * self.streams_each

    def forget(self, exchange: Exchange) -> Reason | None:
        """Take an exchange out of the queue; what held it up, unless it was the endpoint: its name
        was looked up, or no connection was being opened that would have served it, for our own
        cap. O(waiting)."""
        try:
            place = self.waiting.index(exchange)
        except ValueError:
            return None  # it was handed a connection, or its failure, already
        self.leave(exchange)
        if place < (self.opening - self.resolving) * self.streams_each:
            return None
        if place < self.opening * self.streams_each:
            return Reason.UPSTREAM_RESOLVE
        return Reason.QUEUE_TIMEOUT

    def lend(
        self, exchange: Exchange, now_ns: int, fresh_since_ns: int | None = None
    ) -> Upstream | None:
        """A stream of the first connection that has room: few connections are full, the others
        grow idle and go. One that was silent is looked into before it carries what would not be
        repeated; one that was silent since ``fresh_since_ns`` is for others, unless the cap allows
        no other connection. O(connections)."""
        # A copy: one that is retired leaves the list.
        among = self.shared[:] if fresh_since_ns is None else self._heard(fresh_since_ns)
        spec = self.cluster.spec
        lifetime_ns = spec.pool_lifetime_ns
        for clogged in (False, True):
            if clogged and not self.cluster.is_full:
                break  # another is opened
            for connection in among:
                stream = connection.lend(now_ns, clogged)
                if stream is None:
                    continue
                born_ns = connection.born_ns
                if (
                    born_ns >= self.renewed_ns  # not `is_old`, as in `take`
                    and not (lifetime_ns and now_ns - born_ns >= lifetime_ns)
                    and (
                        (connection.streams and now_ns - connection.heard_ns < PEEK_AFTER_UNSAFE_NS)
                        or exchange.ticket.repeatable
                        # What was seen holds as long as what was heard.
                        or now_ns - connection.looked_ns < PEEK_AFTER_UNSAFE_NS
                        or self._look(connection, now_ns)
                    )
                ):
                    self.low = connection.had_room * SPARE_PART <= self.streams_each
                    if not spec.pool_idle_ns:
                        connection.retire()  # a fresh one for each request
                    return stream
                connection.retire()
                stream.discard()
        return None

    def _heard(self, since_ns: int) -> list[Shared]:
        full = self.cluster.is_full
        return [c for c in self.shared if c.heard_ns >= since_ns or (full and c.is_alive())]

    @staticmethod
    def _look(connection: Shared, now_ns: int) -> bool:
        """Look into one that was silent: whether it is alive."""
        connection.looked_ns = now_ns
        return connection.is_alive()

    def wants_spare(self, now_ns: int) -> bool:
        """Whether so few streams are left that a connection is opened before a request waits."""
        if self.opening:
            return False
        left = 0
        for connection in reversed(self.shared):  # the last has most
            left += connection.room(now_ns)
            if left * SPARE_PART >= self.streams_each:
                return False
        return True

    def is_old(self, connection: Pooled | Shared, now_ns: int) -> bool:
        """Whether a connection has lived its time, or was opened in a way that is past."""
        lifetime_ns = self.cluster.spec.pool_lifetime_ns
        born_ns = connection.born_ns
        return born_ns < self.renewed_ns or bool(lifetime_ns and now_ns - born_ns >= lifetime_ns)

    @property
    def is_empty(self) -> bool:
        """Whether nothing is open, nothing is being opened and no request waits. What is lent of
        HTTP/1.1 is not known here."""
        return not (self.idle or self.shared or self.opening or self.waiting or self.branches)

    def put(self, connection: Pooled, now_ns: int) -> None:
        """Keep a connection that carries no request."""
        connection.kept = True
        connection.idle_since_ns = now_ns
        self.idle[connection] = None
        if now_ns < self.part.rests_ns:
            self.cluster.resting.add(self.part, now_ns)

    def rest(self, since_ns: int) -> None:
        """A connection carries no request since then."""
        if since_ns < self.part.rests_ns:
            self.cluster.resting.add(self.part, since_ns)

    def idled(self, connection: Pooled | Shared) -> None:
        """A connection carries no request: one that is shared stays."""

    def remove(self, connection: Pooled) -> None:
        """It is not idle any more, if it was. O(1)."""
        self.idle.pop(connection, None)

    def share(self, connection: Shared, now_ns: int) -> None:
        """Lend streams of a connection from now on."""
        self.shared.append(connection)
        Pool.rest(self, connection.idle_since_ns)
        if self.cluster.spec.pool_idle_ns:
            self.streams_each = max(connection.room(now_ns), 1)
            self.recount()

    def remove_shared(self, connection: Shared) -> None:
        """It lends no more streams, if it did. O(connections)."""
        if connection in self.shared:
            self.shared.remove(connection)

    def expired_shared(self, now_ns: int) -> list[Shared]:
        """Connections without a stream for too long, or alive for too long; the caller retires
        them."""
        idle_ns = 0 if self.retired else self.cluster.spec.pool_idle_ns
        return [
            c
            for c in self.shared
            if (not c.streams and now_ns - c.idle_since_ns >= idle_ns) or self.is_old(c, now_ns)
        ]

    def expired(self, now_ns: int) -> list[Pooled]:
        """Connections idle or alive too long, taken out; the caller closes them."""
        idle_ns = 0 if self.retired else self.cluster.spec.pool_idle_ns
        gone = [
            c for c in self.idle if now_ns - c.idle_since_ns >= idle_ns or self.is_old(c, now_ns)
        ]
        for connection in gone:
            del self.idle[connection]
        return gone

    def idlest(self) -> Iterator[Pooled | Shared]:
        """Those without a request, of HTTP/1.1 the one that has been without longest. O(connections
        of HTTP/2)."""
        if self.idle:
            yield next(iter(self.idle))
        yield from (connection for connection in self.shared if connection.is_idle)

    def sweep_idle(self, now_ns: int) -> list[Pooled]:
        """Idle connections that their endpoint has closed, taken out; the caller closes them. One
        of them was found so, and it may be all: they are looked into, now and then. O(idle)."""
        if now_ns - self.swept_ns < SWEEP_AFTER_NS:
            return []
        self.swept_ns = now_ns
        gone = [connection for connection in self.idle if not connection.is_alive()]
        for connection in gone:
            del self.idle[connection]
        return gone

    def drain(self) -> list[Pooled]:
        """Every idle connection, taken out; the caller closes them."""
        idle, self.idle = self.idle, {}
        return list(idle)
