"""Signals that end a program are told to all who asked, and are the program's own again after."""

from __future__ import annotations

import asyncio
import os
import signal

import pytest
import uvloop

from meshcore.process.signals import ENDING, ending

LOOPS = [asyncio.new_event_loop, uvloop.new_event_loop]


@pytest.mark.parametrize("new_loop", LOOPS, ids=["asyncio", "uvloop"])
@pytest.mark.parametrize("number", ENDING)
def test_all_are_told_and_nobody_is_deaf_after(new_loop: object, number: signal.Signals) -> None:
    told = {"first": asyncio.Event(), "second": asyncio.Event()}

    async def go() -> None:
        with ending(told["first"].set):
            with ending(told["second"].set):
                os.kill(os.getpid(), number)
                async with asyncio.timeout(5):
                    await told["first"].wait()
                    await told["second"].wait()
            told["first"].clear()
            os.kill(os.getpid(), number)
            async with asyncio.timeout(5):
                await told["first"].wait()

    before = [signal.getsignal(each) for each in ENDING]
    with asyncio.Runner(loop_factory=new_loop) as runner:  # type: ignore[arg-type]
        runner.run(go())
        runner.run(go())
    assert [signal.getsignal(each) for each in ENDING] == before
