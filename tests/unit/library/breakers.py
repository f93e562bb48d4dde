"""Breakers to test with: own ones and shared ones, in every state."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

import meshcore
from tests.unit.library.test_limiters import Clock

OPEN_NS = 1_000_000_000
Make = Callable[..., meshcore.CircuitBreaker]


def own(**rules: Any) -> meshcore.CircuitBreaker:
    return meshcore.CircuitBreaker(**rules)


def shared(**rules: Any) -> meshcore.CircuitBreaker:
    return meshcore.SharedState().circuit_breaker("db", **rules)


both = pytest.mark.parametrize("make", [own, shared])


def quick(make: Make, clock: Clock, **rules: Any) -> meshcore.CircuitBreaker:
    """Opens at once, for a second, and closes at the first success."""
    given = {"failures": 1, "successes": 1, "failure_percent": 0, "open_for": "1s", **rules}
    return make(clock=clock, max_open_for="1s", **given)


def fail(breaker: meshcore.CircuitBreaker) -> None:
    breaker.acquire().failure()


def half_open(make: Make, clock: Clock, **rules: Any) -> meshcore.CircuitBreaker:
    """Whose time is over: the next call is a probe."""
    breaker = quick(make, clock, **rules)
    while breaker.state == "closed":
        fail(breaker)
    clock.ns += OPEN_NS
    return breaker
