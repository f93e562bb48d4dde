"""One run: two programs, endpoints, clients and reloads, for so many seconds from one seed."""

from __future__ import annotations

import asyncio
import contextlib
import gc
import itertools
import random
import time
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import AsyncExitStack, ExitStack
from pathlib import Path

from tests.process.chained.audit import audit, complaints, held
from tests.process.chained.book import Book
from tests.process.chained.h1_client import Client1
from tests.process.chained.h1_origin import Origin1
from tests.process.chained.h2_client import Client2
from tests.process.chained.h2_origin import Origin2
from tests.process.chained.mesh import configured
from tests.process.chained.plan import NATURES, Plan, plan_of
from tests.process.program import Program

CLIENTS = {"h1": 8, "h2": 4}
EACH = 2
"""Endpoints of a nature and a protocol."""
RELOAD_S = 0.5
"""Between two reloads; each proxy has every second one."""
SETTLED_S = 10.0
TIDY_S = 2.0
"""Between two collections of garbage, some 800 requests: a few milliseconds each."""
WORKERS = (1, 2)


@contextlib.contextmanager
def _unpaused() -> Iterator[None]:
    """Leave the collector to `_tidy`: with the records of an hour to look through, it stops clients
    and endpoints for longer than they wait for each other."""
    gc.disable()
    try:
        yield
    finally:
        gc.unfreeze()
        gc.enable()


async def _tidy() -> None:
    """Collect what came since the last time, and leave what lives out of the next: an hour's
    garbage is more than a machine has."""
    while True:
        await asyncio.sleep(TIDY_S)
        gc.collect()
        gc.freeze()


class Hop:
    """One of the two programs."""

    def __init__(self, folder: Path, number: int, seed: int, ports: dict[str, list[int]]) -> None:
        self._number = number
        self._ports = ports
        self._dice = random.Random(f"{seed} reloads {number}")
        self.file = folder / f"{'ab'[number]}.yaml"
        self.log = folder / f"{'ab'[number]}.log"
        self.write()
        self.program = Program(
            self.file,
            CHAINED_AT="ab"[number],
            PYTHONWARNINGS="default",
        )
        self.program.output = self.log

    def write(self) -> None:
        """The next configuration."""
        text = configured(self._dice, self._number, self._ports, WORKERS[self._number])
        self.file.write_text(text)

    def reload(self) -> None:
        """Put another one in force."""
        self.write()
        self.program.order("/reload")

    def held(self) -> dict[str, float]:
        """What its metrics say is still held."""
        with urllib.request.urlopen(f"{self.program.url('admin')}/metrics", timeout=10) as got:
            return held(got.read().decode())

    def settle(self) -> dict[str, float]:
        """Wait until nothing is held; what still is."""
        until = time.monotonic() + SETTLED_S
        while (left := self.held()) and time.monotonic() < until:
            time.sleep(0.05)
        return left


class Run:
    """What is known when it is over is in the book."""

    def __init__(self, folder: Path, seed: int, seconds: float) -> None:
        self._folder = folder
        self._seed = seed
        self._seconds = seconds
        self.book = Book()
        self.reloads = 0

    def all(self) -> Book:
        """Do it."""
        with ExitStack() as programs, asyncio.Runner() as runner, _unpaused():
            hops = runner.run(self._serve(programs))
            for hop in hops:
                if code := hop.program.stop():
                    self.book.fault(None, f"{hop.file.name}: exit code {code}")
                for line in complaints(hop.program.lines):
                    self.book.fault(None, f"{hop.file.name}: {line}")
            audit(self.book, (hops[0].log, hops[1].log))
        return self.book

    async def _serve(self, programs: ExitStack) -> tuple[Hop, Hop]:
        async with AsyncExitStack() as stack:
            ports: dict[str, list[int]] = {}
            for nature in NATURES:
                firsts = [await stack.enter_async_context(Origin1(self.book)) for _ in range(EACH)]
                ports[f"{nature}/1"] = [origin.port for origin in firsts]
                others = [await stack.enter_async_context(Origin2(self.book)) for _ in range(EACH)]
                ports[f"{nature}/2"] = [origin.port for origin in others]
            second = Hop(self._folder, 1, self._seed, ports)
            programs.enter_context(second.program)
            port = int((await asyncio.to_thread(second.program.url)).rpartition(":")[2])
            first = Hop(self._folder, 0, self._seed, {key: [port] for key in ports})
            programs.enter_context(first.program)
            url = await asyncio.to_thread(first.program.url)
            await self._load(url, (first, second))
            for hop in (first, second):
                if left := await asyncio.to_thread(hop.settle):
                    self.book.fault(None, f"{hop.file.name}: still held: {left}")
        return first, second

    async def _load(self, url: str, hops: tuple[Hop, Hop]) -> None:
        self.book.began_s = time.monotonic()
        clients: list[Client1 | Client2] = []
        for number in range(CLIENTS["h1"]):
            clients.append(Client1(self.book, url, self._plans(f"h1c{number}")))
        for number in range(CLIENTS["h2"]):
            dice = random.Random(f"{self._seed} client {number}")
            clients.append(Client2(self.book, url, self._plans(f"h2c{number}"), dice))
        over = asyncio.Event()
        reloading = asyncio.create_task(self._reload(hops, over))
        tidying = asyncio.create_task(_tidy())
        try:
            async with asyncio.TaskGroup() as group:
                for client in clients:
                    group.create_task(client.run())
        finally:
            over.set()
            tidying.cancel()
            await reloading

    def _plans(self, client: str) -> Callable[[], Plan | None]:
        """The requests of a client, one after the other, until the time is over."""
        number = 0

        def following() -> Plan | None:
            nonlocal number
            over = time.monotonic() > self.book.began_s + self._seconds
            if over or self.book.counts["faults"] > 100:
                return None
            number += 1
            return plan_of(self._seed, client, number)

        return following

    async def _reload(self, hops: tuple[Hop, Hop], over: asyncio.Event) -> None:
        for hop in itertools.cycle(hops):
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(over.wait(), RELOAD_S)
                return
            await asyncio.to_thread(hop.reload)
            self.reloads += 1
