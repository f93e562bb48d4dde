"""The program of `meshcore run`: signals, orders and the life of the whole."""

from __future__ import annotations

import asyncio
import contextlib
import hashlib
import logging
import os
import signal
import socket
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import TYPE_CHECKING, Any

from meshcore.admin.handlers import Handlers, OrderRefusedError
from meshcore.admin.server import Admin
from meshcore.errors import ConfigError
from meshcore.process.channel import send_message
from meshcore.process.control import Control
from meshcore.process.doors import Address, Doors
from meshcore.process.inheritance import Predecessor
from meshcore.process.init import Init
from meshcore.process.limits import give_way, raise_descriptor_limit
from meshcore.process.notify import activated, notify, watchdog_s
from meshcore.process.orders import Orders
from meshcore.process.upgrade import Upgrade
from meshcore.process.watch import watch

if TYPE_CHECKING:
    from collections.abc import Coroutine

log = logging.getLogger("meshcore")


def run_supervised(file: Path, workers: int | None) -> int:
    """Serve a configuration until a signal ends it; the exit code.

    Raises `ConfigError` and `OSError` when it cannot begin, `WorkerFailedError` when no worker can.
    """
    raise_descriptor_limit()
    return asyncio.run(Supervisor(file, workers).run())


def local_name(file: Path) -> str:
    """The name of the unix socket at which the program that serves a file takes orders: in Linux's
    abstract name space, so that it leaves nothing behind."""
    digest = hashlib.sha256(os.fsencode(file.resolve())).hexdigest()[:32]
    return f"\0meshcore/{os.geteuid()}/{digest}"


class Supervisor:
    """Ties control, its workers and the world together."""

    def __init__(self, file: Path, workers: int | None) -> None:
        self._control = Control(file, workers)
        self._doors = Doors(by_lane=True)
        self._orders = Orders(self._control, self._hand_over)
        self._admin = Admin(Handlers(self._orders, self._orders))
        self._ended = asyncio.Event()
        self._hurry = asyncio.Event()
        self._init: socket.socket | None = None
        self._successor: tuple[int, socket.socket] | None = None
        self._tasks: set[asyncio.Task[Any]] = set()
        self._watcher: asyncio.Task[None] | None = None

    # --- the life of the program --------------------------------------------------------------

    async def run(self) -> int:
        """Serve until ended; the exit code."""
        loop = asyncio.get_running_loop()
        # A file of many routes takes seconds to read: no request of a worker waits for that.
        loop.set_default_executor(ThreadPoolExecutor(2, initializer=give_way))
        loop.add_signal_handler(signal.SIGCHLD, self._on_child)
        # Before anything listens: a signal right after the first line must drain, not kill.
        for number in (signal.SIGTERM, signal.SIGINT):
            loop.add_signal_handler(number, self._on_stop)
        loop.add_signal_handler(signal.SIGHUP, self._spawn_order, self._orders.reload)
        loop.add_signal_handler(signal.SIGUSR2, self._spawn_order, self._orders.upgrade)
        predecessor = Predecessor.there()
        try:
            await self._begin(predecessor)
            await self._ended.wait()
            if self._control.crew.fault is not None:
                raise self._control.crew.fault
            await self._stop()
        except BaseException:
            await self._fail(for_good=predecessor is None)
            raise
        if self._successor is not None and os.getpid() == 1:
            return await Init(*self._successor).run()
        return 0

    async def _begin(self, predecessor: Predecessor | None) -> None:
        self._take_activated()
        if predecessor is not None:
            predecessor.give_doors(self._doors)
            self._init = predecessor.init
        self._control.begin(self._doors, self._ended.set, predecessor)
        await self._serve_admin({} if predecessor is None else predecessor.admin)
        await self._control.crew.start(self._control.workers)
        self._orders.serving = True
        for name, address in self._doors.addresses().items():
            log.info("listening %s (%s)", address, name)
        if self._admin.address is not None:
            log.info("listening %s (admin)", self._admin.address)
        if predecessor is not None:
            predecessor.say_ready()
            if self._init is None:
                predecessor.sock.close()
        notify("READY=1", f"MAINPID={os.getpid()}", f"STATUS={self._control.workers} workers")
        self._every(watchdog_s(), lambda: notify("WATCHDOG=1"))
        self._orders.on_change = self._watch
        self._watch()

    async def _serve_admin(self, given: dict[str, socket.socket]) -> None:
        """On the configured port, and where the command line finds us without one."""
        spec = self._control.snapshot.admin
        if spec is not None:
            key = f"{spec.host}:{spec.port}"
            await self._admin.listen(spec.host, spec.port, given.pop(key, None))
        local = given.pop("local", None)
        if local is None and sys.platform == "linux":
            local = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
            try:
                local.bind(local_name(self._control.file))
            except OSError:
                local.close()
                log.warning("another program serves %s: it takes the orders", self._control.file)
                return
        if local is not None:
            await self._admin.listen_locally(local)

    async def _hand_over(self) -> int:
        """Start the new program, and end when it is ready; its process id."""
        upgrade = Upgrade(self._control)
        init = self._init
        kept = await upgrade.run(self._admin.descriptors(), init.fileno() if init else None)
        self._admin.stop_accepting()
        self._successor = upgrade.pid, kept
        if init is not None:
            send_message(init, {"successor": upgrade.pid})
        notify(f"MAINPID={upgrade.pid}")
        self._ended.set()
        return upgrade.pid

    def _take_activated(self) -> None:
        for sock in activated():
            name = sock.getsockname()
            if isinstance(name, str):
                address = Address("", 0, name, "")
            else:
                address = Address(name[0], name[1], None, "")
            self._doors.give(address, {0: sock}, by_lane=False)

    async def _stop(self) -> None:
        self._orders.serving = False
        handed_over = self._successor is not None
        log.info("draining")
        if not handed_over:
            notify("STOPPING=1")
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(self._control.snapshot.drain_delay_ns / 1e9):
                    await self._hurry.wait()
            self._doors.close()
        await self._control.crew.stop()
        await self._close(for_good=not handed_over)

    async def _fail(self, *, for_good: bool) -> None:
        """Nothing can be served: end what was started."""
        crew = getattr(self._control, "crew", None)
        if crew is not None:
            crew.stopping = True
            crew.kill()
            crew.reap()
            await crew.gone()
        await self._close(for_good=for_good)

    async def _close(self, *, for_good: bool) -> None:
        tasks = [*self._tasks, *([self._watcher] if self._watcher else [])]
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        self._doors.close(for_good=for_good)
        await self._admin.stop()

    # --- signals ------------------------------------------------------------------------------

    def _on_child(self) -> None:
        crew = getattr(self._control, "crew", None)
        if crew is not None:
            crew.reap()

    def _on_stop(self) -> None:
        if self._ended.is_set():  # asked twice: at once
            self._hurry.set()
            self._control.crew.stopping = True
            self._control.crew.kill()
        self._ended.set()

    def _spawn(self, work: Coroutine[Any, Any, Any]) -> None:
        task = asyncio.get_running_loop().create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    def _spawn_order(self, order: Any) -> None:
        async def carry_out() -> None:
            try:
                await order()
            except (ConfigError, LookupError, OSError, OrderRefusedError) as error:
                log.error("%s: %s", order.__name__, error)

        self._spawn(carry_out())

    def _every(self, period_s: float | None, act: Any) -> None:
        async def again() -> None:
            while period_s is not None:
                act()
                await asyncio.sleep(period_s)

        self._spawn(again())

    def _watch(self) -> None:
        """Begin or end watching, as the configuration in force says."""
        wanted = self._control.snapshot.watch
        if wanted and self._watcher is None:
            work = watch(self._control.files, lambda: self._spawn_order(self._orders.reload))
            self._watcher = asyncio.get_running_loop().create_task(work)
        elif not wanted and self._watcher is not None:
            self._watcher.cancel()
            self._watcher = None
