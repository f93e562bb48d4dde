"""Who asked what, what reached an endpoint, and what came back: and each of it must be its own."""

from __future__ import annotations

import time
from collections import Counter
from dataclasses import dataclass, field

from tests.process.chained import own
from tests.process.chained.plan import LARGEST, Plan

MOST_FAULTS = 30
# Among how many of the latest requests the owner of foreign bytes is looked for.
SUSPECTS = 1500


@dataclass(slots=True)
class Got:
    """What a client has of an answer."""

    status: int = 0
    fields: dict[str, str] = field(default_factory=dict)
    interim: list[dict[str, str]] = field(default_factory=list)
    body: bytearray = field(default_factory=bytearray)
    trailers: dict[str, str] = field(default_factory=dict)
    is_whole: bool = False
    why: str = ""
    """What ended it, if it is not whole."""
    excused: bool = False
    """Something else that happened to its connection explains it."""


@dataclass(slots=True)
class Record:
    """A request that was asked."""

    plan: Plan
    arrivals: int = 0
    processed: int = 0
    """Arrivals that the endpoint did not refuse."""
    outcome: str = ""
    status: int = 0
    """That the client saw."""


class Book:
    """Of one run."""

    def __init__(self) -> None:
        self.records: dict[str, Record] = {}
        self.faults: list[str] = []
        self.suspects: set[str] = set()
        """Requests with a fault: what the logs say of them is told, too."""
        self.told: list[str] = []
        self.counts: Counter[str] = Counter()
        self.met: Counter[str] = Counter()
        self.began_s = time.monotonic()

    def fault(self, plan: Plan | None, what: str) -> None:
        """Something that must not be."""
        self.counts["faults"] += 1
        if plan is not None:
            self.suspects.add(plan.name)
        if len(self.faults) < MOST_FAULTS:
            at = time.monotonic() - self.began_s
            self.faults.append(f"{at:.2f} s: {what}\n    {plan}")

    def ask(self, plan: Plan) -> None:
        """A client is about to send it."""
        self.records[plan.name] = Record(plan)
        self.counts[f"{plan.speaks} {plan.kind}"] += 1

    def compare(self, plan: Plan, where: str, came: bytes | bytearray, meant: bytes) -> bool:
        """Whether what came is the beginning of what was meant; a fault if it is not."""
        if meant.startswith(came):
            return True
        end = min(len(came), len(meant))
        at = next((i for i in range(end) if came[i] != meant[i]), end)
        piece = bytes(came[at : at + 40])
        whose = self._whose(piece[:16])
        self.fault(plan, f"{where}: from byte {at} of {len(meant)}: {piece!r}: {whose}")
        return False

    def _whose(self, piece: bytes) -> str:
        if len(piece) < 4 or len(self.faults) > 5:
            return "nobody was looked for"
        whats = (own.REQUEST, own.ANSWER, own.BUSY, own.LAYER + "a", own.LAYER + "b")
        for name in list(self.records)[-SUSPECTS:]:
            for what in whats:
                at = own.stream(what, name, LARGEST + 64).find(piece)
                if at >= 0:
                    return f"byte {at} of the {what} of {name}"
        return "nobody's"

    def ended(self, plan: Plan, got: Got, outcome: str) -> None:
        """What its client has is judged."""
        record = self.records[plan.name]
        record.outcome, record.status = outcome, got.status
        self.counts[f"answers: {outcome}"] += 1
