"""What the load saw: how much was asked, and whatever did not end as it should."""

from __future__ import annotations

import time
from collections import Counter
from dataclasses import dataclass, field
from typing import Any, NamedTuple


class Failure(NamedTuple):
    """A request that failed: when on the machine's monotonic clock, and on which connection."""

    at_s: float
    protocol: str
    what: str
    """``lost``: the connection ended under it."""
    port: int
    """The client's side of the connection."""

    @property
    def of_request(self) -> bool:
        """Whether a request failed, and not a connection before there was one for it."""
        return not self.what.startswith("connect")


@dataclass
class Book:
    """Kept by the load's process, read by the test."""

    asked: Counter[str] = field(default_factory=Counter)
    done: Counter[str] = field(default_factory=Counter)
    closed: Counter[str] = field(default_factory=Counter)
    """Connections that the proxy asked to leave, by how it said so."""
    failures: list[Failure] = field(default_factory=list)
    longest_s: float = 0.0

    def fail(self, protocol: str, what: str, port: int) -> None:
        """A request failed."""
        self.failures.append(Failure(time.monotonic(), protocol, what, port))

    def answered(self, protocol: str, since_s: float) -> None:
        """A request that was due at that time was answered as it should."""
        self.done[protocol] += 1
        self.longest_s = max(self.longest_s, time.monotonic() - since_s)

    def as_json(self) -> dict[str, Any]:
        """For the test."""
        return {
            "asked": self.asked,
            "done": self.done,
            "closed": self.closed,
            "failures": self.failures,
            "longest_s": self.longest_s,
        }

    @classmethod
    def of(cls, data: dict[str, Any]) -> Book:
        """What the process printed."""
        counts = {key: Counter(data[key]) for key in ("asked", "done", "closed")}
        failures = [Failure(*each) for each in data["failures"]]
        return cls(**counts, failures=failures, longest_s=data["longest_s"])
