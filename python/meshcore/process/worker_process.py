"""The program of one worker: `python -m meshcore.process.worker_process`, started by control.

It inherits one end of a channel as descriptor 3, is told everything over it, and drains and ends
when it is told so or when the other end is gone.
"""

from __future__ import annotations

import asyncio
import faulthandler
import logging
import os
import secrets
import signal
import socket
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import uvloop

from meshcore._core import Engine, KeyLog, Segment, TicketRing
from meshcore.downstream.sockets import until_made
from meshcore.errors import ConfigError, LayerError
from meshcore.process import messages
from meshcore.process.channel import Channel
from meshcore.process.init import FORWARDED
from meshcore.process.limits import DescriptorReserve, raise_descriptor_limit
from meshcore.process.memory import tune_allocator, tune_collector
from meshcore.process.socket_groups import close_sockets
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
        self._orders: asyncio.Queue[tuple[Any, list[int]] | None] = asyncio.Queue()
        self._reserve = DescriptorReserve()
        self._channel = Channel(loop, sock, self._on_message, self._on_closed)
        self._channel.on_lost(self._on_lost)
        self._channel.reading = self._reserve
        self._tickets = TicketRing()
        self._worker: Worker | None = None
        self._prepared: tuple[Prepared, dict[str, dict[int, socket.socket]]] | None = None
        self._drain_s = 30.0
        self._code = 0

    def _on_message(self, message: Any, fds: list[int]) -> None:
        self._orders.put_nowait((message, fds))

    def _on_closed(self) -> None:
        self._orders.put_nowait(None)  # control is gone: finish what is under way

    def _on_lost(self, message: Any) -> None:
        """An order came without its sockets."""
        self._refuse(message, "no descriptors are left")

    async def run(self) -> int:
        """Work until told to end; the exit code."""
        # Of the terminal's group, or of the service's: control's business, which tells us.
        for ignored in FORWARDED:
            signal.signal(ignored, signal.SIG_IGN)
        while (order := await self._orders.get()) is not None:
            message, fds = order
            if isinstance(message, messages.Drain):
                self._drain_s = message.timeout_s
                break
            try:
                with self._reserve:
                    await self._handle(message, fds)
            except Exception as error:
                log.exception("%s was not carried out", type(message).__name__)
                self._refuse(message, str(error) or type(error).__name__)
            if self._code:
                break
        if self._worker is not None:
            self._worker.stop_accepting()
            await until_made()
            self._channel.send(messages.Closed())
            await self._worker.stop(self._drain_s)
        self._channel.close()
        return self._code

    def _refuse(self, message: Any, reason: str) -> None:
        if isinstance(message, messages.Adopt):
            self._channel.send(messages.NotAdopted(message.reuseport_slot))
        elif isinstance(message, messages.Prepare | messages.Commit):
            self._channel.send(messages.Refused(message.token, reason))
        elif isinstance(message, messages.Start):
            self._fail(OSError(reason), REFUSED_BY_SYSTEM)

    async def _handle(self, message: Any, fds: list[int]) -> None:
        match message:
            case messages.Start():
                await self._start(message, fds)
            case messages.Prepare():
                await self._prepare(message, fds)
            case messages.Commit():
                await self._commit(message)
            case messages.Abort():
                self._drop_prepared()
            case messages.Adopt():
                await self._adopt(message, fds)
            case messages.Release():
                self._release(message.reuseport_slot)
            case messages.ReopenLog():
                if self._worker is not None:
                    self._worker.reopen_log()
            case messages.NewTickets():
                self._tickets.set(message.keys)
            case _:
                log.error("control said %r, which is not understood", message)

    async def _start(self, start: messages.Start, fds: list[int]) -> None:
        try:
            segment = Segment.open(fds[0])
            os.close(fds[0])
            engine = Engine.worker(segment, start.slot, seed=secrets.randbits(64))
            key_log = KeyLog(start.key_log) if start.key_log is not None else None
            self._worker = worker = Worker(
                engine, folder=Path(start.folder), tickets=self._tickets, key_log=key_log
            )
            self._drain_s = start.change.drain_ns / 1e9
            self._tickets.set(start.tickets)
            prepared = await worker.prepare(start.change)
            counts = worker.layer_counts(prepared)
            await worker.commit(prepared, _by_listener(start.sockets, fds[1:]))
        except (ConfigError, LayerError) as error:
            self._fail(error, BAD_CONFIG)
        except Exception as error:
            self._fail(error, REFUSED_BY_SYSTEM)
        else:
            tune_collector()
            self._channel.send(messages.Ready(counts))

    def _fail(self, error: Exception, code: int) -> None:
        self._code = code
        reason = str(error) or type(error).__name__
        layer = error if isinstance(error, LayerError) else None
        self._channel.send(messages.Failed(reason, code, layer))

    async def _prepare(self, order: messages.Prepare, fds: list[int]) -> None:
        self._drop_prepared()
        sockets = _by_listener(order.sockets, fds)
        assert self._worker is not None
        try:
            prepared = await self._worker.prepare(order.change)
        except BaseException as error:
            close_sockets(sockets)
            if not isinstance(error, Exception):
                raise
            layer = error if isinstance(error, LayerError) else None
            reason = str(error) or type(error).__name__
            self._channel.send(messages.Refused(order.token, reason, layer))
        else:
            self._prepared = prepared, sockets
            counts = self._worker.layer_counts(prepared)
            self._channel.send(messages.WasPrepared(order.token, counts))

    def _drop_prepared(self) -> None:
        if self._prepared is not None:
            close_sockets(self._prepared[1])
            self._prepared = None

    async def _commit(self, order: messages.Commit) -> None:
        if self._prepared is None or self._worker is None:
            return
        (prepared, sockets), self._prepared = self._prepared, None
        problem = ""
        try:
            await self._worker.commit(prepared, sockets)
        except OSError as error:
            problem = str(error)
        self._drain_s = prepared.change.drain_ns / 1e9
        self._channel.send(messages.Committed(order.token, problem))

    async def _adopt(self, order: messages.Adopt, fds: list[int]) -> None:
        assert self._worker is not None
        for name, sockets in _by_listener(order.sockets, fds).items():
            listener = self._worker.listeners.get(name)
            for reuseport_slot, sock in sockets.items():
                if listener is None:
                    sock.close()
                    continue
                try:
                    await listener.adopt(reuseport_slot, sock)
                except OSError as error:
                    log.error(
                        "cannot accept for reuseport slot %d of %s: %s", reuseport_slot, name, error
                    )
                    self._refuse(order, str(error))

    def _release(self, reuseport_slot: int) -> None:
        assert self._worker is not None
        for listener in self._worker.listeners.values():
            listener.release(reuseport_slot)


def _by_listener(
    names: Sequence[messages.SocketName], fds: Sequence[int]
) -> dict[str, dict[int, socket.socket]]:
    sockets: dict[str, dict[int, socket.socket]] = {}
    for (name, reuseport_slot), fd in zip(names, fds, strict=True):
        sockets.setdefault(name, {})[reuseport_slot] = socket.socket(fileno=fd)
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
