"""Random traffic over HTTP/1.1 whose connections close at every point, beside many that stay.

Where a connection closes is drawn anew for each request: before, within or behind what its client
sends or reads, or what its endpoint sends. Whoever stays gets its own answers and nothing else,
though descriptors come and go about it; when all is over nothing is held. `POINTS_SECONDS` says for
how long, `POINTS_HELD` how many connections stay, `POINTS_SEED` repeats what is asked: see
`make points`.
"""

from __future__ import annotations

import asyncio
import os
import random
import re
import resource
import socket
import struct
import time
from collections import Counter
from pathlib import Path
from typing import NamedTuple

import pytest

from tests.process.chained.audit import complaints, held
from tests.process.program import Program
from tests.wire.origin import Origin, Visit, response

SECONDS = float(os.environ.get("POINTS_SECONDS", "4"))
HELD = int(os.environ.get("POINTS_HELD", "200"))
SEED = int(os.environ.get("POINTS_SEED", "0")) or random.randrange(1, 1 << 32)
CLIENTS = 24
AT_ONCE = 100
ROW = 3
"""Most requests that a client writes without waiting."""
LARGEST = 100_000
PATIENCE_S = 30.0
SPARE_FILES = 1_000
MESH = """
version: 1
drain: 5s
workers: 2
admin: {{bind: "127.0.0.1:0"}}
listeners:
  edge: {{bind: "127.0.0.1:0", limits: {{connections: 20000}}, timeouts: {{idle: 0}}}}
routes: [{{name: all, upstream: one, timeout: 20s}}]
upstreams:
  one:
    endpoints: ["127.0.0.1:{port}"]
    circuit_breaker: "off"
    ejection: "off"
    limits: {{connections: 512, pending: 20000, requests: 20000}}
"""
LOCAL = (502, 504)
"""What the proxy says of an endpoint that left."""
LEFT = re.compile(r"x-mesh-reason: upstream_(stale|reset)\r")
"""Also where an endpoint left behind the answer before: a POST is not repeated then, and on a slow
machine nor is what it left late."""
Streams = tuple[asyncio.StreamReader, asyncio.StreamWriter]


class Ask(NamedTuple):
    """One request: its name, what is sent and comes back, and where its endpoint leaves."""

    name: str
    sent: int
    size: int
    endpoint_leaves_at: int | None = None
    """So many bytes of the response are sent."""
    resets: bool = False

    def raw(self) -> bytes:
        leaves = "-" if self.endpoint_leaves_at is None else self.endpoint_leaves_at
        path = f"/{self.name}/{self.size}/{leaves}/{int(self.resets)}"
        method = "POST" if self.sent else "GET"
        head = f"{method} {path} HTTP/1.1\r\nhost: a\r\ncontent-length: {self.sent}\r\n\r\n"
        return head.encode() + body(self.name, self.sent)


def body(name: str, size: int) -> bytes:
    """What nobody else's is."""
    word = f"{name} ".encode()
    return (word * (size // len(word) + 1))[:size]


def close(writer: asyncio.StreamWriter, *, resets: bool) -> None:
    """Leave, by a reset or by FIN."""
    sock = writer.get_extra_info("socket")
    if resets and sock is not None and sock.fileno() >= 0:
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        writer.transport.abort()
    else:
        writer.close()


async def answer(visit: Visit) -> None:
    """The endpoint: as the path says."""
    while True:
        head = (await visit.head()).decode()
        visit.seen = b""  # an hour of it is more than a machine has
        name, size, leaves, resets = head.split(" ")[1].removeprefix("/").split("/")
        found = re.search(r"content-length: (\d+)", head)
        sent = await visit.reader.readexactly(int(found[1]) if found else 0)
        assert sent == body(name, len(sent)), f"{name} was sent {sent[:40]!r}"
        data = response(body(name, int(size)), "200 OK", f"x-name: {name}")
        if leaves != "-":
            await visit.send(data[: int(leaves)])
            close(visit.writer, resets=resets == "1")
            return
        await visit.send(data)


class Client:
    """Judges what comes."""

    def __init__(self, port: int, counts: Counter[str]) -> None:
        self._port = port
        self._counts = counts

    async def connect(self) -> Streams:
        return await asyncio.open_connection("127.0.0.1", self._port)

    async def read(self, reader: asyncio.StreamReader, ask: Ask) -> bool:
        """Read the answer to a request; ``False``: the connection ended, as it may."""
        try:
            head = (await reader.readuntil(b"\r\n\r\n")).decode()
        except (asyncio.IncompleteReadError, ConnectionError) as error:
            return self._ended(ask, error)
        status = int(head.split(" ")[1])
        found = re.search(r"content-length: (\d+)", head)
        assert found, head
        size = int(found[1])
        if status in LOCAL:
            await reader.readexactly(size)
            told = ask.endpoint_leaves_at is not None
            assert told or LEFT.search(head), f"{ask}: {head}"
            self._counts["answered by the proxy" if told else "met who had left"] += 1
            return "connection: close" not in head
        assert status == 200, head
        assert f"x-name: {ask.name}\r\n" in head, f"{ask}: {head}"
        assert size == ask.size, f"{ask}: {head}"
        ended: Exception | None = None
        try:
            got = await reader.readexactly(size)
        except asyncio.IncompleteReadError as error:
            got, ended = error.partial, error
        except ConnectionError as error:
            got, ended = b"", error
        assert body(ask.name, size).startswith(got), f"{ask}: {got[:80]!r}"
        if ended is not None:
            return self._ended(ask, ended)
        self._counts["answered"] += 1
        return True

    def _ended(self, ask: Ask, error: Exception) -> bool:
        assert ask.endpoint_leaves_at is not None, f"{ask}: {error!r}"
        self._counts["cut with its endpoint"] += 1
        return False


class Passing(Client):
    """Comes and goes."""

    def __init__(self, port: int, counts: Counter[str], number: int) -> None:
        super().__init__(port, counts)
        self._dice = random.Random(f"{SEED} {number}")
        self._asked = 0
        self._number = number

    def _ask(self) -> Ask:
        dice = self._dice
        self._asked += 1
        size = int(LARGEST ** dice.random())
        sent = int(LARGEST ** dice.random()) if dice.random() < 0.3 else 0
        leaves = int((size + 120) ** dice.random()) - 1 if dice.random() < 0.2 else None
        name = f"{self._number}-{self._asked}"
        return Ask(name, sent, size, leaves, dice.random() < 0.5)

    async def run(self, until_s: float) -> None:
        """Ask over one connection after the other."""
        while time.monotonic() < until_s:
            reader, writer = await self.connect()
            try:
                async with asyncio.timeout(PATIENCE_S):
                    while await self._talk(reader, writer) and time.monotonic() < until_s:
                        pass
            finally:
                writer.close()

    async def _talk(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> bool:
        """Some requests in a row; ``False``: the connection is over."""
        dice = self._dice
        row = [self._ask() for _ in range(dice.randint(1, ROW))]
        raw = b"".join(ask.raw() for ask in row)
        way = dice.random()
        if way < 0.15:  # within what is sent, or just behind it
            writer.write(raw[: dice.randint(0, len(raw))])
            return self._leave(writer, "sending")
        writer.write(raw)
        if way < 0.3:  # within what comes back
            expected = sum(ask.size + 100 for ask in row)
            await reader.read(int(expected ** dice.random()))
            return self._leave(writer, "reading")
        for ask in row:
            if not await self.read(reader, ask):
                return False
        return dice.random() < 0.8 or self._leave(writer, "between")

    def _leave(self, writer: asyncio.StreamWriter, point: str) -> bool:
        self._counts[f"left {point}"] += 1
        close(writer, resets=self._dice.random() < 0.5)
        return False


class Staying(Client):
    """Holds connections, and asks over each in turn."""

    def __init__(self, port: int, counts: Counter[str]) -> None:
        super().__init__(port, counts)
        self._held: list[Streams] = []

    async def gather(self) -> None:
        """Open them all."""
        room = asyncio.Semaphore(AT_ONCE)

        async def one(number: int) -> Streams:
            async with room:
                streams = await self.connect()
                await self._turn(number, streams)
                return streams

        self._held += await asyncio.gather(*(one(number) for number in range(HELD)))

    async def run(self, until_s: float) -> None:
        """Ask over one after the other; over each at least once."""
        turns = 0
        while turns < len(self._held) or time.monotonic() < until_s:
            await self._turn(turns, self._held[turns % len(self._held)])
            turns += 1

    async def _turn(self, number: int, streams: Streams) -> None:
        reader, writer = streams
        ask = Ask(f"held-{number}", 0, number % 2_000)
        writer.write(ask.raw())
        async with asyncio.timeout(PATIENCE_S):
            assert await self.read(reader, ask)
        self._counts["of those that stay"] += 1

    def leave(self) -> None:
        for _, writer in self._held:
            writer.close()


def total(text: str, name: str) -> int:
    """Over all labels."""
    return sum(map(int, re.findall(rf"^{name}(?:\{{.*\}})? (\d+)$", text, re.MULTILINE)))


def files(program: Program, endpoint_port: int) -> list[int]:
    """Open descriptors of each worker, but for connections to the endpoint: the idle ones stay."""
    rows = [line.split() for line in Path("/proc/net/tcp").read_text().splitlines()[1:]]
    idle = {f"socket:[{row[9]}]" for row in rows if int(row[2].split(":")[1], 16) == endpoint_port}
    return [len(opened(pid) - idle) for pid in program.workers().values()]


def opened(pid: int) -> set[str]:
    """What a process has open, each by a name of its own."""
    folder = Path(f"/proc/{pid}/fd")
    return {
        name if name.startswith("socket:") else f"{number}: {name}"
        for number in os.listdir(folder)
        for name in [os.readlink(folder / number)]
    }


@pytest.fixture(autouse=True)
def descriptors() -> None:
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if hard < HELD + SPARE_FILES:
        pytest.fail(f"missing: {HELD + SPARE_FILES} open files (ulimit -Hn is {hard})")
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))


async def traffic(port: int, counts: Counter[str]) -> None:
    """All of it."""
    staying = Staying(port, counts)
    await staying.gather()
    until_s = time.monotonic() + SECONDS
    try:
        async with asyncio.TaskGroup() as group:
            group.create_task(staying.run(until_s))
            for number in range(CLIENTS):
                group.create_task(Passing(port, counts, number).run(until_s))
    finally:
        staying.leave()


@pytest.mark.alone
@pytest.mark.timeout(SECONDS * 2 + HELD / 20 + 120)
async def test_connections_close_at_every_point(tmp_path: Path) -> None:
    counts: Counter[str] = Counter()
    print(f"POINTS_SEED={SEED}")
    async with Origin(answer) as origin:
        file = tmp_path / "mesh.yaml"
        file.write_text(MESH.format(port=origin.port))
        with Program(file) as program:
            port = int((await asyncio.to_thread(program.url)).rpartition(":")[2])
            await asyncio.to_thread(program.url, "admin")
            before = await asyncio.to_thread(files, program, origin.port)
            await traffic(port, counts)
            text = await asyncio.to_thread(program.until, lambda: settled(program))
            after = await asyncio.to_thread(files, program, origin.port)
            print(f"{dict(sorted(counts.items()))}\ndescriptors: {before}, {after}")
            assert await asyncio.to_thread(program.stop) == 0
            assert list(complaints(program.lines)) == []
    asked = counts["answered"]
    assert asked > 20 * SECONDS
    assert total(text, "meshcore_listener_sent_natively_total") > asked
    for point in ("sending", "reading", "between"):
        assert counts[f"left {point}"] > SECONDS
    assert counts["cut with its endpoint"] > SECONDS
    assert counts["met who had left"] < 5 + asked / 50
    # Each has a set of the kernel's since, for the sockets that it reads itself.
    assert max(after) <= max(before) + 1


def settled(program: Program) -> str:
    """The metrics, once nothing is held."""
    text = program.metrics()
    open_now = total(text, "meshcore_listener_connections")
    return "" if held(text) or open_now else text
