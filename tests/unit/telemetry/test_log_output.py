"""A log's file may be moved, removed or full; lines stay whole, and what is lost is counted."""

from __future__ import annotations

import logging
import os
import resource
import stat
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from meshcore.telemetry.access_log import AccessLog
from meshcore.telemetry.log_output import LogFile


class Clock:
    """Seconds that pass when a test says so."""

    def __init__(self) -> None:
        self.now = 1000.0

    def __call__(self) -> float:
        return self.now


def test_a_file_is_appended_to_and_read_by_its_group(tmp_path: Path) -> None:
    file = tmp_path / "access.log"
    before = os.umask(0)
    try:
        log = LogFile(str(file))
        assert log.write(b"one\n") == 0
    finally:
        os.umask(before)
    log.close()
    again = LogFile(str(file))
    assert again.write(b"two\n") == 0
    again.close()
    assert file.read_text() == "one\ntwo\n"
    assert stat.S_IMODE(file.stat().st_mode) == 0o640


@pytest.mark.parametrize("away", [lambda file: file.rename(f"{file}.1"), Path.unlink])
def test_a_file_that_is_gone_is_made_anew_within_a_second(tmp_path: Path, away: object) -> None:
    file, clock = tmp_path / "access.log", Clock()
    log = LogFile(str(file), clock)
    log.write(b"one\n")
    away(file)  # type: ignore[operator]
    clock.now += 0.9
    assert log.write(b"two\n") == 0  # it is looked at once a second at most
    assert not file.exists()
    clock.now += 0.2
    assert log.write(b"three\n") == 0
    log.close()
    assert file.read_text() == "three\n"


def test_a_file_is_opened_anew_when_it_is_told_so(tmp_path: Path) -> None:
    file, clock = tmp_path / "access.log", Clock()
    log = LogFile(str(file), clock)
    log.write(b"one\n")
    file.rename(tmp_path / "access.log.1")
    log.reopen()
    log.look()
    assert file.read_text() == ""
    log.write(b"two\n")
    log.close()
    assert (file.read_text(), (tmp_path / "access.log.1").read_text()) == ("two\n", "one\n")


def test_no_line_is_lost_while_a_new_file_cannot_be_made(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    folder, clock = tmp_path / "logs", Clock()
    folder.mkdir()
    log = LogFile(str(folder / "access.log"), clock)
    log.write(b"one\n")
    folder.rename(tmp_path / "old")
    with caplog.at_level(logging.INFO, "meshcore.access_log"):
        for line in (b"two\n", b"three\n"):
            clock.now += 1.1
            assert log.write(line) == 0
        folder.mkdir()
        clock.now += 1.1
        assert log.write(b"four\n") == 0
    log.close()
    assert (tmp_path / "old" / "access.log").read_text() == "one\ntwo\nthree\n"
    assert (folder / "access.log").read_text() == "four\n"
    told = [record.message for record in caplog.records if record.levelno == logging.ERROR]
    assert told == [
        f"cannot write the access log to {folder / 'access.log'}: No such file or directory"
    ]


def test_a_full_disk_costs_lines_and_says_so(caplog: pytest.LogCaptureFixture) -> None:
    lost: list[int] = []
    log = AccessLog("text", LogFile("/dev/full"), count=lambda _, n: lost.append(n))
    for _ in range(3):
        log.record("one\n")
    log.close()
    assert (log.dropped, sum(lost)) == (3, 3)
    assert [record.message for record in caplog.records] == [
        "cannot write the access log to /dev/full: No space left on device"
    ]


@contextmanager
def largest_file(size: int) -> Iterator[None]:
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))


def test_a_line_that_was_torn_spoils_no_other(tmp_path: Path) -> None:
    file = tmp_path / "access.log"
    log = LogFile(str(file))
    with largest_file(10):
        lost = [log.write(b"line 1\nline 2\nline 3\n"), log.write(b"line 4\n")]
    assert lost == [2, 1]
    assert log.write(b"line 5\n") == 0
    assert log.write(b"line 6\n") == 0
    log.close()
    assert file.read_text() == "line 1\nlin\nline 5\nline 6\n"


def test_a_pipe_that_nobody_reads_is_not_waited_for(tmp_path: Path) -> None:
    pipe = tmp_path / "pipe"
    os.mkfifo(pipe)
    clock = Clock()
    log = LogFile(str(pipe), clock)
    assert log.write(b"one\n") == 1
    reader = os.open(pipe, os.O_RDONLY | os.O_NONBLOCK)
    clock.now += 1.1
    assert log.write(b"two\n") == 0
    assert os.read(reader, 100) == b"two\n"
    os.close(reader)
    assert log.write(b"three\n") == 1
    log.close()
