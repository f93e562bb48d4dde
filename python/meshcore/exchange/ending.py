"""How a request ends: with a whole answer, an answer given here, or without one."""

from __future__ import annotations

from typing import TYPE_CHECKING

from meshcore._core import Answer, Body, Reason, Response
from meshcore.exchange.hooking import Hooking
from meshcore.exchange.phase import ANSWERING, FULL, LOOKING, OVER, UNTAKEN, WAITING

if TYPE_CHECKING:
    from meshcore._core import Cause, Chunk, Request
    from meshcore.exchange.ports import Task


class Ending(Hooking):
    """The ends of an exchange: each happens once, and parts with whatever works for the request.

    Only exchanges are made of it, as the ports ask for.
    """

    __slots__ = ("_held", "local", "request", "response", "task")

    request: Request
    response: Response | None
    local: Answer | None
    """The answer given here that layers look at: `response` shows it to them."""
    task: Task | None
    """An async layer's, cancelled with the exchange."""
    _held: list[bytes | Chunk | Body] | None
    """Of the response, behind its head, while layers look at that."""

    def _end(self, now_ns: int) -> None:
        """The client has a whole answer."""
        self.phase = OVER
        self.ticket.finish(now_ns)
        if self.driver.observer is not None:
            self.driver.observer.ended(self)  # type: ignore[arg-type]  # an Exchange
        layers = self.layers
        if layers is not None:
            if layers.streams is not None:
                self._stop_flows(layers)
            if layers.ends is not None:
                self.driver.emit_layer_ends(self)  # type: ignore[arg-type]  # an Exchange
        self.down.finished(now_ns)

    def _cut(
        self,
        reason: int,
        detail: str,
        now_ns: int,
        cause: Cause | None = None,
        code: int | None = None,
    ) -> None:
        """End what the client has in part, so that it does not look whole. ``code``: with which the
        endpoint reset its stream."""
        if self.phase != OVER:
            sent = reason != Reason.CLIENT_IDLE and self._send_ending(reason, code)
            self._stop(reason, detail, now_ns, cause)
            if sent:
                self.down.finished(now_ns)
            else:
                self.down.cut(now_ns)

    def _send_ending(self, reason: int, code: int | None) -> bool:
        """End a gRPC response under way with a status: a reset tells its client nothing, and no
        client can use half a message in front of a failure."""
        if self.phase != ANSWERING or not (self.ticket.pending or self._holds_status()):
            return False
        answer = Answer.for_reason(reason, code=code)
        sent = self.down.send_ending(answer)
        if sent:
            self.ticket.ended_with(answer)
        return sent

    def _holds_status(self) -> bool:
        """Whether the status of a gRPC call is here, and a layer still has what comes before it."""
        held = self.layers is not None and self.layers.outward is not None
        return held and self.ticket.knows_status

    def _stop(self, reason: int, detail: str, now_ns: int, cause: Cause | None = None) -> None:
        """End without an answer of ours. Idempotent."""
        phase = self.phase
        if phase == OVER:
            return
        self._part()
        self.phase = OVER
        self.ticket.cut(reason, detail, phase, cause, now_ns)
        if self.driver.observer is not None:
            self.driver.observer.ended(self)  # type: ignore[arg-type]  # an Exchange
        if self.layers is not None and self.layers.ends is not None:
            self.driver.emit_layer_ends(self)  # type: ignore[arg-type]  # an Exchange

    def _part(self) -> None:
        """Part with whatever works for the request: a layer, a place in a queue, a connection."""
        task, self.task = self.task, None
        if task is not None:
            task.cancel()
        if self.layers is not None:
            self._stop_flows(self.layers)
        self._leave_queue()
        self._discard_upstream()

    def _leave_queue(self) -> Reason | None:
        """Wait no more for a connection; why it did, unless for the endpoint."""
        if self.phase == WAITING:
            return self.driver.pools.cancel(self.ticket.endpoint, self)  # type: ignore[arg-type]  # an Exchange
        return None

    def _discard_upstream(self) -> None:
        """Part with the connection, which carries no other request."""
        up, self.up = self.up, None
        if up is not None:
            up.exchange = None
            up.discard()
            if self.client_pauses & FULL:
                # Until another one takes what the client sends.
                self.client_pauses = self.client_pauses & ~FULL | UNTAKEN

    def _give_back(self, now_ns: int) -> None:
        """All of the response is here: its endpoint is needed no more."""
        up, self.up = self.up, None
        if up is not None:
            up.exchange = None
            if self._is_sent():
                up.release(now_ns)
            else:
                up.discard()

    def _is_sent(self) -> bool:
        """Whether the endpoint has all of the request."""
        return self.request_done and (self.layers is None or self.layers.inward is None)

    # --- answers given here -------------------------------------------------------------------

    def answer(self, answer: Answer, now_ns: int, cause: Cause | None = None) -> None:
        """Answer the request here, and end it. ``cause``: as in `on_failed`.

        Layers that saw the request see the answer first; one that is given while they do is final.
        """
        phase = self.phase
        if phase >= ANSWERING:
            return
        self._part()
        if self.layers is not None:
            self._rest_flows(self.layers, now_ns)
        if self.layers and self.local is None:
            self._show(answer, cause, now_ns)
            return
        self.ticket.answered(self.request, answer, phase, cause, now_ns)
        self._send(answer, now_ns)

    def _show(self, answer: Answer, cause: Cause | None, now_ns: int) -> None:
        """Let layers see the answer. Who is to blame for it is told now: they take their time."""
        ticket = self.ticket
        ticket.decided(answer, self.phase, cause, now_ns)
        self.phase = LOOKING
        self.local, self.response = answer, answer.as_response(self.request)
        ticket.await_layer(now_ns)
        if self.driver.run_response_layers(self):  # type: ignore[arg-type]  # an Exchange
            self.send_local(now_ns)
        elif self.phase == LOOKING:
            self.down.arm(ticket.arm())

    def replace(self, answer: Answer, now_ns: int) -> None:
        """A layer gives this answer instead of the response that it saw; those outside of it see
        it too."""
        if self.local is not None:
            self.local, self.response = answer, answer.as_response(self.request)
            return
        if self._is_sent() and self._is_whole():
            self._give_back(now_ns)
        self.answer(answer, now_ns)

    def send_local(self, now_ns: int) -> None:
        """Send the answer that layers have seen, with what they made of its head."""
        answer, response = self.local, self.response
        assert answer is not None
        assert response is not None
        self.ticket.answered(self.request, answer, LOOKING, None, now_ns)
        self._send(answer.with_head_of(self.request, response), now_ns)

    def _send(self, answer: Answer, now_ns: int) -> None:
        self.phase = ANSWERING
        self.down.send_answer(self.request, answer)
        self._end(now_ns)

    def _is_whole(self) -> bool:
        """Whether all of the response has come that a layer looks at the head of."""
        last = self._held[-1] if self._held else self.response
        return isinstance(last, Body | Response) and last.end
