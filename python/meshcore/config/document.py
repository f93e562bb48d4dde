"""A YAML document as plain data that knows where each part of it stands.

Built from libyaml's events, so that what would be dangerous or lost in the usual loader is seen
here: nesting, alias expansion, duplicate keys, tags. Plain scalars are resolved by the core
schema of YAML 1.2: ``off``, ``yes``, ``12:30`` and dates are texts, as all but YAML 1.1
expects.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any, Final, NamedTuple

import yaml

from meshcore.config.syntax import (
    explain_syntax,
    is_ipv6,
    lines_of,
    must_be_quoted,
    quoted,
    value_at,
)
from meshcore.errors import Diagnostic

if TYPE_CHECKING:
    from meshcore.config.syntax import Mistake

try:
    from yaml import CSafeLoader as _Loader
except ImportError:  # PyYAML without libyaml: slower, the same events
    from yaml import SafeLoader as _Loader  # type: ignore[assignment]

__all__ = [
    "MAX_BYTES",
    "MAX_DEPTH",
    "MAX_NODES",
    "Document",
    "Node",
    "Variable",
    "parse",
    "resolve",
]

# 100,000 routes written at length are 30 MB.
MAX_BYTES: Final = 64 << 20
# The deepest key of the format is at depth 8.
MAX_DEPTH: Final = 32
# What the bytes above can hold; aliases may not expand to more ("billion laughs").
MAX_NODES: Final = 8_000_000

_STR: Final = "tag:yaml.org,2002:str"
# YAML 1.2.2 §10.3.2; longer numbers are texts.
_INT: Final = re.compile(r"[-+]?[0-9]{1,20}")
_HEX: Final = re.compile(r"0x[0-9a-fA-F]{1,16}")
_FLOAT: Final = re.compile(
    r"[-+]?(\.[0-9]{1,20}|[0-9]{1,20}(\.[0-9]{0,20})?)([eE][-+]?[0-9]{1,3})?"
)
_WORDS: Final[dict[str, Any]] = {
    **dict.fromkeys(("", "~", "null", "Null", "NULL")),
    **dict.fromkeys(("true", "True", "TRUE"), True),
    **dict.fromkeys(("false", "False", "FALSE"), False),
}


@dataclass(slots=True)
class Node:
    """One value and its place, both counted from 1."""

    line: int
    column: int
    data: Any = None
    """The plain value; lists and dictionaries hold plain values too."""
    # Scalars share two empty ones; there are many, and this halves their memory.
    children: dict[str | int, Node] = field(default_factory=lambda: _NO_CHILDREN)
    keys: dict[str, tuple[int, int]] = field(default_factory=lambda: _NO_KEYS)
    """Where each key of a mapping stands."""
    size: int = 1
    """Nodes below and this one, aliases expanded."""
    height: int = 0
    """Collections below each other, this one included."""
    waiting: str | None = None
    """While it is built: the key whose value comes next."""
    step: str | int = ""
    """While it is built: its key or number in what it was written in."""


_NO_CHILDREN: Final[dict[str | int, Node]] = {}
_NO_KEYS: Final[dict[str, tuple[int, int]]] = {}


class Variable(NamedTuple):
    """A text with ``${`` in it, as it was written."""

    parent: Node
    path: tuple[str | int, ...]
    node: Node
    text: str
    is_plain: bool
    """Whether it stands without quotes."""


class Document(NamedTuple):
    """What was read."""

    root: Node | None
    """If it could be read to its end."""
    problems: list[Diagnostic]
    variables: list[Variable]


class _StopError(Exception):
    """The document cannot be read on."""


def parse(text: str) -> Document:
    """The document, with every problem. O(text)."""
    builder = _Builder(text)
    return Document(_built(builder, text), builder.problems, builder.variables)


def _built(builder: _Builder, text: str) -> Node | None:
    try:
        for event in yaml.parse(text, Loader=_Loader):
            builder.take(event)
    except _StopError:
        return None
    except yaml.MarkedYAMLError as error:
        found = explain_syntax(text, error)
        if "maximum nesting" in found.message:  # libyaml's own bound, met while it looks ahead
            found = replace(found, message=f"nested deeper than {MAX_DEPTH}", hint=None)
        builder.problems.append(_problem_of(found))
        return None
    except yaml.reader.ReaderError as error:
        builder.problems.append(_unreadable(text, error))
        return None
    if builder.root is None and not builder.problems:
        builder.problems.append(Diagnostic((), "the document is empty", line=1, column=1))
    return builder.root


def _problem_of(mistake: Mistake, path: tuple[str | int, ...] = ()) -> Diagnostic:
    return Diagnostic(path, mistake.message, mistake.hint, line=mistake.line, column=mistake.column)


def _unreadable(text: str, error: yaml.reader.ReaderError) -> Diagnostic:
    before = text[: error.position] if isinstance(error.position, int) else ""
    line = before.count("\n") + 1
    column = len(before) - (before.rfind("\n") + 1) + 1
    code = error.character if isinstance(error.character, int) else ord(text[len(before)])
    message = f"not YAML: the control character U+{code:04X}"
    return Diagnostic((), message, "take it out", line=line, column=column)


class _Builder:
    """Puts events together; bounded by the limits above."""

    def __init__(self, text: str) -> None:
        self._text = text
        self.root: Node | None = None
        self.problems: list[Diagnostic] = []
        self.variables: list[Variable] = []
        self._plain: set[int] = set()  # of the nodes with a variable
        self._open: list[Node] = []
        self._anchors: dict[str, Node] = {}
        self._documents = 0

    def take(self, event: yaml.Event) -> None:
        """One event."""
        if isinstance(event, yaml.ScalarEvent):
            self._scalar(event)
        elif isinstance(event, yaml.CollectionStartEvent):
            self._begin(event)
        elif isinstance(event, yaml.CollectionEndEvent):
            self._end()
        elif isinstance(event, yaml.AliasEvent):
            self._alias(event)
        elif isinstance(event, yaml.DocumentStartEvent):
            self._documents += 1
            if self._documents > 1:
                raise self._stop(event, "more than one document in the file")

    def _stop(self, event: yaml.Event, message: str, hint: str | None = None) -> _StopError:
        self._problem(event, message, hint)
        return _StopError()

    def _problem(self, event: yaml.Event, message: str, hint: str | None = None) -> None:
        path = tuple(node.step for node in self._open[1:])
        line, column = _start(event)
        self.problems.append(Diagnostic(path, message, hint, line=line, column=column))

    def _line(self, event: Any) -> str:
        line: int = event.start_mark.line
        return lines_of(self._text)[line]

    def _written(self, event: Any) -> str:
        """The value that begins here, as it was meant."""
        return value_at(self._line(event), event.start_mark.column)

    def _tagged(self, event: Any) -> _StopError:
        hint = f"for a text write {quoted(self._written(event))}"
        return self._stop(event, f"tag {event.tag} is not supported", hint)

    def _no_key(self, event: Any) -> _StopError:
        """A list or mapping in the place of a key: mostly a text with brackets."""
        column, line = event.start_mark.column, self._line(event)
        if line[column - 1 : column + 1] == "{{":
            column -= 1
        written = value_at(line, column)
        if not (written.startswith("{{") or is_ipv6(written)):
            return self._stop(event, "a key is a text, not a list or mapping")
        path = tuple(node.step for node in self._open[1:])
        mistake = must_be_quoted(lines_of(self._text), event.start_mark.line, column)
        self.problems.append(_problem_of(mistake, path))
        return _StopError()

    def _scalar(self, event: yaml.ScalarEvent) -> None:
        top = self._open[-1] if self._open else None
        if top is not None and isinstance(top.data, dict) and top.waiting is None:
            self._key(top, event)
            return
        node = self._node(event)
        node.data = _resolve(event)
        if event.implicit[0] and isinstance(node.data, str) and "${" in node.data:
            self._plain.add(id(node))
        if event.tag not in (None, _STR):
            raise self._tagged(event)
        self._place(event, node)

    def _key(self, top: Node, event: yaml.ScalarEvent) -> None:
        line, column = _start(event)
        key = event.value
        if key in top.keys:
            first = top.keys[key][0]
            self._problem(event, f"duplicate key {key!r}", f"first on line {first}")
        else:
            top.keys[key] = (line, column)
        if event.anchor:
            self._anchors[event.anchor] = Node(line, column, key)
        top.waiting = key

    def _node(self, event: Any) -> Node:
        node = Node(*_start(event))
        if event.anchor:
            self._anchors[event.anchor] = node
        return node

    def _begin(self, event: yaml.CollectionStartEvent) -> None:
        top = self._open[-1] if self._open else None
        if top is not None and isinstance(top.data, dict) and top.waiting is None:
            raise self._no_key(event)
        if len(self._open) >= MAX_DEPTH:
            raise self._stop(event, f"nested deeper than {MAX_DEPTH}")
        if event.tag is not None:
            raise self._tagged(event)
        node = self._node(event)
        node.data, node.children = [], {}
        if isinstance(event, yaml.MappingStartEvent):
            node.data, node.keys = {}, {}
        # Until it is closed an alias to it would be a loop.
        node.size = 0
        self._place(event, node)
        self._open.append(node)

    def _end(self) -> None:
        node = self._open.pop()
        node.size = 1 + sum(child.size for child in node.children.values())
        node.height = 1 + max((child.height for child in node.children.values()), default=0)
        if node.size > MAX_NODES or node.height + len(self._open) > MAX_DEPTH:
            limits = f"at most {MAX_NODES} values, {MAX_DEPTH} deep"
            message = "aliases expand to too much"
            problem = Diagnostic((), message, limits, line=node.line, column=node.column)
            self.problems.append(problem)
            raise _StopError

    def _alias(self, event: yaml.AliasEvent) -> None:
        node = self._anchors.get(event.anchor or "")
        if node is None:
            hint = f"for a text write {quoted(self._written(event))}"
            raise self._stop(event, f"no anchor named {event.anchor!r}", hint)
        if node.size == 0:
            raise self._stop(event, f"alias {event.anchor!r} stands within its own anchor")
        top = self._open[-1]
        if isinstance(top.data, dict) and top.waiting is None:
            raise self._stop(event, "a key is a text, not an alias")
        self._place(event, node)

    def _place(self, event: yaml.Event, node: Node) -> None:
        """Put a finished scalar, or a collection that is being opened, where it belongs."""
        if not self._open:
            self.root = node
            return
        top = self._open[-1]
        if isinstance(top.data, list):
            node.step = len(top.data)
            top.children[node.step] = node
            top.data.append(node.data)
            self._note(top, node, node.step)
            return
        assert top.waiting is not None
        key, top.waiting = top.waiting, None
        node.step = key
        if key == "<<":
            self._problem(event, "merge keys are not supported", "write the keys out")
        elif key not in top.children:
            top.children[key] = node
            top.data[key] = node.data
            self._note(top, node, key)

    def _note(self, top: Node, node: Node, step: str | int) -> None:
        """An alias stands here by a step of its own, so the path is not told by the node."""
        if isinstance(node.data, str) and "${" in node.data:
            path = (*(each.step for each in self._open[1:]), step)
            plain = id(node) in self._plain
            self.variables.append(Variable(top, path, node, node.data, plain))


def _start(event: Any) -> tuple[int, int]:
    mark = event.start_mark
    return mark.line + 1, mark.column + 1


def _resolve(event: yaml.ScalarEvent) -> Any:
    text: str = event.value
    return resolve(text) if event.implicit[0] and event.tag is None else text


def resolve(text: str) -> Any:
    """What a text means that stands without quotes."""
    if text in _WORDS:
        return _WORDS[text]
    if _INT.fullmatch(text):
        return int(text)
    if _HEX.fullmatch(text):
        return int(text, 16)
    if _FLOAT.fullmatch(text):
        return float(text)
    return text
