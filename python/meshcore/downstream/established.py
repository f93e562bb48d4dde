"""What a listener asks of its connections."""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    from meshcore._core import Peer


class Connection(Protocol):
    """What a listener needs to know of its connections."""

    def drain(self, now: int) -> None:
        """Take no further request but those that are on their way."""

    def end(self, now: int) -> None:
        """The time to drain is over: end what is under way with the reason, and close."""

    def abort(self) -> None:
        """Cut it."""


class Established(Connection, Protocol):
    """A connection over which requests come."""

    peer: Peer

    def dismiss(self, now: int) -> None:
        """Its client would not be let in any more: end with the answers that are under way."""
