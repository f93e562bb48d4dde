"""A configuration's text, of one file or several, as one tree that knows where each part stands."""

from __future__ import annotations

import functools
import re
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any, cast

from meshcore.config.document import resolve
from meshcore.config.hints import shown
from meshcore.config.syntax import lines_of, quoted
from meshcore.errors import Diagnostic

if TYPE_CHECKING:
    from collections.abc import Iterable

    from meshcore.config.document import Node, Variable

    _Path = tuple[str | int, ...]

__all__ = ["Tree"]

_BOOLEANS = ("true", "false", "True", "False", "TRUE", "FALSE")


@dataclass(slots=True)
class Tree:
    """What was read."""

    name: str
    """Of the file that includes all others."""
    root: Node | None = None
    """If it could be read to its end; what is included is part of it."""
    problems: list[Diagnostic] = field(default_factory=list)
    texts: dict[str, bytes] = field(default_factory=dict)
    """By file."""
    owners: dict[_Path, str] = field(default_factory=dict)
    """The file of each listener, route and upstream that is included."""
    variables: dict[_Path, Variable] = field(default_factory=dict)

    def placed(self, problems: Iterable[Diagnostic]) -> list[Diagnostic]:
        """These with their places, file by file in the order of each."""
        return self.in_order([self._placed(problem) for problem in problems])

    def in_order(self, problems: list[Diagnostic]) -> list[Diagnostic]:
        """Problems as people go through them: the first file, then each that it includes."""
        files = {name: number for number, name in enumerate(self.texts)}
        return sorted(problems, key=lambda p: (files.get(p.file or "", 0), p.line, p.column))

    def _file_of(self, path: _Path) -> str:
        return self.owners.get(path[:2], self.name)

    def _placed(self, problem: Diagnostic) -> Diagnostic:
        line, column = self._place(problem)
        file = self._file_of(problem.steps)
        return replace(problem, file=file, line=line, column=column)

    def _place(self, problem: Diagnostic) -> tuple[int, int]:
        """Where the deepest part of a path stands that is there: its key for one of the key."""
        assert self.root is not None
        node, at = self.root, (self.root.line, self.root.column)
        steps = list(problem.steps)
        for number, step in enumerate(steps):
            child = node.children.get(step)
            key = node.keys.get(cast("str", step))
            if child is None:
                return key or at
            by_key = problem.of_key or number < len(steps) - 1 or _is_nested(child.data)
            at = key if key and by_key else (child.line, child.column)
            node = child
        return at

    def hinted(self, problems: list[Diagnostic]) -> list[Diagnostic]:
        """With what to write, where that is seen in the text alone."""
        lines = functools.cache(lambda file: lines_of(self.texts[file].decode("utf-8-sig")))
        return [
            problem
            if problem.hint is not None
            else replace(problem, hint=self._hint(problem, lines))
            for problem in problems
        ]

    def _hint(self, problem: Diagnostic, lines: Any) -> str | None:
        # `address` of an endpoint that is a text alone has no node of its own.
        variable = self.variables.get(problem.steps) or self.variables.get(problem.steps[:-1])
        if variable is not None and variable.node.data == variable.text:
            return "`env: on` at the top takes ${NAME} from the environment"
        if not problem.quote:
            return None
        if variable is not None:
            return f"write {quoted(variable.text)}"
        line, column = self._place(problem)
        text = lines(self._file_of(problem.steps))[line - 1][column - 1 :]
        written = self._written(problem.steps, text)
        reads = f"YAML reads {written} as a boolean: " if written in _BOOLEANS else ""
        return f"{reads}write {quoted(written)}"

    def _written(self, path: _Path, text: str) -> str:
        """A value that was taken for a number or a boolean as it stands in the file, where 1.10 is
        not yet 1.1; the text begins there."""
        assert self.root is not None
        value = functools.reduce(lambda node, step: node.children[step], path, self.root).data
        written = re.match(r"[-+.\w]*", text)
        return written[0] if written and resolve(written[0]) == value else shown(value)


def _is_nested(data: Any) -> bool:
    return isinstance(data, dict | list)
