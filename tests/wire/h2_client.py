"""Two clients of HTTP/2: one that keeps the rules, and one that writes what a test wants.

`H2Client` opens many streams at a time, on the package `h2`. `RawClient` knows frames only: nothing
holds it back from sending what makes no sense.
"""

from __future__ import annotations

import asyncio
import contextlib
import ssl
from types import TracebackType
from typing import Self, TypeVar
from urllib.parse import urlsplit

import hpack
from h2.settings import SettingCodes
from hyperframe.frame import ContinuationFrame, Frame, GoAwayFrame, HeadersFrame, SettingsFrame

from tests.wire.h2_peer import PATIENCE_S, Field, Peer, Stream

PREFACE = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"
F = TypeVar("F", bound=Frame)


async def connect(
    url: str, tls: ssl.SSLContext | None, source: str | None = None
) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
    """A connection to a listener; with TLS as `edge.test`."""
    at = urlsplit(url)
    name = "edge.test" if tls is not None else None
    local = (source, 0) if source else None
    return await asyncio.open_connection(
        at.hostname, at.port, ssl=tls, server_hostname=name, local_addr=local
    )


class H2Client(Peer):
    """A connection to the proxy that keeps the rules, as far as it is not told otherwise."""

    def __init__(
        self,
        url: str,
        *,
        tls: ssl.SSLContext | None = None,
        credit: bool = True,
        settings: dict[SettingCodes, int] | None = None,
    ) -> None:
        super().__init__(client=True, credit=credit)
        self._url = url
        self._tls = tls
        self._settings = settings

    async def __aenter__(self) -> Self:
        reader, writer = await connect(self._url, self._tls)
        self.begin(reader, writer, self._settings)
        self._reading = asyncio.create_task(self.read())
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._reading.cancel()
        await asyncio.gather(self._reading, return_exceptions=True)
        await self.close()
        if error is None and self.broken is not None:
            raise self.broken

    def open(self, *fields: Field, end: bool = True) -> Stream:
        """A stream with this head and no other field."""
        number = self.h2.get_next_available_stream_id()
        stream = self.streams[number] = Stream(self, number)
        stream.send_head(*fields, end=end)
        return stream

    def ask(self, path: str = "/", *fields: Field, method: str = "GET", end: bool = True) -> Stream:
        """A stream with a request."""
        scheme = "http" if self._tls is None else "https"
        head = ((":method", method), (":scheme", scheme), (":authority", "a.test"), (":path", path))
        return self.open(*head, *fields, end=end)

    async def get(self, path: str = "/", *fields: Field, method: str = "GET") -> Stream:
        """A request without a body, and its whole response."""
        stream = self.ask(path, *fields, method=method)
        await stream.whole()
        return stream

    async def post(self, path: str, body: bytes, *fields: Field) -> Stream:
        """A request with a body, and its whole response."""
        stream = self.ask(path, *fields, method="POST", end=False)
        await asyncio.gather(stream.send(body, end=True), stream.whole())
        return stream


REQUEST = (
    (":method", "GET"),
    (":scheme", "http"),
    (":authority", "a.test"),
    (":path", "/"),
)


def frame(kind: int, stream: int, payload: bytes = b"", flags: int = 0) -> bytes:
    """A frame that the package knows no class for, or would not make."""
    head = len(payload).to_bytes(3, "big") + bytes([kind, flags]) + stream.to_bytes(4, "big")
    return head + payload


class RawClient:
    """A connection to the proxy that sends whatever frames a test makes."""

    def __init__(
        self, url: str, settings: dict[int, int] | None = None, *, greets: bool = True
    ) -> None:
        self._url = url
        self._settings = settings
        self._greets = greets
        self.encoder = hpack.Encoder()
        self.frames: list[Frame] = []  # that came
        self.heads: dict[int, list[Field]] = {}  # by stream, the last of each
        self.goaway: GoAwayFrame | None = None
        self.lost = False
        self._pulse = asyncio.Event()

    async def __aenter__(self) -> Self:
        self.reader, self.writer = await connect(self._url, None)
        if self._greets:
            await self.send(PREFACE, SettingsFrame(settings=self._settings))
        self._reading = asyncio.create_task(self._read())
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._reading.cancel()
        await asyncio.gather(self._reading, return_exceptions=True)
        self.writer.close()
        with contextlib.suppress(ConnectionError):
            await self.writer.wait_closed()

    # --- sending ------------------------------------------------------------------------------

    async def send(self, *frames: Frame | bytes) -> None:
        """Write frames at once. That the proxy leaves is no error here: it is waited for."""
        data = b"".join(x if isinstance(x, bytes) else x.serialize() for x in frames)
        # The last: what uvloop says of a transport that was closed meanwhile.
        with contextlib.suppress(ConnectionError, RuntimeError):
            self.writer.write(data)
            await self.writer.drain()

    def block(self, fields: tuple[Field, ...] = REQUEST) -> bytes:
        """A field block that leaves nothing in the table of the other side. Not compressed: that
        would cost this process more than the proxy."""
        return self.encoder.encode(
            [hpack.NeverIndexedHeaderTuple(*field) for field in fields], huffman=False
        )

    def head(self, stream: int, *fields: Field, end: bool = True) -> HeadersFrame:
        """A request's head: pseudo fields that are not given are made."""
        names = [name for name, _ in fields]
        made = tuple(field for field in REQUEST if field[0] not in names)
        pseudo = tuple(field for field in fields if field[0].startswith(":"))
        others = tuple(field for field in fields if not field[0].startswith(":"))
        return self.only(stream, *made, *pseudo, *others, end=end)

    def only(self, stream: int, *fields: Field, end: bool = True) -> HeadersFrame:
        """A head of these fields in this order."""
        flags = ["END_HEADERS", "END_STREAM"] if end else ["END_HEADERS"]
        return HeadersFrame(stream, self.block(fields), flags=flags)

    def fall_silent(self) -> None:
        """Read no more."""
        self.writer.transport.pause_reading()  # type: ignore[attr-defined]  # it reads, too

    # --- waiting ------------------------------------------------------------------------------

    async def until(self, kind: type[F], stream: int) -> F:
        """The first frame of a kind on a stream."""
        async with asyncio.timeout(PATIENCE_S):
            while True:
                for frame in self.frames:
                    if isinstance(frame, kind) and frame.stream_id == stream:
                        return frame
                if self.lost:
                    raise ConnectionResetError(f"no {kind.__name__} on {stream}: {self.frames}")
                await self._pulse.wait()

    async def status(self, stream: int) -> int:
        """The status of the response's head."""
        await self.until(HeadersFrame, stream)
        return int(dict(self.heads[stream])[":status"])

    async def ended(self) -> int | None:
        """Wait for the end of the connection; what the last GOAWAY gave as its reason."""
        async with asyncio.timeout(PATIENCE_S):
            while not self.lost:
                await self._pulse.wait()
        return self.goaway.error_code if self.goaway is not None else None

    # --- what comes ---------------------------------------------------------------------------

    async def _read(self) -> None:
        decoder = hpack.Decoder()
        try:
            while True:
                header = memoryview(await self.reader.readexactly(9))
                frame, size = Frame.parse_frame_header(header)
                frame.parse_body(memoryview(await self.reader.readexactly(size)))
                self.frames.append(frame)
                if isinstance(frame, GoAwayFrame):
                    self.goaway = frame
                elif isinstance(frame, HeadersFrame):
                    found = decoder.decode(frame.data)
                    self.heads[frame.stream_id] = [(str(k), str(v)) for k, v in found]
                assert not isinstance(frame, ContinuationFrame)  # ours are short
                self._changed()
        except (asyncio.IncompleteReadError, ConnectionError):
            pass
        finally:
            self.lost = True
            self._changed()

    def _changed(self) -> None:
        pulse, self._pulse = self._pulse, asyncio.Event()
        pulse.set()
