"""`python -m benches.load`: interleaved rounds, medians, and the bars."""

from __future__ import annotations

import argparse
import contextlib
import shutil
import statistics
import subprocess
import sys
import tempfile
from collections import defaultdict
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

from benches.load import configs
from benches.load.idle import Idle, idle
from benches.load.machine import Load, Process, fixed_rate, free_port, wrk

# The proxy has a core; the load and the origin share the other.
PROXY_CORE, LOAD_CORE = 0, 1


class Scenario(NamedTuple):
    """What is asked, and how much CPU of another proxy's meshcore may take."""

    path: str
    bars: dict[str, float]
    tls: bool = False
    upload_bytes: int = 0
    routes: int = 1
    layered: bool = False


BARS = {"haproxy": 1.1, "envoy": 0.48}
SCENARIOS = {
    "plain": Scenario("/", BARS),
    "layer": Scenario("/", {}, layered=True),
    "tls": Scenario("/", BARS, tls=True),
    "16k": Scenario("/16k", {}),
    "1m": Scenario("/1m", {"haproxy": 0.85}),
    "1m up": Scenario("/", {}, upload_bytes=1 << 20),
    "routes": Scenario("/route/0777/orders", {}, routes=1000),
}
# What a layer in Python may add to a request, in microseconds.
LAYER_BAR_US = 2.0
FIXED_RATE_PER_S = 16_000


class Round(NamedTuple):
    """One proxy in one round of one scenario."""

    load: Load
    user_us: float
    system_us: float

    @property
    def us(self) -> float:
        """CPU of a request, in microseconds."""
        return self.user_us + self.system_us


def prepare(folder: Path) -> None:
    """Files of the origin, and a certificate."""
    (folder / "files").mkdir()
    (folder / "files" / "16k").write_bytes(b"x" * 16384)
    (folder / "files" / "1m").write_bytes(b"x" * (1 << 20))
    new = "openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -days 2 -subj"
    files = ["/CN=localhost", "-keyout", str(folder / "key.pem"), "-out", str(folder / "cert.pem")]
    subprocess.run([*new.split(), *files], check=True, capture_output=True)
    both = (folder / "cert.pem").read_text() + (folder / "key.pem").read_text()
    (folder / "both.pem").write_text(both)


def commands(folder: Path, ports: configs.Ports, name: str) -> list[str]:
    """Write a proxy's configuration; gives how it is started."""
    text = {
        "meshcore": configs.meshcore,
        "haproxy": configs.haproxy,
        "nginx": configs.nginx,
        "envoy": configs.envoy,
    }[name](ports)
    file = folder / f"{name}.yaml"
    file.write_text(text)
    return {
        "meshcore": [sys.executable, "-m", "meshcore", "run", str(file)],
        "haproxy": ["haproxy", "-db", "-f", str(file)],
        "nginx": ["nginx", "-c", str(file)],
        "envoy": [
            *(str(Path(sys.executable).with_name("envoy")), "-c", str(file)),
            *("--concurrency", "1", "--log-level", "critical"),
        ],
    }[name]


def present() -> list[str]:
    """The proxies that can be started here; says which cannot."""
    names = ["meshcore"]
    for name in ("haproxy", "nginx", "envoy"):
        if shutil.which(name) or Path(sys.executable).with_name(name).exists():
            names.append(name)
        else:
            print(f"missing: {name}; its column is left out")
    return names


def measure(process: Process, ports: configs.Ports, what: Scenario, run: Run) -> Round:
    """One round."""
    scheme, port = ("https", ports.tls) if what.tls else ("http", ports.plain)
    port = ports.layered if what.layered else port
    script = None
    if what.upload_bytes:
        script = f"{ports.folder}/upload.lua"
        body = f'wrk.method = "POST"\nwrk.body = string.rep("x", {what.upload_bytes})\n'
        Path(script).write_text(body)
    before = process.cpu()
    load = wrk(f"{scheme}://127.0.0.1:{port}{what.path}", run.seconds, LOAD_CORE, script)
    cpu = process.cpu().since(before)
    each = 1e6 / load.requests
    return Round(load, cpu.user_s * each, cpu.system_s * each)


Started = list[tuple[Process, configs.Ports]]


class Run(NamedTuple):
    """How much is measured."""

    rounds: int
    seconds: int
    only: list[str]


@contextlib.contextmanager
def proxies(folder: Path, routes: int) -> Iterator[Started]:
    """The origin on one core, and every proxy on the other."""
    with contextlib.ExitStack() as stack:
        origin = free_port()
        file = folder / "origin.conf"
        file.write_text(configs.origin(origin, str(folder)))
        stack.enter_context(Process("origin", ["nginx", "-c", str(file)], origin, LOAD_CORE))
        started = []
        for name in present():
            free = (free_port(), free_port(), free_port())
            ports = configs.Ports(*free, origin, str(folder), routes)
            command = commands(folder, ports, name)
            process = stack.enter_context(Process(name, command, ports.plain, PROXY_CORE))
            started.append((process, ports))
        yield started


def memory(started: Started) -> None:
    """Resident memory before any load, and of idle connections."""
    print(f"{'':9} base MiB   KiB per idle connection (left after close): plain, TLS")
    for process, ports in started:
        base = process.rss_kib() / 1024
        cells = []
        for tls in (False, True):
            held = idle(process, ports, tls)
            verdict = f" {_verdict(held, 32 if tls else 4)}" if process.name == "meshcore" else ""
            cells.append(f"{held.open_kib:6.1f} ({held.closed_kib:.1f}){verdict}")
        verdict = f" <= 40 {_said(base <= 40)}" if process.name == "meshcore" else ""
        print(f"{process.name:9} {base:8.1f}{verdict} {'  '.join(cells)}")


def _verdict(held: Idle, bar_kib: float) -> str:
    kept = held.open_kib <= bar_kib and held.closed_kib <= bar_kib / 4
    return f"<= {bar_kib} {_said(kept)}"


def rounds(started: Started, run: Run) -> dict[str, dict[str, list[Round]]]:
    """Every scenario and proxy, one after the other in each round."""
    found: dict[str, dict[str, list[Round]]] = defaultdict(lambda: defaultdict(list))
    keys = [key for key in run.only if SCENARIOS[key].routes == started[0][1].routes]
    for key in keys:
        for i in range(run.rounds + 1):
            for process, ports in started:
                if SCENARIOS[key].layered and process.name != "meshcore":
                    continue
                result = measure(process, ports, SCENARIOS[key], run)
                if i:  # the first warms up
                    found[key][process.name].append(result)
    return found


def fixed(started: Started, run: Run) -> None:
    """Latency at a rate that leaves every proxy room, as the client sees it."""
    print(f"\nat {FIXED_RATE_PER_S} requests/s: p50 ms, p99 ms (median of the rounds)")
    found: dict[str, list[tuple[float, float]]] = defaultdict(list)
    for _ in range(run.rounds):
        for process, ports in started:
            url = f"http://127.0.0.1:{ports.plain}/"
            found[process.name].append(fixed_rate(url, FIXED_RATE_PER_S, run.seconds, LOAD_CORE))
    for name, pairs in found.items():
        middle = [statistics.median(each) for each in zip(*pairs, strict=True)]
        print(f"{name:9} {middle[0]:6.2f} {middle[1]:6.2f}")


def _ratio(ours: list[Round], theirs: list[Round]) -> float:
    return statistics.median(a.us / b.us for a, b in zip(ours, theirs, strict=True))


def report(found: dict[str, dict[str, list[Round]]]) -> None:
    """A line for each proxy and scenario, and the bars by the median of ratios."""
    for key, by in found.items():
        print(f"\n{key:6} {'us/request':>10} {'user':>6} {'sys':>6} {'req/s':>8} p50 ms p99 ms")
        for name, results in by.items():
            middle = sorted(results, key=lambda r: r.us)[len(results) // 2]
            print(
                f"{name:9} {middle.us:7.2f} {middle.user_us:6.2f} {middle.system_us:6.2f} "
                f"{middle.load.per_second:8.0f} {middle.load.p50_ms:6.2f} {middle.load.p99_ms:6.2f}"
            )
        for peer, bar in SCENARIOS[key].bars.items():
            if peer in by:
                ratio = _ratio(by["meshcore"], by[peer])
                print(f"  meshcore / {peer}: {ratio:.2f} <= {bar} {_said(ratio <= bar)}")
    if {"layer", "plain"} <= found.keys():
        pairs = zip(found["layer"]["meshcore"], found["plain"]["meshcore"], strict=True)
        added = statistics.median(layer.us - plain.us for layer, plain in pairs)
        verdict = _said(added <= LAYER_BAR_US)
        print(f"\na layer in Python adds {added:.2f} us <= {LAYER_BAR_US} {verdict}")


def _said(kept: bool) -> str:
    return "ok" if kept else "MISSED"


def main() -> None:
    """Parse, run, print."""
    parser = argparse.ArgumentParser(prog="benches.load", description=__doc__)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--seconds", type=int, default=4)
    parser.add_argument("--only", nargs="+", choices=list(SCENARIOS), default=list(SCENARIOS))
    asked = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="meshcore-load-") as folder:
        Path(folder).chmod(0o755)  # nginx reads its files as another user
        prepare(Path(folder))
        run = Run(asked.rounds, asked.seconds, asked.only)
        for routes in sorted({SCENARIOS[key].routes for key in run.only}):
            with proxies(Path(folder), routes) as started:
                if routes == 1:
                    memory(started)
                    fixed(started, run)
                report(rounds(started, run))


if __name__ == "__main__":
    main()
