"""Connections of a listener whose TLS is not agreed yet: bounded for themselves."""

from __future__ import annotations

from typing import Final, Generic, TypeVar

Holder = TypeVar("Holder")
# A handshake that takes longer than this has no better claim than a new one.
SLOW_NS: Final = 1_000_000_000


class _Place(Generic[Holder]):
    """What one of them holds, whatever it is called in the meantime."""

    __slots__ = ("crowd", "has_begun", "holder", "since_ns")

    def __init__(self, holder: Holder, crowd: int, since_ns: int) -> None:
        self.holder = holder
        self.crowd = crowd
        self.since_ns = since_ns
        self.has_begun = False

    def is_slow(self, now: int) -> bool:
        return now - self.since_ns > SLOW_NS


class _Crowd(Generic[Holder]):
    """Those of one address, each in the order they came."""

    __slots__ = ("begun", "silent")

    def __init__(self) -> None:
        self.silent: dict[_Place[Holder], None] = {}
        self.begun: dict[_Place[Holder], None] = {}

    def __len__(self) -> int:
        return len(self.silent) + len(self.begun)

    def of(self, place: _Place[Holder]) -> dict[_Place[Holder], None]:
        return self.begun if place.has_begun else self.silent


class Handshakes(Generic[Holder]):
    """Those under way, by the addresses that they come from. Every operation is O(1).

    One too many ends another: of the address that has most of them (of several such the one that
    has had so many longest) one that takes longer than `SLOW_NS`, else one that has not begun to
    speak, else the last to come; of the former two who has been there for longest. So a client that
    opens connections and says nothing, or hardly anything, shuts out no client from elsewhere; and
    from many addresses only those who need longer than it takes to open as many as there may be.
    What is under way is not given up for what has not begun: when one address asks for more than
    there is time for, what is begun is done, and the rest is refused.
    """

    __slots__ = ("_by_size", "_crowds", "_most", "_places")

    def __init__(self) -> None:
        self._places: dict[object, _Place[Holder]] = {}
        self._crowds: dict[int, _Crowd[Holder]] = {}
        self._by_size: dict[int, dict[int, None]] = {}
        self._most = 0

    def __len__(self) -> int:
        return len(self._places)

    def __contains__(self, holder: object) -> bool:
        return holder in self._places

    def begin(self, holder: Holder, crowd: int, now: int) -> None:
        """One more, of those that ``crowd`` tells from others."""
        place = self._places[holder] = _Place(holder, crowd, now)
        self._join(place)

    def pass_on(self, holder: object, to: Holder) -> None:
        """It is another object now, in the same place."""
        place = self._places[to] = self._places.pop(holder)
        place.holder = to

    def has_begun(self, holder: object) -> None:
        """Its first byte has come."""
        place = self._places[holder]
        crowd = self._crowds[place.crowd]
        del crowd.of(place)[place]
        place.has_begun = True
        crowd.begun[place] = None

    def rename(self, holder: Holder, crowd: int) -> None:
        """It is known now from where it really comes."""
        place = self._places[holder]
        self._quit(place)
        place.crowd = crowd
        self._join(place)

    def end(self, holder: object) -> bool:
        """It is over. False if it was before."""
        place = self._places.pop(holder, None)
        if place is not None:
            self._quit(place)
        return place is not None

    def next_to_go(self, now: int) -> Holder:
        """Who makes place when there are too many. There must be one."""
        crowd = self._crowds[next(iter(self._by_size[self._most]))]
        silent, begun = next(iter(crowd.silent), None), next(iter(crowd.begun), None)
        for first in (silent, begun):
            if first is not None and first.is_slow(now):
                return first.holder
        return (silent or next(reversed(crowd.begun))).holder

    def _join(self, place: _Place[Holder]) -> None:
        crowd = self._crowds.setdefault(place.crowd, _Crowd())
        crowd.of(place)[place] = None
        self._resize(place.crowd, len(crowd) - 1, len(crowd))

    def _quit(self, place: _Place[Holder]) -> None:
        crowd = self._crowds[place.crowd]
        del crowd.of(place)[place]
        self._resize(place.crowd, len(crowd) + 1, len(crowd))
        if not crowd:
            del self._crowds[place.crowd]

    def _resize(self, crowd: int, before: int, now: int) -> None:
        if before:
            same = self._by_size[before]
            del same[crowd]
            if not same:
                del self._by_size[before]
        if now:
            self._by_size.setdefault(now, {})[crowd] = None
        if now > self._most or (before == self._most and before not in self._by_size):
            self._most = now
