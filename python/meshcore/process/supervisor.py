"""The program of `meshcore run`: signals, orders and the life of the whole."""

from __future__ import annotations

import asyncio
import contextlib
import errno
import hashlib
import logging
import math
import os
import signal
import socket
import sys
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from meshcore.admin.handlers import Handlers, OperationRefusedError
from meshcore.admin.server import Admin, give_up
from meshcore.errors import ConfigError
from meshcore.process.certificates import CHECK_S
from meshcore.process.channel import send_message
from meshcore.process.control import Control
from meshcore.process.fleet import WorkerFailedError
from meshcore.process.inheritance import Predecessor
from meshcore.process.init import Init
from meshcore.process.limits import give_way, raise_descriptor_limit
from meshcore.process.notify import activated, notify, watchdog_s
from meshcore.process.operations import Operations
from meshcore.process.socket_groups import Address, SocketGroups
from meshcore.process.tickets import LIFETIME_S
from meshcore.process.upgrade import Upgrade
from meshcore.process.watch import watch

if TYPE_CHECKING:
    from collections.abc import Coroutine

    from meshcore.process.fleet import Fleet

log = logging.getLogger("meshcore")

# Watching may fail for want of descriptors or of the kernel's watches: both come back.
WATCH_AGAIN_S: Final = 10.0
# A socket that cannot accept for want of these is told of by the loop a hundred times a second.
SCARCE: Final = (errno.EMFILE, errno.ENFILE, errno.ENOBUFS, errno.ENOMEM)
TELL_AGAIN_S: Final = 60.0


def run_supervised(
    file: Path, workers: int | None, *, env: bool = False, key_log: str | None = None
) -> int:
    """Serve a configuration until a signal ends it; the exit code. Secrets of TLS go to the file
    ``key_log``.

    Raises `ConfigError` and `OSError` when it cannot begin, `WorkerFailedError` when no worker can.
    """
    raise_descriptor_limit()
    control = Control(file, workers, env=env, key_log=key_log)
    return asyncio.run(_run(control))


async def _run(control: Control) -> int:
    supervisor = Supervisor(control)
    try:
        return await supervisor.run()
    except WorkerFailedError as error:
        raise supervisor.placed(error) from None
    finally:
        # All is over: another signal is not to change the exit code while the interpreter ends.
        for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP, signal.SIGUSR2):
            asyncio.get_running_loop().remove_signal_handler(number)
            signal.signal(number, signal.SIG_IGN)


def local_name(file: Path) -> str:
    """The name of the unix socket at which the program that serves a file takes orders: in Linux's
    abstract name space, so that it leaves nothing behind."""
    try:  # containers may share a network, and with it these names, but no process
        processes = os.stat("/proc/self/ns/pid").st_ino
    except OSError:
        processes = 0
    who = os.fsencode(file.resolve()) + b"\0%d" % processes
    digest = hashlib.sha256(who).hexdigest()[:32]
    return f"\0meshcore/{os.geteuid()}/{digest}"


def _beat() -> None:
    notify("WATCHDOG=1", patience_s=0)  # the next one comes soon


def _tell(init: socket.socket, message: dict[str, int]) -> None:
    with contextlib.suppress(OSError):
        send_message(init, message)


def _tell_end(init: socket.socket, successor: int, pid: int, code: int) -> None:
    """The first process cannot wait for a successor of ours while we drain: it is our child."""
    if pid == successor:
        _tell(init, {"ended": pid, "code": code})


class Supervisor:
    """Ties control, its workers and the world together."""

    def __init__(self, control: Control) -> None:
        self._control = control
        self._groups = SocketGroups(by_lane=True)
        stop = partial(self._on_stop, signal.SIGTERM)
        self._operations = Operations(self._control, self._hand_over, stop)
        self._admin = Admin(Handlers(self._operations, self._operations))
        self._begun = asyncio.Event()
        self._ended = asyncio.Event()
        self._end_now = asyncio.Event()
        self._init: socket.socket | None = None
        self._successor: tuple[int, socket.socket] | None = None
        self._stand_in: Init | None = None
        self._told_s = -math.inf  # of what is scarce
        self._owns = True  # sockets and their files: no other program has them
        self._tasks: set[asyncio.Task[Any]] = set()
        self._watcher: asyncio.Task[None] | None = None

    # --- the life of the program --------------------------------------------------------------

    def placed(self, error: WorkerFailedError) -> Exception:
        """The same with its place in the configuration, if it has one."""
        return error if error.layer is None else self._control.placed(error.layer)

    async def run(self) -> int:
        """Serve until ended; the exit code."""
        loop = asyncio.get_running_loop()
        # A file of many routes takes seconds to read: no request of a worker waits for that.
        loop.set_default_executor(ThreadPoolExecutor(2, initializer=give_way))
        loop.set_exception_handler(self._on_trouble)
        loop.add_signal_handler(signal.SIGCHLD, self._on_child)
        # Before anything listens: a signal right after the first line must drain, not kill.
        for number in (signal.SIGTERM, signal.SIGINT):
            loop.add_signal_handler(number, self._on_stop, number)
        for number, order in (
            (signal.SIGHUP, self._operations.reload_unasked),
            (signal.SIGUSR2, self._operations.upgrade),
        ):
            loop.add_signal_handler(number, self._on_order, number, order)
        predecessor = Predecessor.from_environment()
        self._owns = predecessor is None
        try:
            await self._begin(predecessor)
            await self._ended.wait()
            await self._stop()
        except BaseException:
            await self._fail()
            raise
        return 0 if self._stand_in is None else await self._stand_in.run()

    async def _begin(self, predecessor: Predecessor | None) -> None:
        self._take_activated()
        if predecessor is not None:
            predecessor.give_groups(self._groups)
            self._init = predecessor.init
        await self._control.begin(self._groups, self._ended.set, predecessor)
        if predecessor is None:
            await self._serve_admin({})
        if not await self._started():
            return
        if predecessor is not None:  # until now the old one answers
            await self._serve_admin(predecessor.admin)
        self._operations.serving = True
        self._begun.set()
        for name, address in self._groups.addresses().items():
            log.info("listening %s (%s)", address, name)
        if self._admin.address is not None:
            log.info("listening %s (admin)", self._admin.address)
        if predecessor is not None:
            self._owns = True
            predecessor.say_ready()
        notify("READY=1", f"MAINPID={os.getpid()}", f"STATUS={self._control.workers} workers")
        self._every(watchdog_s(), _beat)
        self._every(LIFETIME_S, self._control.renew_tickets)
        self._every(CHECK_S, self._operations.staples.look)
        self._operations.on_change = self._changed
        self._watch()

    async def _started(self) -> bool:
        """Wait until all workers are ready; false: a signal came first."""
        starting = asyncio.ensure_future(self._control.fleet.start(self._control.workers))
        ended = asyncio.ensure_future(self._ended.wait())
        await asyncio.wait((starting, ended), return_when=asyncio.FIRST_COMPLETED)
        ended.cancel()
        if self._control.fleet.fault is not None:
            starting.cancel()
            raise self._control.fleet.fault
        if not starting.done():
            starting.cancel()
            return False
        starting.result()
        return True

    async def _serve_admin(self, given: dict[str, socket.socket]) -> None:
        """On the configured port, and where the command line finds us without one."""
        spec = self._control.snapshot.admin
        if spec is not None:
            await self._admin.listen(spec, given.pop(spec.address, None))
        local = given.pop("local", None)
        give_up(given)
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
        upgrade, init = Upgrade(self._control), self._init
        kept = await upgrade.run(self._admin.descriptors(), init.fileno() if init else None)
        self._admin.stop_accepting()
        if self._watcher is not None:
            self._watcher.cancel()
        self._successor, self._owns = (upgrade.pid, kept), False
        if os.getpid() == 1:
            self._stand_in = Init(*self._successor)
            self._control.fleet.on_other = self._stand_in.ended
        if init is not None:
            _tell(init, {"successor": upgrade.pid})
            self._control.fleet.on_other = partial(_tell_end, init, upgrade.pid)
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
            self._groups.give(address, {0: sock}, by_lane=False)

    async def _stop(self) -> None:
        if self._control.fleet.fault is not None:
            raise self._control.fleet.fault
        for task in self._tasks:  # an upgrade too: it is not to outlive the order to stop
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        await self._admin.cancel_orders()
        self._operations.serving = False
        log.info("draining")
        if self._successor is None:
            notify("STOPPING=1")
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(self._control.snapshot.drain_delay_ns / 1e9):
                    await self._end_now.wait()
        # Not for good, if the new program goes on with them.
        self._groups.close(for_good=self._owns)
        await self._control.fleet.stop()
        if self._successor is not None:
            await self._admin.leave()
        await self._close()

    async def _fail(self) -> None:
        """Nothing can be served: end what was started."""
        fleet = self._fleet
        if fleet is not None:
            fleet.stopping = True
            fleet.kill()
            fleet.reap()
            await fleet.gone()
        await self._close()

    async def _close(self) -> None:
        tasks = [*self._tasks, *([self._watcher] if self._watcher else [])]
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        self._groups.close(for_good=self._owns)
        await self._admin.stop(for_good=self._owns)

    @property
    def _fleet(self) -> Fleet | None:
        """Nobody before the file is read."""
        return getattr(self._control, "fleet", None)

    # --- signals ------------------------------------------------------------------------------

    def _on_child(self) -> None:
        if self._fleet is not None:
            self._fleet.reap()

    def _on_stop(self, number: signal.Signals) -> None:
        if self._passed_on(number):
            return
        if self._ended.is_set():  # asked twice: at once
            self._end_now.set()
            if self._fleet is not None:
                self._fleet.stopping = True
                self._fleet.kill()
        self._ended.set()

    def _on_trouble(self, loop: asyncio.AbstractEventLoop, context: dict[str, Any]) -> None:
        """What the loop would tell of; of descriptors that are scarce only now and then."""
        error = context.get("exception")
        if not (isinstance(error, OSError) and error.errno in SCARCE):
            loop.default_exception_handler(context)
        elif loop.time() - self._told_s >= TELL_AGAIN_S:
            self._told_s = loop.time()
            log.error("the admin port cannot accept for now: %s", error.strerror)

    def _on_order(self, number: signal.Signals, order: Any) -> None:
        if not self._passed_on(number):
            self._spawn_order(order)

    def _passed_on(self, number: signal.Signals) -> bool:
        """Whether a signal was for the program that has taken over: whoever signals the first
        process of a container means the service."""
        if self._stand_in is None:
            return False
        self._stand_in.forward(number)
        return True

    def _spawn(self, work: Coroutine[Any, Any, Any]) -> None:
        task = asyncio.get_running_loop().create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    def _spawn_order(self, order: Any) -> None:
        async def carry_out() -> None:
            await self._begun.wait()
            try:
                await order()
            except (ConfigError, LookupError, OSError, OperationRefusedError):
                pass  # it was logged where it was refused
            except Exception:
                log.exception("%s failed", order.__name__)

        self._spawn(carry_out())

    def _every(self, period_s: float | None, act: Any) -> None:
        async def again() -> None:
            while period_s is not None:
                act()
                await asyncio.sleep(period_s)

        self._spawn(again())

    def _changed(self) -> None:
        self._admin.permit(self._control.snapshot.admin)
        self._watch()

    def _watch(self) -> None:
        """Begin or end watching, as the configuration in force says."""
        wanted = self._control.snapshot.watch
        if wanted and self._watcher is None:
            self._watcher = asyncio.get_running_loop().create_task(self._keep_watching())
        elif not wanted and self._watcher is not None:
            self._watcher.cancel()
            self._watcher = None

    async def _keep_watching(self) -> None:
        def reload() -> None:
            self._spawn_order(self._operations.reload_unasked)

        while True:
            try:
                await watch(self._control.files, reload)
            except Exception as error:
                log.error("cannot watch %s: %s; again soon", self._control.file, error)
                await asyncio.sleep(WATCH_AGAIN_S)
