"""What type checkers say of programs that use meshcore: all that is wrong, and nothing else."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import pytest

import meshcore
import meshcore.testing

ROOT = Path(__file__).parents[3]
EXAMPLES = sorted((ROOT / "examples").glob("*.py"))
WRONG = ROOT / "tests" / "data" / "types" / "wrong.py"

MODULES = (meshcore, meshcore.testing)
PUBLIC = [f"{module.__name__}.{name}" for module in MODULES for name in module.__all__]

pytestmark = pytest.mark.timeout(300)


class Said(NamedTuple):
    """What a checker says of a line."""

    file: str
    line: int
    is_error: bool
    text: str


def checked(*command: str | Path) -> str:
    called = [sys.executable, "-m", *map(str, command)]
    ended = subprocess.run(
        called, cwd=ROOT, capture_output=True, text=True, timeout=280, check=False
    )
    assert ended.returncode in (0, 1), ended.stdout + ended.stderr
    return ended.stdout


def by_mypy(folder: Path) -> list[Said]:
    output = checked("mypy", "--strict", "--output=json", *sorted(folder.glob("*.py")))
    found: list[dict[str, Any]] = [json.loads(line) for line in output.splitlines() if line]
    return [
        Said(Path(each["file"]).name, each["line"], each["severity"] == "error", each["message"])
        for each in found
    ]


def by_pyright(folder: Path) -> list[Said]:
    (folder / "pyrightconfig.json").write_text('{"typeCheckingMode": "strict"}')
    where = ("--pythonpath", sys.executable)
    output = json.loads(checked("pyright", "--outputjson", "-p", folder, *where))
    return [
        Said(
            Path(each["file"]).name,
            each["range"]["start"]["line"] + 1,
            each["severity"] == "error",
            each["message"],
        )
        for each in output["generalDiagnostics"]
    ]


CHECKERS: dict[str, Callable[[Path], list[Said]]] = {"mypy": by_mypy, "pyright": by_pyright}
REVEALED = re.compile(r'(?:Revealed type is|Type of "[^"]+" is) "(.*)"')


@pytest.mark.parametrize("checker", CHECKERS)
def test_wrong_programs_are_refused_and_good_ones_are_not(checker: str, tmp_path: Path) -> None:
    for file in (*EXAMPLES, WRONG):
        (tmp_path / file.name).write_text(file.read_text())
    names = "".join(f"reveal_type({name})\n" for name in PUBLIC)
    (tmp_path / "names.py").write_text(f"import meshcore\nimport meshcore.testing\n\n{names}")

    said = CHECKERS[checker](tmp_path)
    errors = {each for each in said if each.is_error}
    assert {each for each in errors if each.file != WRONG.name} == set()

    wrong = {n for n, line in enumerate(WRONG.read_text().splitlines(), 1) if "# wrong" in line}
    assert len(wrong) > 60
    refused = {each.line: each.text for each in errors}
    assert wrong - refused.keys() == set(), "not refused"
    assert {n: refused[n] for n in refused.keys() - wrong} == {}, "refused and right"

    types = [REVEALED.fullmatch(each.text.strip()) for each in said]
    told = [found[1] for found in types if found]
    assert len(told) == len(PUBLIC)
    # A generic class says it of its parameter.
    told = [re.sub(r"^type\[(\w+)\[Unknown\]\]$", r"\1", each) for each in told]
    assert not [each for each in told if each == "Any" or "Unknown" in each]


def test_every_name_is_there_and_no_other() -> None:
    for module in MODULES:
        for name in module.__all__:
            assert getattr(module, name) is not None
            assert name in dir(module)
    with pytest.raises(AttributeError, match="has no attribute 'TokenBuckt'"):
        meshcore.TokenBuckt  # type: ignore[attr-defined]  # noqa: B018
    with pytest.raises(AttributeError, match="has no attribute 'Mash'"):
        meshcore.testing.Mash  # type: ignore[attr-defined]  # noqa: B018


def test_every_public_class_and_function_is_documented() -> None:
    for module in MODULES:
        for name in module.__all__:
            found = getattr(module, name)
            assert isinstance(found, str) or (found.__doc__ or "").strip(), name
