"""Ports for a program that is told which one to take."""

from __future__ import annotations

import contextlib
import random
import socket


def free_port() -> int:
    """A port at which nobody listens, below those that the system gives to whoever asks for any: no
    test that runs beside takes it by chance."""
    while True:
        port = random.randrange(20_000, 32_000)
        with contextlib.suppress(OSError), socket.create_server(("127.0.0.1", port)):
            return port
