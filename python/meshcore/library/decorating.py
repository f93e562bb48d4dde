"""What can be decorated, and what of it is run by a call."""

from __future__ import annotations

import functools
import inspect
from contextlib import asynccontextmanager, contextmanager
from typing import TYPE_CHECKING, Any, Final, Protocol, TypeVar, cast

if TYPE_CHECKING:
    from collections.abc import Callable

    Function = Callable[..., Any]


class Callee(Protocol):
    """A function, or an object that is called like one. No class is: it has other attributes of
    these names, by which type checkers tell it (mypy one in a variable alone)."""

    __dict__: dict[str, Any]

    def __eq__(self, other: object, /) -> bool: ...
    def __call__(self, *args: Any, **kwargs: Any) -> Any: ...


# What a `classmethod` or `staticmethod` makes is no function, and may be decorated too.
F = TypeVar("F", bound="Callee | classmethod[Any, ..., Any] | staticmethod[..., Any]")

# What `contextlib` makes of generator functions: nothing of them has run when it returns.
_CONTEXTS: Final = (contextmanager(iter).__code__, asynccontextmanager(aiter).__code__)


def decorated(function: F, make: Callable[[Function, Any], Function]) -> F:
    """What ``make`` makes of a function and of what a call of it runs; of a `classmethod` or
    `staticmethod`, of what is in it. Raises `TypeError` for what cannot be decorated."""
    if isinstance(function, staticmethod | classmethod):
        return cast("F", type(function)(decorated(function.__func__, make)))
    if isinstance(function, type):
        raise TypeError(f"{function!r} is a class: decorate its methods")
    if not callable(function):
        kind = type(function).__name__
        a = "an" if kind[0] in "aeiouAEIOU" else "a"
        # A property, a `cached_property`, a `singledispatchmethod`.
        has_one = any(hasattr(function, name) for name in ("fget", "func"))
        wanted = "decorate the one in it" if has_one else "expected one to decorate"
        raise TypeError(f"{a} {kind} is no function: {wanted}, got {function!r}")
    called = innermost(function)
    if getattr(called, "__code__", None) in _CONTEXTS:
        raise TypeError(
            f"{function!r} makes a context manager: decorate what is called in its block"
        )
    return cast("F", make(cast("Function", function), called))


def innermost(function: Any) -> Any:
    """What is run by a call: below partials, and of an object the method of its class."""
    while isinstance(function, functools.partial):
        function = function.func
    if inspect.isroutine(function) or inspect.iscoroutinefunction(function):
        return function
    return type(function).__call__
