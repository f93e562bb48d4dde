"""A bucket whose word processes share, beside one of this process; and beside two threads."""

from __future__ import annotations

import itertools
import json
import os
import statistics
import subprocess
import time
from typing import NamedTuple

import meshcore

CALLS = 20_000
PLENTY = "1000000000/s"


class Bucket(NamedTuple):
    """Nanoseconds of a call."""

    private_ns: float
    shared_ns: float
    ratio: float


def _call_ns(bucket: meshcore.TokenBucket) -> float:
    acquire = bucket.try_acquire
    before = time.thread_time_ns()
    for _ in itertools.repeat(None, CALLS):
        acquire()
    return (time.thread_time_ns() - before) / CALLS


def uncontended(rounds: int) -> Bucket:
    """Both in each round, one after the other; medians, and the median of the rounds' ratios."""
    private = meshcore.TokenBucket(PLENTY, burst=1 << 32)
    shared = meshcore.SharedState().token_bucket("bench", PLENTY, burst=1 << 32)
    pairs = [(_call_ns(private), _call_ns(shared)) for _ in range(rounds * 5)]
    return Bucket(
        statistics.median(one for one, _ in pairs),
        statistics.median(two for _, two in pairs),
        statistics.median(two / one for one, two in pairs),
    )


class Pairs(NamedTuple):
    """Two processes and two threads on one bucket: operations a microsecond."""

    processes_per_us: float
    threads_per_us: float
    ratio: float
    over: int


def contended(rounds: int) -> Pairs:
    """`benches/rust/segment.rs`."""
    command = ["cargo", "bench", "--quiet", "--package", "meshcore-core", "--bench", "segment"]
    ended = subprocess.run(
        [*command, "--", str(rounds)], capture_output=True, text=True, check=True, env=os.environ
    )
    return Pairs(**json.loads(ended.stdout.splitlines()[-1]))
