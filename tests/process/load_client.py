"""The load: `python -m tests.process.load_client`, a process of its own.

A steady rate, whatever the proxy does (an open loop): half over HTTP/1.1, half over HTTP/2, and
gRPC streams beside. It leaves a connection when it is told to (`connection: close`, GOAWAY) and
asks nothing twice. It prints a line when it has begun, and what it saw when its input ends.
"""

from __future__ import annotations

import asyncio
import json
import sys
import time
from dataclasses import asdict, dataclass

import uvloop

from tests.process.load_book import Book
from tests.process.load_grpc import Calls
from tests.process.load_h1 import Connections1
from tests.process.load_h2 import Connections2

TICK_S = 0.004
BEAT_S = 0.1
# What is not answered so long after the last request never will be.
PATIENCE_S = 10.0


@dataclass
class Load:
    """How much."""

    host: str
    port: int
    per_second: int
    http1: int = 32
    http2: int = 8
    streams: int = 16
    stream_s: float = 10.0

    def as_argument(self) -> str:
        """For the command line."""
        return json.dumps(asdict(self))


class Generator:
    """Everything that asks."""

    def __init__(self, load: Load) -> None:
        self.book = Book()
        self._load = load
        at = load.host, load.port
        self._pools = [
            Connections1(*at, load.http1, self.book),
            Connections2(*at, load.http2, self.book),
        ]
        self._rpc = Connections2(*at, 4, self.book)
        self._calls = Calls(self._rpc, load.streams, load.stream_s)

    async def run(self) -> None:
        """Until the input ends, and all is answered."""
        over = asyncio.ensure_future(asyncio.to_thread(sys.stdin.read))
        for pool in (*self._pools, self._rpc):
            pool.open()
        began = time.monotonic()
        print("begun", flush=True)
        asked, beats = 0, 0
        while not over.done():
            passed = time.monotonic() - began
            due = int(passed * self._load.per_second)
            for number in range(asked, due):
                self._pools[number % 2].ask(began + number / self._load.per_second)
            asked = max(asked, due)
            if passed >= beats * BEAT_S:
                beats += 1
                self._calls.beat()
            await asyncio.sleep(TICK_S)
        await self._finish()

    async def _finish(self) -> None:
        """Nothing new; wait for what is under way."""
        self._calls.stopping = True
        until = time.monotonic() + PATIENCE_S
        while self._under_way() and time.monotonic() < until:
            self._calls.beat()
            await asyncio.sleep(BEAT_S)
        for protocol, number in self._under_way().items():
            for _ in range(number):
                self.book.fail(protocol, "not answered", 0)

    def _under_way(self) -> dict[str, int]:
        asked = self.book.asked.copy()
        asked.subtract(self.book.done)
        asked.subtract(each.protocol for each in self.book.failures if each.of_request)
        return {protocol: number for protocol, number in asked.items() if number > 0}


async def _run(load: Load) -> Book:
    generator = Generator(load)
    await generator.run()
    return generator.book


if __name__ == "__main__":
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        book = runner.run(_run(Load(**json.loads(sys.argv[1]))))
    print(json.dumps(book.as_json()), flush=True)
