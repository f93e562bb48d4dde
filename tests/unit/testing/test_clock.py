"""A clock that a test moves."""

from __future__ import annotations

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
