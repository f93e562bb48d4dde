"""No module imports itself, by whatever way; what only types need may, where it is listed."""

from __future__ import annotations

import ast
from graphlib import CycleError, TopologicalSorter
from pathlib import Path
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

PYTHON: Final = Path(__file__).parents[2] / "python"


def circle(room: str, names: str) -> frozenset[str]:
    return frozenset(f"meshcore.{room}.{name}" for name in names.split())


EXCHANGE: Final = "ending exchange flow hooking owner ports reading relaying sending"
POOL: Final = "branch cluster part pool resting"
# Of types alone: one thing in several files, or a whole and its parts.
OF_TYPES: Final = {
    # An exchange, and the ports through which it is driven.
    circle("exchange", EXCHANGE) | circle("upstream", POOL),
    # A listener, and what a connection is before it is known what it speaks.
    circle("downstream", "listener first_bytes detect handshake proxy_protocol"),
    circle("downstream", "http2 http2_stream"),
    # A breaker, and what guards are made of.
    circle(
        "library",
        "breaker breaker_events breaker_model breaker_rules guarded limiters part retry shared",
    ),
    circle("testing", "decision flight"),
    circle("admin", "server connection"),
}


def module_of(path: Path) -> str:
    parts = path.relative_to(PYTHON).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


MODULES: Final = {module_of(path): path for path in PYTHON.rglob("*.py")}


def imported(tree: ast.AST, *, types: bool) -> Iterator[str]:
    waiting: list[ast.AST] = [tree]
    while waiting:
        node = waiting.pop()
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef) and not types:
            continue  # imported when it is called
        if isinstance(node, ast.If) and ast.unparse(node.test) == "TYPE_CHECKING" and not types:
            waiting += node.orelse
            continue
        if isinstance(node, ast.Import):
            yield from (name.name for name in node.names)
        elif isinstance(node, ast.ImportFrom) and node.module:
            yield node.module
            yield from (f"{node.module}.{name.name}" for name in node.names)
        waiting += ast.iter_child_nodes(node)


def graph(*, types: bool) -> dict[str, set[str]]:
    found = {}
    for module, path in MODULES.items():
        targets = imported(ast.parse(path.read_text()), types=types)
        # A package is imported before what is in it, and is no circle for that.
        found[module] = {
            each
            for each in targets
            if each in MODULES and each != module and not module.startswith(f"{each}.")
        }
    return found


def circles(edges: Mapping[str, set[str]]) -> set[frozenset[str]]:
    """Modules that reach one another."""
    reached: dict[str, set[str]] = {}
    for start in edges:
        seen: set[str] = set()
        waiting = [start]
        while waiting:
            for each in edges[waiting.pop()] - seen:
                seen.add(each)
                waiting.append(each)
        reached[start] = seen
    return {frozenset(b for b in reached[a] if a in reached[b]) for a in edges if a in reached[a]}


def test_no_circle_at_run_time() -> None:
    try:
        TopologicalSorter(graph(types=False)).prepare()
    except CycleError as error:
        raise AssertionError(" → ".join(error.args[1])) from None


def test_circles_of_types_are_those_that_are_listed() -> None:
    assert circles(graph(types=True)) == OF_TYPES
