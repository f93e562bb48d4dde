"""Shared states through what becomes of processes: daemons, other users, forks, kills, crowds."""

from __future__ import annotations

import os
import random
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

import pytest

import meshcore
from meshcore import SharedState

# What CPython says from 3.12 on of a fork beside threads is what is tried here.
pytestmark = pytest.mark.filterwarnings("ignore:.*multi-threaded.*fork:DeprecationWarning")

SLOW = "1/h"
NOBODY = 65_534


@pytest.fixture
def name() -> Iterator[str]:
    name = f"test-{os.getpid()}-{time.monotonic_ns()}"
    yield name
    SharedState.unlink(name)


def in_child(work: Callable[[], object]) -> tuple[int, int]:
    """Starts a fork that writes what a function gives; its number, and where to read that."""
    reader, writer = os.pipe()
    if child := os.fork():
        os.close(writer)
        return child, reader
    code = 1
    try:
        signal.alarm(30)  # what stands still is killed, and has said nothing
        os.write(writer, repr(work()).encode())
        code = 0
    except BaseException as error:
        os.write(writer, repr(error).encode())
    finally:
        os._exit(code)


def said(children: list[tuple[int, int]]) -> list[str]:
    told = []
    for child, reader in children:
        with open(reader, "rb") as file:
            told.append(file.read().decode())
        os.waitpid(child, 0)
    return told


# --- daemons ------------------------------------------------------------------------------------

DAEMON = """
import gc, os, sys
import meshcore
named = sys.argv[1] != "-"
state = meshcore.SharedState(sys.argv[1] if named else None)
bucket = state.token_bucket("before", "1/h", 2)
clients = state.client_limiter("before", "1/h", 2)
breaker = state.circuit_breaker("before", failures=1)
out = os.dup(1)
kept = {out, state.fileno()} if "keep" in sys.argv else {out}
if os.fork():
    os.wait()
    sys.exit()
os.setsid()
for fd in range(3, 256):
    if fd not in kept:
        try:
            os.close(fd)
        except OSError:
            pass
others = [os.open("/dev/null", os.O_RDONLY) for _ in range(12)]
says = [bucket.try_acquire(), state.token_bucket("before", "1/h", 2).try_acquire()]
breaker.acquire().failure()
says += [clients.try_acquire("a"), breaker.state == "open"]
try:
    says.append(state.token_bucket("after", "1/h", 1).try_acquire())
except OSError as error:
    says.append("nothing new" in str(error))
says.append(kept <= set(map(int, os.listdir("/proc/self/fd"))))
del state, bucket, clients, breaker
gc.collect()
says.append(all(os.fstat(fd).st_rdev == os.stat("/dev/null").st_rdev for fd in others))
os.write(out, repr(says).encode())
"""


@pytest.mark.parametrize("kept", ["keep", "close"])
@pytest.mark.parametrize("named", [True, False])
def test_it_outlives_a_daemoniser(named: bool, kept: str, name: str) -> None:
    command = [sys.executable, "-c", DAEMON, name if named else "-", kept]
    ended = subprocess.run(command, capture_output=True, text=True, timeout=60, check=True)
    assert (ended.stdout, ended.stderr) == (repr([True] * 7), "")
    if named:
        state = SharedState(name)
        assert not state.token_bucket("before", SLOW, 2).try_acquire()
        assert not state.token_bucket("after", SLOW, 1).try_acquire()
        assert state.client_limiter("before", SLOW, 2).remaining("a") == 1
        assert state.circuit_breaker("before", failures=1).state == "open"


# --- another user ---------------------------------------------------------------------------------


@pytest.mark.skipif(os.geteuid() != 0, reason="only root becomes somebody else")
@pytest.mark.parametrize("before", ["fork", "change of user"])
@pytest.mark.parametrize("named", [True, False])
def test_a_forked_process_with_another_user_goes_on_sharing(
    named: bool, before: str, name: str
) -> None:
    """As by ``gunicorn --preload --user nobody``."""

    def become_nobody() -> None:
        os.setgid(NOBODY)
        os.setuid(NOBODY)

    def work() -> list[bool]:
        if before == "fork":
            become_nobody()
        parts = [state.token_bucket(f"{n}", SLOW, 3) for n in range(40)]
        return [bucket.try_acquire(), *(part.try_acquire() for part in parts)]

    def crowd() -> list[str]:
        if before != "fork":
            become_nobody()
        return said([in_child(work) for _ in range(4)])

    state = SharedState(name if named else None)
    bucket = state.token_bucket("before", SLOW, 3)
    told = said([in_child(crowd)])[0] if before != "fork" else crowd()
    answers: list[Any] = [eval(each) for each in (eval(told) if isinstance(told, str) else told)]
    assert [sum(part) for part in zip(*answers, strict=True)] == [3] * 41
    assert not state.token_bucket("39", SLOW, 3).try_acquire()


@pytest.mark.skipif(os.geteuid() != 0, reason="only root becomes somebody else")
def test_a_name_is_of_its_user(name: str) -> None:
    def work() -> str:
        os.setuid(NOBODY)
        mine = SharedState(name)
        taken = mine.token_bucket("x", SLOW, 1).try_acquire()
        return f"{taken} {SharedState.unlink(name)}"

    assert SharedState(name).token_bucket("x", SLOW, 1).try_acquire()
    assert said([in_child(work)]) == [repr("True True")]
    assert not SharedState(name).token_bucket("x", SLOW, 1).try_acquire()


# --- many, and at once ----------------------------------------------------------------------------


@pytest.mark.parametrize("named", [True, False])
def test_there_is_room_for_any_number_of_processes(named: bool, name: str) -> None:
    state = SharedState(name if named else None)
    begin, ready = os.pipe()

    def work() -> tuple[int, int, bool]:
        os.close(ready)
        os.read(begin, 1)
        bucket = state.token_bucket("api", SLOW, 500)
        clients = state.client_limiter("clients", SLOW, 300)
        breaker = state.circuit_breaker("db", failures=3)
        admitted = sum(bucket.try_acquire() for _ in range(20))
        let = sum(clients.try_acquire("192.0.2.7") for _ in range(20))
        with breaker:
            return admitted, let, state.token_bucket(f"{os.getpid()}", SLOW, 1).try_acquire()

    children = [in_child(work) for _ in range(100)]
    os.close(begin)
    os.close(ready)
    told: list[Any] = [eval(each) for each in said(children)]
    assert [sum(each) for each in zip(*told, strict=True)] == [500, 300, 100]


def test_a_fork_may_come_while_a_thread_makes_something(name: str) -> None:
    state, over = SharedState(name), threading.Event()

    def make() -> None:
        for n in range(1_000_000):
            if over.is_set():
                return
            state.token_bucket(f"{n % 4_000}", SLOW, 100)
            SharedState(name)

    threads = [threading.Thread(target=make) for _ in range(2)]
    for thread in threads:
        thread.start()
    try:
        for turn in range(25):

            def work(turn: int = turn) -> bool:
                state.remove("nothing")
                return SharedState(name).token_bucket(f"of {turn}", SLOW, 1).try_acquire()

            assert said([in_child(work)]) == ["True"]
    finally:
        over.set()
        for thread in threads:
            thread.join()


KILLED = """
import os, signal, sys, threading
import meshcore
state = meshcore.SharedState(sys.argv[1])
held = threading.Event()
def hold(_fd):
    held.set()
    signal.pause()
threading.Thread(target=state._file.alone, args=(hold,), daemon=True).start()
held.wait()
if child := os.fork():
    print(child, flush=True)
    os.kill(os.getpid(), signal.SIGKILL)
signal.pause()
"""


def test_a_child_keeps_no_lock_of_a_parent_that_was_killed(name: str) -> None:
    state = SharedState(name)
    command = [sys.executable, "-c", KILLED, name]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as parent:
        assert parent.stdout is not None
        child = int(parent.stdout.readline())
        try:
            assert parent.wait(30) == -signal.SIGKILL
            making = threading.Thread(target=state.token_bucket, args=("x", "1/s"), daemon=True)
            making.start()
            making.join(20)
            assert not making.is_alive()
        finally:
            os.kill(child, signal.SIGKILL)


def burst(n: int) -> int:
    return 1 + n % 5


class Kind(NamedTuple):
    """A kind of part, as killed processes make it."""

    make: Callable[[SharedState, int], Any]
    rules: Callable[[int], str]
    left: Callable[[Any], object]
    """What is left of it."""
    use_up: Callable[[Any], object]


KINDS = {
    "token_bucket": Kind(
        lambda state, n: state.token_bucket(f"{n}", SLOW, burst(n)),
        lambda n: f"rate 1/h, burst {burst(n)}",
        lambda part: part.remaining,
        lambda part: part.try_acquire(part.remaining),
    ),
    "client_limiter": Kind(
        lambda state, n: state.client_limiter(f"{n}", SLOW, burst(n), clients=16 << n % 3),
        lambda n: f"rate 1/h, burst {burst(n)}, clients {16 << n % 3}",
        lambda part: part.remaining("a"),
        lambda part: part.try_acquire("a", part.remaining("a")),
    ),
    "circuit_breaker": Kind(
        lambda state, n: state.circuit_breaker(f"{n}", failures=1, probes=burst(n)),
        lambda n: f"probes {burst(n)}",
        lambda part: part.state,
        lambda part: part.acquire().failure(),
    ),
}


@pytest.mark.parametrize("seed", range(4))
@pytest.mark.parametrize("kind", KINDS)
def test_who_is_killed_while_it_makes_something_harms_nobody(
    kind: str, seed: int, name: str
) -> None:
    """Whatever is found has its own words, and the rules that it was made with."""
    dice, this = random.Random(seed), KINDS[kind]
    state = SharedState(name if seed % 2 else None, size="4MiB")

    def make() -> None:
        own = random.Random(os.getpid())
        while True:
            this.make(state, own.randrange(400))
            if own.random() < 0.05:
                state.remove(f"{own.randrange(400)}")

    def one() -> int:
        child = os.fork()
        if not child:
            try:
                make()
            except meshcore.ConfigError:  # it is full
                signal.pause()
            finally:
                os._exit(1)
        return child

    children = [one() for _ in range(3)]
    for _ in range(20):
        time.sleep(dice.random() / 50)
        gone = children.pop(dice.randrange(3))
        os.kill(gone, signal.SIGKILL)
        assert os.waitpid(gone, 0)[1] == signal.SIGKILL
        children.append(one())
    for child in children:
        os.kill(child, signal.SIGKILL)
        os.waitpid(child, 0)
    found = {n: state._file.words.find(kind, f"{n}") for n in range(400)}
    there = [n for n, each in found.items() if each is not None]
    assert len(there) > 100
    assert all(this.rules(n) in each[1] for n, each in found.items() if each is not None)
    parts = [this.make(state, n) for n in there]
    before = [this.left(part) for part in parts]
    for part in parts[::2]:
        this.use_up(part)
    assert [this.left(part) for part in parts[1::2]] == before[1::2]
    assert not {this.left(part) for part in parts[::2]} & set(before[1::2])


# --- chance ---------------------------------------------------------------------------------------


def balanced() -> Callable[[], object]:
    balancer = meshcore.Balancer([f"10.0.0.{n}:80" for n in range(1, 9)], balance="random")
    return lambda: [balancer.pick().address for _ in range(20)]


def opened(breaker: meshcore.CircuitBreaker) -> Callable[[], object]:
    def jitter() -> int:
        breaker.acquire().failure()
        try:
            breaker.acquire()
        except meshcore.BreakerOpen as refused:
            return refused.retry_after_ns
        return 0

    return jitter


def clock() -> int:
    return 1_000_000_000_000


CHANCES: dict[str, Callable[[], Callable[[], object]]] = {
    "balancer": balanced,
    "breaker": lambda: opened(
        meshcore.CircuitBreaker(failures=1, clock=clock, open_for="1h", max_open_for="1h")
    ),
}


@pytest.mark.parametrize("chance", CHANCES)
def test_children_do_not_repeat_each_others_chances(chance: str) -> None:
    draw = CHANCES[chance]()

    def grandchildren() -> list[str]:
        return [*said([in_child(draw) for _ in range(2)]), repr(draw())]

    told = said([in_child(draw) for _ in range(4)])
    told += eval(said([in_child(grandchildren)])[0])
    told.append(repr(draw()))
    assert len(set(told)) == 8
