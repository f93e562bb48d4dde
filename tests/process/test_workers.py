"""Several workers as one proxy: one limit, one breaker, one sum; and those that end."""

from __future__ import annotations

import os
import signal
import socket
import urllib.error
import urllib.request
from collections import Counter
from pathlib import Path

import pytest

from tests.process.program import Program

HELLO = """\
version: 1
drain: 5s
admin: {bind: "127.0.0.1:0"}
listeners: {edge: {bind: "127.0.0.1:0"}}
routes: [{name: hello, respond: {body: hello}}]
"""


def get(url: str) -> tuple[int, bytes]:
    """One request on a connection of its own."""
    try:
        with urllib.request.urlopen(url, timeout=10) as response:
            return response.status, response.read()
    except urllib.error.HTTPError as error:
        return error.code, error.read()


def write(folder: Path, text: str) -> Path:
    file = folder / "mesh.yaml"
    file.write_text(text)
    return file


def metric(program: Program, name: str) -> float:
    admin = program.line(r"listening (\S+) \(admin\)")[1]
    lines = get(admin + "/metrics")[1].decode().splitlines()
    return sum(float(line.rpartition(" ")[2]) for line in lines if line.startswith(name))


def test_a_limit_is_one_however_many_workers_there_are(tmp_path: Path) -> None:
    limit = "layers: [limit: {rate: 1/m, burst: 25}]"
    text = HELLO.replace("{body: hello}", "{body: hello}, " + limit)
    with Program(write(tmp_path, text), "--workers", "3") as program:
        url = program.url()
        answers = Counter(get(url)[0] for _ in range(60))
        assert answers == {200: 25, 429: 35}
        assert metric(program, 'meshcore_route_responses_total{route="hello",class="2xx"}') == 25
        assert metric(program, "meshcore_listener_requests_total") == 60
        assert program.stop() == 0


def test_connections_are_spread_and_counted_over_all_workers(tmp_path: Path) -> None:
    with Program(write(tmp_path, HELLO), "--workers", "2") as program:
        host, port = program.url().removeprefix("http://").split(":")
        held = [socket.create_connection((host, int(port))) for _ in range(200)]
        program.until(lambda: metric(program, "meshcore_listener_connections{") == 200)
        per_worker = Counter(descriptors(pid) for pid in program.workers().values())
        assert min(per_worker) > 60, per_worker
        for each in held:
            each.close()
        program.until(lambda: metric(program, "meshcore_listener_connections{") == 0)


def descriptors(pid: int) -> int:
    return len(os.listdir(f"/proc/{pid}/fd"))


def test_a_killed_workers_share_is_served_and_its_gauges_come_down(tmp_path: Path) -> None:
    gate = tmp_path / "gate"
    (tmp_path / "sitecustomize.py").write_text(
        "import os, sys, time\n"
        f"while 'worker_process' in ''.join(sys.orig_argv) and os.path.exists({str(gate)!r}):\n"
        "    time.sleep(0.01)\n"
    )
    path = os.pathsep.join([str(tmp_path), *filter(None, [os.environ.get("PYTHONPATH")])])
    with Program(write(tmp_path, HELLO), "--workers", "2", PYTHONPATH=path) as program:
        url = program.url()
        host, port = url.removeprefix("http://").split(":")
        held = [socket.create_connection((host, int(port))) for _ in range(50)]
        program.until(lambda: metric(program, "meshcore_listener_connections{") == 50)
        victim = program.workers()[1]
        gate.touch()
        os.kill(victim, signal.SIGKILL)
        # Nobody waits for the worker that is not there, and cannot come yet.
        for _ in range(40):
            assert get(url) == (200, b"hello")
        assert len(program.workers()) == 1
        gate.unlink()
        program.until(lambda: len(program.workers()) == 2)
        assert program.workers()[1] != victim
        assert metric(program, "meshcore_listener_connections{") < 50
        for each in held:
            each.close()
        program.until(lambda: metric(program, "meshcore_listener_connections{") == 0)
        assert metric(program, "meshcore_worker_restarts_total") == 1
        assert program.stop() == 0


def test_a_loop_that_stands_still_is_replaced(tmp_path: Path) -> None:
    (tmp_path / "stuck.py").write_text(
        "import time\n"
        "from meshcore import Layer\n"
        "class Stuck(Layer):\n"
        "    def on_request(self, request):\n"
        "        if request.path == '/stuck': time.sleep(60)\n"
    )
    text = HELLO.replace("{body: hello}", "{body: hello}, layers: [python: stuck:Stuck]")
    file = write(tmp_path, text + "watchdog: 1s\n")
    with Program(file, "--workers", "1", PYTHONPATH=str(tmp_path)) as program:
        url = program.url()
        before = program.workers()
        host, port = url.removeprefix("http://").split(":")
        with socket.create_connection((host, int(port))) as sock:
            sock.sendall(b"GET /stuck HTTP/1.1\r\nhost: x\r\n\r\n")
            program.line("stands still")
            program.line("stuck.py")  # where it stood
            program.until(lambda: program.workers() not in ({}, before))
        assert get(url) == (200, b"hello")


def test_a_worker_that_cannot_start_ends_the_program_with_the_reason(tmp_path: Path) -> None:
    text = HELLO.replace("{body: hello}", "{body: hello}, layers: [python: nowhere:Layer]")
    with Program(write(tmp_path, text), "--workers", "2") as program:
        assert program.process.wait(30) == 2
    assert len([line for line in program.lines if "nowhere:Layer" in line]) == 1


def test_workers_end_when_control_is_killed(tmp_path: Path) -> None:
    with Program(write(tmp_path, HELLO), "--workers", "2") as program:
        program.url()
        pids = [*program.workers().values()]
        program.process.kill()
        program.until(lambda: not any(Path(f"/proc/{pid}").exists() for pid in pids))


def test_the_program_in_a_port_that_another_serves_does_not_start(tmp_path: Path) -> None:
    with Program(write(tmp_path, HELLO)) as first:
        port = first.url().rpartition(":")[2]
        other = tmp_path / "other.yaml"
        other.write_text(
            HELLO.replace('edge: {bind: "127.0.0.1:0"', f'edge: {{bind: "127.0.0.1:{port}"')
        )
        with Program(other) as second:
            assert second.process.wait(30) == 1
        assert "Address already in use" in second.lines[-1]


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_second_signal_ends_at_once(tmp_path: Path, number: signal.Signals) -> None:
    text = HELLO.replace("drain: 5s", "drain: {timeout: 60s, delay: 60s}")
    with Program(write(tmp_path, text), "--workers", "2") as program:
        url = program.url()
        program.process.send_signal(number)
        program.line("draining")
        assert get(url) == (200, b"hello"), "during the delay all is served"
        assert program.stop(number) == 0
