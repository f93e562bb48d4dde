"""The demo is a program: it starts, shows what happens, and ends by itself."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from importlib.resources import files

import meshcore


def test_its_mesh_is_a_configuration() -> None:
    meshcore.load_text(files("meshcore.demo").joinpath("mesh.yaml").read_text())


def test_it_shows_refusals_and_a_breaker_on_a_small_screen_and_ends() -> None:
    ended = subprocess.run(  # the interpreter that runs this test
        [sys.executable, "-m", "meshcore", "demo", "--seconds", "6"],
        env={**os.environ, "COLUMNS": "80"},
        capture_output=True,
        text=True,
        timeout=40,
        check=False,
    )
    assert (ended.returncode, ended.stderr) == (0, "")
    last = ended.stdout.rpartition("polite asks")[2]
    for shown in ("429 rate_limited", "503 breaker_open", "504 upstream_timeout", "closed > open"):
        assert shown in last, last
    for replica in ("echo-1", "echo-2", "echo-3"):
        assert replica in last
    retries = re.search(r"(\d+) retries", last)
    assert retries is not None
    assert int(retries[1]) > 0
    picture, _, after = last.partition("Next:")
    assert max(map(len, picture.splitlines())) <= 80
    assert len(picture.splitlines()) <= 23
    assert "meshcore run mesh.yaml" in after
