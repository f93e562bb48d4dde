"""Turns what pydantic found into sentences for people, with what was meant as hint."""

from __future__ import annotations

import functools
import itertools
import re
import types
import typing
from typing import TYPE_CHECKING, Any

from pydantic import BaseModel

from meshcore.config.fields import OrText
from meshcore.config.habits import called_here, plain, shape, value_here
from meshcore.config.hints import HintedError, nearest, shown
from meshcore.errors import Diagnostic, path_text

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

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
_MAPPINGS = {"dict_type", "model_attributes_type", "model_type"}
# A key in milliseconds, as Envoy's and many libraries' are; here the unit is part of the value.
_UNIT_IN_KEY = re.compile(
    r"[_-]?(ms|millis|sec|secs|seconds)$|[_-]s$|(?<=[a-z])(Ms|Millis|Seconds)$"
)
_IS_BOOLEAN = "YAML reads true and false as booleans, not as words"
# What YAML 1.1 makes of a key that is called `on`: a program that reads and writes by it changes
# the file.
_KEY_OF_YAML_1_1 = {"true": "on", "false": "off", "True": "on", "False": "off"}
_SWITCHES = ("on", "off", "yes", "no", "true", "false", "all", "none")
# Model classes are few; a key that stands in more places than this is of no help.
_MAX_PLACES = 2
_SEVERAL_CERTIFICATES = "the first certificate stands in cert and key, others in certificates"


def explain(error: ValidationError, model: type[BaseModel]) -> list[Diagnostic]:
    """Every error of a validation. O(errors x keys)."""
    found = (_diagnostic(details, model) for details in error.errors(include_url=False))
    # The arms of a union that fail at the same place are one problem to a reader.
    return list({(problem.steps, problem.message): problem for problem in found}.values())


def as_value_error(
    error: ValidationError, model: type[BaseModel], beside: Iterable[str] = ()
) -> ValueError:
    """The same, for a call in a program that has no file to point at, behind what is known
    ``beside``."""
    problems = explain(error, model)
    told = map(str, problems)
    return ValueError("\n".join([*beside, *told]))


def _diagnostic(details: ErrorDetails, model: type[BaseModel]) -> Diagnostic:
    path = tuple(step for step in details["loc"] if step != "[key]")
    of_key = "[key]" in details["loc"]
    kind = details["type"]
    if kind == "extra_forbidden":
        return Diagnostic(path, "unknown key", _unknown(path, model), of_key=True)
    if kind == "missing":
        return Diagnostic(
            path, "required key is missing", _missing(path, details, model), of_key=True
        )
    if (
        kind == "string_type"
        and isinstance(details["input"], list)
        and _may_be_several(path, model)
    ):
        return Diagnostic(path, "expected one file, got a list", _SEVERAL_CERTIFICATES)
    message, hint = _said(kind, details, _class_at(model, path), _words_at(model, path))
    raised = details.get("ctx", {}).get("error")
    if isinstance(raised, HintedError) and raised.below:
        return Diagnostic((*path, *raised.below), message, hint)
    wants_text = kind == "string_type" or (kind in _MAPPINGS and _is_value(model, path))
    scalar = isinstance(details["input"], bool | int | float)
    return Diagnostic(path, message, hint, of_key=of_key, quote=wants_text and scalar)


def _may_be_several(path: tuple[str | int, ...], model: type[BaseModel]) -> bool:
    return path[-1] in ("cert", "key") and "certificates" in known_keys(model, path[:-1])


def _missing(
    path: tuple[str | int, ...], details: ErrorDetails, model: type[BaseModel]
) -> str | None:
    given = details["input"]
    if "certificates" in given and _may_be_several(path, model):
        return _SEVERAL_CERTIFICATES
    if path[-1] == "key" and "cert" in given:
        return "a file that holds both stands in cert and in key"
    return None


def _is_value(model: type[BaseModel], path: tuple[str | int, ...]) -> bool:
    found = _class_at(model, path)
    return found is not None and found.__name__ == "ValueMatch"


# --- keys ---------------------------------------------------------------------------------------


def _unknown(path: tuple[str | int, ...], model: type[BaseModel]) -> str | None:
    key, place = str(path[-1]), path[:-1]
    keys = sorted(known_keys(model, place))
    found = _class_at(model, place)
    if key[:1] and not key[:1].isascii() and key[:1].isspace():
        return "it begins with a no-break space: indent with spaces"
    return (
        _spelt(key, keys)
        or _by_yaml_1_1(key, keys)
        or (called_here(found.__name__, key) if found else None)
        or _with_unit(key, keys)
        or _place_of(key, model, place)
        or nearest(key, keys, cutoff=0.75)
        or _elsewhere(key, model)
        or (f"known: {', '.join(keys)}" if keys else None)
    )


def _spelt(key: str, keys: list[str]) -> str | None:
    """A key in another case, or with hyphens for underscores."""
    return next((f"did you mean {each}?" for each in keys if plain(each) == plain(key)), None)


def _by_yaml_1_1(key: str, keys: list[str]) -> str | None:
    meant = _KEY_OF_YAML_1_1.get(key)
    if meant not in keys:
        return None
    return f'it is called {meant}, which YAML 1.1 reads as {key.lower()}: write "{meant}"'


def _with_unit(key: str, keys: list[str]) -> str | None:
    stem = _UNIT_IN_KEY.sub("", key)
    known = next((each for each in keys if stem != key and plain(each) == plain(stem)), None)
    return f"write {known}: with the unit in its value, as in 500ms" if known else None


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


def _elsewhere(key: str, model: type[BaseModel]) -> str | None:
    """Where in the whole file a key stands, if it is in one or two places."""
    places = [path for path, known in _models(model) if key in known]
    if not 0 < len(places) <= _MAX_PLACES:
        return None
    return f"it is a key of {' and of '.join(places)}"


@functools.cache
def _models(model: type[BaseModel]) -> list[tuple[str, set[str]]]:
    return list(_tree(model, "", ()))


def _tree(kind: Any, path: str, above: tuple[type, ...]) -> Iterator[tuple[str, set[str]]]:
    """Every model below a type, with where it stands and its keys."""
    kind = _model(kind)
    origin = typing.get_origin(kind)
    if origin in (dict, list):
        inner = f"{path}.NAME" if origin is dict else f"{path}[N]"
        yield from _tree(typing.get_args(kind)[-1], inner, above)
    elif isinstance(kind, type) and issubclass(kind, BaseModel) and kind not in above:
        yield path or "the file itself", set(_keys(kind))
        for name, field in kind.model_fields.items():
            inner = f"{path}.{name}" if path else name
            yield from _tree(field.annotation, inner, (*above, kind))


# --- values -------------------------------------------------------------------------------------


def _said(
    kind: str, details: ErrorDetails, model: type[BaseModel] | None, words: tuple[str, ...]
) -> tuple[str, str | None]:
    """The message and the hint for a value."""
    value, context = details["input"], details.get("ctx", {})
    if kind == "value_error":
        raised = context["error"]
        return str(raised), raised.hint if isinstance(raised, HintedError) else None
    if kind == "too_short":
        least = context["min_length"]
        what = f"{least} {'item' if least == 1 else 'items'}"
        return (
            f"is empty: at least {what} must be in it" if not value else f"must have {what}",
            None,
        )
    if kind == "too_long":
        most = f"at most {context['max_length']} may be in it"
        return f"has {len(value)} items: {most}" if isinstance(value, list | dict) else most, None
    if kind == "literal_error":
        return _literal(value, context["expected"])
    if kind in _WANTED:
        return _of_type(kind, value, model, words)
    message = details["msg"].replace("Input should be", "must be").replace("should", "must")
    message = message[:1].lower() + message[1:]
    scalar = isinstance(value, str | int | float | None)
    return (f"{message}, got {shown(value)}" if scalar else message), None


def _literal(value: object, expected: str) -> tuple[str, str | None]:
    known = tuple(re.findall(r"'([^']*)'", expected)) or tuple(re.findall(r"-?\d+", expected))
    message = f"must be {expected.replace(chr(39), '')}, got {shown(value)}"
    if str(value) in known:
        told = "without quotes" if isinstance(value, str) else f'in quotes: "{value}"'
        return message, f"write {value} without quotes" if isinstance(
            value, str
        ) else f"write it {told}"
    word = shown(value) if isinstance(value, bool) else str(value)
    meant = value_here(word, known)
    by_case = next((each for each in known if plain(each) == plain(word)), None)
    if meant or by_case:
        word = meant or by_case or ""
        # What looks like a number is one without quotes.
        return message, f'write "{word}"' if _is_number(word) else f"write {word}"
    if isinstance(value, bool):
        return message, _IS_BOOLEAN
    if all(_is_number(each) for each in known):
        return message, None  # how they are spelt says nothing
    return message, nearest(word, known) if isinstance(value, str) else None


def _is_number(word: str) -> bool:
    return word.replace(".", "", 1).isdecimal()


def _of_type(
    kind: str, value: object, model: type[BaseModel] | None, words: tuple[str, ...]
) -> tuple[str, str | None]:
    wanted = _WANTED[kind]
    if kind in _MAPPINGS and model is not None and issubclass(model, OrText):
        wanted = f"a text or a mapping of {', '.join(_keys(model))}"
    message = f"expected {wanted}, got {shown(value)}"
    if value is None:
        return message, 'for an empty text write ""' if kind == "string_type" else None
    if kind in _MAPPINGS:
        return message, _mapping_hint(value, model)
    if kind == "list_type":
        if isinstance(value, dict):
            return message, "write each item behind a dash: `- …`"
        return message, _one_item(value, words)
    if kind == "int_type" and isinstance(value, str):
        return message, _number_hint(value)
    if kind == "bool_type":
        word = str(value).lower()
        meant = {"on": "true", "yes": "true", "1": "true", "off": "false", "no": "false"}
        return message, f"write {meant[word]}" if word in meant else None
    return message, None


def _one_item(value: object, words: tuple[str, ...]) -> str:
    """What is written for a list where one value stands."""
    word = shown(value).strip("'")
    if word in words or word not in _SWITCHES:
        return f"for one, write [{word}]"
    if word in ("off", "no", "false", "none"):
        return "for none, leave the key out"
    which = f": of {', '.join(words)}" if words else ""
    return f"write which, as a list{which}"


def _words_at(model: type[BaseModel], path: tuple[str | int, ...]) -> tuple[str, ...]:
    """The words that may stand in the list at a path; none when they are not to be counted."""
    above = _class_at(model, path[:-1]) if path else None
    field = above.model_fields.get(str(path[-1])) if above is not None else None
    items = typing.get_args(_model(field.annotation)) if field is not None else ()
    item = _model(items[0]) if items else None
    return typing.get_args(item) if typing.get_origin(item) is typing.Literal else ()


def _mapping_hint(value: object, model: type[BaseModel] | None) -> str | None:
    if isinstance(value, list):
        if model is not None and model.__name__ == "Upstream":
            return "write endpoints: before them"
        if model is not None and model.__name__ == "Allow":
            return "write rules: before them"
        if model is not None:
            return None
        return "write each as `name: …`, without a dash" if value else "write {}"
    if isinstance(value, str) and model is None and re.match(r"[\w-]+:\S", value):
        key, _, rest = value.partition(":")
        return f"a space follows a colon: {key}: {rest}"
    return shape(model.__name__, value) if model is not None else None


def _number_hint(text: str) -> str | None:
    digits = text.strip().replace("_", "").replace(",", "")
    if re.fullmatch(r"-?\d{1,20}", digits):
        return f"write {digits}" if digits != text else f"write {digits} without quotes"
    if re.fullmatch(r"0o[0-7]{1,20}", digits):
        return f"write {int(digits, 8)}"
    return None


# --- models -------------------------------------------------------------------------------------


def known_keys(model: type[BaseModel], path: tuple[str | int, ...]) -> set[str]:
    """The keys of the model at a path; none when there is no single model."""
    found = _class_at(model, path)
    return set(_keys(found)) if found is not None else set()


def _keys(model: type[BaseModel]) -> list[str]:
    """As a file says them; `class` and `with` are no names of fields."""
    return [field.alias or name for name, field in model.model_fields.items()]


def _class_at(model: type[BaseModel], path: tuple[str | int, ...]) -> type[BaseModel] | None:
    """The model at a path; none when there is no single one."""
    kind: Any = model
    for step in path:
        kind = _model(kind)
        if isinstance(kind, type) and issubclass(kind, BaseModel):
            field = kind.model_fields.get(str(step))
            if field is None:
                return None
            kind = field.annotation
        else:
            arguments = typing.get_args(kind)
            kind = arguments[-1] if arguments else None
    kind = _model(kind)
    return kind if isinstance(kind, type) and issubclass(kind, BaseModel) else None


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
