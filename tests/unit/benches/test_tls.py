"""A handshake that failed is counted, wherever h2load counts it."""

from __future__ import annotations

import pytest
from benches.load.tls import Handshakes, parse

from tests.unit.benches.test_h2load import GOOD


def test_all_that_were_answered_are_done() -> None:
    assert parse(GOOD) == Handshakes(138576, 0, 1.0)
    assert parse(GOOD.replace("1.00s", "500.00ms")).per_second == 277152.0


@pytest.mark.parametrize(
    ("change", "failed"),
    [
        (("138576 total", "138600 total"), 24),
        (("138576 succeeded", "138570 succeeded"), 6),
        (("138576 2xx, 0 3xx, 0 4xx, 0 5xx", "138500 2xx, 0 3xx, 0 4xx, 76 5xx"), 76),
    ],
)
def test_what_did_not_come_up_or_was_answered_otherwise_failed(
    change: tuple[str, str], failed: int
) -> None:
    found = parse(GOOD.replace(*change))
    assert (found.failed, found.done + found.failed) == (failed, max(138576, found.done + failed))


def test_a_run_that_did_not_end_is_no_figure() -> None:
    with pytest.raises(ValueError, match="no closing lines"):
        parse(GOOD.replace("finished", ""))
