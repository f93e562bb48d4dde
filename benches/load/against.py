"""`python -m benches.load.against BASE`: this tree beside another checkout of it, CPU per request.

Both are started on one core and asked in turns: a round of one, a round of the other. What is
printed is the median of the rounds' ratios, since the machine's speed moves between rounds and not
within one. `BASE` is a checkout in which `make install` was run. Then this tree with its access log
as JSON beside itself without, for what a line costs.
"""

from __future__ import annotations

import argparse
import contextlib
import statistics
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

from benches.load import configs
from benches.load.__main__ import Run, measure
from benches.load.idle import allow_files
from benches.load.machine import PROXY_CORE, Process, free_port
from benches.load.proxies import KEYS as CERTIFICATE_KEYS
from benches.load.proxies import origins, prepare
from benches.load.report import Round
from benches.load.scenarios import SCENARIOS

BAR = 1.03
LOG_BAR_US = 2.0
KEYS = (
    "plain",
    "layer",
    "16k",
    "1m",
    "1m up",
    "h2 8x16",
    "h2 h2",
    "grpc",
    "tls",
    "tls 1m",
    "tls 1m up",
    "handshake",
    "resumption",
)
# Of those that were to become cheaper, beside a tree before TLS was the core's.
BARS = {"tls": 0.93, "tls 1m": 0.75, "tls 1m up": 0.75, "handshake": 0.55}
# By the kind of the certificate's key, where it differs.
KEY_BARS = {"rsa": {"handshake": 0.8}}
# Told apart from the configuration's other words.
LOGGED = "access_log: json\n"


@contextlib.contextmanager
def _started(folder: Path, trees: dict[str, tuple[str, str]]) -> Iterator[dict[str, Side]]:
    """A proxy for each name: what runs it, and what is added to its configuration."""
    with contextlib.ExitStack() as stack:
        made = origins(folder, stack)
        sides = {}
        for name, (python, more) in trees.items():
            plain = free_port()
            ports = configs.Ports(plain, free_port(), free_port(), plain, made, str(folder), 1)
            file = folder / f"{name}.yaml"
            file.write_text(configs.meshcore(ports) + more)
            command = [python, "-m", "meshcore", "run", str(file), "--workers", "1"]
            sides[name] = stack.enter_context(Process(name, command, plain, PROXY_CORE)), ports
        yield sides


Side = tuple[Process, configs.Ports]
Pairs = list[tuple[Round, Round]]


def _pairs(sides: dict[str, Side], key: str, run: Run) -> Pairs:
    """The first, which warms up, is dropped; who begins a round changes."""
    (first, second), pairs = sides.values(), []
    for number in range(run.rounds + 1):
        order = (first, second) if number % 2 else (second, first)
        by = {id(side): measure(*side, SCENARIOS[key], run) for side in order}
        pairs.append((by[id(first)], by[id(second)]))
    return pairs[1:]


def _said(kept: bool) -> str:
    return "ok" if kept else "MISSED"


def against(folder: Path, base: Path, run: Run, bars: dict[str, float]) -> None:
    """This tree and the other one, by scenario."""
    trees = {"base": (str(base / ".venv/bin/python"), ""), "this": (sys.executable, "")}
    with _started(folder, trees) as sides:
        print(f"{'':9} base us  this us  this / base (of each round)")
        for key in run.only:
            pairs = _pairs(sides, key, run)
            ratios = sorted(this.us / base.us for base, this in pairs)
            middle, bar = statistics.median(ratios), bars.get(key, BAR)
            base_us, this_us = (
                statistics.median(r.us for r in side) for side in zip(*pairs, strict=True)
            )
            print(
                f"{key:9} {base_us:7.2f} {this_us:8.2f}  {middle:.3f} "
                f"({ratios[0]:.3f} to {ratios[-1]:.3f}) <= {bar} {_said(middle <= bar)}",
                flush=True,
            )


def logged(folder: Path, run: Run) -> None:
    """What a line of the access log costs."""
    trees = {"off": (sys.executable, ""), "json": (sys.executable, LOGGED)}
    with _started(folder, trees) as sides:
        added = sorted(log.us - off.us for off, log in _pairs(sides, "plain", run))
    middle = statistics.median(added)
    print(
        f"\nthe access log adds {middle:.2f} us ({added[0]:.2f} to {added[-1]:.2f}) "
        f"<= {LOG_BAR_US} {_said(middle <= LOG_BAR_US)}"
    )


def main() -> None:
    """Parse, run, print."""
    parser = argparse.ArgumentParser(prog="benches.load.against", description=__doc__)
    parser.add_argument("base", type=Path)
    parser.add_argument("--rounds", type=int, default=8)
    parser.add_argument("--seconds", type=int, default=2)
    parser.add_argument("--only", nargs="+", choices=[*KEYS, "log"], default=[*KEYS, "log"])
    parser.add_argument(
        "--key", choices=CERTIFICATE_KEYS, default="ecdsa", help="certificate's key"
    )
    asked = parser.parse_args()
    allow_files()
    keys = [key for key in asked.only if key != "log"]
    run = Run(asked.rounds, asked.seconds, keys, [])
    with tempfile.TemporaryDirectory(prefix="meshcore-against-") as folder:
        Path(folder).chmod(0o755)  # nginx reads its files as another user
        prepare(Path(folder), asked.key)
        if keys:
            against(Path(folder), asked.base, run, BARS | KEY_BARS.get(asked.key, {}))
        if "log" in asked.only:
            logged(Path(folder), run)


if __name__ == "__main__":
    main()
