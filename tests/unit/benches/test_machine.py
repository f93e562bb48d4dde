"""The load benchmark refuses a run in which something failed."""

from __future__ import annotations

import pytest
from benches.load.machine import Load, parse_h2load, parse_wrk

GOOD = """Running 2s test @ http://127.0.0.1:1/
  1 threads and 64 connections
  Latency Distribution
     50%  512.00us
     75%    1.10ms
     90%    1.30ms
     99%    1.20s
  4000 requests in 2.00s, 1.00MB read
Requests/sec:   2000.50
Transfer/sec:      0.50MB
"""


def test_wrk_is_read_with_its_units() -> None:
    assert parse_wrk(GOOD) == Load(4000, 2000.5, 0.512, 1200.0)


@pytest.mark.parametrize(
    "bad",
    [
        GOOD + "  Non-2xx or 3xx responses: 1\n",
        GOOD + "  Socket errors: connect 0, read 1, write 0, timeout 0\n",
        GOOD.replace("4000 requests", "0 requests"),
        GOOD.replace("99%", "98%"),
        "",
    ],
)
def test_a_run_that_failed_is_no_figure(bad: str) -> None:
    with pytest.raises(ValueError, match=r"in:|failed"):
        parse_wrk(bad)


def test_h2load_is_read_by_its_log() -> None:
    log = "".join(f"1\t200\t{us}\n" for us in range(1000, 2000))
    assert parse_h2load(log, 1000) == (1.5, 1.99)


def test_a_rate_that_was_not_kept_is_no_figure() -> None:
    with pytest.raises(ValueError, match="not kept"):
        parse_h2load("1\t200\t5\n" * 89, 100)
    with pytest.raises(ValueError, match="failed"):
        parse_h2load("1\t-1\t5\n" * 100, 100)
