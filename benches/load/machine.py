"""Processes and what they cost: waited for by connecting, measured by ticks."""

from __future__ import annotations

import os
import re
import signal
import socket
import subprocess
import time
from dataclasses import dataclass
from pathlib import Path

TICK_S = 1 / os.sysconf("SC_CLK_TCK")
START_S = 20.0
# The proxy has a core; the load and the origins share the other.
PROXY_CORE, LOAD_CORE = 0, 1


def free_port() -> int:
    """A port that nobody has at this moment."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


@dataclass(frozen=True)
class Cpu:
    """Seconds of a process, by where they were spent."""

    user_s: float
    system_s: float

    def since(self, before: Cpu) -> Cpu:
        """The difference."""
        return Cpu(self.user_s - before.user_s, self.system_s - before.system_s)

    @property
    def total_s(self) -> float:
        """Both."""
        return self.user_s + self.system_s


def family(pid: int) -> list[int]:
    """A process and all below it, whichever of its threads started them."""
    found = [pid]
    for task in Path(f"/proc/{pid}/task").iterdir():
        for child in (task / "children").read_text().split():
            found += family(int(child))
    return found


class Process:
    """A program pinned to one core, ended with its block."""

    def __init__(self, name: str, command: list[str], port: int, core: int) -> None:
        self.name = name
        self._command = ["taskset", "-c", str(core), *command]
        self._port = port

    def __enter__(self) -> Process:
        self._child = subprocess.Popen(
            self._command,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            start_new_session=True,
        )
        end = time.monotonic() + START_S
        while time.monotonic() < end and self._child.poll() is None:
            try:
                socket.create_connection(("127.0.0.1", self._port), 1).close()
            except OSError:
                time.sleep(0.02)
            else:
                return self
        self.__exit__()
        raise RuntimeError(f"{self.name} did not start: {' '.join(self._command)}")

    def __exit__(self, *_: object) -> None:
        self._child.terminate()
        try:
            self._child.wait(5)
        except subprocess.TimeoutExpired:
            os.killpg(self._child.pid, signal.SIGKILL)  # workers, too
            self._child.wait()

    def pids(self) -> list[int]:
        """The process and all below it: nginx and meshcore work in children."""
        return family(self._child.pid)

    def cpu(self) -> Cpu:
        """All ticks so far, at 10 ms each."""
        user = system = 0
        for pid in self.pids():
            fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
            user += int(fields[11])
            system += int(fields[12])
        return Cpu(user * TICK_S, system * TICK_S)

    def rss_kib(self) -> int:
        """Resident memory of the family."""
        text = "".join(Path(f"/proc/{pid}/status").read_text() for pid in self.pids())
        return sum(map(int, re.findall(r"^VmRSS:\s+(\d+)", text, re.MULTILINE)))


@dataclass(frozen=True)
class Load:
    """What the client saw."""

    requests: int
    per_second: float
    p50_ms: float
    p99_ms: float


UNITS_MS = {"us": 0.001, "ms": 1.0, "s": 1000.0}


def parse_wrk(text: str) -> Load:
    """The figures of `wrk --latency`; `ValueError` when a request failed, or there was none."""
    if re.search(r"Non-2xx|Socket errors", text):
        raise ValueError(f"requests failed:\n{text}")

    def latency(percent: str) -> float:
        found = re.search(rf"{percent}%\s+([\d.]+)(us|ms|s)\b", text)
        if found is None:
            raise ValueError(f"no latency in:\n{text}")
        return float(found[1]) * UNITS_MS[found[2]]

    count = re.search(r"(\d+) requests in", text)
    rate = re.search(r"Requests/sec:\s+([\d.]+)", text)
    if count is None or rate is None or not int(count[1]):
        raise ValueError(f"no requests in:\n{text}")
    return Load(int(count[1]), float(rate[1]), latency("50"), latency("99"))


def wrk(url: str, seconds: int, script: str | None = None) -> Load:
    """A closed loop of 64 connections for some seconds."""
    command = ["taskset", "-c", str(LOAD_CORE), "wrk", "--latency", "-t1", "-c64", f"-d{seconds}s"]
    command += ["-s", script] if script else []
    ended = subprocess.run([*command, url], capture_output=True, text=True, check=True)
    return parse_wrk(ended.stdout)


def parse_ab(text: str) -> Load:
    """The figures of `ab`; `ValueError` when a request failed, or there was none."""

    def found(label: str) -> float:
        value = re.search(rf"^ *{label}:? +([\d.]+)", text, re.MULTILINE)
        if value is None:
            raise ValueError(f"no {label!r} in:\n{text}")
        return float(value[1])

    count = int(found("Complete requests"))
    if not count or found("Failed requests") or "Non-2xx" in text:
        raise ValueError(f"requests failed, or there was none:\n{text}")
    return Load(count, found("Requests per second"), found("50%"), found("99%"))


def ab(url: str, seconds: int) -> Load:
    """A closed loop of 64 for some seconds, a connection and a full handshake for each request.

    It asks over HTTP/1.0. wrk would resume its sessions, since `SSL_clear` keeps them.
    """
    command = ["taskset", "-c", str(LOAD_CORE), "ab", "-q", "-c64", f"-t{seconds}", "-n1000000"]
    ended = subprocess.run([*command, url], capture_output=True, text=True, check=True)
    return parse_ab(ended.stdout)
