"""Connections of one endpoint that were opened for one client.

A header of the PROXY protocol speaks for all of a connection, and so do credentials that
authenticate it: what carried one client's requests never carries another's. An endpoint's pool has
a branch for each header, and for each client's connection that has authenticated any; it decides as
any pool does, and lasts as long as a connection, or a request that waits for one.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

from meshcore.upstream.pool import Pool

if TYPE_CHECKING:
    from collections.abc import Iterator

    from meshcore.exchange.exchange import Exchange
    from meshcore.exchange.owner import Owner
    from meshcore.upstream.pool import Pooled, Shared


class Key(NamedTuple):
    """What all requests on a connection have in common."""

    owner: Owner | None
    """The client's connection, if it shares none."""
    header: bytes
    """As whom an endpoint is told of the client; empty where it is not."""


class Branch(Pool):
    """The part of a pool that is one client's."""

    __slots__ = ("_key", "_root", "rests_ns")

    def __init__(self, root: Pool, key: Key) -> None:
        super().__init__(root.endpoint, root.address, root.cluster, key.header)
        self.owner = key.owner
        self._root = root
        self._key = key
        self.part = root.part
        self.rests_ns = 0  # when its client asked or was answered last
        self.retired = root.retired
        # What is known of the endpoint.
        self.streams_each = root.streams_each
        self.doubts, self.hasty_ns = root.doubts, root.hasty_ns

    def prefers_new(self, exchange: Exchange, now_ns: int) -> bool:
        """A new connection has no owner yet: what has authenticated its owner is worth a look."""
        return self.owner is None and super().prefers_new(exchange, now_ns)

    def idled(self, connection: Pooled | Shared) -> None:
        """What its owner has no use for ends; of what it has, this many stay."""
        owner = self.owner
        if owner is None:
            return
        if not connection.authenticates:
            needy = self.cluster.neediest()
            if needy is not None and self.cluster.is_full:
                self.cluster.leave(connection, needy.first())
            connection.withdraw()
        elif (surplus := owner.surplus()) is not None:
            surplus.withdraw()

    def all_idle(self) -> Iterator[Pooled | Shared]:
        """Those without a request."""
        yield from self.idle
        yield from (connection for connection in self.shared if connection.is_idle)

    def put(self, connection: Pooled, now_ns: int) -> None:
        """Keep a connection if it is worth it for its owner."""
        super().put(connection, now_ns)
        self.rest(now_ns)
        self.idled(connection)

    def share(self, connection: Shared, now_ns: int) -> None:
        """Lend streams of a connection from now on."""
        super().share(connection, now_ns)
        self.rest(now_ns)

    def rest(self, since_ns: int) -> None:
        """A connection is idle, or was asked for, since then: it comes behind all others."""
        resting = self.part.resting
        resting.pop(self, None)
        last_ns = next(reversed(resting)).rests_ns if resting else 0
        self.rests_ns = max(since_ns, last_ns)
        resting[self] = None
        super().rest(self.rests_ns)

    def settle(self) -> None:
        """Leave, if nothing is open and no request waits; what was learned of the endpoint
        stays."""
        root, key = self._root, self._key
        if self.connections or self.waiting or root.branches.get(key) is not self:
            return
        del root.branches[key]
        del self.cluster.branches[self]
        self.part.resting.pop(self, None)
        if key.owner is not None:
            del key.owner.branches[self]
        root.streams_each = self.streams_each
        root.recount()
        root.doubts, root.hasty_ns = self.doubts, self.hasty_ns


def branch_of(root: Pool, exchange: Exchange, now_ns: int) -> Branch:
    """The branch for a request's client. O(1)."""
    down = exchange.down
    header = b""
    if root.announces:
        host, port = down.reached()
        header = exchange.ticket.proxy_header(down.peer, host, port, root.announces)
    key = Key(down.owner, header)
    branch = root.branches.get(key)
    if branch is None:
        branch = root.branches[key] = Branch(root, key)
        if key.owner is not None:
            key.owner.branches[branch] = None
        root.cluster.branches[branch] = None
    elif branch in root.part.resting:
        branch.rest(now_ns)  # behind those whose clients asked before
    return branch
