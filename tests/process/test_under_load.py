"""Whatever is done to the program, nobody who asks it sees any of it.

`make soak` does it for longer and with more: 2,000 requests a second, 100 reloads, 20 kills, two
upgrades.
"""

from __future__ import annotations

import json
import os
import time
from pathlib import Path
from typing import NamedTuple

import pytest

from tests.process.load_book import Book
from tests.process.loaded import BURST, Loaded, finished, helper, line_of, load_of
from tests.process.program import Program


class Plan(NamedTuple):
    """How much is done."""

    per_second: int
    stream_s: float
    reloads: int
    kills: int
    upgrades: int


PLAN = Plan(1000, 4.0, 30, 5, 1)
if os.environ.get("MESHCORE_SOAK"):
    PLAN = Plan(2000, 10.0, 100, 20, 2)


@pytest.mark.alone
@pytest.mark.timeout(600)
def test_nothing_fails_under_a_steady_load(tmp_path: Path) -> None:
    with helper("load_origin") as origin:
        loaded = Loaded(tmp_path, json.loads(line_of(origin)))
        with Program(loaded.file) as program:
            loaded.start(program)
            load = load_of(loaded, PLAN.per_second, PLAN.stream_s)
            with helper("load_client", load.as_argument()) as client:
                assert line_of(client) == "begun"
                began = time.monotonic()
                happen(loaded)
                took_s = time.monotonic() - began
                book = finished(client)
            judge(loaded, book, took_s)


def happen(loaded: Loaded) -> None:
    """One thing after the other, while the load goes on."""
    loaded.spend(20)
    for _ in range(PLAN.reloads // 2):
        loaded.reload()
    for workers in (4, 2):
        loaded.scale(workers)
    loaded.change_certificate()
    loaded.spend(20)
    for number in range(PLAN.kills):
        loaded.kill(number % 2)
        assert loaded.is_open()
    loaded.spend(20)
    for _ in range(PLAN.reloads - PLAN.reloads // 2):
        loaded.reload()
    for _ in range(PLAN.upgrades):
        loaded.upgrade()
        loaded.reload()
    loaded.spend(20)
    assert loaded.is_open()


def judge(loaded: Loaded, book: Book, took_s: float) -> None:
    """What the load saw."""
    print(
        f"{took_s:.0f} s: {dict(book.asked)} asked, {len(book.failures)} failed, "
        f"{len(loaded.kills)} workers killed, connections left: {dict(book.closed)}, "
        f"longest {book.longest_s * 1e3:.0f} ms"
    )
    kills = [(round(kill.at_s, 3), sorted(kill.ports)) for kill in loaded.kills]
    assert loaded.unexplained(book) == [], f"kills: {kills}"
    assert book.asked["http1"] + book.asked["http2"] >= 0.9 * PLAN.per_second * took_s
    assert book.done["grpc"] > 0
    assert book.closed["connection: close"] > 0
    assert book.closed["GOAWAY"] > 0
    minutes = int((time.monotonic() - loaded.began_s) // 60)
    assert BURST <= loaded.admitted <= BURST + minutes + 1
