"""An HTTP/2 connection over a transport of the loop, whichever side it is.

Reads become events, and what these bring about is sent once for all that a turn of the loop
brought: a write for each response would cost more than the response.
"""

from __future__ import annotations

import asyncio
from abc import abstractmethod
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from meshcore.codec import Codec


class Http2Wire(asyncio.BaseProtocol):
    """Carries bytes between a transport and a codec; a subclass knows what events mean."""

    __slots__ = (
        "_dispatching",
        "_loop",
        "_reading",
        "choked",
        "closing",
        "codec",
        "flushes",
        "heard_ns",
        "now_ns",
        "pinged_ns",
        "transport",
    )

    codec: Codec

    def __init__(self, clock: Callable[[], int]) -> None:
        """``clock`` is `now_ns`, or a test's."""
        self.now_ns = clock
        self._loop = asyncio.get_running_loop()
        self.transport: asyncio.Transport | None = None
        self.choked = False  # the socket takes no more
        self.closing = False  # what still comes is not read
        self.heard_ns = self.now_ns()  # when the peer last said anything
        self.pinged_ns = 0  # when it was asked for a sign of life, if that is not answered
        self._reading = True
        self._dispatching = False
        self.flushes = False  # behind what is under way, or when the turn ends

    @abstractmethod
    def dispatch(self, events: Iterable[tuple[int, object]], now: int) -> None:
        """What happened on streams, or (0) to the connection, one after the other."""

    def data_received(self, data: bytes) -> None:
        """Bytes of frames."""
        if self.closing:
            return
        now = self.heard_ns = self.now_ns()
        self.pinged_ns = 0
        self._dispatch(self.receive(data, now), now)
        self.flush()

    def receive(self, data: bytes, now: int) -> Iterable[tuple[int, object]] | None:
        """What a read meant."""
        return self.codec.receive(data, now)

    def _dispatch(self, events: Iterable[tuple[int, object]] | None, now: int) -> bool:
        """Says whether there was any event, and so perhaps something to send."""
        if events is None:
            return False
        nested, self._dispatching = self._dispatching, True
        flushes, self.flushes = self.flushes, True
        try:
            self.dispatch(events, now)
        finally:
            self._dispatching, self.flushes = nested, flushes
        return True

    def touched(self) -> None:
        """Something is to be sent or emitted. Nothing new if it `flushes` already: what happens for
        each request asks before it calls."""
        if not self.flushes:
            self.flushes = True
            self._loop.call_soon(self._flush_now)

    def _flush_now(self) -> None:
        self.flushes = False
        self.flush()

    def flush(self) -> None:
        """Send what there is, as long as the socket takes it, and tell what came of it."""
        transport, codec = self.transport, self.codec
        if transport is None or self._dispatching:
            return
        while not transport.is_closing():
            output = b"" if self.choked else codec.take_output()
            if output:
                transport.write(output)
            if not self._dispatch(codec.events(), self.heard_ns) and not output:
                break
        if self._reading != codec.wants_read:
            self._follow_codec(transport)

    def _follow_codec(self, transport: asyncio.Transport) -> None:
        """Read no more than can be parsed: a peer that takes no answers gets none to make."""
        self._reading = not self._reading
        if not transport.is_closing():
            if self._reading:
                transport.resume_reading()
            else:
                transport.pause_reading()

    def pause_writing(self) -> None:
        """The peer takes no more: frames wait, and soon the streams that make them."""
        self.choked = True

    def resume_writing(self) -> None:
        """The peer took what was queued."""
        self.choked = False
        self.flush()

    def look_after(self, now: int, ping_ns: int, timeout_ns: int) -> int:
        """Ask a silent peer for a sign of life. When to look again; 0: it gave none in time."""
        if self.pinged_ns:
            due = self.pinged_ns + timeout_ns
            return due if now < due else 0
        due = self.heard_ns + ping_ns
        if now < due:
            return due
        self.codec.ping()  # or the last one is not answered yet
        self.pinged_ns = now
        self.flush()
        return now + timeout_ns
