"""The access log of a program in a file: rotated under load no line is lost, and none is torn."""

from __future__ import annotations

import http.client
import json
import os
import signal
import stat
import subprocess
import sys
import threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from tests.process.program import Program
from tests.process.test_workers import HELLO, get, write

CLIENTS, ROTATIONS = 4, 8


def ask(url: str, name: int, over: threading.Event) -> list[str]:
    """Request one target after the other, on a connection for every ten; which they were."""
    host = url.removeprefix("http://")
    asked: list[str] = []
    while not over.is_set():
        connection = http.client.HTTPConnection(host, timeout=30)
        for _ in range(10):
            asked.append(f"/{name}/{len(asked)}")
            connection.request("GET", asked[-1])
            assert connection.getresponse().read() == b"hello"
        connection.close()
    return asked


def test_a_file_that_is_rotated_under_load_loses_and_tears_no_line(tmp_path: Path) -> None:
    log, over = tmp_path / "access.log", threading.Event()
    file = write(tmp_path, HELLO + "access_log: {format: json, to: access.log}\n")
    with Program(file, "--workers", "2") as program, ThreadPoolExecutor(CLIENTS) as pool:
        url = program.url()
        asking = [pool.submit(ask, url, name, over) for name in range(CLIENTS)]
        try:
            for number in range(ROTATIONS):
                program.until(lambda: log.exists() and log.stat().st_size > 0)
                log.rename(tmp_path / f"access.log.{number}")
                if number % 2:  # else it is seen
                    program.process.send_signal(signal.SIGUSR1)
        finally:
            over.set()
        wanted = [target for each in asking for target in each.result()]
        assert program.stop() == 0
    rotated = sorted(tmp_path.glob("access.log*"))
    lines = [json.loads(line) for each in rotated for line in each.read_text().splitlines()]
    assert sorted(line["target"] for line in lines) == sorted(wanted)
    assert len(rotated) >= ROTATIONS
    assert {stat.S_IMODE(each.stat().st_mode) & 0o137 for each in rotated} == {0}


def test_a_signal_opens_the_file_of_every_worker_anew_without_a_request(tmp_path: Path) -> None:
    log, old = tmp_path / "access.log", tmp_path / "old.log"
    file = write(tmp_path, HELLO + "access_log: {to: access.log}\n")
    with Program(file, "--workers", "2") as program:
        program.url()

        def opened(path: Path) -> int:
            links = [
                os.readlink(entry)
                for pid in program.workers().values()
                for entry in Path(f"/proc/{pid}/fd").iterdir()
                if entry.is_symlink()
            ]
            return links.count(str(path))

        program.until(lambda: opened(log) == 2)
        log.rename(old)
        assert opened(old) == 2
        program.process.send_signal(signal.SIGUSR1)
        program.until(lambda: opened(log) == 2)
        assert opened(old) == 0
        # What is meant for the program does the workers no harm.
        before = program.workers()
        os.killpg(program.process.pid, signal.SIGUSR1)
        program.until(lambda: opened(log) == 2)
        assert program.workers() == before
        assert program.stop() == 0


def test_a_worker_that_is_replaced_appends_to_the_file(tmp_path: Path) -> None:
    log = tmp_path / "access.log"
    file = write(tmp_path, HELLO + "access_log: {format: json, to: access.log}\n")
    with Program(file, "--workers", "1") as program:
        url = program.url()
        assert get(url + "/one") == (200, b"hello")
        program.until(lambda: log.read_text())
        (victim,) = program.workers().values()
        os.kill(victim, signal.SIGKILL)
        program.until(lambda: [pid for pid in program.workers().values() if pid != victim])
        assert get(url + "/two") == (200, b"hello")
        assert program.stop() == 0
    targets = [json.loads(line)["target"] for line in log.read_text().splitlines()]
    assert targets == ["/one", "/two"]


def test_a_folder_that_is_not_there_is_told_before_anything_is_in_force(tmp_path: Path) -> None:
    file = write(tmp_path, HELLO)
    with Program(file, "--workers", "1") as program:
        url = program.url()
        file.write_text(HELLO + "access_log: {to: logs/access.log}\n")
        with pytest.raises(SystemExit) as ended:
            program.order("/reload")
        assert ended.value.code == 2
        wrong = f"cannot append to {tmp_path}/logs/access.log: there is no folder {tmp_path}/logs"
        program.line(f"reload refused.*access_log.to: {wrong}")
        assert get(url) == (200, b"hello")
        (tmp_path / "logs").mkdir()
        program.order("/reload")
        assert get(url) == (200, b"hello")
        program.until((tmp_path / "logs" / "access.log").exists)
    (tmp_path / "logs" / "access.log").unlink()
    (tmp_path / "logs").rmdir()
    for command in ("run", "check"):
        done = subprocess.run(
            [sys.executable, "-m", "meshcore", command, str(file)],
            capture_output=True,
            text=True,
            timeout=60,
            check=False,
        )
        assert (done.returncode, wrong in done.stderr) == (2, True), done.stderr
