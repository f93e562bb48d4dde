"""The signals that end a program, for as long as it is nothing but a proxy."""

from __future__ import annotations

import asyncio
import signal
import threading
from contextlib import contextmanager
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

ENDING: Final = (signal.SIGTERM, signal.SIGINT)


@contextmanager
def ending(told: Callable[[], None]) -> Iterator[None]:
    """Both are told to a function on the loop; then they do again what they did before."""
    if threading.current_thread() is not threading.main_thread():
        raise RuntimeError("signals are handled in the main thread alone: without, call stop()")
    loop = asyncio.get_running_loop()
    before = [signal.getsignal(number) for number in ENDING]
    try:
        for number in ENDING:
            loop.add_signal_handler(number, told)
        yield
    finally:
        for number, handler in zip(ENDING, before, strict=True):
            loop.remove_signal_handler(number)
            if handler is not None:
                signal.signal(number, handler)
