"""What is counted as a connection: one that a request may have."""

from __future__ import annotations

import asyncio
from types import SimpleNamespace
from typing import Any

from meshcore._core import Engine, Inbox, Outbox
from meshcore.telemetry.counts import UpstreamCount
from meshcore.upstream.connector import Connector


async def test_one_that_is_made_in_a_way_that_is_past_is_closed_and_not_counted() -> None:
    loop = asyncio.get_running_loop()
    connector = Connector(loop, Engine(seed=1), Outbox(loop.call_soon, Inbox(loop)), lambda: 9)
    counted: list[UpstreamCount] = []
    counts: Any = SimpleNamespace(add=lambda place, _: counted.append(place))
    connector.counts = counts
    closed: list[bool] = []
    connection: Any = SimpleNamespace(born_ns=1, close=lambda: closed.append(True))
    pool: Any = SimpleNamespace(renewed_ns=2, lacks=False)
    connector._ready(pool, connection)
    assert (closed, counted) == ([True], [])
