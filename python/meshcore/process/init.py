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

FORWARDED: Final = (
    signal.SIGTERM,
    signal.SIGINT,
    signal.SIGHUP,
    signal.SIGUSR1,
    signal.SIGUSR2,
)


class Init:
    """Stands in for the program that took our place: from the moment at which it did so, while we
    drain, and then for good."""

    def __init__(self, successor: int, sock: socket.socket) -> None:
        self._main = successor
        self._loop = asyncio.get_running_loop()
        self._over = self._loop.create_future()
        self._channel = Channel(self._loop, sock, self._on_message, lambda: None)

    async def run(self) -> int:
        """Wait for the end of the last successor; its exit code."""
        for number in FORWARDED:
            self._loop.add_signal_handler(number, self.forward, number)
        self._loop.add_signal_handler(signal.SIGCHLD, self._reap)
        self._reap()
        code: int = await self._over
        self._channel.close()
        return code

    def _on_message(self, message: Any, fds: list[int]) -> None:
        for fd in fds:
            os.close(fd)
        if "successor" in message:
            self._main = message["successor"]
        if "ended" in message:
            self._note(message["ended"], message["code"])

    def forward(self, number: int) -> None:
        """A signal to the first process is for the process that serves."""
        self._channel.catch_up()
        with contextlib.suppress(ProcessLookupError):
            os.kill(self._main, number)

    def ended(self, pid: int, code: int) -> None:
        """A process was waited for."""
        self._channel.catch_up()  # it has said before who comes next
        self._note(pid, code)

    def _note(self, pid: int, code: int) -> None:
        if pid == self._main and not self._over.done():
            self._over.set_result(code if code >= 0 else 128 - code)

    def _reap(self) -> None:
        while not self._over.done():
            try:
                pid, status = os.waitpid(-1, os.WNOHANG)
            except ChildProcessError:
                self._over.set_result(1)  # no process is left, and none was named to come next
                return
            if pid == 0:
                return
            self.ended(pid, os.waitstatus_to_exitcode(status))
