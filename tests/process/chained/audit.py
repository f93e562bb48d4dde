"""What must hold when all is over: nothing is held, every request is in the logs once, and nobody
complains."""

from __future__ import annotations

import json
import re
from collections import defaultdict
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

from tests.process.chained import own
from tests.process.chained.book import Book, Record

GAUGES = ("meshcore_upstream_requests", "meshcore_upstream_retries", "meshcore_endpoint_requests")
# What a client had of requests that may not have reached the proxy.
# An attempt that met a stale connection is repeated on a fresh one, and still is one.
MOST_SENT = 2
MOST_TOLD = 60
LOCAL = (500, 502, 503, 504)
UNSURE = ("left", "behind another's end")
PROBLEM = re.compile(r"warning|foreign|was never|never retrieved|panicked|not an answer", re.I)


class Line(NamedTuple):
    """Of an access log."""

    status: int
    attempts: int


def held(metrics: str) -> dict[str, float]:
    """Gauges that are not 0, and breakers and endpoints that were given no reason to close."""
    found = {}
    for line in metrics.splitlines():
        series, _, value = line.rpartition(" ")
        provoked = 'upstream="steady' not in series
        is_wrong = {
            "meshcore_breaker_state": not provoked and value != "0",
            "meshcore_endpoint_available": not provoked and value != "1",
        }
        name = series.partition("{")[0]
        if (name in GAUGES and value != "0") or is_wrong.get(name):
            found[series] = float(value)
    return found


CHAINED = ("During handling of the above", "The above exception was the direct cause")


def complaints(lines: list[str]) -> Iterator[str]:
    """What a program said that it should not have to say."""
    in_trace, raised = False, ""
    for line in (*lines, "end"):
        if raised and line:
            # Of a chain of exceptions the last one counts: a layer may fail over an answer for one.
            if not line.startswith(CHAINED):
                yield f"traceback: {raised}"
            raised = ""
        if line.startswith("Traceback"):
            in_trace = True
        elif in_trace and line and not line.startswith(" "):
            in_trace = False
            if "MeantError: /" not in line:
                raised = line
        elif PROBLEM.search(line):
            yield line


def lines_of(log: Path, book: Book) -> dict[str, list[Line]]:
    """An access log by request."""
    found: dict[str, list[Line]] = defaultdict(list)
    with log.open() as file:
        for text in file:
            line = json.loads(text)
            if "dropped" in line:
                book.fault(None, f"{log.name}: {line}")
                continue
            name = line["target"].rpartition("/")[2]
            if name not in book.records:
                book.fault(None, f"{log.name}: nobody asked {line}")
            if name in book.suspects and len(book.told) < MOST_TOLD:
                book.told.append(f"{log.name}: {text.rstrip()}")
            found[name].append(Line(line["status"], line["attempts"]))
    return found


def audit(book: Book, logs: tuple[Path, Path]) -> None:
    """Hold what was asked against both logs and what reached the endpoints."""
    of_a, of_b = (lines_of(log, book) for log in logs)
    for name, record in book.records.items():
        _audit_first(book, record, of_a[name])
        _audit_second(book, record, of_a[name], of_b[name])


def _audit_first(book: Book, record: Record, lines: list[Line]) -> None:
    least = 0 if record.outcome in UNSURE else 1
    if not record.outcome:
        book.fault(record.plan, "its end was never judged")
    elif not least <= len(lines) <= 1:
        book.fault(record.plan, f"{record.outcome}: logged {len(lines)} times by the first proxy")
    elif lines and record.status and lines[0].status not in _statuses(record):
        book.fault(record.plan, f"the client saw {record.status}, the log says {lines[0].status}")


def _statuses(record: Record) -> set[int]:
    """What the log may say of what the client saw. Of a tunnel it has the endpoint's status, which
    the other protocol says with another one; of a local answer to a gRPC call the status that one
    over plain HTTP has."""
    if record.plan.kind == "tunnel":
        return {record.status, 101, 200}
    if record.plan.kind == "grpc":
        return {record.status, 0, *LOCAL}
    return {record.status, 0}


def _audit_second(book: Book, record: Record, first: list[Line], lines: list[Line]) -> None:
    plan = record.plan
    most = 1 if plan.is_unsafe else MOST_SENT
    attempts = sum(line.attempts for line in first)
    least = 1 if record.outcome in (own.ANSWER, own.BUSY, own.LAYER + "b") else 0
    if not least <= len(lines) <= attempts * most:
        what = f"{record.outcome}: {len(lines)} lines of the second proxy for {attempts} attempts"
        book.fault(plan, what)
    attempts = sum(line.attempts for line in lines)
    least = 1 if record.outcome in (own.ANSWER, own.BUSY) else 0
    if not least <= record.arrivals <= attempts * most:
        what = f"{record.outcome}: {record.arrivals} arrivals for {attempts} attempts"
        book.fault(plan, what)
