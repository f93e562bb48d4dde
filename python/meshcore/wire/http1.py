"""What both sides of an HTTP/1.1 connection do with a transport."""

from __future__ import annotations

from typing import TYPE_CHECKING

from meshcore.wire.half_closed import can_half_close

if TYPE_CHECKING:
    import asyncio

    from meshcore._core import Chunk


class BodyWriter:
    """Writes the pieces of a message's body. A base, so that a piece costs no further call."""

    __slots__ = ()

    _transport: asyncio.Transport | None
    _chunks: bool
    """The body goes out in chunks (RFC 9112 §7.1)."""

    def send_data(self, data: bytes | Chunk) -> None:
        """A piece of the body: as it is, or as a chunk in one system call."""
        transport = self._transport
        if transport is None or transport.is_closing():
            return
        if type(data) is not bytes:
            data = bytes(data)
        if self._chunks:
            transport.writelines((b"%x\r\n" % len(data), data, b"\r\n"))
        else:
            transport.write(data)

    @property
    def half_closes(self) -> bool:
        """As long as the transport is open."""
        return can_half_close(self._transport)
