"""An upstream that speaks HTTP/2 and does on each stream what the test says."""

from __future__ import annotations

import asyncio
import ssl
from collections.abc import Awaitable, Callable
from types import TracebackType

from h2.exceptions import ProtocolError
from h2.settings import SettingCodes

from tests.wire.h2_peer import PATIENCE_S, Field, Peer, ResetError, Stream
from tests.wire.serving import Serving

Handler = Callable[["Call"], Awaitable[None]]


class Call(Stream):
    """A request to the origin, and the way to answer it."""

    def __init__(self, visit: H2Visit, number: int) -> None:
        super().__init__(visit, number)
        self.visit = visit

    @property
    def path(self) -> str:
        """What it asks for."""
        return self.fields[":path"]

    async def answer(
        self, body: bytes = b"", *fields: Field, status: int = 200, trailers: tuple[Field, ...] = ()
    ) -> None:
        """A whole response."""
        only_head = not body and not trailers
        self.send_head((":status", str(status)), *fields, end=only_head)
        if body:
            await self.send(body, end=not trailers)
        if trailers:
            self.send_head(*trailers, end=True)


class H2Visit(Peer):
    """One connection to the origin."""

    def __init__(self, origin: H2Origin) -> None:
        super().__init__(client=False, credit=origin.credit)
        self._origin = origin

    def accept(self, number: int) -> Call:
        """A request of the proxy's."""
        return Call(self, number)

    def accepted(self, stream: Stream) -> None:
        """Do what the test says."""
        assert isinstance(stream, Call)
        self._origin.called(stream)

    def send_goaway(self, last: int, code: int = 0) -> None:
        """Take no more streams; those above the last are not processed."""
        size, kind = (8).to_bytes(3, "big"), b"\x07\x00"
        payload = last.to_bytes(4, "big") + code.to_bytes(4, "big")
        self.send_raw(size + kind + bytes(4) + payload)

    def allow_streams(self, most: int) -> None:
        """Say anew how many streams may be open."""
        self.h2.update_settings({SettingCodes.MAX_CONCURRENT_STREAMS: most})
        self.flush()

    def abort(self) -> None:
        """Cut it."""
        self.writer.transport.abort()


class H2Origin(Serving):
    """Listens on a free port for as long as its block lasts."""

    def __init__(
        self,
        handler: Handler | bytes = b"",
        *,
        tls: ssl.SSLContext | None = None,
        credit: bool = True,
        settings: dict[SettingCodes, int] | None = None,
    ) -> None:
        super().__init__(tls)
        self._handler = handler
        self._settings = settings
        self.credit = credit
        self.visits: list[H2Visit] = []
        self.calls: list[Call] = []
        self.errors: list[BaseException] = []
        self._pulse = asyncio.Event()

    def called(self, call: Call) -> None:
        """A request's head came."""
        self.calls.append(call)
        self._spawn(self._handle(call))
        pulse, self._pulse = self._pulse, asyncio.Event()
        pulse.set()

    async def reached(self, calls: int = 1) -> None:
        """Wait until so many requests came in all."""
        async with asyncio.timeout(PATIENCE_S):
            while len(self.calls) < calls:
                await self._pulse.wait()

    def _spawn(self, work: Awaitable[None]) -> None:
        task = asyncio.ensure_future(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _handle(self, call: Call) -> None:
        try:
            if isinstance(self._handler, bytes):
                await call.whole()
                await call.answer(self._handler)
            else:
                await self._handler(call)
        except (ConnectionError, ResetError, ProtocolError):
            pass  # the proxy gave the stream up
        except Exception as error:  # shown when the test ends
            self.errors.append(error)
            call.visit.abort()

    async def _visit(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        visit = H2Visit(self)
        self.visits.append(visit)
        visit.begin(reader, writer, self._settings)
        await visit.read()
        if visit.broken is not None:
            self.errors.append(visit.broken)

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        await super().__aexit__(kind, error, trace)
        if error is None and self.errors:
            raise self.errors[0]
