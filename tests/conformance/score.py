"""What a suite found, and how it is told."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from typing import Literal, NamedTuple

Outcome = Literal["passed", "failed", "skipped"]


class Case(NamedTuple):
    """One case of a suite; the detail says what went wrong."""

    name: str
    outcome: Outcome
    detail: str = ""


def full(label: str, cases: Sequence[Case], expected: int) -> bool:
    """Print the score; true if as many ran as expected, at least one passed and none failed."""
    count = Counter(case.outcome for case in cases)
    figures = ", ".join(f"{count[name]} {name}" for name in ("passed", "failed", "skipped"))
    print(f"{label}: {figures}", flush=True)
    for case in cases:
        if case.outcome == "failed":
            print(f"  failed: {case.name}: {case.detail.strip()}")
    if len(cases) < expected:
        print(f"  only {len(cases)} of {expected} cases ran")
    return len(cases) >= expected and count["passed"] > 0 and not count["failed"]
