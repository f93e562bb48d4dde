"""What is printed: the figures, and the bars by the median of the rounds' ratios."""

from __future__ import annotations

import statistics
from typing import NamedTuple

from benches.load.idle import Idle, idle
from benches.load.machine import Load
from benches.load.proxies import Started
from benches.load.scenarios import LAYER_BAR_US, P99_BAR, P99_PEER, SCENARIOS

OURS = "meshcore"
BARE = "bare"
"""The same without what a scenario is about."""


class Round(NamedTuple):
    """One proxy in one round of one scenario."""

    load: Load
    user_us: float
    system_us: float

    @property
    def us(self) -> float:
        """CPU of a request, in microseconds."""
        return self.user_us + self.system_us


Held = dict[str, Idle]


def _said(kept: bool) -> str:
    return "ok" if kept else "MISSED"


def _cell(held: Idle, bar: str, kept: bool) -> str:
    """What an open connection holds, what is left of it, and, for ours, the bar."""
    verdict = f" {bar} {_said(kept)}" if bar else ""
    return f"{held.open_kib:6.1f} ({held.closed_kib:.1f}){verdict}"


def memory(started: Started) -> None:
    """Resident memory before any load, and of connections."""
    print(f"{'':9} base MiB   KiB per idle connection (left after close): plain, TLS")
    for process, ports in started:
        ours = process.name == OURS
        base = process.rss_kib() / 1024
        verdict = f" <= 40 {_said(base <= 40)}" if ours else ""
        cells = []
        for tls, bar in ((False, 4), (True, 32)):
            held = idle(process, ports, tls)
            kept = held.open_kib <= bar and held.closed_kib <= bar / 4
            cells.append(_cell(held, f"<= {bar}" if ours else "", kept))
        print(f"{process.name:9} {base:8.1f}{verdict} {'  '.join(cells)}")


def memory_h2(once: Held, busy: Held) -> None:
    """Resident memory of connections of HTTP/2: what idle ones hold, what busy ones leave."""
    print(f"\n{'':9} KiB per HTTP/2 connection (left after close): idle, that had 20 streams")
    for name, idle_ones in once.items():
        bars = ("<= 16", "left <= 6") if name == OURS else ("", "")
        first = _cell(idle_ones, bars[0], idle_ones.open_kib <= 16)
        second = _cell(busy[name], bars[1], busy[name].closed_kib <= 6)
        print(f"{name:9} {first}  {second}")


def latency(found: dict[str, list[tuple[float, float]]], per_second: int) -> None:
    """The middle of the rounds at a fixed rate."""
    print(f"\nat {per_second} requests/s: p50 ms, p99 ms (median of the rounds)")
    for name, pairs in found.items():
        middle = [statistics.median(each) for each in zip(*pairs, strict=True)]
        print(f"{name:9} {middle[0]:6.2f} {middle[1]:6.2f}")
    if OURS in found and P99_PEER in found:
        both = zip(found[OURS], found[P99_PEER], strict=True)
        ratio = statistics.median(ours[1] / theirs[1] for ours, theirs in both)
        said = _said(ratio <= P99_BAR)
        print(f"  p99, {OURS} / {P99_PEER}: {ratio:.2f} <= {P99_BAR} {said}")


def _ratio(ours: list[Round], theirs: list[Round]) -> float:
    return statistics.median(a.us / b.us for a, b in zip(ours, theirs, strict=True))


def report(key: str, by: dict[str, list[Round]]) -> None:
    """A line for each proxy of a scenario, and its bars."""
    print(f"\n{key:9} us/request {'user':>9} {'sys':>9} {'req/s':>8}  p50 ms  p99 ms")
    for name, results in by.items():
        middle = sorted(results, key=lambda r: r.us)[len(results) // 2]
        load = middle.load
        print(
            f"{name:9} {middle.us:10.2f} {middle.user_us:9.2f} {middle.system_us:9.2f} "
            f"{load.per_second:8.0f} {load.p50_ms:7.2f} {load.p99_ms:7.2f}"
        )
    for peer, bar in SCENARIOS[key].bars.items():
        if OURS in by and peer in by:
            ratio = _ratio(by[OURS], by[peer])
            print(f"  {OURS} / {peer}: {ratio:.2f} <= {bar} {_said(ratio <= bar)}")
    if BARE in by:
        _report_added(by[OURS], by[BARE])


def _report_added(layered: list[Round], bare: list[Round]) -> None:
    """What a layer in Python adds: the middle of the rounds' differences, and their middle half."""
    added = sorted(a.us - b.us for a, b in zip(layered, bare, strict=True))
    quarter = len(added) // 4
    middle = statistics.median(added)
    spread = f"{added[quarter]:.2f} to {added[-1 - quarter]:.2f}"
    user = statistics.median(a.user_us - b.user_us for a, b in zip(layered, bare, strict=True))
    said = _said(middle <= LAYER_BAR_US)
    print(f"  a layer in Python adds {middle:.2f} us ({spread}; user {user:.2f})", end="")
    print(f" <= {LAYER_BAR_US} {said}")
