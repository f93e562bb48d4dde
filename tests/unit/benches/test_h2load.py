"""What h2load prints is a figure only when every request was answered well."""

from __future__ import annotations

import pytest
from benches.load.h2load import Ended, parse_h2load, parse_log, parse_rate

GOOD = """Main benchmark duration is over for thread #0. Stopping all clients.
Stopped all clients for thread #0

finished in 1.00s, 138576.00 req/s, 14.41MB/s
requests: 138576 total, 138704 started, 138576 done, 138576 succeeded, 0 failed, 0 errored, 0 timeout
status codes: 138576 2xx, 0 3xx, 0 4xx, 0 5xx
traffic: 14.41MB (15106200) total, 1.59MB (1663896) headers (space savings 94.00%), 9.12MB (9561744) data
                     min         max         mean         sd        +/- sd
time for request:      243us      3.69ms       618us       201us    73.45%
"""  # noqa: E501 (as printed)


def test_the_closing_lines_are_read_and_streams_under_way_at_the_end_are_no_failure() -> None:
    assert parse_h2load(GOOD) == Ended(138576, 138576.0, 9561744)


@pytest.mark.parametrize("millis", ["413.88ms", "900us"])
def test_a_short_run_has_another_unit(millis: str) -> None:
    assert parse_h2load(GOOD.replace("1.00s", millis)).per_second == 138576.0


@pytest.mark.parametrize(
    "bad",
    [
        GOOD.replace("0 failed", "1 failed"),
        GOOD.replace("0 errored", "1 errored"),
        GOOD.replace("0 timeout", "1 timeout"),
        GOOD.replace("138576 succeeded", "138575 succeeded"),
        GOOD.replace("0 3xx", "1 3xx"),
        GOOD.replace("0 4xx", "1 4xx"),
        GOOD.replace("0 5xx", "1 5xx"),
    ],
)
def test_a_run_in_which_a_request_failed_is_no_figure(bad: str) -> None:
    with pytest.raises(ValueError, match="requests failed"):
        parse_h2load(bad)


@pytest.mark.parametrize("line", ["finished", "requests", "status codes", "traffic"])
def test_a_run_that_did_not_end_is_no_figure(line: str) -> None:
    kept = [each for each in GOOD.splitlines(keepends=True) if not each.startswith(line)]
    with pytest.raises(ValueError, match="no closing lines"):
        parse_h2load("".join(kept))


def test_a_run_without_requests_is_no_figure() -> None:
    with pytest.raises(ValueError, match="no requests"):
        parse_h2load(GOOD.replace("138576", "0"))


def test_latency_is_read_from_the_log() -> None:
    log = "".join(f"1\t200\t{us}\n" for us in range(1000, 2000))
    assert parse_log(log) == (1.5, 1.99)
    assert parse_rate(log, 1000) == (1.5, 1.99)


def test_a_rate_that_was_not_kept_is_no_figure() -> None:
    with pytest.raises(ValueError, match="not kept"):
        parse_rate("1\t200\t5\n" * 89, 100)


@pytest.mark.parametrize("log", ["1\t-1\t5\n" * 100, "1\t503\t5\n", ""])
def test_a_log_with_a_failure_or_without_requests_is_no_figure(log: str) -> None:
    with pytest.raises(ValueError, match="failed"):
        parse_log(log)
