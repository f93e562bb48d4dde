"""A worker that was paused, as a host is that is moved: who was paused with it goes on."""

from __future__ import annotations

import os
import signal
import socket
import time
from pathlib import Path

import pytest

from tests.process.program import Program

MESH = """
version: 1
workers: 1
admin: {{bind: "127.0.0.1:0"}}
listeners: {{edge: {{bind: "127.0.0.1:0", timeouts: {{header: 1s}}, protocols: {{h2: {h2}}}}}}}
routes: [{{name: all, respond: {{body: hello}}}}]
"""
PAUSE_S = 4.0
AFTER_S = 0.03
"""How much later a client goes on than the worker."""


@pytest.mark.parametrize("h2", ["{}", "off"])
@pytest.mark.parametrize("begun", [b"", b"GET / HT"])
def test_a_client_that_was_paused_too_is_served(tmp_path: Path, h2: str, begun: bytes) -> None:
    file = tmp_path / "mesh.yaml"
    file.write_text(MESH.format(h2=h2))
    with Program(file) as program:
        address = ("127.0.0.1", int(program.url().rpartition(":")[2]))
        worker = program.workers()[0]
        with socket.create_connection(address, 10) as client:
            client.sendall(begun)
            program.until(lambda: 'connections{listener="edge"} 1\n' in program.metrics())
            os.kill(worker, signal.SIGSTOP)
            time.sleep(PAUSE_S)  # what is tested is that time passes
            os.kill(worker, signal.SIGCONT)
            time.sleep(AFTER_S)
            client.sendall(b"GET / HTTP/1.1\r\nhost: a\r\n\r\n"[len(begun) :])
            assert client.recv(4096).startswith(b"HTTP/1.1 200 OK")
        with socket.create_connection(address, 10) as silent:
            silent.sendall(begun)
            expected = b"HTTP/1.1 408" if begun else b""
            assert silent.recv(4096).startswith(expected), "one that was not has its time alone"
