"""Lines are whole, cannot be forged, and never hold anybody up."""

from __future__ import annotations

import io
import json
import threading
from typing import Any

import pytest

from meshcore.telemetry import access_log
from meshcore.telemetry.access_log import AccessLog, Entry

ENTRY = Entry(
    ended_s=1_700_000_000.25,
    listener="edge",
    client="192.0.2.1",
    method="GET",
    host="a.test",
    target='/x?y="1\n2"',
    protocol="1.1",
    status=503,
    reason="breaker_open",
    route="api",
    attempts=1,
    duration_ms=1.23456,
    request_id="id\r\nforged",
)


class Slow(io.StringIO):
    """A stream that takes nothing until it is let go."""

    def __init__(self) -> None:
        super().__init__()
        self.open = threading.Event()

    def write(self, text: str) -> int:
        self.open.wait()
        return super().write(text)


def test_json_is_one_object_a_line() -> None:
    stream = io.StringIO()
    log = AccessLog("json", stream)
    log.record(ENTRY)
    log.record(ENTRY)
    log.close()
    one, two = stream.getvalue().splitlines()
    assert one == two
    fields = json.loads(one)
    assert fields["time"] == "2023-11-14T22:13:20.250+00:00"
    assert (fields["status"], fields["reason"], fields["duration_ms"]) == (
        503,
        "breaker_open",
        1.235,
    )
    assert fields["target"] == ENTRY.target


def test_text_is_one_line_whatever_the_client_sends() -> None:
    stream = io.StringIO()
    log = AccessLog("text", stream)
    log.record(ENTRY)
    log.close()
    (line,) = stream.getvalue().splitlines()
    assert line == (
        '2023-11-14T22:13:20.250+00:00 edge 192.0.2.1 "GET a.test/x?y=\\"1\\n2\\" HTTP/1.1" 503 '
        'breaker_open api 1 1.235ms "id\\r\\nforged"'
    )


def test_a_slow_stream_drops_lines_and_says_how_many(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(access_log, "MAX_WAITING", 3)
    stream = Slow()
    log = AccessLog("json", stream)
    for _ in range(10):
        log.record(ENTRY)
    dropped = log.dropped
    assert 6 <= dropped <= 7  # the thread may hold one in its hands
    stream.open.set()
    log.close()
    lines = [json.loads(line) for line in stream.getvalue().splitlines()]
    assert len([x for x in lines if "status" in x]) == 10 - dropped
    assert [x["dropped"] for x in lines if "dropped" in x] == [dropped]


def test_a_closed_stream_costs_lines_only() -> None:
    stream = io.StringIO()
    log = AccessLog("text", stream)
    stream.close()
    log.record(ENTRY)
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
        log = AccessLog("json", stream)
        for number in range(500):
            log.record(ENTRY._replace(target="/é" * (number % 7)))
        raw.open.set()
        log.close()
    assert b"".join(raw.writes).count(b"\n") == 500
    # POSIX: a write of at most PIPE_BUF bytes to a pipe is atomic.
    assert all(len(each) <= 4096 and each.endswith(b"\n") for each in raw.writes)


def test_another_log_begins_where_the_one_before_ends() -> None:
    stream = Slow()
    first = AccessLog("json", stream)
    first.record(ENTRY)
    second = AccessLog("text", stream, before=first)
    second.record(ENTRY)
    closing = [threading.Thread(target=log.close) for log in (second, first)]
    for each in closing:
        each.start()
    stream.open.set()
    for each in closing:
        each.join()
    json_line, text_line = stream.getvalue().splitlines()
    assert json.loads(json_line)["route"] == "api"
    assert text_line.startswith("2023-11-14T22:13:20.250+00:00 edge")
