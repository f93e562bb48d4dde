"""The program of `meshcore run`: signals, orders and the life of the whole."""

from __future__ import annotations

import asyncio
import contextlib
import errno
import logging
import math
import os
import signal
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from typing import TYPE_CHECKING, Any, Final, TypeVar

from meshcore.admin.handlers import OperationRefusedError
from meshcore.errors import ConfigError
from meshcore.process.certificates import CHECK_S
from meshcore.process.channel import send_message
from meshcore.process.control import Control
from meshcore.process.fleet import WorkerFailedError
from meshcore.process.inheritance import Predecessor
from meshcore.process.init import FORWARDED, Init
from meshcore.process.limits import give_way, raise_descriptor_limit
from meshcore.process.notify import activated, notify, watchdog_s
from meshcore.process.service import Service
from meshcore.process.socket_groups import Address, SocketGroups
from meshcore.process.tickets import LOOK_S
from meshcore.process.upgrade import Upgrade

if TYPE_CHECKING:
    import socket
    from collections.abc import Coroutine

    from meshcore.process.fleet import Fleet
    from meshcore.process.source import Source

T = TypeVar("T")

log = logging.getLogger("meshcore")

# A socket that cannot accept for want of these is told of by the loop a hundred times a second.
SCARCE: Final = (errno.EMFILE, errno.ENFILE, errno.ENOBUFS, errno.ENOMEM)
TELL_AGAIN_S: Final = 60.0


def run_supervised(source: Source, workers: int | None, *, key_log: str | None = None) -> int:
    """Serve what a source says until a signal ends it; the exit code. ``workers`` go before what
    it says; secrets of TLS go to the file ``key_log``.

    Raises `ConfigError` and `OSError` when it cannot begin, `WorkerFailedError` when no worker can.
    """
    raise_descriptor_limit()
    return asyncio.run(_run(source, workers, key_log))


async def _run(source: Source, workers: int | None, key_log: str | None) -> int:
    supervisor = Supervisor(source, workers, key_log)
    try:
        return await supervisor.run()
    except WorkerFailedError as error:
        raise supervisor.placed(error) from None
    finally:
        # All is over: another signal is not to change the exit code while the interpreter ends.
        for number in FORWARDED:
            asyncio.get_running_loop().remove_signal_handler(number)
            signal.signal(number, signal.SIG_IGN)


def _beat() -> None:
    notify("WATCHDOG=1", patience_s=0)  # the next one comes soon


def _notify(init: socket.socket, message: dict[str, int]) -> None:
    with contextlib.suppress(OSError):
        send_message(init, message)


def _notify_end(init: socket.socket, successor: int, pid: int, code: int) -> None:
    """The first process cannot wait for a successor of ours while we drain: it is our child."""
    if pid == successor:
        _notify(init, {"ended": pid, "code": code})


class Supervisor:
    """Signals, predecessors and successors, the beginning and the end of the program."""

    def __init__(self, source: Source, workers: int | None, key_log: str | None) -> None:
        self._source = source
        self._workers = workers
        self._key_log = key_log
        self._groups = SocketGroups(by_reuseport=True)
        self._service: Service | None = None  # until the configuration is read
        self._begun = asyncio.Event()
        self._ended = asyncio.Event()
        self._end_now = asyncio.Event()
        self._init: socket.socket | None = None
        self._successor: tuple[int, socket.socket] | None = None
        self._stand_in: Init | None = None
        self._told_s = -math.inf  # of what is scarce
        self._owns = True  # sockets and their files: no other program has them
        self._reloads_waiting = 0
        self._tasks: set[asyncio.Task[Any]] = set()

    # --- the life of the program --------------------------------------------------------------

    def placed(self, error: WorkerFailedError) -> Exception:
        """The same with its place in the configuration, if it has one."""
        if error.layer is None or self._service is None:
            return error
        return self._service.control.placed(error.layer)

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
            (signal.SIGHUP, self._reload),
            (signal.SIGUSR1, self._reopen_log),
            (signal.SIGUSR2, self._upgrade),
        ):
            loop.add_signal_handler(number, self._on_order, number, order)
        predecessor = Predecessor.from_environment()
        self._owns = predecessor is None
        try:
            await self._begin_or_say(predecessor)
            await self._ended.wait()
            await self._stop()
        except BaseException:
            await self._fail()
            raise
        return 0 if self._stand_in is None else await self._stand_in.run()

    async def _begin_or_say(self, predecessor: Predecessor | None) -> None:
        try:
            await self._begin(predecessor)
        except (ConfigError, OSError) as error:
            if predecessor is not None:
                predecessor.say_failed(str(error))
            raise
        except WorkerFailedError as error:
            if predecessor is not None:
                predecessor.say_failed(str(self.placed(error)))
            raise

    async def _begin(self, predecessor: Predecessor | None) -> None:
        self._take_activated()
        if predecessor is not None:
            predecessor.give_groups(self._groups)
            self._init = predecessor.init
        built = await self._unless_ended(self._built(predecessor))
        if built is None:
            return
        service = self._service = built.result()
        control = service.control
        if predecessor is None:
            await service.serve_admin({})
        if not await self._started(control):
            return
        if predecessor is not None:  # until now the old one answers
            await service.serve_admin(predecessor.admin)
        service.operations.serving = True
        self._begun.set()
        for name, address in self._groups.addresses().items():
            log.info("listening %s (%s)", address, name)
        if service.admin.address is not None:
            log.info("listening %s (admin)", service.admin.address)
        if predecessor is not None:
            self._owns = True
            predecessor.say_ready()
        notify("READY=1", f"MAINPID={os.getpid()}", f"STATUS={control.workers.count} workers")
        self._every(watchdog_s(), _beat)
        self._every(LOOK_S, control.workers.look_after_tickets)
        self._every(CHECK_S, service.operations.expiry.look)
        service.watch()

    async def _built(self, predecessor: Predecessor | None) -> Service:
        control = await Control.begin(
            self._source,
            self._groups,
            predecessor,
            workers=self._workers,
            key_log=self._key_log,
            on_failure=self._ended.set,
        )
        return Service(
            control,
            self._hand_over,
            partial(self._on_stop, signal.SIGTERM),
            lambda: self._spawn_order(self._reload),
        )

    async def _unless_ended(self, work: Coroutine[Any, Any, T]) -> asyncio.Task[T] | None:
        """The work when it is over; none if a signal, or a failure, ends the program before: a
        large file takes seconds."""
        working = asyncio.ensure_future(work)
        ended = asyncio.ensure_future(self._ended.wait())
        await asyncio.wait((working, ended), return_when=asyncio.FIRST_COMPLETED)
        ended.cancel()
        if working.done():
            return working
        working.cancel()
        return None

    async def _started(self, control: Control) -> bool:
        """Wait until all workers are ready; false: a signal came first."""
        started = await self._unless_ended(control.fleet.start(control.workers.count))
        if started is not None:
            started.result()  # asked first: an error that nobody asks for is told of at the end
        if control.fleet.fault is not None:
            raise control.fleet.fault
        return started is not None

    async def _hand_over(self) -> int:
        """Start the new program, and end when it is ready; its process id."""
        service, init = self._serving, self._init
        upgrade, fleet = Upgrade(service.control), service.control.fleet
        kept = await upgrade.run(service.admin.descriptors(), init.fileno() if init else None)
        service.admin.stop_accepting()
        service.end_watch()
        self._successor, self._owns = (upgrade.pid, kept), False
        if os.getpid() == 1:
            self._stand_in = Init(*self._successor)
            fleet.on_other = self._stand_in.ended
        if init is not None:
            _notify(init, {"successor": upgrade.pid})
            fleet.on_other = partial(_notify_end, init, upgrade.pid)
        notify(f"MAINPID={upgrade.pid}")
        if self._reloads_waiting:  # it has read what was there when it began
            with contextlib.suppress(ProcessLookupError):
                os.kill(upgrade.pid, signal.SIGHUP)
        self._ended.set()
        return upgrade.pid

    def _take_activated(self) -> None:
        for sock in activated():
            name = sock.getsockname()
            if isinstance(name, str):
                address = Address("", 0, name, "")
            else:
                address = Address(name[0], name[1], None, "")
            self._groups.give(address, {0: sock}, by_reuseport=False)

    async def _stop(self) -> None:
        service = self._service
        if service is None:
            await self._close()
            return
        if service.control.fleet.fault is not None:
            raise service.control.fleet.fault
        for task in self._tasks:  # an upgrade too: it is not to outlive the order to stop
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        await service.admin.cancel_orders()
        service.operations.serving = False
        log.info("draining")
        if self._successor is None:
            notify("STOPPING=1")
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(service.control.snapshot.drain_delay_ns / 1e9):
                    await self._end_now.wait()
        # Not for good, if the new program goes on with them.
        self._groups.close(for_good=self._owns)
        await service.control.fleet.stop()
        if self._successor is not None:
            await service.admin.leave()
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
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        if self._service is not None:
            self._service.end_watch()
        self._groups.close(for_good=self._owns)
        if self._service is not None:
            await self._service.admin.stop(for_good=self._owns)

    @property
    def _serving(self) -> Service:
        """The service, where it must be there."""
        assert self._service is not None
        return self._service

    @property
    def _fleet(self) -> Fleet | None:
        return self._service.control.fleet if self._service is not None else None

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
        """Whether a signal was for the program that has taken over: a signal to the first
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
                try:
                    act()
                except Exception:  # the next time it may go well
                    log.exception("what is done every %g s failed", period_s)
                await asyncio.sleep(period_s)

        self._spawn(again())

    async def _reload(self) -> None:
        self._reloads_waiting += 1
        try:
            await self._serving.operations.reload_unasked()
        finally:
            self._reloads_waiting -= 1

    async def _reopen_log(self) -> None:
        self._serving.control.workers.reopen_log()

    async def _upgrade(self) -> None:
        await self._serving.operations.upgrade()
