"""What is said of a keyword that there is not."""

from __future__ import annotations

from functools import wraps
from typing import TYPE_CHECKING, Any, TypeVar, cast

from meshcore.config.fault import nearest

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

F = TypeVar("F")


def no_keyword(name: str, known: Iterable[str]) -> TypeError:
    """With the one that was meant, if that can be guessed."""
    hint = nearest(name, sorted(known))
    return TypeError(f"there is no keyword {name}{f': {hint}' if hint else ''}")


def check_keywords(given: Iterable[str], known: Iterable[str]) -> None:
    """Raise `TypeError` for a keyword that is not known."""
    names = frozenset(known)
    for name in given:
        if name not in names:
            raise no_keyword(name, names)


def hinting(function: F) -> F:
    """A function with keywords of its own, which says so of each that it does not have."""
    plain = cast("Callable[..., Any]", function)
    code = plain.__code__
    last = code.co_argcount + code.co_kwonlyargcount
    known = code.co_varnames[code.co_posonlyargcount + 1 : last]

    @wraps(plain)
    def hinted(*args: Any, **kwargs: Any) -> Any:
        check_keywords(kwargs, known)
        return plain(*args, **kwargs)

    return cast("F", hinted)
