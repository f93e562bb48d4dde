"""The old program's side of an upgrade: start the new one, give it all, hear that it is ready."""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
import sys
from typing import TYPE_CHECKING, Any, Final

from meshcore.admin.handlers import OperationRefusedError
from meshcore.process.channel import Channel, spawn
from meshcore.process.fleet import START_S
from meshcore.process.inheritance import VARIABLE, offer

if TYPE_CHECKING:
    import socket

    from meshcore.process.control import Control

# A descriptor that nothing inherited lies at: 0 to 2 are standard, 3 a worker's channel.
PREDECESSOR_FD: Final = 4


# What belongs to this process alone, and would be wrong in another.
OWN_VARIABLES: Final = ("WATCHDOG_PID", "LISTEN_PID", "LISTEN_FDS", "LISTEN_FDNAMES")


# Of what a new program says before it ends.
_WHY_CHARS: Final = 4_000


def _bounded(text: str) -> str:
    return text if len(text) <= _WHY_CHARS else f"{text[:_WHY_CHARS]}…"


class Upgrade:
    """One attempt."""

    def __init__(self, control: Control) -> None:
        self._control = control
        self._loop = asyncio.get_running_loop()
        self._ready: asyncio.Future[bool] = self._loop.create_future()
        self.pid = 0
        self._pidfd = -1
        self._why = ""

    async def run(self, admin: dict[str, int], init_fd: int | None) -> socket.socket:
        """Start the program as it was started, with everything we have.

        Returns our end of the socket to it once it accepts; raises `OperationRefusedError` when it
        does not get that far. However this ends otherwise, the new program is gone before.
        """
        try:
            ours = self._spawn()
        except OSError as error:
            raise OperationRefusedError(f"cannot start the new program: {error}") from error
        try:
            return await self._hand_over(ours, admin, init_fd)
        except BaseException as error:
            await self._end()
            if isinstance(error, TimeoutError):
                raise OperationRefusedError("the new program was not ready in time") from None
            if isinstance(error, OSError):
                raise OperationRefusedError(
                    f"cannot hand over to a new program: {error}"
                ) from error
            raise
        finally:
            os.close(self._pidfd)

    def _spawn(self) -> socket.socket:
        """Start it; our end of the socket to it."""
        environment = {k: v for k, v in os.environ.items() if k not in OWN_VARIABLES}
        environment[VARIABLE] = str(PREDECESSOR_FD)
        command = [sys.executable, *sys.orig_argv[1:]]
        self.pid, ours = spawn(command, environment, PREDECESSOR_FD)
        try:
            self._pidfd = os.pidfd_open(self.pid)
        except BaseException:
            ours.close()
            with contextlib.suppress(ProcessLookupError):
                os.kill(self.pid, signal.SIGKILL)  # the number is its own until it is waited for
            raise
        return ours

    async def _hand_over(
        self, ours: socket.socket, admin: dict[str, int], init_fd: int | None
    ) -> socket.socket:
        """Give it all, and wait until it accepts. Takes our end, and returns a copy of it."""
        with contextlib.ExitStack() as open_here:
            open_here.callback(ours.close)
            kept = ours.dup()
            with contextlib.ExitStack() as if_it_fails:
                if_it_fails.callback(kept.close)
                self._channel = Channel(self._loop, ours, self._on_message, self._gone)
                open_here.callback(self._channel.close)
                self._offer(admin, init_fd)
                async with asyncio.timeout(2 * START_S):
                    ready = await self._ready
                if not ready:
                    why = self._why or "its messages say why"
                    raise OperationRefusedError(f"the new program did not get ready: {why}")
                if_it_fails.pop_all()
            return kept

    def _offer(self, admin: dict[str, int], init_fd: int | None) -> None:
        control, segment = self._control, self._control.registry.segment
        given = (control.groups, control.history, control.last_version, control.workers.tickets)
        self._channel.send(*offer(segment, *given, admin=admin, init_fd=init_fd))

    def _on_message(self, message: Any, fds: list[int]) -> None:
        for fd in fds:
            os.close(fd)
        if message.get("want") == "words":
            self._channel.send({"words": self._control.registry.segment.export()})
        elif "failed" in message:
            self._why = _bounded(message["failed"])
        elif "ready" in message and not self._ready.done():
            self._ready.set_result(True)

    def _gone(self) -> None:
        if not self._ready.done():
            self._ready.set_result(False)

    async def _end(self) -> None:
        """Kill it and wait for its end, so that it does not write what we go on with."""
        with contextlib.suppress(ProcessLookupError):
            signal.pidfd_send_signal(self._pidfd, signal.SIGKILL)
        over = asyncio.Event()
        self._loop.add_reader(self._pidfd, over.set)
        try:
            await asyncio.shield(over.wait())
        finally:
            self._loop.remove_reader(self._pidfd)
