"""The code of docs/library.md runs as it stands."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import pytest

TEXT = (Path(__file__).parents[3] / "docs" / "library.md").read_text()
BLOCKS = dict(
    re.findall(
        r"^##+ ([^\n]+)\n(?:(?!^##+ ).)*?```python\n(.*?)^```$", TEXT, re.DOTALL | re.MULTILINE
    )
)


def test_every_block_is_found() -> None:
    assert len(BLOCKS) == TEXT.count("```python") == 12


@pytest.mark.parametrize("title", BLOCKS)
def test_it_runs(title: str) -> None:
    ended = subprocess.run(
        [sys.executable, "-W", "error", "-c", BLOCKS[title]],
        capture_output=True,
        text=True,
        timeout=30,
        check=False,
    )
    assert (ended.returncode, ended.stderr) == (0, "")
