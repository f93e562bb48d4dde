"""Workers that die, stand still or are told to end at the worst of times."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
import time
from collections import Counter
from pathlib import Path

import pytest

from meshcore.cli.order import Target, ask
from meshcore.process.file_source import FileSource
from meshcore.process.local_address import local_name
from tests.ports import free_port
from tests.process.hanging import Hanging
from tests.process.program import Program
from tests.process.test_bad_cases import LAYERED, MINE, alive, customized, layered, replaced
from tests.process.test_workers import HELLO, get, write

# Each process that reads the layer says so, and goes on when it is let.
GATED = """
import os, pathlib, time
here = pathlib.Path(__file__).parent
(here / f"at-{os.getpid()}").touch()
while not (here / f"go-{os.getpid()}").exists() and not (here / "go").exists():
    time.sleep(0.01)
"""


class Ordered(threading.Thread):
    """A reload that goes on beside the test; its exit code, or 0."""

    def __init__(self, program: Program) -> None:
        super().__init__()
        self._program = program
        self.code: object = None
        self.start()

    def run(self) -> None:
        try:
            self._program.order("/reload")
            self.code = 0
        except SystemExit as ended:
            self.code = ended.code

    def result(self) -> object:
        self.join(30)
        return self.code


def test_workers_leave_sigterm_to_control(tmp_path: Path) -> None:
    text = HELLO.replace("drain: 5s", "drain: {timeout: 5s, delay: 2s}")
    with Program(write(tmp_path, text), "--workers", "2") as program:
        url, workers = program.url(), program.workers()
        for pid in workers.values():
            os.kill(pid, signal.SIGTERM)
        assert {get(url) for _ in range(20)} == {(200, b"hello")}
        assert program.workers() == workers
        # A service manager signals every process of the service.
        os.killpg(program.process.pid, signal.SIGTERM)
        until = time.monotonic() + 1
        while time.monotonic() < until:
            assert get(url) == (200, b"hello")
        assert program.process.poll() is None
        assert program.process.wait(30) == 0


def test_a_reload_that_kills_workers_is_refused_and_one_that_loses_a_worker_is_not(
    tmp_path: Path,
) -> None:
    file, given = layered(tmp_path, HELLO)
    with Program(file, "--workers", "2", **given) as program:
        url, workers = program.url(), program.workers()
        (tmp_path / "mine.py").write_text("import os\nos._exit(1)\n")
        file.write_text(LAYERED.replace("body: hello", "body: bye"))
        with pytest.raises(SystemExit):
            program.order("/reload")
        assert program.status()["config_version"] == 1
        for reuseport_slot, pid in workers.items():
            replaced(program, reuseport_slot, pid)
            program.line(rf"worker {reuseport_slot} \({pid}\) ended: exit code 1")
        assert {get(url) for _ in range(20)} == {(200, b"hello")}
        workers = program.until(lambda: len(w := program.workers()) == 2 and w)
        (tmp_path / "mine.py").write_text(GATED + MINE)
        reload = Ordered(program)
        for pid in workers.values():
            program.until((tmp_path / f"at-{pid}").exists)
        os.kill(workers[0], signal.SIGKILL)
        (tmp_path / "go").touch()
        assert reload.result() == 0
        program.line(r"worker 0 ended while it made the change ready; once more")
        replaced(program, 0, workers[0])
        assert {get(url) for _ in range(20)} == {(200, b"bye")}


def test_a_worker_that_stands_still_while_it_drains_is_killed(tmp_path: Path) -> None:
    soon = "import sys\nif 'run' in sys.orig_argv:\n    import meshcore.process.fleet as c\n"
    given = customized(tmp_path, soon + "    c.GRACE_S = 0.2\n")
    text = HELLO.replace("drain: 5s", "drain: 1s")
    with Program(write(tmp_path, text), "--workers", "2", **given) as program:
        program.url()
        victim = program.workers()[0]
        os.kill(victim, signal.SIGSTOP)
        program.order("/drain", worker=0)
        program.line(rf"worker 0 \({victim}\) does not end: it is killed")
        program.until(lambda: not alive(victim))
        assert sorted(program.workers()) == [0, 1]


def test_the_lane_of_a_worker_that_dies_before_a_commit_is_served(tmp_path: Path) -> None:
    place = f'edge: {{bind: "127.0.0.1:{free_port()}"'
    text = LAYERED.replace('edge: {bind: "127.0.0.1:0"', place)
    file, given = layered(tmp_path, text.replace(", layers: [python: mine:Mine]", ""))
    with Program(file, "--workers", "2", **given) as program:
        url, workers = program.url(), program.workers()
        (tmp_path / "mine.py").write_text(GATED + MINE)
        file.write_text(text.replace("edge:", "renamed:"))
        reload = Ordered(program)
        program.until((tmp_path / f"at-{workers[1]}").exists)
        (tmp_path / f"go-{workers[0]}").touch()
        time.sleep(0.5)  # it says that it is ready, and dies before it hears of the commit
        os.kill(workers[0], signal.SIGKILL)
        program.line(rf"worker 0 \({workers[0]}\) ended: signal SIGKILL")
        (tmp_path / f"go-{workers[1]}").touch()
        assert reload.result() == 0
        # Whoever comes in its place is not let: the other one stands in.
        assert Counter(get(url) for _ in range(30)) == {(200, b"hello"): 30}
        (one,) = (w for w in program.status()["workers"] if w["state"] == "ready")
        assert (one["pid"], one["stands_in_for"]) == (workers[1], [0])
        (tmp_path / "go").touch()
        replaced(program, 0, workers[0])
        assert Counter(get(url) for _ in range(30)) == {(200, b"hello"): 30}


def test_fewer_workers_while_one_of_them_waits_for_its_return(tmp_path: Path) -> None:
    file = write(tmp_path, HELLO + "workers: 3\n")
    with Program(file) as program:
        url = program.url()
        victim = program.workers()[2]
        os.kill(victim, signal.SIGKILL)
        program.line(rf"worker 2 \({victim}\) ended: signal SIGKILL")
        file.write_text(HELLO + "workers: 1\n")
        program.order("/reload")
        program.until(lambda: len(program.status()["workers"]) == 1)
        time.sleep(1)
        assert [w["worker"] for w in program.status()["workers"]] == [0]
        assert {get(url) for _ in range(20)} == {(200, b"hello")}


def test_the_end_does_not_wait_for_a_slow_start(tmp_path: Path) -> None:
    file, given = layered(tmp_path)
    (tmp_path / "mine.py").write_text(GATED + MINE)
    with Program(file, "--workers", "1", **given) as program:
        program.until(lambda: any(tmp_path.glob("at-*")))
        began = time.monotonic()
        assert program.stop() == 0
        assert time.monotonic() - began < 20, "it never comes"


def test_without_control_workers_drain_as_configured(tmp_path: Path) -> None:
    with Hanging() as hanging:
        file = write(tmp_path, hanging.routed(HELLO, "1s"))
        with Program(file, "--workers", "2") as program:
            url, workers = program.url(), program.workers()
            hanging.ask(url, 8)
            program.process.kill()
            began = time.monotonic()
            program.until(lambda: not any(map(alive, workers.values())))
            assert 0.8 < time.monotonic() - began < 20, "without, it is half a minute"


# Binds the name, says so, and answers as the program would.
SQUATTER = """
import os, socket, sys
os.setuid(65534)
server = socket.socket(socket.AF_UNIX)
server.bind("\\0" + sys.argv[1])
server.listen()
print("bound", flush=True)
client, _ = server.accept()
client.recv(9999)
body = b'{"config_version": 666}'
client.sendall(b"HTTP/1.1 200 OK\\r\\ncontent-length: %d\\r\\n\\r\\n%b" % (len(body), body))
"""


@pytest.mark.skipif(os.geteuid() != 0, reason="becomes another user")
def test_what_another_user_says_is_not_believed(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    file = write(tmp_path, HELLO)
    command = [
        sys.executable,
        "-S",
        "-c",
        SQUATTER,
        local_name(FileSource(file).identity).removeprefix("\0"),
    ]
    with subprocess.Popen(command, stdout=subprocess.PIPE) as squatter:
        try:
            assert squatter.stdout is not None
            assert squatter.stdout.readline() == b"bound\n"
            with pytest.raises(SystemExit):
                ask(Target(file), "POST", "/reload")
            assert "belongs to another user" in capsys.readouterr().err
        finally:
            squatter.kill()
