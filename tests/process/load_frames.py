"""Frames of HTTP/2 for the load and its origin: just enough, and cheap."""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple

DATA, HEADERS, RESET, SETTINGS, PING, GOAWAY, WINDOW_UPDATE = 0, 1, 3, 4, 6, 7, 8
END_STREAM, ACK, END_HEADERS = 1, 1, 4
PREFACE = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"
# Of a whole connection: no test sends as much.
WINDOW = (1 << 31) - 1 - 65535

_HEAD = 9


class Frame(NamedTuple):
    """One as it came, without padding: nobody here pads."""

    kind: int
    flags: int
    stream: int
    payload: bytes


def frame(kind: int, stream: int, payload: bytes = b"", flags: int = 0) -> bytes:
    """The bytes of one."""
    head = len(payload).to_bytes(3, "big") + bytes((kind, flags))
    return head + stream.to_bytes(4, "big") + payload


def window(stream: int, size: int) -> bytes:
    """So many bytes more may come."""
    return frame(WINDOW_UPDATE, stream, size.to_bytes(4, "big"))


def settings() -> bytes:
    """No server push, and the largest windows for streams."""
    return frame(SETTINGS, 0, b"\0\x02\0\0\0\0" + b"\0\x04" + WINDOW.to_bytes(4, "big"))


def literal(name: bytes, value: bytes) -> bytes:
    """A field that leaves nothing in the table of the other side (RFC 7541 §6.2.2)."""
    return b"\0" + bytes((len(name),)) + name + bytes((len(value),)) + value


class Frames:
    """Cuts what comes into frames."""

    def __init__(self) -> None:
        self._rest = b""

    def of(self, data: bytes) -> Iterator[Frame]:
        """Those that are whole."""
        data, at = self._rest + data, 0
        while len(data) - at >= _HEAD:
            end = at + _HEAD + int.from_bytes(data[at : at + 3], "big")
            if end > len(data):
                break
            stream = int.from_bytes(data[at + 5 : at + _HEAD], "big")
            yield Frame(data[at + 3], data[at + 4], stream, data[at + _HEAD : end])
            at = end
        self._rest = data[at:]
