"""Deadlines that are looked at late, because the loop stood still."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, cast

import pytest

from meshcore.downstream.deadlines import MOST_S, READ_S, TICK_S, DeadlineTimer

SECOND_NS = 1_000_000_000


class Loop:
    """Remembers what it is to call, and when."""

    def __init__(self) -> None:
        self.next: list[tuple[float, Callable[[], None]]] = []

    def call_later(self, delay_s: float, call: Callable[[], None]) -> Any:
        """Its handle is never asked for anything."""
        self.next.append((delay_s, call))
        return self


class Owner:
    """Of one deadline."""

    def __init__(self) -> None:
        self.passed_ns: list[int] = []

    def on_deadline(self, now: int) -> None:
        """Remember it."""
        self.passed_ns.append(now)


@pytest.mark.parametrize(
    ("still_s", "patience_s"), [(0.06, 0.015), (0.011, None), (2.0, 0.5), (30.0, MOST_S)]
)
def test_who_stood_still_too_has_a_part_of_that_time(
    still_s: float, patience_s: float | None
) -> None:
    """A host that was paused paused its clients as well: they go on when it does."""
    loop, owner, now = Loop(), Owner(), [0]
    timer = DeadlineTimer(cast("Any", loop), lambda: now[0])
    timer.add(owner, int(TICK_S * SECOND_NS))
    _, tick = loop.next.pop()
    now[0] = int((TICK_S + still_s) * SECOND_NS)
    tick()
    if patience_s is None:
        assert owner.passed_ns == now
        return
    assert owner.passed_ns == []
    delay_s, tick = loop.next.pop()
    assert delay_s == pytest.approx(patience_s, rel=0.2)
    assert delay_s >= READ_S
    now[0] += int(2 * delay_s * SECOND_NS)  # late once more, which counts
    tick()
    assert owner.passed_ns == now


def test_what_comes_meanwhile_counts() -> None:
    loop, owner, now = Loop(), Owner(), [0]
    timer = DeadlineTimer(cast("Any", loop), lambda: now[0])
    slot = timer.add(owner, int(TICK_S * SECOND_NS))
    _, tick = loop.next.pop()
    now[0] = 14 * SECOND_NS
    tick()
    timer.arm(slot, now[0] + 10 * SECOND_NS)  # its bytes came
    delay_s, tick = loop.next.pop()
    now[0] += int(delay_s * SECOND_NS)
    tick()
    assert owner.passed_ns == []
