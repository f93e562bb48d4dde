"""Two programs side by side, while the old one drains: only the new one changes anything."""

from __future__ import annotations

import http.client
import os
import re
import shutil
import signal
import socket
import struct
import sys
import threading
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import closing, suppress
from pathlib import Path

import pytest

from tests.ports import free_port
from tests.process.hanging import Hanging, refuses
from tests.process.program import Program
from tests.process.test_bad_cases import alive, children, customized
from tests.process.test_workers import HELLO, get, write

TWO = HELLO.replace("listeners: {", 'listeners: {two: {bind: "127.0.0.1:0"}, ')


@pytest.fixture
def hanging() -> Iterator[Hanging]:
    with Hanging() as origin:
        yield origin


def taken_over(program: Program) -> int:
    """Upgrade, and go on while the old program drains; the new one's process id."""
    pid: int = program.order("/upgrade")["pid"]
    program.until(lambda: program.status()["pid"] == pid)
    return pid


def versions(program: Program, after: int) -> list[int]:
    """The configurations that were put in force, whoever did it."""
    text = "\n".join(program.lines[after:])
    return [int(n) for n in re.findall(r"configuration (\d+) is in force", text)]


ORDERS = ("/reload", "/rollback", "/upgrade", "/drain?listener=edge", "/drain?worker=0")


def kept_open(admin: str) -> http.client.HTTPConnection:
    """A connection to the program that serves the port now."""
    connection = http.client.HTTPConnection(admin, timeout=10)
    connection.request("GET", "/healthz")
    with connection.getresponse() as answer:
        assert answer.read()
    return connection


def test_a_program_that_has_handed_over_changes_nothing(tmp_path: Path, hanging: Hanging) -> None:
    text = hanging.routed(HELLO, "40s") + "watch: on\n"
    file = write(tmp_path, text)
    with Program(file, "--workers", "1") as program:
        url, admin = program.url(), program.line(r"http://(\S+) \(admin\)")[1]
        kept = {path: kept_open(admin) for path in ORDERS}
        hanging.ask(url)
        taken_over(program)
        after = len(program.lines)
        file.write_text(text.replace("body: hello", "body: watched"))
        program.until(lambda: get(url) == (200, b"watched"))
        program.process.send_signal(signal.SIGHUP)
        program.line("reload.* another has taken over", after=after)
        for path, connection in kept.items():
            connection.request("POST", path)
            with closing(connection), connection.getresponse() as answer:
                assert answer.status in (400, 409), path
        for n in range(20):
            limited = f"name: r{n % 3}x{n}, match: {{path: {{exact: /{n}}}}}, respond: {{body: h}}"
            route = f"routes: [{{{limited}, layers: [limit: {{rate: 1/m}}]}}, "
            file.write_text(text.replace("routes: [", route))
            program.order("/reload")
            assert get(f"{url}/{n}") == (200, b"h")
        assert program.process.poll() is None, "the old one drains all the time"
        program.until(lambda: program.status()["config_version"] == versions(program, after)[-1])
        seen = versions(program, after)
        assert seen == sorted(set(seen)), "nobody else has a number of the new one's"


def test_the_watchdog_hears_the_new_program(tmp_path: Path) -> None:
    address = tmp_path / "notify.sock"
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as manager:
        manager.setsockopt(socket.SOL_SOCKET, socket.SO_PASSCRED, 1)
        manager.bind(str(address))
        manager.settimeout(30)
        told = {"NOTIFY_SOCKET": str(address), "WATCHDOG_USEC": "200000"}
        program = Program(write(tmp_path, HELLO), "--workers", "1", **told)
        program.command[:0] = ["sh", "-c", 'export WATCHDOG_PID=$$; exec "$@"', "sh"]

        def beat() -> int:
            """Who says next that it lives."""
            while True:
                text, ancillary, _, _ = manager.recvmsg(4096, socket.CMSG_SPACE(12))
                if b"WATCHDOG=1" in text:
                    return int(struct.unpack("3i", ancillary[0][2])[0])

        with program:
            program.url()
            assert beat() == program.process.pid
            pid = taken_over(program)
            assert program.process.wait(30) == 0
            # What the old one said before its end may be among the first.
            program.until(lambda: [beat() for _ in range(3)] == [pid] * 3)


@pytest.mark.parametrize("pause_s", [0.0, 0.3])
def test_the_end_right_after_an_upgrade_began_is_the_end_of_all(
    tmp_path: Path, hanging: Hanging, pause_s: float
) -> None:
    with Program(write(tmp_path, hanging.routed(HELLO, "1s")), "--workers", "1") as program:
        url = program.url()
        hanging.ask(url)
        program.process.send_signal(signal.SIGUSR2)
        time.sleep(pause_s)
        program.process.send_signal(signal.SIGTERM)
        assert program.process.wait(30) == 0
        program.until(lambda: nobody_of(program.process.pid))
        assert refuses(url)


def nobody_of(group: int) -> bool:
    """Whether no process of a group is left."""
    with suppress(ProcessLookupError):
        os.killpg(group, 0)
        return False
    return True


@pytest.mark.skipif(os.geteuid() != 0 or not shutil.which("unshare"), reason="needs name spaces")
def test_a_container_ends_while_its_first_process_drains(tmp_path: Path, hanging: Hanging) -> None:
    program = Program(write(tmp_path, hanging.routed(HELLO, "5s")), "--workers", "1")
    program.command[:0] = ["unshare", "--pid", "--fork", "--kill-child", "--mount-proc"]
    with program:
        url = program.url()
        program.admin = program.line(r"listening (\S+) \(admin\)")[1]
        for _ in range(2):  # the second new program is a child of the first
            hanging.ask(url)
            before = program.status()["pid"]
            program.order("/upgrade")
            program.until(lambda before=before: program.status()["pid"] != before)
        program.line("draining")
        (first,) = children(program.process.pid)
        os.kill(first, signal.SIGTERM)
        assert program.process.wait(30) == 0
        assert refuses(url)


def test_upgrades_within_one_drain_never_leave_a_lane_without_a_worker(
    tmp_path: Path, hanging: Hanging
) -> None:
    text = hanging.routed(HELLO, "50s")
    with Program(write(tmp_path, text), "--workers", "2") as program:
        url = program.url()
        # Eight places: the fourth new program finds none, if two of each are kept.
        for _ in range(4):
            hanging.ask(url, 8)
            with suppress(SystemExit):
                taken_over(program)
            assert sorted(program.workers()) == [0, 1]
            assert Counter(get(url) for _ in range(12)) == {(200, b"hello"): 12}


def test_hundreds_of_listeners(tmp_path: Path) -> None:
    def text(count: int) -> str:
        more = "".join(f'l{i}: {{bind: "127.0.0.1:0"}}, ' for i in range(count))
        return HELLO.replace("listeners: {", "listeners: {" + more)

    file = write(tmp_path, text(260))
    with Program(file, "--workers", "2") as program:
        url = program.url()
        file.write_text(text(261))
        program.order("/reload")
        urls = program.status()["listeners"]
        assert len(urls) == 262
        assert get(urls["l260"]) == (200, b"hello")
        taken_over(program)
        assert program.process.wait(30) == 0
        assert program.status()["listeners"] == urls
        assert {get(each) for each in (url, urls["l0"], urls["l260"])} == {(200, b"hello")}


def test_readiness_stays_and_a_listener_of_both_programs_can_be_closed(
    tmp_path: Path, hanging: Hanging
) -> None:
    file = write(tmp_path, hanging.routed(TWO, "40s"))
    with Program(file, "--workers", "2") as program:
        url, two = program.url(), program.url("two")
        admin = program.line(r"listening (\S+) \(admin\)")[1]
        over = threading.Event()
        answers: Counter[int | str] = Counter()

        def ask() -> None:
            while not over.is_set():
                try:
                    answers[get(admin + "/readyz")[0]] += 1
                except OSError as error:
                    answers[repr(error)] += 1

        asking = [threading.Thread(target=ask) for _ in range(3)]
        hanging.ask(url, 4)
        for each in asking:
            each.start()
        taken_over(program)
        time.sleep(0.2)
        over.set()
        for each in asking:
            each.join()
        assert answers.keys() == {200}
        program.order("/drain", listener="two")
        # The old one's workers close it as they begin to drain.
        program.until(lambda: all(refuses(two) for _ in range(20)))
        program.order("/reload")
        assert get(program.status()["listeners"]["two"]) == (200, b"hello")
        assert program.process.poll() is None


def test_who_connected_to_the_old_program_is_answered_by_it(tmp_path: Path) -> None:
    with Program(write(tmp_path, HELLO), "--workers", "1") as program:
        program.url()
        old = program.workers()[0]
        at = program.line(r"http://(\S+):(\d+) \(admin\)")
        with socket.create_connection((at[1], int(at[2])), 10) as early:
            pid = taken_over(program)
            program.until(lambda: not alive(old))
            early.sendall(b"GET /readyz HTTP/1.1\r\nhost: localhost\r\n\r\n")
            answer = early.recv(4096)
            assert answer.startswith(b"HTTP/1.1 200 ")
            assert b"connection: close" in answer.lower()
        program.process.wait(10)
        assert program.status()["pid"] == pid
        os.kill(pid, signal.SIGTERM)
        program.until(lambda: not alive(pid))


def test_the_only_worker_is_replaced_while_a_new_program_starts(tmp_path: Path) -> None:
    began, gate = tmp_path / "began", tmp_path / "gate"
    gate.touch()
    slow = f"""
import os, time
if "MESHCORE_PREDECESSOR" in os.environ:
    open({str(began)!r}, "w").close()
    while os.path.exists({str(gate)!r}):
        time.sleep(0.01)
"""
    given = customized(tmp_path, slow)
    with Program(write(tmp_path, HELLO), "--workers", "1", **given) as program:
        url, victim = program.url(), program.workers()[0]
        program.process.send_signal(signal.SIGUSR2)
        program.until(began.exists)
        os.kill(victim, signal.SIGKILL)
        assert get(url) == (200, b"hello")
        assert program.status()["pid"] == program.process.pid, "the new one is not there yet"
        gate.unlink()
        assert program.process.wait(30) == 0
        assert get(url) == (200, b"hello")


@pytest.mark.skipif(sys.platform != "linux", reason="looks into /proc")
def test_what_the_new_program_does_not_need_it_closes(tmp_path: Path) -> None:
    port = free_port()
    file = write(
        tmp_path, HELLO.replace('admin: {bind: "127.0.0.1:0"', f'admin: {{bind: "127.0.0.1:{port}"')
    )
    with Program(file, "--workers", "1") as program:
        url = program.url()
        assert get(f"http://127.0.0.1:{port}/healthz")[0] == 200
        file.write_text(HELLO + "segment_max: 128MiB\n")
        pid = taken_over(program)
        assert program.process.wait(30) == 0
        assert refuses(f"http://127.0.0.1:{port}")
        links = [os.readlink(entry) for entry in Path(f"/proc/{pid}/fd").iterdir()]
        assert sum(link.startswith("/memfd:meshcore") for link in links) == 1
        assert get(url) == (200, b"hello")
        assert alive(pid)
