"""What is not over is not counted, and our own refusals say nothing."""

from __future__ import annotations

import asyncio
import contextlib
import functools
import inspect
from collections.abc import AsyncGenerator, AsyncIterator, Awaitable, Callable, Generator, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextvars import Context
from typing import Any

import pytest

import meshcore
from meshcore.errors import Draining, NoHealthyEndpoint, Overflow, RateLimited, Refused
from tests.unit.library.breakers import Make, both, half_open, own, quick
from tests.unit.library.test_limiters import Clock


def failing(items: int = 1) -> Iterator[int]:
    yield from range(items)
    raise RuntimeError


async def async_failing(items: int = 1) -> AsyncIterator[int]:
    for each in range(items):
        yield each
    raise RuntimeError


async def coroutine(wrong: bool = True) -> str:
    await asyncio.sleep(0)
    if wrong:
        raise RuntimeError
    return "done"


class Called:
    """An object that is called as a function."""

    async def __call__(self, wrong: bool = True) -> str:
        return await coroutine(wrong)


class Stream:
    def __call__(self) -> Iterator[int]:
        yield from failing()


class AsyncStream:
    async def __call__(self) -> AsyncIterator[int]:
        async for each in async_failing():
            yield each


class Later:
    """Can be awaited, and is nothing else."""

    def __await__(self) -> Generator[Any, Any, str]:
        return coroutine().__await__()


@functools.singledispatch
def dispatched(wrong: object) -> Any:
    return coroutine()


@dispatched.register
def _(wrong: int) -> Iterator[int]:
    return failing(wrong)


@functools.singledispatch
async def async_dispatched(wrong: object) -> str:
    return await coroutine()


GENERATORS: dict[str, Callable[[], Iterator[int]]] = {
    "generator": failing,
    "partial": functools.partial(failing, 2),
    "partial of a partial": functools.partial(functools.partial(failing), items=2),
    "object": Stream(),
    "partial of an object": functools.partial(Stream()),
    "returned": lambda: failing(),
    "dispatched": functools.partial(dispatched, 2),
}
AWAITABLES: dict[str, Callable[[], Awaitable[str]]] = {
    "coroutine": coroutine,
    "partial": functools.partial(coroutine, True),
    "object": Called(),
    "partial of an object": functools.partial(Called(), wrong=True),
    "method of an object": Called().__call__,
    "returned": lambda: coroutine(),
    "returned task": lambda: asyncio.ensure_future(coroutine()),
    "awaitable": Later,
    "dispatched": functools.partial(dispatched, None),
    "async dispatched": functools.partial(async_dispatched, None),
}
STREAMS: dict[str, Callable[[], AsyncIterator[int]]] = {
    "generator": async_failing,
    "partial": functools.partial(async_failing, 2),
    "object": AsyncStream(),
    "returned": lambda: async_failing(),
}


@both
@pytest.mark.parametrize("kind", GENERATORS)
def test_a_generator_is_guarded_to_its_end(kind: str, make: Make) -> None:
    breaker = quick(make, Clock())
    stream = breaker(GENERATORS[kind])()
    assert next(stream) == 0
    with pytest.raises(RuntimeError):
        list(stream)
    assert breaker.state == "open"
    with pytest.raises(meshcore.BreakerOpen):
        list(breaker(GENERATORS[kind])())


@both
@pytest.mark.parametrize("kind", AWAITABLES)
async def test_what_is_awaited_is_guarded_to_its_end(kind: str, make: Make) -> None:
    breaker = quick(make, Clock())
    function = (lambda: Later()) if kind == "awaitable" else AWAITABLES[kind]
    with pytest.raises(RuntimeError):
        await breaker(function)()
    await asyncio.sleep(0)  # a task's callbacks
    assert breaker.state == "open"
    with pytest.raises(meshcore.BreakerOpen):
        await breaker(function)()


@both
@pytest.mark.parametrize("kind", STREAMS)
async def test_an_async_generator_is_guarded_to_its_end(kind: str, make: Make) -> None:
    breaker = quick(make, Clock())
    stream = breaker(STREAMS[kind])()
    assert await anext(stream) == 0
    with pytest.raises(RuntimeError):
        [each async for each in stream]
    assert breaker.state == "open"
    with pytest.raises(meshcore.BreakerOpen):
        await anext(breaker(STREAMS[kind])())


@both
def test_a_stream_that_is_not_read_to_its_end_says_nothing(make: Make) -> None:
    breaker = half_open(make, Clock())
    stream = breaker(failing)(5)
    next(stream)
    with pytest.raises(meshcore.BreakerOpen):
        Context().run(breaker.acquire)
    stream.close()  # type: ignore[attr-defined]
    assert breaker.state == "half_open"
    breaker(failing)(5)  # never begun: no place is taken
    breaker.acquire().success()
    assert breaker.state == "closed"


@both
async def test_what_is_never_awaited_says_nothing(make: Make) -> None:
    breaker = half_open(make, Clock())
    begun = breaker(lambda: Later())()
    with pytest.raises(meshcore.BreakerOpen):
        breaker.acquire()
    begun.close()  # type: ignore[attr-defined]
    del begun
    breaker.acquire().success()
    assert breaker.state == "closed"


async def test_a_generator_is_sent_and_thrown_to() -> None:
    breaker = meshcore.CircuitBreaker(failures=1)
    closed = []

    @breaker
    def echo() -> Generator[str, str, int]:
        said = "begin"
        while said != "end":
            try:
                said = yield said
            except KeyError:
                said = "key"
        return 7

    @breaker
    async def async_echo() -> AsyncGenerator[str, str]:
        said = "begin"
        try:
            while said != "end":
                try:
                    said = yield said
                except KeyError:
                    said = "key"
        finally:
            await asyncio.sleep(0)
            closed.append(said)

    talk = echo()
    assert [next(talk), talk.send("a"), talk.throw(KeyError())] == ["begin", "a", "key"]
    with pytest.raises(StopIteration) as ended:
        talk.send("end")
    assert ended.value.value == 7
    chat = async_echo()
    assert [await anext(chat), await chat.asend("a")] == ["begin", "a"]
    assert await chat.athrow(KeyError()) == "key"
    with pytest.raises(StopAsyncIteration):
        await chat.asend("end")
    chat = async_echo()
    assert await anext(chat) == "begin"
    await chat.aclose()
    assert closed == ["end", "begin"]
    assert breaker.state == "closed"
    chat = async_echo()
    await anext(chat)
    with pytest.raises(ValueError, match="x"):
        await chat.athrow(ValueError("x"))
    assert breaker.state == "open"


@both
def test_the_future_of_an_executor_settles_when_it_is_done(make: Make) -> None:
    breaker = half_open(make, Clock())

    def work() -> None:
        raise RuntimeError

    with ThreadPoolExecutor(1) as pool:
        future = breaker.call(pool.submit, work)
        assert isinstance(future.exception(), RuntimeError)
    assert breaker.state == "open"


async def test_a_cancelled_future_says_nothing() -> None:
    breaker = half_open(own, Clock())
    future = breaker.call(asyncio.get_running_loop().create_future)
    future.cancel()
    await asyncio.sleep(0)
    breaker.acquire().success()
    assert breaker.state == "closed"


def test_methods_of_every_kind() -> None:
    breaker = meshcore.CircuitBreaker(failures=1)

    class Service:
        factor = 2

        @breaker
        @staticmethod
        def above_static(x: int) -> int:
            return x

        @staticmethod
        @breaker
        def below_static(x: int) -> int:
            return x

        @breaker
        @classmethod
        def above_class(cls, x: int) -> int:
            return cls.factor * x

        @classmethod
        @breaker
        def below_class(cls, x: int) -> int:
            return cls.factor * x

        @breaker
        def method(self, x: int) -> int:
            if x < 0:
                raise RuntimeError
            return self.factor * x

        @breaker
        @staticmethod
        async def above_async(x: int) -> int:
            raise RuntimeError

    service: Any = Service()
    called = [service.above_static, service.below_static, service.above_class, service.below_class]
    assert [each(2) for each in (*called, service.method)] == [2, 2, 4, 4, 4]
    with pytest.raises(RuntimeError):
        asyncio.run(service.above_async(1))
    assert breaker.state == "open"
    breaker.force_closed()
    with pytest.raises(RuntimeError):
        service.method(-1)
    for each in (*called, service.method):
        with pytest.raises(meshcore.BreakerOpen):
            each(2)


def test_a_dispatching_function_goes_on_dispatching() -> None:
    breaker = meshcore.CircuitBreaker()

    @breaker
    @functools.singledispatch
    def shown(value: object) -> str:
        return "object"

    shown.register(int, lambda value: "int")
    assert (shown("x"), shown(1)) == ("object", "int")


def test_it_looks_like_what_it_guards() -> None:
    breaker = meshcore.CircuitBreaker()
    assert inspect.iscoroutinefunction(breaker(coroutine))
    assert inspect.isgeneratorfunction(breaker(failing))
    assert inspect.isasyncgenfunction(breaker(async_failing))
    assert breaker(failing).__name__ == "failing"


class Response:
    """As of an HTTP client: to be awaited, or to be entered."""

    def __await__(self) -> Generator[Any, Any, None]:
        yield from ()

    async def __aenter__(self) -> None: ...
    async def __aexit__(self, *args: object) -> None: ...


@both
def test_what_cannot_be_guarded_is_refused(make: Make) -> None:
    breaker = half_open(make, Clock())
    for refused, told in [
        (Response, "is a class: decorate its methods"),
        (property(failing), "a property is no function: decorate the one in it"),
        (functools.cached_property(failing), "a cached_property is no function"),
        (functools.singledispatchmethod(failing), "a singledispatchmethod is no function"),
        (7, "an int is no function: expected one to decorate, got 7$"),
    ]:
        with pytest.raises(TypeError, match=told):
            breaker(refused)  # type: ignore[call-overload]
    calls: list[Callable[[], Any]] = [breaker(lambda: Response()), lambda: breaker.call(Response)]
    for call in calls:
        with pytest.raises(TypeError, match="a Response is not over when it is there"):
            call()
    breaker.acquire().success()
    assert breaker.state == "closed", "none of it was a verdict, and no place was lost"


REFUSALS = [
    meshcore.BreakerOpen(),
    RateLimited(),
    NoHealthyEndpoint(),
    Overflow(),
    Draining(),
    ExceptionGroup("", [RateLimited(), ExceptionGroup("", [meshcore.BreakerOpen()])]),
    BaseExceptionGroup("", [asyncio.CancelledError(), RateLimited()]),
]
FAILURES = [
    ExceptionGroup("", [OSError()]),
    ExceptionGroup("", [RateLimited(), ExceptionGroup("", [ValueError(), OSError()])]),
    BaseExceptionGroup("", [asyncio.CancelledError(), ConnectionError()]),
]
ANSWERS = [
    ExceptionGroup("", [ValueError()]),
    BaseExceptionGroup("", [asyncio.CancelledError(), RateLimited(), KeyError()]),
]


def end_with(breaker: meshcore.CircuitBreaker, error: BaseException, how: str) -> None:
    def function() -> None:
        raise error

    async def async_function() -> None:
        raise error

    async def async_block() -> None:
        async with breaker:
            raise error

    with pytest.raises(type(error)):  # noqa: PT012  # one of them
        match how:
            case "with":
                with breaker:
                    raise error
            case "async with":
                asyncio.run(async_block())
            case "call":
                breaker.call(function)
            case "decorated":
                breaker(function)()
            case "decorated async":
                asyncio.run(breaker(async_function)())
            case _:
                with breaker.guard():
                    raise error


HOW = ["with", "async with", "call", "decorated", "decorated async", "guard"]


@both
@pytest.mark.parametrize("how", HOW)
def test_exceptions_say_what_is_in_them(how: str, make: Make) -> None:
    clock = Clock()
    breaker = half_open(make, clock, failure_on=OSError)
    for error in REFUSALS:
        end_with(breaker, error, how)
        assert breaker.state == "half_open", repr(error)
    for error in FAILURES:
        end_with(breaker, error, how)
        assert breaker.state == "open", repr(error)
        clock.ns += 1_000_000_000
    for error in ANSWERS:
        breaker.force_open(0)
        end_with(breaker, error, how)
        assert breaker.state == "closed", repr(error)


@both
def test_by_default_too_a_refusal_says_nothing(make: Make) -> None:
    breaker = half_open(make, Clock())
    for error in REFUSALS:
        end_with(breaker, error, "with")
        assert breaker.state == "half_open"
    end_with(breaker, ANSWERS[0], "with")
    assert breaker.state == "open", "any other exception is a failure"


def test_who_names_refusals_or_groups_means_them() -> None:
    breaker = meshcore.CircuitBreaker(failures=1, failure_on=[Refused, ExceptionGroup])
    for error in (RateLimited(), ExceptionGroup("", [ValueError()])):
        end_with(breaker, error, "with")
        assert breaker.state == "open"
        breaker.force_closed()


def test_a_deep_group_is_looked_through() -> None:
    breaker = meshcore.CircuitBreaker(failures=1, failure_on=OSError)
    group: Exception = OSError()
    for _ in range(50_000):
        group = ExceptionGroup("", [group])
    breaker.acquire().end(group)
    assert breaker.state == "open"
    while isinstance(group, ExceptionGroup):  # freed one by one
        (group,) = group.exceptions


@pytest.mark.parametrize("kind", [contextlib.contextmanager, contextlib.asynccontextmanager])
def test_what_makes_a_context_manager_is_refused(kind: Any) -> None:
    """Nothing of it has run when it returns: that is no success."""

    def body() -> Iterator[int]:
        yield 1

    for decorate in (meshcore.CircuitBreaker(), meshcore.Retry(), meshcore.TokenBucket("1/s")):
        with pytest.raises(TypeError, match="makes a context manager"):
            decorate(kind(body))

    @functools.wraps(body)
    def collected() -> list[int]:
        return list(body())

    assert meshcore.CircuitBreaker()(collected)() == [1]
