"""What one peer does wrong costs nobody else, in both engines alike."""

from __future__ import annotations

from collections.abc import Sequence

import pytest
from hpack import Encoder
from hyperframe.frame import (
    ContinuationFrame,
    DataFrame,
    Frame,
    HeadersFrame,
    PingFrame,
    RstStreamFrame,
    SettingsFrame,
    WindowUpdateFrame,
)

from meshcore._core import (
    Answer,
    Body,
    Chunk,
    ClientCodec,
    CodecLimits,
    Request,
    Reset,
    Response,
    Signal,
    body_of,
)
from meshcore._core import ServerCodec as H1Server
from meshcore.codec.engines import client_engine
from meshcore.errors import CodecError

from .h2_play import ENGINES, PREFACE, ServerPlayer, Story, frames, listener_of, some_ticket, spec
from .h2_scripts import HELLO, Field

GET: list[Field] = [(":method", "GET"), (":scheme", "http"), (":authority", "a"), (":path", "/")]
OK: list[Field] = [(":status", "200")]
CANCEL, STREAM_CLOSED = 8, 5
SECOND = 1_000_000_000


def head(stream: int, fields: Sequence[Field], *, end: bool = True) -> Frame:
    """A head whose fields are in no table."""
    flags = ["END_HEADERS", *(["END_STREAM"] if end else [])]
    return HeadersFrame(stream, Encoder().encode(list(fields)), flags=flags)


def joined(*some: Frame) -> bytes:
    """Frames, as they come in one read."""
    return b"".join(x.serialize() for x in some)


class Endpoint:
    """A client whose endpoint is written by hand."""

    def __init__(
        self,
        engine: str,
        said: dict[int, int] | None = None,
        limits: CodecLimits | None = None,
        **changes: object,
    ) -> None:
        self.codec = client_engine(spec(engine, **changes), limits)(False, 1)
        self.told: list[tuple[int, object]] = []
        self.now = 1
        self.read(SettingsFrame(0, said or {}))
        self.output()

    def read(self, *some: Frame) -> None:
        """These frames come in one read."""
        self.told += self.codec.receive(joined(*some), self.now) or []

    def ask(self, *fields: str, unfinished: bool = False) -> int | None:
        """Open a stream."""
        listener, engine = listener_of()
        peer = engine.peer("127.0.0.1")
        more = ["transfer-encoding: chunked"] if unfinished else []
        lines = ["POST / HTTP/1.1", "host: a", *more, *fields, "", ""]
        request = H1Server(CodecLimits(), False).receive("\r\n".join(lines).encode())
        assert isinstance(request, Request)
        ticket = listener.begin(request, peer, 1)
        return self.codec.send_request(request, ticket, peer, self.now)

    def output(self) -> list[Frame]:
        """All that it sends."""
        sent = b""
        while output := self.codec.take_output():
            sent += output
        self.told += self.codec.events() or []
        return list(frames(sent))

    def resets(self) -> list[tuple[int, int]]:
        """The streams that it resets, with the codes."""
        sent = self.output()
        return [(f.stream_id, f.error_code) for f in sent if isinstance(f, RstStreamFrame)]

    def of(self, stream: int) -> list[object]:
        """What was told of a stream."""
        return [event for number, event in self.told if number == stream]


def is_whole(events: list[object], body: bytes) -> bool:
    """Whether a response came to its end, once, and nothing behind it."""
    kinds = [isinstance(event, Reset | Answer) for event in events]
    ends = [bool(getattr(event, "end", False)) for event in events]
    data = b""
    for event in events:
        if isinstance(event, Response | Body):
            data += body_of(event).data if isinstance(event, Response) else event.data
        elif isinstance(event, bytes | Chunk):
            data += bytes(event)
    return not any(kinds) and ends[-1] and sum(ends) == 1 and data == body


BEHIND: dict[str, Frame] = {
    "data": DataFrame(3, b"more"),
    "the end again": DataFrame(3, b"", flags=["END_STREAM"]),
    "a head": head(3, OK, end=False),
    "trailers": head(3, [("x", "y")]),
}


@pytest.mark.parametrize("engine", ENGINES)
@pytest.mark.parametrize("wrong", BEHIND)
@pytest.mark.parametrize("at_once", [True, False])
@pytest.mark.parametrize("unfinished", [True, False])
def test_a_whole_response_outlives_what_comes_behind_its_end(
    engine: str, wrong: str, at_once: bool, unfinished: bool
) -> None:
    """RFC 9113 §5.1: a stream error, once; the response, and the connection, are as they were."""
    endpoint = Endpoint(engine)
    assert (endpoint.ask(), endpoint.ask(unfinished=unfinished)) == (1, 3)
    endpoint.output()
    whole = [head(3, OK, end=False), DataFrame(3, b"all", flags=["END_STREAM"])]
    if at_once:
        endpoint.read(*whole, BEHIND[wrong])
    else:
        endpoint.read(*whole)
        endpoint.read(BEHIND[wrong])
    endpoint.read(BEHIND[wrong])
    assert is_whole(endpoint.of(3), b"all")
    assert endpoint.resets() == [(3, STREAM_CLOSED)]
    endpoint.read(head(1, OK, end=False), DataFrame(1, b"fine", flags=["END_STREAM"]))
    assert is_whole(endpoint.of(1), b"fine")
    assert not endpoint.codec.closed


@pytest.mark.parametrize("engine", ENGINES)
@pytest.mark.parametrize("wrong", BEHIND)
def test_what_comes_behind_the_endpoints_own_reset(engine: str, wrong: str) -> None:
    endpoint = Endpoint(engine)
    endpoint.ask(), endpoint.ask()
    endpoint.output()
    endpoint.read(head(3, OK, end=False), RstStreamFrame(3, CANCEL))
    endpoint.read(BEHIND[wrong])
    endpoint.read(BEHIND[wrong])
    assert endpoint.resets() == [(3, STREAM_CLOSED)]
    (gone,) = [event for event in endpoint.of(3) if isinstance(event, Reset)]
    assert (gone.kind, gone.code, gone.detail) == (Signal.RESET, CANCEL, "reset by the peer")
    assert not endpoint.codec.closed


@pytest.mark.parametrize("engine", ENGINES)
@pytest.mark.parametrize("wrong", BEHIND)
def test_what_was_on_its_way_when_we_reset(engine: str, wrong: str) -> None:
    endpoint = Endpoint(engine)
    endpoint.ask(), endpoint.ask()
    endpoint.codec.leave(3)
    assert endpoint.resets() == [(3, CANCEL)]
    endpoint.read(BEHIND[wrong], BEHIND[wrong])
    assert endpoint.resets() == []
    assert endpoint.of(3) == []
    assert not endpoint.codec.closed


@pytest.mark.parametrize("engine", ENGINES)
@pytest.mark.parametrize("wrong", [DataFrame(1, b"x"), head(1, [("x", "y")])])
def test_a_client_that_speaks_behind_its_own_reset(engine: str, wrong: Frame) -> None:
    player = ServerPlayer(engine, answers=False)
    reset = joined(head(1, GET, end=False), RstStreamFrame(1, CANCEL))
    story: Story = player.play([PREFACE + HELLO, reset, joined(wrong), joined(wrong)])
    assert (story.resets, story.goaway) == ([(1, STREAM_CLOSED)], [])


# --- what is wrong, by name -------------------------------------------------------------------

FAULTS: list[tuple[list[Frame], int, str]] = [
    ([head(1, [*OK, ("X", "y")])], 1, "uppercase field name"),
    ([head(1, [*OK, ("connection", "close")])], 1, "field about the connection"),
    ([head(1, [*OK, ("x", "y"), *OK])], 1, "pseudo field behind a plain one"),
    ([head(1, [(":status", "2")])], 1, "invalid :status"),
    (
        [head(1, OK, end=False), head(1, [(":status", "200")])],
        1,
        "pseudo field in trailers",
    ),
]


@pytest.mark.parametrize("engine", ENGINES)
@pytest.mark.parametrize("fault", FAULTS, ids=lambda fault: fault[2])
def test_a_fault_has_a_name(engine: str, fault: tuple[list[Frame], int, str]) -> None:
    some, code, detail = fault
    endpoint = Endpoint(engine)
    endpoint.ask()
    endpoint.read(*some)
    gone = endpoint.of(1)[-1]
    assert isinstance(gone, Reset)
    assert (gone.kind, gone.code, gone.detail) == (Signal.MALFORMED, code, detail)


@pytest.mark.parametrize("engine", ENGINES)
def test_a_refusal_has_a_name(engine: str) -> None:
    player = ServerPlayer(engine)
    refused: list[Answer] = []
    player.react = lambda stream, event: refused.append(event)  # type: ignore
    player.play([PREFACE + HELLO, joined(head(1, [*GET, ("host", "b")]))])
    assert [answer.detail for answer in refused] == ["host and target disagree"]


def test_an_error_names_its_rule() -> None:
    with pytest.raises(CodecError) as caught:
        H1Server(CodecLimits(), False).receive(b"GET / HTTP/1.1\r\n\r\n")
    assert caught.value.args[2] == "missing host"
    assert Answer.for_codec_error(caught.value).detail == "missing host"


# --- how large ----------------------------------------------------------------------------------

LIMITS = CodecLimits(header_bytes=1024, headers=3, trailer_bytes=1024, trailers=3)
LARGE = [("x", "v" * 1000)]
MANY = [(f"x{n}", "v") for n in range(4)]
HUGE = [("x", "v" * 100_000)]


def block(stream: int, fields: list[Field]) -> list[Frame]:
    """A head in as many frames as it needs."""
    data = Encoder().encode(fields, huffman=False)
    parts = [data[at : at + 16_000] for at in range(0, len(data), 16_000)]
    some: list[Frame] = [HeadersFrame(stream, parts[0], flags=["END_STREAM"])]
    some += [ContinuationFrame(stream, part) for part in parts[1:]]
    some[-1].flags.add("END_HEADERS")
    return some


TOO_LARGE: dict[str, list[Frame]] = {
    "head": [head(1, OK + LARGE)],
    "fields": [head(1, OK + MANY)],
    "huge": block(1, OK + HUGE),
    "interim": [head(1, [(":status", "103"), *LARGE], end=False)],
    "trailers": [head(1, OK, end=False), head(1, LARGE)],
    "trailer fields": [head(1, OK, end=False), head(1, MANY)],
    "huge trailers": [head(1, OK, end=False), *block(1, HUGE)],
    "many interim heads": [head(1, [(":status", "103")], end=False)] * 33,
}


@pytest.mark.parametrize("engine", ENGINES)
@pytest.mark.parametrize("what", TOO_LARGE)
def test_a_response_that_is_too_large_costs_its_stream(engine: str, what: str) -> None:
    """That it is more than we take is nobody else's fault."""
    endpoint = Endpoint(engine, limits=LIMITS)
    endpoint.ask(), endpoint.ask()
    endpoint.read(*TOO_LARGE[what])
    answers = [event for event in endpoint.of(1) if isinstance(event, Answer)]
    assert [(a.status, a.reason) for a in answers] == [(502, "response_too_large")]
    endpoint.read(head(3, OK))
    assert is_whole(endpoint.of(3), b"")
    assert not endpoint.codec.closed


FIELDS = "".join(f"{name}: {value}\r\n" for name, value in MANY)


@pytest.mark.parametrize(
    "response",
    [
        f"HTTP/1.1 200 OK\r\nx: {'v' * 1000}\r\n\r\n",
        f"HTTP/1.1 200 {'v' * 2000}\r\n\r\n",
        f"HTTP/1.1 200 OK\r\n{FIELDS}\r\n",
        f"HTTP/1.1 103 x\r\n{FIELDS}\r\n",
        "HTTP/1.1 103 x\r\n\r\n" * 33,
        f"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n1;{'a' * 20_000}\r\n",
        f"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n0\r\n{FIELDS}\r\n",
        f"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n0\r\nx: {'v' * 1000}\r\n\r\n",
    ],
)
def test_the_same_over_http1(response: str) -> None:
    listener, engine = listener_of()
    peer = engine.peer("127.0.0.1")
    request = H1Server(CodecLimits(), False).receive(b"GET / HTTP/1.1\r\nhost: a\r\n\r\n")
    assert isinstance(request, Request)
    codec = ClientCodec(CodecLimits(header_bytes=1000, headers=3, trailer_bytes=1000, trailers=3))
    codec.send_request(request, listener.begin(request, peer, 1), peer, 1)

    def all_of_it() -> None:
        event = codec.receive(response.encode())
        while event is not None:
            event = codec.next_event()

    with pytest.raises(CodecError) as caught:
        all_of_it()
    answer = Answer.for_codec_error(caught.value)
    assert (answer.status, answer.reason) == (502, "response_too_large")


@pytest.mark.parametrize("engine", ENGINES)
def test_a_request_that_is_larger_than_the_endpoint_takes_is_not_sent(engine: str) -> None:
    """RFC 9113 §6.5.2; of what the proxy adds, too."""
    endpoint = Endpoint(engine, {6: 1_000})
    for fields in (["x-key: " + "v" * 900], [f"x{n}: y" for n in range(30)]):
        with pytest.raises(CodecError) as caught:
            endpoint.ask(*fields)
        answer = Answer.for_codec_error(caught.value)
        assert (answer.status, answer.reason) == (431, "headers_too_large")
    assert (endpoint.output(), endpoint.codec.open_streams) == ([], 0)
    assert [endpoint.ask("x-key: v"), endpoint.ask("x-key: v")] == [1, 3]
    player = ServerPlayer(engine, answers=False)
    story = player.play([PREFACE + HELLO, joined(*endpoint.output())])
    assert list(story.streams) == [1, 3]


@pytest.mark.parametrize("engine", ENGINES)
@pytest.mark.parametrize("at_once", [True, False])
def test_trailers_that_are_larger_than_the_endpoint_takes(engine: str, at_once: bool) -> None:
    endpoint = Endpoint(engine, {6: 1_000})
    stream = endpoint.ask(unfinished=True)
    assert stream == 1
    end = f"0\r\nx-sum: {'v' * 1000}\r\n\r\n".encode()
    source = H1Server(CodecLimits(), False)
    source.receive(b"POST / HTTP/1.1\r\nhost: a\r\ntransfer-encoding: chunked\r\n\r\n")
    if not at_once:
        endpoint.output()
    body = source.receive(end)
    assert isinstance(body, Body)
    endpoint.codec.send_end(1, body, some_ticket())
    assert endpoint.resets() == [(1, CANCEL)]
    (gone,) = endpoint.of(1)
    assert isinstance(gone, Reset)
    assert (gone.kind, gone.detail) == (Signal.RESET, "field list larger than the peer takes")


# --- how many resets ------------------------------------------------------------------------------


@pytest.mark.parametrize("engine", ENGINES)
@pytest.mark.parametrize("together", [1, 100])
def test_resets_of_one_connection_are_bounded(engine: str, together: int) -> None:
    """Servers end a connection, with everybody's streams, for some 200 in 30 s."""
    connections = [Endpoint(engine)]
    sent, left = [0], 230
    while left:
        endpoint = connections[-1]
        endpoint.now = 5 * SECOND
        room = min(endpoint.codec.can_open(endpoint.now), together, left)
        for number in [endpoint.ask() for _ in range(room)]:
            assert number is not None
            endpoint.codec.leave(number)
        sent[-1] += len(endpoint.resets())
        left -= room
        if not room:
            connections.append(Endpoint(engine))
            sent.append(0)
    assert sent == [190, 40]
    first = connections[0].codec
    assert [first.can_open(n * SECOND) for n in (6, 34, 35)] == [0, 0, 100]


@pytest.mark.parametrize("engine", ENGINES)
@pytest.mark.parametrize("at_once", [True, False])
def test_a_whole_response_that_is_paused_is_told_before_what_comes_behind(
    engine: str, at_once: bool
) -> None:
    endpoint = Endpoint(engine)
    stream = endpoint.ask()
    assert stream == 1
    endpoint.codec.pause(1)
    late = DataFrame(1, b"more")
    if at_once:
        endpoint.read(head(1, OK), late)
    else:
        endpoint.read(head(1, OK))
        endpoint.read(late)
    assert is_whole(endpoint.of(1), b"")
    assert endpoint.resets() == [(1, STREAM_CLOSED)]


@pytest.mark.parametrize("engine", ENGINES)
def test_an_endpoint_is_read_whatever_it_takes(engine: str) -> None:
    """RFC 9113 §5.2.2: it may take our requests once we have its responses."""
    endpoint = Endpoint(engine)
    streams = [endpoint.ask(f"x-large: {'v' * 50_000}") for _ in range(8)]
    assert None not in streams
    endpoint.read(*(head(n, OK) for n in streams if n is not None))
    for number in streams:
        assert number is not None
        assert is_whole(endpoint.of(number), b"")
    assert endpoint.codec.wants_read


@pytest.mark.parametrize("engine", ENGINES)
def test_a_connection_whose_window_others_have_used_up_says_so(engine: str) -> None:
    endpoint = Endpoint(engine, {4: 1 << 20})  # SETTINGS_INITIAL_WINDOW_SIZE of streams
    large, small = endpoint.ask(unfinished=True), endpoint.ask(unfinished=True)
    assert large is not None
    assert small is not None
    assert not endpoint.codec.is_held_up(large)
    endpoint.codec.send_data(large, b"x" * 70_000)
    endpoint.codec.send_data(small, b"y")
    endpoint.output()
    assert endpoint.codec.clogged
    assert endpoint.codec.can_open(1) > 0, "what has no body needs none"
    assert endpoint.codec.is_held_up(small)
    assert not endpoint.codec.is_held_up(large), "it has used it up"
    endpoint.read(WindowUpdateFrame(0, window_increment=70_000))
    endpoint.output()
    assert not endpoint.codec.is_held_up(small)
    assert not endpoint.codec.clogged


PROBE = PingFrame(0, opaque_data=b"measured")


@pytest.mark.parametrize("engine", ENGINES)
def test_an_endpoint_may_measure_the_way_for_as_long_as_data_comes(engine: str) -> None:
    """As the libraries of gRPC do: a PING for each DATA frame."""
    endpoint = Endpoint(engine, {4: 1 << 20}, control_frames=(1, 1_000))
    stream = endpoint.ask(unfinished=True)
    assert stream is not None
    for _ in range(3_000):
        endpoint.codec.send_data(stream, b"x")
        endpoint.output()
        endpoint.read(PROBE)
    assert not endpoint.codec.closed
    endpoint.read(*[PROBE] * 2_000)
    endpoint.output()
    assert endpoint.codec.closed
    assert endpoint.codec.flood is not None


@pytest.mark.parametrize("engine", ENGINES)
def test_a_client_may_too(engine: str) -> None:
    player = ServerPlayer(engine, answers=False, control_frames=(1, 1_000))
    codec = player.codec
    events = codec.receive(PREFACE + joined(SettingsFrame(0), head(1, GET)), 1)
    request = next(event for _, event in events or [] if isinstance(event, Request))
    listener, core = listener_of()
    ticket = listener.begin(request, core.peer("127.0.0.1"), 1)
    response = ClientCodec(CodecLimits())
    response.send_request(request, ticket, core.peer("127.0.0.1"), 1)
    answer = response.receive(b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n")
    assert isinstance(answer, Response)
    codec.send_response(1, request, answer, ticket)
    for _ in range(3_000):
        codec.send_data(1, b"x")
        codec.take_output()
        codec.receive(joined(PROBE), 1)
    assert not codec.closed
    codec.receive(joined(*[PROBE] * 2_000), 1)
    assert codec.closed
