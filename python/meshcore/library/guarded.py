"""Functions of every kind, guarded by a breaker until what they do is over."""

from __future__ import annotations

import functools
import inspect
from contextlib import AbstractContextManager, nullcontext
from types import AsyncGeneratorType, CoroutineType, GeneratorType
from typing import TYPE_CHECKING, Any, Protocol

from meshcore._core import GuardCore
from meshcore.errors import BreakerOpen
from meshcore.library.awaiting import dropped
from meshcore.library.decorating import decorated, innermost

if TYPE_CHECKING:
    from collections.abc import Callable

    from meshcore._core import Permit
    from meshcore.library.breaker import CircuitBreaker
    from meshcore.library.decorating import F

    Function = Callable[..., Any]
    Acquire = Callable[[], Permit]
    Guards = Callable[[], "Guard"]

    class Future(Protocol):
        """What calls back when it is done, of asyncio or of an executor."""

        def cancelled(self) -> bool: ...
        def exception(self) -> BaseException | None: ...
        def result(self) -> object: ...


class Guard(GuardCore):
    """One block, wherever it is entered and left: ``with breaker.guard():``, or ``async with``.

    It gives the block its `Permit`, for a block that knows better than its exceptions what became
    of the call.
    """

    __slots__ = ()

    async def __aenter__(self) -> Permit:
        """As ``with``; never waits."""
        return self.__enter__()

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: object
    ) -> None:
        """As ``with``."""
        self.__exit__(kind, error, trace)


def checked_fallback(given: Any) -> Any:
    """A function, or none. Raises `TypeError` for anything else."""
    if given is not None and not callable(given):
        raise TypeError(f"fallback: expected a function, got {given!r}")
    return given


def guarded(breaker: CircuitBreaker, function: F, fallback: Function | None) -> F:
    """What to call instead of a function. `TypeError` for what is not called, and for a class."""

    def make(function: Function, called: Any) -> Function:
        check_stands_in(called, fallback)
        if inspect.isasyncgenfunction(called):
            made = _of_async_generator(breaker, breaker.acquire, function, fallback)
        elif inspect.isgeneratorfunction(called):
            made = _of_generator(breaker.guard, function, fallback)
        elif not inspect.iscoroutinefunction(called):
            made = _of_function(breaker, function, fallback)
        elif fallback is None and not breaker._classifies_results:
            made = _of_coroutine(breaker, function)
        else:
            made = _of_awaited(breaker.guard, function, fallback)
        return functools.wraps(function)(made)

    return decorated(function, make)


def check_stands_in(called: Any, fallback: Any) -> None:
    """Raise `TypeError` for an async fallback of what is not async, whose caller would get a
    coroutine for a value; nor is a coroutine the items of an async generator."""
    if fallback is None:
        return
    instead = innermost(fallback)
    is_later = inspect.iscoroutinefunction(instead)
    if inspect.isasyncgenfunction(called):
        wrong = is_later or inspect.isgeneratorfunction(instead)
        wanted = "an async generator's is one too"
    elif inspect.iscoroutinefunction(called):
        wrong = inspect.isasyncgenfunction(instead)
        wanted = "that of an async function gives a value"
    else:
        wrong = is_later or inspect.isasyncgenfunction(instead)
        wanted = "that of a function which is not async is not either"
    if wrong:
        raise TypeError(f"fallback: {wanted}, got {fallback!r}")


def _of_function(
    breaker: CircuitBreaker, function: Function, fallback: Function | None
) -> Function:
    call = breaker._call_decorated

    def guarded(*args: Any, **kwargs: Any) -> Any:
        return call(fallback, function, *args, **kwargs)

    return guarded


def _of_coroutine(breaker: CircuitBreaker, function: Function) -> Function:
    """The quick way, of those that have neither a fallback nor results to be classified."""

    async def guarded_async(*args: Any, **kwargs: Any) -> Any:
        with breaker:
            return await function(*args, **kwargs)

    return guarded_async


def _of_awaited(guard: Guards, function: Function, fallback: Function | None = None) -> Function:
    async def guarded_async(*args: Any, **kwargs: Any) -> Any:
        entered = False
        try:
            with guard() as permit:
                entered = True
                value = await function(*args, **kwargs)
                permit.end_with(value)
                return value
        except BreakerOpen:
            if entered or fallback is None:
                raise
            value = fallback(*args, **kwargs)
            return await value if inspect.isawaitable(value) else value

    return guarded_async


def _of_generator(guard: Guards, function: Function, fallback: Function | None = None) -> Function:
    def guarded_generator(*args: Any, **kwargs: Any) -> Any:
        entered = False
        try:
            with guard():
                entered = True
                return (yield from function(*args, **kwargs))
        except BreakerOpen:
            if entered or fallback is None:
                raise
            return (yield from fallback(*args, **kwargs))

    return guarded_generator


def _of_async_generator(
    breaker: CircuitBreaker, acquire: Acquire, function: Function, fallback: Function | None = None
) -> Function:
    async def guarded_async_generator(*args: Any, **kwargs: Any) -> Any:
        guard: Guard | AbstractContextManager[None] = nullcontext()
        try:
            guard = Guard(breaker, acquire())
        except BreakerOpen:
            if fallback is None:
                raise
        with guard:
            called = function if isinstance(guard, Guard) else fallback
            generator = called(*args, **kwargs)  # type: ignore[misc]  # is None only with a guard
            if not hasattr(generator, "asend"):
                raise TypeError(
                    f"fallback: an async generator's is one too, got {dropped(generator)!r}"
                )
            try:
                item = await anext(generator)
                while True:
                    try:
                        sent = yield item
                    except GeneratorExit:
                        raise
                    except BaseException as error:
                        item = await generator.athrow(error)
                    else:
                        item = await generator.asend(sent)
            except StopAsyncIteration:
                return
            finally:
                await generator.aclose()

    return guarded_async_generator


def go_on(breaker: CircuitBreaker, permit: Permit, value: Any, is_decorated: bool) -> Any:
    """What a call that is not over gives to its caller; its permit is settled when it is over.

    Raises `TypeError` for what cannot be guarded; `CircuitBreaker.call` refuses all that has not
    begun.
    """
    if hasattr(value, "add_done_callback"):
        value.add_done_callback(functools.partial(_done, permit))
        return value
    if is_decorated:
        if isinstance(value, GeneratorType):
            return _of_generator(lambda: Guard(breaker, permit), lambda: value)()
        if isinstance(value, AsyncGeneratorType):
            return _of_async_generator(breaker, lambda: permit, lambda: value)()
        if not hasattr(type(value), "__aenter__"):
            return _of_awaited(lambda: Guard(breaker, permit), lambda: value)()
    permit.cancel()
    raise TypeError(_refusal(value))


def _refusal(value: Any) -> str:
    if isinstance(dropped(value), CoroutineType):
        return "the function is async: use @breaker or async with"
    if isinstance(value, GeneratorType | AsyncGeneratorType):
        return "the function is a generator: use @breaker, or with breaker.guard() in it"
    name = type(value).__name__
    return f"a {name} is not over when it is there: use async with breaker.guard() around its use"


def _done(permit: Permit, future: Future) -> None:
    if future.cancelled():
        permit.cancel()
    elif (error := future.exception()) is not None:
        permit.end(error)
    else:
        permit.end_with(future.result())
