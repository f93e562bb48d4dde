"""The house rules that a reviewer should not have to look for: sizes, names, who imports whom."""

from __future__ import annotations

import ast
import re
import statistics
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
PYTHON = sorted((ROOT / "python").rglob("*.py"))
RUST = sorted((ROOT / "rust").glob("*/src/**/*.rs"))

MAX_FILE = 400
MEDIAN_FILE = 150
MAX_FUNCTION = 40
MAX_PARAMETERS = 6
# Names that say nothing about what is inside.
EMPTY_NAMES = {"utils", "util", "helpers", "helper", "common", "misc"}

# A row imports only rows below it, and nothing beside it; what is in one room may import each
# other. `process` stands over `admin` because it starts it.
ROWS: list[list[str]] = [
    ["__main__"],
    ["cli"],
    ["demo", "library", "testing"],
    ["process"],
    ["admin"],
    [
        "downstream",
        "upstream.chooser",
        "upstream.connector",
        "upstream.counts",
        "upstream.dial",
        "upstream.dns",
        "upstream.http1",
        "upstream.http2",
        "upstream.tls",
    ],
    ["wire"],
    ["exchange"],
    [
        "upstream.branch",
        "upstream.cluster",
        "upstream.part",
        "upstream.pool",
        "upstream.pool_owner",
        "upstream.resting",
        "codec",
    ],
    ["config"],
    ["telemetry"],
    ["errors"],
    ["_core"],
]
# The rows that may wait; everything below is handed what it needs.
MAY_AWAIT = 6

ROOMS = ("admission", "balance", "codec", "routing")


def code_lines(text: str, comment: str) -> int:
    lines = (line.strip() for line in text.splitlines())
    return sum(1 for line in lines if line and not line.startswith(comment))


def rust_code(text: str) -> str:
    """Without the tests at the end of a file."""
    return re.split(r"^#\[cfg\((?:all\()?test", text, maxsplit=1, flags=re.MULTILINE)[0]


def size(path: Path) -> int:
    text = path.read_text()
    return code_lines(rust_code(text), "//") if path.suffix == ".rs" else code_lines(text, "#")


def name_of(path: Path) -> str:
    return str(path.relative_to(ROOT))


@pytest.mark.parametrize("path", [*PYTHON, *RUST], ids=name_of)
def test_a_file_is_read_at_one_sitting(path: Path) -> None:
    assert size(path) <= MAX_FILE


@pytest.mark.parametrize("paths", [PYTHON, RUST], ids=["python", "rust"])
def test_most_files_are_short(paths: list[Path]) -> None:
    assert statistics.median(map(size, paths)) <= MEDIAN_FILE


@pytest.mark.parametrize("path", [*PYTHON, *RUST], ids=name_of)
def test_names_say_what_is_inside(path: Path) -> None:
    inside = path.relative_to(ROOT)
    assert not EMPTY_NAMES & {*inside.parts, inside.stem}


def functions(path: Path) -> Iterator[ast.FunctionDef | ast.AsyncFunctionDef]:
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            yield node


@pytest.mark.parametrize("path", PYTHON, ids=name_of)
def test_functions_are_short_and_ask_for_little(path: Path) -> None:
    for node in functions(path):
        assert (node.end_lineno or 0) - node.lineno < MAX_FUNCTION, node.name
        arguments = [*node.args.posonlyargs, *node.args.args]
        own = [a for a in arguments if a.arg not in ("self", "cls")]
        assert len(own) <= MAX_PARAMETERS, node.name


def row(module: str) -> int | None:
    """The row of ``meshcore.x.y``; the longest name that fits. `None` outside of rooms."""
    name = module.removeprefix("meshcore.")
    found = [
        (len(known), number)
        for number, rooms in enumerate(ROWS)
        for known in rooms
        if name == known or name.startswith(f"{known}.")
    ]
    return max(found)[1] if found else None


def room(module: str) -> str:
    return module.split(".")[1] if "." in module else module


def imports(path: Path) -> Iterator[tuple[str, int]]:
    """Modules of ours that are imported when this one is; not those that only types need."""
    waiting: list[ast.AST] = [ast.parse(path.read_text())]
    while waiting:
        node = waiting.pop()
        if isinstance(node, ast.If) and ast.unparse(node.test) == "TYPE_CHECKING":
            waiting += node.orelse
            continue
        if isinstance(node, ast.Import):
            yield from ((name.name, node.lineno) for name in node.names)
        elif isinstance(node, ast.ImportFrom):
            module = node.module or ""
            names = [name.name for name in node.names] if module == "meshcore" else []
            yield from ((f"meshcore.{name}", node.lineno) for name in names)
            yield module, node.lineno
        waiting += ast.iter_child_nodes(node)


def module_of(path: Path) -> str:
    parts = path.relative_to(ROOT / "python").with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


@pytest.mark.parametrize("path", PYTHON, ids=name_of)
def test_a_row_imports_only_rows_below_it(path: Path) -> None:
    module = module_of(path)
    here = row(module)
    if here is None:
        return  # the public names, and single modules that are no room
    for target, line in imports(path):
        there = row(target) if target.startswith("meshcore.") else None
        if there is None or room(target) == room(module):
            continue
        assert there > here, f"line {line}: {module} imports {target}"


def test_every_name_in_a_row_is_there() -> None:
    known = {module_of(path).removeprefix("meshcore.") for path in PYTHON} | {"_core"}
    assert {name for names in ROWS for name in names} <= known


ROOM_LINE = re.compile(r"^\| (`python/meshcore/[^|]+) \|[^|]+\|([^|]*)\|$", re.MULTILINE)


def test_the_table_of_rooms_names_all_and_what_they_import() -> None:
    package = ROOT / "python" / "meshcore"
    rooms = {each.parent.name for each in package.glob("*/__init__.py")}
    table: dict[frozenset[str], set[str]] = {}
    for names, imported in ROOM_LINE.findall((ROOT / "ARCHITECTURE.md").read_text()):
        own = frozenset(re.findall(r"`(?:python/meshcore/)?(\w+)`", names))
        table[own] = set(re.findall(r"`(\w+)`", imported))
    assert sorted(rooms) == sorted(name for own in table for name in own)
    for own, told in table.items():
        if not told:
            assert own == {"process", "admin", "cli"}  # the rest
            continue
        files = [path for name in own for path in (package / name).rglob("*.py")]
        targets = {target for path in files for target, _ in imports(path)}
        found = {room(target) for target in targets if target.startswith("meshcore.")} - own
        assert found & {*rooms, "_core"} == told, own


@pytest.mark.parametrize("path", PYTHON, ids=name_of)
def test_only_the_upper_rows_wait(path: Path) -> None:
    here = row(module_of(path))
    if here is None or here < MAY_AWAIT:
        return
    waits = ast.AsyncFunctionDef | ast.Await | ast.AsyncFor | ast.AsyncWith
    for node in ast.walk(ast.parse(path.read_text())):
        assert not isinstance(node, waits), f"line {getattr(node, 'lineno', 0)}"


@pytest.mark.parametrize("name", ROOMS)
def test_rust_rooms_do_not_know_each_other(name: str) -> None:
    others = "|".join({*ROOMS, "exchange"} - {name})
    forbidden = re.compile(rf"\bcrate::(?:{others})\b|\bcrate::\{{[^}}]*\b(?:{others})::")
    core = ROOT / "rust" / "meshcore-core" / "src"
    for path in (core / name).rglob("*.rs"):
        found = forbidden.search(rust_code(path.read_text()))
        assert found is None, f"{name_of(path)}: {found[0] if found else ''}"


def test_the_core_knows_no_socket_no_clock_and_no_python() -> None:
    forbidden = re.compile(r"std::net::(?:Tcp|Udp)|Instant::now|SystemTime::now|\bpyo3\b")
    for path in (ROOT / "rust" / "meshcore-core" / "src").rglob("*.rs"):
        for number, line in enumerate(rust_code(path.read_text()).splitlines(), 1):
            code = line.split("//")[0]
            assert not forbidden.search(code), f"{name_of(path)}:{number}"
