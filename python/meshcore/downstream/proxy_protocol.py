"""The PROXY protocol: a balancer in front says, before a client's first byte, who the client is.

Every connection of such a listener must begin with it, and come from whom the listener hears: one
that could go without would let clients in past the balancer, and one that all may write would
let them choose who they are. A peer that breaks that is cut without an answer, and logged: it is
not HTTP yet.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from meshcore._core import Answer, Reason
from meshcore.downstream.first_bytes import FirstBytes
from meshcore.errors import CodecError

if TYPE_CHECKING:
    import asyncio

    from meshcore._core import Peer


class ProxyHeader(FirstBytes):
    """Waits for the header."""

    __slots__ = ()

    def _admitted(self) -> bool:
        if self._listener.ends_tls:
            return self._listener.admit_handshake(self, self.peer.key)
        return super()._admitted()

    def adopt(self, transport: asyncio.Transport, peer: Peer, slot: int | None = None) -> None:
        """Hear only whom the listener hears."""
        super().adopt(transport, peer, slot)
        if not self._listener.stack.hears(peer):
            unheard = "PROXY header from a peer that is not trusted"
            self._refuse(Answer.for_reason(Reason.BAD_REQUEST, unheard))

    def data_received(self, data: bytes) -> None:
        """More of the header, and perhaps of what follows."""
        first = self._first = self._first + data if self._first else data
        assert self._transport is not None
        if self._transport.is_closing():
            return
        try:
            found = self._listener.announced(first)
        except CodecError as error:
            self._refuse(Answer.for_codec_error(error))
            return
        if found is not None:
            size, announced = found
            if announced is not None:
                self.peer, self._is_announced = announced, True
                self._listener.announced_handshake(self, announced.key)
            self._hand_over(self._listener.begins_as(self._listener), first[size:])

    def on_deadline(self, now: int) -> None:
        """The header is not whole in time."""
        unheard = "PROXY header not whole in time"
        self._refuse(Answer.for_reason(Reason.REQUEST_TIMEOUT, unheard))
