"""A client of the admin port: bounded in what it may send, how long it takes and what it holds.

One request is served in a turn of the loop, and the next when its answer was taken, so that no
client keeps the loop from another.
"""

from __future__ import annotations

import asyncio
import logging
from enum import Enum, auto
from typing import TYPE_CHECKING, Final, cast

from meshcore._core import Answer, CodecLimits, Reason, Request, ServerCodec
from meshcore.errors import CodecError

if TYPE_CHECKING:
    from collections.abc import Callable, Coroutine

    from meshcore.admin.server import Admin

log = logging.getLogger("meshcore.admin")

# Operations have no body worth reading.
MAX_BODY_BYTES: Final = 64 * 1024
# Clients that said all and may have left: for more of them nothing is made.
MAX_HALF_CLOSED: Final = 4


class Phase(Enum):
    """What is waited for."""

    NEW = auto()
    """The client's first byte."""
    READING = auto()
    """The rest of a request."""
    ASKED = auto()
    """An answer of ours that takes a while."""
    ORDERED = auto()
    """The end of an order."""
    WRITING = auto()
    """That the client takes its answer."""
    IDLE = auto()
    """Its next request."""


# What is ours to do is bounded where it is done.
LIMIT_S: Final = {
    Phase.NEW: 10.0,
    # The whole request: it is small, and who sends it does so at once.
    Phase.READING: 10.0,
    # Scrapers give up sooner: Prometheus after 10 s by default.
    Phase.WRITING: 30.0,
    # Scrapers reconnect.
    Phase.IDLE: 75.0,
}


class AdminConnection(asyncio.Protocol):
    """One client; one request at a time. ``local``: over the command line's unix socket."""

    def __init__(self, admin: Admin, *, local: bool) -> None:
        self._admin = admin
        self.local = local
        self.peer = ""
        """The address it comes from; empty over a unix socket."""
        self.phase = Phase.NEW
        self.since = 0
        """The number of its phase, of all phases of all clients."""
        self._codec = ServerCodec(CodecLimits(body=MAX_BODY_BYTES), False)
        self._transport: asyncio.Transport | None = None
        self._timer: asyncio.TimerHandle | None = None
        self._request: Request | None = None
        self._work: asyncio.Task[None] | None = None
        """What is made for this client alone: it is dropped when the client has left."""
        self.is_new = True  # nothing was answered yet
        self.is_half_closed = False

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """The loop accepted a client."""
        self._transport = cast("asyncio.Transport", transport)
        self._transport.set_write_buffer_limits(high=0)  # to hear when all is out
        name = transport.get_extra_info("peername")
        self.peer = name[0] if isinstance(name, tuple) else ""
        self._enter(Phase.NEW)
        self._admin.admit(self, transport.get_extra_info("socket"))

    @property
    def unread_bytes(self) -> int:
        """What was answered and not taken."""
        return self._transport.get_write_buffer_size() if self._transport is not None else 0

    def _enter(self, phase: Phase) -> None:
        self.phase, self.since = phase, next(self._admin.numbers)
        if self._timer is not None:
            self._timer.cancel()
        limit_s, loop = LIMIT_S.get(phase), asyncio.get_running_loop()
        self._timer = loop.call_later(limit_s, self.abort) if limit_s is not None else None

    # --- requests -----------------------------------------------------------------------------

    def data_received(self, data: bytes) -> None:
        """Bytes of requests."""
        if self.phase in (Phase.NEW, Phase.IDLE):
            self._enter(Phase.READING)
        self._read(lambda: self._codec.receive(data))
        if self._work is not None and not self._codec.wants_read and self._transport is not None:
            self._transport.pause_reading()  # it has asked enough ahead

    def _read(self, event_of: Callable[[], object]) -> None:
        try:
            event = event_of()
            if isinstance(event, Request):
                self._request = event
            if self._codec.request_complete and self._request is not None:
                request, self._request = self._request, None
                self._serve(request)
        except CodecError as error:
            self._send(self._codec.send_answer(None, Answer.for_codec_error(error), False))
            self.close()

    def _serve(self, request: Request) -> None:
        if self._transport is None or self._transport.is_closing():
            return
        access = None if self.local else self._admin.access
        answer = self._admin.handlers.answer(request, access)
        if isinstance(answer, Answer):
            self._transport.pause_reading()
            self._answer(request, answer)
            return
        is_order = request.method == "POST"
        self._enter(Phase.ORDERED if is_order else Phase.ASKED)
        task = self._admin.begin(self._answer_later(request, answer))
        task.add_done_callback(lambda task: self._ended(request, answer, task))
        if is_order:
            self._transport.pause_reading()
        else:
            self._work = task  # and it is read on, to hear when it leaves

    def _ended(
        self,
        request: Request,
        work: Coroutine[object, object, Answer],
        task: asyncio.Task[None],
    ) -> None:
        work.close()  # it was cancelled before it began, perhaps
        if task.cancelled():
            self._work = None
            self._answer(request, self._admin.handlers.cut_short(request))

    async def _answer_later(
        self, request: Request, work: Coroutine[object, object, Answer]
    ) -> None:
        try:
            answer = await work
        except Exception:
            log.exception("%s %s failed", request.method, request.path)
            answer = Answer.for_reason(Reason.INTERNAL_ERROR)
        self._work = None
        if self._transport is not None:
            self._transport.pause_reading()
        self._answer(request, answer)

    def eof_received(self) -> bool:
        """It says nothing more (``nc -N``), or has left: which shows when it is written to. So what
        is made for it is still sent, as long as there are few such."""
        half_closed = sum(client.is_half_closed for client in self._admin.connections)
        self.is_half_closed = self._work is not None and half_closed < MAX_HALF_CLOSED
        return self.is_half_closed

    # --- answers ------------------------------------------------------------------------------

    def _answer(self, request: Request, answer: Answer) -> None:
        self.is_new = False
        self._admin.progress.set()
        if self._transport is None:
            return  # it left meanwhile
        self._send(self._codec.send_answer(request, answer, not self._admin.is_leaving))
        if not self._codec.keep_alive:
            self.close()
        elif self.phase is not Phase.WRITING:
            self._enter(Phase.IDLE)
            asyncio.get_running_loop().call_soon(self._go_on)

    def _send(self, data: bytes) -> None:
        if self._transport is not None and not self._transport.is_closing():
            self._transport.write(data)
            if self.unread_bytes:
                self._enter(Phase.WRITING)
                self._admin.make_memory(self)

    def resume_writing(self) -> None:
        """The client has taken all."""
        if self.phase is Phase.WRITING and not self._is_ending():
            self._enter(Phase.IDLE)
            self._go_on()

    def _go_on(self) -> None:
        if self._transport is None or self._is_ending():
            return
        self._codec.start_next()
        if not self.is_half_closed:
            self._transport.resume_reading()
        self._read(self._codec.next_event)
        if self.is_half_closed and self.phase is Phase.IDLE:
            self.close()  # that was its last request

    def _is_ending(self) -> bool:
        return self._transport is None or self._transport.is_closing()

    # --- the end ------------------------------------------------------------------------------

    def close(self) -> None:
        """End it when what was answered is out."""
        if self._transport is not None:
            self._transport.close()

    def abort(self) -> None:
        """End it now."""
        self._admin.connections.discard(self)
        if self._transport is not None:
            self._transport.abort()

    def connection_lost(self, exc: Exception | None) -> None:
        """The connection is gone."""
        self._transport = None
        self._admin.connections.discard(self)
        self._admin.progress.set()
        if self._work is not None:
            self._work.cancel()
        if self._timer is not None:
            self._timer.cancel()
