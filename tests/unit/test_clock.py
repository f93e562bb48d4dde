"""The one clock."""

import time

import meshcore


def test_now_is_the_monotonic_clock_of_the_host() -> None:
    before = time.clock_gettime_ns(time.CLOCK_MONOTONIC)
    now = meshcore.now_ns()
    after = time.clock_gettime_ns(time.CLOCK_MONOTONIC)
    assert before <= now <= after
