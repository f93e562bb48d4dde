"""Every whole number that a program gives is refused in words that name it, if it is none."""

from __future__ import annotations

from collections.abc import Callable
from types import SimpleNamespace
from typing import Any

import pytest

import meshcore
import meshcore.testing
from meshcore.library.retry import asked_ns
from meshcore.testing import request, response, run

HUGE = 10**400
NONE = [HUGE, -HUGE, 1 << 64, -1, True, 1.5, float("nan"), "x", None]

STATE = meshcore.SharedState()
BUCKET = meshcore.TokenBucket("1/s")
CLIENTS = meshcore.ClientLimiter("1/s")
MESH = """
version: 1
listeners: {edge: {bind: "127.0.0.1:0"}}
routes: [{name: all, respond: {status: 200}}]
"""


def limiters(make: Callable[..., Any]) -> Callable[[Any], object]:
    return lambda n: make("1/s", n)


GIVEN: dict[str, tuple[str, Callable[[Any], object]]] = {
    "burst of a bucket": ("burst", lambda n: meshcore.TokenBucket("1/s", n)),
    "burst of a limiter": ("burst", lambda n: meshcore.ClientLimiter("1/s", n)),
    "burst of a shared one": ("burst", lambda n: STATE.token_bucket("x", "1/s", n)),
    "clients": ("clients", lambda n: meshcore.ClientLimiter("1/s", clients=n)),
    "clients of a shared one": ("clients", lambda n: STATE.client_limiter("y", "1/s", clients=n)),
    "acquire": ("n", BUCKET.acquire),
    "acquire of a client": ("n", lambda n: CLIENTS.acquire("x", n)),
    "wait_blocking": ("n", BUCKET.wait_blocking),
    "wait_blocking of a client": ("n", lambda n: CLIENTS.wait_blocking("x", n)),
    "limiting": ("n", BUCKET.limiting),
    "limiting a client": ("n", lambda n: CLIENTS.limiting("x", n)),
    "waiting": ("n", BUCKET.waiting),
    "failures": ("failures", lambda n: meshcore.CircuitBreaker(failures=n)),
    "successes": ("successes", lambda n: meshcore.CircuitBreaker(successes=n)),
    "probes": ("probes", lambda n: meshcore.CircuitBreaker(probes=n)),
    "min_calls": ("min_calls", lambda n: meshcore.CircuitBreaker(min_calls=n)),
    "last_calls": ("last_calls", lambda n: meshcore.CircuitBreaker(last_calls=n)),
    "failure_percent": ("failure_percent", lambda n: meshcore.CircuitBreaker(failure_percent=n)),
    "attempts": ("attempts", lambda n: meshcore.Retry(n)),
    "floor": ("floor", lambda n: meshcore.RetryBudget(floor=n)),
    "asked_ns": ("asked_ns", lambda n: meshcore.Retry().begin().again(n)),
    "left_ns": ("left_ns", lambda n: meshcore.Retry().begin().again(left_ns=n)),
    "failures of a balancer": ("failures", lambda n: meshcore.Balancer(["a:1"], failures=n)),
    "max_percent": ("max_percent", lambda n: meshcore.Balancer(["a:1"], max_percent=n)),
    "weight": (
        "weight",
        lambda n: meshcore.Balancer([{"address": "a:1", "weight": n}]),
    ),
    "priority": ("priority", lambda n: meshcore.RouteMap[int]().insert("a", 1, priority=n)),
    "status of an answer": ("status", lambda n: meshcore.Answer(n)),
    "status of a response": ("status", lambda n: response(n)),
    "piece_bytes": (
        "piece_bytes",
        lambda n: run(meshcore.Layer(), request("GET http://a.example/"), piece_bytes=n),
    ),
    "seed": ("seed", lambda n: meshcore.testing.Mesh(MESH, seed=n)),
}
# What has another meaning there.
MEANS: dict[str, list[Any]] = {
    "burst of a bucket": [None],
    "burst of a limiter": [None],
    "burst of a shared one": [None],
    "last_calls": [None],
    "left_ns": [None],
    "asked_ns": [None],
    "piece_bytes": [None],
    "priority": [-1],
    "status of a response": [],
}


@pytest.mark.parametrize("given", NONE, ids=lambda given: repr(given)[:9])
@pytest.mark.parametrize("what", GIVEN)
def test_what_is_no_such_number(what: str, given: Any) -> None:
    name, call = GIVEN[what]
    if any(given is each or given == each for each in MEANS.get(what, [])):
        call(given)
        return
    with pytest.raises(ValueError, match=r".") as told:
        call(given)
    text = str(told.value)
    assert name in text or "tokens are more than the bucket holds" in text, text
    assert len(text) < 300
    assert "Exceeds the limit" not in text


@pytest.mark.parametrize("given", [HUGE, -HUGE, 1e300, float("inf")])
@pytest.mark.parametrize("make", [meshcore.Deadline, BUCKET.wait_blocking])
def test_what_is_no_time(make: Any, given: Any) -> None:
    with pytest.raises(ValueError, match=r"longer than 365d|less than no time|not a duration"):
        make(given) if make is meshcore.Deadline else make(timeout=given)


@pytest.mark.parametrize(
    ("said", "wait"),
    [
        ({"retry_after": HUGE}, (1 << 63) - 1),
        ({"retry_after": 1e300}, (1 << 63) - 1),
        ({"retry_after": -HUGE}, 0),
        ({"retry_after": True}, 0),
        ({"retry_after": float("nan")}, 0),
        ({"retry_after": float("inf")}, 0),
        ({"retry_after_ns": HUGE}, (1 << 63) - 1),
        ({"retry_after_ns": True, "retry_after": 1}, 1_000_000_000),
    ],
)
def test_what_others_say_is_no_error_of_the_program(said: dict[str, Any], wait: int) -> None:
    assert asked_ns(SimpleNamespace(**said)) == wait
