"""What connections to endpoints ask of what pools them."""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    from collections.abc import Callable

    from meshcore._core import Outbox
    from meshcore.upstream.counts import UpstreamCounts
    from meshcore.upstream.pool import Pooled, Shared


class HalfClosed(Protocol):
    """A connection whose endpoint says no more, in a tunnel that goes on."""

    def look(self) -> None:
        """See whether its endpoint has left for good."""


class PoolOwner(Protocol):
    """Takes connections back, and gives their places on."""

    outbox: Outbox
    now_ns: Callable[[], int]
    """The clock of all connections."""
    counts: UpstreamCounts
    half_closed: dict[HalfClosed, None]
    """Those that are to be looked after."""

    def released(self, connection: Pooled, now: int) -> None:
        """A connection has served its request, and may serve another."""

    def released_unread(self, connection: Pooled) -> None:
        """The same of one that was not read at the end of the response."""

    def has_room(self, connection: Shared, now: int) -> None:
        """A connection may lend streams, perhaps more than before."""

    def lost(self, connection: Pooled) -> None:
        """A connection is closed: its place is free."""

    def lost_shared(self, connection: Shared) -> None:
        """The same of one that lends streams."""
