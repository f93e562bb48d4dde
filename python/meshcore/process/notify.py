"""What systemd is told, and what it hands over (sd_notify(3), sd_listen_fds(3))."""

from __future__ import annotations

import contextlib
import os
import socket
from typing import Final

FIRST_FD: Final = 3
# A manager that does not read for that long, as while it is replaced itself, is not waited for.
PATIENCE_S: Final = 2.0


def notify(*lines: str, patience_s: float = PATIENCE_S) -> None:
    """Tell the service manager, if there is one: ``READY=1`` and the like. What it does not take
    within the time is not told."""
    address = os.environ.get("NOTIFY_SOCKET")
    if not address:
        return
    where = "\0" + address[1:] if address.startswith("@") else address
    # That a manager listens is no part of the service.
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as sock, contextlib.suppress(OSError):
        sock.settimeout(patience_s)
        sock.sendto("\n".join(lines).encode(), where)


def watchdog_s() -> float | None:
    """How often it wants to hear ``WATCHDOG=1``: at half of the time that it waits."""
    text, pid = os.environ.get("WATCHDOG_USEC", ""), os.environ.get("WATCHDOG_PID")
    if not text.isdigit() or int(text) == 0 or (pid is not None and pid != str(os.getpid())):
        return None
    return int(text) / 2e6


def activated() -> list[socket.socket]:
    """Stream sockets that were opened for us, each only once."""
    if os.environ.pop("LISTEN_PID", None) != str(os.getpid()):
        return []
    count = os.environ.pop("LISTEN_FDS", "0")
    os.environ.pop("LISTEN_FDNAMES", None)
    found = []
    for fd in range(FIRST_FD, FIRST_FD + (int(count) if count.isdigit() else 0)):
        os.set_inheritable(fd, False)
        sock = socket.socket(fileno=fd)
        sock.setblocking(False)
        if sock.type == socket.SOCK_STREAM:
            found.append(sock)
        else:
            sock.close()
    return found
