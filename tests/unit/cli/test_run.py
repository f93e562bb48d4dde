"""`meshcore run` as a process: what it says, what it serves, how it ends."""

import re
import signal
import socket
import subprocess
import sys
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

GOOD = """\
version: 1
drain: 5s
listeners: {edge: {bind: "127.0.0.1:0"}}
routes: [{name: hello, respond: {body: hello}}]
"""


def run(file: Path) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "meshcore", "run", str(file)]
    return subprocess.run(command, capture_output=True, text=True, timeout=30)


@contextmanager
def running(file: Path) -> Iterator[tuple["subprocess.Popen[str]", str]]:
    command = [sys.executable, "-m", "meshcore", "run", str(file)]
    with subprocess.Popen(command, stderr=subprocess.PIPE, text=True) as process:
        try:
            assert process.stderr is not None
            line = process.stderr.readline()
            found = re.fullmatch(r"listening (http://127\.0\.0\.1:\d+) \(edge\)\n", line)
            assert found, line
            yield process, found[1]
        finally:
            process.kill()


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_it_serves_until_a_signal_and_ends_with_0(tmp_path: Path, number: signal.Signals) -> None:
    file = tmp_path / "mesh.yaml"
    file.write_text(GOOD)
    with running(file) as (process, url):
        with urllib.request.urlopen(url, timeout=10) as response:
            assert response.read() == b"hello"
        process.send_signal(number)
        assert process.wait(10) == 0


def test_a_bad_file_ends_with_2_and_a_line_for_each_problem(tmp_path: Path) -> None:
    file = tmp_path / "mesh.yaml"
    file.write_text(GOOD + "x: 1\ny: 2\n")
    done = run(file)
    assert done.returncode == 2
    assert [line.partition(": ")[0] for line in done.stderr.splitlines()] == [
        f"{file}:5:1",
        f"{file}:6:1",
    ]


def test_a_layer_that_cannot_be_loaded_ends_with_2(tmp_path: Path) -> None:
    file = tmp_path / "mesh.yaml"
    file.write_text(GOOD.replace("body: hello}", "body: hello}, layers: [python: nowhere:Layer]"))
    done = run(file)
    assert done.returncode == 2
    assert len(done.stderr.splitlines()) == 1
    assert "nowhere:Layer" in done.stderr


def test_a_missing_file_ends_with_1_and_one_line(tmp_path: Path) -> None:
    done = run(tmp_path / "none.yaml")
    assert done.returncode == 1
    assert done.stderr == f"meshcore: {tmp_path}/none.yaml: No such file or directory\n"


def test_a_port_in_use_ends_with_1_and_one_line_that_names_it(tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        file = tmp_path / "mesh.yaml"
        file.write_text(GOOD.replace("127.0.0.1:0", f"127.0.0.1:{port}"))
        done = run(file)
    assert done.returncode == 1
    assert done.stderr == (
        f"meshcore: {file}: cannot listen on 127.0.0.1:{port}: Address already in use\n"
    )


def test_a_port_that_is_not_ours_ends_with_1_and_one_line(tmp_path: Path) -> None:
    file = tmp_path / "mesh.yaml"
    # An address of TEST-NET-1 (RFC 5737) is no host's own.
    file.write_text(GOOD.replace("127.0.0.1:0", "192.0.2.1:80"))
    done = run(file)
    assert (done.returncode, len(done.stderr.splitlines())) == (1, 1)
    assert "cannot listen on 192.0.2.1:80" in done.stderr


def test_an_admin_port_in_use_ends_with_1_and_one_line(tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        file = tmp_path / "mesh.yaml"
        file.write_text(GOOD + f"admin: {{bind: 127.0.0.1:{port}}}\n")
        done = run(file)
    assert done.returncode == 1
    assert done.stderr == (
        f"meshcore: {file}: cannot listen on 127.0.0.1:{port}: Address already in use\n"
    )


def test_a_unix_socket_in_no_folder_ends_with_1_and_one_line(tmp_path: Path) -> None:
    file = tmp_path / "mesh.yaml"
    file.write_text(GOOD.replace("127.0.0.1:0", f"unix:{tmp_path}/none/x.sock"))
    done = run(file)
    assert done.returncode == 1
    where = f"{tmp_path}/none/x.sock"
    assert done.stderr == (
        f"meshcore: {file}: cannot listen on {where}: No such file or directory\n"
    )
