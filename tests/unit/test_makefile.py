"""`make help` names every target, and fits a small screen."""

from __future__ import annotations

import re
import subprocess
from pathlib import Path

ROOT = Path(__file__).parents[2]
# What other targets ask for by themselves.
INNER = {"need-python", "need-rust"}


def test_help_names_every_target_in_eighty_columns() -> None:
    shown = subprocess.run(
        ["make", "--no-print-directory", "help"],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=True,
    ).stdout.splitlines()
    text = (ROOT / "Makefile").read_text()
    targets = set(" ".join(re.findall(r"^\.PHONY: (.*)$", text, re.MULTILINE)).split())
    assert {line.split()[0] for line in shown} == targets - INNER
    assert max(map(len, shown)) <= 80
