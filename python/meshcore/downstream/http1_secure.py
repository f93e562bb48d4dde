"""A client's connection over HTTP/1.1 and TLS."""

from __future__ import annotations

import asyncio

from meshcore.downstream.http1 import Http1Connection


class SecureHttp1Connection(Http1Connection, asyncio.BufferedProtocol):
    """A connection over TLS: what is decrypted goes into one buffer of the listener.

    Without it the loop allocates the largest read there may be (256 KiB) for each read.
    """

    __slots__ = ()

    secure = True

    def get_buffer(self, sizehint: int) -> memoryview:
        """Where the loop decrypts to; `buffer_updated` follows before any other connection's."""
        return self._listener.received

    def buffer_updated(self, nbytes: int) -> None:
        """So many bytes are there."""
        self.data_received(bytes(self._listener.received[:nbytes]))
