"""One listener: its sockets, its connections, and what they share."""

from __future__ import annotations

import asyncio
import socket
from pathlib import Path
from typing import TYPE_CHECKING, Protocol

from meshcore._core import now_ns
from meshcore.codec.engines import server_engine
from meshcore.downstream.detect import Detection, SecureDetection
from meshcore.downstream.http1 import LINGER_NS, Http1Connection, SecureHttp1Connection
from meshcore.downstream.http2 import Http2Connection
from meshcore.downstream.tls import server_context
from meshcore.exchange.exchange import Exchange
from meshcore.exchange.logged import LoggedExchange

if TYPE_CHECKING:
    from collections.abc import Callable

    from meshcore._core import Answer, CodecLimits, Engine, Peer
    from meshcore._core import Listener as Stack
    from meshcore.codec import ServerCodec
    from meshcore.config.snapshot import Http2Spec, ListenerSpec
    from meshcore.downstream.deadlines import Deadlines
    from meshcore.exchange.ports import Driver

# As long as the kernel allows (net.core.somaxconn is 4096 on current Linux): a burst of
# connections waits here instead of being refused.
BACKLOG = 4096
# What TLS decrypts into, shared by the connections of a listener: four records at most.
RECEIVE_BYTES = 64 * 1024
# An unanswered close_notify ends a TLS connection after this long.
TLS_SHUTDOWN_S = 2.0
# How long the last words of a connection have to go out before it is cut: as long as a client has
# to take a refusal (`LINGER_NS`).
LAST_WORDS_NS = LINGER_NS


class Connection(Protocol):
    """What a listener needs to know of its connections."""

    def drain(self, now: int) -> None:
        """Take no further request but those that are on their way."""

    def end(self, now: int) -> None:
        """The time to drain is over: end what is under way with the reason, and close."""

    def abort(self) -> None:
        """Cut it."""


class Listener:
    """Accepts connections for one `bind` of the configuration."""

    def __init__(
        self, spec: ListenerSpec, engine: Engine, driver: Driver, deadlines: Deadlines
    ) -> None:
        self.spec = spec
        self.driver = driver
        self.deadlines = deadlines
        self.stack: Stack = engine.listener(spec.name)
        self.codec_limits: CodecLimits = spec.codec_limits()
        self.secure = spec.tls is not None
        self._h2 = spec.h2
        self._new_h2_codec = server_engine(spec.h2) if spec.h2 is not None else None
        self.received = memoryview(bytearray(RECEIVE_BYTES if self.secure else 0))
        self.header_timeout_ns = spec.header_timeout_ns
        self.idle_timeout_ns = spec.idle_timeout_ns
        self.exchange = Exchange if driver.access_log is None else LoggedExchange
        self.draining = False
        self._engine = engine
        self._server: asyncio.Server | None = None
        self._connections: set[Connection] = set()
        self._end_slot: int | None = None  # of the deadlines, once the time to drain is over
        self._idle = asyncio.Event()
        self._idle.set()

    async def start(self) -> None:
        """Bind and accept. Raises `OSError` when the address cannot be had."""
        loop = asyncio.get_running_loop()
        tls = server_context(self.spec.tls, self._alpn()) if self.spec.tls is not None else None
        protocol = self._protocol()
        handshake = self.spec.tls_handshake_timeout_ns / 1e9 or None
        self._server = await loop.create_server(
            lambda: protocol(self),
            sock=bound_socket(self.spec),
            backlog=BACKLOG,
            ssl=tls,
            ssl_handshake_timeout=handshake if tls else None,
            ssl_shutdown_timeout=TLS_SHUTDOWN_S if tls else None,
        )

    def _protocol(self) -> Callable[[Listener], asyncio.BaseProtocol]:
        """What a new connection begins as."""
        if self.spec.h2 is None:
            return SecureHttp1Connection if self.secure else Http1Connection
        if self.secure:
            return SecureDetection
        return Detection if self.spec.http1 else Http2Connection

    def _alpn(self) -> list[str]:
        return [*(["h2"] if self.spec.h2 else []), *(["http/1.1"] if self.spec.http1 else [])]

    @property
    def h2(self) -> Http2Spec:
        """How HTTP/2 is spoken; only asked by connections that do."""
        assert self._h2 is not None
        return self._h2

    def h2_codec(self, now: int) -> ServerCodec:
        """A codec for a new connection that speaks HTTP/2."""
        assert self._new_h2_codec is not None
        return self._new_h2_codec(self.codec_limits, self.secure, now)

    @property
    def address(self) -> str:
        """Where it listens, as a URL; the port is the real one when 0 was asked for."""
        assert self._server is not None
        scheme = "https" if self.secure else "http"
        name = self._server.sockets[0].getsockname()
        if isinstance(name, str):
            return f"{scheme}+unix:{name}"
        host = f"[{name[0]}]" if ":" in name[0] else name[0]
        return f"{scheme}://{host}:{name[1]}"

    def peer_of(self, peername: object) -> Peer:
        """Who is at the other end, from what the transport says."""
        host = peername[0] if isinstance(peername, tuple) else None
        return self._engine.peer(host)

    def answered(self, answer: Answer) -> None:
        """Count an answer given before a request began."""
        self.stack.answered(answer)

    def admit(self, connection: Connection) -> bool:
        """Take a connection in; false when the listener is full."""
        self._connections.add(connection)
        self.stack.connected()
        self._idle.clear()
        return len(self._connections) <= self.spec.max_connections

    def replace(self, connection: Connection, by: Connection) -> None:
        """It is known now what the connection speaks."""
        self._connections.discard(connection)
        self._connections.add(by)

    def leave(self, connection: Connection) -> None:
        """A connection is gone."""
        self._connections.discard(connection)
        self.stack.disconnected()
        if not self._connections:
            self._idle.set()

    @property
    def connections(self) -> int:
        """Open connections."""
        return len(self._connections)

    def stop_accepting(self) -> None:
        """Close the socket. Connections go on."""
        if self._server is not None:
            self._server.close()
        if self.spec.unix_path is not None:
            Path(self.spec.unix_path).unlink(missing_ok=True)

    def drain(self) -> None:
        """Tell every connection, and every one that is still accepted, to take no request but those
        that are on their way; `drained` when the last is gone."""
        self.draining = True
        now = now_ns()
        for connection in list(self._connections):
            connection.drain(now)

    async def drained(self) -> None:
        """Wait until the last connection is closed."""
        await self._idle.wait()

    def end(self, now: int) -> None:
        """The time to drain is over: end what is under way with the reason ``draining``, and cut
        what is not gone when that had its time to go out."""
        for connection in list(self._connections):
            connection.end(now)
        if self._connections and self._end_slot is None:
            self._end_slot = self.deadlines.add(self, now + LAST_WORDS_NS)

    def on_deadline(self, now: int) -> None:
        """The last words had their time."""
        if self._end_slot is not None:
            self.deadlines.remove(self._end_slot)
            self._end_slot = None
        self.abort()

    def abort(self) -> None:
        """Cut what is left."""
        for connection in list(self._connections):
            connection.abort()


def bound_socket(spec: ListenerSpec) -> socket.socket:
    """A bound socket that does not listen yet."""
    if spec.unix_path is not None:
        sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        address: object = spec.unix_path
        remove_stale(spec.unix_path)
    else:
        family = socket.AF_INET6 if ":" in spec.host else socket.AF_INET
        sock = socket.socket(family, socket.SOCK_STREAM)
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        if family == socket.AF_INET6:
            sock.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 0)
        address = (spec.host, spec.port)
    try:
        sock.setblocking(False)
        sock.bind(address)  # type: ignore[arg-type]  # a path or a pair, by family
    except OSError as error:
        sock.close()
        where = spec.unix_path or f"{spec.host}:{spec.port}"
        raise OSError(error.errno, f"cannot listen on {where}: {error.strerror}") from error
    return sock


def remove_stale(path: str) -> None:
    """Remove a socket file that nobody listens on; one in use is left, and `bind` says so."""
    probe = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    try:
        probe.connect(path)
    except ConnectionRefusedError:
        Path(path).unlink(missing_ok=True)
    except OSError:
        pass
    finally:
        probe.close()
