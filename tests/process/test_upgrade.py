"""The program is replaced while it serves: the new one goes on where the old one was."""

from __future__ import annotations

import http.client
import json
import os
import re
import shutil
import signal
import socket
import subprocess
import sys
import threading
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

from tests.process.program import Program
from tests.process.test_workers import HELLO, get, metric, write

LIMITED = HELLO.replace("{body: hello}", "{body: hello}, layers: [limit: {rate: 1/m, burst: 40}]")


def upgraded(program: Program) -> int:
    """Upgrade and wait for the end of the old one; the process id of the new."""
    old, before = program.status()["pid"], len(program.lines)
    pid = program.order("/upgrade")["pid"]
    program.line(r"listening \S+ \(edge\)", after=before)
    program.until(lambda: program.status()["pid"] == pid)
    # Until its end the old one may accept, and counts in a memory that may be another.
    if old == program.process.pid:
        assert program.process.wait(30) == 0
    program.until(lambda: not Path(f"/proc/{old}").exists())
    return int(pid)


def end(program: Program, pid: int) -> None:
    """Ask the new program, which is no child of ours, to end, and see that it does."""
    os.kill(pid, signal.SIGTERM)
    program.until(lambda: not Path(f"/proc/{pid}").exists())


def test_the_new_program_has_the_address_and_the_state(tmp_path: Path) -> None:
    file = write(tmp_path, LIMITED)
    with Program(file, "--workers", "2") as program:
        url, admin = program.url(), program.line(r"listening (\S+) \(admin\)")[1]
        assert Counter(get(url)[0] for _ in range(30)) == {200: 30}
        pid = upgraded(program)
        assert program.status()["listeners"] == {"edge": url}
        assert Counter(get(url)[0] for _ in range(30)) == {200: 10, 429: 20}
        assert metric(program, 'meshcore_route_responses_total{route="hello",class="2xx"}') == 40
        assert get(admin + "/healthz")[0] == 200
        status = program.status()
        assert (status["config_version"], status["ready"]) == (2, True)
        assert [each["origin"] for each in status["history"]] == ["start", "upgrade"]
        again = upgraded(program)
        assert again != pid
        assert Counter(get(url)[0] for _ in range(10)) == {429: 10}
        end(program, again)


def test_no_request_fails_while_the_program_is_replaced(tmp_path: Path) -> None:
    file = write(tmp_path, HELLO)
    with Program(file, "--workers", "2") as program:
        url = program.url()
        over = threading.Event()
        answers: Counter[tuple[int, bytes]] = Counter()

        def ask() -> None:
            while not over.is_set():
                answers[get(url)] += 1

        asking = threading.Thread(target=ask)
        asking.start()
        pid = upgraded(program)
        over.set()
        asking.join()
        assert answers.keys() == {(200, b"hello")}
        end(program, pid)


def test_queues_of_workers_that_there_once_were_are_served_on(tmp_path: Path) -> None:
    file = write(tmp_path, HELLO + "workers: 4\n")
    with Program(file) as program:
        url = program.url()
        file.write_text(HELLO + "workers: 1\n")
        program.order("/reload")
        program.until(lambda: [*program.workers()] == [0])
        pid = upgraded(program)
        assert all(get(url) == (200, b"hello") for _ in range(40))
        end(program, pid)


def test_a_new_program_that_cannot_start_changes_nothing(tmp_path: Path) -> None:
    file = write(tmp_path, LIMITED)
    with Program(file, "--workers", "2") as program:
        url = program.url()
        assert Counter(get(url)[0] for _ in range(20)) == {200: 20}
        file.write_text(LIMITED + "nonsense: 1\n")
        with pytest.raises(SystemExit):
            program.order("/upgrade")
        program.line("nonsense: unknown key")
        file.write_text(LIMITED.replace("[limit", "[python: nowhere:L, limit"))
        with pytest.raises(SystemExit):
            program.order("/upgrade")
        program.line("nowhere:L")
        assert Counter(get(url)[0] for _ in range(30)) == {200: 20, 429: 10}
        # What the others did to the shared memory is known: changes go on.
        file.write_text(LIMITED.replace("name: hello", "name: other"))
        program.order("/reload")
        assert get(url) == (200, b"hello")
        victim = program.workers()[0]
        os.kill(victim, signal.SIGKILL)
        program.until(lambda: program.workers().get(0, victim) != victim)
        assert program.stop() == 0


def test_a_program_that_lays_its_memory_out_in_another_way_takes_over_by_name(
    tmp_path: Path,
) -> None:
    file = write(tmp_path, LIMITED)
    with Program(file, "--workers", "2") as program:
        url = program.url()
        assert Counter(get(url)[0] for _ in range(30)) == {200: 30}
        # Another size of the shared memory is another layout.
        file.write_text(LIMITED + "segment_max: 128MiB\n")
        pid = upgraded(program)
        program.line(r"\d+ objects keep their state")
        assert Counter(get(url)[0] for _ in range(30)) == {200: 10, 429: 20}
        assert metric(program, 'meshcore_route_responses_total{route="hello",class="2xx"}') == 40
        end(program, pid)


GATED = """
import pathlib, time
from meshcore import Layer
while pathlib.Path(__file__).with_name("gate").exists():
    time.sleep(0.01)
class Quiet(Layer):
    async def on_request(self, request):
        return None
"""


def gated(tmp_path: Path) -> Path:
    """A configuration whose program gets ready once there is no gate."""
    (tmp_path / "gated.py").write_text(GATED)
    python = "layers: [{python: gated:Quiet}]"
    return write(tmp_path, HELLO.replace("{body: hello}", "{body: hello}, " + python))


def answered(program: Program, path: str) -> tuple[int, str]:
    """An order that is answered at once, and how."""
    address = program.line(r"http://(\S+) \(admin\)")[1]
    connection = http.client.HTTPConnection(address, timeout=10)
    try:
        connection.request("POST", path)
        response = connection.getresponse()
        return response.status, response.read().decode()
    finally:
        connection.close()


def test_other_orders_are_refused_while_an_upgrade_is_under_way(tmp_path: Path) -> None:
    gate = tmp_path / "gate"
    with Program(gated(tmp_path), "--workers", "1") as program:
        program.url()
        gate.touch()
        with ThreadPoolExecutor(1) as pool:
            upgrade = pool.submit(answered, program, "/upgrade")
            under_way = (409, '{"errors": ["an upgrade is under way"]}\n')
            program.until(lambda: answered(program, "/reload") == under_way)
            for order in ("/reload", "/rollback", "/drain?worker=0", "/drain?listener=edge"):
                assert answered(program, order) == under_way
            assert not upgrade.done()
            gate.unlink()
            status, text = upgrade.result()
        assert status == 200
        assert program.process.wait(30) == 0
        assert answered(program, "/reload")[0] == 200
        end(program, json.loads(text)["pid"])


def test_an_order_that_the_end_cuts_short_is_answered(tmp_path: Path) -> None:
    gate = tmp_path / "gate"
    with Program(gated(tmp_path), "--workers", "1") as program:
        program.url()
        gate.touch()
        with ThreadPoolExecutor(1) as pool:
            upgrade = pool.submit(answered, program, "/upgrade")
            program.until(lambda: answered(program, "/reload")[0] == 409)
            assert program.stop() == 0
            told = "not done: the program ends, or another one has taken over"
            status, text = upgrade.result()
            assert (status, json.loads(text)) == (409, {"errors": [told]})


def test_another_layout_hash_is_seen(tmp_path: Path) -> None:
    file = write(tmp_path, LIMITED)
    with Program(file, "--workers", "1") as program:
        url = program.url()
        assert Counter(get(url)[0] for _ in range(30)) == {200: 30}
        patch_layout_hash(program.process.pid)
        pid = upgraded(program)
        program.line("laid out in another way")
        program.line(r"\d+ objects keep their state")
        assert Counter(get(url)[0] for _ in range(30)) == {200: 10, 429: 20}
        end(program, pid)


def patch_layout_hash(pid: int) -> None:
    """Change the third word of the header: what an older program would have written there."""
    for entry in Path(f"/proc/{pid}/fd").iterdir():
        if os.readlink(entry).startswith("/memfd:meshcore"):
            with entry.open("r+b", buffering=0) as memory:
                os.pwrite(memory.fileno(), b"\x5a" * 8, 16)
            return
    raise AssertionError("no segment")


def test_sigusr2_upgrades(tmp_path: Path) -> None:
    file = write(tmp_path, HELLO)
    with Program(file, "--workers", "1") as program:
        url = program.url()
        program.process.send_signal(signal.SIGUSR2)
        assert program.process.wait(30) == 0
        assert get(url) == (200, b"hello")
        end(program, program.status()["pid"])


def test_systemd_is_told(tmp_path: Path) -> None:
    address = tmp_path / "notify.sock"
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as manager:
        manager.bind(str(address))
        manager.settimeout(30)
        file = write(tmp_path, HELLO)
        told = {"NOTIFY_SOCKET": str(address), "WATCHDOG_USEC": "200000"}
        with Program(file, "--workers", "1", **told) as program:
            program.url()

            def heard(what: str) -> str:
                while True:
                    text = manager.recv(4096).decode()
                    if what in text:
                        return text

            assert f"MAINPID={program.process.pid}" in heard("READY=1")
            heard("WATCHDOG=1")
            heard("WATCHDOG=1")
            program.process.send_signal(signal.SIGHUP)
            assert "MONOTONIC_USEC=" in heard("RELOADING=1")
            heard("READY=1")
            program.process.send_signal(signal.SIGTERM)
            heard("STOPPING=1")
            assert program.process.wait(30) == 0


def test_sockets_of_systemd_are_used(tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as given:
        port = given.getsockname()[1]
        text = HELLO.replace('edge: {bind: "127.0.0.1:0"', f'edge: {{bind: "127.0.0.1:{port}"')
        file = write(tmp_path, text)
        code = (
            "import os, sys; os.dup2(int(sys.argv[1]), 3);"
            "os.environ.update(LISTEN_PID=str(os.getpid()), LISTEN_FDS='1');"
            "os.execv(sys.executable, [sys.executable, '-m', 'meshcore', 'run', *sys.argv[2:]])"
        )
        command = [sys.executable, "-c", code, str(given.fileno()), str(file), "--workers", "2"]
        with subprocess.Popen(
            command, pass_fds=[given.fileno()], stderr=subprocess.PIPE, text=True
        ) as process:
            try:
                assert process.stderr is not None
                while "(edge)" not in process.stderr.readline():
                    pass
                assert get(f"http://127.0.0.1:{port}") == (200, b"hello")
                process.send_signal(signal.SIGTERM)
                assert process.wait(30) == 0
            finally:
                process.kill()


def inside(program: Program) -> list[int]:
    """The processes of a container, whose first one was started by the program that was."""
    starter = program.process.pid
    first = Path(f"/proc/{starter}/task/{starter}/children").read_text().split()[0]
    space, found = os.readlink(f"/proc/{first}/ns/pid"), []
    for process in Path("/proc").glob("[0-9]*"):
        with suppress(OSError):  # it is gone
            if os.readlink(process / "ns/pid") == space:
                found.append(int(process.name))
    return found


@pytest.mark.skipif(os.geteuid() != 0 or not shutil.which("unshare"), reason="needs name spaces")
def test_the_first_process_of_a_container_lives_through_upgrades(tmp_path: Path) -> None:
    file = write(tmp_path, HELLO)
    program = Program(file, "--workers", "1")
    unshare = ["unshare", "--pid", "--fork", "--kill-child", "--mount-proc"]
    program.command[:0] = unshare
    with program:
        url = program.url()
        # The command line finds only programs whose processes it can see.
        program.admin = program.line(r"listening (\S+) \(admin\)")[1]
        seen = {program.status()["pid"]}
        for _ in range(3):
            lines = len(program.lines)
            program.order("/upgrade")
            program.line(r"listening \S+ \(edge\)", after=lines)
            program.until(lambda: program.status()["pid"] not in seen)
            seen.add(program.status()["pid"])
            program.line("draining", after=lines)
            # The one before is gone; the first process is not, nor what serves now.
            program.until(lambda: len(inside(program)) == 3)
            assert program.process.poll() is None
            assert get(url) == (200, b"hello")
        # The first process hands it on.
        children = Path(f"/proc/{program.process.pid}/task/{program.process.pid}/children")
        os.kill(int(children.read_text().split()[0]), signal.SIGTERM)
        assert program.process.wait(30) == 0


def test_workers_and_the_program_that_follows_share_one_mark_in_via(tmp_path: Path) -> None:
    """Taken over with the memory, or given with what is told of it when that is laid out anew."""
    marks: list[str | None] = []

    class Endpoint(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            marks.append(self.headers["via"])
            self.send_response(204)
            self.end_headers()

        def log_message(self, *_: object) -> None:
            """Say nothing."""

    with ThreadingHTTPServer(("127.0.0.1", 0), Endpoint) as endpoint:
        serving = threading.Thread(target=endpoint.serve_forever)
        serving.start()
        upstream = f"upstreams: {{one: {{endpoints: ['127.0.0.1:{endpoint.server_port}']}}}}\n"
        text = HELLO.replace("respond: {body: hello}", "upstream: one") + upstream
        file = write(tmp_path, text)
        try:
            with Program(file, "--workers", "2") as program:
                url = program.url()
                for further in ("", "segment_max: 128MiB\n"):
                    assert {get(url)[0] for _ in range(20)} == {204}
                    file.write_text(text + further)
                    pid = upgraded(program)
                assert {get(url)[0] for _ in range(20)} == {204}
                end(program, pid)
        finally:
            endpoint.shutdown()
            serving.join()
    assert len(marks) == 60
    (mark,) = set(marks)
    assert mark is not None
    assert re.fullmatch(r"1\.1 meshcore-[0-9a-f]{16}\+edge", mark)
