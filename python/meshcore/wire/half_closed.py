"""A connection whose peer says no more and may still listen.

The loop does not read it on, so a reset is seen when something is written; until then it is looked
for.
"""

from __future__ import annotations

import select
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    import asyncio

# How often a peer that has shut its sending side is looked after: what a peer asked that is gone is
# not worked on much longer, and a look is a system call.
LOOK_NS: Final = 500_000_000


def can_half_close(transport: asyncio.Transport | None) -> bool:
    """Whether this side can end alone."""
    return transport is not None and not transport.is_closing() and transport.can_write_eof()


def end_writing(transport: asyncio.Transport) -> None:
    """End this side, behind all that was written."""
    try:
        transport.write_eof()
    except OSError:  # the peer is gone; without a read this is not seen yet
        transport.abort()


def is_reset(transport: asyncio.Transport) -> bool:
    """Whether the peer ended the other direction, too. Only for a transport whose own sending side
    is open. O(1), a system call."""
    sock = transport.get_extra_info("socket")
    if sock is None:
        return False
    poll = select.poll()
    try:
        poll.register(sock.fileno(), 0)  # errors and hang-ups are told in any case
        return bool(poll.poll(0))
    except (OSError, ValueError):  # it is closed
        return True
