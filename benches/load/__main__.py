"""`python -m benches.load`: interleaved rounds, medians, and the bars."""

from __future__ import annotations

import argparse
import tempfile
from collections import defaultdict
from pathlib import Path
from typing import NamedTuple

from benches.load import configs, h2load
from benches.load.h2_client import carries_grpc
from benches.load.idle import allow_files, busy_h2, idle_h2
from benches.load.machine import Load, Process, ab, wrk
from benches.load.proxies import Started, prepare, proxies
from benches.load.report import BARE, Round, latency, memory, memory_h2, report
from benches.load.scenarios import PROXIES, SCENARIOS, Scenario, Streams

FIXED_RATES_PER_S = (2_000, 16_000)
# Beside the scenarios: resident memory by protocol, and latency at the fixed rates.
ASIDE = ("memory", "memory h2", "latency")


class Run(NamedTuple):
    """How much is measured."""

    rounds: int
    seconds: int
    only: list[str]
    without: list[str]


def _over_h1(ports: configs.Ports, what: Scenario, seconds: int) -> Load:
    scheme, port = ("https", ports.tls) if what.tls else ("http", ports.plain)
    port = ports.layered if what.layered else port
    url = f"{scheme}://127.0.0.1:{port}{what.path}"
    if what.full:
        return ab(url, seconds)
    script = None
    lines = []
    if what.upload_bytes:
        lines += ['wrk.method = "POST"', f'wrk.body = string.rep("x", {what.upload_bytes})']
    if what.closes:
        lines += ['wrk.headers["Connection"] = "close"']
    if lines:
        script = f"{ports.folder}/asks.lua"
        Path(script).write_text("\n".join(lines))
    return wrk(url, seconds, script)


def _over_h2(ports: configs.Ports, path: str, asked: Streams, seconds: int) -> Load:
    url = f"http://127.0.0.1:{ports.h2}{path}"
    return h2load.closed_loop(url, asked, seconds, ports.folder)


def measure(process: Process, ports: configs.Ports, what: Scenario, run: Run) -> Round:
    """One round."""
    if what.h2 is not None and what.h2.grpc:
        carries_grpc(ports.h2, what.path)
    before = process.cpu()
    if what.h2 is None:
        load = _over_h1(ports, what, run.seconds)
    else:
        load = _over_h2(ports, what.path, what.h2, run.seconds)
    cpu = process.cpu().since(before)
    each = 1e6 / load.requests
    return Round(load, cpu.user_s * each, cpu.system_s * each)


def rounds(started: Started, what: Scenario, run: Run) -> dict[str, list[Round]]:
    """One scenario, every proxy after the other in each round."""
    found: dict[str, list[Round]] = defaultdict(list)
    for i in range(run.rounds + 1):
        for process, ports in started:
            if process.name not in what.proxies:
                continue
            for name, each in _in_turn(process.name, what, i):
                result = measure(process, ports, each, run)
                if i:  # the first warms up
                    found[name].append(result)
    return found


def _in_turn(name: str, what: Scenario, i: int) -> list[tuple[str, Scenario]]:
    """What a proxy is asked in a round: one with a layer beside the same without it, each first in
    every second round, since a difference of other minutes is the machine's."""
    if not what.layered:
        return [(name, what)]
    both = [(name, what), (BARE, what._replace(layered=False))]
    return both[:: 1 if i % 2 else -1]


def fixed(started: Started, run: Run, per_second: int) -> None:
    """Latency at a rate that leaves every proxy room, as the client sees it."""
    found: dict[str, list[tuple[float, float]]] = defaultdict(list)
    for _ in range(run.rounds):
        for process, ports in started:
            url = f"http://127.0.0.1:{ports.plain}/"
            found[process.name].append(h2load.fixed_rate(url, per_second, run.seconds))
    latency(found, per_second)


def held_h2(folder: Path, run: Run) -> None:
    """Memory over HTTP/2, each time of proxies started anew: what one test left, the next uses."""
    with proxies(folder, 1, run.without) as started:
        once = {process.name: idle_h2(process, ports) for process, ports in started}
    with proxies(folder, 1, run.without) as started:
        busy = {process.name: busy_h2(process, ports) for process, ports in started}
    memory_h2(once, busy)


def _run(folder: Path, run: Run) -> None:
    """Everything asked for, with the proxies started anew for each number of routes."""
    numbers = {what.routes for key, what in SCENARIOS.items() if key in run.only}
    for routes in sorted(numbers | ({1} if {"memory", "latency"} & set(run.only) else set())):
        with proxies(folder, routes, run.without) as started:
            if routes == 1 and "memory" in run.only:
                memory(started)
            if routes == 1 and "latency" in run.only:
                for per_second in FIXED_RATES_PER_S:
                    fixed(started, run, per_second)
            _scenarios(started, run, routes)
    if "memory h2" in run.only:
        held_h2(folder, run)


def _scenarios(started: Started, run: Run, routes: int) -> None:
    """Those asked for with so many routes; each is printed at once, the next may fail."""
    for key in run.only:
        if key in SCENARIOS and SCENARIOS[key].routes == routes:
            found = rounds(started, SCENARIOS[key], run)
            if found:
                report(key, found)


def main() -> None:
    """Parse, run, print."""
    parser = argparse.ArgumentParser(prog="benches.load", description=__doc__)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--seconds", type=int, default=4)
    keys = [*ASIDE, *SCENARIOS]
    parser.add_argument("--only", nargs="+", choices=keys, default=keys)
    parser.add_argument("--without", nargs="+", choices=PROXIES, default=[])
    asked = parser.parse_args()
    allow_files()
    with tempfile.TemporaryDirectory(prefix="meshcore-load-") as folder:
        Path(folder).chmod(0o755)  # nginx reads its files as another user
        prepare(Path(folder))
        _run(Path(folder), Run(asked.rounds, asked.seconds, asked.only, asked.without))


if __name__ == "__main__":
    main()
