"""What a request costs with one worker and with two, at one rate of an open loop."""

from __future__ import annotations

import statistics
import subprocess
import tempfile
from pathlib import Path
from typing import NamedTuple

from benches.load.h2load import parse_rate
from benches.workers.mesh import Mesh, core_s, nginx

RATE_PER_S = 3_000
CONNECTIONS = 32
CONFIG = """\
version: 1
drain: 100ms
listeners: {{edge: {{bind: "127.0.0.1:0"}}}}
routes: [{{name: all, upstream: api}}]
upstreams: {{api: {{endpoints: ["127.0.0.1:{port}"]}}}}
"""


class Cost(NamedTuple):
    """Microseconds of a request, of the workers and of control."""

    workers_us: float
    control_us: float


class Costs(NamedTuple):
    """Medians of the rounds, and of the rounds' ratios."""

    one: Cost
    two: Cost
    ratio: float


def _load(mesh: Mesh, seconds: int) -> int:
    """How many requests were answered; `ValueError` when one failed or the rate was not kept."""
    each = RATE_PER_S // CONNECTIONS
    with tempfile.NamedTemporaryFile(mode="r") as log:
        command = ["h2load", "-t1", "--h1", f"-c{CONNECTIONS}", "--rps", str(each)]
        command += ["-D", str(seconds), "--log-file", log.name]
        url = f"http://{mesh.host}:{mesh.port}/"
        subprocess.run([*command, url], capture_output=True, check=True)
        text = log.read()
    parse_rate(text, each * CONNECTIONS * seconds)
    return text.count("\n")


def _measure(mesh: Mesh, seconds: int) -> Cost:
    workers = [*mesh.workers().values()]
    before = [core_s(pid) for pid in (*workers, mesh.control)]
    requests = _load(mesh, seconds)
    after = [core_s(pid) for pid in (*workers, mesh.control)]
    *spent, control = [b - a for a, b in zip(before, after, strict=True)]
    return Cost(sum(spent) / requests * 1e6, control / requests * 1e6)


def _middle(costs: list[Cost]) -> Cost:
    return Cost(*(statistics.median(each) for each in zip(*costs, strict=True)))


def cost(folder: Path, rounds: int, seconds: int) -> Costs:
    """Both take their turn in each round; the first warms up."""
    with nginx(folder) as port:
        text = CONFIG.format(port=port)
        with Mesh(folder, "one", text, 1) as one, Mesh(folder, "two", text, 2) as two:
            pairs = []
            for number in range(rounds + 1):
                order = (one, two) if number % 2 else (two, one)
                by = {mesh: _measure(mesh, seconds) for mesh in order}
                pairs.append((by[one], by[two]))
    pairs = pairs[1:]
    ratio = statistics.median(b.workers_us / a.workers_us for a, b in pairs)
    return Costs(_middle([a for a, _ in pairs]), _middle([b for _, b in pairs]), ratio)
