"""`python -m benches.workers`: the bars of several workers, one after the other."""

from __future__ import annotations

import argparse
import statistics
import tempfile
from collections.abc import Callable
from pathlib import Path

from benches.workers import bucket, cost, reload, spread

NAMES = ("bucket", "pairs", "cost", "reload", "spread", "killed")


def bar(what: str, figure: float, sign: str, limit: float, unit: str = "x") -> None:
    """One line."""
    met = figure <= limit if sign == "<=" else figure >= limit
    verdict = "ok" if met else "MISSED"
    print(f"{what:56} {figure:8.2f} {unit:2} {sign} {limit:<5g} {verdict}", flush=True)


def _bucket(_: Path, rounds: int, __: int) -> None:
    found = bucket.uncontended(rounds)
    bar("bucket: shared / of the process, uncontended", found.ratio, "<=", 1.2)
    print(f"  {found.shared_ns:.1f} ns, {found.private_ns:.1f} ns")


def _pairs(_: Path, rounds: int, __: int) -> None:
    found = bucket.contended(rounds)
    bar("bucket: speed of two processes / of two threads", found.ratio, ">=", 0.8)
    print(f"  {found.processes_per_us:.1f}, {found.threads_per_us:.1f} operations/us")
    bar("bucket: admitted beyond its burst", found.over, "<=", 0, "")


def _cost(folder: Path, rounds: int, seconds: int) -> None:
    for name, each in cost.cost(folder, rounds, seconds).items():
        what = f"CPU of a request, two workers / one: {name}"
        if name.startswith("nginx"):
            print(f"{what:56} {each.ratio:8.2f} x")
        else:
            bar(what, each.ratio, "<=", 1.1)
        for number, of in (("one worker", each.one), ("two workers", each.two)):
            print(
                f"  {number}: {of.workers_us:.1f} us, {of.control_us:.2f} us of control, "
                f"{of.waits:.2f} waits of a loop"
            )


def _reload(folder: Path, rounds: int, _: int) -> None:
    rest, busy, took_s = reload.held(folder, rounds)
    longest_ms = statistics.median(each.loop_ms for each in busy)
    bar("reload of 10,000 hosts: the loop stands still", longest_ms, "<=", 5, "ms")
    print(f"  at most {took_s:.1f} s for a reload; below, the middle round and the worst:")
    for name, of in (("at rest", rest), ("reloading", busy)):
        figures = [
            f"{what} {statistics.median(found):.2f} {max(found):.2f}"
            for what, found in zip(reload.SAYS, zip(*of, strict=True), strict=True)
        ]
        print(f"  {name}, ms: " + ", ".join(figures))


def _spread(folder: Path, rounds: int, _: int) -> None:
    found = max(spread.difference(folder) for _ in range(rounds))
    what = f"difference of the workers' shares of {spread.CONNECTIONS:,} connections"
    bar(what, found * 100, "<=", 15, "%")


def _killed(folder: Path, rounds: int, _: int) -> None:
    found = spread.killed(folder, rounds)
    longest = max(after for _, after in found)
    bar("from connecting to an answer beside a worker's death", longest, "<=", 100, "ms")
    print("  before / after: " + ", ".join(f"{b:.0f} / {a:.0f} ms" for b, a in found))


BARS: dict[str, Callable[[Path, int, int], None]] = dict(
    zip(NAMES, (_bucket, _pairs, _cost, _reload, _spread, _killed), strict=True)
)


def main() -> None:
    """Parse, run, print."""
    parser = argparse.ArgumentParser(prog="benches.workers", description=__doc__)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--seconds", type=int, default=3)
    parser.add_argument("--only", nargs="+", choices=NAMES, default=NAMES)
    asked = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="meshcore-workers-") as folder:
        Path(folder).chmod(0o755)  # nginx reads its files as another user
        for name in asked.only:
            BARS[name](Path(folder), asked.rounds, asked.seconds)


if __name__ == "__main__":
    main()
