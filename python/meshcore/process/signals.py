"""The signals that end a program, for as long as it is nothing but a proxy."""

from __future__ import annotations

import asyncio
import signal
import threading
from contextlib import contextmanager
from typing import TYPE_CHECKING, Final
from weakref import WeakKeyDictionary

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

ENDING: Final = (signal.SIGTERM, signal.SIGINT)


class _Handlers:
    """The handlers of a loop, and what the signals did before the first."""

    def __init__(self) -> None:
        self.all: list[Callable[[], None]] = []
        self.before = [signal.getsignal(number) for number in ENDING]

    def call_all(self) -> None:
        for call in list(self.all):
            call()


_LOOPS: Final[WeakKeyDictionary[asyncio.AbstractEventLoop, _Handlers]] = WeakKeyDictionary()


@contextmanager
def ending(call: Callable[[], None]) -> Iterator[None]:
    """Both are told to a function on the loop, or to several; once there is none any more they do
    again what they did before. What the loop's own `add_signal_handler` had set is lost."""
    if threading.current_thread() is not threading.main_thread():
        raise RuntimeError("signals are handled in the main thread alone: without, call stop()")
    loop = asyncio.get_running_loop()
    handlers = _LOOPS.setdefault(loop, _Handlers())
    handlers.all.append(call)
    try:
        for number in ENDING:
            loop.add_signal_handler(number, handlers.call_all)
        yield
    finally:
        handlers.all.remove(call)
        if not handlers.all:
            del _LOOPS[loop]
            for number, handler in zip(ENDING, handlers.before, strict=True):
                loop.remove_signal_handler(number)
                if handler is not None:
                    signal.signal(number, handler)
