"""What a request costs with one worker and with two, at one rate of an open loop."""

from __future__ import annotations

import contextlib
import statistics
import subprocess
import sys
from collections import defaultdict
from pathlib import Path
from typing import NamedTuple

from benches.workers.mesh import Mesh, Nginx, core_s, nginx_origin, nginx_proxy, waits
from benches.workers.steady import NOT_KEPT

Proxy = Mesh | Nginx


RATE_PER_S = 3_000
CONFIG = """\
version: 1
drain: 100ms
listeners: {{edge: {{bind: "127.0.0.1:0"}}}}
routes: [{{name: all, upstream: api}}]
upstreams: {{api: {{endpoints: ["127.0.0.1:{port}"]}}}}
"""


class Cost(NamedTuple):
    """Microseconds of a request, of the workers and of control, and how often a worker waited."""

    workers_us: float
    control_us: float
    waits: float


class Costs(NamedTuple):
    """Medians of the rounds, and of the rounds' ratios."""

    one: Cost
    two: Cost
    ratio: float


def _load(proxy: Proxy, seconds: int, per_second: int) -> int:
    """How many requests were answered; 0 when the rate was not kept, raises when one failed."""
    command = [sys.executable, "-m", "benches.workers.steady", proxy.host, str(proxy.port)]
    command += [str(per_second), str(seconds)]
    ended = subprocess.run(command, capture_output=True, text=True, check=False)
    if ended.returncode == NOT_KEPT:
        return 0
    if ended.returncode:
        raise RuntimeError(ended.stderr)
    return int(ended.stdout)


def _measure(proxy: Proxy, seconds: int, per_second: int) -> Cost:
    workers = [*proxy.workers().values()]
    waited = sum(map(waits, workers))
    before = [core_s(pid) for pid in (*workers, proxy.control)]
    requests = _load(proxy, seconds, per_second)
    after = [core_s(pid) for pid in (*workers, proxy.control)]
    *spent, control = [b - a for a, b in zip(before, after, strict=True)]
    waited = sum(map(waits, workers)) - waited
    if not requests:  # others had the machine: once more
        return _measure(proxy, seconds, per_second)
    return Cost(sum(spent) / requests * 1e6, control / requests * 1e6, waited / requests)


def _middle(costs: list[Cost]) -> Cost:
    return Cost(*(statistics.median(each) for each in zip(*costs, strict=True)))


def _costs(ones: list[Cost], twos: list[Cost]) -> Costs:
    ratio = statistics.median(
        two.workers_us / one.workers_us for one, two in zip(ones, twos, strict=True)
    )
    return Costs(_middle(ones), _middle(twos), ratio)


def cost(folder: Path, rounds: int, seconds: int) -> dict[str, Costs]:
    """All take their turn in each round; the first warms up."""
    found: dict[tuple[str, int], list[Cost]] = defaultdict(list)
    with nginx_origin(folder) as origin, contextlib.ExitStack() as stack:
        text = CONFIG.format(port=origin.port)
        turns: list[tuple[str, int, Proxy]] = []
        for workers in (1, 2):
            mesh = stack.enter_context(Mesh(folder, f"mesh{workers}", text, workers))
            peer = nginx_proxy(folder, f"nginx{workers}", origin.port, workers)
            turns.append((f"meshcore {workers}", RATE_PER_S, mesh))
            # As much for each worker as the others have: half with one, twice with two.
            other = RATE_PER_S * workers if workers > 1 else RATE_PER_S // 2
            turns.append((f"meshcore {workers}", other, mesh))
            turns.append((f"nginx {workers}", RATE_PER_S, stack.enter_context(peer)))
        for number in range(rounds + 1):
            for name, rate, proxy in turns if number % 2 else reversed(turns):
                measured = _measure(proxy, seconds, rate)
                if number:
                    found[name, rate].append(measured)
    one = found["meshcore 1", RATE_PER_S]
    return {
        "same rate": _costs(one, found["meshcore 2", RATE_PER_S]),
        "same rate for each": _costs(one, found["meshcore 2", 2 * RATE_PER_S]),
        "at half the rate": _costs(
            found["meshcore 1", RATE_PER_S // 2], found["meshcore 2", RATE_PER_S]
        ),
        "nginx, same rate": _costs(found["nginx 1", RATE_PER_S], found["nginx 2", RATE_PER_S]),
    }
