"""Whose connections to endpoints are, where no other client may use them.

NTLM and Negotiate authenticate a connection (RFC 4559 §6): what is sent on it later is from the
user that it was authenticated for. So from the first request on that carries such credentials a
client's connection has connections to endpoints of its own, for as long as it lasts.

Every client may send such credentials, to any endpoint. So only what an endpoint has shown to
authenticate stays idle, and no more than a few; whatever else carried a request of that client is
closed behind the response, for no other client may have it.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from meshcore.upstream.branch import Branch
    from meshcore.upstream.pool import Pooled, Shared

# As many as upstreams whose endpoint is remembered (rust/meshcore-core/src/exchange/binding.rs). A
# client of HTTP/1.1 has one to each; over HTTP/2 requests that come at one time have one each.
MOST_IDLE: Final = 4


class Owner:
    """A client's connection that shares none."""

    __slots__ = ("branches",)

    def __init__(self) -> None:
        self.branches: dict[Branch, None] = {}
        """Those parts of pools that are its."""

    def surplus(self) -> Pooled | Shared | None:
        """The connection that has been idle longest, if there are too many. O(connections)."""
        idle = [connection for branch in self.branches for connection in branch.all_idle()]
        if len(idle) <= MOST_IDLE:
            return None
        return min(idle, key=lambda connection: connection.idle_since_ns)
