"""One end of an HTTP/2 connection on the package `h2`: what the test's client and origin share.

A task reads frames and turns them into the state of streams; a test waits for a state.
"""

from __future__ import annotations

import asyncio
import contextlib
import ssl
from collections import Counter
from collections.abc import Callable, Iterable

import h2.events as events
from h2.config import H2Configuration
from h2.connection import H2Connection
from h2.exceptions import ProtocolError
from h2.settings import SettingCodes

# Longer than anything a test waits for; shorter than the test's own limit, which tells less.
PATIENCE_S = 60.0
GOAWAY = 7
LARGEST_WINDOW = (1 << 31) - 1

Field = tuple[str, str]


class ResetError(Exception):
    """The other side reset the stream."""

    def __init__(self, code: int) -> None:
        super().__init__(f"reset with {code}")
        self.code = code


class Stream:
    """One stream, as far as it has come."""

    def __init__(self, peer: Peer, number: int) -> None:
        self._peer = peer
        self.number = number
        self.lines: list[Field] = []  # the final head, field by field
        self.interim: list[dict[str, str]] = []
        self.body = bytearray()
        self.trailers: dict[str, str] | None = None
        self.credit = True  # whether what came is given back as window
        self.ended = False
        self.reset_code: int | None = None

    @property
    def fields(self) -> dict[str, str]:
        """The final head; of two fields with one name the last."""
        return dict(self.lines)

    @property
    def status(self) -> int:
        """The status of a response."""
        return int(self.fields[":status"])

    # --- waiting ------------------------------------------------------------------------------

    async def until(self, met: Callable[[], bool]) -> None:
        """Wait; `ResetError` if that ends the stream instead."""
        await self._peer.until(lambda: met() or self.reset_code is not None)
        if not met() and self.reset_code is not None:
            raise ResetError(self.reset_code)

    async def head(self) -> dict[str, str]:
        """Wait for the final head."""
        await self.until(lambda: bool(self.lines))
        return self.fields

    async def whole(self) -> bytes:
        """Wait for the end of the message; its body."""
        await self.until(lambda: self.ended)
        return bytes(self.body)

    async def reset(self) -> int:
        """Wait until the other side resets it; the code."""
        await self._peer.until(lambda: self.reset_code is not None)
        assert self.reset_code is not None
        return self.reset_code

    # --- sending ------------------------------------------------------------------------------

    def send_head(self, *fields: Field, end: bool = False) -> None:
        """A head, or trailers."""
        self._peer.h2.send_headers(self.number, list(fields), end_stream=end)
        self._peer.flush()

    async def send(self, data: bytes, end: bool = False, pad: int | None = None) -> None:
        """Bytes of the body, as the window allows."""
        h2, at = self._peer.h2, 0
        while at < len(data):
            await self.until(lambda: h2.local_flow_control_window(self.number) > 0)
            room = min(h2.local_flow_control_window(self.number), h2.max_outbound_frame_size)
            piece = data[at : at + room]
            at += len(piece)
            h2.send_data(self.number, piece, end and at == len(data), pad)
            self._peer.flush()
            await self._peer.writer.drain()
        if end and not data:
            h2.end_stream(self.number)
            self._peer.flush()

    def cancel(self, code: int = 8) -> None:
        """Reset it."""
        self._peer.h2.reset_stream(self.number, code)
        self._peer.flush()


class Peer:
    """An open connection."""

    def __init__(self, *, client: bool, credit: bool = True) -> None:
        config = H2Configuration(
            client_side=client,
            header_encoding="utf-8",
            validate_outbound_headers=False,
            normalize_outbound_headers=False,
        )
        self.h2 = H2Connection(config)
        self.credit = credit  # the same for the whole connection
        self.streams: dict[int, Stream] = {}
        self.frames: Counter[int] = Counter()  # that came, by type
        self.goaway: tuple[int, int] | None = None  # last stream and code
        self.debug = b""  # of the same GOAWAY
        self.settled = False  # the other side's SETTINGS came
        self.pongs = 0
        self.lost = False
        self.broken: Exception | None = None  # what came is no HTTP/2
        self._pulse = asyncio.Event()
        self.reader: asyncio.StreamReader
        self.writer: asyncio.StreamWriter

    def begin(
        self,
        reader: asyncio.StreamReader,
        writer: asyncio.StreamWriter,
        settings: dict[SettingCodes, int] | None = None,
    ) -> None:
        """Send the preface and the SETTINGS; `read` follows."""
        self.reader, self.writer = reader, writer
        self.h2.initiate_connection()
        if settings is not None:
            self.h2.update_settings(
                {int(code): value for code, value in settings.items()}
            )  # in force once the other side says so
        self.flush()

    def flush(self) -> None:
        """Write what there is to send."""
        data = self.h2.data_to_send()
        if data and not self.writer.is_closing():
            self.writer.write(data)

    def send_raw(self, data: bytes) -> None:
        """Write bytes that `h2` knows nothing of."""
        self.writer.write(data)

    async def until(self, met: Callable[[], bool]) -> None:
        """Wait for a state of the connection, or of a stream of it."""
        async with asyncio.timeout(PATIENCE_S):
            while not met():
                if self.broken is not None:
                    raise self.broken
                if self.lost:
                    raise ConnectionResetError("the connection ended first")
                await self._pulse.wait()

    async def gone(self) -> None:
        """Wait for the end of the connection."""
        await self.until(lambda: self.lost)

    async def round_trip(self) -> None:
        """Wait until the other side has read what was sent."""
        before = self.pongs
        self.h2.ping(b"are here")
        self.flush()
        await self.until(lambda: self.pongs > before)

    def changed(self) -> None:
        """Let everyone look again."""
        pulse, self._pulse = self._pulse, asyncio.Event()
        pulse.set()

    # --- what comes ---------------------------------------------------------------------------

    async def read(self) -> None:
        """Take frames until the other side leaves."""
        try:
            if not self.h2.config.client_side:
                self.h2.receive_data(await self.reader.readexactly(24))
            while True:
                header = await self.reader.readexactly(9)
                size = int.from_bytes(header[:3], "big")
                self._take(header, await self.reader.readexactly(size) if size else b"")
                self.flush()
        except (asyncio.IncompleteReadError, ConnectionError, ssl.SSLError):
            pass
        except ProtocolError as error:
            self.broken = error
        finally:
            self.lost = True
            self.changed()

    def _take(self, header: bytes, payload: bytes) -> None:
        self.frames[header[3]] += 1
        if header[3] == GOAWAY:
            # `h2` takes it for the end of every stream; RFC 9113 §6.8 lets them go on.
            last, code = (int.from_bytes(payload[i : i + 4], "big") for i in (0, 4))
            self.goaway, self.debug = (last & 0x7FFF_FFFF, code), payload[8:]
        else:
            for event in self.h2.receive_data(header + payload):
                self._on(event)
        self.changed()

    def _on(self, event: events.Event) -> None:
        match event:
            case events.RequestReceived(stream_id=number, headers=fields):
                stream = self.streams[number] = self.accept(number)
                stream.lines = texts(fields)
                self.accepted(stream)
            case events.ResponseReceived(stream_id=number, headers=fields):
                self.streams[number].lines = texts(fields)
            case events.InformationalResponseReceived(stream_id=number, headers=fields):
                self.streams[number].interim.append(dict(texts(fields)))
            case events.TrailersReceived(stream_id=number, headers=fields):
                self.streams[number].trailers = dict(texts(fields))
            case events.DataReceived(stream_id=number, data=data):
                self.streams[number].body += data
                self._give_back(self.streams[number], event.flow_controlled_length)
            case events.StreamEnded(stream_id=number):
                self.streams[number].ended = True
            case events.StreamReset(stream_id=number, error_code=code):
                if event.remote_reset and number in self.streams:
                    self.streams[number].reset_code = int(code)
            case events.RemoteSettingsChanged():
                self.settled = True
            case events.PingAckReceived():
                self.pongs += 1
            case _:
                pass

    def _give_back(self, stream: Stream, size: int) -> None:
        """Of a stream without credit the connection's window is given back, the stream's not."""
        if not (self.credit and size):
            return
        if stream.credit:
            self.h2.acknowledge_received_data(size, stream.number)
        else:
            self.h2.increment_flow_control_window(size)

    def accept(self, number: int) -> Stream:
        """A stream that the other side opened."""
        return Stream(self, number)

    def accepted(self, stream: Stream) -> None:
        """Its head is there."""

    def fall_silent(self) -> None:
        """Read no more, and so say nothing either."""
        self.writer.transport.pause_reading()  # type: ignore[attr-defined]  # it reads, too

    async def close(self) -> None:
        """Leave."""
        self.writer.close()
        with contextlib.suppress(ConnectionError, ssl.SSLError):
            await self.writer.wait_closed()


def texts(fields: Iterable[tuple[bytes | str, bytes | str]]) -> list[Field]:
    """Fields as the configuration of `h2` decodes them: as text."""
    return [(str(name), str(value)) for name, value in fields]
