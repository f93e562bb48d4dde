"""docs/tutorial.md runs as it stands: its service, its proxy, its layer and its tests."""

from __future__ import annotations

import http.client
import os
import re
import socket
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import NamedTuple

import pytest

TEXT = (Path(__file__).parents[2] / "docs" / "tutorial.md").read_text()


def blocks(language: str) -> list[str]:
    return re.findall(rf"^```{language}\n(.*?)^```$", TEXT, re.DOTALL | re.MULTILINE)


def block(language: str, holds: str) -> str:
    """The last block that holds a text: files grow as the tutorial goes on."""
    return [each for each in blocks(language) if holds in each][-1]


class Answer(NamedTuple):
    status: int
    headers: dict[str, str]
    body: str


def free_ports(count: int) -> list[int]:
    sockets = [socket.socket() for _ in range(count)]
    try:
        for each in sockets:
            each.bind(("127.0.0.1", 0))
        return [each.getsockname()[1] for each in sockets]
    finally:
        for each in sockets:
            each.close()


@contextmanager
def service(folder: Path, port: int) -> Iterator[None]:
    """The tutorial's service, which listens before it is asked."""
    text = block("python", "class Service").replace("9001", str(port))
    (folder / "service.py").write_text(
        text.replace("http.server.Threading", "server = http.server.Threading").replace(
            ".serve_forever()", "\nprint('ready', flush=True)\nserver.serve_forever()"
        )
    )
    command = [sys.executable, "service.py"]
    with subprocess.Popen(
        command, cwd=folder, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True
    ) as running:
        assert running.stdout is not None
        assert running.stdout.readline() == "ready\n"
        try:
            yield
        finally:
            running.terminate()


def asked(port: int, path: str = "/", host: str | None = None, times: int = 1) -> list[Answer]:
    """As curl does it: requests on one connection."""
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=10)
    try:
        return [_asked(connection, path, host) for _ in range(times)]
    finally:
        connection.close()


def _asked(connection: http.client.HTTPConnection, path: str, host: str | None) -> Answer:
    connection.request("GET", path, headers={} if host is None else {"host": host})
    response = connection.getresponse()
    return Answer(response.status, dict(response.getheaders()), response.read().decode())


def written(folder: Path) -> None:
    (folder / "mesh.yaml").write_text(block("yaml", "tenants:AddTenant"))
    (folder / "tenants.py").write_text(block("python", "class AddTenant"))
    (folder / "test_mesh.py").write_text(block("python", "Mesh(MESH)"))


def test_its_tests_pass(tmp_path: Path) -> None:
    written(tmp_path)
    command = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", "test_mesh.py"]
    ended = subprocess.run(
        command, cwd=tmp_path, capture_output=True, text=True, timeout=50, check=False
    )
    assert ended.returncode == 0, ended.stdout
    assert "3 passed" in ended.stdout


def whole(text: str) -> bool:
    return text.startswith("version: 1")


@pytest.mark.parametrize("text", [each for each in blocks("yaml") if whole(each)])
def test_each_whole_mesh_is_one(tmp_path: Path, text: str) -> None:
    written(tmp_path)
    (tmp_path / "mesh.yaml").write_text(text)
    command = [sys.executable, "-m", "meshcore", "check", "--strict", "mesh.yaml"]
    ended = subprocess.run(
        command, cwd=tmp_path, capture_output=True, text=True, timeout=50, check=False
    )
    assert (ended.returncode, ended.stderr) == (0, "")


def test_its_proxy_answers_what_it_shows(tmp_path: Path) -> None:
    written(tmp_path)
    port, edge, admin = free_ports(3)
    mesh = tmp_path / "mesh.yaml"
    text = mesh.read_text().replace("9001", str(port)).replace("8080", str(edge))
    mesh.write_text(text.replace("9900", str(admin)))
    command = [sys.executable, "-m", "meshcore", "run", "mesh.yaml", "--workers", "2"]
    with (
        service(tmp_path, port),
        subprocess.Popen(
            command,
            cwd=tmp_path,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            env={**os.environ, "PYTHONUNBUFFERED": "1"},
        ) as running,
    ):
        try:
            assert running.stdout is not None
            assert any("listening" in line and "edge" in line for line in running.stdout)
            (tenant,) = asked(edge, host="acme.example.com")
            assert (tenant.status, tenant.body) == (200, "hello, acme\n")
            (other,) = asked(edge, host="localhost")
            assert (other.status, other.body) == (400, "which tenant?\n")
            last = asked(edge, times=40)[-1]
            assert (last.status, last.headers["x-mesh-reason"]) == (429, "rate_limited")
            assert last.headers["retry-after"] == "1"
            (metrics,) = asked(admin, "/metrics")
            counted = 'meshcore_local_answers_total{listener="edge",reason="rate_limited"}'
            assert counted in metrics.body
        finally:
            running.terminate()
        assert running.wait(40) == 0
