"""Whose connections to endpoints are, where no other client may use them.

NTLM and Negotiate authenticate a connection (RFC 4559 §6): whoever sends on it later speaks as whom
it was authenticated for. So from the first request on that carries such credentials a client's
connection has connections to endpoints of its own, for as long as it lasts.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from meshcore.upstream.branch import Branch


class Owner:
    """A client's connection that shares none."""

    __slots__ = ("branches",)

    def __init__(self) -> None:
        self.branches: dict[Branch, None] = {}
        """Those parts of pools that are its."""
