"""Parts of a shared state: their rules, their end, how they are handed on, what they cost."""

from __future__ import annotations

import os
import pickle
import time
from collections.abc import Callable, Iterator
from typing import Any

import pytest

import meshcore
from meshcore import SharedState

SLOW = "1/h"
Part = meshcore.TokenBucket | meshcore.ClientLimiter | meshcore.CircuitBreaker
Make = Callable[[SharedState], Part]


@pytest.fixture
def name() -> Iterator[str]:
    name = f"test-{os.getpid()}-{time.monotonic_ns()}"
    yield name
    SharedState.unlink(name)


PARTS: dict[str, Make] = {
    "bucket": lambda state: state.token_bucket("api", SLOW, 1),
    "clients": lambda state: state.client_limiter("api", SLOW, 1, clients=100),
    "breaker": lambda state: state.circuit_breaker("api", failures=1, open_for="1h"),
}
ALONE: dict[str, Callable[[], object]] = {
    "bucket": lambda: meshcore.TokenBucket(SLOW),
    "clients": lambda: meshcore.ClientLimiter(SLOW),
    "breaker": meshcore.CircuitBreaker,
}


def use_up(part: Part) -> None:
    if isinstance(part, meshcore.CircuitBreaker):
        part.acquire().failure()
    elif isinstance(part, meshcore.ClientLimiter):
        part.acquire("192.0.2.7")
    else:
        part.acquire()


def refuses(part: Part) -> bool:
    try:
        use_up(part)
    except (meshcore.RateLimited, meshcore.BreakerOpen):
        return True
    return False


# --- rules ----------------------------------------------------------------------------------------

SAME: dict[str, list[Make]] = {
    "bucket": [
        lambda state: state.token_bucket("x", "6000/m", 100),
        lambda state: state.token_bucket("x", "100/s"),
        lambda state: state.token_bucket("x", "1/10ms", 100),
    ],
    "clients": [
        lambda state: state.client_limiter("x", "1/2s", 1, clients=1_000),
        lambda state: state.client_limiter("x", "30/m", clients=1_024),
    ],
    "breaker": [
        lambda state: state.circuit_breaker("x", open_for="1m"),
        lambda state: state.circuit_breaker("x", failures=5, open_for="60s", probes=1),
        lambda state: state.circuit_breaker("x", failure_on=(OSError,), open_for="60000ms"),
    ],
}


@pytest.mark.parametrize("part", SAME)
def test_equal_rules_are_equal_however_they_are_written(part: str, name: str) -> None:
    for make in SAME[part]:
        make(SharedState(name))


OTHER: dict[str, tuple[Make, Make, str]] = {
    "rate": (
        lambda state: state.token_bucket("x", "100/s", 200),
        lambda state: state.token_bucket("x", "5/10s", 200),
        r"token_bucket x is shared with rate 100/s; asked for was rate 1/2s: say the same",
    ),
    "burst": (
        lambda state: state.token_bucket("x", "100/s"),
        lambda state: state.token_bucket("x", "100/s", 200),
        r"shared with burst 100; asked for was burst 200:",
    ),
    "clients": (
        lambda state: state.client_limiter("x", "1/s", 2, clients=1_000),
        lambda state: state.client_limiter("x", "1/s", 3, clients=9_000),
        r"client_limiter x is shared with burst 2, clients 1024; asked for was burst 3, "
        r"clients 16384:",
    ),
    "breaker": (
        lambda state: state.circuit_breaker("x"),
        lambda state: state.circuit_breaker("x", open_for="10s", failure_percent=20),
        r"circuit_breaker x is shared with failure_percent 50%, open_for 30s; asked for was "
        r"failure_percent 20%, open_for 10s:",
    ),
}


@pytest.mark.parametrize("part", OTHER)
def test_other_rules_are_an_error_that_tells_both(part: str, name: str) -> None:
    make, other, text = OTHER[part]
    make(SharedState(name))
    with pytest.raises(ValueError, match=text):
        other(SharedState(name))
    assert SharedState(name).remove("x")
    other(SharedState(name))
    with pytest.raises(ValueError, match="is shared with"):
        make(SharedState(name))


@pytest.mark.parametrize("make", PARTS.values(), ids=PARTS)
def test_what_is_no_rule_makes_nothing(make: Make, name: str) -> None:
    state = SharedState(name)
    wrong: list[Callable[[], object]] = [
        lambda: state.token_bucket("api", "0/s"),
        lambda: state.token_bucket("api", "1/s", 0),
        lambda: state.client_limiter("api", "1/s", 0),
        lambda: state.circuit_breaker("api", open_for="soon"),
    ]
    for call in wrong:
        with pytest.raises(ValueError, match=r".+"):
            call()
    assert not state.remove("api")
    make(state)


# --- remove ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("make", PARTS.values(), ids=PARTS)
def test_a_removed_part_goes_on_for_those_who_have_it(make: Make, name: str) -> None:
    state, other = SharedState(name), SharedState(name)
    old = make(state)
    use_up(old)
    assert refuses(make(other))
    assert other.remove("api")
    assert not state.remove("api")
    assert not refuses(make(state))
    assert refuses(old)
    assert refuses(make(other)), "one part for both again"


def test_every_part_of_the_name_goes_and_no_other(name: str) -> None:
    state = SharedState(name)
    for make in PARTS.values():
        use_up(make(state))
    kept = state.token_bucket("kept", SLOW, 1)
    kept.acquire()
    assert state.remove("api")
    assert not any(refuses(make(state)) for make in PARTS.values())
    assert not state.token_bucket("kept", SLOW, 1).try_acquire()


def test_what_was_removed_lends_its_words_to_nobody() -> None:
    state = SharedState(size="512KiB")
    held: list[meshcore.TokenBucket] = []

    def fill() -> None:
        for _ in range(10_000):
            held.append(state.token_bucket("x", SLOW, 1))
            state.remove("x")

    with pytest.raises(meshcore.ConfigError, match="no room"):
        fill()
    assert len(held) > 100
    assert all(bucket.try_acquire() for bucket in held)
    assert not any(bucket.try_acquire() for bucket in held)


# --- pickling -------------------------------------------------------------------------------------


@pytest.mark.parametrize("make", PARTS.values(), ids=PARTS)
def test_a_part_is_pickled_by_its_name(make: Make, name: str) -> None:
    part = make(SharedState(name))
    twin = pickle.loads(pickle.dumps(part))
    assert type(twin) is type(part)
    use_up(twin)
    assert refuses(part)
    assert refuses(pickle.loads(pickle.dumps(twin)))


@pytest.mark.parametrize("part", PARTS)
def test_what_is_of_one_process_is_not_pickled(part: str) -> None:
    with pytest.raises(TypeError, match="of this process alone and cannot be copied or pickled"):
        pickle.dumps(ALONE[part]())
    with pytest.raises(TypeError, match=r"without a name is pickled only as an argument of"):
        pickle.dumps(PARTS[part](SharedState()))


@pytest.mark.parametrize(
    "made", [meshcore.Balancer(["a:1"]), meshcore.RouteMap()], ids=["balancer", "routes"]
)
def test_what_no_state_shares_says_so(made: object) -> None:
    with pytest.raises(TypeError, match=r"this \w+ is of this process alone and cannot be copied"):
        pickle.dumps(made)


def test_a_state_of_another_user_is_told(name: str) -> None:
    state = SharedState(name)
    again, arguments = state.__reduce__()
    assert arguments == (name, os.geteuid())
    with pytest.raises(PermissionError, match=r"is user 12345's, and this process is user"):
        again(name, 12345)


def test_many_parts_that_were_pickled_share_one_mapping(name: str) -> None:
    def mapped() -> int:
        with open("/proc/self/maps") as maps:
            return sum(name in line for line in maps)

    pickled = pickle.dumps(SharedState(name).token_bucket("x", "1/s", 500))
    parts = [pickle.loads(pickled) for _ in range(200)]
    assert all(part.try_acquire() for part in parts)
    assert mapped() == 1
    del parts
    assert mapped() == 0


# --- what it costs --------------------------------------------------------------------------------

MANY, SOME = 3_000, 200
COSTLY: dict[str, Callable[[SharedState, int], Any]] = {
    "bucket": lambda state, n: state.token_bucket(f"b{n}", "1/s"),
    "clients": lambda state, n: state.client_limiter(f"c{n}", "1/s", clients=16),
    "breaker": lambda state, n: state.circuit_breaker(f"d{n}"),
}


@pytest.mark.parametrize("part", COSTLY)
def test_the_last_of_many_costs_what_the_first_did(part: str, name: str) -> None:
    state, make = SharedState(name), COSTLY[part]

    def cpu_ns(first: int) -> int:
        """Of the quickest fifth: what else the machine does is none of it."""
        took = []
        for n in range(first, first + SOME):
            began = time.thread_time_ns()
            make(state, n)
            took.append(time.thread_time_ns() - began)
        return sum(sorted(took)[: SOME // 5])

    cpu_ns(MANY)
    first = cpu_ns(0)
    for n in range(SOME, MANY - SOME):
        make(state, n)
    assert cpu_ns(MANY - SOME) < 2 * first
