"""Orders that nobody may give: the admin port and the local socket refuse them."""

from __future__ import annotations

import http.client
import json
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from meshcore.process.file_source import FileSource
from meshcore.process.local_address import local_name
from tests.process.program import Program
from tests.process.test_workers import HELLO, get, write


@pytest.fixture(scope="module")
def program(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Program]:
    file = write(tmp_path_factory.mktemp("admin"), HELLO)
    with Program(file, "--workers", "1") as program:
        program.url()
        yield program
        assert program.status()["config_version"] == 1, "nothing was reloaded"
        assert get(program.url()) == (200, b"hello")
        assert program.stop() == 0


def ask(
    program: Program,
    method: str,
    path: str,
    fields: dict[str, str] | None = None,
    body: bytes | None = None,
) -> tuple[int, str]:
    address = program.line(r"http://(\S+) \(admin\)")[1]
    connection = http.client.HTTPConnection(address, timeout=30)
    try:
        connection.request(method, path, body, fields or {})
        response = connection.getresponse()
        return response.status, response.read().decode()
    finally:
        connection.close()


@pytest.mark.parametrize(
    "fields",
    [
        {"origin": "http://evil.example"},
        {"origin": "null"},
        {"sec-fetch-site": "cross-site"},
        {"sec-fetch-site": "same-site"},
        {"host": "evil.example"},
        {"host": "evil.example:9900"},
        {"host": "localhost.evil.example"},
        {"host": "127.0.0.1.evil.example"},
    ],
)
@pytest.mark.parametrize("path", ["/reload", "/rollback", "/upgrade", "/drain"])
def test_what_a_page_in_a_browser_sends_is_refused(
    program: Program, path: str, fields: dict[str, str]
) -> None:
    status, text = ask(program, "POST", path, fields)
    told = "asked by its address" if "host" in fields else "orders come without an origin"
    assert (status, told in text) == (403, True)


@pytest.mark.parametrize("host", ["evil.example", "evil.example:9900", "localhost.evil.example"])
def test_a_name_that_was_bound_anew_is_told_nothing(program: Program, host: str) -> None:
    """What a page would read, were its name ours for a moment; health alone tells nobody much, and
    balancers ask for it by any name."""
    for path in ("/status", "/", "/none"):
        assert ask(program, "GET", path, {"host": host})[0] == 403
    for path in ("/healthz", "/readyz", "/metrics"):
        assert ask(program, "GET", path, {"host": host})[0] == 200


@pytest.mark.parametrize(
    "host",
    ["localhost", "LOCALHOST:9900", "mesh.localhost.", "127.0.0.1", "[::1]:9900", "10.1.2.3"],
)
def test_addresses_and_the_names_of_this_machine_are_known(program: Program, host: str) -> None:
    assert ask(program, "GET", "/status", {"host": host})[0] == 200


@pytest.mark.parametrize("method", ["GET", "PUT", "DELETE", "HEAD"])
def test_an_order_is_a_post(program: Program, method: str) -> None:
    assert ask(program, method, "/reload")[0] == 405


@pytest.mark.parametrize("path", ["/metrics", "/healthz", "/status", "/readyz"])
def test_what_only_tells_takes_no_post(program: Program, path: str) -> None:
    assert ask(program, "POST", path)[0] == 405


@pytest.mark.parametrize("version", ["x", "-1", "1.5", "1" * 19, "%D9%A1", "99", "0"])
def test_a_version_that_is_none(program: Program, version: str) -> None:
    status, text = ask(program, "POST", f"/rollback?version={version}")
    assert status == 400, text
    assert "errors" in text


def test_a_worker_or_listener_that_is_not_there(program: Program) -> None:
    for given in ("worker=7", "worker=x", "listener=nobody"):
        status, text = ask(program, "POST", f"/drain?{given}")
        assert status == 400, text


@pytest.mark.parametrize(
    ("order", "told"),
    [
        ("/drain?worker=", "worker is empty"),
        ("/drain?worker", "worker is empty"),
        ("/drain?listener=", "listener is empty"),
        ("/drain?workers=0", "unknown parameter 'workers'; known: listener, worker"),
        ("/drain?Worker=0", "unknown parameter 'Worker'; known: listener, worker"),
        ("/drain?worker=0&worker=9", "worker is given twice"),
        ("/reload?version=1", "unknown parameter 'version'; known: none"),
        ("/rollback?version=", "version is empty"),
        ("/upgrade?worker=0", "unknown parameter 'worker'; known: none"),
        ("/drain?worker=0&listener=edge", "a listener or a worker, not both"),
    ],
)
def test_an_order_with_a_mistake_is_none(program: Program, order: str, told: str) -> None:
    """Not one that means more: a drain without parameters is one of the whole program."""
    status, text = ask(program, "POST", order)
    assert (status, json.loads(text)) == (400, {"errors": [told]})


@pytest.mark.parametrize("fields", [{}, {"content-type": "application/x-www-form-urlencoded"}])
def test_parameters_are_not_in_a_body(program: Program, fields: dict[str, str]) -> None:
    status, text = ask(program, "POST", "/drain", fields, b"worker=0")
    told = "parameters are in the query; a body is not read"
    assert (status, json.loads(text)) == (400, {"errors": [told]})


def test_a_body_that_no_order_has(program: Program) -> None:
    assert ask(program, "POST", "/reload", body=b"x" * (1 << 17))[0] == 413


STRANGER = """
import os, socket, sys
os.setgid(65534), os.setuid(65534)
client = socket.socket(socket.AF_UNIX)
client.settimeout(30)
client.connect(b"\\0" + bytes.fromhex(sys.argv[1]))
try:
    client.sendall(b"POST /drain HTTP/1.1\\r\\nhost: localhost\\r\\n\\r\\n")
    print(client.recv(100))
except OSError:
    print(b"")
"""


@pytest.mark.skipif(os.geteuid() != 0, reason="needs another user")
def test_another_user_is_not_heard(program: Program) -> None:
    name = local_name(FileSource(program.file).identity).removeprefix("\0").encode().hex()
    command = [sys.executable, "-S", "-c", STRANGER, name]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60, cwd=Path("/"))
    assert (done.stdout, done.stderr) == ("b''\n", "")
    assert program.process.poll() is None
