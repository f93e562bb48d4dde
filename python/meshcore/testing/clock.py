"""Time that a test moves."""

from __future__ import annotations

import threading
from typing import TYPE_CHECKING, Final

from meshcore.config.units import named_ns

if TYPE_CHECKING:
    from datetime import timedelta

    Time = str | float | timedelta

# Any will do that is no machine's: a part that takes no time from here is seen to.
_BEGINNING_NS: Final = 1_000_000_000_000_000


class Clock:
    """The ``clock=`` of limiters, breakers, retries, balancers and deadlines: it stands still until
    a test moves it. One may be given to any number of parts, and be moved by any thread; who waits
    looks at it every 10 ms.
    """

    def __init__(self) -> None:
        self._ns = _BEGINNING_NS
        self._moving = threading.RLock()

    def __call__(self) -> int:
        """Nanoseconds."""
        return self._ns

    def advance(self, time: Time) -> None:
        """Move it on by a text such as ``30s``, seconds or a `timedelta`; `ValueError` for what is
        no time."""
        ns = named_ns("time", time)
        with self._moving:
            self._ns += ns
