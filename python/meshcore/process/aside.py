"""Work that may hang, such as reading files of a dead mount, in a thread that is not waited for at
the end."""

from __future__ import annotations

import asyncio
import contextlib
import threading
from typing import TYPE_CHECKING, ParamSpec, TypeVar

if TYPE_CHECKING:
    from collections.abc import Callable

P = ParamSpec("P")
T = TypeVar("T")


async def aside(work: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> T:
    """What `work` returns or raises, as `asyncio.to_thread` has it; but the program's end does not
    wait for its thread, whatever that waits for."""
    loop = asyncio.get_running_loop()
    answer: asyncio.Future[T] = loop.create_future()

    def settle(result: T | None, error: BaseException | None) -> None:
        if answer.done():
            return  # its caller has gone
        if error is None:
            answer.set_result(result)  # type: ignore[arg-type]  # it is there without an error
        else:
            answer.set_exception(error)

    def run() -> None:
        result, failure = None, None
        try:
            result = work(*args, **kwargs)
        except BaseException as error:
            failure = error
        with contextlib.suppress(RuntimeError):  # the loop is closed
            loop.call_soon_threadsafe(settle, result, failure)

    threading.Thread(target=run, name="meshcore-aside", daemon=True).start()
    return await answer
