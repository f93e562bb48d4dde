"""Every example runs by itself and says what it promises."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

EXAMPLES = Path(__file__).parents[2] / "examples"

PROMISED = {
    "balanced_client.py": [
        "answers: {'done': 300} failed attempts: 3",
        "GET: no route",
        "ejected: [True]",
    ],
    "library_guard.py": [
        "down: {'502 after trying': 3, '503 at once': 17}",
        "up:   {'rows': 5, '429': 15}",
    ],
    "tenant_proxy.py": ["200 hello, acme", "400 which tenant?"],
}


def test_every_example_is_run() -> None:
    assert {path.name for path in EXAMPLES.glob("*.py")} == set(PROMISED)


@pytest.mark.parametrize("name", PROMISED)
def test_it_runs(name: str) -> None:
    ended = subprocess.run(
        [sys.executable, str(EXAMPLES / name)],
        capture_output=True,
        text=True,
        timeout=30,
        check=False,
    )
    assert (ended.returncode, ended.stderr) == (0, "")
    assert ended.stdout.splitlines() == PROMISED[name]
