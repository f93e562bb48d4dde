"""A client that asks at a steady rate from an address of its own, and counts what it is told."""

from __future__ import annotations

import asyncio
import time
from collections import Counter, deque
from dataclasses import dataclass, field
from typing import Final, NamedTuple

# One request may take this long before it counts as lost.
PATIENCE_S: Final = 5.0
# What rates and latencies are taken from.
WINDOW_S: Final = 5.0


class Told(NamedTuple):
    """One answer: when it came (by the monotonic clock), what it was, how long it took."""

    at_s: float
    what: str
    took_s: float


class Recent(NamedTuple):
    """The last seconds of a client: answers per second by kind, and latencies of those of 200."""

    per_second: dict[str, float]
    median_s: float
    slowest_s: float


@dataclass
class Visitor:
    """Asks for one path; `told` counts status and reason, `replicas` who answered."""

    name: str
    source: str
    path: str
    per_second: float
    told: Counter[str] = field(default_factory=Counter)
    replicas: Counter[str] = field(default_factory=Counter)
    _last: deque[Told] = field(default_factory=deque)
    _began_s: float = field(default_factory=time.monotonic)

    async def visit(self, host: str, port: int) -> None:
        """Ask until cancelled, on a new connection whenever the last one is gone."""
        while True:
            try:
                reader, writer = await asyncio.open_connection(
                    host, port, local_addr=(self.source, 0)
                )
            except OSError:
                self._count("no connection", 0.0)
                await asyncio.sleep(1 / self.per_second)
                continue
            try:
                while await self._ask(reader, writer):
                    pass
            except (OSError, EOFError, TimeoutError):
                self._count("lost", PATIENCE_S)
            finally:
                writer.close()

    def recent(self) -> Recent:
        """Rates and latencies of the last `WINDOW_S`, or since the start if that is later."""
        now_s = time.monotonic()
        since_s = max(self._began_s, now_s - WINDOW_S)
        while self._last and self._last[0].at_s < since_s:
            self._last.popleft()
        seconds = max(now_s - since_s, 1e-3)
        counted = Counter(told.what for told in self._last)
        took = sorted(told.took_s for told in self._last if told.what == "200")
        return Recent(
            {what: n / seconds for what, n in counted.items()},
            took[len(took) // 2] if took else 0.0,
            took[-1] if took else 0.0,
        )

    def _count(self, what: str, took_s: float) -> None:
        self.told[what] += 1
        self._last.append(Told(time.monotonic(), what, took_s))

    async def _ask(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> bool:
        began_s = time.monotonic()
        writer.write(f"GET {self.path} HTTP/1.1\r\nhost: demo.test\r\n\r\n".encode())
        async with asyncio.timeout(PATIENCE_S):
            head = await reader.readuntil(b"\r\n\r\n")
            lines = head.decode("latin-1").split("\r\n")
            fields = dict(line.lower().split(": ", 1) for line in lines[1:-2])
            await reader.readexactly(int(fields.get("content-length", 0)))
        reason = fields.get("x-mesh-reason")
        status = lines[0].split()[1]
        self._count(f"{status} {reason}" if reason else status, time.monotonic() - began_s)
        if "x-replica" in fields:
            self.replicas[fields["x-replica"]] += 1
        await asyncio.sleep(1 / self.per_second)
        return fields.get("connection") != "close"
