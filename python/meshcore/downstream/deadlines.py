"""One timer of the loop for all deadlines of a worker."""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING, Final, Protocol

from meshcore._core import DeadlineTable

if TYPE_CHECKING:
    import asyncio
    from collections.abc import Callable

log = logging.getLogger("meshcore")

# How late a deadline may be noticed. Timeouts are seconds; 20 wake-ups a second cost nothing.
TICK_S = 0.05
# A tick that is so late says that the loop stood still: others' bytes wait in the sockets, and in
# this time it reads them.
LATE_NS = 50_000_000
READ_S = 0.002
# Where it stood still for long the whole host may have, its clients and endpoints with it: they
# have this part of that time to go on, up to a bound.
PART = 4
MOST_S = 5.0
NEVER: Final = (1 << 63) - 1
"""What a deadline is set to that never passes."""


class Timed(Protocol):
    """Something that has one deadline at a time."""

    def on_deadline(self, now: int) -> None:
        """The armed deadline passed."""


def patience_s(late_ns: int) -> float:
    """How long deadlines wait for what was to come while the loop stood still."""
    return min(max(READ_S, late_ns / 1e9 / PART), MOST_S)


class DeadlineTimer:
    """Slots of deadlines, looked through once per tick. Arming is one store: O(1)."""

    def __init__(self, loop: asyncio.AbstractEventLoop, clock: Callable[[], int]) -> None:
        """``clock`` is `now_ns`, or a test's."""
        self._loop = loop
        self.now_ns = clock
        self.slots = DeadlineTable()
        """For calls that arm one beside other things."""
        self.arm = self.slots.arm
        self.owners: dict[int, Timed] = {}
        """Whose slots are. A call may have added one: its owner is put here, and the timer runs as
        long as another owner has a slot."""
        self._timer: asyncio.TimerHandle | None = None
        self._due_ns = 0  # when the timer should fire
        self._read_first = False

    def add(self, owner: Timed, deadline_ns: int, slot: int | None = None) -> int:
        """A slot for an owner, armed: a new one, or one that another owner has had until now."""
        if slot is None:
            slot = self.slots.add(deadline_ns)
        else:
            self.arm(slot, deadline_ns)
        self.owners[slot] = owner
        if self._timer is None:
            self._wait()
        return slot

    def remove(self, slot: int) -> None:
        """Give a slot back."""
        self.slots.remove(slot)
        del self.owners[slot]

    def _tick(self) -> None:
        now = self.now_ns()
        late_ns = now - self._due_ns
        if late_ns > LATE_NS and not self._read_first:
            # The loop stood still: what came meanwhile is read before a deadline counts.
            self._read_first = True
            self._timer = self._loop.call_later(patience_s(late_ns), self._tick)
            return
        self._read_first = False
        owners = self.owners
        for slot, owner in [(slot, owners.get(slot)) for slot in self.slots.expired(now)]:
            if owner is None or owners.get(slot) is not owner:
                continue  # another's end was its end too, and another owner may have the slot
            try:
                owner.on_deadline(now)
            except Exception:  # of one owner: the others' time is up too
                log.exception("a deadline failed")
        self._timer = None
        if owners:
            self._wait()

    def _wait(self) -> None:
        self._due_ns = self.now_ns() + int(TICK_S * 1e9)
        self._timer = self._loop.call_later(TICK_S, self._tick)

    def close(self) -> None:
        """Stop the timer."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
