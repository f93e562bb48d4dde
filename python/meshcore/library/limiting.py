"""Decorators that take a limiter's tokens before each call of a function."""

from __future__ import annotations

from functools import wraps
from typing import TYPE_CHECKING, Any

from meshcore.library.classifying import function
from meshcore.library.limited import preceded

if TYPE_CHECKING:
    from collections.abc import Callable

    from meshcore.library.decorating import F

    # Whose tokens a call takes.
    Client = str | Callable[..., str]


def client_of(by: Client, args: tuple[Any, ...], kwargs: dict[str, Any]) -> str:
    """Whose tokens a call with these arguments takes."""
    return by if isinstance(by, str) else by(*args, **kwargs)


def check_client(by: object) -> None:
    """Raise `TypeError` for what names no client."""
    if isinstance(by, str):
        return
    try:
        function("by", by)
    except TypeError:
        raise TypeError(
            "a client is a text, or a function of the call that gives one and is not async, "
            f"not {by!r}"
        ) from None


def limiting(acquire: Callable[..., None], what: tuple[Any, ...]) -> Callable[[F], F]:
    """A decorator: ``acquire`` is called with ``what`` before each call."""

    def before(call: Callable[..., Any]) -> Callable[..., Any]:
        @wraps(call)
        def limited(*args: Any, **kwargs: Any) -> Any:
            acquire(*what)
            return call(*args, **kwargs)

        return limited

    def before_async(call: Callable[..., Any]) -> Callable[..., Any]:
        @wraps(call)
        async def limited_async(*args: Any, **kwargs: Any) -> Any:
            acquire(*what)
            return await call(*args, **kwargs)

        return limited_async

    return lambda function: preceded(function, before, before_async)


def limiting_by(
    by: Callable[..., str], acquire: Callable[[str, int], None], n: int
) -> Callable[[F], F]:
    """The same, for the client that a function of the call's arguments names."""

    def before(call: Callable[..., Any]) -> Callable[..., Any]:
        @wraps(call)
        def limited(*args: Any, **kwargs: Any) -> Any:
            acquire(by(*args, **kwargs), n)
            return call(*args, **kwargs)

        return limited

    def before_async(call: Callable[..., Any]) -> Callable[..., Any]:
        @wraps(call)
        async def limited_async(*args: Any, **kwargs: Any) -> Any:
            acquire(by(*args, **kwargs), n)
            return await call(*args, **kwargs)

        return limited_async

    def decorate(*functions: Any, **others: Any) -> Any:
        if len(functions) != 1 or others or not _is_function(functions[0]):
            raise TypeError(
                "limiting(by) is to decorate one function, and was called otherwise: "
                f"@limiter.limiting without by takes {by!r} for what names the client"
            )
        return preceded(functions[0], before, before_async)

    return decorate


def _is_function(given: object) -> bool:
    return callable(given) or isinstance(given, staticmethod | classmethod)
