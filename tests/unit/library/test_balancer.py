"""The balancer alone: shares, ejection, draining, and attempts that always end."""

from __future__ import annotations

import asyncio
from collections import Counter
from typing import Any

import pytest

import meshcore

THREE = ["10.0.0.1:80", "10.0.0.2:80", "10.0.0.3:80"]


class Clock:
    """Time that stands still until it is moved."""

    def __init__(self) -> None:
        self.ns = 1_000_000_000_000

    def __call__(self) -> int:
        return self.ns


def test_turns_go_by_weight() -> None:
    weighted: list[str | dict[str, str | int]] = [{"address": "a:1", "weight": 3}, "b:1"]
    balancer = meshcore.Balancer(weighted, balance="round_robin")
    counts = Counter(balancer.pick().address for _ in range(400))
    assert counts == {"a:1": 300, "b:1": 100}


def test_least_request_avoids_the_busy_one() -> None:
    balancer = meshcore.Balancer(["a:1", "b:1"])
    held = balancer.pick()
    for _ in range(20):
        with balancer.pick() as attempt:
            assert attempt.address != held.address
    assert [each.in_flight for each in balancer.status() if each.address == held.address] == [1]
    held.cancel()
    held.success()  # settled once: this does nothing
    assert all(each.in_flight == 0 for each in balancer.status())


def test_an_endpoint_that_fails_is_left_out_and_comes_back() -> None:
    clock = Clock()
    balancer = meshcore.Balancer(
        THREE, balance="round_robin", failures=2, eject_for="1s", clock=clock
    )

    def call(bad: str) -> str:
        with balancer.pick() as attempt:
            if attempt.address == bad:
                raise ConnectionError
            return attempt.address

    for _ in range(6):
        try:
            call(THREE[1])
        except ConnectionError:
            continue
    assert [each.ejected for each in balancer.status()] == [False, True, False]
    assert {call("none") for _ in range(30)} == {THREE[0], THREE[2]}
    clock.ns += 2_000_000_000
    assert THREE[1] in {call("none") for _ in range(6)}
    assert not any(each.ejected for each in balancer.status())


def test_exceptions_that_are_no_failures() -> None:
    balancer = meshcore.Balancer(["a:1", "b:1"], failures=1, failure_on=(OSError,))
    refused = ExceptionGroup("", [meshcore.BreakerOpen(), meshcore.RateLimited()])
    for error in (ValueError(), asyncio.CancelledError(), KeyboardInterrupt(), refused):
        with pytest.raises(type(error)), balancer.pick():
            raise error
    assert not any(each.ejected for each in balancer.status())
    with pytest.raises(TimeoutError), balancer.pick():
        raise TimeoutError
    assert sum(each.ejected for each in balancer.status()) == 1


@pytest.mark.parametrize("error", [OSError(), ExceptionGroup("", [ValueError(), OSError()])])
@pytest.mark.parametrize("failure_on", [OSError, [OSError], Exception])
def test_exceptions_that_are_failures(error: Exception, failure_on: Any) -> None:
    balancer = meshcore.Balancer(["a:1", "b:1"], failures=1, failure_on=failure_on)
    refused = meshcore.BreakerOpen()
    for raised in (refused, refused, error):
        assert not any(each.ejected for each in balancer.status())
        with pytest.raises(type(raised)), balancer.pick():
            raise raised
    assert sum(each.ejected for each in balancer.status()) == 1
    with pytest.raises(TypeError, match="failure_on: expected classes of exceptions"):
        meshcore.Balancer(["a:1"], failure_on="OSError")  # type: ignore[arg-type]


def test_a_retry_goes_elsewhere() -> None:
    balancer = meshcore.Balancer(THREE)
    for _ in range(50):
        first = balancer.pick()
        second = balancer.pick([first])
        third = balancer.pick([first, second])
        assert {first.address, second.address, third.address} == set(THREE)


def test_those_that_drain_are_used_when_all_do() -> None:
    clock = Clock()
    balancer = meshcore.Balancer(["a:1", "b:1"], failures=1, eject_for="1h", clock=clock)

    def picked(tried: list[meshcore.Attempt] | None = None) -> set[str]:
        return {balancer.pick(tried).address for _ in range(30)}

    balancer.set_draining("a:1", True)
    assert picked() == picked([balancer.pick()]) == {"b:1"}
    balancer.set_draining("b:1", True)
    assert picked() == {"a:1", "b:1"}
    # The last that stays is out, too: that is not known at once.
    balancer.set_draining("a:1", False)
    attempt = balancer.pick()
    assert attempt.address == "a:1"
    balancer.set_draining("b:1", False)
    attempt.failure()
    assert picked() == {"b:1"}
    balancer.set_draining("b:1", True)
    with pytest.raises(meshcore.NoHealthyEndpoint):
        balancer.pick()
    clock.ns += 1_000_000
    assert picked() == {"a:1"}


def test_draining_and_new_endpoints_keep_what_is_known() -> None:
    balancer = meshcore.Balancer(THREE, failures=1, eject_for="1h")
    while True:
        attempt = balancer.pick()
        if attempt.address == THREE[0]:
            attempt.failure()
            break
    old = balancer.pick()
    balancer.set_endpoints([THREE[0], "10.0.0.9:80", "10.0.0.8:80"])
    balancer.set_draining("10.0.0.8:80", True)
    assert [(e.address, e.ejected, e.draining) for e in balancer.status()] == [
        (THREE[0], True, False),
        ("10.0.0.9:80", False, False),
        ("10.0.0.8:80", False, True),
    ]
    old.success()
    assert {balancer.pick().address for _ in range(30)} == {"10.0.0.9:80"}
    with pytest.raises(ValueError, match="no endpoint"):
        balancer.set_draining("gone:1", True)


def test_no_endpoint_is_a_refusal() -> None:
    assert issubclass(meshcore.NoHealthyEndpoint, meshcore.MeshcoreError)
    with pytest.raises(ValueError, match="endpoints"):
        meshcore.Balancer([])


@pytest.mark.parametrize(
    ("arguments", "text"),
    [
        ({"endpoints": ["a:1", "a:1"]}, "twice"),
        ({"endpoints": ["nonsense"]}, r"endpoints\[0\]"),
        ({"endpoints": [{"address": "a:1", "weight": 0}]}, "weight"),
        ({"endpoints": ["a:1"], "balance": "best"}, "balance"),
    ],
)
def test_what_is_wrong_is_said(arguments: dict[str, object], text: str) -> None:
    with pytest.raises(ValueError, match=text):
        meshcore.Balancer(**arguments)  # type: ignore[arg-type]
