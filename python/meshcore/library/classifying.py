"""Which ends of calls are failures, as a program says it: by classes or by functions of its own."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterable
from typing import Any

from meshcore.library.awaiting import at_once
from meshcore.library.decorating import innermost

Classes = type[BaseException] | Iterable[type[BaseException]]
"""A class of exceptions, or several."""
Exceptions = Classes | Callable[[Exception], bool]
"""The same, or a function that tells them."""

Classifying = tuple[
    tuple[type[BaseException], ...],
    Callable[[BaseException], bool | None] | None,
    Callable[[Any], bool] | None,
]


def classifying(failure_on: Any, ignore: Any, failure_on_result: Any) -> Classifying:
    """For the core: classes of failures, a function that knows better, and one for results.

    Raises `TypeError` for what is neither classes nor a function, `ValueError` for no class.
    """
    failure_on, ignore = listed(failure_on), listed(ignore)
    result = None if failure_on_result is None else function("failure_on_result", failure_on_result)
    named = () if _is_function(failure_on) else classes("failure_on", failure_on)
    if named and ignore is None:
        return named, None, result
    fails = _predicate("failure_on", failure_on)
    ignored = _predicate("ignore", ignore) if ignore is not None else None

    def classify(error: BaseException) -> bool | None:
        if ignored is not None and ignored(error):
            return None
        return True if fails(error) else False if isinstance(error, Exception) else None

    return named, classify, result


def function(name: str, given: Any) -> Any:
    """What can be called, and says at once what it has to say."""
    if not callable(given) or _is_later(innermost(given)):
        raise TypeError(f"{name}: expected a function that is not async, got {given!r}")
    return given


def _is_later(called: Any) -> bool:
    """Whether a call does nothing yet: what it gives would count as true."""
    return (
        inspect.iscoroutinefunction(called)
        or inspect.isasyncgenfunction(called)
        or inspect.isgeneratorfunction(called)
    )


def yes_or_no(name: str, said: object) -> bool:
    """What a function said; `TypeError` if it is yet to say it."""
    otherwise = f"{name}: the function returns something to await: it may not be async"
    return bool(at_once(said, otherwise))


def all_of(name: str, given: Any) -> Callable[[BaseException], bool]:
    """Tells failures, of a group by all that is in it: by classes, unless they are its own, or by a
    function, which a group is never shown."""
    if _is_function(given):
        tells = function(name, given)

        def asked(error: BaseException) -> bool:
            if isinstance(error, BaseExceptionGroup):
                return all(map(asked, error.exceptions))
            return yes_or_no(name, tells(error))

        return asked
    named = classes(name, given)

    def fails(error: BaseException) -> bool:
        if isinstance(error, named):
            return True
        return isinstance(error, BaseExceptionGroup) and all(map(fails, error.exceptions))

    return fails


def _predicate(name: str, given: Any) -> Callable[[BaseException], bool]:
    if not _is_function(given):
        named = classes(name, given)
        return lambda error: isinstance(error, named)
    tells = function(name, given)
    # A cancellation is no answer, and none of a program's business here.
    return lambda error: isinstance(error, Exception) and yes_or_no(name, tells(error))


def _is_function(given: Any) -> bool:
    return callable(given) and not isinstance(given, type)


def listed(given: Any) -> Any:
    """Several as a tuple, also what can be gone through but once; one as it is."""
    one = isinstance(given, type | str | bytes) or callable(given)
    if one or not isinstance(given, Iterable):
        return given
    return tuple(given)


def classes(name: str, given: Any) -> tuple[type[BaseException], ...]:
    """As a tuple. Raises `TypeError` for what is none, `ValueError` for no class at all."""
    several = listed(given)
    several = several if isinstance(several, tuple) else (several,)
    for each in several:
        if not (isinstance(each, type) and issubclass(each, BaseException)):
            is_name = isinstance(each, str) and each.isidentifier()
            hint = f": write {each} without quotes" if is_name else ""
            raise TypeError(f"{name}: expected classes of exceptions, got {each!r}{hint}")
    if not several:
        raise ValueError(f"{name}: is empty: at least one class must be in it")
    return several
