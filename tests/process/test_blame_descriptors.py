"""What a process lacks says nothing about the endpoint that it could not connect to."""

from __future__ import annotations

import socket
import threading
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from urllib.parse import urlsplit

from tests.process.program import Program
from tests.process.test_descriptors import limited
from tests.process.test_workers import get, metric, write

MOST, CLIENTS = 60, 80
# One failure would open the breaker for longer than the test lasts.
MESH = """\
version: 1
drain: 1s
admin: {bind: "127.0.0.1:0"}
listeners: {edge: {bind: "127.0.0.1:0"}}
routes: [{name: all, upstream: one, retry: RETRY}]
upstreams:
  one:
    endpoints: ["127.0.0.1:PORT"]
    circuit_breaker: {failures: 1, min_calls: 1, failure_percent: 1, open_for: 5m}
"""


class Holder(ThreadingHTTPServer):
    """Answers once it may."""

    daemon_threads = True
    request_queue_size = CLIENTS

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), Answering)
        self.may_answer = threading.Event()


class Answering(BaseHTTPRequestHandler):
    """One request to it."""

    protocol_version = "HTTP/1.1"
    server: Holder

    def do_GET(self) -> None:
        """Hold `/hold`."""
        if self.path == "/hold":
            self.server.may_answer.wait(30)
        self.send_response(200)
        self.send_header("content-length", "4")
        self.end_headers()
        self.wfile.write(b"fine")

    def log_message(self, format: str, *args: object) -> None:
        """Nothing."""


@contextmanager
def holder() -> Iterator[Holder]:
    with Holder() as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        try:
            yield server
        finally:
            server.may_answer.set()
            server.shutdown()
            thread.join()


def test_nothing_is_learnt_of_an_endpoint_for_want_of_descriptors(tmp_path: Path) -> None:
    with holder() as server:
        text = MESH.replace("PORT", str(server.server_address[1])).replace("RETRY", '"off"')
        program = limited(Program(write(tmp_path, text), "--workers", "1"), MOST)
        with program:
            url = program.url()
            at = urlsplit(url)
            with ExitStack() as stack:
                clients = [
                    stack.enter_context(socket.create_connection((at.hostname, at.port)))
                    for _ in range(CLIENTS)
                ]
                for client in clients:
                    client.sendall(b"GET /hold HTTP/1.1\r\nhost: a\r\n\r\n")
                refused = 'meshcore_local_answers_total{listener="edge",reason="no_resources"}'
                program.until(lambda: any(answered(client) for client in clients))
                first = next(client for client in clients if answered(client))
                said = first.recv(4096)
                assert said.startswith(b"HTTP/1.1 503 ")
                assert b"x-mesh-reason: no_resources" in said.lower()
            program.until(lambda: metric(program, "meshcore_upstream_requests") == 0)
            assert metric(program, refused) > 0
            assert metric(program, "meshcore_breaker_state") == 0
            assert metric(program, "meshcore_endpoint_available") == 1
            assert all(get(url) == (200, b"fine") for _ in range(20))
            assert program.stop() == 0


def answered(client: socket.socket) -> bool:
    """Whether there is something to read. Of whom the loop has no descriptor for it cuts some."""
    try:
        return bool(client.recv(1, socket.MSG_PEEK | socket.MSG_DONTWAIT))
    except (BlockingIOError, ConnectionResetError):
        return False
