"""What leads back to itself through a part of the library is let go, as any other circle is."""

from __future__ import annotations

import gc
import weakref
from collections.abc import Callable
from typing import Any

import pytest

import meshcore

Make = Callable[["Owner"], Any]


class Owner:
    """Has a part, and tells it the time."""

    part: Any

    def now(self) -> int:
        return 0

    def part_of(self, event: object) -> bool:
        return event is self


class FailedError(Exception):
    """Its class leads back to whoever made it."""


def balancer(owner: Owner) -> Any:
    return meshcore.Balancer(["a:1"], clock=owner.now)


def breaker(owner: Owner) -> Any:
    return meshcore.CircuitBreaker(clock=owner.now)


def class_of(owner: Owner) -> type[Exception]:
    return type("Own", (FailedError,), {"owner": owner})


def routes(owner: Owner) -> Any:
    made: meshcore.RouteMap[Any] = meshcore.RouteMap()
    made.insert("one", owner, host=["a", "b"])
    return made


def routes_alone(owner: Owner) -> Any:
    """They lead to themselves, and to nothing else that could be cleared."""
    made: meshcore.RouteMap[Any] = meshcore.RouteMap()
    made.insert("owner", owner)
    made.insert("itself", made, prefix="/itself")
    del owner
    return None


PARTS: dict[str, Make] = {
    "bucket": lambda owner: meshcore.TokenBucket("1/s", clock=owner.now),
    "clients": lambda owner: meshcore.ClientLimiter("1/s", clock=owner.now),
    "breaker": breaker,
    "its failures": lambda owner: meshcore.CircuitBreaker(failure_on=(class_of(owner),)),
    "its function": lambda owner: meshcore.CircuitBreaker(failure_on=owner.part_of),
    "its judge of results": lambda owner: meshcore.CircuitBreaker(failure_on_result=owner.part_of),
    "its listener": lambda owner: meshcore.CircuitBreaker(on_call=owner.part_of),
    "its other listener": lambda owner: meshcore.CircuitBreaker(on_state_change=[owner.part_of]),
    "its fallback": lambda owner: meshcore.CircuitBreaker(fallback=owner.now),
    "its guard": lambda owner: breaker(owner).guard(),
    "its permit": lambda owner: breaker(owner).acquire(),
    "balancer": balancer,
    "whose failures": lambda owner: meshcore.Balancer(["a:1"], failure_on=(class_of(owner),)),
    "its attempt": lambda owner: balancer(owner).pick(),
    "routes": routes,
    "routes alone": routes_alone,
    "a found route": lambda owner: routes(owner).lookup("a", "/"),
}


@pytest.mark.parametrize("part", PARTS)
def test_a_circle_through_it_is_let_go(part: str) -> None:
    owner = Owner()
    owner.part = PARTS[part](owner)
    alive = weakref.ref(owner)
    del owner
    gc.collect()
    assert alive() is None


@pytest.mark.parametrize("part", [name for name in PARTS if name != "routes alone"])
def test_what_is_still_reached_through_it_is_not(part: str) -> None:
    owner = Owner()
    kept = owner.part = PARTS[part](owner)
    alive = weakref.ref(owner)
    del owner
    for _ in range(3):
        gc.collect()
    assert alive() is not None
    assert alive().part is kept  # type: ignore[union-attr]


def test_a_value_that_was_found_outlives_its_routes() -> None:
    owner = Owner()
    made = owner.part = routes(owner)
    found = [made.lookup("a", "/") for _ in range(3)]
    alive = weakref.ref(owner)
    made.remove("one", host="a")
    del owner, made
    gc.collect()
    assert all(each.value is alive() for each in found)
    del found
    gc.collect()
    assert alive() is None
