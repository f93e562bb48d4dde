"""One request and its response: the only place where the order of things is written.

An exchange is driven by calls (a head came, the connection was lost, time is up) and answers
with calls on its ports. What is decided (which endpoint, whether again, when, what a passed
deadline means, who is to blame) its ticket decides, in the core. It holds no socket, reads no
clock and never awaits, so a test can fail it at every step.

It stands in one phase, from the head to the end. Who may be read meanwhile is `reading.py`'s, how
it ends `ending.py`'s, what becomes of its bodies `sending.py`'s and `relaying.py`'s, and what
layers make of those `hooking.py`'s.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from meshcore._core import Answer, Due, Next, Passed, Reason, Verdict
from meshcore.errors import CodecError
from meshcore.exchange.kept import as_sent
from meshcore.exchange.phase import (
    ANSWERING,
    ASKED,
    FULL,
    HEAD,
    LAYERS,
    LOOKED_AT,
    LOOKING,
    OVER,
    UNTAKEN,
    WAITING,
)
from meshcore.exchange.relaying import Relaying

if TYPE_CHECKING:
    from meshcore._core import Cause, ListenerStack, Request, Response, Ticket
    from meshcore.exchange.ports import Downstream, Driver, Lost, Upstream

# Looked up once: a member of an enumeration is found by a call of its metaclass.
_FORWARD: Final = int(Verdict.FORWARD)
_BIND: Final = int(Verdict.BIND)
_ANSWER: Final = int(Verdict.ANSWER)
_PAUSE: Final = int(Verdict.PAUSE)
_AGAIN: Final = int(Passed.AGAIN)
_TUNNEL: Final = int(Passed.TUNNEL)
_SILENT: Final = (Reason.UPSTREAM_TIMEOUT, Reason.UPSTREAM_IDLE)
_TIMEOUTS: Final = (Reason.UPSTREAM_TIMEOUT, Reason.UPSTREAM_TRY_TIMEOUT)


class Exchange(Relaying):
    """A request on its way."""

    __slots__ = ("stack",)

    def __init__(
        self, driver: Driver, down: Downstream, stack: ListenerStack, request: Request
    ) -> None:
        # Here, and not in the bases: a call more for each request would be seen.
        self.down = down
        self.up: Upstream | None = None
        self.phase = HEAD
        self.request_done = request.end
        self.client_pauses = 0
        self.endpoint_pauses = FULL if down.choked else 0
        self.driver = driver
        self.stack = stack
        self.request = request
        self.response = None
        self.layers = None
        self.local = None
        self.task = None
        self._kept = None
        self._last = None
        self._held = None

    # --- the way in ---------------------------------------------------------------------------

    def begin(self, now_ns: int) -> None:
        """Ask the core what to do with the request, and do it."""
        ticket = self.stack.begin(self.request, self.down.peer, now_ns)
        if ticket.verdict == _FORWARD:
            self.down.arm(ticket.arm())
        self.begun(ticket, now_ns)

    def begun(self, ticket: Ticket, now_ns: int) -> None:
        """The core has been asked, and the deadline is armed of a request that goes on to an
        endpoint: by `begin`, or by the codec in the call that read it."""
        self.ticket = ticket
        if self.driver.observer is not None:
            self.driver.observer.began(self, now_ns)
        verdict = ticket.verdict
        if verdict == _PAUSE:
            self.phase = LAYERS
            ran = self.driver.request_hooks.run(ticket, self.request)
            if type(ran) is int:
                verdict, now_ns = _FORWARD, ran
            elif ran is not None:
                self._go_on_from(ran)
                return
        if verdict == _FORWARD:
            # `_attempt`, written out: a call more for each request would be seen.
            self.phase = WAITING
            up = self.driver.pools.acquire(ticket.endpoint, self, now_ns, False)
            if up is not None:
                self.on_connected(up, now_ns)
        else:
            self.follow(verdict, now_ns)

    def _go_on_from(self, ran: object) -> None:
        """What hooks did that were run in one call is more than to let the request pass."""
        self.driver.go_on_from(self, ran)
        if self.phase <= LAYERS:  # one is awaited
            self.down.arm(self.ticket.arm())

    def resume(self, now_ns: int) -> None:
        """A Python layer let the request pass, or the awaited body is there: go on behind it."""
        self.follow(self.ticket.resume(self.request, self.down.peer, now_ns), now_ns)

    def follow(self, verdict: int, now_ns: int) -> None:
        """Do what the core says."""
        ticket = self.ticket
        if verdict == _FORWARD:
            layers = self.layers
            if layers is not None:
                if layers.streams is not None:
                    self.phase = LAYERS
                    self._open_request(layers, now_ns)
                    if self.phase != LAYERS:
                        return
                elif not layers and layers.ends is None:
                    self.layers = None  # none of them is to see any more of it
            self.down.arm(ticket.arm())
            self._attempt(now_ns, fresh=False)
        elif verdict == _BIND:
            self.down.own()
            self.follow(_FORWARD, now_ns)
        elif verdict == _ANSWER:
            self.answer(ticket.answer(self.request), now_ns)
        else:
            # Else its body is awaited first.
            self.phase = LAYERS if verdict == _PAUSE else HEAD
            if self.phase == LAYERS:
                self.driver.run_layer(self, ticket.layer)
            if self.phase <= LAYERS:  # a plain hook takes no time
                self.down.arm(ticket.arm())

    def _attempt(self, now_ns: int, *, fresh: bool) -> None:
        self.phase = WAITING
        up = self.driver.pools.acquire(self.ticket.endpoint, self, now_ns, fresh)
        if up is not None:
            self.on_connected(up, now_ns)

    def on_connected(self, up: Upstream, now_ns: int) -> None:
        """A connection is there: send what there is of the request."""
        ticket = self.ticket
        self.phase = ASKED
        self.up = up
        up.exchange = self
        try:
            taken = up.send_request(self.request, ticket, self.down.peer, now_ns)
        except CodecError as error:
            self.answer(Answer.for_codec_error(error), now_ns)
            return
        if not taken:
            self.on_failed(Reason.UPSTREAM_REFUSED, "no stream", now_ns)
            return
        if self._kept is not None:
            for piece in self._kept:
                up.send_data(as_sent(piece))
            if not ticket.keeps:
                self._kept = None
        if self._last is not None:
            up.send_end(self._last, ticket)
        if not self.request_done:
            # What the client sends follows this connection's pace, whatever the last one's was.
            if up.choked:
                self._pause_client(FULL, now_ns)
            self._resume_client(UNTAKEN, now_ns)

    # --- the response -------------------------------------------------------------------------

    def on_response(self, response: Response, now_ns: int) -> None:
        """A response head, with as much of its body as came in the same read."""
        if response.informational:
            self.down.send_informational(response, self.ticket)
            return
        self.on_passed(response, self.ticket.responded(response, now_ns), now_ns)

    def on_passed(self, response: Response, passed: int, now_ns: int) -> None:
        """`on_response` of a final one, where the codec has asked the ticket."""
        if passed >= _AGAIN:
            if passed == Passed.TOO_EARLY:
                self.on_failed(Reason.UPGRADE_UNSUPPORTED, "agreed within its body", now_ns)
            else:
                self._discard_upstream()
                self._again(passed == _AGAIN, now_ns)
            return
        self.response = response
        self.tunnels = passed == _TUNNEL
        go_on = self._look if self.layers else self.commit
        go_on(now_ns)

    def _look(self, now_ns: int) -> None:
        """Layers see the head; whatever follows it waits for them, in order."""
        self.phase = LOOKING
        self.ticket.await_layer(now_ns)
        if self.driver.run_response_layers(self):
            self.on_looked(now_ns)
        elif self.phase == LOOKING:
            self.down.arm(self.ticket.arm())
            if self.up is not None:
                self.endpoint_pauses |= LOOKED_AT
                self.up.pause_reading()

    def on_looked(self, now_ns: int) -> None:
        """Every layer has seen the response, or the answer given here."""
        if self.local is None:
            self.commit(now_ns)
        else:
            self.send_local(now_ns)

    # --- what goes wrong ----------------------------------------------------------------------

    def on_cut(self, detail: str, now_ns: int, lost: Lost) -> None:
        """The endpoint ended the connection, or the stream, before the response."""
        reason = lost.reason(self.phase >= LOOKING)
        self.on_failed(reason, detail, now_ns, lost.cause, lost.code)

    def on_failed(
        self,
        reason: int,
        detail: str,
        now_ns: int,
        cause: Cause | None = None,
        code: int | None = None,
    ) -> None:
        """The attempt failed: no connection, or it was lost, or it did not speak HTTP. ``cause``:
        what other requests may meet, too; ``code``: of the endpoint's RST_STREAM."""
        phase = self.phase
        if phase == OVER:
            return
        self._discard_upstream()
        if self.endpoint_ended:
            self._complete(now_ns)  # all that it had to say was said: it listens no more
        elif phase >= ANSWERING:
            # The head is out: a clean end would make a torn body look whole.
            self._cut(reason, detail, now_ns, cause, code)
        elif phase == LOOKING:
            if not self._is_whole():  # else it needs it no more
                self.answer(Answer.for_reason(reason, detail), now_ns, cause)
        else:
            follows = self.ticket.failed(reason, cause, now_ns)
            if follows == Next.ANSWER:
                self.answer(Answer.for_reason(self.ticket.cause, detail), now_ns)
            elif follows == Next.FRESH:
                self._attempt(now_ns, fresh=True)
            else:
                self._again(follows == Next.AGAIN, now_ns)

    def _again(self, at_once: bool, now_ns: int) -> None:
        ticket = self.ticket
        self.down.arm(ticket.arm())
        if at_once:
            self._attempt(now_ns, fresh=False)
        else:
            self.phase = WAITING
            self.driver.later(ticket.again_ns - now_ns, self, ticket.attempts)

    def on_backoff(self, attempt: int, now_ns: int) -> None:
        """The pause before a retry is over."""
        if self.phase == WAITING and self.ticket.attempts == attempt:
            self._attempt(now_ns, fresh=False)

    def on_deadline(self, now_ns: int) -> None:
        """The armed deadline passed: the ticket knows what it means."""
        phase, ticket = self.phase, self.ticket
        if phase == OVER:
            return
        due, reason, detail = ticket.due(
            bool(self.client_pauses), bool(self.endpoint_pauses), now_ns
        )
        if due == Due.NOT_YET:
            self.down.arm(ticket.arm())
        elif phase >= ANSWERING:
            self._cut(reason, detail, now_ns)
        else:
            if (held_up := self._leave_queue()) is not None and reason in _SILENT:
                reason = held_up  # it waited for our own cap or a name, not for the endpoint
            up = self.up if reason in _TIMEOUTS else None
            cause = up.why_silent() if up is not None else None
            if due == Due.ATTEMPT:
                self.on_failed(reason, detail, now_ns, cause)
            else:
                if reason == Reason.LAYER_ERROR:
                    self._leave_out_late()
                self.answer(Answer.for_reason(reason, detail), now_ns, cause)

    def end_with(self, answer: Answer, now_ns: int) -> None:
        """Answer if it can still be, else cut: a layer failed, or the request's body is malformed
        or over its limit, and nothing more of it goes out."""
        if self.phase >= ANSWERING:
            self._cut(answer.number, answer.detail, now_ns)
        else:
            self.answer(answer, now_ns)

    def on_drained(self, now_ns: int) -> None:
        """The time to drain is over: the client hears why, as far as its protocol can say it."""
        if self.phase < ANSWERING:
            if self.layers:
                self.layers.clear()  # there is no time for them
            self.answer(Answer.for_reason(Reason.DRAINING), now_ns)
        else:
            self._cut(Reason.DRAINING, "", now_ns)

    def on_downstream_lost(self, now_ns: int, detail: str = "") -> None:
        """The client left: the endpoint learns it at once, and is not blamed."""
        self._stop(Reason.CLIENT_GONE, detail, now_ns)

    def on_malformed(self, detail: str, now_ns: int) -> None:
        """What the client sent ended its stream: it cannot be told more."""
        self._stop(Reason.BAD_REQUEST, detail, now_ns)
