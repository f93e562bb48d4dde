"""The old program's side of an upgrade: start the new one, give it all, hear that it is ready."""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
import sys
from typing import TYPE_CHECKING, Any, Final

from meshcore.admin.handlers import OrderRefusedError
from meshcore.process.channel import Channel, pair
from meshcore.process.crew import START_S
from meshcore.process.inheritance import VARIABLE, offer

if TYPE_CHECKING:
    import socket

    from meshcore.process.control import Control

# A descriptor that nothing inherited lies at: 0 to 2 are standard, 3 a worker's channel.
PREDECESSOR_FD: Final = 4


class Upgrade:
    """One attempt."""

    def __init__(self, control: Control) -> None:
        self._control = control
        self._ready: asyncio.Future[bool] = asyncio.get_running_loop().create_future()
        self.pid = 0
        self._ended = False

    async def run(self, admin: dict[str, int], init_fd: int | None) -> socket.socket:
        """Start the program as it was started, with everything we have.

        Returns our end of the socket to it once it accepts; raises `OrderRefusedError` when it
        does not get that far, and then it is gone.
        """
        ours = self._spawn()
        kept = ours.dup()
        channel = Channel(asyncio.get_running_loop(), ours, self._told, self._gone)
        self._channel = channel
        message, fds = offer(self._control, admin, init_fd)
        channel.send(message, fds)
        try:
            async with asyncio.timeout(2 * START_S):
                ready = await self._ready
        except TimeoutError:
            ready = False
        channel.close()
        if not ready:
            kept.close()
            self._give_up()
            raise OrderRefusedError("the new program did not get ready; its messages say why")
        return kept

    def _spawn(self) -> socket.socket:
        ours, theirs = pair()
        try:
            self.pid = os.posix_spawn(
                sys.executable,
                [sys.executable, *sys.orig_argv[1:]],
                os.environ | {VARIABLE: str(PREDECESSOR_FD)},
                file_actions=[(os.POSIX_SPAWN_DUP2, theirs.fileno(), PREDECESSOR_FD)],
                setsigmask=[],
            )
        except OSError as error:
            ours.close()
            raise OrderRefusedError(f"cannot start the new program: {error}") from error
        finally:
            theirs.close()
        return ours

    def _told(self, message: Any, fds: list[int]) -> None:
        for fd in fds:
            os.close(fd)
        if message.get("want") == "words":
            self._channel.send({"words": self._control.segment.export()})
        elif "ready" in message and not self._ready.done():
            self._ready.set_result(True)

    def _gone(self) -> None:
        if not self._ready.done():
            self._ready.set_result(False)

    def _give_up(self) -> None:
        with contextlib.suppress(ProcessLookupError):  # it has ended, and was waited for
            os.kill(self.pid, signal.SIGKILL)
