"""Ends a connection so that the other side knows it as cut."""

from __future__ import annotations

import socket
import struct
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import asyncio


def reset_on_close(transport: asyncio.Transport) -> None:
    """Let the socket's end be a reset; where it cannot be, it is a plain end."""
    sock = transport.get_extra_info("socket")
    if sock is None:
        return
    try:
        # uvloop's stand-in for the socket sets no options; a duplicate has the same socket.
        with socket.socket(fileno=socket.dup(sock.fileno())) as same:
            same.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    except OSError:
        pass
