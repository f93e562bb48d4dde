"""A small HTTP server for people, scrapers and the command line, over the proxy's own codec."""

from __future__ import annotations

import asyncio
import contextlib
import ipaddress
import logging
import os
import socket
import struct
from typing import TYPE_CHECKING, Final, cast

from meshcore._core import Answer, CodecLimits, Reason, Request, ServerCodec
from meshcore.downstream.sockets import stop_serving, until_made
from meshcore.errors import CodecError

if TYPE_CHECKING:
    from collections.abc import Callable, Coroutine

    from meshcore.admin.handlers import Handlers

log = logging.getLogger("meshcore.admin")

# An admin client that says nothing for this long is dropped; scrapers reconnect.
IDLE_S: Final = 75.0
MAX_CONNECTIONS: Final = 100
# Who connected and asked nothing yet has so long to do it, when another program takes over.
FIRST_REQUEST_S: Final = 1.0
# Orders have no body worth reading.
MAX_BODY_BYTES: Final = 64 * 1024


class Admin:
    """Serves `Handlers` on a port, on a unix socket, or on both."""

    def __init__(self, handlers: Handlers) -> None:
        self.handlers = handlers
        self._servers: dict[str, asyncio.Server] = {}
        self.connections: set[AdminConnection] = set()
        self.tasks: set[asyncio.Task[None]] = set()
        self.is_leaving = False  # whoever asks again is to ask another program
        self.progress = asyncio.Event()  # somebody was answered, or left
        self.address: str | None = None
        """The URL of the port, once there is one."""

    async def listen(self, host: str, port: int, given: socket.socket | None = None) -> None:
        """Serve a port, or a socket that is bound to it already. Raises `OSError` when the address
        cannot be had."""
        loop = asyncio.get_running_loop()
        try:
            if given is not None:
                server = await loop.create_server(self._remote, sock=given)
            else:
                server = await loop.create_server(self._remote, host, port)
        except OSError as error:
            # The loop's own text differs from loop to loop, and says it twice.
            code = error.errno or 0
            reason = os.strerror(code) if code > 0 else error.strerror
            where = f"cannot listen on {host}:{port}"
            raise OSError(error.errno, f"{where}: {reason}") from error
        self._servers[f"{host}:{port}"] = server
        self.address = _url(server.sockets[0].getsockname())

    def _remote(self) -> AdminConnection:
        return AdminConnection(self, local=False)

    def descriptors(self) -> dict[str, int]:
        """What is listened on, by address; ``local`` for the unix socket."""
        return {name: server.sockets[0].fileno() for name, server in self._servers.items()}

    async def listen_locally(self, sock: socket.socket) -> None:
        """Serve a bound unix socket, to processes of our own user and of root."""
        loop = asyncio.get_running_loop()
        server = await loop.create_unix_server(lambda: AdminConnection(self, local=True), sock=sock)
        self._servers["local"] = server

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

    async def stop(self) -> None:
        """Stop serving."""
        self.stop_accepting()
        await self.cancel_orders()
        for connection in list(self.connections):
            connection.close()
        await asyncio.sleep(0)  # the sockets are closed in the next turn


class AdminConnection(asyncio.Protocol):
    """One client; one request at a time."""

    def __init__(self, admin: Admin, *, local: bool) -> None:
        self._admin = admin
        self._local = local
        self._codec = ServerCodec(CodecLimits(body=MAX_BODY_BYTES), False)
        self._transport: asyncio.Transport | None = None
        self._idle: asyncio.TimerHandle | None = None
        self._request: Request | None = None
        self.is_new = True  # nothing was answered yet

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """The loop accepted a client."""
        self._transport = cast("asyncio.Transport", transport)
        self._admin.connections.add(self)
        is_full = len(self._admin.connections) > MAX_CONNECTIONS
        if is_full or (self._local and not is_ours(transport.get_extra_info("socket"))):
            self.close()
        self._rearm()

    def _rearm(self) -> None:
        if self._idle is not None:
            self._idle.cancel()
        self._idle = asyncio.get_running_loop().call_later(IDLE_S, self.close)

    def data_received(self, data: bytes) -> None:
        """Bytes of requests."""
        self._rearm()
        self._read(lambda: self._codec.receive(data))

    def _read(self, first: Callable[[], object]) -> None:
        try:
            event = first()
            while event is not None:
                if isinstance(event, Request):
                    self._request = event
                if self._codec.request_complete and self._request is not None:
                    request, self._request = self._request, None
                    if not self._serve(request):
                        return
                event = self._codec.next_event()
        except CodecError as error:
            self._send(self._codec.send_answer(None, Answer.for_codec_error(error), False))
            self.close()

    def _serve(self, request: Request) -> bool:
        """Answer a request; false: later, or never another."""
        handlers = self._admin.handlers
        if request.method not in ("GET", "HEAD") and not (self._local or is_meant(request)):
            return self._answer(request, handlers.forbidden())
        answer = handlers.answer(request)
        if isinstance(answer, Answer):
            return self._answer(request, answer)
        assert self._transport is not None
        self._transport.pause_reading()
        task = asyncio.get_running_loop().create_task(self._answer_later(request, answer))
        self._admin.tasks.add(task)
        task.add_done_callback(self._admin.tasks.discard)
        return False

    async def _answer_later(
        self, request: Request, work: Coroutine[object, object, Answer]
    ) -> None:
        try:
            answer = await work
        except Exception:
            log.exception("%s %s failed", request.method, request.path)
            answer = Answer.for_reason(Reason.INTERNAL_ERROR)
        if self._answer(request, answer) and self._transport is not None:
            self._rearm()
            self._transport.resume_reading()
            self._read(self._codec.next_event)

    def _answer(self, request: Request, answer: Answer) -> bool:
        self.is_new = False
        self._admin.progress.set()
        self._send(self._codec.send_answer(request, answer, not self._admin.is_leaving))
        if not self._codec.keep_alive:
            self.close()
            return False
        self._codec.start_next()
        return True

    def _send(self, data: bytes) -> None:
        if self._transport is not None and not self._transport.is_closing():
            self._transport.write(data)

    def close(self) -> None:
        """Close the connection."""
        if self._transport is not None:
            self._transport.close()

    def connection_lost(self, exc: Exception | None) -> None:
        """The connection is gone."""
        self._transport = None
        self._admin.connections.discard(self)
        self._admin.progress.set()
        if self._idle is not None:
            self._idle.cancel()


def is_meant(request: Request) -> bool:
    """Whether an order was meant for this port: a page in a browser can send one to any address,
    but only with its origin; and one whose name was bound anew to our address shows that name."""
    if request.header("origin") is not None:
        return False
    host = request.host.rpartition(":")[0] if not request.host.endswith("]") else request.host
    host = host or request.host
    if host.lower() == "localhost":
        return True
    try:
        ipaddress.ip_address(host.strip("[]"))
    except ValueError:
        return False
    return True


def is_ours(sock: socket.socket) -> bool:
    """Whether the other end of a unix socket belongs to our user, or to root."""
    if not hasattr(socket, "SO_PEERCRED"):
        return True  # the socket's file mode says it
    size = struct.calcsize("3i")
    _, uid, _ = struct.unpack("3i", sock.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, size))
    return uid in (0, os.geteuid())


def _url(name: tuple[str, int]) -> str:
    host = f"[{name[0]}]" if ":" in name[0] else name[0]
    return f"http://{host}:{name[1]}"
