"""Connections of one endpoint that were opened for one client, whom their first bytes announce.

A header of the PROXY protocol speaks for all of a connection, so what carried one client's requests
never carries another's: an endpoint's pool has a branch for each header, which decides as any pool
does. It lasts as long as a connection, or somebody who waits for one.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from meshcore.upstream.pool import Pool

if TYPE_CHECKING:
    from meshcore.exchange.exchange import Exchange


class Branch(Pool):
    """The part of a pool that is one client's."""

    __slots__ = ("_root",)

    def __init__(self, root: Pool, header: bytes) -> None:
        super().__init__(root.endpoint, root.address, root.cluster, header)
        self._root = root
        self.retired = root.retired
        # What is known of the endpoint.
        self.streams_each = root.streams_each
        self.doubts, self.hasty_ns = root.doubts, root.hasty_ns

    def settle(self) -> None:
        """Leave, if nothing is open and nobody waits; what was learned of the endpoint stays."""
        root = self._root
        if self.connections or self.waiting or root.branches.get(self.header) is not self:
            return
        del root.branches[self.header]
        del self.cluster.pools[self]
        root.streams_each = self.streams_each
        root.doubts, root.hasty_ns = self.doubts, self.hasty_ns


def branch_of(root: Pool, exchange: Exchange) -> Branch:
    """The branch for a request's client. O(1); the pools of its upstream come to be in the order in
    which their clients asked last."""
    down, pools = exchange.down, root.cluster.pools
    host, port = down.reached()
    header = exchange.ticket.proxy_header(down.peer, host, port, root.announces)
    branch = root.branches.get(header)
    if branch is None:
        branch = root.branches[header] = Branch(root, header)
    else:
        del pools[branch]
    pools[branch] = None
    return branch
