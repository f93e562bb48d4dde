"""Buckets keep their promise, from any thread, and say when to come back."""

from __future__ import annotations

import json
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

import meshcore
from meshcore.errors import Diagnostic


class Clock:
    """Time that stands still until it is moved."""

    def __init__(self) -> None:
        self.ns = 1_000_000_000_000

    def __call__(self) -> int:
        return self.ns


def test_a_burst_passes_and_then_the_rate() -> None:
    clock = Clock()
    bucket = meshcore.TokenBucket("10/s", 3, clock=clock)
    assert [bucket.try_acquire() for _ in range(4)] == [True, True, True, False]
    with pytest.raises(meshcore.RateLimited) as caught:
        bucket.acquire()
    assert caught.value.retry_after == pytest.approx(0.1, abs=0.001)
    clock.ns += caught.value.retry_after_ns
    bucket.acquire()
    assert not bucket.try_acquire()
    bucket.give_back()
    assert bucket.remaining == 1


@given(
    rate=st.integers(1, 1000),
    burst=st.integers(1, 50),
    steps=st.lists(st.tuples(st.integers(0, 2_000_000_000), st.integers(1, 5)), max_size=60),
)
def test_never_more_than_rate_times_time_plus_burst(
    rate: int, burst: int, steps: list[tuple[int, int]]
) -> None:
    clock = Clock()
    bucket = meshcore.TokenBucket(f"{rate}/s", burst, clock=clock)
    begin, taken = clock.ns, 0
    for wait, n in steps:
        clock.ns += wait
        if bucket.try_acquire(n):
            taken += n
        assert taken <= rate * (clock.ns - begin) / 1e9 + burst + 1e-6


def test_threads_share_one_bucket() -> None:
    bucket = meshcore.TokenBucket("1/h", 1000, clock=Clock())
    with ThreadPoolExecutor(8) as pool:
        taken = pool.map(lambda _: sum(bucket.try_acquire() for _ in range(500)), range(8))
        assert sum(taken) == 1000


async def test_waiting_takes_as_soon_as_it_can() -> None:
    bucket = meshcore.TokenBucket("1000/s", 1)
    begin = meshcore.now_ns()
    for _ in range(11):
        await bucket.wait()
    assert meshcore.now_ns() - begin >= 9_900_000


def test_clients_have_buckets_of_their_own() -> None:
    limiter = meshcore.ClientLimiter("1/m", 2, clock=Clock())
    assert [limiter.try_acquire("192.0.2.1") for _ in range(3)] == [True, True, False]
    assert limiter.try_acquire("192.0.2.2")
    assert not limiter.try_acquire("::ffff:192.0.2.1")  # the same client, mapped
    assert limiter.try_acquire("2001:db8::1", 2)
    assert not limiter.try_acquire("2001:db8::2")  # one /64
    assert limiter.remaining("tenant-a") == 2
    with pytest.raises(meshcore.RateLimited) as caught:
        limiter.acquire("192.0.2.1")
    assert caught.value.retry_after == pytest.approx(60)


WRONG: list[dict[str, Any]] = [
    {"rate": "fast"},
    {"rate": "0/s"},
    {"rate": "0.5/s"},
    {"rate": "100 per second"},
    {"rate": 100},
    {"burst": 0},
    {"burst": -1},
    {"burst": True},
    {"burst": "5"},
    {"burst": 1.5},
    {"burst": 5_000_000_000},
    {"rate": "1/1d", "burst": 900},
    {"clients": 0},
    {"clients": -1},
    {"clients": True},
    {"clients": "many"},
    {"clients": 1 << 25},
    {"clients": 1 << 65},
]


def said_by_check(rules: dict[str, Any]) -> list[str]:
    """What is said of them in a file, without the path to them."""
    listener = {"bind": "127.0.0.1:0", "layers": [{"client_limit": rules}]}
    config = {
        "version": 1,
        "listeners": {"edge": listener},
        "routes": [{"name": "x", "respond": {"status": 200}}],
    }
    with pytest.raises(meshcore.ConfigError) as caught:
        meshcore.load_text(json.dumps(config))
    place = ("listeners", "edge", "layers", 0, "client_limit")
    return [
        str(Diagnostic(each.steps[len(place) :], each.message, each.hint))
        for each in caught.value.problems
    ]


@pytest.mark.parametrize("wrong", WRONG, ids=str)
def test_rules_are_refused_in_the_words_of_check(wrong: dict[str, Any]) -> None:
    rules = {"rate": "10/s", **wrong}
    wanted = said_by_check(rules)
    with pytest.raises(ValueError, match=r".") as caught:
        meshcore.ClientLimiter(**rules)
    assert str(caught.value).splitlines() == wanted
    if "clients" not in wrong:
        with pytest.raises(ValueError, match=r".") as caught:
            meshcore.TokenBucket(**rules)
        assert str(caught.value).splitlines() == wanted


@pytest.mark.parametrize("kind", [meshcore.TokenBucket, meshcore.ClientLimiter])
def test_what_is_no_rule_is_refused_as_such(kind: Any) -> None:
    with pytest.raises(TypeError, match="Words"):
        kind("1/s", words=5)


def test_texts_of_any_octets_are_clients() -> None:
    limiter = meshcore.ClientLimiter("1/h", 1)
    names = ["caf\udce9", "caf\udcea", "\ud800", "\ud83d\ude00", "\U0001f600", "café", ""]
    assert len(set(names)) == len(names)
    for name in names:
        assert limiter.remaining(name) == 1
        assert limiter.try_acquire(name)
        with pytest.raises(meshcore.RateLimited):
            limiter.acquire(name)
        assert limiter.remaining(name) == 0
    with pytest.raises(TypeError):
        limiter.try_acquire(b"bytes")  # type: ignore[arg-type]


async def test_texts_of_any_octets_may_wait() -> None:
    limiter = meshcore.ClientLimiter("100/s", 1)
    for _ in range(2):
        await limiter.wait("\udcff")
        limiter.wait_blocking("\udcff", timeout=5)


def test_models_are_read_only_by_who_made_a_mistake() -> None:
    program = """
import sys, meshcore
meshcore.TokenBucket("1/s"), meshcore.ClientLimiter("1/s")
assert "pydantic" not in sys.modules
"""
    subprocess.run([sys.executable, "-c", program], check=True, timeout=30)


@pytest.mark.parametrize("wrong", WRONG, ids=str)
def test_a_shared_state_makes_nothing_by_rules_that_are_none(wrong: dict[str, Any]) -> None:
    rules = {"rate": "10/s", **wrong}
    wanted = said_by_check(rules)
    state: Any = meshcore.SharedState()
    with pytest.raises(ValueError, match=r".") as caught:
        state.client_limiter("x", **rules)
    assert str(caught.value).splitlines() == wanted
    if "clients" not in wrong:
        with pytest.raises(ValueError, match=r".") as caught:
            state.token_bucket("x", **rules)
        assert str(caught.value).splitlines() == wanted
    assert not state.remove("x")
