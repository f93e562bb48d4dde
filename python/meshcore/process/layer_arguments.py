"""Whether a class takes the arguments that a configuration gives it, by its annotations.

Workers look at them too, and have no pydantic: what a file can say are a few kinds of value.
"""

from __future__ import annotations

import collections.abc
import contextlib
import inspect
import sys
import types
import typing
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, Final

from meshcore.config.hints import nearest, shown
from meshcore.errors import Diagnostic

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    Path = tuple[str | int, ...]

# As messages about the configuration's own keys say it.
_WORDS: Final[dict[Any, str]] = {
    str: "a text",
    bool: "true or false",
    int: "a whole number",
    float: "a number",
    list: "a list",
    dict: "a mapping",
    types.NoneType: "null",
}
_LISTS: Final = (list, collections.abc.Sequence, collections.abc.MutableSequence)
_LISTS_TOO: Final = (
    collections.abc.Iterable,
    collections.abc.Collection,
    collections.abc.Container,
    collections.abc.Reversible,
)
_MAPPINGS: Final = (dict, collections.abc.Mapping, collections.abc.MutableMapping)
_UNIONS: Final = (typing.Union, types.UnionType)


def argument_problems(made: type, arguments: Mapping[str, Any]) -> list[Diagnostic]:
    """What is wrong with the arguments of a class; places begin at ``with``. What cannot be known,
    as of an annotation that is there for type checkers alone, is the class's own business."""
    try:
        parameters = inspect.signature(made).parameters.values()
    except (TypeError, ValueError):
        return []
    named: dict[str, _Parameter] = {}
    more: Any = None  # what the others have to be, if there may be any
    for each in parameters:
        kind = _annotation(made, each)
        if each.kind is each.VAR_KEYWORD:
            if typing.get_origin(kind) is typing.Unpack:
                named |= _keys_of(typing.get_args(kind)[0])
            else:
                more = kind
        elif each.kind in (each.POSITIONAL_OR_KEYWORD, each.KEYWORD_ONLY):
            named[each.name] = _Parameter(kind, each.default is each.empty)
        elif each.kind is each.POSITIONAL_ONLY and each.default is each.empty:
            return [Diagnostic((), f"its class takes {each.name} by position only")]
    own = _names_of_itself(made)
    taken = [
        Diagnostic((name,), "unknown argument: the class has this name for itself", of_key=True)
        for name in arguments
        if name in own
    ]
    given = {name: value for name, value in arguments.items() if name not in own}
    return [*taken, *_named("argument", named, more, given)]


def _names_of_itself(made: type) -> set[str]:
    """The names by which functions that make an object have it, or its class: they cannot be given
    once more, also where any other can."""
    names = set()
    for function in (type(made).__call__, made.__new__, made.__init__):  # type: ignore[misc]  # of this very class
        if isinstance(function, types.FunctionType):
            with contextlib.suppress(TypeError, ValueError):
                first = next(iter(inspect.signature(function).parameters.values()), None)
                if first is not None and first.kind is first.POSITIONAL_OR_KEYWORD:
                    names.add(first.name)
    return names


@dataclass(frozen=True, slots=True)
class _Parameter:
    kind: Any
    needed: bool


def _named(
    what: str, known: Mapping[str, _Parameter], more: Any, given: Mapping[str, Any]
) -> Iterator[Diagnostic]:
    for name, value in given.items():
        if name in known:
            yield from _diagnostics(known[name].kind, value, (name,))
        elif more is None:
            hint = nearest(name, known) or (f"known: {', '.join(known)}" if known else None)
            none = "" if known else f": the class takes no {what}s"
            yield Diagnostic((name,), f"unknown {what}{none}", hint, of_key=True)
        else:
            yield from _diagnostics(more, value, (name,))
    for name, parameter in known.items():
        if parameter.needed and name not in given:
            yield Diagnostic((name,), f"required {what} is missing", of_key=True)


def _annotation(made: type, parameter: inspect.Parameter) -> Any:
    """Each by itself: one that cannot be resolved leaves the others as they are."""
    found = parameter.annotation
    if found is parameter.empty:
        return Any
    if not isinstance(found, str):
        return found
    function: Any = inspect.unwrap(made.__init__)  # type: ignore[misc]  # of this very class
    names = getattr(function, "__globals__", None) or vars(sys.modules[made.__module__])
    holder = types.SimpleNamespace(__annotations__={"it": found})
    try:
        return typing.get_type_hints(holder, names, dict(vars(made)))["it"]
    except Exception:  # whatever a layer's annotation raises
        return Any


def _keys_of(typed: Any) -> dict[str, _Parameter]:
    try:
        hints = typing.get_type_hints(typed)
    except Exception:  # as above
        hints = dict.fromkeys(typed.__annotations__, Any)
    return {name: _Parameter(hint, name in typed.__required_keys__) for name, hint in hints.items()}


def _diagnostics(kind: Any, value: Any, path: Path) -> list[Diagnostic]:
    """What is wrong with a value, or within it."""
    kind = _bare(kind)
    if typing.get_origin(kind) in _UNIONS and value is not None:
        arms = [arm for arm in typing.get_args(kind) if arm is not types.NoneType]
        kind = _bare(arms[0]) if len(arms) == 1 else kind
    origin, inner = typing.get_origin(kind) or kind, typing.get_args(kind)
    if typing.is_typeddict(kind) and isinstance(value, dict):
        below = _named("key", _keys_of(kind), None, value)
    elif origin in (*_LISTS, *_LISTS_TOO) and isinstance(value, list) and inner:
        below = (f for at, each in enumerate(value) for f in _diagnostics(inner[0], each, (at,)))
    elif origin in _MAPPINGS and isinstance(value, dict) and len(inner) == 2:
        below = (f for key, each in value.items() for f in _diagnostics(inner[1], each, (key,)))
    elif _fits(kind, value):
        return []
    else:
        words = [_bare(arm) for arm in inner] if origin in _UNIONS else [kind]
        wanted = " or ".join(dict.fromkeys(map(_word, words)))
        literal = origin is typing.Literal and isinstance(value, str)
        hint = (
            nearest(value, [each for each in inner if isinstance(each, str)]) if literal else None
        )
        wants_text = str in words and isinstance(value, bool | int | float)
        return [Diagnostic(path, f"expected {wanted}, got {shown(value)}", hint, quote=wants_text)]
    return [replace(each, steps=(*path, *each.steps)) for each in below]


def _bare(kind: Any) -> Any:
    """Without what only says more of it."""
    while True:
        if typing.get_origin(kind) in (
            typing.Annotated,
            typing.Final,
            typing.Required,
            typing.NotRequired,
        ):
            kind = typing.get_args(kind)[0]
        elif (meant := getattr(kind, "__supertype__", None) or _alias(kind)) is not None:
            kind = meant
        else:
            return types.NoneType if kind is None else kind


def _alias(kind: Any) -> Any:
    """What ``type X = …`` stands for (Python 3.12)."""
    return kind.__value__ if type(kind).__name__ == "TypeAliasType" else None


def _fits(kind: Any, value: Any) -> bool:
    """Whether a value is of a kind that says nothing of what is in it, or of what it may be."""
    origin = typing.get_origin(kind) or kind
    if origin in _UNIONS:
        return any(not _diagnostics(arm, value, ()) for arm in typing.get_args(kind))
    if origin is typing.Literal:
        return any(type(each) is type(value) and each == value for each in typing.get_args(kind))
    if kind is typing.LiteralString:
        return isinstance(value, str)
    if origin in (int, float):  # PEP 484: where a float is expected an int will do
        return isinstance(value, int | origin) and not isinstance(value, bool)
    if origin in (*_LISTS, *_LISTS_TOO) and isinstance(value, str):
        return False  # a text is a sequence of texts, and never meant
    if typing.is_typeddict(kind):
        return isinstance(value, dict)
    try:
        return not isinstance(origin, type) or isinstance(value, origin)
    except TypeError:
        return True  # a protocol


def _word(kind: Any) -> str:
    origin = typing.get_origin(kind) or kind
    if origin is typing.Literal:
        return " or ".join(shown(each) for each in typing.get_args(kind))
    if origin in (*_LISTS, *_LISTS_TOO):
        return _WORDS[list]
    if origin in _MAPPINGS or typing.is_typeddict(kind):
        return _WORDS[dict]
    return _WORDS.get(origin) or str(getattr(origin, "__name__", origin))
