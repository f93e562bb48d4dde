"""Exit codes and lines, as scripts see them."""

import json
import os
import pwd
import subprocess
import sys
from pathlib import Path

import pytest
import trustme
from click.testing import CliRunner

from meshcore import __version__
from meshcore.cli import main
from meshcore.errors import Diagnostic

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
        "layers, listeners, match, name, paths, priority, redirect, request_headers, respond, "
        "response_headers, retry, rewrite, timeout, tracing, upgrade, upstream)",
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


def test_check_of_files_that_are_pipes(tmp_path: Path) -> None:
    """They are not waited for; the configuration itself may be one, as a shell makes them."""
    for name in ("token", "cert", "key"):
        os.mkfifo(tmp_path / name)
    file = tmp_path / "mesh.yaml"
    tls = "listeners: {a: {bind: 'a:1', tls: {cert: cert, key: key}}}\n"
    file.write_text(f"version: 1\nadmin: {{bind: 'a:9', token_file: token}}\n{tls}")
    result = CliRunner().invoke(main, ["check", "--offline", str(file)])
    for name in ("token", "cert", "key"):
        assert f"cannot read {tmp_path / name}: not a file" in result.stderr
    read, write = os.pipe()
    os.write(write, GOOD.encode())
    os.close(write)
    result = CliRunner().invoke(main, ["check", "--offline", f"/dev/fd/{read}"])
    os.close(read)
    assert result.exit_code == 0, result.output


def test_what_is_shown_of_a_file_steers_no_terminal(tmp_path: Path) -> None:
    file = tmp_path / "mesh.yaml"
    for value in ("red\\e[31m", "a\\nok", "a\\u202eb", "x" * 100_000):
        file.write_text(f'version: 1\nlisteners: {{a: {{bind: "{value}"}}}}\n')
        result = CliRunner().invoke(main, ["check", "--offline", str(file)])
        assert result.exit_code == 2
        lines = result.stderr.splitlines()
        assert all(line.isprintable() and len(line) < 3000 for line in lines), lines
        assert not any(line.startswith("ok") for line in lines)


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


def test_a_warning_keeps_nobody_from_starting(tmp_path: Path) -> None:
    file = tmp_path / "mesh.yaml"
    file.write_text(GOOD.replace("upstreams: {u", "upstreams: {left: {endpoints: [a:1]}, u"))
    result = CliRunner().invoke(main, ["check", "--offline", str(file)])
    assert (result.exit_code, result.stdout) == (
        0,
        f"{file}: ok (1 listener, 1 route, 2 upstreams, 1 warning)\n",
    )
    assert result.stderr == (
        f"{file}:4:13: warning: upstreams.left: no route sends anything to this upstream\n"
    )
    strict = CliRunner().invoke(main, ["check", "--offline", "--strict", str(file)])
    assert (strict.exit_code, strict.stdout, strict.stderr) == (2, "", result.stderr)


def test_the_resolver_is_asked_unless_offline(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(
        sys.modules["meshcore.cli.check"],  # its name there is the command's
        "unresolved_hosts",
        lambda _: [Diagnostic(("upstreams", "u", "endpoints", 0), "x does not resolve: unknown")],
    )
    file = tmp_path / "mesh.yaml"
    file.write_text(GOOD)
    told = CliRunner().invoke(main, ["check", str(file)])
    assert told.stderr == (
        f"{file}:4:29: warning: upstreams.u.endpoints[0]: x does not resolve: unknown\n"
    )
    assert CliRunner().invoke(main, ["check", "--offline", str(file)]).stderr == ""


def test_what_a_program_reads(tmp_path: Path) -> None:
    file = tmp_path / "mesh.yaml"
    file.write_text(GOOD + "drain: 5\n")
    bad = CliRunner().invoke(main, ["check", "--json", str(file)])
    assert (bad.exit_code, bad.stderr) == (2, "")
    (error,) = json.loads(bad.stdout)["errors"]
    assert (error["line"], error["column"], error["path"]) == (5, 8, "drain")
    file.write_text(GOOD.replace("upstream: u", "redirect: {scheme: https}"))
    doubtful = CliRunner().invoke(main, ["check", "--json", str(file)])
    assert (doubtful.exit_code, doubtful.stderr) == (0, "")
    answer = json.loads(doubtful.stdout)
    assert (answer["file"], answer["ok"], answer["errors"]) == (str(file), True, [])
    assert [(each["line"], each["path"]) for each in answer["warnings"]] == [(4, "upstreams.u")]
    strict = CliRunner().invoke(main, ["check", "--json", "--strict", str(file)])
    assert (strict.exit_code, json.loads(strict.stdout)["ok"]) == (2, False)


def check(file: Path, *more: str) -> "subprocess.CompletedProcess[str]":
    """As a program of its own, as an import stays; where no layer lies about."""
    command = [sys.executable, "-P", "-m", "meshcore", "check", *more, str(file)]
    return subprocess.run(command, capture_output=True, text=True, timeout=30, cwd="/")


def test_layers_are_imported_from_beside_the_file(tmp_path: Path) -> None:
    (tmp_path / "beside.py").write_text(
        "import meshcore\nprint('said by a module')\n"
        "class Good(meshcore.Layer): pass\nmade = Good()\nclass Other: pass\n"
    )
    (tmp_path / "broken.py").write_text("raise SystemExit('no key')\n")
    file = tmp_path / "mesh.yaml"
    names = ("beside:Good", "beside:made", "beside:Other", "beside:None_", "broken:X", "absent:X")
    layers = "".join(f"  - python: {name}\n" for name in names)
    file.write_text(
        f"version: 1\nlisteners: {{e: {{bind: 127.0.0.1:0}}}}\n"
        f"routes:\n- name: r\n  respond: {{}}\n  layers:\n{layers}"
    )
    done = check(file)
    assert (done.returncode, done.stdout) == (
        0,
        f"{file}: ok (1 listener, 1 route, 0 upstreams, 4 warnings)\n",
    )
    place = "warning: routes[0].layers"
    assert done.stderr.splitlines() == [
        "said by a module",
        f"{file}:9:13: {place}[2].python: python layer beside:Other: not a meshcore.Layer",
        f"{file}:10:13: {place}[3].python: python layer beside:None_: module 'beside' has no "
        "attribute 'None_'",
        f"{file}:11:13: {place}[4].python: python layer broken:X: no key",
        f"{file}:12:13: {place}[5].python: python layer absent:X: No module named 'absent'",
    ]
    assert len(json.loads(check(file, "--json").stdout)["warnings"]) == 4


def test_what_lies_beside_the_file_stands_in_for_nothing(tmp_path: Path) -> None:
    """Python's own modules, and installed ones, come first."""
    (tmp_path / "colorsys.py").write_text("raise RuntimeError('taken for another')\n")
    (tmp_path / "uses.py").write_text(
        "import colorsys, meshcore\nclass Layer(meshcore.Layer): pass\n"
    )
    file = tmp_path / "mesh.yaml"
    file.write_text(
        "version: 1\nlisteners: {e: {bind: 127.0.0.1:0}}\n"
        "routes: [{name: r, respond: {}, layers: [python: uses:Layer]}]\n"
    )
    assert check(file).stderr == ""


def test_arguments_of_layers_are_checked(tmp_path: Path) -> None:
    """By what is there: wrong ones are an error, for no worker could make such a layer."""
    (tmp_path / "own.py").write_text(
        "from __future__ import annotations\nimport meshcore\n"
        "class Tenant(meshcore.Layer):\n"
        "    def __init__(self, header: str, hosts: list[str] | None = None): 1 / 0\n"
        "class Plain(meshcore.Layer): pass\nmade = Plain()\n"
        "class Late(meshcore.Layer):\n    async def on_end(self, request, outcome): pass\n"
    )
    file = tmp_path / "mesh.yaml"
    uses = (
        "{class: own:Tenant, with: {heder: x, hosts: [a, 1]}}",
        "{class: own:Tenant, with: {header: 1}}",
        "own:Tenant",
        "{class: own:Plain, with: {a: b}}",
        "{class: own:made, with: {a: b}}",
        "{class: absent:X, with: {a: b}}",
        "own:Late",
    )
    file.write_text(
        "version: 1\nlisteners: {e: {bind: 127.0.0.1:0}}\n"
        "routes:\n- name: r\n  respond: {}\n  layers:\n"
        + "".join(f"  - python: {use}\n" for use in uses)
    )
    done = check(file)
    assert (done.returncode, done.stdout) == (2, "")
    place = "routes[0].layers"
    assert done.stderr.splitlines() == [
        f"{file}:7:33: {place}[0].python.with.header: required argument is missing",
        f"{file}:7:40: {place}[0].python.with.heder: unknown argument (did you mean header?)",
        f'{file}:7:61: {place}[0].python.with.hosts[1]: expected a text, got 1 (write "1")',
        f'{file}:8:48: {place}[1].python.with.header: expected a text, got 1 (write "1")',
        f"{file}:9:5: {place}[2].python.with.header: required argument is missing",
        f"{file}:10:39: {place}[3].python.with.a: unknown argument: the class takes no arguments",
    ]
    told = json.loads(check(file, "--json").stdout)
    assert (told["ok"], len(told["errors"]), told["warnings"]) == (False, 6, [])
    file.write_text(
        "version: 1\nlisteners: {e: {bind: 127.0.0.1:0}}\n"
        "routes:\n- name: r\n  respond: {}\n  layers:\n"
        "  - python: {class: own:Tenant, with: {header: x, hosts: null}}\n"
        + "".join(f"  - python: {use}\n" for use in uses[4:])
    )
    done = check(file)
    assert done.returncode == 0
    assert done.stderr.splitlines() == [
        f"{file}:8:5: warning: {place}[1].python: python layer own:made: with is for a class: "
        "this is an object, which was made",
        f"{file}:9:5: warning: {place}[2].python: python layer absent:X: No module named 'absent'",
        f"{file}:10:13: warning: {place}[3].python: python layer own:Late: on_end is async: make "
        "it plain, and begin a task in it if need be",
    ]


def test_a_private_key_that_everybody_can_read(tmp_path: Path) -> None:
    pair = trustme.CA().issue_cert("a.test")
    pair.cert_chain_pems[0].write_to_path(tmp_path / "cert.pem")
    pair.private_key_pem.write_to_path(tmp_path / "key.pem")
    tls = "tls: {cert: cert.pem, key: key.pem, sni: {a.test: {cert: cert.pem, key: key.pem}}}"
    file = tmp_path / "mesh.yaml"
    file.write_text(
        f"version: 1\nlisteners: {{a: {{bind: 'a:1', {tls}}}}}\n"
        "upstreams: {u: {endpoints: ['a:2'], tls: {cert: cert.pem, key: key.pem}}}\n"
        "routes: [{name: r, upstream: u}]\n"
    )
    for mode, told in ((0o600, 0), (0o640, 0), (0o644, 3)):
        (tmp_path / "key.pem").chmod(mode)
        result = CliRunner().invoke(main, ["check", "--offline", str(file)])
        said = f"every user of this machine can read {tmp_path / 'key.pem'} (mode 0644)"
        assert result.stderr.count(said) == told == result.stderr.count("every user")
