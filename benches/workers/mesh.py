"""A program that serves, its processes, and their time on a core."""

from __future__ import annotations

import asyncio
import contextlib
import os
import re
import socket
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

from benches.load.configs import SMALL, origin
from benches.load.machine import family, free_port
from meshcore.cli.order import Target, ask

START_S = 60.0
NS = 1e9
REQUEST = b"GET / HTTP/1.1\r\nhost: a.test\r\n\r\n"


class Mesh:
    """`meshcore run` of a text."""

    def __init__(self, folder: Path, name: str, text: str, workers: int) -> None:
        self.file = folder / f"{name}.yaml"
        self.file.write_text(text)
        self._command = [sys.executable, "-m", "meshcore", "run", str(self.file)]
        self._command += ["--workers", str(workers)]

    def __enter__(self) -> Mesh:
        environment = os.environ | {"PYTHONPATH": os.pathsep.join(sys.path)}
        self._process = subprocess.Popen(
            self._command, stderr=subprocess.PIPE, text=True, env=environment
        )
        assert self._process.stderr is not None
        for line in self._process.stderr:
            if found := re.search(r"listening http://(\S+):(\d+) \(edge\)", line):
                self.host, self.port = found[1], int(found[2])
                os.set_blocking(self._process.stderr.fileno(), False)
                return self
        raise RuntimeError("meshcore did not start")

    def __exit__(self, *_: object) -> None:
        self._process.terminate()
        self._process.wait(START_S)
        assert self._process.stderr is not None
        self._process.stderr.close()

    def status(self) -> Any:
        """What it says of itself."""
        return ask(Target(self.file), "GET", "/status")

    def reload(self, text: str) -> None:
        """Put another text in force."""
        self.file.write_text(text)
        ask(Target(self.file), "POST", "/reload")

    @property
    def control(self) -> int:
        """The process id of control."""
        return self._process.pid

    def workers(self) -> dict[int, int]:
        """Process ids by worker."""
        return {w["worker"]: w["pid"] for w in self.status()["workers"] if w["state"] == "ready"}


def core_s(pid: int) -> float:
    """Seconds that a process had a core, all its threads."""
    found = 0
    for task in Path(f"/proc/{pid}/task").iterdir():
        with contextlib.suppress(FileNotFoundError):
            found += int((task / "schedstat").read_text().split()[0])
    return found / NS


def connections(pid: int, port: int) -> int:
    """How many connections to a port a process has taken."""
    links = [os.readlink(entry) for entry in Path(f"/proc/{pid}/fd").iterdir()]
    rows = [row.split() for row in Path("/proc/net/tcp").read_text().splitlines()[1:]]
    here = f":{port:04X}"
    there = {f"socket:[{row[9]}]" for row in rows if row[1].endswith(here) and row[3] == "01"}
    return len(there.intersection(links))


def waits(pid: int) -> int:
    """How often a process had nothing to do and waited."""
    text = Path(f"/proc/{pid}/status").read_text()
    return int(text.partition("\nvoluntary_ctxt_switches:")[2].split()[0])


def queued_s() -> float:
    """Seconds that this thread was ready to run and had to wait for a core."""
    return int(Path("/proc/thread-self/schedstat").read_text().split()[1]) / NS


class Nginx:
    """nginx of a text, with its port: the origin, or a proxy to compare with."""

    host = "127.0.0.1"

    def __init__(self, folder: Path, name: str, text: str, port: int) -> None:
        self._file = folder / f"{name}.conf"
        self._file.write_text(text)
        self.port = port

    def __enter__(self) -> Nginx:
        command = ["nginx", "-c", str(self._file)]
        self._process = subprocess.Popen(command, stderr=subprocess.DEVNULL)
        until = time.monotonic() + START_S
        while time.monotonic() < until:
            with contextlib.suppress(OSError):
                socket.create_connection((self.host, self.port)).close()
                return self
            time.sleep(0.05)
        raise RuntimeError("nginx did not start")

    def __exit__(self, *_: object) -> None:
        self._process.terminate()
        self._process.wait(START_S)

    @property
    def control(self) -> int:
        """The process id of its master."""
        return self._process.pid

    def workers(self) -> dict[int, int]:
        """Process ids by number."""
        return dict(enumerate(family(self._process.pid)[1:]))


def nginx_origin(folder: Path) -> Nginx:
    """The origin."""
    (folder / "files").mkdir(exist_ok=True)
    port = free_port()
    return Nginx(folder, "origin", origin(port, str(folder)), port)


def nginx_proxy(folder: Path, name: str, endpoint: int, workers: int) -> Nginx:
    """A proxy that spreads connections as meshcore does."""
    port = free_port()
    text = f"""
daemon off; worker_processes {workers}; pid {folder}/{name}.pid; error_log {folder}/{name}.err;
events {{ worker_connections 1024; }}
http {{
  access_log off; keepalive_requests 100000000;
  upstream api {{ server 127.0.0.1:{endpoint}; keepalive 64; keepalive_requests 100000000; }}
  server {{
    listen 127.0.0.1:{port} reuseport;
    location / {{ proxy_pass http://api; proxy_http_version 1.1; proxy_set_header Connection ""; }}
  }}
}}
"""
    return Nginx(folder, name, text, port)


async def answer_s(host: str, port: int) -> float:
    """Seconds from connecting to the end of the answer, on a connection of its own."""
    began = time.monotonic()
    reader, writer = await asyncio.open_connection(host, port)
    try:
        writer.write(REQUEST)
        answer = b""
        while SMALL.encode() not in answer:
            part = await reader.read(65536)
            if not part:
                raise ConnectionResetError(f"closed after {answer!r}")
            answer += part
        return time.monotonic() - began
    finally:
        writer.close()
