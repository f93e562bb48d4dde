"""Open connections of clients, for as long as they would be let in."""

from __future__ import annotations

from itertools import islice
from typing import TYPE_CHECKING, Final

from meshcore._core import Reason

if TYPE_CHECKING:
    from collections.abc import Iterable

    from meshcore._core import Answer, Peer, SecureTransport
    from meshcore.downstream.established import Established

# How often it is looked for those that have expired.
_LOOK_NS: Final = 10_000_000_000
# How many are verified at a look: each takes a tenth of a millisecond, and others wait meanwhile.
_AT_ONCE: Final = 100


def refuses_client(answer: Answer, peer: Peer) -> bool:
    """Whether it says that its client would not come in any more: the caller does not wait until
    it is its turn to be looked at. O(1)."""
    return answer.number == Reason.MISDIRECTED and not peer.is_admitted


class Certified:
    """Those of a listener with a certificate, and those that have to be checked again. One whose
    certificate has expired, or that would not come in any more, is drained: what is under way is
    answered, and it is told to ask elsewhere."""

    __slots__ = ("_due_ns", "_ends_s", "_refused", "_unchecked")

    def __init__(self) -> None:
        self._ends_s: dict[Established, int] = {}
        self._refused: dict[Established, None] = {}
        self._unchecked: dict[Established, None] = {}
        self._due_ns = 0

    def __len__(self) -> int:
        return len(self._ends_s)

    def add(self, connection: Established, secure: SecureTransport) -> None:
        """One more. O(certificate)."""
        ends_s = secure.certificate_ends_s()
        if ends_s is not None:
            self._ends_s[connection] = ends_s

    def discard(self, connection: object) -> None:
        """It is over."""
        self._ends_s.pop(connection, None)  # type: ignore[call-overload]  # or none of them
        self._refused.pop(connection, None)  # type: ignore[call-overload]  # or none of them
        self._unchecked.pop(connection, None)  # type: ignore[call-overload]  # or none of them

    def recheck(self, connections: Iterable[Established]) -> None:
        """Others may come in now: these have to be verified as if they came."""
        self._unchecked = dict.fromkeys(connections)

    def refused(self, connection: Established) -> None:
        """It was told that it would not come in any more: it waits for no other's turn."""
        self._refused[connection] = None

    def look(self, now: int, unix_s: float) -> None:
        """Drain those whose time is over, and verify some of those that have to be. O(open)."""
        if now >= self._due_ns:
            self._due_ns = now + _LOOK_NS
            for connection in [x for x, ends_s in self._ends_s.items() if ends_s < unix_s]:
                del self._ends_s[connection]  # of a client that may come in without one, say
                self._verify(connection, now, unix_s)
        for connection in list(self._refused):
            del self._refused[connection]
            if not connection.peer.is_admitted:  # other rules may have come
                self.discard(connection)
                connection.dismiss(now)
        for connection in list(islice(self._unchecked, _AT_ONCE)):
            del self._unchecked[connection]
            self._verify(connection, now, unix_s)

    def _verify(self, connection: Established, now: int, unix_s: float) -> None:
        if not connection.peer.verify_again(int(unix_s)):
            self.discard(connection)
            connection.dismiss(now)
