"""Random sequences of frames, legal for the most part, as a client or a server would send them.

What the two engines judge in different ways is left out here; the table of `test_h2_engines` has
it, case by case.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from hpack import Encoder
from hyperframe.frame import (
    ContinuationFrame,
    DataFrame,
    Frame,
    GoAwayFrame,
    HeadersFrame,
    PingFrame,
    PriorityFrame,
    RstStreamFrame,
    SettingsFrame,
    WindowUpdateFrame,
)
from hypothesis import strategies as st

from .h2_play import PREFACE

Draw = Callable[[st.SearchStrategy[Any]], Any]
Field = tuple[str, str]

HELLO = SettingsFrame(0).serialize() + SettingsFrame(0, flags=["ACK"]).serialize()
LARGEST = 2**31 - 1


def raw(kind: int, flags: int, stream: int, payload: bytes = b"") -> bytes:
    """A frame, however wrong."""
    head = len(payload).to_bytes(3) + bytes([kind, flags]) + stream.to_bytes(4)
    return head + payload


class Script:
    """What was sent so far on one connection."""

    def __init__(self) -> None:
        self.encoder = Encoder()
        self.sent: list[bytes] = []
        self.open: list[int] = []
        self.ended: list[int] = []  # by END_STREAM
        self.reset: list[int] = []
        self.last = -1
        self.goaway = LARGEST

    def send(self, *frames: Frame | bytes) -> None:
        """Append frames."""
        self.sent += [f if isinstance(f, bytes) else f.serialize() for f in frames]

    def block(self, draw: Draw, stream: int, fields: Sequence[Field], end: bool) -> None:
        """A field block in one frame or several, padded or not."""
        block = self.encoder.encode(list(fields), huffman=draw(st.booleans()))
        cut = draw(st.integers(0, len(block))) if draw(st.integers(0, 3)) == 0 else 0
        first = HeadersFrame(stream, block[:cut] if cut else block)
        if end:
            first.flags.add("END_STREAM")
        if draw(st.integers(0, 4)) == 0:
            first.flags.add("PADDED")
            first.pad_length = draw(st.integers(0, 20))
        if cut:
            last = ContinuationFrame(stream, block[cut:], flags=["END_HEADERS"])
            return self.send(first, last)
        first.flags.add("END_HEADERS")
        return self.send(first)

    def end(self, stream: int) -> None:
        """A stream got its END_STREAM."""
        self.open.remove(stream)
        self.ended.append(stream)

    @property
    def known(self) -> list[int]:
        """Streams that are not idle."""
        return [*self.open, *self.ended, *self.reset]


NAMES = st.sampled_from(["accept", "x-a", "x-b", "x-c", "cookie", "te", "priority", "via", "etag"])
VALUES = {
    "te": st.just("trailers"),
    "priority": st.sampled_from(["u=1", "u=7, i", "i", "nonsense"]),
    "cookie": st.sampled_from(["a=1", "b=2", "c=" + "3" * 30]),
}
TEXT = st.text("abcdefgh ~!\t", max_size=12).map(str.strip)


@st.composite
def fields(draw: Draw, most: int = 6) -> list[Field]:
    """Plain fields."""
    names = draw(st.lists(NAMES, max_size=most))
    return [(name, draw(VALUES.get(name, TEXT))) for name in names]


# --- what both sides may send -----------------------------------------------------------------


def data(draw: Draw, script: Script) -> None:
    if not script.open:
        return
    stream = draw(st.sampled_from(script.open))
    frame = DataFrame(stream, draw(st.binary(max_size=30)))
    if draw(st.integers(0, 3)) == 0:
        frame.flags.add("PADDED")
        frame.pad_length = draw(st.integers(0, 20))
    if draw(st.integers(0, 2)) == 0:
        frame.flags.add("END_STREAM")
        script.end(stream)
    script.send(frame)


def trailers(draw: Draw, script: Script) -> None:
    if script.open:
        stream = draw(st.sampled_from(script.open))
        names = st.sampled_from(["grpc-status", "x-t", "authorization"])
        some = draw(st.lists(st.tuples(names, TEXT), min_size=1))
        script.block(draw, stream, [*some, ("content-length", "3")], True)
        script.end(stream)


def window(draw: Draw, script: Script) -> None:
    stream = draw(st.sampled_from([0, *script.known]))
    script.send(WindowUpdateFrame(stream, draw(st.integers(1, 70_000))))


def settings(draw: Draw, script: Script) -> None:
    values = {
        1: st.integers(0, 8192),
        3: st.integers(90, 200),
        4: st.integers(0, 70_000),
        5: st.integers(16_384, 70_000),
        6: st.integers(1000, 70_000),
        0xF0: st.integers(0, 9),
    }
    chosen = draw(st.lists(st.sampled_from(list(values)), unique=True))
    script.send(SettingsFrame(0, {key: draw(values[key]) for key in chosen}))


def ping(draw: Draw, script: Script) -> None:
    script.send(PingFrame(0, draw(st.binary(min_size=8, max_size=8))))
    if draw(st.booleans()):
        script.send(PingFrame(0, bytes(8), flags=["ACK"]))


def priority(draw: Draw, script: Script) -> None:
    stream = draw(st.sampled_from([1, 3, 99]))
    script.send(PriorityFrame(stream, depends_on=2, stream_weight=draw(st.integers(0, 255))))


def extension(draw: Draw, script: Script) -> None:
    kind = draw(st.sampled_from([0xA, 0xC, 0x10, 0xEE]))
    body = draw(st.binary(max_size=9))
    script.send(raw(kind, 0, draw(st.sampled_from([0, 1, 7])), body))


def bad_priority(draw: Draw, script: Script) -> None:
    """A PRIORITY that costs its stream; of an idle one it is in the table."""
    if script.open:
        stream = draw(st.sampled_from(script.open))
        payloads = [bytes(4), bytes(6), stream.to_bytes(4) + b"\0"]
        script.send(raw(2, 0, stream, draw(st.sampled_from(payloads))))


def wrong(draw: Draw, script: Script) -> None:
    """What ends the connection, or a stream, whoever sends it."""
    some = script.open[0] if script.open else 1
    script.send(
        draw(
            st.sampled_from(
                [
                    raw(0, 0, 0, b"x"),  # DATA on no stream
                    raw(0, 0, 901, b"x"),  # on an idle one
                    raw(0, 8, some, b"\x05abc"),  # more padding than there is
                    raw(1, 5, 0, b"x"),  # HEADERS on no stream
                    raw(1, 5, some, b"\xff\xff\xff\xff\xff\xff"),  # an index without an end
                    raw(1, 5, some, b"\x80"),  # index 0
                    raw(1, 5, some, b"\x00\x05x"),  # cut off
                    raw(1, 5, some, b"\xfe"),  # nothing there in the table
                    raw(1, 1, some) + raw(6, 0, 0, bytes(8)),  # a block that is interrupted
                    raw(1, 1, some) + raw(9, 4, some + 2),
                    raw(1, 1, some) + raw(0xEE, 0, some),
                    raw(2, 0, 0, bytes(5)),  # PRIORITY of no stream
                    raw(3, 0, 0, bytes(4)),  # RST_STREAM of no stream
                    raw(3, 0, 901, bytes(4)),
                    raw(3, 0, some, bytes(3)),
                    raw(4, 0, 1),  # SETTINGS of a stream
                    raw(4, 0, 0, bytes(5)),
                    raw(4, 1, 0, bytes(6)),  # an ACK with a value
                    raw(4, 0, 0, b"\0\2\0\0\0\2"),
                    raw(4, 0, 0, b"\0\4\x80\0\0\0"),
                    raw(4, 0, 0, b"\0\5\0\0\0\1"),
                    raw(5, 4, some, b"\0\0\0\2"),  # PUSH_PROMISE
                    raw(6, 0, 1, bytes(8)),  # PING of a stream
                    raw(6, 0, 0, bytes(7)),
                    raw(7, 0, 1, bytes(8)),  # GOAWAY of a stream
                    raw(7, 0, 0, bytes(7)),
                    raw(8, 0, 0, bytes(4)),  # a window of nothing
                    raw(8, 0, some, bytes(4)),
                    raw(8, 0, 901, b"\0\0\0\1"),
                    raw(0x10, 0, 1, bytes(5)),  # PRIORITY_UPDATE of a stream
                    raw(8, 0, 0, bytes(3)),
                    WindowUpdateFrame(0, LARGEST).serialize(),
                    raw(9, 4, some),  # CONTINUATION of nothing
                    raw(0xEE, 0, 0, bytes(16_385)),  # more than a frame may have
                ]
            )
        )
    )


# --- a client ---------------------------------------------------------------------------------


def request(draw: Draw, script: Script) -> None:
    stream = script.last = script.last + 2 * draw(st.integers(1, 3))
    method = draw(st.sampled_from(["GET", "POST", "HEAD", "OPTIONS", "X-OTHER"]))
    path = draw(st.sampled_from(["/", "/a/../b?c", "/%7e//x", "/a%2", "*", "/" + "p" * 200]))
    authority = draw(st.sampled_from(["a", "A.test:80", "[::1]:1", "a:99999", "u@a"]))
    head = [(":method", method), (":scheme", "http"), (":authority", authority), (":path", path)]
    rest = draw(fields())
    if draw(st.integers(0, 3)) == 0:
        rest.append(("content-length", str(draw(st.integers(0, 40)))))
    end = draw(st.booleans())
    script.block(draw, stream, head + rest, end)
    (script.ended if end else script.open).append(stream)


MALFORMED: list[list[Field]] = [
    [("connection", "close")],
    [("te", "gzip")],
    [("upgrade", "h2c")],
    [(":path", "/again")],
    [(":status", "200")],
    [(":protocol", "websocket")],
    [("X", "y")],
    [("x", "a\nb")],
    [("x", "a\0")],
    [("x", " a")],
    [("a b", "c")],
    [("", "x")],
    [(":other", "x")],
]


def malformed(draw: Draw, script: Script) -> None:
    """A request that costs its stream."""
    stream = script.last = script.last + 2
    head = [(":method", "GET"), (":scheme", "http"), (":authority", "a"), (":path", "/")]
    missing = draw(st.sampled_from([None, 0, 1, 3]))
    extra = draw(st.sampled_from(MALFORMED)) if missing is None else []
    kept = [field for at, field in enumerate(head) if at != missing]
    end = draw(st.booleans())
    script.block(draw, stream, kept + extra, end)
    (script.ended if end else script.open).append(stream)


def unended(draw: Draw, script: Script) -> None:
    """Trailers that do not end their stream."""
    if script.open:
        stream = draw(st.sampled_from(script.open))
        script.block(draw, stream, [("x", "y")], False)
        script.open.remove(stream)


def tunnel(draw: Draw, script: Script) -> None:
    stream = script.last = script.last + 2
    head = [(":method", "CONNECT"), (":authority", draw(st.sampled_from(["a:1", "a"])))]
    if draw(st.booleans()):
        head += [(":protocol", "websocket"), (":scheme", "http"), (":path", "/")]
    script.block(draw, stream, head, False)
    script.open.append(stream)


def cancel(draw: Draw, script: Script) -> None:
    if script.known:
        stream = draw(st.sampled_from(script.known))
        script.send(RstStreamFrame(stream, draw(st.sampled_from([0, 2, 7, 8, 99]))))
        for streams in (script.open, script.ended):
            if stream in streams:
                streams.remove(stream)
                script.reset.append(stream)


def behind(draw: Draw, script: Script) -> None:
    """More of a message that has ended."""
    if script.ended:
        stream = draw(st.sampled_from(script.ended))
        if draw(st.booleans()):
            script.send(DataFrame(stream, b"more"))
        else:
            script.block(draw, stream, [("x", "y")], draw(st.booleans()))
        script.ended.remove(stream)


def late(draw: Draw, script: Script) -> None:
    """What comes behind the sender's own reset."""
    if script.reset:
        stream = draw(st.sampled_from(script.reset))
        if draw(st.booleans()):
            script.send(DataFrame(stream, b"late"))
        else:
            script.block(draw, stream, [("x", "y")], draw(st.booleans()))


def number(draw: Draw, script: Script) -> None:
    """A number that no request can have now."""
    wrong_numbers = [2, *range(1, script.last, 2)]
    free = [n for n in wrong_numbers if n not in script.known]
    head = [(":method", "GET"), (":scheme", "http"), (":authority", "a"), (":path", "/")]
    script.block(draw, draw(st.sampled_from(free)), head, True)


def leave(draw: Draw, script: Script) -> None:
    script.send(GoAwayFrame(0, error_code=draw(st.sampled_from([0, 2, 11]))))


Action = Callable[[Draw, Script], None]
BOTH: list[Action] = [
    data,
    data,
    trailers,
    window,
    settings,
    ping,
    priority,
    bad_priority,
    extension,
]
CLIENT: list[Action] = [
    *[request] * 3,
    tunnel,
    malformed,
    unended,
    behind,
    cancel,
    late,
    leave,
]


@st.composite
def client_bytes(draw: Draw) -> bytes:
    """What a client sends, from the preface on."""
    script = Script()
    script.send(PREFACE + HELLO)
    for action in draw(st.lists(st.sampled_from(BOTH + CLIENT), min_size=1, max_size=15)):
        action(draw, script)
    if draw(st.integers(0, 2)) == 0:
        draw(st.sampled_from([wrong, number]))(draw, script)
        request(draw, script)
    return b"".join(script.sent)


# --- a server ---------------------------------------------------------------------------------

REQUESTS = [
    b"GET /1 HTTP/1.1\r\nhost: a\r\n\r\n",
    b"POST /3 HTTP/1.1\r\nhost: a\r\ncontent-length: 9\r\n\r\nabc",
    b"HEAD /5 HTTP/1.1\r\nhost: a\r\n\r\n",
    b"GET /7 HTTP/1.1\r\nhost: a\r\n\r\n",
]
UNFINISHED = 3
"""Its request is not sent to the end."""


class Answers(Script):
    """What was sent in answer to `REQUESTS`."""

    def __init__(self) -> None:
        super().__init__()
        self.awaited = [1, 3, 5, 7]


def response(draw: Draw, script: Script) -> None:
    assert isinstance(script, Answers)
    if script.awaited:
        stream = draw(st.sampled_from(script.awaited))
        status = draw(st.sampled_from(["200", "404", "599", "600"]))
        rest = draw(fields())
        rest = [field for field in rest if field[0] != "te"]
        if draw(st.integers(0, 3)) == 0:
            rest.append(("content-length", str(draw(st.integers(0, 40)))))
        # Bodies of responses that have none are in the table.
        end = stream == 5 or draw(st.booleans())
        if end and draw(st.booleans()):
            status = draw(st.sampled_from(["204", "304"]))
        script.block(draw, stream, [(":status", status), *rest], end)
        script.awaited.remove(stream)
        (script.ended if end else script.open).append(stream)


def interim(draw: Draw, script: Script) -> None:
    assert isinstance(script, Answers)
    if script.awaited:
        stream = draw(st.sampled_from(script.awaited))
        script.block(draw, stream, [(":status", "103"), *draw(fields(2))], False)


def malformed_response(draw: Draw, script: Script) -> None:
    assert isinstance(script, Answers)
    if script.awaited:
        stream = draw(st.sampled_from(script.awaited))
        wrong_fields: list[list[Field]] = [
            [("x", "y")],
            [(":status", "200"), ("connection", "close")],
            [(":status", "200"), (":status", "200")],
            [(":status", "200"), (":path", "/")],
            [(":status", "200"), ("X", "y")],
            [(":status", "2000")],
            [(":status", "101")],
        ]
        script.block(draw, stream, draw(st.sampled_from(wrong_fields)), False)
        script.awaited.remove(stream)


def give_up(draw: Draw, script: Script) -> None:
    assert isinstance(script, Answers)
    streams = [*script.awaited, *script.open]
    if streams:
        stream = draw(st.sampled_from(streams))
        script.send(RstStreamFrame(stream, draw(st.sampled_from([0, 2, 7, 8, 99]))))
        for some in (script.awaited, script.open):
            if stream in some:
                some.remove(stream)
                script.reset.append(stream)


def go_away(draw: Draw, script: Script) -> None:
    assert isinstance(script, Answers)
    # Not below what was answered already.
    least = max([0, *script.open, *script.ended])
    script.goaway = draw(st.sampled_from([n for n in (LARGEST, 9, 7, 5, 3, 1, 0) if n >= least]))
    script.send(GoAwayFrame(0, script.goaway, draw(st.sampled_from([0, 2]))))
    for some in (script.awaited, script.open):
        some[:] = [stream for stream in some if stream <= script.goaway]


SERVER: list[Action] = [
    *[response] * 3,
    interim,
    malformed_response,
    unended,
    behind,
    give_up,
    go_away,
]


@st.composite
def server_bytes(draw: Draw) -> bytes:
    """What a server sends behind its greeting."""
    script = Answers()
    for action in draw(st.lists(st.sampled_from(BOTH + SERVER), min_size=1, max_size=15)):
        action(draw, script)
    if draw(st.integers(0, 2)) == 0:
        wrong(draw, script)
        response(draw, script)
    return b"".join(script.sent)
