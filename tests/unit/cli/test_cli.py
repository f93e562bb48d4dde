"""Exit codes and lines, as scripts see them."""

import json
import os
import pwd
import subprocess
import sys
from pathlib import Path

import pytest
from click.testing import CliRunner

from meshcore import __version__
from meshcore.cli import main

GOOD = """\
version: 1
listeners: {edge: {bind: 127.0.0.1:0}}
routes: [{name: r, upstream: u}]
upstreams: {u: {endpoints: [127.0.0.1:1]}}
"""


def test_check_of_a_good_file(tmp_path: Path) -> None:
    file = tmp_path / "mesh.yaml"
    file.write_text(GOOD)
    result = CliRunner().invoke(main, ["check", str(file)])
    assert (result.exit_code, result.stderr) == (0, "")
    assert result.stdout == f"{file}: ok (1 listener, 1 route, 1 upstream)\n"


def test_check_tells_every_problem_on_its_own_line(tmp_path: Path) -> None:
    file = tmp_path / "mesh.yaml"
    file.write_text(GOOD.replace("upstream: u", "upstream: v, x: '[red]'") + "drain: 5\n")
    result = CliRunner().invoke(main, ["check", str(file)])
    assert (result.exit_code, result.stdout) == (2, "")
    assert result.stderr.splitlines() == [
        f"{file}:3:30: routes[0].upstream: there is no upstream named 'v'",
        f"{file}:3:33: routes[0].x: unknown key (known: body_bytes_per_second, idle_timeout, "
        "layers, listeners, match, name, priority, redirect, request_headers, respond, "
        "response_headers, retry, rewrite, timeout, upgrade, upstream)",
        f"{file}:5:8: drain: 5 has no unit: expected a duration such as 30s, 250ms or 5m",
    ]


def test_check_of_a_missing_file(tmp_path: Path) -> None:
    result = CliRunner().invoke(main, ["check", str(tmp_path / "none.yaml")])
    assert (result.exit_code, result.stdout) == (1, "")
    assert result.stderr == f"meshcore: {tmp_path}/none.yaml: No such file or directory\n"


def test_check_of_a_file_that_may_not_be_read(tmp_path: Path) -> None:
    file = tmp_path / "mesh.yaml"
    file.touch(0o000)
    CliRunner().invoke(main, ["check", str(tmp_path)])  # imports what another user may not
    user = os.geteuid()
    if user == 0:  # who may read everything
        os.seteuid(65534)
    try:
        result = CliRunner().invoke(main, ["check", str(file)])
    finally:
        os.seteuid(user)
    assert (result.exit_code, result.stderr) == (1, f"meshcore: {file}: Permission denied\n")


def test_check_of_a_folder(tmp_path: Path) -> None:
    result = CliRunner().invoke(main, ["check", str(tmp_path)])
    assert (result.exit_code, result.stderr) == (1, f"meshcore: {tmp_path}: Is a directory\n")


def test_schema_is_json() -> None:
    result = CliRunner().invoke(main, ["schema"])
    assert result.exit_code == 0
    assert "listeners" in json.loads(result.stdout)["properties"]


def test_version() -> None:
    result = CliRunner().invoke(main, ["version"])
    assert result.stdout.startswith(f"meshcore {__version__} (Python 3.")


def test_as_a_module() -> None:
    done = subprocess.run(
        [sys.executable, "-m", "meshcore", "--help"], capture_output=True, text=True, check=True
    )
    assert done.stdout.startswith("Usage: meshcore ")


def test_the_version_is_an_option_too() -> None:
    option, command = (CliRunner().invoke(main, [word]) for word in ("--version", "version"))
    assert (option.exit_code, option.output) == (0, command.output)
    assert option.output.startswith(f"meshcore {__version__} ")


def test_orders_to_a_program_that_does_not_run_end_with_1_and_one_line(tmp_path: Path) -> None:
    file = tmp_path / "mesh.yaml"
    file.write_text(GOOD)
    user = pwd.getpwuid(os.geteuid()).pw_name
    told = f"meshcore: no program of user {user} serves {file} here"
    for command in ("status", "reload", "rollback", "upgrade", "drain"):
        result = CliRunner().invoke(main, [command, str(file)])
        assert (result.exit_code, result.stdout, result.stderr) == (1, "", f"{told}\n")
    file.unlink()
    result = CliRunner().invoke(main, ["status", str(file)])
    assert result.stderr == f"{told}, and there is no such file\n"


@pytest.mark.parametrize(
    ("admin", "reason"),
    [
        ("127.0.0.1:1", "Connection refused"),
        ("unix:/nowhere/x", "No such file or directory"),
        ("127.0.0.1:x", "nonnumeric port: 'x'"),
        ("http://[::1", "Invalid IPv6 URL"),
    ],
)
def test_an_admin_port_that_cannot_be_reached(admin: str, reason: str) -> None:
    result = CliRunner().invoke(main, ["status", "mesh.yaml", "--admin", admin])
    told = f"meshcore: cannot reach the admin port at {admin}: {reason}\n"
    assert (result.exit_code, result.stderr) == (1, told)
