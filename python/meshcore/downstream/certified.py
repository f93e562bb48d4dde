"""Open connections of clients that came in by a certificate, for as long as it lets them in."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from meshcore._core import SecureTransport, TlsServer
    from meshcore.downstream.listener import Connection

# How often it is looked for those that have expired.
_LOOK_NS: Final = 10_000_000_000
# So many are verified at a look: each takes a tenth of a millisecond, and others wait meanwhile.
_AT_ONCE: Final = 100


class Certified:
    """Those of a listener. One whose certificate has expired, or is not admitted any more, is
    drained: what it has asked for is answered, and it is told to ask elsewhere."""

    __slots__ = ("_due_ns", "_open", "_unjudged")

    def __init__(self) -> None:
        self._open: dict[Connection, tuple[SecureTransport, int]] = {}
        self._unjudged: list[Connection] = []
        self._due_ns = 0

    def __len__(self) -> int:
        return len(self._open)

    def add(self, connection: Connection, secure: SecureTransport) -> None:
        """One more. O(certificate)."""
        ends_s = secure.certificate_ends_s()
        if ends_s is not None:
            self._open[connection] = secure, ends_s

    def discard(self, connection: Connection) -> None:
        """It is over."""
        self._open.pop(connection, None)

    def judge_again(self) -> None:
        """Others may come in now: all have to be verified as if they came."""
        self._unjudged = list(self._open)

    def look(self, now: int, unix_s: float, tls: TlsServer) -> None:
        """Drain those whose time is over, and verify some of those that have to be. O(open)."""
        if now >= self._due_ns:
            self._due_ns = now + _LOOK_NS
            for connection in [x for x, (_, ends_s) in self._open.items() if ends_s < unix_s]:
                self._drain(connection, now)
        some, self._unjudged = self._unjudged[:_AT_ONCE], self._unjudged[_AT_ONCE:]
        for connection in some:
            found = self._open.get(connection)
            if found is not None and not found[0].is_admitted_by(tls):
                self._drain(connection, now)

    def _drain(self, connection: Connection, now: int) -> None:
        self.discard(connection)
        connection.drain(now)
