"""Connects sockets to the addresses of endpoints, in a bounded time of a loop that runs.

The loop's own `sock_connect` is not used: uvloop's asks the resolver's threads about numeric
addresses too, and neither loop knows that a unix socket refuses what its backlog has no room for.
"""

from __future__ import annotations

import asyncio
import errno
import os
import socket
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Any, Final, cast

import aiohappyeyeballs

from meshcore._core import Reason
from meshcore.upstream.dns import Resolver, numeric

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Sequence

    from aiohappyeyeballs import AddrInfoType

# RFC 8305 §5 recommends 250 ms between attempts at two addresses.
HAPPY_EYEBALLS_DELAY_S: Final = 0.25
# Pauses before a unix socket is asked again whose backlog is full: nothing tells when it has room.
UNIX_PAUSE_S: Final = 0.005
UNIX_PAUSE_MAX_S: Final = 0.1
# In how many parts a bound is waited for, and how late a part may end: a later end says that
# the loop stood still. What came meanwhile is read in another one, before a connect counts as late.
PARTS: Final = 8
LATE_S: Final = 0.05


class Dialer:
    """What is connected to, and how."""

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self._loop = loop
        self._resolver = Resolver(loop)

    def known(self, address: str) -> Sequence[AddrInfoType] | None:
        """Where ``unix:PATH`` or ``HOST:PORT`` is; ``None``: its name must be looked up."""
        if address.startswith("unix:"):
            path = address.removeprefix("unix:")
            return [(socket.AF_UNIX, socket.SOCK_STREAM, 0, "", cast("Any", path))]
        return numeric(*host_and_port(address))

    async def look_up(self, address: str, span_s: float) -> Sequence[AddrInfoType]:
        """Where a name is. What goes wrong with it is the resolver's doing: `socket.gaierror`, or
        `UnicodeError` for what is no name."""
        try:
            async with patience(self._loop, span_s):
                return await self._resolver.resolve(*host_and_port(address))
        except TimeoutError:
            raise socket.gaierror(socket.EAI_AGAIN, "no answer in time") from None

    async def connect(self, infos: Sequence[AddrInfoType]) -> socket.socket:
        """A socket connected to one of the addresses."""
        if len(infos) > 1:
            direct = cast("asyncio.AbstractEventLoop", DirectLoop(self._loop))
            return await aiohappyeyeballs.start_connection(
                infos, happy_eyeballs_delay=HAPPY_EYEBALLS_DELAY_S, interleave=1, loop=direct
            )
        family, kind, protocol, _, address = infos[0]
        sock = socket.socket(family, kind, protocol)
        try:
            sock.setblocking(False)
            await connect_socket(self._loop, sock, address)
        except BaseException:
            sock.close()
            raise
        return sock


class DirectLoop:
    """The loop, as far as Happy Eyeballs need it, with our way to connect."""

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self._loop = loop
        self.create_task = loop.create_task
        self.create_future = loop.create_future
        self.call_later = loop.call_later

    async def sock_connect(self, sock: socket.socket, address: Any) -> None:
        """Connect a socket that does not block."""
        await connect_socket(self._loop, sock, address)


async def connect_socket(
    loop: asyncio.AbstractEventLoop, sock: socket.socket, address: Any
) -> None:
    """Connect a socket that does not block to an address that is no name."""
    pause_s = UNIX_PAUSE_S
    while True:
        try:
            sock.connect(address)
            return
        except BlockingIOError as error:
            if error.errno != errno.EAGAIN:
                break  # under way
            if sock.family != socket.AF_UNIX:
                raise
        await asyncio.sleep(pause_s)
        pause_s = min(pause_s * 2, UNIX_PAUSE_MAX_S)
    writable = loop.create_future()
    descriptor = sock.fileno()
    loop.add_writer(descriptor, _set, writable)
    try:
        await writable
    finally:
        loop.remove_writer(descriptor)
    if number := sock.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR):
        raise OSError(number, os.strerror(number))


def _set(future: asyncio.Future[None]) -> None:
    if not future.done():
        future.set_result(None)


@asynccontextmanager
async def patience(loop: asyncio.AbstractEventLoop, span_s: float) -> AsyncIterator[None]:
    """`asyncio.timeout` for what the loop must work on: time in which it stood still does not
    count. ``0``: no bound."""
    async with asyncio.timeout(None) as bound:
        parts = Parts(loop, bound, span_s / PARTS) if span_s else None
        try:
            yield
        finally:
            if parts is not None:
                parts.timer.cancel()


class Parts:
    """The parts of a bound, one after the other; one that ended late is waited for once more."""

    def __init__(
        self, loop: asyncio.AbstractEventLoop, bound: asyncio.Timeout, part_s: float
    ) -> None:
        self._loop = loop
        self._bound = bound
        self._part_s = part_s
        self._left = PARTS
        self._again = False
        self._begin()

    def _begin(self) -> None:
        self._due_s = self._loop.time() + self._part_s
        self.timer = self._loop.call_at(self._due_s, self._end)

    def _end(self) -> None:
        now_s = self._loop.time()
        # Only once: of a loop that is always late the time must pass, too.
        self._again = now_s - self._due_s > LATE_S and not self._again
        if not self._again:
            self._left -= 1
        if self._left:
            self._begin()
        else:
            self._bound.reschedule(now_s)


def host_and_port(address: str) -> tuple[str, int]:
    """The parts of ``host:port`` or ``[v6]:port``."""
    host, _, port = address.rpartition(":")
    return host.strip("[]"), int(port)


# What the process or the host lacks: says nothing about the endpoint.
_LACKING: Final = frozenset(
    {errno.EMFILE, errno.ENFILE, errno.ENOBUFS, errno.ENOMEM, errno.EADDRNOTAVAIL, errno.EAGAIN}
)


def why_unconnected(error: Exception) -> Reason:
    """Why a connection could not be made, by who is to blame for it."""
    if isinstance(error, socket.gaierror | UnicodeError):
        return Reason.UPSTREAM_RESOLVE
    if isinstance(error, ExceptionGroup):  # every address of a name failed
        return why_unconnected(error.exceptions[-1])
    if isinstance(error, OSError) and error.errno in _LACKING:
        return Reason.NO_RESOURCES
    return Reason.UPSTREAM_CONNECT
