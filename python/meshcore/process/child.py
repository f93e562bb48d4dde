"""One worker as control sees it."""

from __future__ import annotations

import asyncio
import enum
import os
import signal
import sys
from typing import TYPE_CHECKING, Any, Final

from meshcore._core import now_ns
from meshcore.process.channel import Channel, spawn
from meshcore.process.messages import CHANNEL_FD

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from meshcore.process.messages import Failed

PROGRAM: Final = ("-m", "meshcore.process.worker_process")


def command() -> list[str]:
    """How a worker is started: with the folder where we are on its path only if it is on ours."""
    here = {"", os.getcwd()} & set(sys.path)
    return [sys.executable, *(() if here else ("-P",)), *PROGRAM]


class ChildState(enum.Enum):
    """How far a worker is in its life."""

    STARTING = "starting"
    READY = "ready"
    DRAINING = "draining"
    DEAD = "dead"


class Child:
    """A process, its place, and what it was told."""

    def __init__(self, reuseport_slot: int) -> None:
        self.reuseport_slot = reuseport_slot
        self.slot: int | None = None
        """Its columns in the shared memory."""
        self.adopted: set[int] = set()
        self.state = ChildState.STARTING
        self.is_closed = False  # it said that it accepts nothing more
        self.failure: Failed | None = None
        """Why it could not start."""
        self.pid = 0
        self.began_ns = now_ns()
        self.late = 0  # looks at which its loop stood still
        self.leave_by_ns = 0  # when one that drains must have ended
        self._channel: Channel | None = None
        self._answer: asyncio.Future[Any] | None = None
        self._token = 0

    def spawn(self, on_message: Callable[[Child, Any], None]) -> None:
        """Start the process. Raises `OSError`."""
        defaults = [signal.SIGPIPE, signal.SIGINT, signal.SIGTERM, signal.SIGHUP]
        self.pid, ours = spawn(command(), os.environ, CHANNEL_FD, defaults)

        def receive(message: Any, fds: list[int]) -> None:
            for fd in fds:
                os.close(fd)
            if getattr(message, "token", None) is None:
                on_message(self, message)
            elif self._answer is not None and message.token == self._token:
                self._answer.set_result(message)
                self._answer = None

        loop = asyncio.get_running_loop()
        self._channel = Channel(loop, ours, receive, self._on_closed)

    def _on_closed(self) -> None:
        """Its end is closed: it has died, or is about to; who waits for an answer gets none."""
        if self._answer is not None:
            self._answer.set_result(None)
            self._answer = None

    def send(self, message: object, fds: Sequence[int] = ()) -> None:
        """Tell it something."""
        if self._channel is not None:
            self._channel.send(message, fds)

    async def ask(self, order: Callable[[int], object], fds: Sequence[int], within_s: float) -> Any:
        """Its answer to an order, which is made with a token; ``None`` when it is gone, or silent
        for too long. One at a time; what it says later to an earlier one is not heard."""
        self._token += 1
        answer = self._answer = asyncio.get_running_loop().create_future()
        try:
            if self._channel is None or not self._channel.is_open:
                return None
            self._channel.send(order(self._token), fds)
            async with asyncio.timeout(within_s):
                return await answer
        except TimeoutError:
            return None
        finally:
            self._answer = None

    @property
    def is_open(self) -> bool:
        """Whether its end of the channel is there."""
        return self._channel is not None and self._channel.is_open

    def kill(self, number: signal.Signals = signal.SIGKILL) -> None:
        """Send it a signal, if it lives."""
        if self.pid:
            os.kill(self.pid, number)

    def died(self) -> None:
        """It is no more: nothing is said to it, or signalled."""
        self.pid = 0
        if self._channel is not None:
            self._channel.close()
        self._on_closed()
