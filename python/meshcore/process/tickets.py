"""The keys of TLS tickets, the same for all workers: a client resumes at whichever it meets.

They go to workers by the channel and nowhere else: no file, status or log has them. One seals for
as long as a ticket may be used, and opens for as long again.
"""

from __future__ import annotations

from typing import Final

from meshcore.downstream.tls import ticket_key

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
