"""Which idle connection makes room: the endpoints that have any, in the order of how long.

An endpoint is sorted when room is asked for. A request costs a comparison while there is
enough, and what is sorted stays so until it is looked at: since when an endpoint's connections are
idle may have moved on meanwhile, never back.
"""

from __future__ import annotations

from heapq import heapify, heappop, heappush, heapreplace
from typing import TYPE_CHECKING, Final, NamedTuple

if TYPE_CHECKING:
    from meshcore.upstream.part import Part
    from meshcore.upstream.pool import Pooled, Shared

# An endpoint without an idle connection rests from then on.
NEVER: Final = 1 << 63
# What is out of date is swept out once there is so much more of it than of what is not.
SLACK: Final = 16

# Since when an endpoint rests, its number, which makes an order of equals, and the endpoint.
Place = tuple[int, int, "Part"]


class Idle(NamedTuple):
    """An idle connection."""

    since_ns: int
    connection: Pooled | Shared


class Resting:
    """The endpoints of an upstream that have idle connections, by how many connections they have:
    who has more makes room for who has fewer."""

    __slots__ = ("_kept", "_levels", "_moved")

    def __init__(self) -> None:
        self._levels: dict[int, list[Place]] = {}
        self._moved: dict[Part, None] = {}  # whose places are not right any more
        self._kept = 0  # how many places were left when they were swept

    def add(self, part: Part, since_ns: int) -> None:
        """An endpoint has a connection that is idle since then, and none before. O(1)."""
        part.rests_ns = since_ns
        self._moved[part] = None

    def move(self, part: Part) -> None:
        """An endpoint has more or fewer connections than before. O(1)."""
        if part.rests_ns != NEVER:
            self._moved[part] = None

    def oldest(self, part: Part, rested_ns: int) -> Pooled | Shared | None:
        """The connection that has been idle longest of those that make room for an endpoint: its
        own, those of endpoints that have more, and those that are idle since ``rested_ns`` or
        longer. Amortised O(log of the endpoints + different numbers of connections that they have).
        """
        self._sort()
        found = part.oldest_idle()
        for level in list(self._levels):
            first = self._first(level)
            if (
                first is not None
                and (level > part.held or first.since_ns <= rested_ns)
                and (found is None or first.since_ns < found.since_ns)
            ):
                found = first
        return found.connection if found is not None else None

    def _first(self, level: int) -> Idle | None:
        places = self._levels[level]
        while places:
            since_ns, number, part = places[0]
            if not _lasts(places[0], level):
                heappop(places)
                continue
            idle = part.oldest_idle()
            if idle is None:
                part.rests_ns = NEVER
                heappop(places)
            elif idle.since_ns > since_ns:
                part.rests_ns = idle.since_ns
                heapreplace(places, (idle.since_ns, number, part))
            else:
                return idle
        del self._levels[level]
        return None

    def _sort(self) -> None:
        for part in self._moved:
            if part.rests_ns != NEVER:
                place = (part.rests_ns, part.number, part)
                heappush(self._levels.setdefault(part.held, []), place)
        self._moved.clear()
        if sum(map(len, self._levels.values())) > 2 * self._kept + SLACK:
            self._sweep()

    def _sweep(self) -> None:
        self._kept = 0
        for level, places in list(self._levels.items()):
            lasting = {place for place in places if _lasts(place, level)}
            self._levels[level] = places = list(lasting)
            heapify(places)
            self._kept += len(places)


def _lasts(place: Place, level: int) -> bool:
    since_ns, _, part = place
    return part.rests_ns == since_ns and part.held == level
