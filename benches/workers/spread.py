"""How new connections fall to the workers: evenly, and to the others when one is gone."""

from __future__ import annotations

import asyncio
import os
import resource
import signal
import socket
import time
from pathlib import Path

from benches.load.configs import SMALL
from benches.workers.mesh import Mesh, answer_s, connections

CONNECTIONS = 2_000
# A connection begins so often, beside the death of a worker.
PACE_S = 0.002
BEFORE_S, AFTER_S = 0.3, 0.7
TEXT = f"""\
version: 1
drain: 100ms
listeners: {{edge: {{bind: "127.0.0.1:0"}}}}
routes: [{{name: all, respond: {{body: "{SMALL.strip()}\\n"}}}}]
"""


def difference(folder: Path) -> float:
    """By which share of the mean the workers' numbers of connections differ at most."""
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (min(hard, 2 * CONNECTIONS), hard))
    with Mesh(folder, "spread", TEXT, 2) as mesh:
        pids = mesh.workers().values()
        held = [socket.create_connection((mesh.host, mesh.port)) for _ in range(CONNECTIONS)]
        until = time.monotonic() + 10
        while True:
            shares = [connections(pid, mesh.port) for pid in pids]
            if sum(shares) >= CONNECTIONS or time.monotonic() > until:
                break
            time.sleep(0.05)
        for each in held:
            each.close()
        assert sum(shares) == CONNECTIONS, shares
        return (max(shares) - min(shares)) / (CONNECTIONS / 2)


async def _connect(mesh: Mesh, until_s: float, found: list[tuple[float, float]]) -> None:
    """Connect and ask at a steady pace; when each began, and how long it took."""
    running = set()

    async def one() -> None:
        began = time.monotonic()
        try:
            found.append((began, await answer_s(mesh.host, mesh.port)))
        except OSError:
            found.append((began, -1.0))

    while time.monotonic() < until_s:
        task = asyncio.ensure_future(one())
        running.add(task)
        task.add_done_callback(running.discard)
        await asyncio.sleep(PACE_S)
    await asyncio.gather(*running)


async def _killed(mesh: Mesh) -> tuple[float, float]:
    """Milliseconds: the longest before the death, and of those that began after it."""
    victim = mesh.workers()[1]
    found: list[tuple[float, float]] = []
    began = time.monotonic()
    asking = asyncio.ensure_future(_connect(mesh, began + BEFORE_S + AFTER_S, found))
    await asyncio.sleep(BEFORE_S)
    os.kill(victim, signal.SIGKILL)
    died = time.monotonic()
    await asyncio.wait_for(asking, 20)
    before = [took for at, took in found if at + took < died and took >= 0]
    after = [took for at, took in found if at >= died]
    if min(after) < 0:
        raise RuntimeError("a connection that began after the worker's death failed")
    return max(before) * 1e3, max(after) * 1e3


def killed(folder: Path, rounds: int) -> list[tuple[float, float]]:
    """`_killed` so many times."""
    with Mesh(folder, "killed", TEXT, 2) as mesh:
        found = []
        for _ in range(rounds):
            while len(mesh.workers()) < 2:
                time.sleep(0.05)
            found.append(asyncio.run(_killed(mesh)))
        return found
