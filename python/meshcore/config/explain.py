"""Turns what pydantic found into sentences for people, with the nearest known key as hint."""

from __future__ import annotations

import itertools
import types
import typing
from typing import TYPE_CHECKING, Any

from pydantic import BaseModel

from meshcore.config.fault import Fault, HintedError, nearest, path_text, shown
from meshcore.errors import Problem

if TYPE_CHECKING:
    from pydantic import ValidationError
    from pydantic_core import ErrorDetails

_WANTED = {
    "bool_type": "true or false",
    "dict_type": "a mapping",
    "int_type": "a whole number",
    "list_type": "a list",
    "model_attributes_type": "a mapping",
    "model_type": "a mapping",
    "string_type": "a text",
}


def explain(error: ValidationError, model: type[BaseModel]) -> list[Fault]:
    """Every error of a validation. O(errors x keys)."""
    found = (_fault(details, model) for details in error.errors(include_url=False))
    # The arms of a union that fail at the same place are one fault to a reader.
    return list({(fault.path, fault.message): fault for fault in found}.values())


def as_value_error(error: ValidationError, model: type[BaseModel]) -> ValueError:
    """The same, for a call in a program that has no file to point at."""
    faults = explain(error, model)
    told = (str(Problem(path_text(each.path), each.message, each.hint)) for each in faults)
    return ValueError("\n".join(told))


def _fault(details: ErrorDetails, model: type[BaseModel]) -> Fault:
    path = tuple(step for step in details["loc"] if step != "[key]")
    of_key = "[key]" in details["loc"]
    kind = details["type"]
    if kind == "extra_forbidden":
        key = str(path[-1])
        keys = sorted(known_keys(model, path[:-1]))
        hint = _place_of(key, model, path[:-1]) or nearest(key, keys)
        hint = hint or (f"known: {', '.join(keys)}" if keys else None)
        return Fault(path, "unknown key", hint, of_key=True)
    if kind == "missing":
        return Fault(path, "required key is missing", of_key=True)
    return Fault(path, _message(kind, details), _hint(kind, details), of_key=of_key)


def _place_of(key: str, model: type[BaseModel], path: tuple[str | int, ...]) -> str | None:
    """Where a key stands that was written a level too high or too low."""
    below = (
        f"it is a key of {name}"
        for name in sorted(known_keys(model, path))
        if key in known_keys(model, (*path, name))
    )
    above = (
        f"it is a key of {path_text(path[:length]) or 'the file itself'}"
        for length in range(len(path) - 1, -1, -1)
        if key in known_keys(model, path[:length])
    )
    return next(itertools.chain(below, above), None)


def _hint(kind: str, details: ErrorDetails) -> str | None:
    if kind == "list_type" and isinstance(details["input"], str | int | float):
        return f"for one, write [{details['input']}]"
    raised = details.get("ctx", {}).get("error")
    return raised.hint if isinstance(raised, HintedError) else None


def _message(kind: str, details: ErrorDetails) -> str:
    value = details["input"]
    if kind == "value_error":
        return str(details["ctx"]["error"])
    if kind == "too_short":
        least = details["ctx"]["min_length"]
        return f"must have at least {least} {'item' if least == 1 else 'items'}"
    if kind in _WANTED:
        return f"expected {_WANTED[kind]}, got {shown(value)}"
    message = details["msg"].replace("Input should be", "must be").replace("should", "must")
    message = message[:1].lower() + message[1:]
    scalar = isinstance(value, str | int | float | None)
    return f"{message}, got {shown(value)}" if scalar else message


def known_keys(model: type[BaseModel], path: tuple[str | int, ...]) -> set[str]:
    """The keys of the model at a path; none when there is no single model."""
    kind: Any = model
    for step in path:
        kind = _model(kind)
        if isinstance(kind, type) and issubclass(kind, BaseModel):
            field = kind.model_fields.get(str(step))
            if field is None:
                return set()
            kind = field.annotation
        else:
            arguments = typing.get_args(kind)
            kind = arguments[-1] if arguments else None
    kind = _model(kind)
    is_model = isinstance(kind, type) and issubclass(kind, BaseModel)
    return set(kind.model_fields) if is_model else set()


def _model(kind: Any) -> Any:
    """Without ``Annotated`` and ``| None``."""
    while True:
        origin = typing.get_origin(kind)
        if origin is typing.Annotated:
            kind = typing.get_args(kind)[0]
        elif origin in (types.UnionType, typing.Union):
            kind = next(arg for arg in typing.get_args(kind) if arg is not types.NoneType)
        else:
            return kind
