"""No two functions have the same long body, but for the names in it."""

from __future__ import annotations

import ast
import itertools
import re
from collections.abc import Callable, Iterator
from difflib import SequenceMatcher
from pathlib import Path
from typing import NamedTuple

import pytest

ROOT = Path(__file__).parents[2]
# Bodies of more statements than this are compared; of these tokens so many are the same at most.
STATEMENTS = 12
ALIKE = 0.9

PYTHON_TOKEN = re.compile(r"\w+|\S")
RUST_TOKEN = re.compile(
    r"""//[^\n]*|/\*.*?\*/          # comments
    |b?r(\#*)".*?"\1|b?"(?:\\.|[^"\\])*"  # texts
    |b?'(?:\\[^']+|\\'|[^'\\])'     # characters, and not lifetimes
    |'?\w+|=>|::|\S""",
    re.DOTALL | re.VERBOSE,
)
OPENING, CLOSING = "([{", ")]}"


class Body(NamedTuple):
    """A function's body: where it is, how many statements it has, and its tokens."""

    path: Path
    name: str
    line: int
    last_line: int
    statements: int
    tokens: list[str]

    def __str__(self) -> str:
        return f"{self.path.relative_to(ROOT)}:{self.line} {self.name}"


def without_names(tokens: list[str]) -> list[str]:
    """Names of variables become one; what is called, and a member's name, stay."""
    shapes = []
    for before, token, after in zip(["", *tokens], tokens, [*tokens[1:], ""], strict=False):
        named = token.isidentifier() and before not in (".", "::") and after not in ("(", "!", "::")
        shapes.append("_" if named else token)
    return shapes


def python_bodies() -> Iterator[Body]:
    for path in sorted((ROOT / "python").rglob("*.py")):
        for node in ast.walk(ast.parse(path.read_text())):
            if not isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
                continue
            body = node.body[1:] if ast.get_docstring(node) else node.body
            statements = sum(isinstance(x, ast.stmt) for each in body for x in ast.walk(each))
            tokens = PYTHON_TOKEN.findall("\n".join(map(ast.unparse, body)))
            last = node.end_lineno or node.lineno
            yield Body(path, node.name, node.lineno, last, statements, without_names(tokens))


def end_of(tokens: list[str], start: int, ends: str) -> int:
    """Where, at the depth of ``start``, one of ``ends`` stands."""
    depth = 0
    for at in range(start, len(tokens)):
        if depth == 0 and tokens[at] in ends:
            return at
        depth += (tokens[at] in OPENING) - (tokens[at] in CLOSING)
    return len(tokens)


def rust_bodies() -> Iterator[Body]:
    for path in sorted((ROOT / "rust").glob("*/src/**/*.rs")):
        text = re.split(r"^#\[cfg\((?:all\()?test", path.read_text(), flags=re.MULTILINE)[0]
        found = [x for x in RUST_TOKEN.finditer(text) if not x[0].startswith(("//", "/*"))]
        tokens = [x[0] for x in found]
        for at, token in enumerate(tokens[:-1]):
            if token != "fn" or not tokens[at + 1].isidentifier():
                continue
            start = end_of(tokens, at + 2, "{;")
            if tokens[start : start + 1] != ["{"]:
                continue  # declared, and defined elsewhere
            end = end_of(tokens, start + 1, "}")
            body = tokens[start + 1 : end]
            # With the last expression, and an arm for a statement.
            statements = body.count(";") + body.count("=>") + 1
            line, last = (text.count("\n", 0, found[x].start()) + 1 for x in (at, end))
            yield Body(path, tokens[at + 1], line, last, statements, without_names(body))


def is_within(one: Body, other: Body) -> bool:
    return one.path == other.path and (
        one.line <= other.line <= one.last_line or other.line <= one.line <= other.last_line
    )


def are_alike(one: Body, other: Body) -> bool:
    matcher = SequenceMatcher(None, one.tokens, other.tokens, autojunk=False)
    bounds = (matcher.real_quick_ratio, matcher.quick_ratio, matcher.ratio)
    return all(bound() >= ALIKE for bound in bounds)


@pytest.mark.parametrize("bodies", [python_bodies, rust_bodies])
def test_no_long_body_stands_twice(bodies: Callable[[], Iterator[Body]]) -> None:
    long = [body for body in bodies() if body.statements > STATEMENTS]
    assert len(long) > 100
    pairs = itertools.combinations(long, 2)
    assert [
        f"{one} ~ {other}"
        for one, other in pairs
        if not is_within(one, other) and are_alike(one, other)
    ] == []
