"""State that real processes share: one bucket, one breaker, and nobody who can break the lock."""

from __future__ import annotations

import multiprocessing
import os
import pickle
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

import meshcore
from meshcore import SharedState
from meshcore.errors import SegmentLayoutError
from meshcore.library import shared

METHODS = ["spawn", "fork"]
# A rate at which nothing comes back while a test runs.
SLOW = "1/h"


@pytest.fixture
def name() -> Iterator[str]:
    name = f"test-{os.getpid()}-{time.monotonic_ns()}"
    yield name
    SharedState.unlink(name)


def path_of(name: str) -> Path:
    return Path(f"/dev/shm/meshcore-{os.geteuid()}-{name}")


def admit(state: SharedState, results: Any, tries: int) -> None:
    bucket = state.token_bucket("api", SLOW, 1_000)
    results.put(sum(bucket.try_acquire() for _ in range(tries)))


def run(method: str, count: int, target: Any, *args: Any) -> list[Any]:
    context: Any = multiprocessing.get_context(method)
    results = context.Queue()
    first, *rest = args
    running = [
        context.Process(target=target, args=(first, results, *rest), daemon=True)
        for _ in range(count)
    ]
    for process in running:
        process.start()
    got = [results.get(timeout=60) for _ in running]
    for process in running:
        process.join(60)
    return got


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("named", [True, False])
def test_four_processes_admit_one_burst(method: str, named: bool, name: str) -> None:
    state = SharedState(name if named else None)
    assert sum(run(method, 4, admit, state, 600)) == 1_000
    assert not state.token_bucket("api", SLOW, 1_000).try_acquire()


PROGRAM = """
import sys
import meshcore
bucket = meshcore.SharedState(sys.argv[1]).token_bucket("api", "1/h", 100)
print(sum(bucket.try_acquire() for _ in range(60)))
"""


def test_programs_that_know_nothing_of_each_other_share_by_name(name: str) -> None:
    command = [sys.executable, "-c", PROGRAM, name]
    running = [subprocess.Popen(command, stdout=subprocess.PIPE, text=True) for _ in range(3)]
    assert sum(int(process.communicate(timeout=60)[0]) for process in running) == 100


def test_a_breaker_that_one_opened_is_open_for_all(name: str) -> None:
    def breaker(state: SharedState) -> meshcore.CircuitBreaker:
        return state.circuit_breaker("db", failures=2, open_for="1h")

    program = """
import sys, meshcore
breaker = meshcore.SharedState(sys.argv[1]).circuit_breaker("db", failures=2, open_for="1h")
for _ in range(2):
    breaker.acquire().failure()
"""
    mine = breaker(SharedState(name))
    assert mine.state == "closed"
    subprocess.run([sys.executable, "-c", program, name], check=True, timeout=60)
    assert mine.state == "open"
    with pytest.raises(meshcore.BreakerOpen):
        mine.acquire()
    mine.force_closed()
    assert breaker(SharedState(name)).state == "closed"


def test_clients_are_the_same_clients_everywhere(name: str) -> None:
    one, other = SharedState(name), SharedState(name)
    limits = [state.client_limiter("clients", SLOW, 2, clients=1_000) for state in (one, other)]
    got = [limit.try_acquire("192.0.2.7") for limit in (*limits, *limits)]
    assert got == [True, True, False, False]
    assert limits[0].remaining("192.0.2.8") == 2


def test_names_are_kept_apart_by_what_they_are_of(name: str) -> None:
    state = SharedState(name)
    parts = [state.token_bucket("x", "1/s"), state.client_limiter("x", "1/s", clients=10)]
    assert state.circuit_breaker("x").state == "closed"
    assert [part.__class__ for part in parts] == [meshcore.TokenBucket, meshcore.ClientLimiter]
    assert state.token_bucket("y", "1/s", 7).remaining == 7


HOLDER = """
import os, signal, sys
from meshcore.library import shared
state = shared.SharedState(sys.argv[1])
def die(*args):
    print("held", flush=True)
    signal.pause()
shared.SharedState._made = die
state.token_bucket("never", "1/s", 3)
"""


def test_who_dies_with_the_lock_blocks_nobody(name: str) -> None:
    state = SharedState(name)
    command = [sys.executable, "-c", HOLDER, name]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as holder:
        assert holder.stdout is not None
        assert holder.stdout.readline() == "held\n"
        waiting = threading.Thread(target=state.token_bucket, args=("mine", "1/s"), daemon=True)
        waiting.start()
        waiting.join(0.3)
        assert waiting.is_alive(), "the lock is held"
        holder.send_signal(signal.SIGKILL)
    waiting.join(30)
    assert not waiting.is_alive()
    assert state.token_bucket("never", "1/s", 3).remaining == 3


def test_who_dies_while_it_makes_the_file_leaves_work_for_the_next(name: str) -> None:
    path = path_of(name)
    for left in (0, 1 << 20):
        path.touch(0o600)
        os.truncate(path, left)
        assert SharedState(name, size="2MiB").token_bucket("x", "1/s", 5).remaining == 5
        assert path.stat().st_size == 2 << 20
        assert SharedState.unlink(name)
    assert not SharedState.unlink(name)


def test_who_came_first_decides_the_size(name: str) -> None:
    first = SharedState(name, size="1MiB")
    second = SharedState(name, size="64MiB")
    with pytest.raises(meshcore.ConfigError, match="no room for client_limiter c in its 1048576"):
        second.client_limiter("c", "1/s", clients=1 << 20)
    assert first.token_bucket("x", "1/s").try_acquire()
    with pytest.raises(ValueError, match="size: must be within 512KiB and 255GiB, got 64KiB"):
        SharedState(size="64KiB")


def test_unlinked_it_goes_on_for_those_who_have_it(name: str) -> None:
    old = SharedState(name)
    bucket = old.token_bucket("x", SLOW, 1)
    assert bucket.try_acquire()
    assert SharedState.unlink(name)
    assert SharedState(name).token_bucket("x", SLOW, 1).try_acquire()
    assert not old.token_bucket("x", SLOW, 1).try_acquire()


def test_files_of_others_are_not_trusted(name: str, tmp_path: Path) -> None:
    path = path_of(name)
    target = tmp_path / "elsewhere"
    target.touch(0o600)
    path.symlink_to(target)
    with pytest.raises(OSError, match="symbolic links"):
        SharedState(name)
    path.unlink()
    path.touch(0o600)
    path.chmod(0o620)
    with pytest.raises(PermissionError, match="by others"):
        SharedState(name)
    path.chmod(0o600)
    path.write_bytes(b"something else" * 100_000)
    with pytest.raises(SegmentLayoutError):
        SharedState(name)
    for bad in ("", "a/b", "..", ".x", "x" * 101, "ü"):
        with pytest.raises(ValueError, match="no name"):
            SharedState(bad)


def test_a_state_with_a_name_is_pickled_by_it(name: str) -> None:
    state = pickle.loads(pickle.dumps(SharedState(name)))
    assert (state.name, repr(state)) == (name, f"SharedState({name!r})")
    state.token_bucket("x", SLOW, 1).acquire()
    assert not SharedState(name).token_bucket("x", SLOW, 1).try_acquire()


def test_threads_that_come_at_once_make_one(name: str) -> None:
    got: list[bool] = []
    barrier = threading.Barrier(8)

    def come() -> None:
        barrier.wait()
        got.append(SharedState(name).token_bucket("x", SLOW, 3).try_acquire())

    threads = [threading.Thread(target=come) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sum(got) == 3


def test_the_memory_cannot_be_pulled_away() -> None:
    state = SharedState()
    with pytest.raises(PermissionError):
        os.ftruncate(state.fileno(), 0)
    assert shared._MIN_SIZE < 16 << 20
