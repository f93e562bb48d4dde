"""A connection in the making: until its TLS is agreed, and it is known what it speaks."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, cast

from meshcore._core import SecureTransport
from meshcore.upstream.http1 import Http1Connection
from meshcore.upstream.http2 import Http2Connection

if TYPE_CHECKING:
    from meshcore.upstream.pool import Pool
    from meshcore.upstream.pool_owner import PoolOwner

    Connection = Http1Connection | Http2Connection


class Chooser(asyncio.BaseProtocol):
    """Hands an open connection to the protocol that is spoken on it."""

    task: asyncio.Task[None]

    def __init__(self, pools: PoolOwner, pool: Pool) -> None:
        self._pools = pools
        self.pool = pool
        self.began_ns = 0  # when its task took its first step
        self.chosen: Connection | None = None
        self.is_shaking = False  # its TLS is under way
        self.made: asyncio.Future[None] = asyncio.get_running_loop().create_future()

    @property
    def placed(self) -> Chooser | Connection:
        """What has its place under the cap."""
        return self.chosen or self

    def cancel(self) -> bool:
        """Make no connection; false if it is one, or lost. A task that is cancelled before its
        first step would give nothing back; it has seen nothing of the upstream either."""
        gone = self.chosen is not None and self.chosen.is_lost
        return bool(self.began_ns) and not gone and self.task.cancel()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """The connection is open, TLS included."""
        made = cast("asyncio.Transport", transport)
        wanted = self.pool.cluster.spec.protocol
        if isinstance(transport, SecureTransport):
            self.is_shaking = False
            self._pools.counts.handshake_made(self.pool, transport)
        h2 = transport.alpn == "h2" if isinstance(transport, SecureTransport) else wanted == "h2"
        if wanted == "h2" and not h2:
            # RFC 9113 §3.2: no HTTP/2 over TLS without ALPN.
            if not self.made.done():
                self.made.set_exception(ConnectionError("no h2 by ALPN"))
            made.abort()
            return
        connection = (Http2Connection if h2 else Http1Connection)(self._pools, self.pool)
        self.chosen = connection
        made.set_protocol(connection)
        connection.connection_made(made)
        if not self.made.done():
            self.made.set_result(None)

    def eof_received(self) -> None:
        """The endpoint left within the handshake."""

    def connection_lost(self, exc: Exception | None) -> None:
        """The handshake failed, or the endpoint left."""
        if not self.made.done():
            self._pools.counts.tls_failed(self.pool, exc)
            self.made.set_exception(exc or ConnectionResetError("closed in the handshake"))
