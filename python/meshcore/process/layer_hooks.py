"""Whether the hooks of a layer are hooks: told when it is loaded."""

from __future__ import annotations

import difflib
import functools
import inspect
from typing import TYPE_CHECKING, Any, Final

from meshcore.exchange.layers import Layer

if TYPE_CHECKING:
    from collections.abc import Iterator

# And what each is given.
_HOOKS: Final = {
    name: tuple(inspect.signature(hook).parameters)[1:]
    for name, hook in vars(Layer).items()
    if name.startswith("on_")
}
# So like a hook's name that it is meant as one.
_LIKE: Final = 0.85


def hook_problems(kind: type[Layer]) -> list[str]:
    """What is wrong with the hooks of a class: one is never called, or not as it takes it."""
    return [*_misnamed(kind), *_generators(kind), *_uncallable(kind)]


def _misnamed(kind: type[Layer]) -> Iterator[str]:
    for name in dir(kind):
        if name in _HOOKS or not name.startswith("on") or not callable(getattr(kind, name, None)):
            continue
        meant = difflib.get_close_matches(name, _HOOKS, n=1, cutoff=_LIKE)
        if meant:
            yield f"{name} is not a hook, and is never called: did you mean {meant[0]}?"


def _generators(kind: type[Layer]) -> Iterator[str]:
    for name in _HOOKS:
        hook: Any = getattr(kind, name)
        if inspect.isasyncgenfunction(hook) or (
            inspect.isgeneratorfunction(hook) and not _is_awaited(hook)
        ):
            yield f"{name} is a generator, and does nothing when it is called: return what is meant"


def _is_awaited(generator: Any) -> bool:
    """Whether it is an async function of old (`types.coroutine`)."""
    while isinstance(generator, functools.partial):
        generator = generator.func
    return bool(generator.__code__.co_flags & inspect.CO_ITERABLE_COROUTINE)


def _uncallable(kind: type[Layer]) -> Iterator[str]:
    if inspect.iscoroutinefunction(kind.on_end):
        # The end of a request is not waited for.
        yield "on_end is async: make it plain, and begin a task in it if need be"
    for name, given in _HOOKS.items():
        hook: Any = getattr(kind, name)
        if hook is getattr(Layer, name):
            continue
        is_bound = inspect.ismethod(hook) or isinstance(
            inspect.getattr_static(kind, name), staticmethod
        )
        try:
            inspect.signature(hook).bind(*([] if is_bound else [None]), *given)
        except TypeError:
            yield f"{name} has to take {', '.join(given)}"
        except ValueError:
            continue  # of a function that does not tell what it takes
