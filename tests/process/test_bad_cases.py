"""What the system, a file or an operator may do to `meshcore run`, and what it says to that."""

from __future__ import annotations

import os
import platform
import signal
import socket
import time
from pathlib import Path

import pytest

from tests.process.program import Program
from tests.process.test_upgrade import end, upgraded
from tests.process.test_workers import HELLO, get, write

# A layer of a module that a test breaks, mends or slows down.
LAYERED = HELLO.replace("{body: hello}", "{body: hello}, layers: [python: mine:Mine]")
MINE = "from meshcore import Layer\nclass Mine(Layer):\n    def on_request(self, request): pass\n"
BROKEN = "raise RuntimeError('is broken')\n"
SLOW = "import time\ntime.sleep(2)\n"


def layered(folder: Path, text: str = LAYERED) -> tuple[Path, dict[str, str]]:
    """A file whose layer is in a module beside it, and the environment to find that."""
    (folder / "mine.py").write_text(MINE)
    path = os.pathsep.join([str(folder), *filter(None, [os.environ.get("PYTHONPATH")])])
    return write(folder, text), {"PYTHONPATH": path, "PYTHONDONTWRITEBYTECODE": "1"}


def customized(folder: Path, text: str) -> dict[str, str]:
    """The environment of processes that run this first."""
    (folder / "sitecustomize.py").write_text(text)
    return layered(folder)[1]


def alive(pid: int) -> bool:
    """Whether a process is there, and no zombie."""
    try:
        text = Path(f"/proc/{pid}/stat").read_text()
    except OSError:
        return False
    return text.rpartition(")")[2].split()[0] != "Z"


def replaced(program: Program, reuseport_slot: int, was: int) -> None:
    """Wait until another process has the place of one that was killed."""
    program.until(lambda: program.workers().get(reuseport_slot, was) != was)


# --- what the system does not have ----------------------------------------------------------------

# A filter of system calls, as the sandbox of a container sets one: the call is not implemented.
NO_MEMFD = """
import ctypes, os, struct, sys
number = {"x86_64": 319, "aarch64": 279}[os.uname().machine]
load, unless = (32, 0, 0, 0), (21, 0, 1, number)
refuse, allow = (6, 0, 0, 0x50026), (6, 0, 0, 0x7FFF0000)
steps = [load, unless, refuse, allow]
code = ctypes.create_string_buffer(b"".join(struct.pack("HBBI", *step) for step in steps))
program = ctypes.create_string_buffer(struct.pack("HxxxxxxP", len(steps), ctypes.addressof(code)))
libc = ctypes.CDLL(None, use_errno=True)
assert libc.prctl(38, 1, 0, 0, 0) == 0
if libc.prctl(22, 2, program, 0, 0) != 0:
    sys.exit(77)
os.execv(sys.executable, [sys.executable, *sys.argv[1:]])
"""


@pytest.mark.skipif(platform.machine() not in ("x86_64", "aarch64"), reason="numbers of calls")
def test_without_memory_files_it_says_so(tmp_path: Path) -> None:
    program = Program(write(tmp_path, HELLO), "--workers", "1")
    program.command[1:1] = ["-c", NO_MEMFD]
    with program:
        code = program.process.wait(30)
    if code == 77:
        pytest.skip("no filters of system calls here")
    assert code == 1
    assert len(program.lines) == 1
    assert "shared memory" in program.lines[0]
    assert "Function not implemented" in program.lines[0]


def test_without_reuseport_all_accept_from_one_socket(tmp_path: Path) -> None:
    given = customized(tmp_path, "import socket\ndel socket.SO_REUSEPORT\n")
    file = write(tmp_path, HELLO)
    with Program(file, "--workers", "2", **given) as program:
        url = program.url()
        assert {get(url) for _ in range(20)} == {(200, b"hello")}
        for reuseport_slot, victim in program.workers().items():
            os.kill(victim, signal.SIGKILL)
            assert {get(url) for _ in range(20)} == {(200, b"hello")}
            replaced(program, reuseport_slot, victim)
        program.until(lambda: len(program.workers()) == 2)
        # Each of them serves: with the other one standing still, all is answered.
        for each in program.workers().values():
            os.kill(each, signal.SIGSTOP)
            try:
                assert {get(url) for _ in range(5)} == {(200, b"hello")}
            finally:
                os.kill(each, signal.SIGCONT)
        file.write_text(HELLO.replace("body: hello", "body: bye"))
        program.order("/reload")
        assert {get(url) for _ in range(20)} == {(200, b"bye")}
        pid = upgraded(program)
        assert {get(url) for _ in range(20)} == {(200, b"bye")}
        end(program, pid)


# --- workers that cannot start --------------------------------------------------------------------


def test_a_worker_that_dies_at_its_start_ends_the_program(tmp_path: Path) -> None:
    given = customized(
        tmp_path, "import sys\nif 'worker_process' in ''.join(sys.orig_argv): sys.exit(3)\n"
    )
    with Program(write(tmp_path, HELLO), "--workers", "2", **given) as program:
        assert program.process.wait(30) == 1
    assert "a worker ended at its start: exit code" in program.lines[-1]


def test_a_worker_that_cannot_come_back_is_tried_ever_more_seldom(tmp_path: Path) -> None:
    file, given = layered(tmp_path)
    with Program(file, "--workers", "2", **given) as program:
        url = program.url()
        victim = program.workers()[1]
        (tmp_path / "mine.py").write_text(BROKEN)
        os.kill(victim, signal.SIGKILL)
        for pause in ("0.2", "0.4", "0.8", "1.6"):
            program.line(rf"worker 1 cannot start: .*is broken.*again in {pause} s")
            assert {get(url) for _ in range(10)} == {(200, b"hello")}
        assert len([line for line in program.lines if "is broken" in line]) <= 5
        (tmp_path / "mine.py").write_text(MINE)
        replaced(program, 1, victim)
        assert {get(url) for _ in range(10)} == {(200, b"hello")}
        assert program.stop() == 0


def test_the_only_worker_that_cannot_come_back_ends_the_program(tmp_path: Path) -> None:
    file, given = layered(tmp_path)
    with Program(file, "--workers", "1", **given) as program:
        program.url()
        (tmp_path / "mine.py").write_text(BROKEN)
        os.kill(program.workers()[0], signal.SIGKILL)
        assert program.process.wait(60) == 2
        assert "python layer mine:Mine: is broken" in program.lines[-1]
        assert len([line for line in program.lines if "cannot start" in line]) <= 4


# --- full memory ----------------------------------------------------------------------------------

SMALL = HELLO + "segment_max: 2MiB\n"
LARGE = SMALL.replace(
    "{body: hello}", "{body: hello}, layers: [limit: {rate: 1/m, key: client, clients: 1000000}]"
)


def test_a_configuration_that_does_not_fit_says_the_size_to_set(tmp_path: Path) -> None:
    with Program(write(tmp_path, LARGE), "--workers", "1") as program:
        assert program.process.wait(30) == 2
    assert len(program.lines) == 1
    told = "segment_max: shared memory is full at 2MiB (set it to at least "
    assert told in program.lines[0]
    size = program.lines[0].rpartition("at least ")[2].removesuffix(")")
    fits = LARGE.replace("segment_max: 2MiB", f"segment_max: {size}")
    with Program(write(tmp_path, fits), "--workers", "1") as program:
        assert get(program.url()) == (200, b"hello")


def test_a_reload_that_needs_more_waits_for_an_upgrade(tmp_path: Path) -> None:
    rules = "rate: 1/m, burst: 9, key: client, clients: 4000000"
    tables = ", ".join(f"{{limit: {{name: n{n}, {rules}}}}}" for n in range(9))
    more = f"{{name: more, match: {{path: {{exact: /more}}}}, respond: {{}}, layers: [{tables}]}}"
    limited = HELLO.replace(
        "{body: hello}", "{body: hello}, layers: [limit: {rate: 1/h, burst: 9}]"
    )
    file = write(tmp_path, limited)
    with Program(file, "--workers", "1") as program:
        url = program.url()
        assert get(url) == (200, b"hello")
        file.write_text(limited.replace("routes: [", f"routes: [{more}, "))
        with pytest.raises(SystemExit) as ended:
            program.order("/reload")
        assert ended.value.code == 2
        told = "segment_max: shared memory is full at 256MiB (an upgrade or a restart makes room)"
        refused = f"reload refused, nothing has changed: {told}"
        assert program.line("reload refused").string == refused
        pid = upgraded(program)
        program.line("objects keep their state")
        assert get(url + "/more")[0] == 200
        answers = [get(url)[0] for _ in range(9)]
        assert answers == 8 * [200] + [429], "the tokens that were left"
        end(program, pid)


def test_a_reload_that_does_not_fit_changes_nothing(tmp_path: Path) -> None:
    file = write(tmp_path, SMALL)
    with Program(file, "--workers", "2") as program:
        url = program.url()
        for _ in range(3):
            file.write_text(LARGE.replace("body: hello", "body: bye"))
            with pytest.raises(SystemExit) as ended:
                program.order("/reload")
            assert ended.value.code == 2
            program.line("reload refused.*set it to at least")
            assert {get(url) for _ in range(10)} == {(200, b"hello")}
        file.write_text(SMALL.replace("body: hello", "body: bye"))
        assert program.order("/reload") == {"config_version": 5}, "no number is used twice"
        assert {get(url) for _ in range(10)} == {(200, b"bye")}
        os.kill(program.workers()[0], signal.SIGKILL)
        assert {get(url) for _ in range(10)} == {(200, b"bye")}
        assert program.stop() == 0


# --- ends in the middle of something ------------------------------------------------------------


def test_control_is_killed_while_it_reloads(tmp_path: Path) -> None:
    file, given = layered(tmp_path, HELLO)
    with Program(file, "--workers", "2", **given) as program:
        program.url()
        pids = [*program.workers().values()]
        began = tmp_path / "began"
        (tmp_path / "mine.py").write_text(f"open({str(began)!r}, 'w').close()\n" + SLOW + MINE)
        file.write_text(LAYERED)
        program.process.send_signal(signal.SIGHUP)
        program.until(began.exists)
        program.process.kill()
        program.until(lambda: not any(map(alive, pids)))
    with Program(file, "--workers", "2", **given) as again:
        assert get(again.url()) == (200, b"hello")


@pytest.mark.parametrize("times", [1, 2])
def test_a_signal_while_it_starts_ends_it(tmp_path: Path, times: int) -> None:
    file, given = layered(tmp_path)
    began = tmp_path / "began"
    (tmp_path / "mine.py").write_text(f"open({str(began)!r}, 'w').close()\n" + SLOW + MINE)
    with Program(file, "--workers", "2", **given) as program:
        program.until(began.exists)
        pids = children(program.process.pid)
        assert pids
        for _ in range(times):
            program.process.send_signal(signal.SIGTERM)
            time.sleep(0.1)
        assert program.process.wait(30) in (0, 1)
        assert not any(map(alive, pids))
        assert not any("Traceback" in line for line in program.lines)


def children(pid: int) -> list[int]:
    """The processes that a process has started."""
    text = Path(f"/proc/{pid}/task/{pid}/children").read_text()
    return [int(each) for each in text.split()]


def test_fifty_reloads_at_once(tmp_path: Path) -> None:
    file = write(tmp_path, HELLO)
    with Program(file, "--workers", "2") as program:
        url = program.url()
        file.write_text(HELLO.replace("body: hello", "body: bye"))
        for _ in range(50):
            program.process.send_signal(signal.SIGHUP)
        program.until(lambda: get(url) == (200, b"bye"))
        version = program.order("/reload")["config_version"]
        in_force(program, version, 2)
        assert {get(url) for _ in range(20)} == {(200, b"bye")}
        assert program.stop() == 0


def in_force(program: Program, version: int, workers: int) -> None:
    """All workers are at work, and with this configuration."""

    def met() -> bool:
        found = [w["config_version"] for w in program.status()["workers"] if w["state"] == "ready"]
        return found == [version] * workers

    program.until(met)


@pytest.mark.parametrize("by", ["signal", "order"])
def test_the_end_while_it_upgrades_is_the_end_of_both(tmp_path: Path, by: str) -> None:
    file, given = layered(tmp_path)
    with Program(file, "--workers", "1", **given) as program:
        program.url()
        began = tmp_path / "began"
        (tmp_path / "mine.py").write_text(f"open({str(began)!r}, 'w').close()\n" + SLOW + MINE)
        before = set(children(program.process.pid))
        with socket.socket() as client:
            if by == "signal":
                program.process.send_signal(signal.SIGUSR2)
            else:
                host, port = program.line(r"http://(\S+) \(admin\)")[1].split(":")
                client.connect((host, int(port)))
                client.sendall(b"POST /upgrade HTTP/1.1\r\nhost: localhost\r\n\r\n")
            program.until(began.exists)
            (new,) = set(children(program.process.pid)) - before
            program.process.send_signal(signal.SIGTERM)
            assert program.process.wait(30) == 0
            program.until(lambda: not alive(new))


def test_workers_die_while_it_reloads(tmp_path: Path) -> None:
    file = write(tmp_path, HELLO)
    reuseport_slots = 6  # each is killed five times: the pauses stay below two seconds
    with Program(file, "--workers", str(reuseport_slots)) as program:
        url = program.url()
        for n in range(30):
            victim = program.until(lambda n=n: program.workers().get(n % reuseport_slots))
            file.write_text(HELLO.replace("body: hello", f"body: number {n}"))
            program.process.send_signal(signal.SIGHUP)
            time.sleep(n % 5 * 0.002)
            os.kill(victim, signal.SIGKILL)
        version = program.order("/reload")["config_version"]
        in_force(program, version, reuseport_slots)
        assert {get(url) for _ in range(20)} == {(200, b"number 29")}
        assert program.stop() == 0
