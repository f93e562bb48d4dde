"""An endpoint's part in its upstream's cap: one, however many clients have branches of its pool."""

from __future__ import annotations

from heapq import heappop, heappush
from typing import TYPE_CHECKING, Final

from meshcore.upstream.resting import NEVER, Idle

if TYPE_CHECKING:
    from collections.abc import Iterator

    from meshcore.upstream.branch import Branch
    from meshcore.upstream.pool import Pool, Pooled, Shared

# Turns that are over are swept out of the heap once it holds so many more than those that are not.
SLACK: Final = 16


class Part:
    """The places that an endpoint has, and who waits for one."""

    __slots__ = ("_root", "_turns", "held", "lacks", "level", "resting", "rests_ns")

    def __init__(self, root: Pool) -> None:
        self._root = root
        self.held = 0  # connections that are open or in the making, and places that are left to it
        self.lacks = 0  # how many more would serve all who wait
        self.level: int | None = None  # where it stands among those that lack some
        # Nothing of it is idle since before then.
        self.rests_ns = NEVER
        # Branches with a connection that carries no request, and perhaps some that have none any
        # more. Whose client asked or was answered last comes last.
        self.resting: dict[Branch, None] = {}
        # For each pool that lacks a connection, since when; and what is no longer so.
        self._turns: list[tuple[int, Pool]] = []

    def lack(self, pool: Pool, lacks: int, since_ns: int) -> None:
        """So many connections a pool lacks now; who waits longest of those whom no other serves has
        waited since then. Amortised O(log of the pools)."""
        self.lacks += lacks - pool.lacks
        pool.lacks = lacks
        if since_ns == pool.lacks_since_ns:
            return
        pool.lacks_since_ns = since_ns
        if not lacks:
            return
        heappush(self._turns, (since_ns, pool))
        if len(self._turns) > 2 * self.lacks + SLACK:
            self._turns = sorted({turn for turn in self._turns if _lasts(turn)})

    def first(self) -> Pool:
        """The pool whose turn it is, if any lacks a connection: a request in it has waited longest,
        so that a client has no more turns for having more pools. Amortised O(log of the pools)."""
        while not _lasts(self._turns[0]):
            heappop(self._turns)
        return self._turns[0][1]

    @property
    def number(self) -> int:
        """That of its endpoint."""
        return self._root.endpoint

    def oldest_idle(self) -> Idle | None:
        """The connection that makes room first, and since when it is idle: of those that are single
        clients', one of the client that asked nothing for the longest time, and since when that is.
        Amortised O(connections of HTTP/2)."""
        idle = [Idle(each.idle_since_ns, each) for each in self._idlest(self._root)]
        while self.resting:
            branch = next(iter(self.resting))
            if own := list(self._idlest(branch)):
                first = min(own, key=lambda each: each.idle_since_ns)
                idle.append(Idle(branch.rests_ns, first))
                break
            del self.resting[branch]
        return min(idle, key=lambda each: each.since_ns, default=None)

    def _idlest(self, pool: Pool) -> Iterator[Pooled | Shared]:
        return (each for each in pool.idlest() if each not in pool.cluster.leaving)


def _lasts(turn: tuple[int, Pool]) -> bool:
    since_ns, pool = turn
    return pool.lacks_since_ns == since_ns
