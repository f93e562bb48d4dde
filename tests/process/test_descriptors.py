"""No open file is left: nothing crashes or spins, and all goes on when some are closed."""

from __future__ import annotations

import os
import resource
import signal
import socket
import time
from pathlib import Path

import pytest

from meshcore.process.limits import RESERVED
from tests.process.program import Program
from tests.process.test_bad_cases import children
from tests.process.test_workers import HELLO, descriptors, get, write


class Clients:
    """Connections that say nothing."""

    def __init__(self, url: str) -> None:
        host, port = url.removeprefix("http://").split(":")
        self._address = host, int(port)
        self._sockets: list[socket.socket] = []

    def __enter__(self) -> Clients:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def open(self, count: int) -> None:
        """So many more."""
        self._sockets += [socket.create_connection(self._address) for _ in range(count)]

    def close(self) -> None:
        """End all."""
        for each in self._sockets:
            each.close()
        self._sockets.clear()


def limited(program: Program, most: int) -> Program:
    """The program with so many open files, for each of its processes."""
    program.command[:0] = ["sh", "-c", f'ulimit -n {most} && exec "$@"', "sh"]
    return program


def cpu_s(pid: int) -> float:
    """The time that a process has worked."""
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def full(pid: int, most: int) -> bool:
    """Whether a worker has all the files that it may have, but for its reserve and the last."""
    return descriptors(pid) >= most - min(RESERVED, most // 4) - 2


MOST = 96


def test_a_worker_without_descriptors_waits(tmp_path: Path) -> None:
    with limited(Program(write(tmp_path, HELLO), "--workers", "1"), MOST) as program:
        url = program.url()
        before = program.workers()
        with Clients(url) as clients:
            clients.open(2 * MOST)
            program.until(lambda: full(before[0], MOST))
            began_s = cpu_s(before[0])
            time.sleep(2)
            assert cpu_s(before[0]) - began_s < 0.5, "it spins"
            clients.close()
            program.until(lambda: descriptors(before[0]) < MOST / 2)
            assert all(get(url) == (200, b"hello") for _ in range(20))
        assert program.workers() == before
        assert program.stop() == 0


def test_control_without_descriptors_refuses_and_goes_on(tmp_path: Path) -> None:
    file = write(tmp_path, HELLO)
    with limited(Program(file, "--workers", "2"), MOST) as program:
        url, admin = program.url(), program.line(r"listening (\S+) \(admin\)")[1]
        control = program.process.pid
        victim = children(control)[1]  # not by an order, whose connection may end later
        with Clients(admin) as clients:
            clients.open(MOST)  # fewer than the queue has room for: none has to wait
            program.line("the admin port cannot accept for now: Too many open files")
            file.write_text(HELLO.replace("body: hello", "body: bye"))
            program.process.send_signal(signal.SIGHUP)
            program.line("reload refused.*Too many open files")
            program.process.send_signal(signal.SIGUSR2)
            program.line("upgrade refused.*cannot .*Too many open files")
            os.kill(victim, signal.SIGKILL)
            program.line(r"worker \d cannot start: .*Too many open files")
            began_s = cpu_s(control)
            time.sleep(2)
            assert cpu_s(control) - began_s < 0.5, "it spins"
            clients.close()
        program.until(lambda: len(program.workers()) == 2)
        assert {get(url) for _ in range(20)} == {(200, b"hello")}
        program.order("/reload")
        assert {get(url) for _ in range(20)} == {(200, b"bye")}
        assert not any("Traceback" in line for line in program.lines)
        assert len([line for line in program.lines if "cannot accept" in line]) == 1
        assert program.stop() == 0


@pytest.mark.parametrize("most", [10, 14, 18, 22, 26])
def test_too_few_descriptors_to_start(tmp_path: Path, most: int) -> None:
    with limited(Program(write(tmp_path, HELLO), "--workers", "2"), most) as program:
        program.until(lambda: program.process.poll() is not None or "(edge)" in str(program.lines))
        if program.process.poll() is None:
            assert program.stop() == 0
        else:
            assert program.process.returncode == 1
            assert "Too many open files" in program.lines[-1]


def leave(pid: int, free: int) -> None:
    """Let a process open so many files more, and no other; a reserve does not help it."""
    used = {int(each) for each in os.listdir(f"/proc/{pid}/fd")}
    unused = (n for n in range(len(used) + free + 1) if n not in used)
    numbers = [next(unused) for _ in range(free + 1)]
    resource.prlimit(pid, resource.RLIMIT_NOFILE, (numbers[-1], HARD))


HARD = resource.getrlimit(resource.RLIMIT_NOFILE)[1]


@pytest.mark.parametrize("free", range(7))
def test_whatever_control_lacks_a_descriptor_for_is_done_later(tmp_path: Path, free: int) -> None:
    file = write(tmp_path, HELLO)
    with Program(file, "--workers", "2") as program:
        url, control = program.url(), program.process.pid
        victim = children(control)[1]
        leave(control, free)
        os.kill(victim, signal.SIGKILL)
        program.line(r"worker \d .*ended: signal SIGKILL")
        program.process.send_signal(signal.SIGHUP)
        time.sleep(0.5)
        assert {get(url) for _ in range(5)} <= {(200, b"hello")}
        resource.prlimit(control, resource.RLIMIT_NOFILE, (HARD, HARD))
        program.until(lambda: len(program.workers()) == 2)
        assert {get(url) for _ in range(20)} == {(200, b"hello")}
        program.order("/reload")
        assert not any("Traceback" in line for line in program.lines)
        assert program.stop() == 0


NAMES = ("one", "two", "three", "four", "five")
MORE = HELLO.replace(
    "listeners: {",
    "listeners: {" + "".join(f'{name}: {{bind: "127.0.0.1:0"}}, ' for name in NAMES),
)


def test_a_worker_without_descriptors_lives_through_orders(tmp_path: Path) -> None:
    file = write(tmp_path, HELLO)
    with Program(file, "--workers", "2") as program:
        url, (full_one, other) = program.url(), program.workers().values()
        leave(full_one, 0)
        for n in range(3):
            big = "x" * 100_000 * n  # of which the message does not fit into a packet
            file.write_text(MORE.replace("body: hello", f"body: bye{big}"))
            with pytest.raises(SystemExit):
                program.order("/reload")
            program.line("reload refused.*worker 0: (no descriptors|.*Too many)", after=n)
        os.kill(other, signal.SIGKILL)
        program.until(lambda: program.workers().get(1, other) != other)
        assert program.workers()[0] == full_one
        resource.prlimit(full_one, resource.RLIMIT_NOFILE, (HARD, HARD))
        program.order("/reload")
        for name in NAMES:
            assert get(program.status()["listeners"][name])[0] == 200
        assert all(get(url)[0] == 200 for _ in range(20))
        assert not any("Traceback" in line for line in program.lines)
        assert program.stop() == 0
