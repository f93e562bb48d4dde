"""What an idle connection holds, and what is left of it after it closed."""

from __future__ import annotations

import socket
import ssl
import time
from typing import NamedTuple

from benches.load.configs import Ports
from benches.load.machine import Process

CONNECTIONS = 400
SETTLE_S = 1.0
REQUEST = b"GET / HTTP/1.1\r\nhost: localhost\r\n\r\n"


class Idle(NamedTuple):
    """KiB of resident memory for each connection, by its state."""

    open_kib: float
    closed_kib: float


def _connect(port: int, context: ssl.SSLContext | None) -> socket.socket:
    made = socket.create_connection(("127.0.0.1", port), 10)
    if context is not None:
        made = context.wrap_socket(made, server_hostname="localhost")
    made.sendall(REQUEST)
    answer = b""
    while b".\n" not in answer:
        part = made.recv(65536)
        if not part:
            raise RuntimeError(f"closed after {answer!r}")
        answer += part
    return made


def _hold(process: Process, port: int, context: ssl.SSLContext | None) -> Idle:
    before = process.rss_kib()
    held = [_connect(port, context) for _ in range(CONNECTIONS)]
    time.sleep(SETTLE_S)
    opened = process.rss_kib()
    for each in held:
        each.close()
    time.sleep(SETTLE_S)
    closed = process.rss_kib()
    return Idle((opened - before) / CONNECTIONS, (closed - before) / CONNECTIONS)


def idle(process: Process, ports: Ports, tls: bool) -> Idle:
    """Connections that asked once, and then wait; a first batch warms the allocator up."""
    context = None
    if tls:
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
        context.load_verify_locations(f"{ports.folder}/cert.pem")
        context.check_hostname = False
    port = ports.tls if tls else ports.plain
    for _ in range(20):
        _connect(port, context).close()
    return _hold(process, port, context)
