"""The first process of a container, after an upgrade: it cannot end before the others do.

It waits for the new program, hands signals on to it and takes its exit code for its own. When that
is upgraded in turn, it is told which process comes next.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
from typing import TYPE_CHECKING, Any, Final

from meshcore.process.channel import Channel

if TYPE_CHECKING:
    import socket

FORWARDED: Final = (signal.SIGTERM, signal.SIGINT, signal.SIGHUP, signal.SIGUSR2)


class Init:
    """Stands in for the program that took our place."""

    def __init__(self, successor: int, sock: socket.socket) -> None:
        self._main = successor
        self._loop = asyncio.get_running_loop()
        self._over = self._loop.create_future()
        self._channel = Channel(self._loop, sock, self._told, lambda: None)

    async def run(self) -> int:
        """Wait for the end of the last successor; its exit code."""
        for number in FORWARDED:
            self._loop.add_signal_handler(number, self._forward, number)
        self._loop.add_signal_handler(signal.SIGCHLD, self._reap)
        self._reap()
        code: int = await self._over
        self._channel.close()
        return code

    def _told(self, message: Any, fds: list[int]) -> None:
        for fd in fds:
            os.close(fd)
        self._main = message["successor"]

    def _forward(self, number: int) -> None:
        with contextlib.suppress(ProcessLookupError):
            os.kill(self._main, number)

    def _reap(self) -> None:
        while True:
            try:
                pid, status = os.waitpid(-1, os.WNOHANG)
            except ChildProcessError:
                self._end(1)  # nobody is left, and nobody said who came next
                return
            if pid == 0:
                return
            if pid == self._main:
                code = os.waitstatus_to_exitcode(status)
                self._end(code if code >= 0 else 128 - code)
                return

    def _end(self, code: int) -> None:
        if not self._over.done():
            self._over.set_result(code)
