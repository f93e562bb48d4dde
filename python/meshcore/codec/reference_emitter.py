"""The events that the reference engine emits of its streams, and how streams end."""

from __future__ import annotations

from collections import deque
from typing import TYPE_CHECKING, Final

from h2.connection import ConnectionState
from h2.errors import ErrorCodes
from hyperframe.frame import RstStreamFrame

from meshcore._core import Answer, H2Meter, Request, Reset, h2_about, h2_add_body
from meshcore.codec.reference_sender import CLOSED, MALFORMED, RESET, SENT, Sender
from meshcore.codec.reference_stream import GROWS_AFTER, Inbox, Stream
from meshcore.errors import CodecError

if TYPE_CHECKING:
    from meshcore._core import Body, CodecLimits
    from meshcore.codec.reference_stream import Fields
    from meshcore.config.snapshot import Http2Spec

# Streams that we reset whose late frames are not answered (as engine.rs has it).
REMEMBERED_RESETS: Final = 256


class Emitter(Sender):
    """The streams of one connection, as far as they emit events."""

    def __init__(self, server: bool, limits: CodecLimits, spec: Http2Spec, now_ns: int) -> None:
        super().__init__(server)
        self.closed = False
        self.flood: int | None = None
        self._limits = limits
        self._spec = spec
        self._touched: dict[int, Stream] = {}  # have something to emit
        self._meter = H2Meter(server, spec.resets, spec.control_frames, now_ns)
        self._now = now_ns
        self._choked = False
        self._first_window = 0
        self._ended_by_us: deque[int] = deque(maxlen=REMEMBERED_RESETS)

    def _open(self) -> None:
        client = self._h2.config.client_side
        state = ConnectionState.CLIENT_OPEN if client else ConnectionState.SERVER_OPEN
        self._h2.state_machine.state = state

    def _pass(self, now_ns: int) -> None:
        """Time goes on."""
        self._now = now_ns

    def _is_awaited(self, stream: Stream) -> bool:
        """Whether the owner must hear that there is no more of a stream."""
        raise NotImplementedError

    # --- events -------------------------------------------------------------------------------

    def _emit_all(self) -> None:
        while self._touched and not self.closed:
            self._emit(self._touched.pop(next(iter(self._touched))))

    def _emit(self, stream: Stream) -> None:
        """Emit what came of a stream as one event: its head, and what of the body came with it."""
        inbox, number = stream.inbox, stream.number
        body = None
        if inbox.paused:
            self._hold(inbox)
        else:
            try:
                body = self._take(stream)
            except CodecError as error:
                return self._refuse_rest(stream, error)
        head, inbox.head = inbox.head, None
        if head is not None:
            if body is not None:
                h2_add_body(head, body)
            self._events.append((number, head))
        elif body is not None and (body.data or body.end):
            self._events.append((number, body if body.end else body.data))
        if inbox.ended and not inbox.paused:
            inbox.open = False
        return self._forget_if_over(stream)

    def _take(self, stream: Stream) -> Body | None:
        """What came of a body; its window opens again, and grows when much was taken."""
        inbox, number = stream.inbox, stream.number
        credit, inbox.credit = inbox.credit, 0
        self._credit(number, credit)
        more, inbox.held = inbox.held, 0
        if not inbox.grown and inbox.received >= GROWS_AFTER * self._first_window:
            inbox.grown = True
            more += self._spec.stream_window_bytes - self._first_window
        if more and not inbox.ended:
            self._h2.increment_flow_control_window(more, number)
        return inbox.take(self._limits)

    def _hold(self, inbox: Inbox) -> None:
        """A paused stream keeps its own window shut, and no other stream's."""
        credit, inbox.credit = inbox.credit, 0
        if credit:
            inbox.held += credit
            self._h2.increment_flow_control_window(credit)

    def _credit(self, number: int, length: int) -> None:
        if length:
            self._h2.acknowledge_received_data(length, number)

    def _refuse(self, stream: Stream, error: CodecError, fields: Fields | None = None) -> None:
        """What came may not pass: the stream is open for an answer, the rest is not wanted.
        ``fields``: of the head that is refused."""
        head, stream.inbox.head = stream.inbox.head, None
        self._touched.pop(stream.number, None)
        self._close_inbox(stream)
        answer = Answer.for_codec_error(error)
        if isinstance(head, Request):
            answer = answer.about(head)
        elif fields is not None:
            answer = h2_about(answer, fields, self._limits)
        self._events.append((stream.number, answer))

    def _refuse_rest(self, stream: Stream, error: CodecError) -> None:
        """As `_refuse`, of what was emitted in part: work has begun, and it costs as much as
        a reset."""
        self._refuse(stream, error)
        self._charge()

    def _charge(self) -> None:
        """A fault of the peer's; what it costs is the meter's to say."""
        self._close_for_flood(self._meter.fault(self._now))

    def _close_inbox(self, stream: Stream) -> None:
        """The rest of what comes is not wanted."""
        inbox = stream.inbox
        inbox.open = False
        inbox.pieces.clear()
        credit, inbox.credit = inbox.credit, 0
        self._credit(stream.number, credit)

    # --- the end of a stream ------------------------------------------------------------------

    def _forget_if_over(self, stream: Stream) -> None:
        if stream.over:
            # A request that was not read to its end is stopped (RFC 9113 §8.1).
            self._end(stream.number, None if stream.inbox.ended else ErrorCodes.NO_ERROR)

    def _end(self, number: int, code: int | None) -> bool:
        """Forget a stream; with a code the peer hears it, unless it is over for it, too.

        Says whether the owner must hear of it.
        """
        if code is not None:
            self._reset(number, code)
        stream = self._streams.pop(number, None)
        self._touched.pop(number, None)
        if stream is None:
            return False
        awaited = self._is_awaited(stream)
        self._queued -= stream.outbox.stop()
        self._close_inbox(stream)
        return awaited

    def _reset(self, number: int, code: int) -> None:
        stream = self._h2.streams.get(number)
        over = self.closed or self._h2.state_machine.state is ConnectionState.CLOSED
        if over or stream is None or stream.closed_by is not None:
            return
        if stream.open:
            self._h2.reset_stream(number, code)
        else:  # what came was so wrong that the package never opened it, or closed it
            self._collect()
            self._output += RstStreamFrame(number, error_code=code).serialize()
        self._note_reset(number)

    def _reset_closed(self, number: int) -> None:
        """Something came for a stream that is over: say so once (§5.1, §5.4.2)."""
        if number not in self._ended_by_us and self._may_reset():
            self._collect()
            late = RstStreamFrame(number, error_code=ErrorCodes.STREAM_CLOSED)
            self._output += late.serialize()
            self._note_reset(number)

    def _note_reset(self, number: int) -> None:
        """A RST_STREAM goes out: what comes late for the stream is not answered."""
        self._ended_by_us.append(number)

    def _may_reset(self) -> bool:
        """Whether the peer tolerates another reset."""
        return True

    def _fault(self, number: int, detail: str, code: int = ErrorCodes.PROTOCOL_ERROR) -> None:
        """The peer broke the rules of one stream (RFC 9113 §5.4.2): the others go on."""
        if self._end(number, code):
            self._events.append((number, Reset(MALFORMED, code, detail)))
        self._charge()

    def _give_up(self, stream: Stream) -> None:
        """Its trailers are more than the peer takes; without them it would look whole."""
        number, client = stream.number, self._h2.config.client_side
        if client and number in self._touched:
            self._emit(self._touched.pop(number))  # what came before it counts
        code = ErrorCodes.CANCEL if client else ErrorCodes.INTERNAL_ERROR
        if self._end(number, code):
            detail = "field list larger than the peer takes"
            self._events.append((number, Reset(RESET, code, detail)))
        elif stream.left:
            self._events.append((number, SENT))

    def _close_for_flood(self, flood: int | None) -> None:
        """A flood ends the connection, with ENHANCE_YOUR_CALM."""
        if flood is not None:
            self.flood = flood
            self._fail(ErrorCodes.ENHANCE_YOUR_CALM, "flood")

    def _fail(self, code: int, detail: str) -> None:
        """The connection ends with an error; what came before it counts."""
        self._open()
        self._emit_all()
        if not self.closed:
            self._h2.close_connection(code)
            self._collect()
            self._close(code, detail)

    def _close(self, code: int = ErrorCodes.CANCEL, detail: str = "connection closed") -> None:
        if self.closed:
            return
        self.closed = True
        self._choked = False
        for number, stream in self._streams.items():
            if self._is_awaited(stream):
                self._events.append((number, Reset(RESET, code, detail)))
        self._streams.clear()
        self._touched.clear()
        self._queued = 0
        self._events.append((0, CLOSED))
