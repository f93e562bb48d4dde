"""Calls are made again as the core decides, within attempts, time and budget."""

from __future__ import annotations

import asyncio
import email.message
import email.utils
import functools
import io
import multiprocessing
import os
import pickle
import subprocess
import sys
import threading
import time
import urllib.error
from collections.abc import Callable, Iterator
from datetime import timedelta
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

import meshcore
from meshcore.library.retry import asked_ns
from meshcore.testing import Clock

# Nobody wants to wait for a test.
QUICK: dict[str, Any] = {"min_pause": 0, "pause": 0.001, "max_pause": 0.005}


class Flaky:
    """Fails as often as it is told, then works."""

    def __init__(self, failures: int, error: Callable[[], BaseException] = ConnectionError) -> None:
        self.failures, self.error, self.calls = failures, error, 0

    def __call__(self, *args: object) -> tuple[object, ...]:
        self.calls += 1
        if self.calls <= self.failures:
            raise self.error()
        return args


async def later(flaky: Flaky, *args: object) -> tuple[object, ...]:
    await asyncio.sleep(0)
    return flaky(*args)


@pytest.fixture(params=["sync", "async", "decorated", "decorated_async"])
def call(request: pytest.FixtureRequest) -> Callable[..., Any]:
    """Makes a call by a retry, in one of the four ways."""

    def run(retry: meshcore.Retry, flaky: Flaky, *args: object) -> Any:
        if request.param == "sync":
            return retry.call(flaky, *args)
        if request.param == "decorated":
            return retry(flaky)(*args)
        if request.param == "async":
            return asyncio.run(retry.call_async(later, flaky, *args))

        @retry
        async def work(*args: object) -> Any:
            return await later(flaky, *args)

        return asyncio.run(work(*args))

    return run


Call = Callable[..., Any]


@pytest.mark.parametrize("attempts", [1, 2, 5])
def test_it_is_tried_so_often(call: Call, attempts: int) -> None:
    retry = meshcore.Retry(attempts, **QUICK)
    works = Flaky(attempts - 1)
    assert call(retry, works, 1, 2) == (1, 2)
    assert works.calls == attempts
    fails = Flaky(attempts, lambda: OSError("the last"))
    with pytest.raises(OSError, match="the last"):
        call(retry, fails)
    assert fails.calls == attempts


@pytest.mark.parametrize(
    ("on", "again"),
    [
        (OSError, True),
        (ValueError, False),
        ((ValueError, OSError), True),
        ([ValueError, ConnectionError], True),
        (lambda error: isinstance(error, ConnectionError), True),
        (lambda error: False, False),
    ],
)
def test_what_is_a_failure_is_said(call: Call, on: Any, again: bool) -> None:
    flaky = Flaky(1, ConnectionResetError)
    retry = meshcore.Retry(on=on, **QUICK)
    if again:
        call(retry, flaky)
        assert flaky.calls == 2
    else:
        with pytest.raises(ConnectionResetError):
            call(retry, flaky)
        assert flaky.calls == 1


@pytest.mark.parametrize(
    ("group", "again"),
    [
        (ExceptionGroup("", [OSError(), ExceptionGroup("", [OSError()])]), True),
        (ExceptionGroup("", [OSError(), ValueError()]), False),
    ],
)
def test_a_group_is_what_is_in_it(call: Call, group: ExceptionGroup[Any], again: bool) -> None:
    flaky = Flaky(1, lambda: group)
    retry = meshcore.Retry(on=OSError, **QUICK)
    if again:
        call(retry, flaky)
    else:
        with pytest.raises(ExceptionGroup):
            call(retry, flaky)
    assert flaky.calls == 1 + again


@pytest.mark.parametrize("error", [KeyboardInterrupt, SystemExit, asyncio.CancelledError])
def test_what_ends_the_program_or_the_task_is_no_failure(call: Call, error: Any) -> None:
    flaky = Flaky(1, error)
    budget = meshcore.RetryBudget()
    with pytest.raises(BaseException, match=r".*") as caught:
        call(meshcore.Retry(on=BaseException, budget=budget, **QUICK), flaky)
    assert isinstance(caught.value, error)
    assert (flaky.calls, budget.calls, budget.retries) == (1, 0, 0)


def test_results_may_be_failures(call: Call) -> None:
    counted: list[int] = []

    class Answers(Flaky):
        def __call__(self, *_args: object) -> Any:
            self.calls += 1
            counted.append(self.calls)
            return self.calls

    retry = meshcore.Retry(4, on_result=lambda answer: answer < 3, **QUICK)
    assert call(retry, Answers(0)) == 3
    retry = meshcore.Retry(2, on_result=lambda answer: answer < 3, **QUICK)
    assert call(retry, Answers(0)) == 2, "the last one is the caller's"


def pauses(retry: meshcore.Retry, count: int) -> list[int]:
    under_way = retry.begin()
    found = [under_way.again() for _ in range(count)]
    return [pause for pause in found if pause is not None]


def test_pauses_are_the_cores() -> None:
    retry = meshcore.Retry(6, min_pause="10ms", pause="100ms", max_pause="500ms")
    longest = [0] * 5
    for _ in range(300):
        for number, pause in enumerate(pauses(retry, 9)):
            assert pause >= 10_000_000
            longest[number] = max(longest[number], pause)
    for found, most in zip(longest, (100, 200, 400, 500, 500), strict=True):
        assert 0.9 * most < found / 1e6 <= most
    assert pauses(meshcore.Retry(3), 9) != pauses(meshcore.Retry(3), 9)


def test_who_asks_to_be_left_alone_is(call: Call) -> None:
    begin = time.monotonic()
    asks = Flaky(1, lambda: meshcore.RateLimited("", 30_000_000))
    call(meshcore.Retry(min_pause=0, pause=0, max_pause=5), asks)
    assert 0.03 <= time.monotonic() - begin < 3
    for error in (meshcore.RateLimited("", 10**10), meshcore.BreakerOpen("", 10**10)):
        flaky = Flaky(1, functools.partial(_same, error))
        with pytest.raises(type(error)):
            call(meshcore.Retry(max_pause="9s"), flaky)
        assert flaky.calls == 1, "who asks for more than is ever waited is not asked again"


def _same(error: BaseException) -> BaseException:
    return error


class Response:
    def __init__(self, value: object, name: str = "Retry-After") -> None:
        self.headers: Any = {name: value}


class HTTPStatusError(Exception):
    """As httpx and requests have it."""

    def __init__(self, response: Response) -> None:
        self.response = response


def http_error(value: str) -> urllib.error.HTTPError:
    headers = email.message.Message()
    headers["Retry-After"] = value
    return urllib.error.HTTPError("http://a.example", 503, "busy", headers, io.BytesIO())


class AsksError(Exception):
    def __init__(self, retry_after: object) -> None:
        self.retry_after = retry_after


@pytest.mark.parametrize(
    ("outcome", "seconds"),
    [
        (Response("2"), 2),
        (Response("2", "retry-after"), 2),
        (HTTPStatusError(Response(" 3 ")), 3),
        (http_error("4"), 4),
        (meshcore.RateLimited("", 5_000_000_000), 5),
        (AsksError(1.5), 1.5),
        (AsksError(timedelta(seconds=6)), 6),
        (AsksError(-1), 0),
        (AsksError("soon"), 0),
        (AsksError(float("inf")), 0),
        (Response("Wed, 21 Oct 2015 07:28:00 GMT"), 0),
        (Response("-1"), 0),
        (Response("\u0661"), 0),
        (Response(7), 0),
        (OSError(), 0),
        (None, 0),
    ],
)
def test_what_failed_says_for_how_long(outcome: object, seconds: float) -> None:
    assert asked_ns(outcome) == int(seconds * 1e9)


def test_a_date_is_counted_from_that_of_its_response() -> None:
    response = Response("Wed, 21 Oct 2015 07:28:00 GMT")
    response.headers["Date"] = "Wed, 21 Oct 2015 07:27:58 GMT"
    assert asked_ns(response) == 2_000_000_000
    assert asked_ns(Response(email.utils.formatdate(time.time() + 100, usegmt=True))) > 90 * 10**9


def test_a_response_that_asks_for_too_much_is_the_callers(call: Call) -> None:
    class Answers(Flaky):
        def __call__(self, *_args: object) -> Any:
            self.calls += 1
            return Response("60")

    answers = Answers(0)
    retry = meshcore.Retry(on_result=lambda _: True)
    assert call(retry, answers).headers == {"Retry-After": "60"}
    assert answers.calls == 1


class TakesTime(Flaky):
    """Each attempt takes 10 ms of a clock of the test's own."""

    def __init__(self, clock: Clock) -> None:
        super().__init__(10**6)
        self.clock, self.began = clock, list[int]()

    def __call__(self, *args: object) -> tuple[object, ...]:
        self.began.append(self.clock())
        self.clock.advance("10ms")
        return super().__call__(*args)


# The pauses are none, so the clock moves with the attempts alone.
AT_ONCE: dict[str, Any] = {"min_pause": 0, "pause": 0, "max_pause": 0}


def test_no_attempt_begins_after_the_deadline(call: Call) -> None:
    clock = Clock()
    flaky, begin = TakesTime(clock), clock()
    retry = meshcore.Retry(1_000, deadline="95ms", clock=clock, **AT_ONCE)
    with pytest.raises(ConnectionError):
        call(retry, flaky)
    assert [began - begin for began in flaky.began] == list(range(0, 100_000_000, 10_000_000))


def test_the_deadline_around_is_inherited(call: Call) -> None:
    clock = Clock()
    flaky = TakesTime(clock)
    retry = meshcore.Retry(1_000, deadline="1h", clock=clock, **AT_ONCE)
    with meshcore.Deadline(0.095, clock=clock), pytest.raises(ConnectionError):
        call(retry, flaky)
    assert flaky.calls == 10
    with meshcore.Deadline(0, clock=clock), pytest.raises(meshcore.DeadlineExceeded):
        call(retry, flaky)
    assert flaky.calls == 10


def test_what_is_called_inherits_the_deadline(call: Call) -> None:
    bucket = meshcore.TokenBucket("1/h", 1)
    bucket.acquire()

    clock = Clock()

    class Waits(Flaky):
        def __call__(self, *_args: object) -> Any:
            self.calls += 1
            clock.advance("49ms")
            threading.Thread(target=clock.advance, args=("1ms",)).start()
            bucket.wait_blocking()

    waits = Waits(0)
    with pytest.raises(meshcore.DeadlineExceeded):
        call(meshcore.Retry(deadline="50ms", clock=clock, **QUICK), waits)
    assert waits.calls == 1


def test_the_budget_bounds_retries_at_one_time() -> None:
    budget = meshcore.RetryBudget("50%", 0)
    retry = meshcore.Retry(3, budget=budget, **QUICK)
    under_way = [retry.begin() for _ in range(5)]
    assert (budget.calls, budget.retries) == (5, 0)
    assert [each.again() is not None for each in under_way] == [True, True, False, False, False]
    assert budget.retries == 2
    assert under_way[0].again() is not None, "its own place is free again"
    under_way[1].end()
    under_way[1].end()
    assert (budget.calls, budget.retries) == (4, 1)
    del under_way
    assert (budget.calls, budget.retries) == (0, 0)


def test_a_call_is_counted_until_it_is_over(call: Call) -> None:
    budget = meshcore.RetryBudget("0%", 1)
    seen: list[tuple[int, int]] = []

    class Looks(Flaky):
        def __call__(self, *args: object) -> Any:
            seen.append((budget.calls, budget.retries))
            return super().__call__(*args)

    call(meshcore.Retry(budget=budget, **QUICK), Looks(2))
    assert seen == [(1, 0), (1, 1), (1, 1)]
    with pytest.raises(ConnectionError):
        call(meshcore.Retry(budget=budget, **QUICK), Looks(9))
    assert (budget.calls, budget.retries) == (0, 0)


def test_without_room_the_failure_is_the_callers(call: Call) -> None:
    flaky = Flaky(1)
    with pytest.raises(ConnectionError):
        call(meshcore.Retry(budget=meshcore.RetryBudget("0%", 0), **QUICK), flaky)
    assert flaky.calls == 1


@given(
    percent=st.integers(0, 100),
    floor=st.integers(0, 3),
    steps=st.lists(st.tuples(st.sampled_from("bare"), st.integers(0, 20)), max_size=60),
)
def test_never_more_retries_than_allowed(
    percent: int, floor: int, steps: list[tuple[str, int]]
) -> None:
    budget = meshcore.RetryBudget(percent, floor)
    retry = meshcore.Retry(1_000, budget=budget)
    under_way: list[Any] = []
    for step, at in steps:
        if step == "b" or not under_way:
            under_way.append(retry.begin())
        elif step == "e":
            under_way.pop(at % len(under_way)).end()
        else:
            before = budget.retries
            if under_way[at % len(under_way)].again() is not None:
                assert budget.retries <= max(budget.calls * percent // 100, floor)
            else:
                assert budget.retries <= before
        assert budget.calls == len(under_way)


def test_threads_share_a_budget() -> None:
    budget = meshcore.RetryBudget("0%", 2)
    retry = meshcore.Retry(1_000, budget=budget)
    most: list[int] = []

    def run() -> None:
        for _ in range(300):
            under_way = retry.begin()
            if under_way.again() is not None:
                most.append(budget.retries)
            under_way.end()

    threads = [threading.Thread(target=run) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert max(most) <= 2
    assert (budget.calls, budget.retries) == (0, 0)


@pytest.fixture
def name() -> Iterator[str]:
    name = f"retry-{time.monotonic_ns()}"
    yield name
    meshcore.SharedState.unlink(name)


HOLDER = """
import os, signal, sys, meshcore
budget = meshcore.SharedState(sys.argv[1]).retry_budget("db", "0%", 1)
held = meshcore.Retry(budget=budget).begin()
assert held.again() is not None
print("held", flush=True)
sys.stdin.read() or os.kill(os.getpid(), signal.SIGKILL)
"""


def test_processes_share_a_budget_and_the_dead_are_forgotten(name: str) -> None:
    state = meshcore.SharedState(name)
    budget = state.retry_budget("db", "0%", 1)
    command = [sys.executable, "-c", HOLDER, name]
    pipe = subprocess.PIPE
    with subprocess.Popen(command, stdin=pipe, stdout=pipe, text=True) as holder:
        assert holder.stdout is not None
        assert holder.stdout.readline() == "held\n"
        assert (budget.calls, budget.retries) == (1, 1)
        assert meshcore.Retry(budget=budget).begin().again() is None
    later_ns = meshcore.now_ns() + 65_000_000_000
    later = state.retry_budget("db", "0%", 1, clock=lambda: later_ns)
    assert (later.calls, later.retries) == (0, 0)
    assert meshcore.Retry(budget=later).begin().again() is not None


def _count(budget: meshcore.RetryBudget, results: Any) -> None:
    results.put(budget.calls)


def test_a_shared_budget_is_pickled_by_name(name: str) -> None:
    budget = meshcore.SharedState(name).retry_budget("db")
    held = meshcore.Retry(budget=budget).begin()
    assert pickle.loads(pickle.dumps(budget)).calls == 1
    context = multiprocessing.get_context("spawn")
    results = context.Queue()
    process = context.Process(target=_count, args=(budget, results))
    process.start()
    assert results.get(timeout=60) == 1
    process.join(60)
    held.end()
    with pytest.raises(ValueError, match="shared with percent 20%; asked for was percent 30%"):
        meshcore.SharedState(name).retry_budget("db", "30%")
    with pytest.raises(TypeError, match="this process alone"):
        pickle.dumps(meshcore.RetryBudget())


def generator() -> Iterator[int]:
    yield 1


def test_generators_are_refused() -> None:
    with pytest.raises(TypeError, match="is a generator"):
        meshcore.Retry()(generator)


def test_a_plain_function_that_is_async_after_all_is_refused() -> None:
    flaky = Flaky(0)

    def work() -> Any:
        return later(flaky)

    for call in (functools.partial(meshcore.Retry().call, work), meshcore.Retry()(work)):
        with pytest.raises(TypeError, match="make it async"):
            call()
    assert flaky.calls == 0


@pytest.mark.parametrize(
    ("rules", "told"),
    [
        ({"attempts": 0}, "attempts: must be a whole number within 1 and 1000, got 0"),
        ({"attempts": True}, "attempts: must be a whole number within 1 and 1000, got true"),
        ({"attempts": "3"}, "attempts: must be a whole number within 1 and 1000, got '3'"),
        ({"pause": "soon"}, "pause: 'soon' is not a duration"),
        ({"pause": -1}, "pause: -1 is less than no time"),
        ({"min_pause": "1s"}, "pause must be within min_pause and max_pause"),
        ({"max_pause": "1ms"}, "pause must be within min_pause and max_pause"),
        ({"deadline": float("nan")}, "deadline: nan is not a duration"),
    ],
)
def test_rules_that_are_none(rules: dict[str, Any], told: str) -> None:
    with pytest.raises(ValueError, match=told):
        meshcore.Retry(**rules)


def test_what_is_no_rule_at_all() -> None:
    wrong: list[dict[str, Any]] = [
        {"on": [OSError, 5]},
        {"on": int},
        {"on": 5},
        {"on_result": 5},
        {"budget": 5},
        {"tries": 5},
    ]
    for rules in wrong:
        with pytest.raises(TypeError):
            meshcore.Retry(**rules)
    for budget in ({"percent": 101}, {"percent": "x"}, {"floor": -1}, {"floor": True}):
        with pytest.raises(ValueError, match=r"percent|floor|%"):
            meshcore.RetryBudget(**budget)


def test_who_was_told_the_same_does_not_come_back_in_one_instant() -> None:
    pauses: set[int] = set()
    for _ in range(50):
        again = meshcore.Retry(2, max_pause="2s").begin().again(1_000_000_000)
        assert again is not None
        assert 1_025_000_000 <= again < 1_250_000_000
        pauses.add(again)
    assert len(pauses) > 40
    for _ in range(50):
        again = meshcore.Retry(2).begin().again(1_000_000_000, 1_001_000_000)
        assert again is not None
        assert 1_000_000_000 <= again < 1_001_000_000
    assert meshcore.Retry(2).begin().again(1_000_000_000, 1_000_000_000) is None


def in_a_child(work: Callable[[], bool]) -> bool:
    child = os.fork()
    if not child:
        os._exit(0 if work() else 1)
    return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0


def test_a_child_has_an_own_budget_for_itself() -> None:
    budget = meshcore.RetryBudget(0, floor=2)
    retry = meshcore.Retry(3, min_pause=0, pause=0, budget=budget)
    under_way = [retry.begin() for _ in range(3)]
    assert [call.again() is not None for call in under_way] == [True, True, False]

    def of_the_child() -> bool:
        begun = (budget.calls, budget.retries) == (0, 0)
        flaky = Flaky(2)
        return begun and retry.call(flaky) == () and (budget.calls, budget.retries) == (0, 0)

    assert in_a_child(of_the_child)
    assert in_a_child(lambda: in_a_child(of_the_child))
    assert (budget.calls, budget.retries) == (3, 2)
    for call in under_way:
        call.end()
    assert (budget.calls, budget.retries) == (0, 0)


def test_a_child_shares_a_budget_that_is_shared() -> None:
    budget = meshcore.SharedState().retry_budget("a", 0, floor=2)
    retry = meshcore.Retry(3, min_pause=0, pause=0, budget=budget)
    under_way = [retry.begin() for _ in range(2)]
    assert all(call.again() is not None for call in under_way)
    assert in_a_child(lambda: (budget.calls, budget.retries) == (2, 2))


async def test_a_service_that_hangs_opens_the_breaker_around_a_retry_alone() -> None:
    async def hang() -> None:
        await asyncio.sleep(60)

    within = meshcore.CircuitBreaker(failures=1)
    around = meshcore.CircuitBreaker(failures=1)
    retry = meshcore.Retry(deadline="20ms", **QUICK)
    for call in (retry(within(hang)), around(retry(hang))):
        with pytest.raises(meshcore.DeadlineExceeded):
            await call()
    assert (within.state, around.state) == ("closed", "open")
