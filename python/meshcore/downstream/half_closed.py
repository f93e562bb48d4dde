"""Looks after a client that has shut its sending side and is served all the same."""

from __future__ import annotations

from typing import TYPE_CHECKING

from meshcore.wire.half_closed import LOOK_NS, is_reset

if TYPE_CHECKING:
    import asyncio

    from meshcore.downstream.deadlines import DeadlineTimer


class Watch:
    """Aborts a transport whose client is gone."""

    __slots__ = ("_deadlines", "_slot", "_transport")

    def __init__(self, transport: asyncio.Transport, deadlines: DeadlineTimer, now: int) -> None:
        self._transport = transport
        self._deadlines = deadlines
        self._slot = deadlines.add(self, now + LOOK_NS)

    def on_deadline(self, now: int) -> None:
        """It is time to look."""
        self._deadlines.arm(self._slot, now + LOOK_NS)
        if is_reset(self._transport):
            self._transport.abort()

    def stop(self) -> None:
        """Stop watching: the connection is being closed."""
        self._deadlines.remove(self._slot)
