"""Connections of a listener whose TLS is not agreed yet: bounded for themselves."""

from __future__ import annotations

from typing import Final, Generic, TypeVar

Holder = TypeVar("Holder")
# A handshake that takes longer than this has no better claim than a new one.
SLOW_NS: Final = 1_000_000_000


class _Crowd(Generic[Holder]):
    """Those of one address, each in the order they came."""

    __slots__ = ("begun", "key", "silent", "size")

    def __init__(self, key: int) -> None:
        self.key = key
        self.size = 0
        self.silent: dict[_Place[Holder], None] = {}
        self.begun: dict[_Place[Holder], None] = {}


class _Place(Generic[Holder]):
    """What one of them holds, whatever it is called in the meantime."""

    __slots__ = ("crowd", "has_begun", "holder", "since_ns")

    crowd: _Crowd[Holder]

    def __init__(self, holder: Holder, since_ns: int) -> None:
        self.holder = holder
        self.since_ns = since_ns
        self.has_begun = False

    def is_slow(self, now: int) -> bool:
        return now - self.since_ns > SLOW_NS


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

    def begin(self, holder: Holder, crowd: int, now: int) -> int:
        """One more, of those that ``crowd`` tells from others. How many there are now."""
        place = self._places[holder] = _Place(holder, now)
        self._join(place, crowd)
        return len(self._places)

    def pass_on(self, holder: object, to: Holder) -> None:
        """It is another object now, in the same place."""
        place = self._places[to] = self._places.pop(holder)
        place.holder = to

    def has_begun(self, holder: object) -> None:
        """Its first byte has come; of one that is not under way nothing is noted."""
        place = self._places.get(holder)
        if place is None:
            return
        crowd = place.crowd
        del (crowd.begun if place.has_begun else crowd.silent)[place]
        place.has_begun = True
        crowd.begun[place] = None

    def rename(self, holder: Holder, crowd: int) -> None:
        """It is known now from where it really comes."""
        place = self._places[holder]
        self._quit(place)
        self._join(place, crowd)

    def end(self, holder: object) -> bool:
        """It is over. False if it was before."""
        place = self._places.pop(holder, None)
        if place is None:
            return False
        self._quit(place)
        return True

    def next_to_go(self, now: int) -> Holder:
        """Who makes place when there are too many. There must be one."""
        crowd = self._crowds[next(iter(self._by_size[self._most]))]
        silent, begun = next(iter(crowd.silent), None), next(iter(crowd.begun), None)
        for first in (silent, begun):
            if first is not None and first.is_slow(now):
                return first.holder
        return (silent or next(reversed(crowd.begun))).holder

    def _join(self, place: _Place[Holder], key: int) -> None:
        crowd = self._crowds.get(key)
        if crowd is None:
            crowd = self._crowds[key] = _Crowd(key)
        place.crowd = crowd
        (crowd.begun if place.has_begun else crowd.silent)[place] = None
        self._resize(crowd, 1)

    def _quit(self, place: _Place[Holder]) -> None:
        crowd = place.crowd
        del (crowd.begun if place.has_begun else crowd.silent)[place]
        self._resize(crowd, -1)
        if not crowd.size:
            del self._crowds[crowd.key]

    def _resize(self, crowd: _Crowd[Holder], by: int) -> None:
        key, before, by_size = crowd.key, crowd.size, self._by_size
        now = crowd.size = before + by
        if before:
            same = by_size[before]
            del same[key]
            if not same:
                del by_size[before]
        if now in by_size:
            by_size[now][key] = None
        elif now:
            by_size[now] = {key: None}
        if now > self._most or (before == self._most and before not in by_size):
            self._most = now
