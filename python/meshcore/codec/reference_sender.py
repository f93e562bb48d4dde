"""What goes out of a connection of the reference engine: queues, windows, the order of streams."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from h2.config import H2Configuration
from h2.connection import H2Connection

from meshcore._core import H2Schedule, Signal, h2_check_list, h2_write_trailers
from meshcore.codec import STREAM_HIGH_WATER
from meshcore.codec.reference_stream import Fields, Stream
from meshcore.errors import CodecError

if TYPE_CHECKING:
    from meshcore._core import Body, Chunk, Ticket

WRITABLE, SENT, GOING_AWAY, PONG, HEARD, CLOSED, RESET, REFUSED, MALFORMED = map(int, Signal)

# As the native engine has them (rust/meshcore-core/src/codec/h2/mod.rs, engine.rs, outbox.rs):
# output beyond which no more is made; queued bytes of all streams beyond which each counts as
# full; what a stream sends in one turn.
OUTPUT_BYTES: Final = 128 << 10
CONNECTION_HIGH_WATER: Final = 4 << 20
TURN_BYTES: Final = 16 << 10


class _Package(H2Connection):
    # How closed streams ended; 65,536 entries otherwise, for each connection.
    MAX_CLOSED_STREAMS = 1024


class Sender:
    """The sending half of a connection."""

    def __init__(self, server: bool) -> None:
        # Lists are checked by the core, when they come in as when they go out.
        config = H2Configuration(
            client_side=not server,
            validate_inbound_headers=False,
            normalize_inbound_headers=False,
            validate_outbound_headers=False,
        )
        self._server = server
        self._h2 = _Package(config)
        self._streams: dict[int, Stream] = {}
        self._events: list[tuple[int, object]] = []
        self._output = bytearray()
        self._schedule = H2Schedule()
        self._queued = 0
        self._data_frames = 0  # sent since the meter was told

    def send_data(self, stream: int, data: bytes | Chunk) -> int:
        """A piece of a body; bytes that wait."""
        known = self._streams.get(stream)
        return self._send(known, bytes(data), None) if known is not None else 0

    def send_end(self, stream: int, body: Body, ticket: Ticket) -> None:
        """The end of a body, with its trailers."""
        known = self._streams.get(stream)
        if known is not None:
            self._send(known, b"", h2_write_trailers(body, ticket, self._server))

    def _send(self, stream: Stream, data: bytes, trailers: Fields | None) -> int:
        """Queue data, and the end when there are trailers, if only an empty list of them."""
        outbox = stream.outbox
        self._queued += outbox.push(data)
        if trailers is not None:
            outbox.finish(trailers)
        self._wake(stream)
        self._serve()
        queued = outbox.queued
        if queued and self._queued > CONNECTION_HIGH_WATER:
            queued = max(queued, STREAM_HIGH_WATER + 1)
        outbox.full = outbox.full or queued > STREAM_HIGH_WATER
        return queued

    def _send_head(self, stream: Stream, fields: Fields, ends: bool) -> None:
        if stream.outbox.begun:
            return
        self._h2.send_headers(stream.number, fields, end_stream=ends)
        stream.outbox.begun = True
        stream.outbox.done = ends
        self._collect()
        self._forget_if_over(stream)

    def _wake(self, stream: Stream | None) -> None:
        """There may be something to send, and window for it."""
        if stream is not None and stream.outbox.has_more and not stream.outbox.scheduled:
            stream.outbox.scheduled = True
            self._schedule.insert(stream.number, stream.outbox.priority)

    def _wake_all(self) -> None:
        for stream in self._streams.values():
            self._wake(stream)

    def _serve(self) -> None:
        while len(self._output) < OUTPUT_BYTES:
            number = self._schedule.next()
            if number is None:
                return
            stream = self._streams.get(number)
            if stream is not None:
                stream.outbox.scheduled = False
                self._turn(stream)

    def _turn(self, stream: Stream) -> None:
        outbox, number = stream.outbox, stream.number
        left = TURN_BYTES
        while outbox.chunks and left:
            most = min(
                left, self._h2.max_outbound_frame_size, self._h2.local_flow_control_window(number)
            )
            if most <= 0:
                break  # a WINDOW_UPDATE wakes it
            piece = outbox.take(most)
            left -= len(piece)
            self._queued -= len(piece)
            outbox.done = not outbox.chunks and outbox.trailers == []
            self._h2.send_data(number, piece, end_stream=outbox.done)
            self._data_frames += 1
        if outbox.take_room_notice() and not stream.left:
            self._events.append((number, WRITABLE))
        if not outbox.chunks:
            self._send_trailers(stream)
        elif not left:
            self._wake(stream)
        self._collect()

    def _send_trailers(self, stream: Stream) -> None:
        outbox = stream.outbox
        if outbox.trailers is None:
            return None
        if not outbox.done:
            if not self._takes(outbox.trailers):
                return self._give_up(stream)
            if outbox.trailers:
                self._h2.send_headers(stream.number, outbox.trailers, end_stream=True)
            else:
                self._h2.end_stream(stream.number)
            outbox.done = True
        if stream.left or stream.tunnel:
            self._events.append((stream.number, SENT))
        return self._forget_if_over(stream)

    def _takes(self, fields: Fields) -> bool:
        try:
            self._check_list(fields)
        except CodecError:
            return False
        return True

    def _check_list(self, fields: Fields) -> None:
        """Raise `CodecError` for more than the peer takes in a list (RFC 9113 §6.5.2)."""
        most = self._h2.remote_settings.max_header_list_size
        if most is not None:
            h2_check_list(fields, most)

    def _collect(self) -> None:
        self._output += self._h2.data_to_send()

    def _forget_if_over(self, stream: Stream) -> None:
        raise NotImplementedError

    def _give_up(self, stream: Stream) -> None:
        raise NotImplementedError
