"""Processes that share words are killed wherever they are: no promise is broken for the others.

`HAMMER_SECONDS` says for how long each is hammered; `make hammer` takes a minute.
"""

from __future__ import annotations

import os
import random
import time
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import pytest

import meshcore
from tests.process.hammer import callers
from tests.process.hammer.control import GAUGES, SEGMENT_BYTES, Control
from tests.process.hammer.crowd import SECONDS, START_S, Crowd, Life
from tests.process.hammer.ledger import Events, Ledger

pytestmark = [pytest.mark.alone, pytest.mark.timeout(SECONDS * 3 + 120)]

LIMITING, PROBING = 2, 4
SEED = 7


# --- one bucket, one table, one breaker -----------------------------------------------------------


class Run(NamedTuple):
    """What is known when all are dead."""

    ledger: Ledger
    first_ns: int
    """Before anybody asked."""
    empty: tuple[int, int]
    """Admissions and then the time, when the bucket's first tokens were used up."""
    left: tuple[int, int]
    """The time and then the tokens in the bucket, when all were dead."""
    kills: int
    probes: list[list[Probe]]
    """Of each process that probed, in order."""


class Probe(NamedTuple):
    """A permit of the breaker, as its holder noted it."""

    asked_ns: int
    got_ns: int
    settling_ns: int
    """When it began to say how it went; if it was killed before, when that was seen."""
    settled_ns: int
    failed: bool
    how: str
    """``done``; ``lost``: killed before it had begun to say how it went; ``unsure``: meanwhile."""


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Run]:
    folder = tmp_path_factory.mktemp("hammer")
    name = f"hammer-{os.getpid()}-{time.monotonic_ns()}"
    state = meshcore.SharedState(name)
    try:
        yield hammered(folder, name, state)
    finally:
        meshcore.SharedState.unlink(name)


def hammered(folder: Path, name: str, state: meshcore.SharedState) -> Run:
    bucket = callers.bucket_of(state)
    callers.breaker_of(state).force_open("2s")
    ledger = Ledger(folder / "ledger", callers.COUNTS)

    def command(seat: int, number: int) -> list[str]:
        kind = "limit" if seat < LIMITING else "probe"
        return ["tests.process.hammer.callers", kind, name, str(folder), str(seat), str(number)]

    first_ns = time.monotonic_ns()
    with Crowd(command, LIMITING + PROBING) as crowd:
        while (admitted := ledger.sum(callers.ADMITTED)) < callers.BUCKET[1]:
            assert time.monotonic_ns() < first_ns + START_S * 1e9, admitted
            time.sleep(0.01)
        empty = admitted, time.monotonic_ns()
        kills = crowd.hammer(random.Random(SEED), SECONDS)
    left = time.monotonic_ns(), bucket.remaining
    probes = [list(probes_of(folder, life)) for life in crowd.lives if life.seat >= LIMITING]
    return Run(ledger, first_ns, empty, left, kills + LIMITING + PROBING, probes)


def probes_of(folder: Path, life: Life) -> Iterator[Probe]:
    asked = got = 0
    settling: tuple[int, bool] | None = None
    for what, at_ns in Events.read(folder / f"{life.number}.events"):
        if what == callers.ASKED:
            asked = at_ns
        elif what == callers.GOT:
            got = at_ns
        elif what in (callers.SUCCEEDING, callers.FAILING):
            settling = at_ns, what == callers.FAILING
        elif settling is not None:
            yield Probe(asked, got, settling[0], at_ns, failed=settling[1], how="done")
            asked = got = 0
            settling = None
    if settling is not None:
        yield Probe(asked, got, settling[0], life.killed_ns, failed=settling[1], how="unsure")
    elif got:
        yield Probe(asked, got, life.killed_ns, life.killed_ns, failed=False, how="lost")


def test_a_bucket_admits_what_its_rate_allows(run: Run) -> None:
    rate, burst = 500 / 1e9, callers.BUCKET[1]
    admitted = run.ledger.sum(callers.ADMITTED)
    assert admitted <= burst + rate * (run.left[0] - run.first_ns) + 1
    # And no less: what was neither admitted nor is left, the killed took with them.
    since, tokens = admitted - run.empty[0], rate * (run.left[0] - run.empty[1])
    assert since + run.left[1] + 1 + run.kills >= tokens


def test_each_client_is_admitted_what_its_rate_allows(run: Run) -> None:
    rate, burst = 200 / 1e9, callers.CLIENT[1]
    most = burst + rate * (run.left[0] - run.first_ns) + run.kills + 1
    for number in range(len(callers.CLIENTS)):
        assert 0 < run.ledger.sum(callers.FIRST_CLIENT + number) <= most


def test_no_more_probes_are_out_than_may_be(run: Run) -> None:
    probes = [probe for each in run.probes for probe in each]
    failures = [(p.settling_ns, p.settled_ns) for p in probes if p.failed]
    steps: list[tuple[int, int]] = []
    for probe in probes:
        # A place is lost to its holder when the lease is over; all are, when the breaker opens.
        until = probe.got_ns + callers.LEASE_NS
        if probe.how != "lost":
            until = min(until, probe.settling_ns)
        for began, ended in failures:
            if ended > probe.got_ns:
                until = min(until, max(began, probe.got_ns))
        steps += [(probe.got_ns, 1), (until, -1)]
    out = 0
    for _, step in sorted(steps):
        out += step
        assert out <= callers.PROBES


def test_nobody_passes_while_the_breaker_is_open(run: Run) -> None:
    probes = sorted((p for each in run.probes for p in each), key=lambda p: p.got_ns)
    failures = [p for p in probes if p.failed]
    opened = 0
    for failure in failures:
        if failure.how != "done" or any(came_between(failure, p) for p in failures):
            continue
        opened += 1
        until = failure.settling_ns + callers.OPEN_NS * 8 // 10  # a tenth is left to chance
        for probe in probes:
            assert not (failure.settled_ns < probe.asked_ns and probe.got_ns < until)
    assert opened > 1


def came_between(failure: Probe, other: Probe) -> bool:
    """Whether a failure may have come late, when another had opened the breaker already."""
    return (
        other is not failure
        and other.settling_ns < failure.settled_ns
        and other.settled_ns > failure.asked_ns
    )


def test_probing_goes_on_when_the_leases_of_the_killed_are_over(run: Run) -> None:
    lost = [p for each in run.probes for p in each if p.how == "lost"]
    got = [p.got_ns for each in run.probes for p in each]
    assert len(lost) > callers.PROBES
    assert max(got) > run.left[0] - 4 * callers.LEASE_NS
    assert sum(len(each) for each in run.probes) > 50


# --- the columns of workers -----------------------------------------------------------------------


def test_counts_stay_and_gauges_come_down_when_any_process_is_killed(tmp_path: Path) -> None:
    dice = random.Random(SEED)
    control = Control(tmp_path / "ledger", dice)

    def between() -> None:
        for _ in range(dice.randrange(4)):
            control.change()
            control.look()

    with control.crowd as crowd:
        kills = crowd.hammer(dice, SECONDS, between)
        busy = control.metrics()
    control.look()
    assert sum(v for k, v in busy.items() if k.startswith(GAUGES)) > 0
    samples = {k: v for k, v in control.metrics().items() if k.startswith(GAUGES)}
    assert len(samples) >= len(GAUGES)
    assert not any(samples.values()), samples
    assert kills > 3
    assert control.changes > 3
    assert control.aborted > 0
    assert control.segment.reserved_bytes < SEGMENT_BYTES / 4, "what is freed is used again"
