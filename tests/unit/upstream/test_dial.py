"""A bound on connecting counts the time in which the loop ran, and always ends."""

from __future__ import annotations

import asyncio
import time

import pytest
import uvloop

from meshcore.upstream import dial
from meshcore.upstream.dial import patience

LOOPS = {"uvloop": uvloop.new_event_loop, "asyncio": asyncio.new_event_loop}


@pytest.fixture(params=list(LOOPS))
def runner(request: pytest.FixtureRequest) -> asyncio.Runner:
    return asyncio.Runner(loop_factory=LOOPS[request.param])


def test_what_a_loop_that_stood_still_did_not_read_is_read_first(runner: asyncio.Runner) -> None:
    """The stall begins before the last part ends, and what is awaited comes within it."""

    async def go() -> None:
        loop = asyncio.get_running_loop()
        async with patience(loop, 0.4):
            loop.call_later(0.38, time.sleep, 0.3)
            await asyncio.sleep(0.43)

    with runner:
        runner.run(go())


def test_a_bound_ends_in_time(runner: asyncio.Runner) -> None:
    async def go() -> None:
        loop = asyncio.get_running_loop()
        began = loop.time()
        with pytest.raises(TimeoutError):
            async with patience(loop, 0.1):
                await asyncio.Event().wait()
        assert loop.time() - began > 0.09  # uvloop counts in milliseconds
        async with patience(loop, 0):
            await asyncio.sleep(0.01)
        async with patience(loop, 0.01):
            pass
        await asyncio.sleep(0.05)  # what bounded it is over

    with runner:
        runner.run(go())


def test_a_loop_that_is_always_late_ends_too(
    runner: asyncio.Runner, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(dial, "LATE_S", 0.001)

    async def go() -> None:
        loop = asyncio.get_running_loop()

        async def drag() -> None:
            while True:
                time.sleep(0.01)  # noqa: ASYNC251 - it is what is tested
                await asyncio.sleep(0)

        dragging = asyncio.create_task(drag())
        with pytest.raises(TimeoutError):
            async with patience(loop, 0.02):
                await asyncio.Event().wait()
        dragging.cancel()

    with runner:
        runner.run(go())
