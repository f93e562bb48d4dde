"""The endpoint's side of a connection, on the package ``h2``: requests out, responses in."""

from __future__ import annotations

from collections import deque
from typing import TYPE_CHECKING, Any, Final

from h2.errors import ErrorCodes
from h2.exceptions import NoAvailableStreamIDError
from h2.settings import SettingCodes

from meshcore._core import (
    Reason,
    Reset,
    body_of,
    h2_list_bytes,
    h2_read_response,
    h2_write_request,
    h2_write_trailers,
)
from meshcore.codec.frames import FrameKind
from meshcore.codec.reference import SHORT_BODY, Reference
from meshcore.codec.reference_sender import GOING_AWAY, REFUSED, RESET
from meshcore.codec.reference_stream import Stream, content_length
from meshcore.errors import CodecError

if TYPE_CHECKING:
    from meshcore._core import CodecLimits, Peer, Request, Response, Ticket
    from meshcore.codec.frames import Frame
    from meshcore.codec.reference_stream import Fields
    from meshcore.config.snapshot import Http2Spec

# As rust/meshcore-core/src/codec/limits.rs: 1xx responses to one request.
MAX_INTERIM: Final = 32
TOO_MANY: Final = "too many interim heads"
# As resets.rs has them.
RESET_WINDOW_NS: Final = 30_000_000_000
MOST_RESETS: Final = 190
MANY: Final = 1 << 31


class ReferenceClient(Reference):
    """`meshcore.codec.ClientCodec` in Python. For one thread."""

    def __init__(self, limits: CodecLimits, secure: bool, spec: Http2Spec, now_ns: int) -> None:
        super().__init__(False, limits, spec, now_ns)
        self._sent_resets: deque[int] = deque()  # when those of the window were sent
        self._fresh = 0  # sent since the time was last told
        self._secure = secure
        self._going_away = False
        self.authenticates = False
        self._greet({SettingCodes.ENABLE_PUSH: 0}, h2_list_bytes(limits))

    # --- requests -----------------------------------------------------------------------------

    def can_open(self, now_ns: int) -> int:
        """How many more streams may be opened now: none before the endpoint's SETTINGS came."""
        self._pass(now_ns)
        return self._room()

    def can_carry(self, now_ns: int) -> int:
        """The same of streams whose bodies would pass at once: none while the window is used up."""
        return 0 if self.clogged else self.can_open(now_ns)

    def _room(self) -> int:
        if self.closed or self._going_away or not self._settled:
            return 0
        most = min(self._h2.remote_settings.max_concurrent_streams, self._spec.streams)
        return max(0, min(most - len(self._streams), self._resets_left()))

    @property
    def can_upgrade(self) -> bool:
        """Whether the endpoint takes an extended CONNECT (RFC 8441 §3)."""
        return bool(self._h2.remote_settings.enable_connect_protocol)

    def send_request(self, request: Request, ticket: Ticket, peer: Peer, now_ns: int) -> int | None:
        """Open a stream with a request and what of its body came with it."""
        if not self._room():
            return None
        fields, tunnel = h2_write_request(
            request, ticket, peer, now_ns, self._secure, self.can_upgrade
        )
        self._check_list(fields)
        try:
            number = self._h2.get_next_available_stream_id()
        except NoAvailableStreamIDError:
            return None
        body = body_of(request)
        # A tunnel's own bytes follow, and their end.
        trailers = h2_write_trailers(body, ticket, False) if body.end and not tunnel else None
        stream = self._streams[number] = Stream(number)
        stream.awaited = True
        stream.head_request = request.method == "HEAD"
        stream.tunnel = bool(tunnel)
        ends = not body.data and trailers == []
        self._send_head(stream, fields, ends)
        if not ends:
            self._send(stream, body.data, trailers)
        return number

    # --- resets, as rust/meshcore-core/src/codec/h2/resets.rs counts them -----------------------

    def forward(self, request: Request, ticket: Ticket, peer: Peer, now_ns: int) -> int | None:
        """`send_request`, of which the ticket is told."""
        ticket.sent(now_ns)
        return self.send_request(request, ticket, peer, now_ns)

    def relay(
        self,
        stream: int,
        response: Response,
        request: Request,
        ticket: Ticket,
        to: Any,
        now_ns: int,
    ) -> tuple[Response, int] | bytes | bool | int | None:
        """What a response is to its ticket; a stream that is over with it is left."""
        if response.informational:
            return None
        relayed = ticket.relay(response, request, to, now_ns)
        if not isinstance(relayed, tuple):
            self.leave(stream)
        return relayed

    def _pass(self, now_ns: int) -> None:
        super()._pass(now_ns)
        sent = self._sent_resets
        sent.extend([now_ns] * self._fresh)
        self._fresh = 0
        while sent and now_ns - sent[0] >= RESET_WINDOW_NS:
            sent.popleft()

    def _note_reset(self, number: int) -> None:
        super()._note_reset(number)
        self._fresh += 1

    def _resets_left(self) -> int:
        sent = len(self._sent_resets) + self._fresh
        return MOST_RESETS - sent - len(self._streams) if sent else MANY

    @property
    def clogged(self) -> bool:
        """Whether others' bodies have used up the connection's window."""
        return bool(self._h2.outbound_flow_control_window <= 0)

    def is_held_up(self, stream: int) -> bool:
        """Whether all of a stream's body waits for the connection's window."""
        known = self._streams.get(stream)
        waits = known is not None and known.outbox.queued > 0 and not known.outbox.sent
        return waits and self.clogged

    def _may_reset(self) -> bool:
        return self._resets_left() > 0

    # --- responses ----------------------------------------------------------------------------

    def _receive_frame(self, frame: Frame) -> None:
        of_closed = frame.kind == FrameKind.RST_STREAM and frame.stream not in self._streams
        super()._receive_frame(frame)
        if of_closed and not self.closed:
            self._close_for_flood(self._meter.reset_of_closed(self._now))

    def _on_head(self, number: int, fields: Fields, ended: bool) -> None:
        stream = self._streams.get(number)
        if stream is None:
            return None
        inbox = stream.inbox
        try:
            head = h2_read_response(fields, ended, stream.head_request, self._limits)
        except CodecError as error:
            stream.awaited = False
            return self._refuse(stream, error)
        if isinstance(head, str):
            return self._fault(number, head)
        self.authenticates |= head.authenticates
        bodiless = stream.head_request or head.status in (204, 304)
        # RFC 9113 §8.1.1: these have none, whatever length they declare.
        inbox.declared = 0 if bodiless else content_length(fields)
        if stream.tunnel and head.status < 300:
            # RFC 9110 §9.3.6: a length says nothing about a tunnel. The package goes by it.
            inbox.declared = self._h2.streams[number]._expected_content_length = None
        if ended and not inbox.end():
            return self._fault(number, SHORT_BODY)
        inbox.head = head
        stream.awaited = False
        self._touched[number] = stream
        return None

    def _on_interim(self, number: int, fields: Fields) -> None:
        stream = self._streams.get(number)
        if stream is None:
            return None
        stream.interim += 1
        try:
            if stream.interim > MAX_INTERIM:
                raise CodecError(TOO_MANY, int(Reason.RESPONSE_TOO_LARGE), TOO_MANY)
            response = h2_read_response(fields, False, stream.head_request, self._limits)
        except CodecError as error:
            stream.awaited = False
            return self._refuse(stream, error)
        if isinstance(response, str):
            return self._fault(number, response)
        self.authenticates |= response.authenticates
        self._events.append((number, response))
        return None

    def _on_reset(self, number: int, code: int, by_peer: bool) -> None:
        stream = self._streams.get(number)
        if stream is None or not stream.inbox.ended:
            return super()._on_reset(number, code, by_peer)
        if not by_peer:
            self._note_reset(number)  # of the package's: something came behind the end
        # RFC 9113 §8.1: the response is whole, and the rest of the request not wanted.
        self._queued -= stream.outbox.stop()
        self._emit_whole(stream)
        if stream.tunnel:
            self._events.append((number, Reset(RESET, code, "reset by the peer")))
        return None

    def _fault(self, number: int, detail: str, code: int = ErrorCodes.PROTOCOL_ERROR) -> None:
        stream = self._streams.get(number)
        if stream is not None and stream.inbox.ended:
            self._emit_whole(stream)  # it was so before the fault
        super()._fault(number, detail, code)

    def _reset_closed(self, number: int) -> None:
        stream = self._streams.get(number)
        if stream is not None and stream.inbox.ended:
            self._emit_whole(stream)  # as before any fault
        super()._reset_closed(number)

    def _emit_whole(self, stream: Stream) -> None:
        """Tell all of a response, also where it was paused: there is no later."""
        stream.inbox.paused = False
        self._touched.pop(stream.number, None)
        if stream.inbox.open:
            self._emit(stream)
        else:  # it was emitted
            self._forget_if_over(stream)

    def _is_awaited(self, stream: Stream) -> bool:
        """A client that has all of the response needs no more, whatever becomes of the request, but
        in a tunnel."""
        return stream.inbox.open or stream.tunnel

    def leave(self, stream: int) -> None:
        """The owner is done with the stream: it ends, with CANCEL unless it is over."""
        self._end(stream, ErrorCodes.CANCEL)

    # --- the end ------------------------------------------------------------------------------

    def _close(self, code: int = ErrorCodes.CANCEL, detail: str = "connection closed") -> None:
        for stream in list(self._streams.values()):
            if stream.inbox.ended and stream.inbox.open:
                self._emit_whole(stream)
        super()._close(code, detail)

    def _on_goaway(self, last: int) -> None:
        """RFC 9113 §6.8: nothing beyond the last stream was processed."""
        if not self._going_away:
            self._going_away = True
            self._events.append((0, GOING_AWAY))
        for number, stream in list(self._streams.items()):
            if number > last and not stream.inbox.ended:
                self._end(number, None)
                detail = "beyond the last stream of GOAWAY"
                reset = Reset(REFUSED, ErrorCodes.REFUSED_STREAM, detail)
                self._events.append((number, reset))
