"""A clock that a test moves."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta
from typing import Any

import pytest

import meshcore
from meshcore.testing import Clock


def test_every_part_goes_by_it() -> None:
    clock = Clock()
    bucket = meshcore.TokenBucket("1/h", clock=clock)
    clients = meshcore.ClientLimiter("1/h", clock=clock)
    deadline = meshcore.Deadline("1h", clock=clock)
    bucket.acquire()
    clients.acquire("a")
    for time in ("30m", 900, timedelta(minutes=14, seconds=59)):
        clock.advance(time)
        assert not bucket.try_acquire()
    assert deadline.left == 1
    clock.advance(1.0)
    assert (deadline.left, bucket.remaining, clients.remaining("a")) == (0, 1, 1)


@pytest.mark.parametrize("time", [-1, "soon", None])
def test_it_takes_times_alone(time: Any) -> None:
    clock = Clock()
    now = clock()
    with pytest.raises(ValueError, match=r"^time: "):
        clock.advance(time)
    assert clock() == now


@pytest.fixture
def restless() -> Iterator[None]:
    """Threads take their turns as often as they can."""
    before = sys.getswitchinterval()
    sys.setswitchinterval(1e-6)
    yield
    sys.setswitchinterval(before)


@pytest.mark.usefixtures("restless")
def test_no_move_of_any_thread_is_lost() -> None:
    clock = Clock()
    begin = clock()

    def move(_number: int) -> None:
        for _ in range(500):
            clock.advance("1us")

    with ThreadPoolExecutor(4) as pool:
        list(pool.map(move, range(4)))
    assert clock() - begin == 2_000_000
