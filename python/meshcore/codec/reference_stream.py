"""One stream of the reference engine: what came and was not emitted, what waits to be sent."""

from __future__ import annotations

from collections import deque
from typing import TYPE_CHECKING, Final

from meshcore._core import h2_read_body

if TYPE_CHECKING:
    from collections.abc import Iterable

    from meshcore._core import Body, CodecLimits, Request, Response

# As rust/meshcore-core/src/codec/h2/outbox.rs has it.
LOW_WATER: Final = 16 << 10

# As rust/meshcore-core/src/codec/h2/inbox.rs has it: a window has its full size once this many of
# the first one were taken.
FIRST_WINDOW: Final = 65_535
GROWS_AFTER: Final = 2

DEFAULT_PRIORITY: Final = (3, True)

Fields = list[tuple[bytes, bytes]]


def content_length(fields: Iterable[tuple[bytes, bytes]]) -> int | None:
    """The length that a message declares; what is no number the package has refused already."""
    for name, value in fields:
        if name == b"content-length":
            return int(value)
    return None


class Inbox:
    """The receiving side."""

    __slots__ = (
        "credit",
        "declared",
        "ended",
        "grown",
        "head",
        "held",
        "open",
        "paused",
        "pieces",
        "received",
        "trailers",
    )

    def __init__(self) -> None:
        self.head: Request | Response | None = None  # what is emitted first
        self.pieces: list[bytes] = []
        self.trailers: Fields | None = None
        self.credit = 0  # what the pieces cost of the windows
        self.held = 0  # the same, where the connection's has it back already
        self.received = 0
        self.grown = False  # the window has its full size
        self.declared: int | None = None  # the content-length
        self.ended = False  # no more comes
        self.open = True  # its owner takes it
        self.paused = False

    def end(self) -> bool:
        """The peer's message is complete; ``False`` if it is of another length than it said."""
        self.ended = self.declared is None or self.declared == self.received
        return self.ended

    def take(self, limits: CodecLimits) -> Body | None:
        """What is there, as one; `CodecError` for too much."""
        data = self.pieces[0] if len(self.pieces) == 1 else b"".join(self.pieces)
        self.pieces.clear()
        body = h2_read_body(data, self.ended, self.trailers, limits, self.received)
        return None if isinstance(body, str) else body  # they were read when they came


class Outbox:
    """The sending side."""

    __slots__ = (
        "begun",
        "chunks",
        "done",
        "full",
        "priority",
        "queued",
        "scheduled",
        "sent",
        "trailers",
    )

    def __init__(self) -> None:
        self.chunks: deque[memoryview] = deque()
        self.queued = 0
        self.trailers: Fields | None = None  # not `None`: the end, with these
        self.begun = False  # the head is out
        self.sent = False  # some bytes are
        self.done = False  # the end is out
        self.full = False  # the owner was told to wait
        self.scheduled = False
        self.priority = DEFAULT_PRIORITY

    def push(self, data: bytes) -> int:
        """Queue data; the bytes that this adds."""
        if not data or self.done or self.trailers is not None:
            return 0
        self.chunks.append(memoryview(data))
        self.queued += len(data)
        return len(data)

    def finish(self, trailers: Fields) -> None:
        """Nothing follows but these."""
        if not self.done and self.trailers is None:
            self.trailers = trailers

    @property
    def has_more(self) -> bool:
        """Whether something waits that may go."""
        waits = bool(self.chunks) or self.trailers is not None
        return waits and self.begun and not self.done

    def take(self, most: int) -> memoryview:
        """The next piece; ask for at least a byte, and only while there are `chunks`."""
        chunk = self.chunks[0]
        piece = chunk[:most]
        if len(piece) == len(chunk):
            self.chunks.popleft()
        else:
            self.chunks[0] = chunk[most:]
        self.queued -= len(piece)
        self.sent = True
        return piece

    def stop(self) -> int:
        """Nothing of it is wanted; the bytes that waited."""
        waited, self.queued, self.done = self.queued, 0, True
        self.chunks.clear()
        return waited

    def take_room_notice(self) -> bool:
        """Whether the owner is to hear that there is room; once."""
        room = self.full and self.queued <= LOW_WATER
        self.full = self.full and not room
        return room


class Stream:
    """Open stream, either side."""

    __slots__ = (
        "awaited",
        "head_request",
        "inbox",
        "interim",
        "left",
        "number",
        "outbox",
        "tunnel",
    )

    def __init__(self, number: int) -> None:
        self.number = number
        self.inbox = Inbox()
        self.outbox = Outbox()
        self.left = False  # its owner only hears when all is sent
        self.awaited = False  # the head of the response is still to come
        self.head_request = False
        self.tunnel = False  # a request of ours asked for one: we may outlast its response
        self.interim = 0  # 1xx so far

    @property
    def over(self) -> bool:
        """Whether both sides are."""
        return self.outbox.done and not self.inbox.open and not self.awaited
