"""What the system still knows of a connection's socket: asked when something went wrong."""

from __future__ import annotations

import errno
import os
import socket
from contextlib import contextmanager
from typing import TYPE_CHECKING, Final

from meshcore._core import SecureTransport

if TYPE_CHECKING:
    import asyncio
    from collections.abc import Iterator

# A kept connection whose end comes so soon after a request was written had ended before it could
# arrive: two round trips, and at least this, for what a busy host adds.
STALE_NS: Final = 5_000_000
# struct tcp_info of Linux: where `tcpi_rtt` lies, in microseconds.
_RTT_AT: Final = 68
_READ_BYTES: Final = 64 * 1024
# The largest receive buffer of Linux (net.ipv4.tcp_rmem): more cannot wait in a socket.
_REST_BYTES: Final = 6 << 20


def _descriptor(transport: asyncio.Transport) -> int:
    sock = transport.get_extra_info("socket")
    return -1 if sock is None else int(sock.fileno())


@contextmanager
def _looked_at(transport: asyncio.Transport) -> Iterator[socket.socket]:
    """The loop's own descriptor as a socket that can be asked: it stays the loop's, and none is
    spent on it."""
    descriptor = _descriptor(transport)
    if descriptor < 0:
        raise OSError(errno.EBADF, "not open any more")
    # Its family and type do not matter here; not told, they would be asked of the kernel.
    sock = socket.socket(socket.AF_INET, socket.SOCK_STREAM, 0, fileno=descriptor)
    try:
        sock.setblocking(False)
        yield sock
    finally:
        sock.detach()


def is_quiet(transport: asyncio.Transport) -> bool:
    """Look into the socket without taking anything out of it: neither an end of file nor bytes that
    were not asked for wait there."""
    if isinstance(transport, SecureTransport) and not transport.is_quiet:
        return False
    try:
        with _looked_at(transport) as sock:
            sock.recv(1, socket.MSG_PEEK)
    except BlockingIOError:
        return True
    except OSError:
        return False
    return False


def has_ended(transport: asyncio.Transport) -> bool:
    """Whether the peer's end waits in the socket, perhaps behind what it sent before."""
    if isinstance(transport, SecureTransport) and transport.peer_closed:
        return True
    try:
        with _looked_at(transport) as sock:
            return not sock.recv(1, socket.MSG_PEEK)
    except BlockingIOError:
        return False
    except OSError:
        return True


def rest_of(transport: asyncio.Transport) -> Iterator[bytes]:
    """What came and was not read, of a connection that is about to be forgotten: a failed write
    ends it before the loop looks."""
    opens = transport.open if isinstance(transport, SecureTransport) else bytes
    descriptor = _descriptor(transport)
    left = _REST_BYTES
    while descriptor >= 0 and left > 0:
        try:
            data = os.read(descriptor, _READ_BYTES)
        except OSError:
            return
        if not data:
            return
        left -= len(data)
        yield opens(data)


def stale_within_ns(transport: asyncio.Transport | None) -> int:
    """Within which time of a write an end says that the connection had ended before."""
    if transport is None:
        return STALE_NS
    try:
        with _looked_at(transport) as sock:
            info = sock.getsockopt(socket.IPPROTO_TCP, socket.TCP_INFO, _RTT_AT + 4)
    except (OSError, ValueError, AttributeError):  # a unix socket; a system without it
        return STALE_NS
    rtt_us = int.from_bytes(info[_RTT_AT:], byteorder="little")
    return max(2 * rtt_us * 1000, STALE_NS)


def detail_of(error: BaseException | None) -> str:
    """An error in few words, for the log."""
    if error is None:
        return "closed"
    if isinstance(error, OSError) and error.errno is not None:
        return errno.errorcode.get(error.errno, str(error))
    return str(error) or type(error).__name__
