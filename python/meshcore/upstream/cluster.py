"""An upstream's connections as a group: the caps that its pools share, and whose turn it is.

Who may have a place under the cap goes by endpoints: one with fewer places comes before one with
more, so a hung or slow one, which gives none back, takes no more than its fair share from others
that wait. Of one endpoint who has waited longest comes first.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Final, NamedTuple, Protocol

from meshcore.upstream.resting import Resting

if TYPE_CHECKING:
    import asyncio
    from collections.abc import Callable, Iterator

    from meshcore._core import TlsClient
    from meshcore.codec import ClientCodec
    from meshcore.config.snapshot import UpstreamSpec
    from meshcore.exchange.exchange import Exchange
    from meshcore.upstream.branch import Branch
    from meshcore.upstream.part import Part
    from meshcore.upstream.pool import Pool, Pooled, Shared

# How long a connection goes on to requests that wait for it alone, before it leaves its place to
# who has waited as long for another: a new one costs more than to wait a little.
PATIENCE_NS: Final = 100_000_000
# How long an idle connection stays its endpoint's, if the one that would take its place has no
# fewer already: a request to the first may come, and the other may be slow to give the place back.
REST_NS: Final = 1_000_000_000


class Placed(Protocol):
    """What has a place under the cap."""

    pool: Pool


class Making(Placed, Protocol):
    """A connection in the making."""

    began_ns: int
    task: asyncio.Task[None]

    @property
    def placed(self) -> Placed:
        """What has its place: this, or the connection that it is about to be."""

    def cancel(self) -> bool:
        """Make no connection, if that can still be helped."""


class Waiting(NamedTuple):
    """How an exchange waits."""

    pool: Pool
    since_ns: int
    """No other has waited since then, so it says who came first, too."""


@dataclass(slots=True, eq=False)
class Cluster:
    """One upstream, as this worker uses it; the same object as long as it keeps its name."""

    spec: UpstreamSpec
    tls: TlsClient | None
    new_h2_codec: Callable[[bool, int], ClientCodec]
    """Of whether it is over TLS, and now."""
    connections: int = 0
    queue: dict[Exchange, Waiting] = field(default_factory=dict)
    """All who wait."""
    leaving: dict[Placed, Pool] = field(default_factory=dict)
    """Those that are being closed, which takes as long as what is written does, and for which pool
    another is to be opened."""
    pools: dict[Pool, None] = field(default_factory=dict)
    """Of retired endpoints too, while requests may wait in them."""
    making: dict[Making, None] = field(default_factory=dict)
    """In the order of their beginnings."""
    branches: dict[Branch, None] = field(default_factory=dict)
    """Their parts that are single clients'."""
    lacking: dict[int, dict[Part, None]] = field(default_factory=dict)
    """The endpoints that lack connections, by how many they have; which has had so many longest
    comes first."""
    resting: Resting = field(default_factory=Resting)
    """The endpoints that have idle connections."""
    last_ns: int = 0
    """When the last came who waited."""

    @property
    def is_full(self) -> bool:
        """Whether no more connections may be opened."""
        return self.connections >= self.spec.max_connections

    @property
    def pending(self) -> int:
        """How many wait."""
        return len(self.queue)

    # --- who waits, and what there is -----------------------------------------------------------

    def wait(self, pool: Pool, exchange: Exchange, now_ns: int) -> None:
        """A request waits from now on."""
        self.last_ns = max(now_ns, self.last_ns + 1)
        self.queue[exchange] = Waiting(pool, self.last_ns)

    def begin(self, pool: Pool) -> None:
        """A connection is being made."""
        self.connections += 1
        pool.connections += 1
        pool.opening += 1
        pool.recount()
        self._hold(pool.part, 1)

    def end(self, pool: Pool, connection: Placed) -> Pool | None:
        """A connection is closed, or could not be made; whose its place is now, if any."""
        self.connections -= 1
        pool.connections -= 1
        successor = self.leaving.pop(connection, None)
        if successor is None:
            self._hold(pool.part, -1)
            return None
        successor.coming -= 1
        successor.recount()
        self._hold(successor.part, -1)
        return successor if successor.lacks else None

    def leave(self, connection: Placed, successor: Pool) -> None:
        """A connection is about to be closed, so that another can be made; it has one place."""
        if connection in self.leaving:
            return
        self.leaving[connection] = successor
        successor.coming += 1
        successor.recount()
        self._hold(connection.pool.part, -1)
        self._hold(successor.part, 1)

    def replace(self, making: Making, connection: Placed) -> None:
        """What was in the making is a connection now, which is closed at once."""
        successor = self.leaving.pop(making, None)
        if successor is not None:
            self.leaving[connection] = successor

    def keep_place(self, making: Making) -> None:
        """What was to leave its place is gone, and its place was given back for it."""
        successor = self.leaving.pop(making, None)
        if successor is not None:
            successor.coming -= 1
            successor.recount()
            self._hold(successor.part, -1)
            self._hold(making.pool.part, 1)

    def _hold(self, part: Part, more: int) -> None:
        part.held += more
        self.place(part)
        self.resting.move(part)

    def place(self, part: Part) -> None:
        """An endpoint has more or fewer places than before, or lacks some or none: it comes behind
        those that stand where it stands now. O(1)."""
        level = part.held if part.lacks else None
        if level == part.level:
            return
        if part.level is not None:
            beside = self.lacking[part.level]
            del beside[part]
            if not beside:
                del self.lacking[part.level]
        if level is not None:
            self.lacking.setdefault(level, {})[part] = None
        part.level = level

    # --- whose turn it is -----------------------------------------------------------------------

    def neediest(self) -> Part | None:
        """The endpoint that has the next place. O(different numbers of connections that endpoints
        have), of which there are few: their sum is capped."""
        return next(iter(self.lacking[min(self.lacking)])) if self.lacking else None

    def successor(self, connection: Pooled, waiting: Exchange | None, now_ns: int) -> Pool | None:
        """Who needs the place of a connection more than who would have it next: else what always
        asks for more would keep it for ever. As many take their turn as lack a connection that is
        not made, or left to them, already."""
        pool, part = connection.pool, connection.pool.part
        if pool.lacks_fresh():
            return pool
        if now_ns - connection.opened_ns < PATIENCE_NS:
            return None
        needy = self.neediest()
        if needy is not None and needy is not part and _is_owed(needy, part):
            first = needy.first()
            if _has_waited(first, now_ns):
                return first
        if waiting is None or not part.lacks:
            return None
        first = part.first()
        came_before = first is not pool and first.lacks_since_ns < self.queue[waiting].since_ns
        return first if came_before and _has_waited(first, now_ns) else None

    def claims(self, now_ns: int) -> Iterator[tuple[Making, Pool]]:
        """Connections that are long in the making, and who has a better claim to their places.

        An endpoint that took those of others while they had no use for them, and does not answer,
        gives them back: the last that it was to have first, so that it fails some time. O(those in
        the making)."""
        if len(self.pools) < 2:
            return
        for making in reversed(list(self.making)):
            needy = self.neediest()
            if needy is None or not _has_waited(first := needy.first(), now_ns):
                return
            is_less = needy.held + 1 < making.pool.part.held
            is_long = now_ns - making.began_ns >= PATIENCE_NS
            if is_less and is_long and making.placed not in self.leaving:
                yield making, first

    def yielding(self, own: Part | None, now_ns: int) -> tuple[Pooled | Shared, Pool] | None:
        """An idle connection that makes room, and for whom: the endpoint whose turn it is, or
        another with idle connections of its own, which are of no use to who waits there."""
        needy = self.neediest()
        for part in (needy,) if own is needy else (needy, own):
            if part is not None and part.lacks:
                oldest = self.oldest_idle(part, now_ns)
                if oldest is not None:
                    return oldest, part.first()
        return None

    def oldest_idle(self, part: Part, now_ns: int) -> Pooled | Shared | None:
        """The connection that has been idle longest of those that make room for an endpoint; of
        those that are single clients', one of the client that asked nothing for the longest time.
        Amortised as `Resting.oldest`."""
        # Where no request may wait, the first to come has it.
        rest_ns = REST_NS if self.spec.max_pending else 0
        return self.resting.oldest(part, now_ns - rest_ns)


def _is_owed(needy: Part, other: Part) -> bool:
    """Whether an endpoint may take a place from another: it has none, or at least two fewer."""
    return not needy.held or needy.held + 1 < other.held


def _has_waited(pool: Pool, now_ns: int) -> bool:
    return now_ns - pool.lacks_since_ns >= PATIENCE_NS
