"""``${NAME}`` and ``${NAME:-default}`` in values, taken from the environment.

Put in after YAML is read, into single values: what a variable holds is never structure, however it
looks. A value without quotes is then read once more as YAML would read it, so that a number is one;
in quotes it stays a text.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Final, NamedTuple

from meshcore.config.document import MAX_BYTES, resolve
from meshcore.errors import Diagnostic

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from meshcore.config.document import Variable

__all__ = ["substitute"]

_REFERENCE: Final = re.compile(
    r"\$(?:\$(?P<escaped>\{)|\{(?P<name>[A-Za-z_][A-Za-z0-9_]*)(?::-(?P<default>[^}]*))?\}|\{)"
)


class _Missing(NamedTuple):
    message: str
    hint: str | None = None


def substitute(variables: Iterable[Variable], environment: Mapping[str, str]) -> list[Diagnostic]:
    """Put the environment's values where they belong; what is missing, each with its place."""
    problems = []
    left = MAX_BYTES
    for variable in variables:
        node = variable.node
        found = _replaced(variable.text, environment, left)
        if isinstance(found, _Missing):
            problems.append(Diagnostic(variable.path, *found, line=node.line, column=node.column))
            continue
        left -= len(found)
        node.data = resolve(found) if variable.is_plain else found
        variable.parent.data[variable.path[-1]] = node.data
    return problems


def _replaced(text: str, environment: Mapping[str, str], most: int) -> str | _Missing:
    parts, at, size = [], 0, 0
    for found in _REFERENCE.finditer(text):
        value = _value(found, environment)
        if isinstance(value, _Missing):
            return value
        parts += [text[at : found.start()], value]
        at = found.end()
        size += len(value)
        if size > most:
            return _Missing(f"the values of all variables are larger than {MAX_BYTES >> 20} MiB")
    return "".join([*parts, text[at:]])


def _value(found: re.Match[str], environment: Mapping[str, str]) -> str | _Missing:
    if found["escaped"]:
        return "${"
    name = found["name"]
    if name is None:
        hint = "write ${NAME}, ${NAME:-default}, or $${ for the characters themselves"
        return _Missing("${ does not begin a variable", hint)
    # As in a shell: an empty variable has the default too.
    value = environment.get(name) or found["default"]
    if value is None:
        value = environment.get(name)
    if value is None:
        return _Missing(f"the environment has no {name}", f"${{{name}:-default}} is for then")
    try:
        value.encode()
    except UnicodeEncodeError:
        return _Missing(f"the value of {name} is not UTF-8")
    return value
