"""Buckets keep their promise, from any thread, and say when to come back."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor

import pytest
from hypothesis import given
from hypothesis import strategies as st

import meshcore


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


@pytest.mark.parametrize(("rate", "burst"), [("fast", 1), ("0/s", 1), ("1/s", 0)])
def test_a_rate_that_is_none(rate: str, burst: int) -> None:
    with pytest.raises(ValueError, match=r"."):
        meshcore.TokenBucket(rate, burst)
