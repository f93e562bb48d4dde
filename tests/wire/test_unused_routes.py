"""What was never used takes no part of a scrape."""

from __future__ import annotations

import json

from meshcore import Proxy
from meshcore.config.load import load_text
from tests.wire.client import Client
from tests.wire.conftest import Run, metric

ROUTES = 10_000


def text(routes: int) -> str:
    """A route for each path."""
    paths = range(routes)
    return json.dumps(
        {
            "version": 1,
            "listeners": {"edge": {"bind": "127.0.0.1:0"}},
            "routes": [
                {"name": f"route-{n}", "match": {"path": {"exact": f"/{n}"}}, "respond": {}}
                for n in paths
            ],
        }
    )


def test_a_route_tells_of_itself_once_it_was_used(run: Run) -> None:
    async def go() -> None:
        async with Proxy(load_text(text(3))) as proxy:
            assert "meshcore_route_" not in proxy.metrics()[0].decode()
            async with Client(proxy.addresses["edge"]) as client:
                await client.get("/1")
            told = proxy.metrics()[0].decode()
            assert metric(proxy, "meshcore_route_responses_total", route="route-1") == 1
            assert 'meshcore_route_responses_total{route="route-1",class="5xx"} 0' in told, (
                "all of its series are there: a first failure is seen as one"
            )
            assert "route-0" not in told
            assert "route-2" not in told

    run(go())


def test_ten_thousand_idle_routes_are_no_part_of_a_scrape(run: Run) -> None:
    async def go() -> None:
        async with Proxy(load_text(text(ROUTES))) as proxy:
            assert len(proxy.metrics()[0]) < 1_000_000

    run(go())
