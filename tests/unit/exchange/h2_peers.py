"""Clients and endpoints of a world that speak HTTP/2, by the package h2: it raises for whatever
may not come, such as a body before its head."""

from __future__ import annotations

from collections.abc import Iterator

from h2.config import H2Configuration
from h2.connection import H2Connection
from h2.errors import ErrorCodes
from h2.events import (
    DataReceived,
    Event,
    InformationalResponseReceived,
    RequestReceived,
    ResponseReceived,
    StreamEnded,
    StreamReset,
)
from h2.exceptions import StreamClosedError
from hyperframe.frame import Frame, GoAwayFrame

from meshcore.downstream.http2 import Http2Connection
from meshcore.wire.http2 import Http2Wire
from tests.unit.exchange.world import MESH, Wire, World

H2_MESH = MESH.replace("    endpoints:", "    protocol: h2\n    endpoints:")


PREFACE = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"
GOAWAY = 7


def frames(data: bytes) -> Iterator[tuple[int, bytes]]:
    """Kind and bytes of each frame, of whole ones (RFC 9113 §4.1); what a client says first is none
    of them, and has number -1."""
    if data.startswith(PREFACE):
        yield -1, PREFACE
        data = data[len(PREFACE) :]
    while data:
        size = 9 + int.from_bytes(data[:3], "big")
        yield data[3], data[:size]
        data = data[size:]


class Stream:
    """What a peer was told of a stream."""

    def __init__(self) -> None:
        self.head: dict[str, str] = {}
        self.body = bytearray()
        self.untaken = 0  # bytes whose window is not given back
        self.said = 0  # bytes of its own body
        self.ended = False
        self.answered = False  # its own head is out
        self.done = False  # it has ended its own side
        self.hints = 0  # heads of 1xx
        self.reset: int | None = None

    @property
    def over(self) -> bool:
        """Whether nothing more is said on it."""
        return self.reset is not None or (self.ended and self.done)

    @property
    def speaks(self) -> bool:
        """Whether a body of its own may go on."""
        return self.answered and not self.done and self.reset is None


class Peer:
    """One end of a connection."""

    def __init__(self, world: World, wire: Wire, *, client: bool) -> None:
        self.world, self.wire = world, wire
        self.streams: dict[int, Stream] = {}
        config = H2Configuration(client_side=client, header_encoding="utf-8")
        self.engine = H2Connection(config)
        self.engine.initiate_connection()
        self._read = 0

    @property
    def protocol(self) -> Http2Wire:
        """What it talks to."""
        assert isinstance(self.wire.protocol, Http2Wire)
        return self.wire.protocol

    def talk(self) -> None:
        """Say what there is to say, and hear what is said, until both are silent."""
        while not self.wire.closing:
            self.hear()
            said = self.engine.data_to_send()
            if not said:
                break
            self.protocol.data_received(said)
            self.world.turn()

    def hear(self) -> None:
        """What was written to it."""
        data = bytes(self.wire.written[self._read :])
        self._read += len(data)
        # Behind GOAWAY h2 itself would fall silent, and streams go on.
        heard = b"".join(frame for kind, frame in frames(data) if kind != GOAWAY)
        for event in self.engine.receive_data(heard) if heard else ():
            self._on_event(event)

    def _on_event(self, event: Event) -> None:
        number = getattr(event, "stream_id", None)
        if not number:
            return
        stream = self.streams.setdefault(number, Stream())
        if isinstance(event, RequestReceived | ResponseReceived):
            assert not stream.head
            assert not stream.hints or isinstance(event, ResponseReceived)
            stream.head = dict(event.headers or ())  # type: ignore[arg-type]
        elif isinstance(event, DataReceived):
            assert stream.head
            stream.body += event.data or b""
            stream.untaken += event.flow_controlled_length or 0
        elif isinstance(event, StreamEnded):
            stream.ended = True
        elif isinstance(event, StreamReset):
            stream.reset = event.error_code
        elif isinstance(event, InformationalResponseReceived):
            stream.hints += 1

    def begin(
        self, number: int, *fields: tuple[str, str], method: str = "POST", talks: bool = True
    ) -> int:
        """A client's request, without its body; GET has none. It is said with what follows unless
        it ``talks``."""
        stream = self.engine.get_next_available_stream_id()
        head = [
            (":method", method),
            (":path", f"/{number}"),
            (":scheme", "http"),
            (":authority", "a"),
        ]
        known = self.streams[stream] = Stream()
        known.answered, known.done = True, method == "GET"
        self.engine.send_headers(stream, [*head, *fields], end_stream=known.done)
        if talks:
            self.talk()
        return stream

    def answer(self, stream: int, status: int = 200) -> None:
        """An endpoint's head."""
        self.streams[stream].answered = True
        self.engine.send_headers(stream, [(":status", str(status))])
        self.talk()

    def say(self, stream: int, data: bytes, *, end: bool = False) -> None:
        """A piece of a body, as far as its window goes."""
        known, engine = self.streams[stream], self.engine
        part = data[: engine.local_flow_control_window(stream)]
        known.said += len(part)
        known.done = end and len(part) == len(data)
        for at in range(0, len(part), engine.max_outbound_frame_size):
            engine.send_data(stream, part[at : at + engine.max_outbound_frame_size])
        if known.done:
            engine.end_stream(stream)
        self.talk()

    def go_away(self) -> None:
        """What was begun is served; no more."""
        self.send(GoAwayFrame(last_stream_id=max(self.streams, default=0)))

    def send(self, frame: Frame) -> None:
        """A frame behind which h2 itself would fall silent, or that it would not send."""
        self.protocol.data_received(frame.serialize())
        self.world.turn()
        self.talk()

    def reset(self, stream: int, code: ErrorCodes = ErrorCodes.CANCEL) -> None:
        """Give a stream up."""
        self.streams[stream].reset = code
        self.engine.reset_stream(stream, code)
        self.talk()

    def take(self) -> None:
        """Give back the window of all that came."""
        for number, stream in self.streams.items():
            taken, stream.untaken = stream.untaken, 0
            try:
                self.engine.acknowledge_received_data(taken, number)
            except StreamClosedError:
                continue
        self.talk()


def h2_client(world: World) -> Peer:
    """A client that has said hello."""
    peer = Peer(world, world.connect_client(Http2Connection), client=True)
    peer.talk()
    return peer


def h2_endpoint(world: World, wire: Wire) -> Peer:
    """The endpoint at the other end of a connection that is open."""
    peer = Peer(world, wire, client=False)
    peer.talk()
    return peer
