"""The request's body: sent on as it comes, kept for another attempt, and changed by layers."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from meshcore._core import Body, Keep, Reason
from meshcore.exchange.ending import Ending
from meshcore.exchange.flow import Flow
from meshcore.exchange.kept import keep_piece
from meshcore.exchange.phase import HEAD, OVER, TUNNEL, UNTAKEN

if TYPE_CHECKING:
    from meshcore._core import Chunk
    from meshcore.exchange.kept import Pieces
    from meshcore.exchange.ports import Passage

_NO: Final = int(Keep.NO)
_FULL: Final = int(Keep.FULL)


class Sending(Ending):
    """What goes to the endpoint behind the request's head."""

    __slots__ = ("_kept", "_last")

    _kept: Pieces | None
    """The body after the head's own part: until it was sent, and for replay."""
    _last: Body | None
    """Its end."""

    def on_request_data(self, data: bytes | Chunk, now_ns: int) -> None:
        """A piece of the request's body."""
        layers = self.layers
        if layers is not None and layers.inward is not None:
            self.ticket.came(len(data), now_ns)
            self._put(layers.inward, bytes(data), None, now_ns)
            return
        up, ticket = self.up, self.ticket
        # Its deadline moves on, so the timer is left as it is: once it fires, it asks again.
        self._keep_and_send(ticket.received(len(data), up is not None, now_ns), data, now_ns)

    def _keep_and_send(self, keep: int, data: bytes | Chunk, now_ns: int) -> None:
        """Keep a piece as far as the ticket says, and send it if an endpoint takes it."""
        if keep == _NO:
            self._kept = None
        else:
            self._kept = keep_piece(self._kept, data)
            if keep == _FULL:
                self._pause_client(UNTAKEN, now_ns)
        if self.up is not None:
            self.up.send_data(data)

    def on_request_body(self, body: Body, now_ns: int) -> None:
        """A piece of the request's body that may be the last."""
        layers = self.layers
        if layers is not None and layers.inward is not None:
            self._take_in(layers.inward, body, now_ns)
            return
        if data := body.data:
            self.on_request_data(data, now_ns)
        if not body.end or self.phase == OVER:
            return
        if self.phase == TUNNEL and not self.half_closes:
            self._cut(Reason.CLIENT_GONE, "half-closed, and the other side cannot be", now_ns)
            return
        ticket, self.request_done = self.ticket, True
        ticket.request_ended(now_ns)
        # A client that leaves is seen by reading, and what it asks for next is no part of this.
        self._resume_client(self.client_pauses, now_ns)
        self._last = body
        if self.up is not None:
            self.up.send_end(body, ticket)
        if self.phase == HEAD:
            self.resume(now_ns)
        elif self.phase == TUNNEL:
            self._half_ended(now_ns)
        elif ticket.due_sooner:
            self.down.arm(ticket.arm())

    def kept_body(self) -> bytes:
        """What of it is kept for another attempt, behind what came with the head."""
        return b"".join(map(bytes, self._kept or ()))

    def resume(self, now_ns: int) -> None:
        """What was awaited before the request can go on is there."""
        raise NotImplementedError

    def _half_ended(self, now_ns: int) -> None:
        """A side of a tunnel has said all."""
        raise NotImplementedError

    # --- changed by layers --------------------------------------------------------------------

    def _open_request(self, layers: Passage, now_ns: int) -> None:
        """The request goes to an endpoint: layers that change its body do so from now on. What came
        of it already is one piece."""
        flow = Flow.of_the_request(layers.streams or (), self.request)
        if flow is None:
            return
        first = self.ticket.open_request(self.request, flow.keeps_length)
        if first is None:
            return
        layers.inward = flow
        kept, last, self._kept, self._last = self._kept or (), self._last, None, None
        data = b"".join((first.data, *map(bytes, kept)))
        self._put(flow, data, first if first.end else last, now_ns)

    def _take_in(self, flow: Flow, body: Body, now_ns: int) -> None:
        data = body.data
        self.ticket.came(len(data), now_ns)
        if body.end:
            self.request_done = True
            self._resume_client(self.client_pauses, now_ns)
        self._put(flow, data, body if body.end else None, now_ns)

    def _send_made(self, flow: Flow, now_ns: int) -> None:
        """What layers made of a piece is what is kept, and sent again."""
        up, ticket, data, end = self.up, self.ticket, flow.data, flow.end
        if data:
            self._keep_and_send(ticket.made(len(data), up is not None), data, now_ns)
        if end is not None:
            assert self.layers is not None
            self.layers.inward = None
            self._last = end
            ticket.request_ended(now_ns)
            if up is not None:
                up.send_end(end, ticket)
            if ticket.due_sooner:
                self.down.arm(ticket.arm())
