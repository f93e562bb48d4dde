"""How long it is slept, by an event loop or in a thread: never shorter than it was asked for."""

from __future__ import annotations

import asyncio
import time
from typing import TYPE_CHECKING, Final

from meshcore._core import now_ns

if TYPE_CHECKING:
    from collections.abc import Callable

MILLISECOND: Final = 1_000_000
# A clock that is set by hand does not say that it moved: it is looked at this often.
GIVEN_CLOCK_NS: Final = 10 * MILLISECOND


def loop_seconds(wait_ns: int) -> float:
    """Whole milliseconds, as the loops count: uvloop would take half a one for none, and spin. It
    may still come early by one: who must not looks at the clock, and waits again."""
    return max(-(-wait_ns // MILLISECOND), 1) / 1e3


def running_loop() -> asyncio.AbstractEventLoop:
    """The event loop; `RuntimeError` where another library than asyncio runs what is async."""
    try:
        return asyncio.get_running_loop()
    except RuntimeError:
        raise RuntimeError(
            "no event loop of asyncio runs here, and meshcore waits by no other"
        ) from None


async def pause(pause_ns: int, clock: Callable[[], int] | None) -> None:
    """Sleep for that long by that clock, and no shorter."""
    now = clock or now_ns
    until_ns = now() + pause_ns
    while True:
        left_ns = until_ns - now()
        if left_ns <= 0:
            return
        await asyncio.sleep(loop_seconds(min(left_ns, GIVEN_CLOCK_NS) if clock else left_ns))


def pause_blocking(pause_ns: int, clock: Callable[[], int] | None) -> None:
    """The same for a thread."""
    if clock is None:
        time.sleep(pause_ns / 1e9)
        return
    until_ns = clock() + pause_ns
    while (left_ns := until_ns - clock()) > 0:
        time.sleep(min(left_ns, GIVEN_CLOCK_NS) / 1e9)
