"""Plays frames to an HTTP/2 engine, and writes down what it reports and answers."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from itertools import pairwise

from hyperframe.frame import Frame, GoAwayFrame, RstStreamFrame

from meshcore._core import (
    Answer,
    Body,
    CodecLimits,
    Engine,
    ListenerStack,
    Request,
    Reset,
    Response,
    Signal,
    Ticket,
    body_of,
    h2_write_trailers,
)
from meshcore._core import ServerCodec as H1Server
from meshcore.codec import ClientCodec, ServerCodec
from meshcore.codec.engines import client_engine, server_engine
from meshcore.config.compile import compile
from meshcore.config.load import load_text
from meshcore.config.snapshot import Http2Spec

ENGINES = ["native", "python"]
PREFACE = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"

CONFIG = """
version: 1
listeners: {edge: {bind: "127.0.0.1:0"}}
routes: [{name: r, upstream: u}]
upstreams: {u: {endpoints: ["127.0.0.1:1"], circuit_breaker: off, ejection: off}}
"""
# Of its own accord a play sends few frames: rates are high, so that only the frames count.
RATE = (1_000_000, 1_000_000)

Step = bytes | tuple[str, int]
"""A read, or what the owner does: the name of a method, and a stream (0: the connection)."""
Steps = Sequence[Step]
Part = tuple[object, ...]


def spec(engine: str, **changes: object) -> Http2Spec:
    """Settings of an engine."""
    settings: dict[str, object] = {
        "streams": 100,
        "stream_window_bytes": 256 << 10,
        "connection_window_bytes": 1 << 20,
        "ping_ns": 0,
        "ping_timeout_ns": 0,
        "resets": RATE,
        "control_frames": RATE,
    }
    return Http2Spec(engine, **(settings | changes))  # type: ignore[arg-type]


@dataclass
class Story:
    """What an engine made of a play: of each stream, and of the connection."""

    streams: dict[int, list[Part]] = field(default_factory=dict)
    signals: list[int] = field(default_factory=list)  # of the connection
    closed: bool = False
    goaway: list[int] = field(default_factory=list)  # codes that were sent
    resets: list[tuple[int, int]] = field(default_factory=list)  # streams and codes
    open_streams: int = 0

    def of(self, stream: int) -> list[Part]:
        """What was told of a stream."""
        return self.streams.get(stream, [])


def frames(data: bytes) -> Iterator[Frame]:
    """The frames of an engine's output."""
    data = data.removeprefix(PREFACE)
    while data:
        frame, length = Frame.parse_frame_header(memoryview(data[:9]))
        frame.parse_body(memoryview(data[9 : 9 + length]))
        yield frame
        data = data[9 + length :]


class Player:
    """One engine and its owner."""

    # Whoever was told this has left, and does not hear what becomes of the stream.
    last: tuple[str, ...] = ("refused",)

    def __init__(self, codec: ServerCodec | ClientCodec) -> None:
        self._codec = codec
        self.story = Story()
        self._told: dict[int, list[Part]] = defaultdict(list)
        self._output = bytearray()

    def tell(self, events: list[tuple[int, object]] | None) -> None:
        """Write down what was told, and do what an owner does."""
        for stream, event in events or ():
            if stream == 0:
                assert isinstance(event, int)
                self.story.signals.append(event)
                continue
            self.note(stream, event)
            self.react(stream, event)

    def note(self, stream: int, event: object) -> None:
        """One event, in the same form whichever engine told it."""
        told = self._told[stream]
        if isinstance(event, Request | Response):
            told.append(head(event))
            body = body_of(event)
            self._body(told, body.data, body)
        elif isinstance(event, Body):
            self._body(told, event.data, event)
        elif isinstance(event, Answer):
            told.append(("refused", event.reason))
        elif isinstance(event, Reset):
            assert event.detail
            if not (told and told[-1][0] in self.last):
                told.append(self.gone(event.kind))
        elif isinstance(event, int):
            assert event in (Signal.SENT, Signal.WRITABLE)
        else:
            self._body(told, bytes(event), None)  # type: ignore[call-overload]

    def _body(self, told: list[Part], data: bytes, end: Body | None) -> None:
        if data:
            if told and told[-1][0] == "data":
                data = bytes(told.pop()[1]) + data  # type: ignore[call-overload]
            told.append(("data", data))
        if end is not None and end.end:
            told.append(("end", *h2_write_trailers(end, some_ticket(), False)))

    def gone(self, signal: int) -> Part:
        """The end of a stream without its message."""
        return ("gone", signal)

    def react(self, stream: int, event: object) -> None:
        """What the owner does about an event."""

    def run(self, steps: Steps) -> None:
        """Everything that comes, and that the owner does."""
        for step in steps:
            if isinstance(step, bytes):
                self.tell(self._codec.receive(step, 1))
            else:
                method, stream = step
                codes = (8,) if method == "reset" else ()
                came = getattr(self._codec, method)(*((stream, *codes) if stream else ()))
                self.tell(came if isinstance(came, list) else None)
            self.flush()

    def flush(self) -> None:
        """Let it send."""
        codec = self._codec
        while True:
            output = codec.take_output()
            self._output += output
            events = codec.events()
            self.tell(events)
            if not (output or events):
                break

    def finish(self) -> Story:
        """What came of it all."""
        story = self.story
        story.closed = self._codec.closed
        story.open_streams = self._codec.open_streams
        story.streams = dict(self._told)
        for frame in frames(bytes(self._output)):
            if isinstance(frame, GoAwayFrame):
                story.goaway.append(frame.error_code)
            elif isinstance(frame, RstStreamFrame):
                story.resets.append((frame.stream_id, frame.error_code))
        return story


def head(message: Request | Response) -> Part:
    """A head's parts."""
    fields = tuple(message.headers())
    if isinstance(message, Request):
        if message.header("host") is not None:
            (_, said), *rest = fields  # of `:authority`, or of the field
            assert said.startswith(message.host)
            fields = tuple(rest)
        return ("request", message.method, message.host, message.path, message.query, fields)
    return ("interim" if message.informational else "response", message.status, fields)


class ServerPlayer(Player):
    """A server; `answers`: whether its owner does."""

    def __init__(self, engine: str, answers: bool = True, **changes: object) -> None:
        self.codec = server_engine(spec(engine, **changes))(CodecLimits(), False, 1)
        super().__init__(self.codec)
        self._answers = answers
        self._requests: dict[int, Request] = {}

    def react(self, stream: int, event: object) -> None:
        """Answer what is complete, or refused."""
        if isinstance(event, Request):
            self._requests[stream] = event
        refused = isinstance(event, Answer)
        ended = isinstance(event, Request | Body) and event.end
        if refused or (ended and self._answers):
            request = self._requests.get(stream)
            answer = event if isinstance(event, Answer) else Answer(200, [("x", "y")], b"ok")
            self.codec.send_answer(stream, request, answer)
            self.codec.leave(stream)

    def play(self, steps: Steps) -> Story:
        """Everything from the preface on."""
        self.run(steps)
        return self.finish()

    def gone(self, signal: int) -> Part:
        """To the owner of a request it is the same why the client wants no answer."""
        return ("gone",)

    def finish(self) -> Story:
        """What nobody was told to begin with has no end to be told either."""
        story = super().finish()
        story.streams = {n: told for n, told in story.streams.items() if told[0][0] != "gone"}
        return story


class ClientPlayer(Player):
    """A client, with requests under way."""

    last = ("refused", "end")

    def __init__(self, engine: str, **changes: object) -> None:
        self.codec = client_engine(spec(engine, **changes))(False, 1)
        super().__init__(self.codec)

    def play(self, requests: Sequence[bytes], hello: bytes, steps: Steps) -> Story:
        """Opens the streams once the endpoint has greeted."""
        codec, (listener, engine) = self.codec, listener_of()
        peer = engine.peer("127.0.0.1")
        self.tell(codec.receive(hello, 1))
        for text in requests:
            request = H1Server(CodecLimits(), False).receive(text)
            assert isinstance(request, Request)
            number = codec.send_request(request, listener.begin(request, peer, 1), peer, 1)
            assert number is not None
        self.flush()
        self.run(steps)
        return self.finish()


_LISTENERS: list[tuple[ListenerStack, Engine]] = []


def listener_of() -> tuple[ListenerStack, Engine]:
    """A stack that forwards everything; one for all plays."""
    if not _LISTENERS:
        engine = Engine(seed=1)
        engine.apply(compile(load_text(CONFIG)).core_json())
        _LISTENERS.append((engine.listener("edge"), engine))
    return _LISTENERS[0]


def some_ticket() -> Ticket:
    """Of a request whose route changes no field."""
    listener, engine = listener_of()
    request = H1Server(CodecLimits(), False).receive(b"GET / HTTP/1.1\r\nhost: a\r\n\r\n")
    assert isinstance(request, Request)
    return listener.begin(request, engine.peer("127.0.0.1"), 1)


def split(data: bytes, cuts: Sequence[int]) -> list[bytes]:
    """The bytes, cut at these places."""
    places = sorted({0, len(data), *(cut % (len(data) + 1) for cut in cuts)})
    return [data[a:b] for a, b in pairwise(places)]


Play = Callable[[str], Story]
