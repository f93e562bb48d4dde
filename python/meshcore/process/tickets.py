"""The keys of TLS tickets, the same for all workers: a client resumes at whichever it meets.

They go to workers by the channel and to the next program of an upgrade, and nowhere else: no status
or log has them. One seals for as long as a ticket may be used, and opens for as long again. A
program's own proxies have keys of their process. What a configuration gives goes before both.
"""

from __future__ import annotations

import asyncio
import time
from typing import TYPE_CHECKING, Any, Final

from meshcore.config.ticket_keys import KEY_BYTES
from meshcore.downstream.tls import ticket_key

if TYPE_CHECKING:
    from collections.abc import Callable

    from meshcore._core import TicketRing

LIFETIME_S: Final = 7_200.0
"""Of a ticket (rust/meshcore-core/src/tls/server.rs)."""
LOOK_S: Final = 60.0
"""How often control looks whether it is time."""


class TicketKeys:
    """Those that a program makes, the newest first."""

    __slots__ = ("keys", "since_s")

    def __init__(self, now_s: float) -> None:
        """``now_s`` is of `time.monotonic`, which all processes of a host share."""
        self.keys: tuple[bytes, ...] = (ticket_key(),)
        self.since_s = now_s

    def look(self, now_s: float) -> bool:
        """If it is time, a new one seals from now on, and the one before it still opens; whether
        it was."""
        if now_s < self.since_s + LIFETIME_S:
            return False
        self.keys, self.since_s = (ticket_key(), self.keys[0]), now_s
        return True

    def exported(self) -> dict[str, Any]:
        """For the next program, perhaps of another version: as `Revision.exported`."""
        return {"keys": list(self.keys), "since_s": self.since_s}

    @classmethod
    def imported(cls, given: Any, now_s: float) -> TicketKeys:
        """Those of the program before, or new ones where it gave none that we understand."""
        found = cls(now_s)
        keys = given.get("keys") if isinstance(given, dict) else None
        if isinstance(keys, list) and keys and all(map(_is_key, keys)):
            found.keys = tuple(keys[:2])
            since_s = given.get("since_s")
            if isinstance(since_s, int | float):
                found.since_s = min(since_s, now_s)
        return found


def _is_key(given: object) -> bool:
    return isinstance(given, bytes) and len(given) == KEY_BYTES


class Renewal:
    """Gives a proxy of this process its keys, for as long as it runs."""

    __slots__ = ("_given", "_ring", "_timer")

    own: TicketKeys | None = None
    """Of the process, once a proxy has asked for them."""

    def __init__(self, ring: TicketRing, given: Callable[[], tuple[bytes, ...] | None]) -> None:
        """``given``: what the configuration in force gives."""
        self._ring = ring
        self._given = given
        self._timer: asyncio.TimerHandle | None = None

    def begin(self) -> None:
        """Look after them, until `end`."""
        due_s = self.look()
        self._timer = asyncio.get_running_loop().call_later(due_s, self.begin)

    def look(self) -> float:
        """Put in force what is to be now. When to look again, in seconds."""
        now_s = time.monotonic()
        own = Renewal.own = Renewal.own or TicketKeys(now_s)
        own.look(now_s)
        self._ring.set(self._given() or own.keys)
        return own.since_s + LIFETIME_S - now_s

    def end(self) -> None:
        """The proxy has ended."""
        if self._timer is not None:
            self._timer.cancel()
