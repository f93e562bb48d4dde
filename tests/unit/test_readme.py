"""The code of README.md is right as it stands, and nobody is sent to another project."""

from __future__ import annotations

import ast
import re
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
README = (ROOT / "README.md").read_text()
DOCUMENTS = [ROOT / "README.md", ROOT / "CHANGELOG.md", *sorted((ROOT / "docs").glob("*.md"))]


def blocks(language: str) -> list[str]:
    return re.findall(rf"^```{language}\n(.*?)^```$", README, re.DOTALL | re.MULTILINE)


def called(folder: Path, *command: str) -> None:
    ended = subprocess.run(
        [sys.executable, "-W", "error", *command],
        cwd=folder,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert (ended.returncode, ended.stderr) == (0, "")


def test_the_mesh_and_its_test_run(tmp_path: Path) -> None:
    (mesh,) = blocks("yaml")
    (tested,) = (text for text in blocks("python") if "Mesh(" in text)
    (tmp_path / "mesh.yaml").write_text(mesh)
    called(tmp_path, "-m", "meshcore", "check", "mesh.yaml")
    called(tmp_path, "-c", tested)


@pytest.mark.parametrize("text", blocks("python"))
def test_each_block_imports_what_it_uses(text: str) -> None:
    nodes = list(ast.walk(ast.parse(text)))
    imported = {
        alias.asname or alias.name
        for node in nodes
        if isinstance(node, ast.Import | ast.ImportFrom)
        for alias in node.names
    }
    used = {
        node.value.id
        for node in nodes
        if isinstance(node, ast.Attribute) and isinstance(node.value, ast.Name)
    }
    assert used & {"meshcore", "asyncio"} <= imported


@pytest.mark.parametrize("document", DOCUMENTS, ids=lambda path: path.name)
def test_it_is_installed_by_a_path(document: Path) -> None:
    """The name alone is another project's on PyPI."""
    text = document.read_text()
    assert not re.search(r"pip install (?:[^`\n]* )?meshcore(?=[\s`])", text)
