"""The two engines of HTTP/2 say the same of the same frames; a table has what they do not."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import NamedTuple

import pytest
from h2.errors import ErrorCodes
from hpack import Decoder, Encoder
from hyperframe.frame import (
    DataFrame,
    Frame,
    HeadersFrame,
    PingFrame,
    RstStreamFrame,
    SettingsFrame,
    WindowUpdateFrame,
)
from hypothesis import HealthCheck, assume, given, settings
from hypothesis import strategies as st

from meshcore._core import Signal

from .h2_play import ENGINES, PREFACE, ClientPlayer, ServerPlayer, Step, Steps, Story, split
from .h2_scripts import HELLO, REQUESTS, Draw, Field, client_bytes, raw, server_bytes
from .h2_vectors import Block, FrameVector, frames, stories
from .h2_vectors import Story as Blocks

CUTS = st.lists(st.integers(0, 4000), max_size=6)
OFTEN = settings(max_examples=200, suppress_health_check=list(HealthCheck))

GET: list[Field] = [(":method", "GET"), (":scheme", "http"), (":authority", "a"), (":path", "/")]
OK: list[Field] = [(":status", "200")]


def serve(engine: str, steps: Steps, *, answers: bool = False) -> Story:
    """What a server makes of frames behind the preface."""
    return ServerPlayer(engine, answers).play([PREFACE + HELLO, *steps])


def ask(engine: str, steps: Steps) -> Story:
    """What a client makes of frames that answer `REQUESTS`."""
    return ClientPlayer(engine).play(REQUESTS, HELLO, steps)


def head(stream: int, fields: Sequence[Field], *, end: bool = True) -> HeadersFrame:
    """A head whose fields are in no table."""
    flags = ["END_HEADERS", *(["END_STREAM"] if end else [])]
    return HeadersFrame(stream, Encoder().encode(list(fields)), flags=flags)


def joined(*some: Frame | bytes) -> bytes:
    """Frames, as they come in one read."""
    return b"".join(x if isinstance(x, bytes) else x.serialize() for x in some)


# --- random sequences -------------------------------------------------------------------------


def same(native: Story, python: Story) -> None:
    """What both told, and how both ended."""
    refused = any(told[-1][0] == "refused" for told in native.streams.values())
    if refused and python.goaway == [ErrorCodes.STREAM_CLOSED] and not any(native.goaway):
        # The package ends the connection for a head on a stream that a refusal has ended; what its
        # peer sent before it heard of that may be passed over (RFC 9113 §5.1).
        return
    assert native.closed == python.closed
    assert native.streams == python.streams
    assert native.signals == python.signals
    assert any(native.goaway) == any(python.goaway)
    if not refused:
        # Whether what follows a refusal makes sense is nobody's business.
        assert native.open_streams == python.open_streams


ALWAYS = [("ping", 0), ("receive_eof", 0)]


@st.composite
def steps(draw: Draw, data: bytes) -> list[Step]:
    """The bytes in several reads, and between them what an owner may do."""
    reads = split(data, draw(CUTS))
    does = st.sampled_from(["pause", "resume", "reset", "leave"])
    own = st.tuples(does, st.sampled_from([1, 3, 5, 7])) | st.sampled_from(ALWAYS)
    between = draw(st.lists(st.lists(own, max_size=2), min_size=len(reads), max_size=len(reads)))
    return [step for read, some in zip(reads, between, strict=True) for step in (read, *some)]


@OFTEN
@given(st.data(), st.booleans())
def test_servers_agree(data: st.DataObject, answers: bool) -> None:
    play = data.draw(steps(data.draw(client_bytes())))
    native, python = (ServerPlayer(engine, answers).play(play) for engine in ENGINES)
    same(native, python)


@OFTEN
@given(st.data())
def test_clients_agree(data: st.DataObject) -> None:
    play = data.draw(steps(data.draw(server_bytes())))
    native, python = (ask(engine, play) for engine in ENGINES)
    same(native, python)


def told_alike(one: Story, other: Story) -> None:
    """The same of every stream; of one that went wrong, as far as it was told before."""
    # The owner answers a refusal and leaves, before or behind what else comes.
    assume(not any(told[-1][0] == "refused" for told in one.streams.values()))
    assert one.closed == other.closed
    for stream in one.streams.keys() | other.streams.keys():
        a, b = one.of(stream), other.of(stream)
        if "gone" not in {part[0] for part in (*a[-1:], *b[-1:])}:
            assert a == b
            continue
        a, b = ([part for part in told if part[0] != "gone"] for told in (a, b))
        for x, y in zip(a, b, strict=False):
            assert x == y or (x[0] == y[0] == "data")


@OFTEN
@given(client_bytes(), CUTS, st.sampled_from(ENGINES))
def test_servers_read_any_split_alike(data: bytes, cuts: list[int], engine: str) -> None:
    whole, parts = ([data], split(data, cuts))
    told_alike(*(ServerPlayer(engine, answers=False).play(reads) for reads in (whole, parts)))


@OFTEN
@given(server_bytes(), CUTS, st.sampled_from(ENGINES))
def test_clients_read_any_split_alike(data: bytes, cuts: list[int], engine: str) -> None:
    told_alike(*(ask(engine, reads) for reads in ([data], split(data, cuts))))


# --- the table --------------------------------------------------------------------------------


class Difference(NamedTuple):
    """What the engines make of the same frames, and why it is not the same."""

    frames: bytes
    native: str
    python: str


def outcome(story: Story) -> str:
    """What was told of stream 1 and 3, what was reset, and with what code it all ended."""
    told = [f"{n}: " + " ".join(str(x[0]) for x in story.of(n)) for n in (1, 3) if story.of(n)]
    resets = [f"reset {n} with {code}" for n, code in story.resets if n in (1, 3)]
    ended = [f"ended with {code}" for code in story.goaway]
    return ", ".join([*told, *resets, *ended])


def with_length(*values: str) -> bytes:
    """A request that declares lengths, and goes on."""
    return joined(head(1, GET + [("content-length", value) for value in values], end=False))


# The package looks at lengths before it hands a list over: what is no length, or several, it calls
# malformed. For the core it is a request that may not pass.
AT_SERVERS = {
    "a length with a sign": Difference(
        with_length("+1"), "1: refused, reset 1 with 0", "reset 1 with 1"
    ),
    "an empty length": Difference(with_length(""), "1: refused, reset 1 with 0", "reset 1 with 1"),
    "two lengths": Difference(
        with_length("1", "2"), "1: refused, reset 1 with 0", "reset 1 with 1"
    ),
    # The core drops a length from trailers, whatever it is.
    "no length in trailers": Difference(
        joined(head(1, GET, end=False), head(1, [("content-length", "x")])),
        "1: request end",
        "reset 1 with 1",
    ),
    # RFC 9113 §6.3 makes it the stream's, but §6.4 forbids to reset one that is idle.
    "PRIORITY of an idle stream": Difference(
        raw(2, 0, 3, bytes(4)), "reset 3 with 6", "ended with 6"
    ),
    "an idle stream of itself": Difference(
        raw(2, 0, 3, b"\0\0\0\3\0"), "reset 3 with 1", "ended with 1"
    ),
}
AT_CLIENTS = {
    "a length that is none": Difference(
        joined(head(1, [*OK, ("content-length", "x")], end=False)),
        "1: refused",
        "1: gone, reset 1 with 1",
    ),
    # RFC 9113 §8.1.1: a 304 may declare a length. The package waits for the bytes, unless the head
    # is all there is.
    "a 304 with a length": Difference(
        joined(
            head(1, [(":status", "304"), ("content-length", "9")], end=False),
            DataFrame(1, flags=["END_STREAM"]),
        ),
        "1: response end",
        "1: gone, reset 1 with 1",
    ),
    # RFC 9113 §6.5.2: an error of the connection. Nothing can be pushed either way.
    "ENABLE_PUSH of a server": Difference(
        joined(SettingsFrame(0, {SettingsFrame.ENABLE_PUSH: 1}), head(1, OK)),
        "1: response end",
        "1: gone, 3: gone, ended with 1",
    ),
}


@pytest.mark.parametrize("name", AT_SERVERS)
def test_servers_differ(name: str) -> None:
    case = AT_SERVERS[name]
    native, python = (outcome(serve(engine, [case.frames])) for engine in ENGINES)
    assert (native, python) == (case.native, case.python)


@pytest.mark.parametrize("name", AT_CLIENTS)
def test_clients_differ(name: str) -> None:
    case = AT_CLIENTS[name]
    native, python = (outcome(ask(engine, [case.frames])) for engine in ENGINES)
    assert (native, python) == (case.native, case.python)


# --- what both must do ------------------------------------------------------------------------


@pytest.mark.parametrize("engine", ENGINES)
@pytest.mark.parametrize(
    "then", [[("pause", 1), ("resume", 1)], [("resume", 1)], [RstStreamFrame(1).serialize()]]
)
def test_the_end_is_told_once(engine: str, then: Steps) -> None:
    reads = [joined(head(1, GET, end=False)), joined(DataFrame(1, b"x", flags=["END_STREAM"]))]
    story = serve(engine, [*reads, *then])
    assert [part[0] for part in story.of(1)].count("end") == 1


@pytest.mark.parametrize("engine", ENGINES)
@pytest.mark.parametrize("paused", [False, True])
def test_a_whole_response_outlives_the_reset_behind_it(engine: str, paused: bool) -> None:
    """RFC 9113 §8.1: NO_ERROR behind it says that the rest of the request is not wanted."""
    pause, resume = ([("pause", 3)], [("resume", 3)]) if paused else ([], [])
    last = joined(DataFrame(3, b"all", flags=["END_STREAM"]), RstStreamFrame(3))
    story = ask(engine, [joined(head(3, OK, end=False)), *pause, last, *resume])
    assert story.of(3)[1:] == [("data", b"all"), ("end",)]


@pytest.mark.parametrize("engine", ENGINES)
@pytest.mark.parametrize("came", [3, 8, 9])
def test_a_frame_is_checked_once_its_header_is_there(engine: str, came: int) -> None:
    too_large = raw(0, 0, 1, bytes(16_385))
    story = ask(engine, [joined(head(1, OK, end=False)), too_large[:came], ("receive_eof", 0)])
    assert story.goaway == ([ErrorCodes.FRAME_SIZE_ERROR] if came == 9 else [])


@pytest.mark.parametrize("engine", ENGINES)
@pytest.mark.parametrize("code", [0, 8])
def test_a_response_that_breaks_off_is_not_whole(engine: str, code: int) -> None:
    story = ask(engine, [joined(head(1, OK, end=False), RstStreamFrame(1, code))])
    assert story.of(1)[-1] == ("gone", Signal.RESET)


@pytest.mark.parametrize("engine", ENGINES)
@pytest.mark.parametrize(("stream", "status"), [(5, "200"), (1, "204"), (1, "304")])
@pytest.mark.parametrize("at_once", [False, True])
def test_a_response_without_a_body_has_none(
    engine: str, stream: int, status: str, at_once: bool
) -> None:
    """Whoever passes it on behind a head that promises none splits the response."""
    begin, more = head(stream, [(":status", status)], end=False), DataFrame(stream, b"HTTP/1.1 ")
    story = ask(engine, [joined(begin, more)] if at_once else [joined(begin), joined(more)])
    assert "data" not in [part[0] for part in story.of(stream)]


@pytest.mark.parametrize("engine", ENGINES)
@pytest.mark.parametrize("fault", [[("connection", "close")], [("X", "y")]])
def test_the_tables_stay_in_step_when_a_stream_does_not(engine: str, fault: list[Field]) -> None:
    encoder = Encoder()
    first = encoder.encode([*GET, *fault, ("x-a", "1")])
    depends_on_itself = raw(1, 0x25, 5, b"\0\0\0\5\0" + encoder.encode([*GET, ("x-b", "2")]))
    second = encoder.encode([*GET, ("x-a", "1"), ("x-b", "2")])
    steps_ = [raw(1, 5, 3, first) + depends_on_itself + raw(1, 5, 7, second)]
    story = serve(engine, steps_)
    assert list(story.streams) == [7]
    assert story.of(7)[0][-1] == (("x-a", "1"), ("x-b", "2"))


FLOODS: dict[str, tuple[int, Callable[[int], bytes]]] = {
    "resets": (0, lambda n: joined(head(n, GET, end=False), RstStreamFrame(n, 8))),
    "pings": (1, lambda n: joined(PingFrame(0, b"12345678"))),
    "empty": (2, lambda n: joined(DataFrame(1))),
    "hollow": (2, lambda n: joined(DataFrame(1, pad_length=9, flags=["PADDED"]))),
    "updates": (3, lambda n: joined(WindowUpdateFrame(0, window_increment=1))),
    "priorities": (4, lambda n: raw(2, 0, 1, b"\0\0\0\0\0")),
    "unknown": (5, lambda n: raw(0xAB, 0, 1, b"?")),
    "blocks": (6, lambda n: raw(1, 0, n, b"\x82") + raw(9, 0, n, b"\x86") * 17),
    "faults": (7, lambda n: joined(head(n, [*GET, ("connection", "close")]))),
}
RATE, MOST = (1, 20), 40


@pytest.mark.parametrize("engine", ENGINES)
@pytest.mark.parametrize("name", FLOODS)
def test_a_clients_flood_ends_the_connection(name: str, engine: str) -> None:
    flood, frame = FLOODS[name]
    player = ServerPlayer(engine, resets=RATE, control_frames=RATE)
    reads = [joined(head(1, GET, end=False)), *(frame(3 + 2 * n) for n in range(MOST))]
    story = player.play([PREFACE + HELLO, *reads])
    assert story.goaway == [ErrorCodes.ENHANCE_YOUR_CALM]
    assert player.codec.flood == flood


@pytest.mark.parametrize("engine", ENGINES)
@pytest.mark.parametrize("frame", [RstStreamFrame(1, 0), PingFrame(0)])
def test_an_endpoints_flood_ends_the_connection(frame: Frame, engine: str) -> None:
    player = ClientPlayer(engine, resets=RATE, control_frames=RATE)
    story = player.play(REQUESTS, HELLO, [joined(frame)] * MOST)
    assert story.goaway == [ErrorCodes.ENHANCE_YOUR_CALM]


# --- vectors of others ------------------------------------------------------------------------

# What a block says in HTTP/1.1's way is malformed (RFC 9113 §8.2.2), and is decoded all the same.
CONNECTION = {b"connection", b"keep-alive", b"proxy-connection", b"transfer-encoding", b"upgrade"}


def plain(fields: Sequence[tuple[bytes, bytes]]) -> tuple[tuple[str, str], ...]:
    """The fields as a head has them: crumbs of cookies in one, behind the others."""
    texts = [(name.decode(), value.decode()) for name, value in fields]
    crumbs = [value for name, value in texts if name == "cookie"]
    rest = [field for field in texts if not field[0].startswith(":") and field[0] != "cookie"]
    return (*rest, *([("cookie", "; ".join(crumbs))] if crumbs else []))


def is_request(fields: Sequence[tuple[bytes, bytes]]) -> bool:
    names = {name for name, _ in fields}
    return b":method" in names and not names & CONNECTION


def table_of(blocks: Sequence[Block]) -> list[tuple[bytes, bytes]]:
    """The dynamic table behind a story, as the package ``hpack`` has it."""
    decoder = Decoder()
    for block in blocks:
        decoder.decode(block.wire, raw=True)
    return list(decoder.header_table.dynamic_entries)


@pytest.mark.parametrize("engine", ENGINES)
@pytest.mark.parametrize("story", stories(), ids=lambda story: story.name)
def test_field_blocks(story: Blocks, engine: str) -> None:
    """What each says, and what they leave in the table: a request for each entry asks for it."""
    said = [(block.wire, block.fields) for block in story.blocks]
    for at, entry in enumerate(table_of(story.blocks), 62):
        index = bytes([0x80 | at]) if at < 127 else bytes([0xFF, at - 127])
        get = [(name.encode(), value.encode()) for name, value in GET]
        said.append((b"\x82\x86\x84\x01\x01a" + index, [*get, entry]))
    steps_ = [raw(1, 5, 2 * n + 1, wire) for n, (wire, _) in enumerate(said)]
    played = serve(engine, steps_)
    for n, (_, fields) in enumerate(said):
        told = played.of(2 * n + 1)
        names = [name for name, _ in fields]
        if is_request(fields) and len(set(names)) >= len(names) - names.count(b"cookie"):
            assert told[0][-1] == plain(fields)
        else:
            assert not told


@pytest.mark.parametrize("engine", ENGINES)
@pytest.mark.parametrize("vector", frames(), ids=lambda vector: vector.name)
def test_frames(vector: FrameVector, engine: str) -> None:
    requests = [joined(head(n, GET, end=False)) for n in range(1, 12, 2)]
    server = serve(engine, [*requests, vector.wire])
    client = ask(engine, [vector.wire])
    for story in (server, client):
        assert not vector.errors or any(story.goaway) or story.resets
