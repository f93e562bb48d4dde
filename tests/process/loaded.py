"""A program under a steady load, and what is done to it meanwhile."""

from __future__ import annotations

import contextlib
import ctypes
import json
import os
import signal
import socket
import ssl
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

import trustme

from tests.process.load_book import Book, Failure
from tests.process.load_client import Load
from tests.process.program import Program

CONFIG = """\
version: 1
drain: 60s
workers: {workers}
admin: {{bind: "127.0.0.1:0"}}
listeners:
  edge: {{bind: "127.0.0.1:0"}}
  secure: {{bind: "127.0.0.1:0", tls: {{cert: {cert}.pem, key: {cert}.key}}}}
routes:
  - {{name: all, match: {{path: {{prefix: /}}}}, upstream: api}}
  - {{name: rpc, match: {{path: {{prefix: /rpc}}}}, upstream: rpc}}
  - {{name: broken, match: {{path: {{prefix: /broken}}}}, upstream: broken}}
  - name: limited
    match: {{path: {{exact: /limited}}}}
    respond: {{body: ok}}
    layers: [limit: {{rate: 1/m, burst: {burst}}}]
  - {{name: changing, match: {{path: {{exact: /changing}}}}, respond: {{body: "{number}"}}}}
{more}upstreams:
  api: {{endpoints: [{endpoints}]}}
  rpc: {{protocol: h2, endpoints: ["127.0.0.1:{rpc}"]}}
  broken:
    circuit_breaker: {{failures: 3, on: [5xx], open_for: 600s, max_open_for: 600s}}
    endpoints: ["127.0.0.1:{one}"]
"""
BURST = 60
PIDFD_GETFD = 438  # the same on every processor
# A connection that a killed worker had is heard of at once; so long on a machine that is busy.
SOON_S = 2.0


@contextlib.contextmanager
def helper(module: str, *arguments: str) -> Iterator[subprocess.Popen[str]]:
    """A process of ours that prints and reads lines."""
    command = [sys.executable, "-m", f"tests.process.{module}", *arguments]
    with subprocess.Popen(
        command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as process:
        try:
            yield process
        finally:
            process.kill()


def line_of(process: subprocess.Popen[str]) -> str:
    """The next line that it prints."""
    assert process.stdout is not None
    line = process.stdout.readline()
    assert line, "it ended"
    return line.rstrip("\n")


@dataclass
class Kill:
    """A worker that was killed, and the clients' ports of the connections that it had."""

    at_s: float
    ports: set[int]

    def explains(self, failure: Failure) -> bool:
        """Whether the request was under way on one of them, and was lost soon after."""
        is_beside = self.at_s <= failure.at_s <= self.at_s + SOON_S and failure.what == "lost"
        return is_beside and failure.port in self.ports


@dataclass
class Loaded:
    """What a test does to a program that serves."""

    folder: Path
    ports: list[int]
    workers: int = 2
    number: int = 0
    cert: str = "one"
    kills: list[Kill] = field(default_factory=list)
    admitted: int = 0
    program: Program = field(init=False)

    def __post_init__(self) -> None:
        self.authority = trustme.CA()
        for name in ("one", "two"):
            pair = self.authority.issue_cert("edge.test")
            pair.private_key_pem.write_to_path(self.folder / f"{name}.key")
            pair.cert_chain_pems[0].write_to_path(self.folder / f"{name}.pem")
        self.file = self.folder / "mesh.yaml"
        self.write()

    # --- the configuration --------------------------------------------------------------------

    def write(self) -> None:
        """Every second one has another route and another endpoint."""
        one, two, rpc = self.ports
        odd = self.number % 2
        extra = "  - {name: more, match: {path: {prefix: /more}}, upstream: api}\n"
        text = CONFIG.format(
            workers=self.workers,
            cert=self.cert,
            burst=BURST,
            number=self.number,
            more=extra if odd else "",
            endpoints=", ".join(f'"127.0.0.1:{port}"' for port in ((one, two) if odd else (one,))),
            one=one,
            rpc=rpc,
        )
        self.file.write_text(text)

    def reload(self) -> None:
        """Another configuration, which is in force when this returns."""
        self.number += 1
        self.write()
        self.program.order("/reload")
        assert self.get("/changing") == (200, str(self.number).encode())

    def scale(self, workers: int) -> None:
        """Another number of workers."""
        self.workers = workers
        self.reload()
        self.program.until(lambda: [*self.program.workers()] == [*range(workers)])

    # --- what is asked beside the load --------------------------------------------------------

    def get(self, path: str) -> tuple[int, bytes]:
        """A request of the test's own, on a connection of its own."""
        try:
            with urllib.request.urlopen(self.url + path, timeout=10) as response:
                return response.status, response.read()
        except urllib.error.HTTPError as error:
            return error.code, str(error.headers["x-mesh-reason"]).encode()

    def spend(self, tokens: int) -> None:
        """Ask the limited route."""
        answers = [self.get("/limited")[0] for _ in range(tokens)]
        assert set(answers) <= {200, 429}
        self.admitted += answers.count(200)

    def is_open(self) -> bool:
        """Whether the breaker of the broken upstream is."""
        return self.get("/broken") == (503, b"breaker_open")

    def start(self, program: Program) -> None:
        """Know where it listens, and open the breaker."""
        self.program, self.url = program, program.url()
        self.began_s = time.monotonic()
        self.program.until(self.is_open)

    # --- certificates -------------------------------------------------------------------------

    @contextlib.contextmanager
    def connected(self) -> Iterator[ssl.SSLSocket]:
        """A connection to the listener with TLS."""
        context = ssl.create_default_context()
        self.authority.configure_trust(context)
        at = self.program.url("secure").removeprefix("https://").split(":")
        with (
            socket.create_connection((at[0], int(at[1])), 10) as plain,
            context.wrap_socket(plain, server_hostname="edge.test") as secure,
        ):
            yield secure

    def change_certificate(self) -> None:
        """New connections see the new one, the old one goes on."""
        with self.connected() as before:
            assert asked(before)
            self.cert = "two" if self.cert == "one" else "one"
            self.reload()
            with self.connected() as after:
                assert after.getpeercert(binary_form=True) == self._der()
                assert before.getpeercert(binary_form=True) != self._der()
                assert asked(after)
                assert asked(before)

    def _der(self) -> bytes:
        return ssl.PEM_cert_to_DER_cert((self.folder / f"{self.cert}.pem").read_text())

    # --- violence -----------------------------------------------------------------------------

    def kill(self, reuseport_slot: int) -> None:
        """Kill a worker, knowing whom it serves: it is stopped while we look."""
        victim = self.program.workers()[reuseport_slot]
        os.kill(victim, signal.SIGSTOP)
        self.program.until(lambda: stopped(victim))
        ports = clients_of(victim)
        self.kills.append(Kill(time.monotonic(), ports))
        os.kill(victim, signal.SIGKILL)
        self.program.until(
            lambda: self.program.workers().get(reuseport_slot, victim) != victim, 60.0
        )

    def upgrade(self) -> None:
        """Replace the program, and see the new one serve."""
        before = len(self.program.lines)
        pid = self.program.order("/upgrade")["pid"]
        self.program.line(r"listening \S+ \(edge\)", after=before)
        self.program.until(lambda: self.program.status()["pid"] == pid)

    def unexplained(self, book: Book) -> list[Failure]:
        """Requests that failed on a connection that no killed worker had."""
        return [x for x in book.failures if not any(kill.explains(x) for kill in self.kills)]


def asked(sock: ssl.SSLSocket) -> bool:
    """Whether a request on a connection is answered."""
    sock.sendall(b"GET /changing HTTP/1.1\r\nhost: edge.test\r\n\r\n")
    return sock.recv(65536).startswith(b"HTTP/1.1 200 ")


def stopped(pid: int) -> bool:
    """Whether it does nothing any more."""
    return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] == "T"


def clients_of(pid: int) -> set[int]:
    """The other ends' ports of a process's connections over TCP; it is stopped.

    Its own descriptors are asked: the kernel's lists are not of one instant, and a connection that
    is in no list any more may still have something under way.
    """
    ports = set()
    for entry in Path(f"/proc/{pid}/fd").iterdir():
        if not os.readlink(entry).startswith("socket:"):
            continue
        with descriptor_of(pid, int(entry.name)) as sock:
            if sock.family == socket.AF_INET:
                with contextlib.suppress(OSError):  # it listens, or its connection is over
                    ports.add(sock.getpeername()[1])
    return ports


def descriptor_of(pid: int, number: int) -> socket.socket:
    """Another process's socket, as a descriptor of ours (pidfd_getfd of Linux 5.6)."""
    libc = ctypes.CDLL(None, use_errno=True)
    handle = os.pidfd_open(pid)
    try:
        fd = libc.syscall(PIDFD_GETFD, handle, number, 0)
    finally:
        os.close(handle)
    if fd < 0:
        raise OSError(ctypes.get_errno(), f"pidfd_getfd: {os.strerror(ctypes.get_errno())}")
    return socket.socket(fileno=fd)


def load_of(loaded: Loaded, per_second: int, stream_s: float) -> Load:
    """A load for the plain listener."""
    host, port = loaded.url.removeprefix("http://").split(":")
    return Load(host, int(port), per_second, stream_s=stream_s)


def finished(process: subprocess.Popen[str]) -> Book:
    """End the load; what it saw."""
    assert process.stdin is not None
    process.stdin.close()
    return Book.of(json.loads(line_of(process)))
