"""HTTP/2 on the package ``h2``: what both sides of the reference engine have in common.

It shows in plain Python what the native engine does, and is what that one is compared with. The
package keeps states and windows; here is what it leaves open: one event for what a read brought of
a stream, queues with marks, and what a fault costs. Heads are read and written by the core.

Frames are handed to the package one by one. An exception takes with it the events of the frames
before it, and for the package every fault is the connection's; RFC 9113 §5.4.2 and §8.1.1 make
most of them their stream's.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from h2.errors import ErrorCodes
from h2.events import (
    ConnectionTerminated,
    DataReceived,
    InformationalResponseReceived,
    PingAckReceived,
    RemoteSettingsChanged,
    RequestReceived,
    ResponseReceived,
    StreamReset,
    TrailersReceived,
    WindowUpdated,
)
from h2.exceptions import (
    DenialOfServiceError,
    FlowControlError,
    InvalidBodyLengthError,
    ProtocolError,
    StreamClosedError,
)
from h2.settings import SettingCodes, Settings
from hyperframe.frame import RstStreamFrame

from meshcore._core import Reset, h2_check_trailers
from meshcore.codec.frames import (
    ACK,
    END_HEADERS,
    NO_WINDOW,
    PREFACE,
    PRIORITY_BYTES,
    STREAM_MASK,
    Cutter,
    Frame,
    FrameKind,
)
from meshcore.codec.reference_emitter import Emitter
from meshcore.codec.reference_sender import (
    OUTPUT_BYTES,
    PONG,
    REFUSED,
    RESET,
)
from meshcore.codec.reference_stream import FIRST_WINDOW, Fields
from meshcore.errors import CodecError

if TYPE_CHECKING:
    from h2.events import Event

    from meshcore._core import CodecLimits
    from meshcore.codec import Events
    from meshcore.config.snapshot import Http2Spec

# A list that is larger than allowed is decoded, so that the tables stay the same, up to this many
# times; one beyond it ends the connection.
LIST_SLACK: Final = 4
# More of the peer's table than by default is not used: it would be ours to keep.
MAX_TABLE_BYTES: Final = 4096
# The number of `Flood::Blocks` (rust/meshcore-core/src/codec/h2/signal.rs).
BLOCKS: Final = 6
LIVENESS: Final = b"liveness"
DEPENDS_ON_ITSELF: Final = "stream that depends on itself"  # RFC 7540 §5.3.1
SHORT_BODY: Final = "body shorter than content-length"
# An endpoint's list costs its stream, however large: this is to bound the package's work.
ENDPOINT_LIST_BYTES: Final = 16 << 20


def _text(error: ProtocolError) -> str:
    """What the package says is wrong."""
    return str(error) or type(error).__name__


class Reference(Emitter):
    """One connection; a subclass is one side of it."""

    def __init__(self, server: bool, limits: CodecLimits, spec: Http2Spec, now_ns: int) -> None:
        super().__init__(server, limits, spec, now_ns)
        self._cutter = Cutter(server)
        self._settled = False  # the peer's SETTINGS came
        self._block = 0  # the stream of a field block that goes on
        self._asked = False  # a PING of ours is not answered

    def _greet(self, settings: dict[SettingCodes, int], list_bytes: int) -> None:
        spec, package = self._spec, self._h2
        self._first_window = min(spec.stream_window_bytes, FIRST_WINDOW)
        settings[SettingCodes.INITIAL_WINDOW_SIZE] = self._first_window
        settings[SettingCodes.MAX_HEADER_LIST_SIZE] = list_bytes
        client = package.config.client_side
        package.local_settings = Settings(client, settings)
        package.initiate_connection()
        # The package ends the connection of a client that opens too many; we refuse the stream.
        settings.pop(SettingCodes.MAX_CONCURRENT_STREAMS, None)
        package.local_settings = Settings(client, settings)
        package.decoder.max_header_list_size = (
            ENDPOINT_LIST_BYTES if client else LIST_SLACK * list_bytes
        )
        self._open()
        more = spec.connection_window_bytes - package.inbound_flow_control_window
        if more > 0:
            package.increment_flow_control_window(more)
        self._collect()

    # --- bytes in -----------------------------------------------------------------------------

    @property
    def wants_read(self) -> bool:
        """False while what was read cannot be parsed."""
        return not self._choked

    @property
    def in_head(self) -> bool:
        """Whether a field block has begun and not ended."""
        return bool(self._block)

    @property
    def open_streams(self) -> int:
        """How many streams are open."""
        return len(self._streams)

    def receive(self, data: bytes, now_ns: int) -> Events:
        """What a read meant."""
        if not self.closed:
            self._pass(now_ns)
            self._meter.sent_data(self._data_frames)
            self._data_frames = 0
            flood = self._meter.scan(data, now_ns)
            if flood is None:
                self._cutter.feed(data)
                self._advance()
            else:
                self._close_for_flood(flood)
        return self.events()

    def receive_eof(self) -> Events:
        """The peer sends no more."""
        self._close()
        return self.events()

    def events(self) -> Events:
        """What happened since the last call."""
        events, self._events = self._events, []
        return events or None

    def take_output(self) -> bytes:
        """Bytes to send; empty when there are none."""
        self._advance()
        output = bytes(self._output)
        self._output.clear()
        return output

    def _advance(self) -> None:
        """Parse what was read, emit its events, send what has a window."""
        if self.closed:
            return
        self._parse()
        self._emit_all()
        for number, priority in self._meter.take_priorities():
            if number in self._streams:
                self._streams[number].outbox.priority = priority
        self._serve()
        self._close_if_done()
        self._collect()

    def _parse(self) -> None:
        try:
            if not self._cutter.greeted and self._cutter.take_preface():
                self._h2.receive_data(PREFACE)
            while self._cutter.greeted and not self.closed:
                # An endpoint is always read: it may take nothing before we have.
                self._choked = self._server and len(self._output) >= OUTPUT_BYTES
                frame = None if self._choked else self._cutter.take()
                if frame is None:
                    return
                self._receive_frame(frame)
        except DenialOfServiceError:
            self._close_for_flood(BLOCKS)
        except ProtocolError as error:
            self._fail(error.error_code, _text(error))

    def _receive_frame(self, frame: Frame) -> None:
        self._check_place(frame)
        kind = frame.kind
        if kind > FrameKind.CONTINUATION:
            return  # RFC 9113 §5.5; the package knows some of them
        if kind in (FrameKind.HEADERS, FrameKind.PUSH_PROMISE, FrameKind.CONTINUATION):
            self._block = 0 if frame.flags & END_HEADERS else frame.stream
        fault = self._fault_of(frame)
        if fault is not None:
            return self._fault(frame.stream, *fault)
        self._collect()
        try:
            events = self._h2.receive_data(frame.data)
        except ProtocolError as error:
            self._h2.clear_outbound_data_buffer()  # its GOAWAY
            if not self._is_of_stream(error, frame):
                raise
            self._open()
            self._fault(frame.stream, _text(error), error.error_code)
            if isinstance(error, StreamClosedError):
                self._reset_closed(frame.stream)
            if kind == FrameKind.DATA:
                self._credit(frame.stream, len(frame.payload))
            return
        except Exception:
            # What the package did not foresee costs this connection and nothing else.
            return self._fail(ErrorCodes.INTERNAL_ERROR, "unforeseen by the package")
        self._answer(frame, bool(events))
        if kind == FrameKind.GOAWAY:
            self._open()  # RFC 9113 §6.8: streams go on; for the package that was all
        for event in events:
            self._on(event)

    def _answer(self, frame: Frame, meant: bool) -> None:
        """Pass on what the package answers to a frame; whether it meant something."""
        answer = self._h2.data_to_send()
        if meant or not answer or not frame.stream:
            self._output += answer
            return
        # RFC 9113 §5.4.2: what comes late is ignored; the package resets again and again.
        late = RstStreamFrame(frame.stream, error_code=ErrorCodes.STREAM_CLOSED).serialize()
        self._output += answer.removesuffix(late)
        if answer.endswith(late) and frame.stream not in self._ended_by_us:
            self._reset_closed(frame.stream)
            self._charge()

    def _check_place(self, frame: Frame) -> None:
        """Raise for what cannot come now, and the package would take for less."""
        kind, stream = frame.kind, frame.stream
        settings = kind == FrameKind.SETTINGS and not frame.flags & ACK
        if not self._settled and not settings:
            raise ProtocolError("SETTINGS come first (RFC 9113 §3.4)")
        self._settled = True
        if self._block or kind == FrameKind.CONTINUATION:
            if (kind, stream) != (FrameKind.CONTINUATION, self._block):
                raise ProtocolError("a field block is not interrupted (§6.10)")
        elif kind == FrameKind.HEADERS and stream % 2 == 0:
            raise ProtocolError("nothing was promised (§5.1.1)")
        elif kind == FrameKind.RST_STREAM and self._is_idle(stream):
            raise ProtocolError("an idle stream cannot be reset (§6.4)")
        elif kind == FrameKind.PRIORITY_UPDATE and stream:
            raise ProtocolError("a PRIORITY_UPDATE is the connection's (RFC 9218 §7.1)")

    def _fault_of(self, frame: Frame) -> tuple[str, int] | None:
        """What is wrong with a frame that costs its stream; for the package, the connection."""
        if (
            frame.kind == FrameKind.WINDOW_UPDATE
            and frame.stream
            and not self._is_idle(frame.stream)
        ):
            nothing = frame.payload == NO_WINDOW
            return ("WINDOW_UPDATE of nothing", ErrorCodes.PROTOCOL_ERROR) if nothing else None
        if frame.kind == FrameKind.PRIORITY and frame.stream and not self._is_idle(frame.stream):
            if len(frame.payload) != PRIORITY_BYTES:
                return "PRIORITY of another length than 5", ErrorCodes.FRAME_SIZE_ERROR  # §6.3
            if int.from_bytes(frame.payload[:4]) & STREAM_MASK == frame.stream:
                return DEPENDS_ON_ITSELF, ErrorCodes.PROTOCOL_ERROR
        return None

    def _is_idle(self, number: int) -> bool:
        ours = number % 2 == int(self._h2.config.client_side)
        package = self._h2
        highest = package.highest_outbound_stream_id if ours else package.highest_inbound_stream_id
        return number > highest

    def _is_of_stream(self, error: ProtocolError, frame: Frame) -> bool:
        """Whether a message was malformed, and not a frame, a block or the order of frames."""
        if isinstance(error, StreamClosedError):
            # RFC 9113 §5.1 permits an error of the connection; an endpoint's is shared by many.
            return self._h2.config.client_side
        match frame.kind:
            case FrameKind.DATA if isinstance(error, FlowControlError):
                return self._h2.inbound_flow_control_window >= 0
            case FrameKind.DATA | FrameKind.HEADERS | FrameKind.CONTINUATION:
                # A block that could not be decoded has its cause; one in a wrong state, a KeyError.
                plain = type(error) is ProtocolError and isinstance(
                    error.__cause__, KeyError | None
                )
                known = frame.stream in self._h2.streams
                return (plain and known) or isinstance(error, InvalidBodyLengthError)
        return False

    # --- what the frames meant ----------------------------------------------------------------

    def _on(self, event: Event) -> None:
        match event:
            case RequestReceived() | ResponseReceived():
                self._on_head(event.stream_id, event.headers, event.stream_ended is not None)
            case InformationalResponseReceived():
                self._on_interim(event.stream_id, event.headers)
            case TrailersReceived():
                self._on_trailers(event.stream_id, event.headers)
            case DataReceived():
                self._on_data(event)
            case StreamReset():
                self._on_reset(event.stream_id, event.error_code, event.remote_reset)
            case RemoteSettingsChanged():
                self._on_settings()
            case WindowUpdated(stream_id=0):
                self._wake_all()
            case WindowUpdated():
                self._wake(self._streams.get(event.stream_id))
            case PingAckReceived():
                self._on_pong(event.ping_data)
            case ConnectionTerminated():
                self._on_goaway(event.last_stream_id or 0)

    def _on_head(self, number: int, fields: Fields, ended: bool) -> None:
        raise NotImplementedError

    def _on_interim(self, number: int, fields: Fields) -> None:
        raise NotImplementedError

    def _on_goaway(self, last: int) -> None:
        raise NotImplementedError

    def _on_data(self, event: DataReceived) -> None:
        stream = self._streams.get(event.stream_id)
        if stream is None or not stream.inbox.open:
            self._credit(event.stream_id, event.flow_controlled_length)
            return
        inbox = stream.inbox
        if event.data:
            inbox.pieces.append(event.data)
        elif event.flow_controlled_length and event.stream_ended is None:
            self._close_for_flood(self._meter.padding_only(self._now))
        inbox.received += len(event.data)
        inbox.credit += event.flow_controlled_length
        if inbox.declared == 0 < inbox.received:
            # Also where no content-length says so.
            return self._fault(stream.number, "DATA beyond content-length")
        if event.stream_ended is not None:
            inbox.ended = True  # the package has compared the lengths
        self._touched[stream.number] = stream
        return None

    def _on_trailers(self, number: int, fields: Fields) -> None:
        stream = self._streams.get(number)
        if stream is None or not stream.inbox.open:
            return None
        try:
            client = self._h2.config.client_side
            detail = h2_check_trailers(fields, self._limits, client)
        except CodecError as error:
            return self._refuse_rest(stream, error)
        if detail is not None:
            return self._fault(number, detail)
        if not stream.inbox.end():
            return self._fault(number, SHORT_BODY)
        stream.inbox.trailers = fields
        self._touched[number] = stream
        return None

    def _on_reset(self, number: int, code: int, by_peer: bool) -> None:
        if not by_peer:
            self._note_reset(number)  # of the package's
            return self._fault(number, "frame on closed stream", code)
        if number in self._touched:
            self._emit(self._touched.pop(number))  # what came before it counts
        if self._end(number, None):
            kind = REFUSED if code == ErrorCodes.REFUSED_STREAM else RESET
            self._events.append((number, Reset(kind, code, "reset by the peer")))
        return None

    def _on_settings(self) -> None:
        encoder = self._h2.encoder
        encoder.header_table_size = min(encoder.header_table_size, MAX_TABLE_BYTES)
        self._wake_all()

    def _on_pong(self, data: bytes) -> None:
        if self._asked and data == LIVENESS:
            self._asked = False
            self._events.append((0, PONG))

    def _close_if_done(self) -> None:
        """A connection that takes no more streams ends with the last one."""

    # --- called by the owner ------------------------------------------------------------------

    def pause(self, stream: int) -> None:
        """Take no more of a body: its window closes."""
        known = self._streams.get(stream)
        if known is not None:
            known.inbox.paused = known.inbox.open

    def resume(self, stream: int) -> None:
        """Take on; what waited is among the next `events`."""
        known = self._streams.get(stream)
        if known is not None and known.inbox.paused:
            known.inbox.paused = False
            self._emit(known)

    def reset(self, stream: int, code: int) -> None:
        """End a stream at once with an error code."""
        self._end(stream, code)

    def ping(self) -> bool:
        """Ask for a sign of life."""
        if self._asked or self.closed or not self._cutter.greeted:
            return False
        self._asked = True
        self._h2.ping(LIVENESS)
        return True
