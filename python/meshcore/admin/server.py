"""A small HTTP server for people, scrapers and the command line, over the proxy's own codec."""

from __future__ import annotations

import asyncio
import contextlib
import ipaddress
import itertools
import logging
import os
import socket
import stat
import struct
from collections import Counter
from typing import TYPE_CHECKING, Final

from meshcore.admin.access import Access
from meshcore.admin.connection import AdminConnection, Phase
from meshcore.config.file import open_to_all
from meshcore.config.snapshot import AdminSpec
from meshcore.downstream.sockets import remove_file, remove_stale, stop_serving, until_made

if TYPE_CHECKING:
    from collections.abc import Coroutine, Mapping

    from meshcore.admin.handlers import Handlers

log = logging.getLogger("meshcore.admin")

# Of the port, and again of the command line's socket. None of these 100 is turned away:
# the client that was silent longest makes place.
MAX_CONNECTIONS: Final = 100
# Clients wait in the kernel while the loop is busy; it takes no more than net.core.somaxconn.
BACKLOG: Final = 1024
# Answers that are not taken, over all connections; a single one may be larger.
MAX_UNREAD_BYTES: Final = 64 << 20
# How long a client that has asked nothing yet may wait, when another program takes over.
FIRST_REQUEST_S: Final = 1.0


class Admin:
    """Serves `Handlers` on a port or a unix socket, and on the command line's unix socket."""

    def __init__(self, handlers: Handlers) -> None:
        self.handlers = handlers
        self._servers: dict[str, asyncio.Server] = {}
        self.connections: set[AdminConnection] = set()
        self.numbers = itertools.count()  # of what clients do: clocks of loops are coarse
        self.tasks: set[asyncio.Task[None]] = set()
        self.is_leaving = False  # a client that asks again is to ask another program
        self.progress = asyncio.Event()  # a client was answered, or left
        self.address: str | None = None
        """The URL of the port, once there is one."""
        self.access = Access(AdminSpec("", 0), is_near=False)
        """Who may ask what of the port; before anything is said of that, the least."""
        self._unix_path: str | None = None  # of a socket that is ours to remove
        self._served = ""
        self._is_near = False

    # --- sockets --------------------------------------------------------------------------------

    async def listen(self, spec: AdminSpec, given: socket.socket | None = None) -> None:
        """Serve a port or a unix socket, or a socket that is bound to it already. Raises `OSError`
        when the address cannot be had."""
        loop = asyncio.get_running_loop()
        try:
            if spec.unix_path is not None:
                given = _bound(spec.unix_path) if given is None else given
                # A new one is not connected to meanwhile: it does not listen yet.
                os.chmod(spec.unix_path, spec.mode)
            if given is not None:
                server = await loop.create_server(self._remote, sock=given, backlog=BACKLOG)
            else:
                where = (spec.host, spec.port)
                server = await loop.create_server(self._remote, *where, backlog=BACKLOG)
        except OSError as error:
            # The loop's own text differs from loop to loop, and says it twice.
            code = error.errno or 0
            reason = os.strerror(code) if code > 0 else error.strerror
            where_text = spec.unix_path or spec.address
            raise OSError(error.errno, f"cannot listen on {where_text}: {reason}") from error
        self._servers[spec.address] = server
        self._unix_path, self._served = spec.unix_path, spec.address
        self._is_near = all(map(_is_near, server.sockets))
        self.address = _url(server.sockets[0].getsockname())
        self.permit(spec)

    def permit(self, spec: AdminSpec | None) -> None:
        """Let those ask who may by a new configuration; its address is for an upgrade."""
        if not self._served or spec is None:
            if self._served or spec is not None:
                log.warning("admin: whether there is a port changes with an upgrade or a restart")
            return
        if spec.address != self._served:
            log.warning("admin.bind: %s is served until an upgrade or a restart", self._served)
        elif self._unix_path is not None:
            self._set_mode(self._unix_path, spec.mode)
        remark = open_to_all(spec.token_file) if spec.token_file is not None else None
        if remark is not None:
            log.warning("admin.token_file: %s", remark)
        self.access = Access(spec, is_near=self._is_near)

    @staticmethod
    def _set_mode(path: str, mode: int) -> None:
        try:
            found = os.lstat(path).st_mode
            if stat.S_ISSOCK(found) and stat.S_IMODE(found) != mode:
                os.chmod(path, mode)
        except OSError as error:
            log.error("admin: the mode of %s stays: %s", path, error.strerror)

    def _remote(self) -> AdminConnection:
        return AdminConnection(self, local=False)

    def descriptors(self) -> dict[str, int]:
        """What is listened on, by address; ``local`` for the command line's socket."""
        return {name: server.sockets[0].fileno() for name, server in self._servers.items()}

    async def listen_locally(self, sock: socket.socket) -> None:
        """Serve a bound unix socket, to processes of our own user and of root."""
        loop = asyncio.get_running_loop()
        server = await loop.create_unix_server(lambda: AdminConnection(self, local=True), sock=sock)
        self._servers["local"] = server

    # --- clients ------------------------------------------------------------------------------

    def admit(self, newcomer: AdminConnection, sock: socket.socket) -> None:
        """Take a client; if there are too many, another goes.

        Of the clients from the address that has most connections, the one that is in its phase for
        longest: so no client keeps out those from elsewhere, and silence keeps none out at all.
        """
        self.connections.add(newcomer)
        if newcomer.local and not is_ours(sock):
            newcomer.abort()
            return
        those = [each for each in self.connections if each.local == newcomer.local]
        if len(those) <= MAX_CONNECTIONS:
            return
        crowds = Counter(each.peer for each in those)
        idle = [x for x in those if x is not newcomer and x.phase is not Phase.ORDERED]
        max(idle, key=lambda x: (crowds[x.peer], -x.since), default=newcomer).abort()

    def make_memory(self, newest: AdminConnection) -> None:
        """End clients that do not take their answers, the oldest first, while these are too many
        bytes."""
        slow = [each for each in self.connections if each.unread_bytes and each is not newest]
        slow.sort(key=lambda each: each.since, reverse=True)
        unread = newest.unread_bytes + sum(each.unread_bytes for each in slow)
        while slow and unread > MAX_UNREAD_BYTES:
            oldest = slow.pop()
            unread -= oldest.unread_bytes
            oldest.abort()

    def begin(self, work: Coroutine[object, object, None]) -> asyncio.Task[None]:
        """Do what takes a while beside the rest."""
        task = asyncio.get_running_loop().create_task(work)
        self.tasks.add(task)
        task.add_done_callback(self.tasks.discard)
        return task

    # --- the end ------------------------------------------------------------------------------

    def stop_accepting(self) -> None:
        """Leave new clients to another program that has the same sockets, and those that we have
        after their next answer."""
        self.is_leaving = True
        for server in self._servers.values():
            stop_serving(server)
        self._servers.clear()

    async def cancel_orders(self) -> None:
        """End what is under way: the program ends."""
        for task in self.tasks:
            task.cancel()
        await asyncio.gather(*self.tasks, return_exceptions=True)

    async def leave(self) -> None:
        """Answer those who came to us and not to the program that has the same sockets; `stop`
        follows."""
        self.stop_accepting()
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(FIRST_REQUEST_S):
                await until_made()
                while any(connection.is_new for connection in self.connections):
                    self.progress.clear()
                    await self.progress.wait()

    async def stop(self, *, for_good: bool = True) -> None:
        """Stop serving; for good, if no other program has the sockets."""
        self.stop_accepting()
        await self.cancel_orders()
        for connection in list(self.connections):
            connection.close()
        if for_good and self._unix_path is not None:
            remove_file(self._unix_path)
        await asyncio.sleep(0)  # the sockets are closed in the next turn


def give_up(sockets: Mapping[str, socket.socket]) -> None:
    """Close sockets that another program had, by address, and that are not to be served."""
    for address, sock in sockets.items():
        sock.close()
        if address.startswith("unix:"):
            remove_file(address.removeprefix("unix:"))


def _bound(path: str) -> socket.socket:
    """A unix socket at a path. Raises `OSError`."""
    sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    try:
        remove_stale(path)
        sock.bind(path)
    except BaseException:
        sock.close()
        raise
    return sock


def _is_near(sock: socket.socket) -> bool:
    """Whether only this machine's programs reach a socket."""
    name = sock.getsockname()
    if not isinstance(name, tuple):
        return True
    address = ipaddress.ip_address(name[0].partition("%")[0])
    mapped = getattr(address, "ipv4_mapped", None)
    return (mapped or address).is_loopback


def is_ours(sock: socket.socket) -> bool:
    """Whether the other end of a unix socket belongs to our user, or to root."""
    if not hasattr(socket, "SO_PEERCRED"):
        return True  # the socket's file mode says it
    size = struct.calcsize("3i")
    _, uid, _ = struct.unpack("3i", sock.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, size))
    return uid in (0, os.geteuid())


def _url(name: tuple[str, int] | str) -> str:
    if isinstance(name, str):
        return f"http+unix:{name}"
    host = f"[{name[0]}]" if ":" in name[0] else name[0]
    return f"http://{host}:{name[1]}"
