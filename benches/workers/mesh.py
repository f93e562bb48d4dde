"""A program that serves, its processes, and their time on a core."""

from __future__ import annotations

import asyncio
import contextlib
import os
import re
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from benches.load.configs import SMALL, origin
from benches.load.machine import free_port
from meshcore.cli.order import ask

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
        return ask(self.file, None, "GET", "/status")

    def reload(self, text: str) -> None:
        """Put another text in force."""
        self.file.write_text(text)
        ask(self.file, None, "POST", "/reload")

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


def queued_s() -> float:
    """Seconds that this thread was ready to run and had to wait for a core."""
    return int(Path("/proc/thread-self/schedstat").read_text().split()[1]) / NS


@contextlib.contextmanager
def nginx(folder: Path) -> Iterator[int]:
    """The origin's port."""
    port = free_port()
    (folder / "files").mkdir(exist_ok=True)
    file = folder / "origin.conf"
    file.write_text(origin(port, str(folder)))
    process = subprocess.Popen(["nginx", "-c", str(file)], stderr=subprocess.DEVNULL)
    try:
        time.sleep(0.5)
        yield port
    finally:
        process.terminate()
        process.wait(START_S)


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
