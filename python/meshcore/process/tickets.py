"""The keys of TLS tickets, the same for all workers: a client resumes at whichever it meets.

They go to workers by the channel and nowhere else: no file, status or log has them. One seals for
as long as a ticket may be used, and opens for as long again. A program's own proxies have keys of
their process.
"""

from __future__ import annotations

import asyncio
import time
from typing import Final

from meshcore.downstream.tls import TICKETS, ticket_key

LIFETIME_S: Final = 7_200.0
"""Of a ticket (rust/meshcore-core/src/tls/server.rs)."""


class TicketKeys:
    """Those in force, the newest first."""

    __slots__ = ("keys",)

    def __init__(self) -> None:
        self.keys: tuple[bytes, ...] = (ticket_key(),)

    def renew(self) -> None:
        """A new one seals from now on; the one before it still opens."""
        self.keys = (ticket_key(), self.keys[0])


class OwnKeys:
    """Of this process, for its own proxies; renewed when it is time, whichever of them looks."""

    __slots__ = ("_keys", "_since_s")

    def __init__(self) -> None:
        self._keys = TicketKeys()
        self._put(time.monotonic())

    def _put(self, now_s: float) -> None:
        self._since_s = now_s
        TICKETS.set(self._keys.keys)

    def look(self, now_s: float) -> float:
        """Renew them if it is time. When to look again, in seconds."""
        if now_s >= self._since_s + LIFETIME_S:
            self._keys.renew()
            self._put(now_s)
        return self._since_s + LIFETIME_S - now_s


OWN_KEYS: Final = OwnKeys()


class Renewal:
    """Looks after them for as long as a proxy runs."""

    __slots__ = ("_timer",)

    def __init__(self) -> None:
        self._look()

    def _look(self) -> None:
        due_s = OWN_KEYS.look(time.monotonic())
        self._timer = asyncio.get_running_loop().call_later(due_s, self._look)

    def end(self) -> None:
        """The proxy has ended."""
        self._timer.cancel()
