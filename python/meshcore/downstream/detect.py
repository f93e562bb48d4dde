"""Which protocol a client speaks without TLS: its first bytes say it.

RFC 9113 §3.3: a client that knows begins with the preface, which is no request of HTTP/1.1.
"""

from __future__ import annotations

from meshcore.downstream.first_bytes import FirstBytes
from meshcore.downstream.http1 import Http1Connection
from meshcore.downstream.http2 import Http2Connection

PREFACE = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"


class Detection(FirstBytes):
    """Tells the protocols of a plain connection apart."""

    __slots__ = ()

    def data_received(self, data: bytes) -> None:
        """The first bytes: enough when they are, or are not, the preface."""
        first = self._first = self._first + data if self._first else data
        if first.startswith(PREFACE):
            self._hand_over(Http2Connection(self._listener), first)
        elif PREFACE.startswith(first):
            return  # too few to tell
        else:
            self._hand_over(Http1Connection(self._listener), first)
