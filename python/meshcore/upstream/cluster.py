"""An upstream's connections as a group: the caps that its pools share."""

from __future__ import annotations

from dataclasses import dataclass, field
from itertools import islice
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import ssl
    from collections.abc import Callable

    from meshcore.codec import ClientCodec
    from meshcore.config.snapshot import UpstreamSpec
    from meshcore.upstream.branch import Branch
    from meshcore.upstream.pool import Pool, Pooled, Shared


@dataclass(slots=True, eq=False)
class Cluster:
    """One upstream, as this worker uses it; the same object as long as it keeps its name."""

    spec: UpstreamSpec
    tls: ssl.SSLContext | None
    new_h2_codec: Callable[[bool, int], ClientCodec]
    """Of whether it is over TLS, and now."""
    connections: int = 0
    pending: int = 0
    leaving: Pooled | Shared | None = None
    """One that is being closed for another to be opened: over TLS that takes a while."""
    pools: dict[Pool, None] = field(default_factory=dict)
    """Of retired endpoints too, while requests may wait in them."""
    branches: dict[Branch, None] = field(default_factory=dict)
    """Their parts that are single clients', in the order in which these asked last."""
    waiting: dict[Pool, None] = field(default_factory=dict)
    """Those in which requests wait."""

    @property
    def is_full(self) -> bool:
        """Whether no more connections may be opened."""
        return self.connections >= self.spec.max_connections

    def oldest_idle(self) -> Pooled | Shared | None:
        """The connection that has been idle longest; of those that are single clients', one of the
        client that asked nothing for the longest time. O(pools + connections of HTTP/2 + such
        clients with requests under way)."""
        idle = [connection for pool in self.pools for connection in pool.idlest()]
        own = (connection for branch in self.branches for connection in branch.idlest())
        idle.extend(islice(own, 1))
        return min(idle, key=lambda connection: connection.idle_since_ns, default=None)
