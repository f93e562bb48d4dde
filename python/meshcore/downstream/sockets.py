"""Sockets that listeners accept from: bound here, by the process that keeps them."""

from __future__ import annotations

import asyncio
import logging
import os
import socket
import stat
from pathlib import Path
from typing import TYPE_CHECKING, Final

from meshcore.config.snapshot import OWNER_ALONE

if TYPE_CHECKING:
    from meshcore.config.snapshot import ListenerSpec

# The most turns of the loop between a connection's accept and its making.
_TURNS_TO_MAKE: Final = 3

log = logging.getLogger("meshcore")


def bound_socket(spec: ListenerSpec, *, reuse_port: bool = False) -> socket.socket:
    """A bound socket that does not listen yet.

    With ``reuse_port`` others may be bound to the same address: the kernel gives each of them a
    queue of its own, and spreads connections over them. Raises `OSError`, naming the address.
    """
    if spec.unix_path is not None:
        sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        address: object = spec.unix_path
        remove_stale(spec.unix_path)
        # The file gets what the socket has, less the umask: at no time more.
        os.fchmod(sock.fileno(), _mode(spec))
    else:
        family = socket.AF_INET6 if ":" in spec.host else socket.AF_INET
        sock = socket.socket(family, socket.SOCK_STREAM)
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        if reuse_port:
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
        if family == socket.AF_INET6:
            sock.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 0)
        address = (spec.host, spec.port)
    try:
        sock.setblocking(False)
        sock.bind(address)  # type: ignore[arg-type]  # a path or a pair, by family
        if spec.unix_path is not None:
            set_mode(spec)
    except OSError as error:
        sock.close()
        where = spec.unix_path or f"{spec.host}:{spec.port}"
        raise OSError(error.errno, f"cannot listen on {where}: {error.strerror}") from error
    return sock


def _mode(spec: ListenerSpec) -> int:
    return OWNER_ALONE if spec.unix_mode is None else spec.unix_mode


def set_mode(spec: ListenerSpec) -> None:
    """Give the file of a unix socket the mode that its listener shall have. Raises `OSError`."""
    path = Path(spec.unix_path or "")
    if stat.S_IMODE(path.lstat().st_mode) != _mode(spec):
        path.chmod(_mode(spec))


def remove_stale(path: str) -> None:
    """Remove a socket file without a listener; one in use is left, and `bind` says so, as of
    any other file."""
    try:
        if not stat.S_ISSOCK(os.lstat(path).st_mode):
            return  # to connect to one is refused, too
    except OSError:
        return
    probe = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    try:
        probe.connect(path)
    except ConnectionRefusedError:
        Path(path).unlink(missing_ok=True)
    except OSError:
        pass
    finally:
        probe.close()


def remove_file(path: str) -> None:
    """Remove the file of a socket that was ours. One that stays is logged, and no more: whoever
    stops to listen there has stopped, and the next to bind is told."""
    try:
        Path(path).unlink(missing_ok=True)
    except OSError as error:
        log.error("the socket file %s stays: %s", path, error.strerror)


def url_of(spec: ListenerSpec, sock: socket.socket) -> str:
    """Where a listener can be reached; the port is the real one when 0 was asked for."""
    scheme = "https" if spec.tls is not None else "http"
    name = sock.getsockname()
    if isinstance(name, str):
        return f"{scheme}+unix:{name}"
    host = f"[{name[0]}]" if ":" in name[0] else name[0]
    return f"{scheme}://{host}:{name[1]}"


def end_of(name: object) -> tuple[str | None, int]:
    """Address and port of a socket's end, from what its transport says; ``None`` where it has
    none."""
    return (name[0], name[1]) if isinstance(name, tuple) else (None, 0)


def stop_serving(server: asyncio.Server) -> None:
    """Accept no more from the next turn of the loop on, and keep what was accepted.

    asyncio makes a connection one turn of the loop after it was accepted, and drops it without a
    word when the server is closed by then.
    """
    loop = server.get_loop()
    for sock in server.sockets:
        if sock is not None:  # uvloop's, when it failed
            loop.remove_reader(sock.fileno())  # asyncio's; uvloop has none
    loop.call_soon(server.close)


async def until_made() -> None:
    """Wait until what was accepted so far is made."""
    for _ in range(_TURNS_TO_MAKE):
        await asyncio.sleep(0)
