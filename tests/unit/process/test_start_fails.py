"""A start at which no worker can begin."""

from __future__ import annotations

import asyncio
import gc
from types import SimpleNamespace
from typing import Any, cast

import pytest

from meshcore.process import messages
from meshcore.process.fleet import WorkerFailedError
from meshcore.process.supervisor import Supervisor


def test_its_error_is_told_once_whoever_hears_of_it_first() -> None:
    """The workers' end ends the program in the same turn as the start that waits for them."""
    told: list[dict[str, Any]] = []

    async def go() -> None:
        asyncio.get_running_loop().set_exception_handler(lambda loop, what: told.append(what))
        supervisor = Supervisor(cast("Any", None), 1, None)
        fleet = SimpleNamespace(fault=None)

        async def start(count: int) -> None:
            fleet.fault = WorkerFailedError(messages.Failed("no layer", 2))
            supervisor._ended.set()
            raise fleet.fault

        fleet.start = start
        control = SimpleNamespace(fleet=fleet, workers=SimpleNamespace(count=1))
        with pytest.raises(WorkerFailedError, match="no layer"):
            await supervisor._started(cast("Any", control))
        gc.collect()

    asyncio.run(go())
    gc.collect()
    assert told == []
