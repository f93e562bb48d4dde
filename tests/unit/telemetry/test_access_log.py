"""Lines are whole, cannot be forged, and never hold anybody up."""

from __future__ import annotations

import io
import json
import threading
from typing import Any

import pytest

from meshcore.telemetry import access_log
from meshcore.telemetry.access_log import AccessLog
from meshcore.telemetry.counts import ProgramCount
from meshcore.telemetry.log_output import LogStream

LINE = '{"route":"api","status":503}\n'


class Slow(io.StringIO):
    """A stream that takes nothing until it is let go."""

    def __init__(self) -> None:
        super().__init__()
        self.open = threading.Event()

    def write(self, text: str) -> int:
        self.open.wait()
        return super().write(text)


def test_a_slow_stream_drops_lines_and_says_how_many(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(access_log, "MAX_WAITING", 3)
    stream, counted = Slow(), []
    log = AccessLog("json", LogStream(stream), count=lambda place, n: counted.append((place, n)))
    for _ in range(10):
        log.record(LINE)
    dropped = log.dropped
    assert 4 <= dropped <= 7  # the thread may hold some in its hands
    stream.open.set()
    log.close()
    lines = [json.loads(line) for line in stream.getvalue().splitlines()]
    assert len([x for x in lines if "status" in x]) == 10 - dropped
    assert [x["dropped"] for x in lines if "dropped" in x] == [dropped]
    assert counted == [(ProgramCount.LOG_LINES_DROPPED, dropped)]


def test_a_closed_stream_costs_lines_only() -> None:
    stream = io.StringIO()
    log = AccessLog("text", LogStream(stream))
    stream.close()
    log.record(LINE)
    log.close()
    assert log.dropped == 1


class Recording(io.RawIOBase):
    """What reaches the system, write by write."""

    def __init__(self) -> None:
        super().__init__()
        self.open = threading.Event()
        self.writes: list[bytes] = []

    def writable(self) -> bool:
        return True

    def write(self, data: Any) -> int:
        self.open.wait()
        self.writes.append(bytes(data))
        return len(data)


def test_lines_of_processes_that_share_a_pipe_are_not_mixed() -> None:
    raw = Recording()
    with io.TextIOWrapper(io.BufferedWriter(raw), encoding="utf-8") as stream:
        log = AccessLog("json", LogStream(stream))
        for number in range(500):
            log.record(json.dumps({"target": "/é" * (number % 7)}, ensure_ascii=False) + "\n")
        raw.open.set()
        log.close()
    assert b"".join(raw.writes).count(b"\n") == 500
    # POSIX: a write of at most PIPE_BUF bytes to a pipe is atomic.
    assert all(len(each) <= 4096 and each.endswith(b"\n") for each in raw.writes)


def test_another_log_begins_where_the_one_before_ends() -> None:
    stream = Slow()
    first = AccessLog("json", LogStream(stream))
    first.record(LINE)
    second = AccessLog("text", LogStream(stream), before=first)
    second.record("edge\n")
    closing = [threading.Thread(target=log.close) for log in (second, first)]
    for each in closing:
        each.start()
    stream.open.set()
    for each in closing:
        each.join()
    assert stream.getvalue() == LINE + "edge\n"
