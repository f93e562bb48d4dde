"""Looks the names of endpoints up, in threads of its own.

The loop's threads are few (four under uvloop) and shared, and a name server that is silent
holds one for half a minute. Here a name has one look-up at a time, however many wait for it, and
one that hangs gives its place to the next name.
"""

from __future__ import annotations

import asyncio
import contextlib
import errno
import socket
import threading
from collections import deque
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Sequence

    from aiohappyeyeballs import AddrInfoType

# Look-ups under way. A thread sleeps nearly all of that time.
PLACES: Final = 8
# One that takes this long hangs: the system's resolver asks again only after five seconds
# (resolv.conf(5)). It keeps its thread, and its place goes to the next name.
HANGS_AFTER_S: Final = 1.0
# Of look-ups under way and of those that hang: beyond it names wait, each no longer than
# `connect_timeout`.
THREADS: Final = 64


@dataclass(slots=True, eq=False)
class Lookup:
    """A name whose addresses are wanted."""

    name: str
    answer: asyncio.Future[Sequence[AddrInfoType]]
    waiters: int = 0
    hangs: asyncio.TimerHandle | None = None
    """As long as it has a place."""


class Resolver:
    """The look-ups of a worker."""

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self._loop = loop
        self._lookups: dict[str, Lookup] = {}
        self._waiting: deque[Lookup] = deque()
        self._places = PLACES
        self._threads = 0

    async def resolve(self, name: str, port: int) -> Sequence[AddrInfoType]:
        """The addresses of a name, at a port. Raises `OSError`, or `UnicodeError` for what is no
        name; how long it may take is the caller's business."""
        lookup = self._lookups.get(name)
        if lookup is None:
            lookup = self._lookups[name] = Lookup(name, self._loop.create_future())
            self._waiting.append(lookup)
        lookup.waiters += 1
        self._start()
        try:
            return at_port(await asyncio.shield(lookup.answer), port)
        finally:
            lookup.waiters -= 1

    def _start(self) -> None:
        while self._waiting and self._places > 0 and self._threads < THREADS:
            lookup = self._waiting.popleft()
            if not lookup.waiters:
                del self._lookups[lookup.name]  # all have given up
                continue
            # It ends with the process, whatever it waits for.
            thread = threading.Thread(
                target=self._look_up, args=(lookup,), name="meshcore-dns", daemon=True
            )
            try:
                thread.start()
            except RuntimeError:
                del self._lookups[lookup.name]
                lookup.answer.set_exception(OSError(errno.EAGAIN, "no thread can be started"))
                continue
            self._threads += 1
            self._places -= 1
            lookup.hangs = self._loop.call_later(HANGS_AFTER_S, self._give_place, lookup)

    def _look_up(self, lookup: Lookup) -> None:
        """In a thread."""
        result: Sequence[AddrInfoType] | Exception
        try:
            result = system_look_up(lookup.name)
        except Exception as error:
            result = error
        with contextlib.suppress(RuntimeError):  # the loop is closed
            self._loop.call_soon_threadsafe(self._end, lookup, result)

    def _end(self, lookup: Lookup, result: Sequence[AddrInfoType] | Exception) -> None:
        self._threads -= 1
        del self._lookups[lookup.name]
        if not lookup.answer.done():
            if isinstance(result, Exception):
                lookup.answer.set_exception(result)
                lookup.answer.exception()  # there may be no waiter any more
            else:
                lookup.answer.set_result(result)
        self._give_place(lookup)

    def _give_place(self, lookup: Lookup) -> None:
        """It is over, or hangs."""
        if lookup.hangs is not None:
            lookup.hangs.cancel()
            lookup.hangs = None
            self._places += 1
        self._start()


def system_look_up(name: str) -> Sequence[AddrInfoType]:
    """Ask the system's resolver: hosts(5), name servers, or what else it is told to ask."""
    return socket.getaddrinfo(name, None, type=socket.SOCK_STREAM)


def numeric(host: str, port: int) -> Sequence[AddrInfoType] | None:
    """The address that a host is written as; ``None``: it is a name. Asks no server."""
    try:
        return socket.getaddrinfo(host, port, type=socket.SOCK_STREAM, flags=socket.AI_NUMERICHOST)
    except (socket.gaierror, UnicodeError):
        return None


def at_port(infos: Sequence[AddrInfoType], port: int) -> Sequence[AddrInfoType]:
    """The addresses of a name, with a port."""
    return [(*each[:4], (each[4][0], port, *each[4][2:])) for each in infos]
