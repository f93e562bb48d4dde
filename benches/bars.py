"""The bars of `make bench`: what `cargo bench` left in the target directory, and the calls through
Python, which are measured here.

Each bar is a time of one call or a ratio to another crate in the same run; a missed one is said,
and is no failure of the run: timings of a shared machine decide nothing by themselves.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

from benches.python import per_call

Times = dict[str, float]


class Bar(NamedTuple):
    """What is measured, how it is judged, and from which benchmarks."""

    what: str
    unit: str
    bar: float
    at_most: bool
    figure: Callable[[Times], float]


def ratio(other: str, ours: str) -> Callable[[Times], float]:
    """How many times the other's time is ours."""
    return lambda times: times[other] / times[ours]


def time(name: str) -> Callable[[Times], float]:
    """Nanoseconds of one call."""
    return lambda times: times[name]


BARS = [
    Bar("breaker: acquire and success, window", "ns", 8, True,
        time("breaker/success/window/meshcore/1t")),
    Bar("bucket: time of governor's, same clock", "x", 1.0, True,
        ratio("bucket/admit/fixed/meshcore/1t", "bucket/admit/fixed/governor/1t")),
    Bar("bucket: refusal", "ns", 2, True, time("bucket/refuse/fixed/meshcore/1t")),
    *(
        Bar(f"clients: speed of governor's keyed, {n:,} ({t})", "x", bar, False,
            ratio(f"clients/{n}/fixed/governor/{t}", f"clients/{n}/fixed/meshcore/{t}"))
        for n, bar in ((10_000, 1.5), (1_000_000, 2.5))
        for t in ("1t", "2t")
    ),
    Bar("exact route: speed of matchit's, 1,000", "x", 2, False,
        ratio("routing/exact/matchit/1000", "routing/exact/meshcore/1000")),
    Bar("exact route, 100,000", "ns", 40, True, time("routing/exact/meshcore/100000")),
    Bar("prefix route: speed of matchit's, 1,000", "x", 1.4, False,
        ratio("routing/prefix/matchit/1000", "routing/prefix/meshcore/1000")),
    Bar("begin: more through Python than in Rust", "ns", 100, True,
        lambda times: times["python/begin"] - times["exchange/begin"]),
    Bar("Python, bucket: speed of limits' fixed window", "x", 20, False,
        ratio("python/limits", "python/bucket")),
    Bar("Python, clients: speed of limits' fixed window", "x", 20, False,
        ratio("python/limits", "python/clients")),
    Bar("Python, breaker.call: speed of pybreaker's", "x", 20, False,
        ratio("python/pybreaker/call", "python/breaker/call")),
    Bar("Python, with breaker: speed of pybreaker's", "x", 20, False,
        ratio("python/pybreaker/with", "python/breaker/with")),
    Bar("1,000 regexes", "ns", 400, True, time("routing/regex/meshcore/1000")),
]  # fmt: skip


class Original(NamedTuple):
    """A figure that the project after which this one is made gives for itself, and what is ours."""

    what: str
    millions_per_s: int
    rust: str
    python: str


# One call after the other in one thread. Ours does what a request needs of it: a breaker is entered
# and told of a success that its window counts, a limiter finds one of 10,000 clients by its address
# (in Python always the same), the router finds host and exact path among 1,000.
ORIGINALS = [
    Original("breaker", 52, "breaker/success/window/meshcore/1t", "python/breaker/with"),
    Original("limiter", 20, "clients/10000/fixed/meshcore/1t", "python/clients"),
    Original("router", 30, "routing/exact/meshcore/1000", "python/router"),
]


def times_in(folder: Path) -> Times:
    """Median nanoseconds of one element, by the benchmark's full name."""
    times: Times = {}
    for path in folder.glob("**/new/benchmark.json"):
        about = json.loads(path.read_text())
        estimates = json.loads(path.with_name("estimates.json").read_text())
        elements = (about.get("throughput") or {}).get("Elements", 1)
        times[about["full_id"]] = estimates["median"]["point_estimate"] / elements
    return times


def main() -> int:
    """Print the table; 1 when a benchmark of it did not run."""
    times = times_in(Path(sys.argv[1]) / "criterion") | per_call.times()
    lost = 0
    for bar in BARS:
        sign = "<=" if bar.at_most else ">="
        try:
            figure = bar.figure(times)
        except KeyError as missing:
            lost, verdict, shown = 1, f"did not run: {missing}", "-"
        else:
            met = figure <= bar.bar if bar.at_most else figure >= bar.bar
            verdict, shown = "ok" if met else "MISSED", f"{figure:.2f}"
        print(f"{bar.what:52} {shown:>10} {bar.unit:2} {sign} {bar.bar:<6g} {verdict}")
    print("\nmillions of operations a second: the original's figure, ours in Rust, through Python")
    for original in ORIGINALS:
        try:
            rust, python = (1e3 / times[name] for name in (original.rust, original.python))
        except KeyError as missing:
            lost = 1
            print(f"{original.what:10} did not run: {missing}")
        else:
            print(f"{original.what:10} {original.millions_per_s:6} {rust:8.1f} {python:8.1f}")
    return lost


if __name__ == "__main__":
    sys.exit(main())
