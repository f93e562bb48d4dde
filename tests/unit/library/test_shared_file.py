"""The descriptor of a shared state: it may be closed by others, and closes nothing of theirs."""

from __future__ import annotations

import gc
import os
import pickle
import threading
import time
from collections.abc import Iterator

import pytest

from meshcore import SharedState

SLOW = "1/h"


@pytest.fixture
def name() -> Iterator[str]:
    name = f"test-{os.getpid()}-{time.monotonic_ns()}"
    yield name
    SharedState.unlink(name)


def opened() -> int:
    gc.collect()  # what another test left may hold some
    return len(os.listdir("/proc/self/fd"))


def test_descriptors_are_closed(name: str) -> None:
    before = opened()
    for _ in range(10):
        SharedState().token_bucket("x", "1/s")
        SharedState(name).token_bucket("x", "1/s")
    assert opened() == before


def test_states_and_parts_of_a_name_have_one_descriptor(name: str) -> None:
    before = opened()
    states = [SharedState(name) for _ in range(10)]
    parts = [pickle.loads(pickle.dumps(states[0].token_bucket("x", "1/s"))) for _ in range(10)]
    assert len({state.fileno() for state in states}) == 1
    assert opened() == before + 1
    del states, parts
    assert opened() == before


@pytest.mark.parametrize("named", [True, False])
def test_a_number_that_has_become_anothers_is_not_closed(named: bool, name: str) -> None:
    state = SharedState(name if named else None)
    number = state.fileno()
    reader, writer = os.pipe()
    os.dup2(writer, number)
    del state
    gc.collect()
    os.write(number, b"x")
    assert os.read(reader, 1) == b"x"
    for fd in (reader, writer, number):
        os.close(fd)


def test_a_number_that_has_become_the_next_states_is_not_closed(name: str) -> None:
    old = SharedState(name)
    bucket = old.token_bucket("old", SLOW, 1)
    os.close(old.fileno())
    new = SharedState(name)
    del old, bucket
    gc.collect()
    assert new.token_bucket("new", SLOW, 1).try_acquire()
    os.fstat(new.fileno())


def test_with_a_name_it_goes_on_when_its_descriptor_was_closed(name: str) -> None:
    state = SharedState(name)
    bucket = state.token_bucket("x", SLOW, 2)
    os.close(state.fileno())
    assert bucket.try_acquire()
    assert state.token_bucket("x", SLOW, 2).try_acquire()
    assert state.token_bucket("y", SLOW, 1).try_acquire()
    assert not SharedState(name).token_bucket("y", SLOW, 1).try_acquire()
    assert state.remove("y")


@pytest.mark.parametrize("named", [True, False])
def test_it_says_when_nothing_can_be_made_any_more(named: bool, name: str) -> None:
    state = SharedState(name if named else None)
    bucket = state.token_bucket("x", SLOW, 2)
    os.close(state.fileno())
    if named:
        SharedState.unlink(name)
        SharedState(name)
    assert bucket.try_acquire()
    assert state.token_bucket("x", SLOW, 2).try_acquire()
    for call in (lambda: state.token_bucket("y", "1/s"), lambda: state.remove("x"), state.fileno):
        with pytest.raises(OSError, match=r"was closed, as daemons do, and .* nothing new can be"):
            call()


def test_states_come_and_go_in_threads(name: str) -> None:
    before = opened()
    barrier = threading.Barrier(8)
    errors: list[BaseException] = []

    def work(seat: int) -> None:
        barrier.wait()
        try:
            for turn in range(60):
                state = SharedState(name)
                assert state.token_bucket(f"{turn}", SLOW, 8).try_acquire(), (seat, turn)
                if turn % 3 == 0:
                    state.fileno()
        except BaseException as error:
            errors.append(error)

    threads = [threading.Thread(target=work, args=(seat,)) for seat in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not errors
    state = SharedState(name)
    assert not any(state.token_bucket(f"{turn}", SLOW, 8).try_acquire() for turn in range(60))
    del state
    assert opened() == before
