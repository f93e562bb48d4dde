"""The program of one worker: `python -m meshcore.process.worker_process`, started by control.

It inherits one end of a channel as descriptor 3, is told everything over it, and ends when it is
told so, when the other end is gone, or when a signal says so: then it drains first.
"""

from __future__ import annotations

import asyncio
import faulthandler
import logging
import os
import secrets
import signal
import socket
import ssl
import sys
from typing import TYPE_CHECKING, Any, Final

import uvloop

from meshcore._core import Engine, Segment
from meshcore.errors import ConfigError, LayerError
from meshcore.process import messages
from meshcore.process.channel import Channel
from meshcore.process.limits import raise_descriptor_limit
from meshcore.process.memory import calm_collector, tune_allocator
from meshcore.process.worker import Worker

if TYPE_CHECKING:
    from collections.abc import Sequence

    from meshcore.process.prepared import Prepared

log = logging.getLogger("meshcore.worker")

REFUSED_BY_SYSTEM: Final = 1
BAD_CONFIG: Final = 2


class WorkerProcess:
    """Does what control says, one thing after the other."""

    def __init__(self, loop: asyncio.AbstractEventLoop, sock: socket.socket) -> None:
        self._loop = loop
        self._orders: asyncio.Queue[tuple[Any, list[int]] | None] = asyncio.Queue()
        self._channel = Channel(loop, sock, self._on_message, self._on_closed)
        self._worker: Worker | None = None
        self._prepared: tuple[Prepared, dict[str, dict[int, socket.socket]]] | None = None
        self._drain_s = 30.0
        self._code = 0

    def _on_message(self, message: Any, fds: list[int]) -> None:
        self._orders.put_nowait((message, fds))

    def _on_closed(self) -> None:
        self._orders.put_nowait(None)  # control is gone: finish what is under way

    def _on_signal(self) -> None:
        self._orders.put_nowait((messages.Drain(self._drain_s), []))

    async def run(self) -> int:
        """Work until told to end; the exit code."""
        self._loop.add_signal_handler(signal.SIGTERM, self._on_signal)
        for ignored in (signal.SIGINT, signal.SIGHUP, signal.SIGUSR2):
            signal.signal(ignored, signal.SIG_IGN)  # of the terminal's group: control's business
        timeout_s = self._drain_s
        while (order := await self._orders.get()) is not None:
            message, fds = order
            if isinstance(message, messages.Drain):
                timeout_s = message.timeout_s
                break
            await self._obey(message, fds)
            if self._code:
                break
        if self._worker is not None:
            await self._worker.stop(timeout_s)
        self._channel.close()
        return self._code

    async def _obey(self, message: Any, fds: list[int]) -> None:
        match message:
            case messages.Start():
                await self._start(message, fds)
            case messages.Prepare():
                await self._prepare(message, fds)
            case messages.Commit():
                await self._commit(message.version)
            case messages.Abort():
                self._prepared = None
            case messages.Adopt():
                await self._adopt(message, fds)
            case messages.Release():
                self._release(message.lane)
            case _:
                log.error("control said %r, which is not understood", message)

    async def _start(self, start: messages.Start, fds: list[int]) -> None:
        try:
            segment = Segment.open(fds[0])
            os.close(fds[0])
            engine = Engine.worker(segment, start.slot, seed=secrets.randbits(64))
            self._worker = worker = Worker(engine)
            self._drain_s = start.change.drain_ns / 1e9
            prepared = await worker.prepare(start.change)
            await worker.commit(prepared, _by_listener(start.doors, fds[1:]))
        except (ConfigError, LayerError, ssl.SSLError) as error:
            self._fail(error, BAD_CONFIG)
        except Exception as error:
            self._fail(error, REFUSED_BY_SYSTEM)
        else:
            calm_collector()
            self._channel.send(messages.Ready())

    def _fail(self, error: Exception, code: int) -> None:
        self._code = code
        reason = str(error) or type(error).__name__
        self._channel.send(messages.Failed(reason, code))

    async def _prepare(self, order: messages.Prepare, fds: list[int]) -> None:
        sockets = _by_listener(order.doors, fds)
        version = order.change.version
        assert self._worker is not None
        try:
            prepared = await self._worker.prepare(order.change)
        except Exception as error:
            self._channel.send(messages.Refused(version, str(error) or type(error).__name__))
        else:
            self._prepared = prepared, sockets
            self._channel.send(messages.WasPrepared(version))

    async def _commit(self, version: int) -> None:
        if self._prepared is None or self._worker is None:
            return
        (prepared, sockets), self._prepared = self._prepared, None
        problem = ""
        try:
            await self._worker.commit(prepared, sockets)
        except OSError as error:
            problem = str(error)
        self._drain_s = prepared.change.drain_ns / 1e9
        self._channel.send(messages.Committed(version, problem))

    async def _adopt(self, order: messages.Adopt, fds: list[int]) -> None:
        assert self._worker is not None
        for name, sockets in _by_listener(order.doors, fds).items():
            listener = self._worker.listeners.get(name)
            for lane, sock in sockets.items():
                if listener is None:
                    sock.close()
                    continue
                try:
                    await listener.adopt(lane, sock)
                except OSError as error:
                    log.error("cannot accept for lane %d of %s: %s", lane, name, error)

    def _release(self, lane: int) -> None:
        assert self._worker is not None
        for listener in self._worker.listeners.values():
            listener.release(lane)


def _by_listener(
    doors: Sequence[messages.Place], fds: Sequence[int]
) -> dict[str, dict[int, socket.socket]]:
    sockets: dict[str, dict[int, socket.socket]] = {}
    for (name, lane), fd in zip(doors, fds, strict=True):
        sockets.setdefault(name, {})[lane] = socket.socket(fileno=fd)
    return sockets


def main() -> None:
    """Run the worker whose channel is descriptor 3."""
    faulthandler.enable()  # control ends a loop that stands still with SIGABRT: say where it stood
    logging.basicConfig(level=logging.INFO, format="%(message)s", stream=sys.stderr)
    tune_allocator()
    raise_descriptor_limit()
    sock = socket.socket(fileno=messages.CHANNEL_FD)
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        runner.run(_run(sock))


async def _run(sock: socket.socket) -> None:
    code = await WorkerProcess(asyncio.get_running_loop(), sock).run()
    if code:
        sys.exit(code)


if __name__ == "__main__":
    main()
