"""Child processes: waited for by what they say or by connecting, and always ended."""

from __future__ import annotations

import os
import re
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from types import TracebackType
from typing import Self, TypeVar

ROOT = Path(__file__).parents[2]
# Far above what a start takes, on a machine that builds something at the same time.
START_S = 30.0
END_S = 10.0

T = TypeVar("T")


class ProgramError(Exception):
    """A program that could not be had, did not start, or left no report."""


class Program:
    """A child with its output in a file, ended with its block."""

    def __init__(
        self, name: str, command: Sequence[str], log: Path, env: Mapping[str, str] | None = None
    ) -> None:
        self.name = name
        self._command = command
        self._log = log
        self._env = {**os.environ, **(env or {})}

    def __enter__(self) -> Self:
        with self._log.open("wb") as log:
            try:
                self._child = subprocess.Popen(
                    self._command, cwd=ROOT, env=self._env, stdout=log, stderr=subprocess.STDOUT
                )
            except FileNotFoundError as error:
                raise ProgramError(f"missing: {self._command[0]}") from error
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._child.terminate()
        try:
            self._child.wait(END_S)
        except subprocess.TimeoutExpired:
            self._child.kill()
            self._child.wait()

    def output(self) -> str:
        """All that it wrote so far."""
        return self._log.read_text(errors="replace")

    def said(self, pattern: str) -> re.Match[str]:
        """Wait until its output has the pattern."""
        return self._until(lambda: re.search(pattern, self.output()))

    def listens(self, port: int) -> None:
        """Wait until it takes connections."""
        self._until(lambda: _connects(port) or None)

    def _until(self, probe: Callable[[], T | None]) -> T:
        end = time.monotonic() + START_S
        while time.monotonic() < end and self._child.poll() is None:
            found = probe()
            if found is not None:
                return found
            time.sleep(0.02)  # between two looks, not instead of one
        raise ProgramError(f"{self.name} did not start: {' '.join(self._command)}\n{self.output()}")


def _connects(port: int) -> bool:
    try:
        socket.create_connection(("127.0.0.1", port), 1).close()
    except OSError:
        return False
    return True


@contextmanager
def service(module: str, folder: Path, env: Mapping[str, str] | None = None) -> Iterator[int]:
    """The port of a module of this package that serves, for as long as the block lasts."""
    command = [sys.executable, "-m", f"{__package__}.{module}"]
    with Program(module, command, folder / f"{module}.log", env) as program:
        yield int(program.said(r"listening 127\.0\.0\.1:(\d+)")[1])
