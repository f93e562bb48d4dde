"""One request and its response: the only place where the order of things is written.

An exchange is driven by calls (a head came, the connection was lost, time is up) and answers
with calls on its ports. It holds no socket, reads no clock and never awaits, so a test can fail
it at every step.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from meshcore._core import Answer
from meshcore.errors import CodecError
from meshcore.exchange.codes import Failure, Verdict

if TYPE_CHECKING:
    from meshcore._core import Body, Chunk, Listener, Request, Response, Ticket
    from meshcore.exchange.ports import Downstream, Driver, Task, Upstream

# A body is kept for a second attempt up to this many bytes: what Linkerd replays. Beyond it a
# request that was partly sent is not repeated.
REPLAY_BYTES: Final = 65_536
# Jittered pause before a retry, as Envoy's: uniform in 25 to 250 ms.
BACKOFF_MIN_NS: Final = 25_000_000
BACKOFF_SPAN_NS: Final = 225_000_000
# An async hook of a Python layer may take this long.
LAYER_NS: Final = 30_000_000_000
NEVER: Final = (1 << 63) - 1

_FORWARD: Final = Verdict.FORWARD
_ANSWER: Final = Verdict.ANSWER


class Exchange:
    """A request on its way: ticket, upstream connection, and what was sent so far."""

    __slots__ = (
        "_buffer",
        "_buffered",
        "_committed",
        "_deadline_ns",
        "_fresh",
        "_given_ns",
        "_last",
        "_request_done",
        "_sent",
        "_tunnel",
        "_unsettled",
        "_waiting",
        "down",
        "driver",
        "layers",
        "over",
        "request",
        "response",
        "stack",
        "status",
        "task",
        "ticket",
        "up",
    )

    def __init__(self, driver: Driver, down: Downstream, stack: Listener, request: Request) -> None:
        self.driver = driver
        self.down = down
        self.stack = stack
        self.request = request
        self.ticket: Ticket | None = None
        self.up: Upstream | None = None
        self.response: Response | None = None
        self.layers: list[object] | None = None
        self.task: Task | None = None  # an async layer's, cancelled with the exchange
        self.status = 0
        self.over = False
        self._request_done = request.end
        # The body after the head's own part, for replay.
        self._buffer: list[bytes | Chunk] | None = None
        self._buffered = 0
        self._last: Body | None = None  # the end of the request's body, for replay
        self._sent = False  # something of this attempt was written to the endpoint
        self._committed = False  # the response head went to the client
        self._waiting = False  # for a connection
        self._fresh = False  # a kept connection was stale: take a new one
        self._tunnel = False  # bytes pass both ways, and mean nothing here
        self._unsettled = False  # a gRPC status is still to come
        self._given_ns = NEVER  # when the client itself gives up
        self._deadline_ns = NEVER

    # --- the way in ---------------------------------------------------------------------------

    def begin(self, now_ns: int) -> None:
        """Ask the core what to do with the request, and do it."""
        ticket = self.ticket = self.stack.begin(self.request, self.down.peer, now_ns)
        self._follow(ticket, ticket.verdict, now_ns)

    def resume(self, now_ns: int) -> None:
        """A Python layer let the request pass: go on behind it."""
        ticket = self.ticket
        assert ticket is not None
        self._follow(ticket, ticket.resume(self.request, self.down.peer, now_ns), now_ns)

    def _follow(self, ticket: Ticket, verdict: int, now_ns: int) -> None:
        if verdict == _FORWARD:
            self._given_ns = ticket.deadline_ns
            self._arm_response(now_ns)
            self._attempt(now_ns)
        elif verdict == _ANSWER:
            self.answer(ticket.answer(self.request), now_ns)
        else:
            self.down.arm(now_ns + LAYER_NS)
            self.driver.run_layer(self, ticket.layer)

    def _arm_response(self, now_ns: int) -> None:
        """Time what is awaited: the next byte of the request, then the response head."""
        assert self.ticket is not None
        span = self.ticket.timeout_ns if self._request_done else self.ticket.body_idle_ns
        self._arm(now_ns + span if span else NEVER)

    def _arm(self, deadline_ns: int) -> None:
        given = self._given_ns
        self._deadline_ns = deadline_ns if deadline_ns < given else given
        self.down.arm(self._deadline_ns)

    def _attempt(self, now_ns: int) -> None:
        assert self.ticket is not None
        self._waiting = True
        up = self.driver.pools.acquire(self.ticket.endpoint, self, now_ns, self._fresh)
        if up is not None:
            self.on_connected(up, now_ns)

    def on_connected(self, up: Upstream, now_ns: int) -> None:
        """A connection is there: send what there is of the request."""
        assert self.ticket is not None
        self._waiting = False
        self.up = up
        up.exchange = self
        try:
            taken = up.send_request(self.request, self.ticket, self.down.peer, now_ns)
        except CodecError as error:
            self._drop_upstream(Failure.ABANDONED, now_ns)
            self.answer(Answer.for_codec_error(error), now_ns)
            return
        if not taken:
            self.on_failed(Failure.REFUSED, now_ns)
            return
        self._sent = True
        if self._buffer:
            for chunk in self._buffer:
                up.send_data(chunk)
        if self._last is not None:
            up.send_end(self._last)
        if self._buffered > REPLAY_BYTES:
            self._buffer = None  # held until somebody took it; too much to be sent twice
        if not self._request_done:
            # The client's bytes follow this connection's pace, whatever the last one's was.
            if up.choked:
                self.down.pause_reading()
            else:
                self.down.resume_reading()

    # --- the request's body -------------------------------------------------------------------

    def on_request_data(self, data: bytes | Chunk, now_ns: int) -> None:
        """A piece of the request's body."""
        up = self.up
        self._buffered += len(data)
        if self._tunnel and self.ticket is not None:
            self.ticket.tunnelled(False, len(data))
        if self._committed:
            self._buffer = None  # no other attempt follows
        elif self._buffered <= REPLAY_BYTES or up is None:
            if self._buffer is None:
                self._buffer = []
            self._buffer.append(data)
            if self._buffered > REPLAY_BYTES:
                # Nobody takes it yet: read no further until somebody does.
                self.down.pause_reading()
        else:
            self._buffer = None
        if up is not None:
            up.send_data(data)
        self._arm_awaited(now_ns)

    def on_request_body(self, body: Body, now_ns: int) -> None:
        """A piece of the request's body that may be the last."""
        if body.data:
            self.on_request_data(body.data, now_ns)
        if body.end and not self.over:
            self._end_request(body, now_ns)

    def _end_request(self, body: Body, now_ns: int) -> None:
        self._request_done = True
        if self.ticket is not None:
            self.ticket.request_ended(now_ns)
        self._last = body
        if self.up is not None:
            self.up.send_end(body)
        self._arm_awaited(now_ns)

    def _arm_awaited(self, now_ns: int) -> None:
        """A byte came from the client: time what follows. A layer at work keeps its own time."""
        if self._committed:
            self._arm_idle(now_ns)
        elif self.task is None:
            self._arm_response(now_ns)

    # --- the response -------------------------------------------------------------------------

    def on_response(self, response: Response, now_ns: int) -> None:
        """A response head, with as much of its body as came in the same read."""
        ticket = self.ticket
        assert ticket is not None
        if response.informational:
            self.down.send_informational(response)
            return
        retried = ticket.retries(response)
        if retried is not None and self._retry_answered(*retried, now_ns):
            return
        self._unsettled = ticket.responded(response, now_ns)
        self.status = response.status
        self.response = response
        if self.layers is not None:
            self.down.arm(now_ns + LAYER_NS)
            if not self.driver.run_response_layers(self):
                return
        self.commit(now_ns)

    def commit(self, now_ns: int) -> None:
        """Send the response head to the client, and what came with it."""
        response, ticket = self.response, self.ticket
        assert response is not None
        assert ticket is not None
        self._committed = True
        down = self.down
        down.send_response(response, ticket, self._request_done)
        if response.end:
            self._complete(now_ns)
        else:
            if ticket.tunnel and response.begins_tunnel:
                self._tunnel, self._request_done = True, False
                down.begin_tunnel(now_ns)
            if down.choked and self.up is not None:
                # An earlier response still waits: the loop will not say so again.
                self.up.pause_reading()
            self._arm_idle(now_ns)

    def on_response_data(self, data: bytes | Chunk, now_ns: int) -> None:
        """A piece of the response's body."""
        ticket = self.ticket
        assert ticket is not None
        if self._unsettled:
            ticket.streamed(now_ns)
        if self._tunnel:
            ticket.tunnelled(True, len(data))
        self.down.send_data(data)
        self._arm_idle(now_ns)

    def on_response_body(self, body: Body, now_ns: int) -> None:
        """A piece of the response's body that may be the last."""
        if body.data:
            self.on_response_data(body.data, now_ns)
        if body.end and not self.over:
            if self._unsettled and self.ticket is not None:
                self.ticket.trailed(body, now_ns)
            self.down.send_end(body)
            self._complete(now_ns)

    def _arm_idle(self, now_ns: int) -> None:
        assert self.ticket is not None
        idle = self.ticket.idle_ns
        self._arm(now_ns + idle if idle else NEVER)

    def _complete(self, now_ns: int) -> None:
        up, self.up = self.up, None
        if up is not None:
            up.exchange = None
            if self._request_done:
                up.release(now_ns)
            else:
                up.discard()
        self._end(now_ns)

    def _end(self, now_ns: int) -> None:
        self.over = True
        if self.ticket is not None:
            self.ticket.finish(now_ns)
        self.down.finished(now_ns, self._request_done)

    # --- what goes wrong ----------------------------------------------------------------------

    def on_failed(self, failure: int, now_ns: int) -> None:
        """The attempt failed: no connection, or it was lost, or it did not speak HTTP."""
        self._waiting = False
        if self.over:
            return
        ticket, response = self.ticket, self.response
        assert ticket is not None
        if self._committed:
            # The head is out: a clean end would make a torn body look whole.
            ticket.fail(failure, now_ns)
            self.cancel(now_ns)
            self.down.abort()
        elif response is not None:
            # A layer looks at the response. A whole one needs its connection no more.
            self._discard_upstream()
            if not response.end:
                self._end_layer()
                ticket.fail(failure, now_ns)
                self.answer(Answer.for_failure(failure), now_ns)
        elif not self._retry(failure, now_ns):
            self.answer(Answer.for_failure(failure), now_ns)

    def _retry(self, failure: int, now_ns: int) -> bool:
        """Settle the failed attempt; true if another one follows."""
        ticket = self.ticket
        assert ticket is not None
        up = self._discard_upstream()
        if failure == Failure.REFUSED:
            self._sent = False  # nothing was processed (RFC 9113 §8.7)
        stale = up is not None and up.reused and failure == Failure.RESET and not self._fresh
        if stale and self._may_repeat(failure):
            # The endpoint had closed a kept connection (RFC 9112 §9.3.1): no failed attempt.
            self._fresh, self._sent = True, False
            self._attempt(now_ns)
            return True
        ticket.fail(failure, now_ns)
        return self._try_again(failure, 0, now_ns)

    def _retry_answered(self, failure: int, status: int, now_ns: int) -> bool:
        """True if another attempt follows; else this answer is the client's, body and all."""
        if not self._try_again(failure, status, now_ns):
            return False
        self._discard_upstream()
        return True

    def _try_again(self, failure: int, status: int, now_ns: int) -> bool:
        ticket = self.ticket
        assert ticket is not None
        delay = BACKOFF_MIN_NS + ticket.jitter(BACKOFF_SPAN_NS)
        if now_ns + delay >= self._deadline_ns or not self._may_repeat(failure):
            return False
        if not ticket.retry(failure, status, now_ns):
            return False
        self._fresh, self._sent = False, False
        self.driver.later(delay, self, ticket.attempts)
        return True

    def _may_repeat(self, failure: int) -> bool:
        """Nothing was sent; or the method is idempotent, or the route names the status that the
        call ended with, and the whole body so far is at hand."""
        if not self._sent:
            return self._buffered <= REPLAY_BYTES or self._buffer is not None
        allowed = self.request.idempotent or failure == Failure.GRPC
        return allowed and self._buffered <= REPLAY_BYTES

    def on_backoff(self, attempt: int, now_ns: int) -> None:
        """The pause before a retry is over."""
        if not self.over and self.ticket is not None and self.ticket.attempts == attempt:
            self._attempt(now_ns)

    def on_deadline(self, now_ns: int) -> None:
        """The armed deadline passed: a layer, the request's body, the response's head or its next
        byte did not come in time."""
        if self.over:
            return
        if self._committed:
            self.cancel(now_ns)
            self.down.abort()
        elif now_ns >= self._given_ns:
            self._end_layer()
            self._drop_upstream(Failure.DEADLINE, now_ns)
            self.answer(Answer.for_failure(Failure.DEADLINE), now_ns)
        elif self.task is not None:
            self._end_layer()
            self.fail_layer(Answer.for_reason("layer_error"), now_ns)
        elif not self._request_done and self.up is not None and not self.up.choked:
            # Also a client that awaits 100-continue: neither side can be blamed, one must end it.
            self._drop_upstream(Failure.ABANDONED, now_ns)
            self.answer(Answer.for_reason("request_timeout"), now_ns)
        else:
            self._drop_upstream(Failure.TIMEOUT, now_ns)
            self.answer(Answer.for_failure(Failure.TIMEOUT), now_ns)

    def fail_layer(self, answer: Answer, now_ns: int) -> None:
        """A Python layer raised: 500, whichever side it was on."""
        if self.over:
            return
        self._drop_upstream(Failure.ABANDONED, now_ns)
        self.answer(answer, now_ns)

    def on_bad_request(self, answer: Answer, now_ns: int) -> None:
        """The request's body is malformed or over its limit: nothing more of it goes out."""
        if self.over:
            return
        self._drop_upstream(Failure.ABANDONED, now_ns)
        if self._committed:
            self.cancel(now_ns)
            self.down.abort()
        else:
            self.answer(answer, now_ns)

    def on_drained(self, now_ns: int) -> None:
        """The time to drain is over: the client hears why, as far as its protocol can say it."""
        if self.over:
            return
        self._end_layer()
        self._drop_upstream(Failure.ABANDONED, now_ns)
        answer = Answer.for_reason("draining")
        if not self._committed:
            self.answer(answer, now_ns)
        elif self._unsettled and self.down.send_ending(answer):
            self._end(now_ns)
        else:
            self.cancel(now_ns)
            self.down.abort()

    def on_downstream_lost(self, now_ns: int) -> None:
        """The client left: the upstream learns it at once, the ticket is settled as cancelled."""
        self.cancel(now_ns)

    def cancel(self, now_ns: int) -> None:
        """End without an answer. Idempotent."""
        if self.over:
            return
        self.over = True
        self._end_layer()
        # Who leaves before all was asked has not waited for anybody.
        done = self._request_done
        self._drop_upstream(Failure.CANCELLED if done else Failure.ABANDONED, now_ns)
        if self.ticket is not None:
            self.ticket.finish(now_ns)

    def _end_layer(self) -> None:
        task, self.task = self.task, None
        if task is not None:
            task.cancel()

    def _discard_upstream(self) -> Upstream | None:
        """Part with the connection, which carries no other request; which one it was."""
        up, self.up = self.up, None
        if up is not None:
            up.exchange = None
            up.discard()
        return up

    def _drop_upstream(self, failure: int, now_ns: int) -> None:
        ticket = self.ticket
        if self._waiting and ticket is not None:
            self._waiting = False
            if not self.driver.pools.cancel(ticket.endpoint, self):
                failure = Failure.ABANDONED  # it waited for our own cap, not for the endpoint
        self._discard_upstream()
        if ticket is not None:
            ticket.fail(failure, now_ns)

    # --- answers given here -------------------------------------------------------------------

    def answer(self, answer: Answer, now_ns: int) -> None:
        """Answer the request here, and end it."""
        if self.over or self._committed:
            return
        self._committed = True
        self.status = answer.status
        self.stack.answered(answer)
        if self.ticket is not None:
            self.ticket.answered(answer.status)
        self.down.send_answer(self.request, answer, self._request_done)
        self._end(now_ns)
