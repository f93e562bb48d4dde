"""What an idle connection holds, and what is left of it after it closed."""

from __future__ import annotations

import resource
import socket
import ssl
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import NamedTuple, Protocol

from benches.load.configs import Ports
from benches.load.h2_client import Client
from benches.load.machine import Process

CONNECTIONS = 400
# With STREAMS at once on each; a batch asks together.
BUSY_CONNECTIONS, STREAMS, BATCH = 1000, 20, 10
WARM_UP = 20
# Memory that stands still for so long is what there is, unless a busy machine takes too long.
SETTLE_S, PATIENCE_S = 1.0, 20.0
# Connections on both sides of the largest test, and room.
OPEN_FILES = 4096
REQUEST = b"GET / HTTP/1.1\r\nhost: localhost\r\n\r\n"


class Idle(NamedTuple):
    """KiB of resident memory for each connection, by its state."""

    open_kib: float
    closed_kib: float


class Closable(Protocol):
    """A connection of either kind."""

    def close(self) -> None:
        """Close it."""


def allow_files() -> None:
    """Let this process and those it starts open as many as the tests need."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft < OPEN_FILES:
        resource.setrlimit(resource.RLIMIT_NOFILE, (min(OPEN_FILES, hard), hard))


def believing(folder: Path | str) -> ssl.SSLContext:
    """For clients of whoever has the certificate of a folder."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.load_verify_locations(f"{folder}/cert.pem")
    context.check_hostname = False
    return context


def connect(port: int, context: ssl.SSLContext | None) -> socket.socket:
    """A connection that has asked once and was answered."""
    made = socket.create_connection(("127.0.0.1", port), 10)
    if context is not None:
        made = context.wrap_socket(made, server_hostname="localhost")
    if not again(made):
        made.close()
        raise RuntimeError("closed before it was answered")
    return made


def again(made: socket.socket) -> bool:
    """Whether one that is open is answered."""
    answer = b""
    try:
        made.sendall(REQUEST)
        while b".\n" not in answer and (part := made.recv(65536)):
            answer += part
    except OSError:
        return False
    return b".\n" in answer


def _asked(port: int, connections: int, streams: int) -> list[Client]:
    """Connections of HTTP/2 that were answered on so many streams at once."""
    made = [Client(port) for _ in range(connections)]
    for each in made:
        each.get("/", streams)
    for each in made:
        each.answers()
    return made


def settled(process: Process) -> int:
    """Resident memory in KiB, once it changes no more."""
    end = time.monotonic() + PATIENCE_S
    found, before = process.rss_kib(), -1
    while found != before and time.monotonic() < end:
        time.sleep(SETTLE_S)
        found, before = process.rss_kib(), found
    return found


def hold(process: Process, connections: int, connect: Callable[[], Sequence[Closable]]) -> Idle:
    """Open so many, batch by batch, and close them all."""
    before = process.rss_kib()
    held: list[Closable] = []
    while len(held) < connections:
        held += connect()
    opened = settled(process)
    for each in held:
        each.close()
    closed = settled(process)
    return Idle((opened - before) / connections, (closed - before) / connections)


def idle(process: Process, ports: Ports, tls: bool) -> Idle:
    """Connections that asked once, and then wait; a first batch warms the allocator up."""
    context = believing(ports.folder) if tls else None
    port = ports.tls if tls else ports.plain
    for _ in range(WARM_UP):
        connect(port, context).close()
    return hold(process, CONNECTIONS, lambda: [connect(port, context)])


def idle_h2(process: Process, ports: Ports) -> Idle:
    """The same over HTTP/2."""
    for each in _asked(ports.h2, WARM_UP, 1):
        each.close()
    return hold(process, CONNECTIONS, lambda: _asked(ports.h2, 1, 1))


def busy_h2(process: Process, ports: Ports) -> Idle:
    """Connections that had many streams at once."""
    for each in _asked(ports.h2, BATCH, STREAMS):
        each.close()
    return hold(process, BUSY_CONNECTIONS, lambda: _asked(ports.h2, BATCH, STREAMS))
