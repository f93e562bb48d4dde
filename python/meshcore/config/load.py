"""Reads a configuration and says everything that is wrong with it, with line and column."""

from __future__ import annotations

import functools
import os
import re
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple, cast

from pydantic import ValidationError

from meshcore.config import collector
from meshcore.config.check import check_data
from meshcore.config.document import MAX_BYTES, Document, Node, parse, resolve
from meshcore.config.environment import substitute
from meshcore.config.explain import explain
from meshcore.config.fault import Fault, path_text, shown
from meshcore.config.model import Config
from meshcore.config.syntax import lines_of, quoted
from meshcore.errors import ConfigError, Problem

if TYPE_CHECKING:
    from collections.abc import Iterable

    from meshcore.config.document import Variable

__all__ = ["Loaded", "load_bytes", "load_file", "load_text", "read"]


_UNREAD = Document(None, [], [])


class Loaded(NamedTuple):
    """A configuration, and where its parts stand."""

    config: Config
    root: Node
    name: str

    def placed(self, faults: Iterable[Fault]) -> list[Problem]:
        """These with their places, in the order of the file."""
        return _in_order([_placed(fault, self.root, self.name) for fault in faults])


def load_file(path: str | Path, *, env: bool = False) -> Config:
    """The configuration in a YAML file; files that it names begin at the file's folder.

    ``env`` is as `env: on` in the file: ``${NAME}`` is taken from the environment.

    Raises `ConfigError` with every problem, `OSError` when the file cannot be read.
    O(bytes), at most 64 MiB.
    """
    return read(Path(path), env=env).config


def read(path: Path, *, env: bool = False) -> Loaded:
    """As `load_file`, with the places, for warnings."""
    with path.open("rb") as file:
        raw = file.read(MAX_BYTES + 1)
    return _load(raw, str(path), path.parent, env=env)


def load_bytes(raw: bytes, name: str, folder: Path | None, *, env: bool = False) -> Loaded:
    """The configuration in what was read of a file. Raises `ConfigError` with every problem."""
    return _load(raw, name, folder, env=env)


def load_text(
    text: str, name: str = "<text>", folder: str | Path | None = None, *, env: bool = False
) -> Config:
    """The configuration in a YAML text; relative files begin at `folder`, or where we run.

    Raises `ConfigError` with every problem.
    """
    return _load(text.encode(), name, None if folder is None else Path(folder), env=env).config


@collector.paused()
def _load(raw: bytes, name: str, folder: Path | None, *, env: bool) -> Loaded:
    document, problems = _parse(raw, name, env=env)
    root, config = document.root, None
    if root is not None:
        config, faults = validate(root.data, folder)
        if any(fault.hint is None for fault in faults):
            faults = _with_hints(faults, document, raw)
        problems += [_placed(fault, root, name) for fault in faults]
    if problems or config is None or root is None:
        raise ConfigError(_in_order(problems))
    return Loaded(config, root, name)


def _in_order(problems: list[Problem]) -> list[Problem]:
    return sorted(problems, key=lambda problem: (problem.line, problem.column))


def _parse(raw: bytes, name: str, *, env: bool) -> tuple[Document, list[Problem]]:
    if len(raw) > MAX_BYTES:
        return _UNREAD, [Problem("", f"larger than {MAX_BYTES >> 20} MiB", file=name)]
    try:
        text = raw.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = raw.count(b"\n", 0, error.start) + 1
        return _UNREAD, [Problem("", "not UTF-8", "save it as UTF-8", name, line, 1)]
    document = parse(text)
    if env or _asks_for_environment(document):
        document.flaws.extend(substitute(document.variables, os.environ))
    return document, [
        Problem(path_text(f.path), f.message, f.hint, name, f.line, f.column)
        for f in document.flaws
    ]


def _asks_for_environment(document: Document) -> bool:
    data = document.root.data if document.root is not None else None
    return isinstance(data, dict) and data.get("env") in ("on", True)


def validate(data: object, folder: Path | None = None) -> tuple[Config | None, list[Fault]]:
    """The model of plain data, or what is wrong with it, cross-references and files included."""
    context = {} if folder is None else {"folder": str(folder)}
    try:
        config = Config.model_validate(data, context=context)
    except ValidationError as error:
        faults = explain(error, Config)
        config = None
    else:
        faults = []
    known = {fault.path for fault in faults}
    faults += [fault for fault in check_data(data, folder) if fault.path not in known]
    return (None if faults else config), faults


def _with_hints(faults: list[Fault], document: Document, raw: bytes) -> list[Fault]:
    """With what to write, where that is seen in the text alone."""
    assert document.root is not None
    lines = lines_of(raw.decode("utf-8-sig"))
    variables = {variable.path: variable for variable in document.variables}
    return [_with_hint(fault, document.root, lines, variables) for fault in faults]


def _with_hint(
    fault: Fault, root: Node, lines: list[str], variables: dict[tuple[str | int, ...], Variable]
) -> Fault:
    if fault.hint is not None:
        return fault
    # `address` of an endpoint that is a text alone has no node of its own.
    variable = variables.get(fault.path) or variables.get(fault.path[:-1])
    if variable is not None and variable.node.data == variable.text:
        return replace(fault, hint="`env: on` at the top takes ${NAME} from the environment")
    if not fault.quote:
        return fault
    if variable is not None:
        return replace(fault, hint=f"write {quoted(variable.text)}")
    return replace(fault, hint=f"write {quoted(_written(fault, root, lines))}")


def _written(fault: Fault, root: Node, lines: list[str]) -> str:
    """A value that was taken for a number or a boolean, as it stands in the file: where 1.10 is not
    yet 1.1."""
    line, column = _place(fault, root)
    value = functools.reduce(lambda node, step: node.children[step], fault.path, root).data
    written = re.match(r"[-+.\w]*", lines[line - 1][column - 1 :])
    return written[0] if written and resolve(written[0]) == value else shown(value)


def _placed(fault: Fault, root: Node, name: str) -> Problem:
    line, column = _place(fault, root)
    return Problem(path_text(fault.path), fault.message, fault.hint, name, line, column)


def _place(fault: Fault, root: Node) -> tuple[int, int]:
    """Where the deepest part of a path stands that is there: its key for a fault of the key."""
    node, at = root, (root.line, root.column)
    path: Iterable[str | int] = fault.path
    steps = list(path)
    for number, step in enumerate(steps):
        child = node.children.get(step)
        key = node.keys.get(cast("str", step))
        if child is None:
            return key or at
        last = number == len(steps) - 1
        at = key if key and (fault.of_key or not last or _is_nested(child.data)) else _start(child)
        node = child
    return at


def _start(node: Node) -> tuple[int, int]:
    return node.line, node.column


def _is_nested(data: Any) -> bool:
    return isinstance(data, dict | list)
