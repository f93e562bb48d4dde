"""The response's way to the client: its head, its body, and both sides of a tunnel."""

from __future__ import annotations

from typing import TYPE_CHECKING

from meshcore._core import Body, body_of
from meshcore.exchange.flow import Flow
from meshcore.exchange.phase import ANSWERING, ENDED, FULL, LOOKED_AT, LOOKING, OVER, TUNNEL
from meshcore.exchange.sending import Sending

if TYPE_CHECKING:
    from meshcore._core import Chunk, Response
    from meshcore.exchange.ports import Passage


class Relaying(Sending):
    """What goes to the client once layers have seen the response's head."""

    __slots__ = ("tunnels",)

    tunnels: bool  # the response begins one

    def commit(self, now_ns: int) -> None:
        """Send the response head to the client, and what came with it and behind it."""
        response = self.response
        assert response is not None
        self._kept = None  # no other attempt follows
        looked_at, self.phase = self.endpoint_pauses & LOOKED_AT, ANSWERING
        layers, first = self.layers, None
        if layers is not None and layers.streams is not None:
            first = self._open_response(layers, response)
        self.down.send_response(response, self.ticket)
        if self.tunnels:
            self._begin_tunnel(response, now_ns)
            if self.phase == OVER:
                return
        elif response.end:
            self._complete(now_ns)
            return
        self.ticket.relayed(0, now_ns)
        if self.ticket.due_sooner:
            self.down.arm(self.ticket.arm())
        held, self._held = self._held, None
        if first is not None:
            held = [first, *(held or ())]
        for piece in held or ():
            if self.phase == OVER:
                return
            if type(piece) is Body:
                self.on_response_body(piece, now_ns)
            else:
                self.on_response_data(piece, now_ns)
        if looked_at:
            self._set_endpoint_pauses(self.endpoint_pauses & ~LOOKED_AT)
        elif self.endpoint_pauses and self.up is not None:
            self.up.pause_reading()

    def on_whole(self, sent: object, now_ns: int) -> None:
        """The whole response, as `down.whole_to` sent it: all of the request was read, no layer
        is to see it, its ticket is finished and its connection given back. `_complete` and `_end`,
        where these have nothing to ask."""
        self._kept = self.up = None
        self.phase = OVER
        if self.driver.observer is not None:
            self.driver.observer.ended(self)  # type: ignore[arg-type]  # an Exchange
        self.down.relayed(sent, now_ns)

    def _begin_tunnel(self, response: Response, now_ns: int) -> None:
        self.phase, self.request_done = TUNNEL, False
        self.down.begin_tunnel(now_ns)
        if self.up is not None and self.up.choked:
            self.client_pauses = 0  # it is read from now on
            self._pause_client(FULL, now_ns)
        if response.end and self.phase != OVER:
            self.down.send_end(body_of(response), self.ticket)
            self._endpoint_ended(now_ns)

    def on_response_data(self, data: bytes | Chunk, now_ns: int) -> None:
        """A piece of the response's body."""
        if self.phase == LOOKING:
            self._hold(data)
            return
        self.ticket.relayed(len(data), now_ns)
        layers = self.layers
        if layers is not None and layers.outward is not None:
            self._put(layers.outward, bytes(data), None, now_ns)
        else:
            self.down.send_data(data)

    def on_response_body(self, body: Body, now_ns: int) -> None:
        """A piece of the response's body that may be the last."""
        if self.phase == LOOKING:
            self._hold(body)
            return
        layers = self.layers
        if layers is not None and layers.outward is not None:
            self._take_out(layers.outward, body, now_ns)
            return
        if data := body.data:
            self.on_response_data(data, now_ns)
        if body.end and self.phase != OVER:
            self.ticket.trailed(body, now_ns)
            self.down.send_end(body, self.ticket)
            if self.phase == TUNNEL:
                self._endpoint_ended(now_ns)
            else:
                self._complete(now_ns)

    def _endpoint_ended(self, now_ns: int) -> None:
        if self.half_closes:
            self._set_endpoint_pauses(self.endpoint_pauses | ENDED)
            self._half_ended(now_ns)
        else:
            self._complete(now_ns)

    def _half_ended(self, now_ns: int) -> None:
        """A side of a tunnel has said all. It is over when both have, and the endpoint has taken
        what it was sent: closing its connection drops the rest."""
        up = self.up
        if self.request_done and self.endpoint_ended and not (up and up.choked):
            self._complete(now_ns)
        else:
            self.ticket.relayed(0, now_ns)  # a sign of life

    def on_endpoint_room(self, now_ns: int) -> None:
        """The endpoint takes more of the request."""
        self._resume_client(FULL, now_ns)
        if self.endpoint_ended:
            self._half_ended(now_ns)

    def _hold(self, piece: bytes | Chunk | Body) -> None:
        """Bounded: its connection or stream is not read on, so one read or one window comes."""
        self._held = [*(self._held or ()), piece]

    def _complete(self, now_ns: int) -> None:
        # `_give_back`, written out: two calls more for each request would be seen.
        up, self.up = self.up, None
        if up is not None:
            up.exchange = None
            if self.request_done and (self.layers is None or self.layers.inward is None):
                up.release(now_ns)
            else:
                up.discard()
        self._end(now_ns)

    # --- changed by layers --------------------------------------------------------------------

    def _open_response(self, layers: Passage, response: Response) -> Body | None:
        """Layers that change the response's body do so from now on; what came with its head."""
        if self.tunnels:
            return None
        flow = Flow.of_the_response(layers.streams or (), self.request, response)
        if flow is None:
            return None
        first = self.ticket.open_response(self.request, response, flow.keeps_length)
        if first is not None:
            layers.outward = flow
        return first

    def _take_out(self, flow: Flow, body: Body, now_ns: int) -> None:
        data = body.data
        self.ticket.relayed(len(data), now_ns)
        if body.end:
            # All is here: what the client still sends goes nowhere, and no other is waited
            # for.
            self.ticket.trailed(body, now_ns)
            self._give_back(now_ns)
            inward = self.layers.inward if self.layers is not None else None
            if inward is not None:
                inward.stop()
                self._rest(inward, now_ns)
            self._resume_client(self.client_pauses, now_ns)
        self._put(flow, data, body if body.end else None, now_ns)

    def _pass_on(self, flow: Flow, now_ns: int) -> None:
        if flow.of_request:
            self._send_made(flow, now_ns)
            return
        data, end = flow.data, flow.end
        if data:
            self.down.send_data(data)
        if end is not None:
            if flow.trailers_changed:
                self.ticket.trailers_changed(end)
            self.down.send_end(end, self.ticket)
            self._complete(now_ns)
