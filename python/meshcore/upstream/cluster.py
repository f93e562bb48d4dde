"""An upstream's connections as a group: the caps that its pools share."""

from __future__ import annotations

from dataclasses import dataclass, field
from itertools import islice
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    import ssl
    from collections.abc import Callable

    from meshcore.codec import ClientCodec
    from meshcore.config.snapshot import UpstreamSpec
    from meshcore.upstream.branch import Branch
    from meshcore.upstream.pool import Pool, Pooled, Shared

# So long a connection goes on to who waits for it and for no other, before it leaves its place to
# who waits for another: a new one costs more than to wait a little.
PATIENCE_NS: Final = 100_000_000


@dataclass(slots=True, eq=False)
class Cluster:
    """One upstream, as this worker uses it; the same object as long as it keeps its name."""

    spec: UpstreamSpec
    tls: ssl.SSLContext | None
    new_h2_codec: Callable[[bool, int], ClientCodec]
    """Of whether it is over TLS, and now."""
    connections: int = 0
    pending: int = 0
    leaving: set[Pooled | Shared] = field(default_factory=set)
    """Those that are being closed for others to be opened: over TLS that takes a while."""
    pools: dict[Pool, None] = field(default_factory=dict)
    """Of retired endpoints too, while requests may wait in them."""
    branches: dict[Branch, None] = field(default_factory=dict)
    """Their parts that are single clients', in the order in which these asked last."""
    waiting: dict[Pool, int] = field(default_factory=dict)
    """Those in which requests wait, and since when nobody of each had a connection; who has waited
    longest comes first."""

    @property
    def is_full(self) -> bool:
        """Whether no more connections may be opened."""
        return self.connections >= self.spec.max_connections

    def wait(self, pool: Pool, now_ns: int) -> None:
        """Somebody waits in a pool from now on, or goes on to while another was served: it comes
        behind the others."""
        self.waiting.pop(pool, None)
        self.waiting[pool] = now_ns

    def is_overtaken(self, pool: Pool, now_ns: int) -> bool:
        """Whether another pool needs the place of a connection more than who waits in its own: else
        whoever always asks for more would keep it for ever."""
        if not self.is_full:
            return False
        first = next((each for each in self.waiting if each.wants_connection()), pool)
        return first is not pool and now_ns - self.waiting[first] >= PATIENCE_NS

    def lacking(self) -> int:
        """How many connections those who wait would need beside those in the making. O(pools in
        which somebody waits)."""
        return sum(pool.lacking() for pool in self.waiting)

    def oldest_idle(self) -> Pooled | Shared | None:
        """The connection that has been idle longest; of those that are single clients', one of the
        client that asked nothing for the longest time. O(pools + connections of HTTP/2 + such
        clients with requests under way)."""
        idle = [connection for pool in self.pools for connection in pool.idlest()]
        own = (connection for branch in self.branches for connection in branch.idlest())
        idle.extend(islice(own, 1))
        return min(idle, key=lambda connection: connection.idle_since_ns, default=None)
