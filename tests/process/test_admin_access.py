"""Who may ask what of the admin port: tokens, sockets with a mode, ports that only tell."""

from __future__ import annotations

import http.client
import json
import os
import socket
import stat
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING, cast

import pytest

from meshcore._core import CodecLimits, Request, ServerCodec
from meshcore.admin.server import Admin
from tests.process.program import Program
from tests.process.test_takeover import taken_over
from tests.process.test_workers import HELLO, get, write

if TYPE_CHECKING:
    from meshcore.admin.handlers import Handlers

TOKEN = "s3cret-Token_~+/="
OPEN = ("/healthz", "/readyz", "/metrics")


def admin(text: str) -> str:
    return HELLO.replace('admin: {bind: "127.0.0.1:0"}', f"admin: {{{text}}}")


def token_file(folder: Path, token: str = TOKEN, mode: int = 0o600) -> Path:
    file = folder / "admin.token"
    file.write_text(f"{token}\n")
    file.chmod(mode)
    return file


class UnixConnection(http.client.HTTPConnection):
    """To a path in place of a port."""

    def connect(self) -> None:
        self.sock = socket.socket(socket.AF_UNIX)
        self.sock.settimeout(10)
        self.sock.connect(self.host)


def ask(
    program: Program, method: str, path: str, fields: dict[str, str] | None = None
) -> tuple[int, str, str]:
    """Status, text and challenge."""
    address = program.line(r"listening http(?:\+unix:|://)(\S+) \(admin\)")[1]
    kind = UnixConnection if address.startswith("/") else http.client.HTTPConnection
    connection = kind(address, timeout=30)
    try:
        known = {"host": "localhost"} if address.startswith("/") else {}
        connection.request(method, path, None, known | (fields or {}))
        response = connection.getresponse()
        challenge = response.headers.get("www-authenticate", "")
        return response.status, response.read().decode(), challenge
    finally:
        connection.close()


def bearer(token: str = TOKEN, scheme: str = "Bearer") -> dict[str, str]:
    return {"authorization": f"{scheme} {token}"}


def command(program: Program, *words: str, **environment: str) -> subprocess.CompletedProcess[str]:
    name, *options = words
    line = [sys.executable, "-m", "meshcore", name, str(program.file), *options]
    return subprocess.run(
        line, capture_output=True, text=True, timeout=60, env=os.environ | environment
    )


@pytest.mark.parametrize("bind", ["tcp", "far", "unix"])
def test_a_token_is_asked_for_all_but_health_and_metrics(tmp_path: Path, bind: str) -> None:
    token_file(tmp_path)
    where = {"tcp": "127.0.0.1:0", "far": "0.0.0.0:0", "unix": f"unix:{tmp_path}/admin.sock"}[bind]
    text = admin(f'bind: "{where}", token_file: admin.token')
    with Program(write(tmp_path, text), "--workers", "1") as program:
        program.url()
        for path in OPEN:
            assert ask(program, "GET", path)[0] == 200
        for method, path in (("GET", "/status"), ("POST", "/drain"), ("GET", "/none")):
            status, told, challenge = ask(program, method, path)
            assert (status, challenge) == (401, 'Bearer realm="meshcore"'), told
            assert "admin.token_file" in told
        for wrong in (TOKEN[:-1], TOKEN + "=", TOKEN.lower(), "", "\xe9"):
            status, _, challenge = ask(program, "POST", "/drain", bearer(wrong))
            assert (status, 'error="invalid_token"' in challenge) == (401, True)
        assert ask(program, "POST", "/drain", bearer(scheme="Basic"))[0] == 401
        assert ask(program, "GET", "/status", bearer())[0] == 200
        assert ask(program, "GET", "/status", bearer(scheme="bearer"))[0] == 200
        assert ask(program, "POST", "/drain?worker=7", bearer())[0] == 400
        # Nor does a token let a page in.
        refused = 400 if bind == "unix" else 403
        page = bearer() | {"origin": "http://evil.example"}
        assert ask(program, "POST", "/drain?worker=7", page)[0] == refused
        assert program.status()["config_version"] == 1
        assert program.stop() == 0


def test_what_is_given_twice_is_no_token(tmp_path: Path) -> None:
    token_file(tmp_path)
    text = admin('bind: "127.0.0.1:0", token_file: admin.token')
    with Program(write(tmp_path, text), "--workers", "1") as program:
        at = program.line(r"listening http://(\S+):(\d+) \(admin\)")
        for values in (("wrong", TOKEN), (TOKEN, "wrong"), (TOKEN, TOKEN)):
            fields = "".join(f"authorization: Bearer {value}\r\n" for value in values)
            with socket.create_connection((at[1], int(at[2])), 10) as sock:
                sock.sendall(f"GET /status HTTP/1.1\r\nhost: localhost\r\n{fields}\r\n".encode())
                assert sock.recv(12) == b"HTTP/1.1 401"
        assert program.stop() == 0


def test_without_a_token_other_machines_are_told_health_and_metrics_alone(tmp_path: Path) -> None:
    with Program(write(tmp_path, admin('bind: "0.0.0.0:0"')), "--workers", "1") as program:
        program.url()
        for path in OPEN:
            assert ask(program, "GET", path)[0] == 200
        for method, path in (("GET", "/status"), ("POST", "/reload"), ("POST", "/drain")):
            status, told, _ = ask(program, method, path)
            assert (status, "without admin.token_file" in told) == (403, True)
        assert program.status()["config_version"] == 1  # the command line asks elsewhere
        assert program.stop() == 0


@pytest.mark.parametrize("bind", ["127.0.0.1:0", "unix:{}/admin.sock"])
def test_a_port_that_is_read_only_takes_no_orders(tmp_path: Path, bind: str) -> None:
    text = admin(f'bind: "{bind.format(tmp_path)}", read_only: on')
    with Program(write(tmp_path, text), "--workers", "1") as program:
        program.url()
        assert ask(program, "GET", "/status")[0] == 200
        for path in ("/reload", "/rollback", "/upgrade", "/drain"):
            status, told, _ = ask(program, "POST", path)
            assert (status, "admin.read_only" in told) == (403, True)
        assert program.order("/reload") == {"config_version": 2}
        assert program.stop() == 0


def test_it_has_the_names_that_it_was_given(tmp_path: Path) -> None:
    text = admin('bind: "127.0.0.1:0", hosts: [mesh.Example, "*.svc.test"]')
    with Program(write(tmp_path, text), "--workers", "1") as program:
        program.url()
        for host, status in (
            ("mesh.example:9900", 200),
            ("a.svc.test.", 200),
            ("svc.test", 403),
            ("x.mesh.example", 403),
        ):
            assert ask(program, "GET", "/status", {"host": host})[0] == status, host
        assert program.stop() == 0


def test_a_unix_socket_has_its_mode_and_is_removed(tmp_path: Path) -> None:
    path = tmp_path / "admin.sock"
    with Program(write(tmp_path, admin(f"bind: unix:{path}")), "--workers", "1") as program:
        program.url()
        assert stat.S_IMODE(path.stat().st_mode) == 0o600
        status, told, _ = ask(program, "GET", "/status", {"host": "any.example"})
        assert (status, json.loads(told)["config_version"]) == (200, 1)
        taken_over(program)
        assert ask(program, "GET", "/healthz")[0] == 200, "the next program has it"
        os.kill(program.status()["pid"], 15)
        program.until(lambda: not path.exists())
    with Program(
        write(tmp_path, admin(f"bind: unix:{path}, mode: 0660")), "--workers", "1"
    ) as program:
        program.url()
        assert stat.S_IMODE(path.stat().st_mode) == 0o660
        program.process.kill()
        program.process.wait()
        assert path.exists()
    with Program(write(tmp_path, admin(f"bind: unix:{path}")), "--workers", "1") as program:
        program.url()
        assert stat.S_IMODE(path.stat().st_mode) == 0o600, "what was left is replaced"
        assert program.stop() == 0
    assert not path.exists()


def test_an_upgrade_changes_the_mode(tmp_path: Path) -> None:
    path = tmp_path / "admin.sock"
    file = write(tmp_path, admin(f"bind: unix:{path}"))
    with Program(file, "--workers", "1") as program:
        program.url()
        file.write_text(admin(f"bind: unix:{path}, mode: 0660"))
        pid = taken_over(program)
        assert stat.S_IMODE(path.stat().st_mode) == 0o660
        os.kill(pid, 15)
        program.until(lambda: not path.exists())


def test_a_reload_changes_the_mode(tmp_path: Path) -> None:
    path = tmp_path / "admin.sock"
    file = write(tmp_path, admin(f"bind: unix:{path}"))
    with Program(file, "--workers", "1") as program:
        program.url()
        assert stat.S_IMODE(path.stat().st_mode) == 0o600
        file.write_text(admin(f"bind: unix:{path}, mode: 0660"))
        assert ask(program, "POST", "/reload")[0] == 200
        assert stat.S_IMODE(path.stat().st_mode) == 0o660
        file.write_text(admin(f"bind: unix:{path}"))
        assert ask(program, "POST", "/reload")[0] == 200
        assert stat.S_IMODE(path.stat().st_mode) == 0o600


def test_a_port_of_which_nothing_is_said_yet_tells_the_least() -> None:
    access = Admin(cast("Handlers", None)).access
    codec = ServerCodec(CodecLimits(), False)
    asked = codec.receive(b"GET /status HTTP/1.1\r\nhost: localhost\r\n\r\n")
    assert isinstance(asked, Request)
    refusal = access.refusal(asked)
    assert refusal is not None
    assert refusal.status == 403


def test_an_upgrade_to_another_place_leaves_no_socket(tmp_path: Path) -> None:
    path, other = tmp_path / "admin.sock", tmp_path / "other.sock"
    file = write(tmp_path, admin(f"bind: unix:{path}"))
    with Program(file, "--workers", "1") as program:
        program.url()
        file.write_text(admin(f"bind: unix:{other}"))
        pid = taken_over(program)
        assert (path.exists(), other.exists()) == (False, True)
        os.kill(pid, 15)
        program.until(lambda: not other.exists())


def test_a_reload_changes_who_may_ask(tmp_path: Path) -> None:
    plain, kept = admin('bind: "127.0.0.1:0"'), 'bind: "127.0.0.1:0", token_file: admin.token'
    file, tokens = write(tmp_path, plain), token_file(tmp_path)
    with Program(file, "--workers", "1") as program:
        program.url()
        assert ask(program, "GET", "/status")[0] == 200
        file.write_text(admin(kept))
        program.order("/reload")
        assert ask(program, "GET", "/status")[0] == 401
        tokens.write_text("another")
        assert ask(program, "GET", "/status", bearer())[0] == 200, "not before a reload"
        assert ask(program, "POST", "/reload", bearer())[0] == 200
        assert ask(program, "GET", "/status", bearer())[0] == 401
        assert ask(program, "GET", "/status", bearer("another"))[0] == 200
        tokens.write_text(" \n")
        status, told, _ = ask(program, "POST", "/reload", bearer("another"))
        assert (status, "is empty" in told) == (422, True)
        assert ask(program, "GET", "/status", bearer("another"))[0] == 200
        file.write_text(admin('bind: "127.0.0.1:1"'))
        program.order("/reload")
        program.line("admin.bind: 127.0.0.1:0 is served until an upgrade or a restart")
        assert ask(program, "GET", "/status")[0] == 200
        file.write_text(HELLO.replace('admin: {bind: "127.0.0.1:0"}\n', ""))
        program.order("/reload")
        program.line("whether there is a port changes with an upgrade or a restart")
        assert program.stop() == 0


def test_a_changed_token_is_seen_with_watch(tmp_path: Path) -> None:
    tokens = token_file(tmp_path)
    text = admin('bind: "127.0.0.1:0", token_file: admin.token') + "watch: on\n"
    with Program(write(tmp_path, text), "--workers", "1") as program:
        program.url()
        assert ask(program, "GET", "/status", bearer())[0] == 200
        tokens.write_text("another")
        program.until(lambda: ask(program, "GET", "/status", bearer("another"))[0] == 200)
        assert ask(program, "GET", "/status", bearer())[0] == 401
        assert program.stop() == 0


def test_a_token_that_every_user_can_read_is_told(tmp_path: Path) -> None:
    file = token_file(tmp_path, mode=0o644)
    text = admin('bind: "127.0.0.1:0", token_file: admin.token')
    with Program(write(tmp_path, text), "--workers", "1") as program:
        program.url()
        told = f"every user of this machine can read {file} (mode 0644)"
        assert program.line("admin.token_file: ").string == f"admin.token_file: {told}"
        done = command(program, "check")
        assert (done.returncode, f"admin.token_file: {told}" in done.stderr) == (0, True)
        file.chmod(0o640)
        assert command(program, "check").stderr == ""
        assert program.stop() == 0


@pytest.mark.parametrize("unix", [False, True])
def test_the_command_line_shows_a_token(tmp_path: Path, unix: bool) -> None:
    path = tmp_path / "admin.sock"
    where = f"unix:{path}" if unix else "127.0.0.1:0"
    file, text = token_file(tmp_path), admin(f'bind: "{where}", token_file: admin.token')
    with Program(write(tmp_path, text), "--workers", "1") as program:
        program.url()
        address = where if unix else program.line(r"listening (\S+) \(admin\)")[1]
        done = command(program, "status", "--admin", address)
        told = "show the token of admin.token_file\n"
        assert (done.returncode, done.stdout, done.stderr) == (1, "", told)
        done = command(program, "status", "--admin", address, "--token-file", str(file))
        assert (done.returncode, "ready" in done.stdout) == (0, True)
        done = command(program, "reload", "--admin", address, MESHCORE_TOKEN_FILE=str(file))
        assert done.stdout == f"{program.file}: configuration 2 is in force\n"
        file.write_text("")
        done = command(program, "status", "--admin", address, "--token-file", str(file))
        empty = f"meshcore: {file} is empty: it holds the token\n"
        assert (done.returncode, done.stderr) == (1, empty)
        done = command(program, "status", "--admin", address, "--token-file", f"{file}.none")
        assert done.stderr == f"meshcore: cannot read {file}.none: No such file or directory\n"
        assert get(program.url()) == (200, b"hello")
        assert program.stop() == 0
