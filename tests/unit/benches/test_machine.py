"""The load benchmark refuses a run in which something failed."""

from __future__ import annotations

import pytest
from benches.load.machine import Load, parse_ab, parse_wrk

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


AB = """Concurrency Level:      64
Time taken for tests:   2.009 seconds
Complete requests:      2092
Failed requests:        0
Requests per second:    1041.40 [#/sec] (mean)
Time per request:       61.456 [ms] (mean)

Percentage of the requests served within a certain time (ms)
  50%     60
  99%     96
 100%     96 (longest request)
"""


def test_ab_is_read() -> None:
    assert parse_ab(AB) == Load(2092, 1041.4, 60.0, 96.0)


@pytest.mark.parametrize(
    "bad",
    [
        AB.replace("Failed requests:        0", "Failed requests:        1"),
        AB + "Non-2xx responses:      1\n",
        AB.replace("requests:      2092", "requests:      0"),
        AB.replace("50%", "51%"),
        "",
    ],
)
def test_a_run_of_ab_that_failed_is_no_figure(bad: str) -> None:
    with pytest.raises(ValueError, match=r"in:|failed"):
        parse_ab(bad)
