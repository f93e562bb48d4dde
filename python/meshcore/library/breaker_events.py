"""What a breaker tells of itself."""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal, NamedTuple

if TYPE_CHECKING:
    from meshcore.library.breaker import CircuitBreaker

BreakerState = Literal["closed", "open", "half_open"]


class CallEnded(NamedTuple):
    """A call is over, or was refused."""

    breaker: CircuitBreaker
    outcome: Literal["success", "failure", "slow", "neutral", "refused"]
    seconds: float
    """How long it took."""
    error: BaseException | None
    """What it raised."""


class StateChanged(NamedTuple):
    """A breaker stands otherwise than before."""

    breaker: CircuitBreaker
    old: BreakerState
    new: BreakerState


class BreakerSnapshot(NamedTuple):
    """How a breaker stands, and what led to it."""

    name: str | None
    state: BreakerState
    retry_after: float
    """Seconds that it stays open; 0 if it is not."""
    failures_in_row: int
    """Since the last success, while it is closed."""
    calls: int
    """Calls that the failure rate counts now: those of the window, since it last closed."""
    failures: int
    """Those of them that failed."""
    total_successes: int
    """Of this process, as all totals, since the breaker was made here."""
    total_failures: int
    total_neutral: int
    """Calls that said nothing."""
    total_refused: int

    @property
    def failure_percent(self) -> float:
        """The part of `calls` that failed."""
        return 100 * self.failures / self.calls if self.calls else 0.0
