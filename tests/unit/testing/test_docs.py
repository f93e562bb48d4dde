"""The files of docs/testing.md run as they stand, and type checkers have nothing against them."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[3]
TEXT = (ROOT / "docs" / "testing.md").read_text()
YAML = re.findall(r"^```yaml\n(.*?)^```$", TEXT, re.DOTALL | re.MULTILINE)
PYTHON = re.findall(r"^```python\n(.*?)^```$", TEXT, re.DOTALL | re.MULTILINE)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    assert (len(YAML), len(PYTHON)) == (1, 5)
    (tmp_path / "mesh.yaml").write_text(YAML[0])
    for number, text in enumerate(PYTHON):
        (tmp_path / f"test_{number}.py").write_text(text)
    return tmp_path


def called(folder: Path, *command: str) -> str:
    ended = subprocess.run(
        [sys.executable, "-m", *command],
        cwd=folder,
        capture_output=True,
        text=True,
        timeout=200,
        check=False,
    )
    assert ended.returncode == 0, ended.stdout + ended.stderr
    return ended.stdout


def test_the_tests_pass_by_pytest_as_it_comes(folder: Path) -> None:
    assert "12 passed in" in called(folder, "pytest", "-q", "-W", "error", "-p", "no:asyncio")


@pytest.mark.timeout(300)
def test_they_are_typed_strictly(folder: Path) -> None:
    files = sorted(path.name for path in folder.glob("*.py"))
    called(folder, "mypy", "--strict", *files)
    (folder / "pyrightconfig.json").write_text('{"typeCheckingMode": "strict"}')
    said = json.loads(called(folder, "pyright", "--outputjson", "--pythonpath", sys.executable))
    assert said["summary"]["filesAnalyzed"] == len(files)
    assert said["generalDiagnostics"] == []
