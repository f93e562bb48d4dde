"""An endpoint's part in its upstream's cap: one, however many clients have branches of its pool."""

from __future__ import annotations

from heapq import heappop, heappush
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from meshcore.upstream.branch import Branch
    from meshcore.upstream.pool import Pool, Pooled, Shared

# Turns that are over are swept out of the heap once it holds so many more than those that are not.
SLACK: Final = 16


class Part:
    """The places that an endpoint has, and who waits for one."""

    __slots__ = ("_turns", "held", "lacks", "level", "resting")

    def __init__(self) -> None:
        self.held = 0  # connections that are open or in the making, and places that are left to it
        self.lacks = 0  # how many more would serve all who wait
        self.level: int | None = None  # where it stands among those that lack some
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
        """The pool whose turn it is, if any lacks a connection: somebody in it has waited longest,
        so that a client has no more turns for having more pools. Amortised O(log of the pools)."""
        while not _lasts(self._turns[0]):
            heappop(self._turns)
        return self._turns[0][1]

    def rested(self) -> list[Pooled | Shared]:
        """The idle connections of the client that asked nothing for the longest time. Amortised
        O(its connections)."""
        while self.resting:
            branch = next(iter(self.resting))
            if idle := list(branch.idlest()):
                return idle
            del self.resting[branch]
        return []


def _lasts(turn: tuple[int, Pool]) -> bool:
    since_ns, pool = turn
    return pool.lacks_since_ns == since_ns
