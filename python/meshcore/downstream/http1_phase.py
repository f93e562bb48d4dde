"""Where a client's connection over HTTP/1.1 stands, what it takes, and why it is not read."""

from __future__ import annotations

from typing import Final

# Where a connection stands.
IDLE: Final = 0
"""Nothing of a request has come."""
READING: Final = 1
"""A request's head has begun."""
SERVING: Final = 2
"""A request is under way."""
CLOSING: Final = 3
"""What still comes is dropped."""

# What it takes while its listener drains.
ALL: Final = 0
ON_THEIR_WAY: Final = 1
"""Requests that are on their way, and no other."""
NONE: Final = 2

# Why it is not read: bits of a set.
EXCHANGE: Final = 1
"""The exchange says so."""
PIPELINE: Final = 2
"""Enough requests wait behind the one under way."""
UNREAD: Final = 4
"""The client has not taken the responses that it got."""
ANY: Final = EXCHANGE | PIPELINE | UNREAD
ENDED: Final = 8
"""The client says no more: nothing is read again."""
