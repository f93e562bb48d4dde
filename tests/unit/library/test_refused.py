"""What programs may not say is refused in one way by all parts, when they are made."""

from __future__ import annotations

import errno
import os
import subprocess
import sys
import time
from collections import deque
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

import meshcore
from meshcore import CircuitBreaker, SharedState
from meshcore.library import keywords

STATE = SharedState()
ENDPOINTS = ["a:1"]
PARTS: dict[str, Callable[..., Any]] = {
    "bucket": lambda **given: meshcore.TokenBucket("1/s", **given),
    "clients": lambda **given: meshcore.ClientLimiter("1/s", **given),
    "breaker": CircuitBreaker,
    "retry": meshcore.Retry,
    "budget": meshcore.RetryBudget,
    "balancer": lambda **given: meshcore.Balancer(ENDPOINTS, **given),
    "shared_bucket": lambda **given: STATE.token_bucket("x", "1/s", **given),
    "shared_clients": lambda **given: STATE.client_limiter("x", "1/s", **given),
    "shared_breaker": lambda **given: STATE.circuit_breaker("x", **given),
    "shared_budget": lambda **given: STATE.retry_budget("x", **given),
}
ROUTES: dict[str, Callable[..., Any]] = {
    "insert": lambda **given: meshcore.RouteMap[int]().insert("x", 1, **given),
    "replace": lambda **given: meshcore.RouteMap[int]().replace("x", 1, **given),
    "insert_all": lambda **given: meshcore.RouteMap[int]().insert_all([("x", 1, given)]),  # type: ignore[list-item]
}
MISSPELT = {
    "bucket": ("brust", "burst"),
    "clients": ("cleints", "clients"),
    "breaker": ("faliures", "failures"),
    "retry": ("max_puase", "max_pause"),
    "budget": ("flor", "floor"),
    "balancer": ("eject_fr", "eject_for"),
    "state": ("sice", "size"),
    "insert": ("prefx", "prefix"),
    "replace": ("prioritty", "priority"),
    "insert_all": ("metods", "methods"),
}


@pytest.mark.parametrize("part", [*PARTS, *ROUTES, "state"])
def test_a_misspelt_keyword(part: str) -> None:
    make = {**PARTS, **ROUTES, "state": SharedState}[part]
    said, meant = MISSPELT[part.removeprefix("shared_")]
    with pytest.raises(TypeError, match=f"^there is no keyword {said}: did you mean {meant}\\?$"):
        make(**{said: 1})
    with pytest.raises(TypeError, match=r"^there is no keyword qqqq$"):
        make(qqqq=1)


@pytest.mark.parametrize(
    ("part", "said", "meant"),
    [
        *(("breaker", said, "open_for") for said in ("reset_timeout", "recovery_timeout")),
        *(("breaker", said, "open_for") for said in ("timeout", "timeout_duration")),
        ("breaker", "waitDurationInOpenState", "open_for"),
        ("breaker", "failureRateThreshold", "failure_percent"),
        ("breaker", "fail_max", "failures"),
        ("breaker", "exclude", "ignore"),
        ("breaker", "expected_exception", "failure_on"),
        ("shared_breaker", "fail_max", "failures"),
        ("retry", "stop", "attempts"),
        ("retry", "wait", "pause"),
        ("retry", "retry", "on"),
        ("retry", "timeout", "deadline"),
        ("bucket", "capacity", "burst"),
    ],
)
def test_a_keyword_of_another_library(part: str, said: str, meant: str) -> None:
    with pytest.raises(TypeError, match=f"^there is no keyword {said}: here it is {meant}$"):
        PARTS[part](**{said: 1})


@pytest.mark.parametrize("meant", keywords._ELSEWHERE)
def test_each_of_their_words_has_a_hint(meant: str) -> None:
    told = set()
    for part in PARTS.values():
        try:
            part(**{meant: "1"})
        except TypeError as error:
            told.add(str(error).partition(": ")[2])
        except ValueError:
            pass  # it is a word of this part's own
    assert any(each.startswith("here it is ") for each in told)


def test_rules_without_their_names() -> None:
    told = r"^rules are given by name, such as CircuitBreaker\(failures=5\), got 5$"
    with pytest.raises(TypeError, match=told):
        meshcore.CircuitBreaker(5)  # type: ignore[call-arg]


@pytest.mark.parametrize(
    ("make", "told"),
    [
        (
            lambda: CircuitBreaker(failure_on="ValueError"),  # type: ignore[arg-type]
            "failure_on: expected classes of exceptions, got 'ValueError': "
            "write ValueError without quotes",
        ),
        (
            lambda: meshcore.Retry(on=["OSError"]),  # type: ignore[list-item]
            "on: expected classes of exceptions, got 'OSError': write OSError without quotes",
        ),
        (
            lambda: CircuitBreaker(failure_percent=0.5),  # type: ignore[arg-type]
            "failure_percent: 0.5 is not a whole percentage: write 50%",
        ),
        (lambda: meshcore.Deadline(-1), "time: -1 is less than no time"),
        (lambda: CircuitBreaker().force_open("soon"), "duration: 'soon' is not a duration"),
    ],
)
def test_what_is_meant_is_told(make: Callable[[], object], told: str) -> None:
    with pytest.raises((TypeError, ValueError)) as caught:
        make()
    assert str(caught.value).startswith(told)


@pytest.mark.parametrize("part", PARTS)
def test_a_clock_that_is_none(part: str) -> None:
    told = "^clock: expected a function that gives nanoseconds, got 5$"
    with pytest.raises(TypeError, match=told):
        PARTS[part](clock=5)
    PARTS[part](clock=None)
    STATE.remove("x")


def test_a_deadlines_clock_that_is_none() -> None:
    told = "^clock: expected a function that gives nanoseconds, got 5$"
    with pytest.raises(TypeError, match=told):
        meshcore.Deadline("1s", clock=5)  # type: ignore[arg-type]


HUGE = 10**30


@pytest.mark.parametrize("kind", ["bucket", "clients", "shared_bucket", "shared_clients"])
async def test_counts_beyond_all_bounds(kind: str) -> None:
    limiter = PARTS[kind](burst=7)
    STATE.remove("x")
    of = ("a",) if "clients" in kind else ()
    told = f"^{HUGE} tokens are more than the bucket holds: its burst is 7$"
    negative = "^n: must be a whole number within 0 and (7|4294967296), got -1"
    for call in (limiter.acquire, limiter.wait_blocking, limiter.limiting, limiter.waiting):
        with pytest.raises(ValueError, match=told):
            call(*of, HUGE)
        with pytest.raises(ValueError, match=negative):
            call(*of, -1)
    with pytest.raises(ValueError, match=told):
        await limiter.wait(*of, HUGE)
    assert not limiter.try_acquire(*of, HUGE)
    with pytest.raises(ValueError, match=negative):
        await limiter.wait(*of, -1)
    with pytest.raises(ValueError, match=negative):
        limiter.try_acquire(*of, -1)
    assert (limiter.remaining(*of) if of else limiter.remaining) == 7
    if not of:
        limiter.acquire(7)
        limiter.give_back(HUGE)
        assert limiter.remaining == 7
        with pytest.raises(ValueError, match=negative):
            limiter.give_back(-1)
    for name in ("burst", "clients") if of else ("burst",):
        with pytest.raises(ValueError, match=f"^{name}: must be less than or equal to"):
            PARTS[kind](**{name: HUGE})


SEVERAL: list[Callable[[list[Any]], Any]] = [
    list,
    tuple,
    set,
    frozenset,
    deque,
    iter,
    dict.fromkeys,
]


@pytest.mark.parametrize("several", SEVERAL)
@pytest.mark.parametrize("part", ["breaker", "shared_breaker", "balancer", "retry"])
def test_several_are_any_iterable(part: str, several: Callable[[list[Any]], Any]) -> None:
    name = "on" if part == "retry" else "failure_on"
    made = PARTS[part](**{name: several([OSError, KeyError])})
    STATE.remove("x")
    if part == "retry":
        calls: list[int] = []

        def fail() -> None:
            calls.append(1)
            raise KeyError if len(calls) < 2 else ValueError

        with pytest.raises(ValueError):  # noqa: PT011 (the last one, which is not retried)
            made.call(fail)
        assert len(calls) == 2
    elif part != "balancer":
        with pytest.raises(KeyError), made:
            raise KeyError
        with pytest.raises(ValueError), made:  # noqa: PT011
            raise ValueError
        assert made.snapshot().total_failures == 1


@pytest.mark.parametrize("several", SEVERAL)
@pytest.mark.parametrize("part", ["breaker", "shared_breaker"])
def test_listeners_and_ignored_too(part: str, several: Callable[[list[Any]], Any]) -> None:
    told: list[str] = []

    def first(call: meshcore.CallEnded) -> None:
        told.append(call.outcome)

    made = PARTS[part](on_call=several([first]), ignore=several([KeyError]))
    STATE.remove("x")
    with pytest.raises(KeyError), made:
        raise KeyError
    assert told == ["neutral"]


@pytest.mark.parametrize("part", ["breaker", "balancer", "retry"])
def test_what_is_no_exception(part: str) -> None:
    name = "on" if part == "retry" else "failure_on"
    with pytest.raises(ValueError, match=f"^{name}: is empty"):
        PARTS[part](**{name: ()})
    for wrong in (5, [5], int, "OSError"):
        with pytest.raises(TypeError, match=f"^{name}: expected classes of exceptions, got"):
            PARTS[part](**{name: wrong})


def test_a_breaker_tells_all_that_is_wrong() -> None:
    with pytest.raises(ValueError, match="open_for") as caught:
        CircuitBreaker(failures=-1, open_for=-1, window=float("nan"))
    told = str(caught.value).splitlines()
    assert [line.partition(":")[0] for line in told] == ["open_for", "window", "failures"]
    with pytest.raises(ValueError, match="eject_for") as caught:
        meshcore.Balancer(ENDPOINTS, failures=-1, eject_for=-1)
    told = str(caught.value).splitlines()
    assert [line.partition(":")[0] for line in told] == ["eject_for", "failures"]


# --- what asks to be left alone -------------------------------------------------------------------


class RudeError(Exception):
    """Whatever it is asked for raises."""

    @property
    def retry_after(self) -> float:
        raise RuntimeError("asked")

    retry_after_ns = response = headers = retry_after


class Headers:
    def get(self, _name: str) -> str:
        raise RuntimeError("asked")


class Result:
    headers = Headers()


def test_a_property_that_raises_says_nothing() -> None:
    retry = meshcore.Retry(2, min_pause=0, pause=0, on_result=lambda result: True)
    rude = RudeError("itself")

    def fail() -> None:
        raise rude

    with pytest.raises(RudeError) as caught:
        retry.call(fail)
    assert caught.value is rude
    result = Result()
    assert retry.call(lambda: result) is result


async def test_a_group_asks_for_the_longest() -> None:
    retry = meshcore.Retry(2, min_pause=0, pause=0, max_pause="1h", deadline="1m")
    begin = time.monotonic()
    calls: list[int] = []

    def fail(*seconds: float) -> None:
        calls.append(1)
        asked = [meshcore.RateLimited("", int(each * 1e9)) for each in seconds]
        raise ExceptionGroup("", [OSError(), ExceptionGroup("", asked)])

    async def fail_async(*seconds: float) -> None:
        fail(*seconds)

    for seconds in ((0.01, 0.05), (120, 0.01)):
        with pytest.raises(ExceptionGroup):
            retry.call(fail, *seconds)
    with pytest.raises(ExceptionGroup):
        await retry.call_async(fail_async, 0.01, 0.05)
    assert len(calls) == 2 + 1 + 2, "two minutes are more than the deadline leaves"
    assert 0.1 <= time.monotonic() - begin < 20


# --- states that cannot be ------------------------------------------------------------------------


@pytest.mark.parametrize("size", ["4TiB", "256GiB", (1 << 63) - 1])
def test_a_state_of_more_than_there_can_be(size: str | int) -> None:
    name = f"test-{os.getpid()}-{time.monotonic_ns()}"
    for given in (name, None):
        with pytest.raises(ValueError, match="size: must be within 512KiB and 255GiB, got "):
            SharedState(given, size=size)
    assert not SharedState.unlink(name)


@pytest.mark.parametrize("call", ["posix_fallocate", "ftruncate"])
def test_a_full_disk_leaves_no_file(call: str, monkeypatch: pytest.MonkeyPatch) -> None:
    name = f"test-{os.getpid()}-{time.monotonic_ns()}"

    def full(*_args: int) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(os, call, full)
    told = "a shared state of 1048576 bytes cannot be made: No space left on device$"
    with pytest.raises(OSError, match=told) as caught:
        SharedState(name, size="1MiB")
    assert caught.value.errno == errno.ENOSPC
    monkeypatch.undo()
    assert not SharedState.unlink(name)
    try:
        assert SharedState(name).token_bucket("x", "1/s").try_acquire()
    finally:
        SharedState.unlink(name)


NO_MEMORY = """
import resource, sys, meshcore
resource.setrlimit(resource.RLIMIT_AS, (2 << 30, 2 << 30))
for name in sys.argv[1], None:
    try:
        meshcore.SharedState(name, size="8GiB")
    except OSError as error:
        print(error.strerror)
"""


def test_memory_that_there_is_not_leaves_no_file() -> None:
    name = f"test-{os.getpid()}-{time.monotonic_ns()}"
    command = [sys.executable, "-c", NO_MEMORY, name]
    ended = subprocess.run(command, capture_output=True, text=True, timeout=60, check=True)
    told = "a shared state of 8589934592 bytes cannot be made: Cannot allocate memory"
    assert ended.stdout.splitlines() == [told, told]
    assert not Path(f"/dev/shm/meshcore-{os.geteuid()}-{name}").exists()
