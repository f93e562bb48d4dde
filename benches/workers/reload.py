"""What a change of one host of 10,000 holds up: as clients see it, and in the worker's loop."""

from __future__ import annotations

import asyncio
import os
import time
from pathlib import Path
from typing import NamedTuple

from benches.load.configs import SMALL
from benches.workers.mesh import REQUEST, Mesh

ROUTES = 10_000
CONNECTIONS = 16
PACE_S = 0.002
# A reload of so many routes takes some seconds; before it there is a window of rest as long.
REST_S = 2.0
HEAD = """\
version: 1
drain: 100ms
listeners: {edge: {bind: "127.0.0.1:0", layers: [python: "benches.workers.lag:Lag"]}}
"""


SAYS = (
    "request p50",
    "p99.9",
    "longest",
    "loop still",
    "loop at work",
    "loop still, waiting for a core included",
)


class Window(NamedTuple):
    """Milliseconds of requests, and the longest that the worker's loop stood still."""

    p50_ms: float
    p999_ms: float
    longest_ms: float
    loop_ms: float
    """Without what it waited for a core."""
    work_ms: float
    """What it was at work between two looks."""
    whole_ms: float
    """With what it waited for a core."""


def text_of(changed: int) -> str:
    """Each host has its route; one is other each time."""
    routes = [
        f'- {{name: r{i}, match: {{host: "h{i}.test"}}, upstream: api}}' for i in range(ROUTES)
    ]
    routes[ROUTES // 2] = (
        f'- {{name: r{ROUTES // 2}, match: {{host: "h{ROUTES}-{changed}.test"}}, upstream: api}}'
    )
    every = f'- {{name: all, respond: {{body: "{SMALL.strip()}\\n"}}}}'
    upstream = 'upstreams: {api: {endpoints: ["127.0.0.1:9"]}}\n'
    return HEAD + "routes:\n" + "\n".join([*routes, every]) + "\n" + upstream


class _Client(asyncio.Protocol):
    """A connection that is kept; one request at a time."""

    def __init__(self, took: list[tuple[float, float]]) -> None:
        self._took = took
        self.began = 0.0
        self._buffer = b""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = transport

    def ask(self) -> None:
        self.began = time.monotonic()
        self._transport.write(REQUEST)  # type: ignore[attr-defined]  # of TCP

    def data_received(self, data: bytes) -> None:
        self._buffer += data
        if self._buffer.endswith(SMALL.encode()):
            self._took.append((self.began, time.monotonic() - self.began))
            self.began, self._buffer = 0.0, b""


async def _ask(mesh: Mesh, over: asyncio.Event) -> list[tuple[float, float]]:
    """A steady pace until told; when each began, and how long it took."""
    took: list[tuple[float, float]] = []
    loop = asyncio.get_running_loop()
    clients = [
        (await loop.create_connection(lambda: _Client(took), mesh.host, mesh.port))[1]
        for _ in range(CONNECTIONS)
    ]
    while not over.is_set():
        for client in clients:
            if not client.began:
                client.ask()
                break
        await asyncio.sleep(PACE_S)
    return took


async def _windows(mesh: Mesh, rounds: int) -> tuple[list[tuple[float, float]], list[Span]]:
    over = asyncio.Event()
    asking = asyncio.ensure_future(_ask(mesh, over))
    spans = []
    for number in range(rounds):
        rested = time.monotonic()
        await asyncio.sleep(REST_S)
        began = time.monotonic()
        await asyncio.to_thread(mesh.reload, text_of(number + 1))
        spans.append(Span(rested, began, time.monotonic()))
    over.set()
    return await asking, spans


class Span(NamedTuple):
    """A rest, and a reload."""

    rested_s: float
    began_s: float
    ended_s: float


def _window(
    took: list[tuple[float, float]], looks: list[tuple[float, ...]], begin_s: float, end_s: float
) -> Window:
    def within(at: float) -> bool:
        return begin_s <= at <= end_s

    times = sorted(t for at, t in took if within(at))
    late = [each[1:] for each in looks if within(each[0])] or [(0.0, 0.0, 0.0)]
    figures = (
        times[len(times) // 2],
        times[len(times) * 999 // 1000],
        times[-1],
        max(late_s - queued_s for late_s, queued_s, _ in late),
        max(work_s for *_, work_s in late),
        max(late_s for late_s, *_ in late),
    )
    return Window(*(figure * 1e3 for figure in figures))


def held(folder: Path, rounds: int) -> tuple[list[Window], list[Window], float]:
    """Of each round the rest and the reload, and how many seconds a reload takes at most."""
    path = folder / "lag"
    os.environ["MESHCORE_BENCH_LAG"] = str(path)
    with Mesh(folder, "many", text_of(0), 1) as mesh:
        took, spans = asyncio.run(_windows(mesh, rounds))
    looks = [tuple(map(float, line.split())) for line in path.read_text().splitlines()]
    rest = [_window(took, looks, s.rested_s, s.began_s) for s in spans]
    busy = [_window(took, looks, s.began_s, s.ended_s) for s in spans]
    return rest, busy, max(s.ended_s - s.began_s for s in spans)
