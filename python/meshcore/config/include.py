"""Reads the files of a configuration: the one that is given, and those that it includes.

An included file holds further listeners, routes and upstreams; they join those of the first file,
as if they stood behind its own. Every relative path, of a certificate too, begins at the folder of
the first file, wherever it is written.
"""

from __future__ import annotations

import json
import os
from dataclasses import replace
from errno import ENOENT
from typing import TYPE_CHECKING, Any, Final

from meshcore.config.document import MAX_BYTES, Node, parse
from meshcore.config.environment import substitute
from meshcore.config.hints import shown
from meshcore.config.tree import Tree
from meshcore.errors import Diagnostic

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping
    from pathlib import Path

    from meshcore.config.document import Document

    Fetch = Callable[[str, int], bytes]
    _Steps = tuple[str | int, ...]

__all__ = ["bundle", "fetch_from", "gather", "included", "unbundle"]

# As many as are maintained by hand; more are made by a program, which can write one file.
MAX_FILES: Final = 256
MAX_LEVELS: Final = 8
_SECTIONS: Final[dict[str, type]] = {"listeners": dict, "routes": list, "upstreams": dict}
# No YAML begins so.
_BUNDLE: Final = b"\0meshcore files 1\n"


def gather(raw: bytes, name: str, folder: Path | None, *, env: bool, fetch: Fetch) -> Tree:
    """All files as one tree, with every problem that is seen before the model. O(bytes)."""
    return _Gatherer(Tree(name), folder, fetch, env=env).gathered(raw)


def fetch_from(files: Mapping[str, bytes]) -> Fetch:
    """Included files as they once were, in the place of `read_file`."""

    def fetch(path: str, most: int) -> bytes:
        if path not in files:
            raise FileNotFoundError(ENOENT, "was not part of it then", path)
        return files[path][: most + 1]

    return fetch


def bundle(main: bytes, included: Mapping[str, bytes]) -> bytes:
    """All files of a configuration as one text, to be kept: of a single file that file itself."""
    if not included:
        return main
    files = {"": main, **included}
    index = json.dumps([[name, len(text)] for name, text in files.items()]).encode()
    return b"".join([_BUNDLE, index, b"\n", *files.values()])


def unbundle(text: bytes) -> tuple[bytes, dict[str, bytes]]:
    """The first file and the included ones of what `bundle` made."""
    if not text.startswith(_BUNDLE):
        return text, {}
    index, _, rest = text.removeprefix(_BUNDLE).partition(b"\n")
    files, at = {}, 0
    for name, size in json.loads(index):
        files[name] = rest[at : at + size]
        at += size
    return files.pop(""), files


class _Gatherer:
    def __init__(self, tree: Tree, folder: Path | None, fetch: Fetch, *, env: bool) -> None:
        self._tree = tree
        self._folder = "" if folder is None else str(folder)
        self._fetch = fetch
        self._env = env
        self._left = MAX_BYTES

    def gathered(self, raw: bytes) -> Tree:
        tree = self._tree
        document = self._read(raw, tree.name)
        if document is None or document.root is None:
            return tree
        tree.root = root = document.root
        tree.variables.update((variable.path, variable) for variable in document.variables)
        if isinstance(root.data, dict) and "include" in root.data:
            self._include(root, tree.name, 1)
            del root.data["include"]
        return tree

    def _problem(
        self, file: str, node: Node | tuple[int, int], steps: _Steps, *said: str | None
    ) -> None:
        line, column = node if isinstance(node, tuple) else (node.line, node.column)
        message, hint = said
        problem = Diagnostic(steps, message or "", hint, file, line, column)
        self._tree.problems.append(problem)

    def _read(self, raw: bytes, name: str) -> Document | None:
        """One file, without what it includes."""
        self._tree.texts[name] = raw
        if len(raw) > self._left:
            message = f"larger than {MAX_BYTES >> 20} MiB"
            self._problem(name, (0, 0), (), message, None)
            return None
        self._left -= len(raw)
        try:
            text = raw.decode("utf-8-sig")
        except UnicodeDecodeError as error:
            line = raw.count(b"\n", 0, error.start) + 1
            self._problem(name, (line, 1), (), "not UTF-8", "save it as UTF-8")
            return None
        document = parse(text)
        # The first file decides for all.
        self._env = self._env or (self._tree.root is None and _asks_for_environment(document))
        if self._env:
            document.problems.extend(substitute(document.variables, os.environ))
        self._tree.problems += [replace(problem, file=name) for problem in document.problems]
        return document

    def _include(self, root: Node, file: str, level: int) -> None:
        """What a file includes, in its order, each with what it includes itself."""
        node = root.children["include"]
        written = [node] if isinstance(node.data, str) else list(node.children.values())
        if isinstance(node.data, dict) or not (written or node.data == []):
            message = f"expected a list of files, got {shown(node.data)}"
            self._problem(file, root.keys["include"], ("include",), message, None)
            return
        for number, each in enumerate(written):
            where = ("include",) if each is node else ("include", number)
            if not isinstance(each.data, str) or not each.data:
                message = f"expected the name of a file, got {shown(each.data)}"
                self._problem(file, each, where, message, None)
                continue
            raw = self._fetched(each, file, where, level)
            if raw is not None:
                name = self._name(each.data)
                self._join(raw, name, level)

    def _name(self, written: str) -> str:
        return os.path.normpath(os.path.join(self._folder, written))

    def _fetched(self, node: Node, file: str, where: _Steps, level: int) -> bytes | None:
        name, texts = self._name(node.data), self._tree.texts
        message, hint = None, None
        if any(os.path.abspath(name) == os.path.abspath(known) for known in texts):
            message, hint = f"{name} is part of the configuration already", "include it once"
        elif level > MAX_LEVELS:
            message = f"included files include others more than {MAX_LEVELS} deep"
        elif len(texts) > MAX_FILES:
            message = f"more than {MAX_FILES} files"
        if message is None:
            try:
                return self._fetch(name, self._left)
            except (OSError, ValueError) as error:
                reason = error.strerror if isinstance(error, OSError) else error
                message = f"cannot read {name}: {reason}"
        self._problem(file, node, where, message, hint)
        return None

    def _join(self, raw: bytes, name: str, level: int) -> None:
        document = self._read(raw, name)
        if document is None or document.root is None:
            return
        root = document.root
        if not isinstance(root.data, dict):
            message = f"expected a mapping, got {shown(root.data)}"
            self._problem(name, root, (), message, "with listeners, routes or upstreams")
            return
        offset = len(self._section("routes").children)
        for key in root.children:
            if key in _SECTIONS:
                self._join_section(str(key), root, name)
            elif key != "include":
                hint = f"an included file has {', '.join(_SECTIONS)} and include"
                self._problem(name, root.keys[str(key)], (str(key),), "unknown key", hint)
        for variable in document.variables:
            match variable.path:
                case ("routes", int(number), *rest):
                    self._tree.variables["routes", number + offset, *rest] = variable
                case path:
                    self._tree.variables[path] = variable
        if "include" in root.children:
            self._include(root, name, level + 1)

    def _section(self, key: str) -> Node:
        """A section of the first file, which need not have it."""
        root = self._tree.root
        assert root is not None
        if key not in root.children:
            made: Any = _SECTIONS[key]()
            root.children[key] = Node(root.line, root.column, made, {}, {})
            root.data[key] = made
        return root.children[key]

    def _join_section(self, key: str, root: Node, name: str) -> None:
        added, target = root.children[key], self._section(key)
        if not isinstance(added.data, _SECTIONS[key]):
            wanted = "list" if key == "routes" else "mapping"
            message = f"expected a {wanted}, got {shown(added.data)}"
            self._problem(name, root.keys[key], (key,), message, None)
            return
        if not isinstance(target.data, _SECTIONS[key]):
            return  # the model says what is wrong with it
        data: Any = target.data
        for step, node in added.children.items():
            if isinstance(data, list):
                number = len(data)
                data.append(node.data)
                target.children[number] = node
                self._tree.owners[key, number] = name
            elif step in target.children:
                first = self._tree.owners.get((key, step), self._tree.name)
                hint = f"first in {first}, line {target.keys[str(step)][0]}"
                place = added.keys[str(step)]
                self._problem(name, place, (key,), f"duplicate name {step!r}", hint)
            else:
                data[step], target.children[step] = node.data, node
                target.keys[str(step)] = added.keys[str(step)]
                self._tree.owners[key, step] = name


def _asks_for_environment(document: Document) -> bool:
    data = document.root.data if document.root is not None else None
    return isinstance(data, dict) and data.get("env") in ("on", True)


def included(tree: Tree) -> Iterator[tuple[str, bytes]]:
    """Every file but the first, and what is in it."""
    return ((name, text) for name, text in tree.texts.items() if name != tree.name)
