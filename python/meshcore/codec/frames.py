"""Reads cut into frames (RFC 9113 §4.1)."""

from __future__ import annotations

from typing import Final, NamedTuple

from h2.exceptions import FrameTooLargeError, ProtocolError

PREFACE: Final = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"
LENGTH_BYTES: Final = 3
HEADER_BYTES: Final = 9
# What SETTINGS_MAX_FRAME_SIZE is unless something else was said, and nothing is.
MAX_FRAME_BYTES: Final = 16_384


class FrameKind:
    """The types of frames that are looked at here (RFC 9113 §6)."""

    DATA: Final = 0
    HEADERS: Final = 1
    PRIORITY: Final = 2
    RST_STREAM: Final = 3
    SETTINGS: Final = 4
    PUSH_PROMISE: Final = 5
    GOAWAY: Final = 7
    WINDOW_UPDATE: Final = 8
    CONTINUATION: Final = 9
    """The last one: what is beyond belongs to extensions."""
    PRIORITY_UPDATE: Final = 0x10
    """RFC 9218 §7.1."""


ACK: Final = 0x1
END_HEADERS: Final = 0x4
STREAM_MASK: Final = 0x7FFF_FFFF
PRIORITY_BYTES: Final = 5
NO_WINDOW: Final = bytes(4)


class Frame(NamedTuple):
    """One frame, not parsed beyond its header."""

    kind: int
    flags: int
    stream: int
    data: bytes
    """All of it, header included."""

    @property
    def payload(self) -> bytes:
        """What is behind the header; for DATA, the bytes that it costs of its windows."""
        return self.data[HEADER_BYTES:]


class Cutter:
    """Keeps what was read and gives it away frame by frame."""

    __slots__ = ("_kept", "greeted")

    def __init__(self, server: bool) -> None:
        self._kept = bytearray()
        self.greeted = not server  # the preface came

    def feed(self, data: bytes) -> None:
        """Add a read."""
        self._kept += data

    def take_preface(self) -> bool:
        """Whether all of the preface is there; `ProtocolError` for something else."""
        if not PREFACE.startswith(self._kept[: len(PREFACE)]):
            raise ProtocolError("no preface")
        self.greeted = len(self._kept) >= len(PREFACE)
        if self.greeted:
            del self._kept[: len(PREFACE)]
        return self.greeted

    def take(self) -> Frame | None:
        """The next frame; `FrameTooLargeError` as soon as its header is there."""
        kept = self._kept
        if len(kept) < HEADER_BYTES:
            return None
        length = int.from_bytes(kept[:LENGTH_BYTES])
        if length > MAX_FRAME_BYTES:
            raise FrameTooLargeError("frame too large")
        end = HEADER_BYTES + length
        if len(kept) < end:
            return None
        data = bytes(kept[:end])
        del kept[:end]
        return Frame(data[3], data[4], int.from_bytes(data[5:9]) & STREAM_MASK, data)
