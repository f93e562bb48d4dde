"""A proxy in the test's own loop, on both loops, that must hold nothing when a test ends."""

from __future__ import annotations

import asyncio
import textwrap
from collections.abc import AsyncIterator, Callable, Coroutine
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from typing import Any

import pytest
import uvloop

from meshcore.config.load import load_text
from meshcore.process.proxy import Proxy

Run = Callable[[Coroutine[Any, Any, None]], None]
Serve = Callable[[str], AbstractAsyncContextManager[Proxy]]

LOOPS = {"uvloop": uvloop.new_event_loop, "asyncio": asyncio.new_event_loop}


@pytest.fixture(params=list(LOOPS))
def run(request: pytest.FixtureRequest) -> Run:
    """Runs a coroutine on one of the loops."""

    def runner(work: Coroutine[Any, Any, None]) -> None:
        with asyncio.Runner(loop_factory=LOOPS[request.param]) as loop:
            loop.run(work)

    return runner


def gauges(proxy: Proxy) -> dict[str, int]:
    """Gauges of what is held for requests, without those that are 0."""
    names = (
        "meshcore_upstream_requests",
        "meshcore_upstream_retries",
        "meshcore_endpoint_requests",
    )
    lines = proxy.metrics()[0].decode().splitlines()
    values = (line.rsplit(" ", 1) for line in lines if line.startswith(names))
    return {name: int(value) for name, value in values if value != "0"}


@pytest.fixture
def serve() -> Serve:
    """A proxy for a YAML text; on leaving, nothing may be in flight."""

    @asynccontextmanager
    async def serving(text: str) -> AsyncIterator[Proxy]:
        proxy = Proxy(load_text(textwrap.dedent(text)))
        await proxy.start()
        try:
            yield proxy
        finally:
            await proxy.stop()
        assert gauges(proxy) == {}
        assert proxy.connections == 0

    return serving
