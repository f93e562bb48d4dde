"""h2load: its closed loop over HTTP/2, and HTTP/1.1 at a fixed rate."""

from __future__ import annotations

import re
import subprocess
import tempfile
from typing import NamedTuple

from benches.load.machine import LOAD_CORE, Load
from benches.load.scenarios import Streams

# A stream that stands still would hold the run for ever.
PATIENCE_S = 120


class Ended(NamedTuple):
    """The figures of h2load's closing lines."""

    requests: int
    per_second: float
    data_bytes: int


def parse_h2load(text: str) -> Ended:
    """The closing lines of h2load; `ValueError` when a request failed, or there was none.

    At the end of a run by time the streams under way are stopped; h2load counts them nowhere.
    """
    finished = re.search(r"^finished in \S+, ([\d.]+) req/s", text, re.MULTILINE)
    counts = re.search(
        r"^requests: (\d+) total, \d+ started, \d+ done, (\d+) succeeded, "
        r"(\d+) failed, (\d+) errored, (\d+) timeout",
        text,
        re.MULTILINE,
    )
    codes = re.search(r"^status codes: \d+ 2xx, (\d+) 3xx, (\d+) 4xx, (\d+) 5xx", text, re.M)
    traffic = re.search(r"^traffic: .*\((\d+)\) data$", text, re.MULTILINE)
    if finished is None or counts is None or codes is None or traffic is None:
        raise ValueError(f"no closing lines in:\n{text}")
    total, succeeded, *failures = map(int, (*counts.groups(), *codes.groups()))
    if total != succeeded or any(failures):
        raise ValueError(f"requests failed:\n{text}")
    if not succeeded:
        raise ValueError(f"no requests in:\n{text}")
    return Ended(succeeded, float(finished[1]), int(traffic[1]))


def parse_log(text: str) -> tuple[float, float]:
    """p50 and p99, in milliseconds, of an `h2load --log-file`: start, status, microseconds.

    `ValueError` when a request failed, or there was none.
    """
    rows = [line.split() for line in text.splitlines()]
    if not rows or any(row[1] != "200" for row in rows):
        raise ValueError("a request of h2load failed, or there was none")
    times = sorted(int(row[2]) for row in rows)
    return times[len(times) // 2] / 1e3, times[len(times) * 99 // 100] / 1e3


def parse_rate(text: str, planned: int) -> tuple[float, float]:
    """As `parse_log`; `ValueError` also when the proxy did not keep up with nine in ten."""
    latency = parse_log(text)
    asked = text.count("\n")
    if asked < planned * 0.9:
        raise ValueError(f"{asked} of {planned} requests: the rate was not kept")
    return latency


def _h2load(arguments: list[str]) -> tuple[str, str]:
    """What it printed, and its log."""
    with tempfile.NamedTemporaryFile(mode="r") as log:
        command = ["taskset", "-c", str(LOAD_CORE), "h2load", "-t1", "--log-file", log.name]
        ended = subprocess.run(
            [*command, *arguments], capture_output=True, text=True, check=True, timeout=PATIENCE_S
        )
        return ended.stdout, log.read()


def closed_loop(url: str, asked: Streams, seconds: int, folder: str) -> Load:
    """Every stream asks again when it was answered, for some seconds or requests."""
    arguments = [f"-c{asked.connections}", f"-m{asked.each}"]
    arguments += ["-n", str(asked.requests)] if asked.requests else ["-D", str(seconds)]
    arguments += ["-d", f"{folder}/{asked.body}"] if asked.body else []
    if asked.grpc:
        arguments += ["-H", "content-type: application/grpc", "-H", "te: trailers"]
    text, log = _h2load([*arguments, url])
    ended = parse_h2load(text)
    if asked.data_bytes and ended.data_bytes != ended.requests * asked.data_bytes:
        raise ValueError(f"a body was cut short:\n{text}")
    return Load(ended.requests, ended.per_second, *parse_log(log))


def fixed_rate(url: str, per_second: int, seconds: int) -> tuple[float, float]:
    """p50 and p99, in milliseconds, at a rate that every proxy can serve; 16 connections."""
    each = per_second // 16
    _, log = _h2load(["--h1", "-c16", "--rps", str(each), "-D", str(seconds), url])
    return parse_rate(log, each * 16 * seconds)
