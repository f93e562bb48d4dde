"""How long the loop of a worker stands still: a layer that looks every millisecond.

It runs in the worker, so that nothing but the worker is measured: what the thread only waited for
a core is told apart.
"""

from __future__ import annotations

import asyncio
import os
import time

import meshcore
from benches.workers.mesh import queued_s

LOOK_S = 0.001
# What is shorter is not worth a line.
LEAST_S = 0.0005


class Sampler:
    """Writes a line for each look that came late: when, how late, how much of it waiting for a
    core, how much at work."""

    def __init__(self, path: str) -> None:
        self._file = os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o600)
        self._loop = asyncio.get_running_loop()
        self._again()

    def _again(self) -> None:
        self._due_s = time.monotonic() + LOOK_S
        self._queued_s, self._cpu_s = queued_s(), time.thread_time()
        self._loop.call_later(LOOK_S, self._look)

    def _look(self) -> None:
        now = time.monotonic()
        late = now - self._due_s
        if late >= LEAST_S:
            queued, cpu = queued_s() - self._queued_s, time.thread_time() - self._cpu_s
            os.write(self._file, b"%.6f %.6f %.6f %.6f\n" % (now, late, queued, cpu))
        self._again()


class Lag(meshcore.Layer):
    """Begins with the first request."""

    def __init__(self) -> None:
        self._sampler: Sampler | None = None

    def on_request(self, request: meshcore.Request) -> None:
        """Nothing but to begin."""
        if self._sampler is None:
            self._sampler = Sampler(os.environ["MESHCORE_BENCH_LAG"])
