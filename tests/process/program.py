"""`meshcore run` as its users run it: a process, its workers, its orders, its last words."""

from __future__ import annotations

import contextlib
import os
import re
import signal
import subprocess
import sys
import threading
import time
import urllib.request
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from meshcore.cli.order import Target, ask

WITHIN_S = 30.0


class Program:
    """A running program. On leaving, nothing of it may be left behind."""

    def __init__(self, file: Path, *more: str, **environment: str) -> None:
        self.file = file
        self.output: Path | None = None  # where its access log goes, if not where ours does
        self.command = [sys.executable, "-m", "meshcore", "run", str(file), *more]
        self._environment = os.environ | environment
        self.lines: list[str] = []
        self.admin: str | None = None  # where to ask, if not by the file
        self._news = threading.Condition()

    def __enter__(self) -> Self:
        with contextlib.ExitStack() as opened:
            output = opened.enter_context(self.output.open("a")) if self.output else None
            self.process = subprocess.Popen(
                self.command,
                stdout=output,
                stderr=subprocess.PIPE,
                text=True,
                env=self._environment,
                start_new_session=True,
            )
        self._reader = threading.Thread(target=self._read, daemon=True)
        self._reader.start()
        return self

    def _read(self) -> None:
        assert self.process.stderr is not None
        for line in self.process.stderr:
            with self._news:
                self.lines.append(line.rstrip("\n"))
                self._news.notify_all()

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(self.process.pid, signal.SIGKILL)
        self.process.wait(WITHIN_S)
        self._reader.join(WITHIN_S)
        assert self.process.stderr is not None
        self.process.stderr.close()
        if error is not None:
            print("\n".join(self.lines))

    def line(self, pattern: str, *, after: int = 0) -> re.Match[str]:
        """The first line, of those after a number, that a pattern is found in; waits for it."""
        until = time.monotonic() + WITHIN_S
        seen = after
        with self._news:
            while True:
                for text in self.lines[seen:]:
                    if found := re.search(pattern, text):
                        return found
                seen = len(self.lines)
                assert time.monotonic() < until, f"no {pattern!r} in\n" + "\n".join(self.lines)
                assert self._news.wait(WITHIN_S), f"no {pattern!r} in\n" + "\n".join(self.lines)

    def url(self, listener: str = "edge") -> str:
        """Where a listener is, once it listens."""
        return self.line(rf"listening (\S+) \({listener}\)")[1]

    def order(self, path: str, **given: object) -> Any:
        """The answer to an order."""
        return ask(Target(self.file, self.admin), "POST", path, **given)

    def status(self) -> Any:
        """What it says of itself."""
        return ask(Target(self.file, self.admin), "GET", "/status")

    def metrics(self) -> str:
        """All of them, as Prometheus reads them."""
        with urllib.request.urlopen(f"{self.url('admin')}/metrics", timeout=10) as got:
            text: str = got.read().decode()
            return text

    def workers(self, state: str = "ready") -> dict[int, int]:
        """Process ids by worker, of those in a state."""
        return {w["worker"]: w["pid"] for w in self.status()["workers"] if w["state"] == state}

    def until(self, met: Any, within_s: float = WITHIN_S) -> Any:
        """Wait for what tells nobody that it happens."""
        until = time.monotonic() + within_s
        while not (found := met()):
            assert time.monotonic() < until, "\n".join(self.lines)
            time.sleep(0.01)
        return found

    def stop(self, number: signal.Signals = signal.SIGTERM) -> int:
        """Its exit code after a signal."""
        self.process.send_signal(number)
        return self.process.wait(WITHIN_S)
