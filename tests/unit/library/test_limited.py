"""What a limiter tells of itself, and how it stands before blocks and functions of any kind."""

from __future__ import annotations

import asyncio
import functools
import inspect
import ipaddress
import threading
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from typing import Any, TypeVar, cast

import pytest

import meshcore

SLOW = "1/h"
F = TypeVar("F")


def told(function: object) -> str:
    """For a test's name, the same in every process."""
    return getattr(function, "__qualname__", type(function).__qualname__)


class Clock:
    """Time that stands still until it is moved."""

    def __init__(self) -> None:
        self.ns = 1_000_000_000_000

    def __call__(self) -> int:
        return self.ns


@pytest.fixture(params=["bucket", "clients", "shared_bucket", "shared_clients"])
def kind(request: pytest.FixtureRequest) -> str:
    return str(request.param)


class Limiter:
    """A bucket, or the bucket of one client, behind the same calls."""

    def __init__(self, kind: str, rate: str, burst: int, clock: Clock | None = None) -> None:
        home: Any = meshcore.SharedState() if "shared" in kind else None
        self.of: tuple[str, ...] = ("tenant-a",) if "clients" in kind else ()
        if "clients" in kind:
            make = home and functools.partial(home.client_limiter, "x")
            self.made: Any = (make or meshcore.ClientLimiter)(rate, burst, clock=clock)
        else:
            make = home and functools.partial(home.token_bucket, "x")
            self.made = (make or meshcore.TokenBucket)(rate, burst, clock=clock)

    def acquire(self, n: int = 1) -> None:
        self.made.acquire(*self.of, n)

    def peek(self) -> meshcore.LimitState:
        state: meshcore.LimitState = self.made.peek(*self.of)
        return state

    def reset(self) -> None:
        self.made.reset(*self.of)

    def limiting(self, n: int = 1) -> Any:
        return self.made.limiting(*self.of, n)

    def waiting(self, n: int = 1, limit: Any = None) -> Any:
        return self.made.waiting(*self.of, n, timeout=limit)


def test_what_is_there_can_be_looked_at(kind: str) -> None:
    clock = Clock()
    limiter = Limiter(kind, "10/s", 25, clock)
    assert limiter.peek()[:2] == (25, 25)
    assert limiter.peek().reset_after_ns <= 1
    assert limiter.peek().window_ns == 2_500_000_000
    limiter.acquire(20)
    seen = limiter.peek()
    assert (seen.limit, seen.remaining) == (25, 5)
    assert seen.reset_after == pytest.approx(2, abs=0.001)
    assert limiter.peek() == seen, "a look takes nothing"
    clock.ns += 500_000_000
    assert limiter.peek().remaining == 10


def test_fields_tell_a_client(kind: str) -> None:
    clock = Clock()
    limiter = Limiter(kind, "10/s", 25, clock)
    limiter.acquire(12)
    clock.ns += 100_000_000
    assert limiter.peek().fields() == {
        "RateLimit-Policy": '"default";q=25;w=3',
        "RateLimit": '"default";r=14;t=2',
        "RateLimit-Limit": "25",
        "RateLimit-Remaining": "14",
        "RateLimit-Reset": "2",
    }
    fields = limiter.peek().fields('per "user"\\')
    assert fields["RateLimit"] == r'"per \"user\"\\";r=14;t=2'
    for bad in ("ü", "a\r\nb", "\x7f"):
        with pytest.raises(ValueError, match="printable ASCII"):
            limiter.peek().fields(bad)


def test_a_full_bucket_waits_for_nothing() -> None:
    fields = meshcore.TokenBucket("1000000/s", 1).peek().fields()
    assert fields["RateLimit-Policy"] == '"default";q=1;w=1'
    assert fields["RateLimit"] == '"default";r=1;t=0'


def test_a_reset_fills(kind: str) -> None:
    limiter = Limiter(kind, SLOW, 3)
    limiter.acquire(3)
    if limiter.of:
        limiter.made.acquire("tenant-b", 3)
    limiter.reset()
    assert limiter.peek().remaining == 3
    if limiter.of:
        assert limiter.made.remaining("tenant-b") == 0, "one client alone"
    limiter.acquire(3)


async def test_a_reset_is_heard_by_who_waits(kind: str) -> None:
    limiter = Limiter(kind, SLOW, 1)
    limiter.acquire()
    waiting = asyncio.create_task(limiter.made.wait(*limiter.of))
    await asyncio.sleep(0)
    limiter.reset()
    # By itself a token would take longer than anybody waits.
    await asyncio.wait_for(waiting, 5)


def plain(x: int) -> int:
    return x + 1


async def coroutine(x: int) -> int:
    return x + 1


class Called:
    """An object whose calls are async."""

    async def __call__(self, x: int) -> int:
        return x + 1


class PlainCalled:
    def __call__(self, x: int) -> int:
        return x + 1


def returns_awaitable(x: int) -> Awaitable[int]:
    return coroutine(x)


@functools.singledispatch
def dispatched(x: object) -> int:
    return 0


@dispatched.register
def _(x: int) -> int:
    return x + 1


class Methods:
    def method(self, x: int) -> int:
        return x + 1


PLAIN: list[Any] = [
    plain,
    functools.partial(plain),
    PlainCalled(),
    dispatched,
    Methods().method,
    lambda x: x + 1,
]
ASYNC: list[Any] = [coroutine, functools.partial(functools.partial(coroutine)), Called()]


@pytest.mark.parametrize("function", PLAIN, ids=told)
def test_each_call_takes_a_token(kind: str, function: Callable[[int], int]) -> None:
    limiter = Limiter(kind, SLOW, 2)
    limited = limiter.limiting()(function)
    assert [limited(1), limited(2)] == [2, 3]
    with pytest.raises(meshcore.RateLimited) as caught:
        limited(3)
    assert caught.value.retry_after > 3000


@pytest.mark.parametrize("function", ASYNC, ids=told)
async def test_async_calls_take_theirs_when_awaited(
    kind: str, function: Callable[[int], Awaitable[int]]
) -> None:
    limiter = Limiter(kind, SLOW, 2)
    limited = limiter.limiting()(function)
    assert inspect.iscoroutinefunction(limited)
    limited(1).close()
    assert limiter.peek().remaining == 2, "nothing was done"
    assert [await limited(1), await limited(2)] == [2, 3]
    with pytest.raises(meshcore.RateLimited):
        await limited(3)


async def test_what_returns_something_to_await_takes_its_token_at_the_call(kind: str) -> None:
    limiter = Limiter(kind, SLOW, 1)
    limited = limiter.limiting()(returns_awaitable)
    assert await limited(1) == 2
    with pytest.raises(meshcore.RateLimited):
        limited(1)


def generator() -> Iterator[int]:
    yield 1


async def async_generator() -> AsyncIterator[int]:
    yield 1


class GeneratorCalled:
    def __call__(self) -> Iterator[int]:
        yield 1


@pytest.mark.parametrize(
    "function",
    [generator, async_generator, functools.partial(generator), GeneratorCalled()],
    ids=told,
)
def test_generators_are_refused(kind: str, function: Any) -> None:
    limiter = Limiter(kind, SLOW, 1)
    for decorate in (limiter.limiting(), limiter.waiting()):
        with pytest.raises(TypeError, match="is a generator"):
            decorate(function)


@pytest.mark.parametrize("function", [Methods, 5, None, property(plain)], ids=told)
def test_what_is_no_function_is_refused(kind: str, function: Any) -> None:
    limiter = Limiter(kind, SLOW, 1)
    for decorate in (limiter.limiting(), limiter.waiting()):
        with pytest.raises(TypeError, match=r"(class|function): (decorate|expected one to)"):
            decorate(function)


async def test_methods_of_every_kind_are_limited(kind: str) -> None:
    limiter = Limiter(kind, SLOW, 4)

    def limit(function: F) -> F:
        return cast("F", limiter.limiting()(function))

    class Service:
        @limit
        def plain(self, x: int) -> tuple[object, int]:
            return self, x

        @limit
        @classmethod
        def of_class(cls, x: int) -> tuple[object, int]:
            return cls, x

        @classmethod
        @limit
        def inside(cls, x: int) -> tuple[object, int]:
            return cls, x

        @limit
        @staticmethod
        async def static(x: int) -> int:
            return x

    service: Any = Service()
    assert service.plain(1) == (service, 1)
    assert service.of_class(2) == (Service, 2)
    assert service.inside(3) == (Service, 3)
    assert await service.static(4) == 4
    with pytest.raises(meshcore.RateLimited):
        service.plain(5)


def test_a_bucket_is_a_decorator() -> None:
    bucket = meshcore.TokenBucket(SLOW, 1)

    @bucket
    def work(a: int, *, b: int = 2) -> int:
        """Says what it does."""
        return a + b

    assert (work.__name__, work.__doc__) == ("work", "Says what it does.")
    assert work(1, b=5) == 6
    with pytest.raises(meshcore.RateLimited):
        work(1)


def test_a_client_comes_from_the_call() -> None:
    clients = meshcore.ClientLimiter(SLOW, 2)

    @clients.limiting(lambda user, **_: f"user-{user}", 2)
    def work(user: int, **more: int) -> int:
        return user

    assert [work(1), work(2, x=1)] == [1, 2]
    with pytest.raises(meshcore.RateLimited):
        work(1)
    with pytest.raises(ValueError, match="3 tokens are more than the bucket holds"):
        clients.limiting("x", 3)
    with pytest.raises(ValueError, match="3 tokens are more than the bucket holds"):
        meshcore.TokenBucket(SLOW, 2).limiting(3)


async def test_blocks_wait_in_line(kind: str) -> None:
    limiter, order = Limiter(kind, "100/s", 2), list[int]()
    turn = limiter.waiting(2)

    async def come(number: int) -> None:
        async with turn:
            order.append(number)

    begin = time.monotonic()
    await asyncio.gather(*(come(number) for number in range(5)))
    assert order == [0, 1, 2, 3, 4]
    assert time.monotonic() - begin >= 0.079
    with pytest.raises(meshcore.RateLimited, match="waited in vain"):
        async with limiter.waiting(2, "1ms"):
            order.append(5)
    assert order == [0, 1, 2, 3, 4]


async def test_async_with_a_bucket_waits_for_a_token() -> None:
    bucket = meshcore.TokenBucket("100/s", 1)
    begin = time.monotonic()
    for _ in range(3):
        async with bucket:
            pass
    assert time.monotonic() - begin >= 0.019


def test_blocks_of_threads_wait(kind: str) -> None:
    limiter = Limiter(kind, "200/s", 1)
    turn, done = limiter.waiting(), list[int]()

    def come(number: int) -> None:
        with turn:
            done.append(number)

    begin = time.monotonic()
    threads = [threading.Thread(target=come, args=(number,)) for number in range(5)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(20)
    assert sorted(done) == [0, 1, 2, 3, 4]
    assert time.monotonic() - begin >= 0.019


async def test_functions_wait_before_each_call(kind: str) -> None:
    limiter = Limiter(kind, "100/s", 1)
    begin = time.monotonic()
    for function in PLAIN:
        assert limiter.waiting()(function)(1) == 2
    for function in ASYNC:
        limited = limiter.waiting()(function)
        assert inspect.iscoroutinefunction(limited)
        assert await limited(1) == 2
    assert time.monotonic() - begin >= 0.079
    with pytest.raises(meshcore.RateLimited):
        limiter.waiting(1, 0)(plain)(1)


def test_a_plain_function_that_is_async_after_all_is_refused(kind: str) -> None:
    limiter = Limiter(kind, SLOW, 1)
    with pytest.raises(TypeError, match="make it async"):
        limiter.waiting()(returns_awaitable)(1)


def test_mistakes_are_told_when_decorating(kind: str) -> None:
    limiter = Limiter(kind, SLOW, 1)
    with pytest.raises(ValueError, match="2 tokens are more"):
        limiter.waiting(2)
    wrong: Any = 1.5
    for take in (limiter.limiting, limiter.waiting):
        with pytest.raises(ValueError, match=r"^n: must be a whole number within 0 and 1, got 1.5"):
            take(wrong)
    if limiter.of:
        for take in (limiter.made.limiting, limiter.made.waiting):
            with pytest.raises(TypeError, match="a client is a text, or a function"):
                take(5)
        with pytest.raises(TypeError, match=r"told whose tokens a call takes: @limiter\.limiting"):
            limiter.made(plain)
        bare = limiter.made.limiting(plain)
        with pytest.raises(TypeError, match=r"limiting without by takes <function plain"):
            bare(5)
        for client, hint in (
            (None, r"got None(?m:$)"),
            (ipaddress.ip_address("::1"), r"got IPv6Address\('::1'\): write str\(…\) of it"),
            (("192.0.2.1", 5), r"got \('192.0.2.1', 5\): its address is the first of it"),
        ):
            for call in (limiter.made.acquire, limiter.made.try_acquire, limiter.made.peek):
                with pytest.raises(TypeError, match=rf"^client: expected a text.*{hint}"):
                    call(client)
    with pytest.raises(ValueError, match="not a duration"):
        limiter.waiting(1, "soon")
    with pytest.raises(ValueError, match="less than no time"):
        limiter.waiting(1, -1)
