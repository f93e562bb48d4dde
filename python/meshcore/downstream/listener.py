"""One listener: its sockets, its connections, and what they share."""

from __future__ import annotations

import asyncio
from functools import partial
from typing import TYPE_CHECKING, Protocol

from meshcore._core import ClientRules, IdleTime
from meshcore.codec.engines import server_engine
from meshcore.downstream.certified import Certified
from meshcore.downstream.detect import Detection
from meshcore.downstream.established import Connection
from meshcore.downstream.handshake import FailedHandshakes, Handshake
from meshcore.downstream.handshakes import Handshakes
from meshcore.downstream.http1 import DRAIN_QUIET_NS, Http1Connection
from meshcore.downstream.http1_wire import LINGER_NS
from meshcore.downstream.http2 import Http2Connection
from meshcore.downstream.lingering import AlertReader
from meshcore.downstream.proxy_protocol import ProxyHeader
from meshcore.downstream.sockets import end_of, stop_serving, until_made, url_of

if TYPE_CHECKING:
    import socket
    from collections.abc import Callable, Mapping

    from meshcore._core import (
        Answer,
        CodecLimits,
        Engine,
        ListenerStack,
        Outbox,
        Peer,
        SecureTransport,
        TlsServer,
    )
    from meshcore.codec import ServerCodec
    from meshcore.config.snapshot import Http2Spec, ListenerSpec
    from meshcore.downstream.deadlines import DeadlineTimer
    from meshcore.downstream.established import Established
    from meshcore.downstream.first_bytes import FirstBytes
    from meshcore.errors import TlsError
    from meshcore.exchange.ports import Driver

# As long as the kernel allows (net.core.somaxconn is 4096 on current Linux): a burst of
# connections waits here instead of being refused.
BACKLOG = 4096
# How long the last words of a connection have to go out before it is cut: as long as a client has
# to take a refusal (`LINGER_NS`).
LAST_WORDS_NS = LINGER_NS


def _begins(spec: ListenerSpec) -> object:
    """What decides how a connection begins."""
    return spec.tls, spec.proxy_protocol, spec.http1, spec.h2


class Shaking(Connection, Protocol):
    """A connection whose TLS is not agreed yet."""

    def make_place(self) -> None:
        """Go: there are too many."""


class Listener:
    """Accepts connections for one `bind` of the configuration."""

    def __init__(
        self,
        spec: ListenerSpec,
        tls: TlsServer | None,
        engine: Engine,
        driver: Driver,
        deadlines: DeadlineTimer,
        outbox: Outbox,
    ) -> None:
        self.driver = driver
        self.now_ns = deadlines.now_ns
        self.deadlines = deadlines
        self.idle = IdleTime(deadlines.slots)
        self.outbox = outbox
        self.stack: ListenerStack = engine.listener(spec.name)
        self.draining = False
        self._h2: Http2Spec | None = None
        self._new_h2_codec: Callable[[CodecLimits, bool, int], ServerCodec] | None = None
        self._engine = engine
        self._sockets: dict[int, socket.socket] = {}
        self._servers: dict[int, asyncio.Server] = {}
        # In the order they came, and whether they have a connection's place.
        self._connections: dict[Connection, bool] = {}
        self.handshakes: Handshakes[Shaking] = Handshakes()
        self.certified = Certified()
        self._alert_readers: dict[AlertReader, None] = {}
        self.drained_since_ns = 0
        self.tell_by_ns = 0  # when, at the latest, clients are told that it drains
        self._ended = False  # the time to drain is over
        self._end_slot: int | None = None  # of the deadlines, once the time to drain is over
        self._idle = asyncio.Event()
        self._idle.set()
        self._tls = self._last_tls = tls
        self._client_rules = ClientRules(tls) if tls is not None else None
        self.failed_handshakes = FailedHandshakes(spec.name, self.now_ns)
        self._set(spec)

    def _set(self, spec: ListenerSpec) -> None:
        self.spec = spec
        self.codec_limits: CodecLimits = spec.codec_limits()
        if spec.h2 is not None:  # else connections that are open go on as they began
            self._h2 = spec.h2
            self._new_h2_codec = server_engine(spec.h2)
        self.header_timeout_ns = spec.header_timeout_ns
        self.idle.timeout_ns = spec.idle_timeout_ns
        self.serves_half_closed = spec.serves_half_closed

    def renew_stack(self) -> None:
        """Another configuration is in force, and the listener is still in it."""
        self.stack = self._engine.listener(self.spec.name)

    async def start(self, sockets: Mapping[int, socket.socket]) -> None:
        """Accept from these sockets, each with a number to name it by; they are the listener's
        from now on. Raises `OSError` when one does not listen; then none is accepted from."""
        self._sockets.update(sockets)
        try:
            for number in sockets:
                self._servers[number] = await self._serve(sockets[number])
        except BaseException:
            self.stop_accepting()
            raise

    async def adopt(self, number: int, sock: socket.socket) -> None:
        """Accept from one more socket; one of a known number is closed."""
        if self.draining or number in self._sockets:
            sock.close()
            return
        self._sockets[number] = sock
        try:
            self._servers[number] = await self._serve(sock)
        except BaseException:
            self.release(number)
            raise

    def release(self, number: int) -> None:
        """Accept from a socket no more; others may, nothing in its queue is lost."""
        server, sock = self._servers.pop(number, None), self._sockets.pop(number, None)
        if server is not None:
            stop_serving(server)
        if sock is not None:
            sock.close()

    def change(self, spec: ListenerSpec, tls: TlsServer | None) -> bool:
        """Serve in another way from the next connection on. Those that are open take their limits
        of time and `half_close` from ``spec``, and are drained if the rules of clients would not
        let them in. ``tls`` is what `server_context` made of it. Says whether `reopen` follows."""
        before = self.spec
        self._tls, self._last_tls = tls, tls or self._last_tls
        self._set(spec)
        if spec.tls != before.tls:
            self._put_rules(tls)
        return _begins(spec) != _begins(before)

    def _put_rules(self, tls: TlsServer | None) -> None:
        """Open connections go by these rules from the next request on, as new ones do, and
        are drained if these would not let them in. A client that came before there was TLS has
        shown no certificate, and is drained; where there is none any more, those that stay have no
        identity. O(connections), verifying none."""
        if tls is None:
            if self._client_rules is not None:
                self._client_rules.end()
            return
        if self._client_rules is not None:
            self._client_rules.put(tls)
        else:
            self._client_rules = ClientRules(tls)
        made = [x for x in self._connections if isinstance(x, Http1Connection | Http2Connection)]
        self.certified.recheck([x for x in made if x.peer.has_client_rules])
        for plain in [x for x in made if not x.peer.has_client_rules]:
            self.came_plain(plain)
        for silent in [x for x in self._connections if isinstance(x, Detection)]:
            silent.abort()

    def apply_client_rules(self, tls: TlsServer | None) -> None:
        """The same while it drains, by the rules of who has its name or address now. Who came to it
        without TLS came by its own rules, which ask for nothing."""
        if self._tls is not None:
            self._put_rules(tls)

    def came_plain(self, connection: Established) -> None:
        """One came without TLS. If there is TLS by now, who accepted it is about to stop, and it
        stands as those do that came before."""
        if self._tls is not None:
            connection.peer = self.client_rules.plain_peer(connection.peer)
            connection.dismiss(self.now_ns())

    @property
    def client_rules(self) -> ClientRules:
        """By which clients are verified; asked only where there is or was TLS."""
        assert self._client_rules is not None
        return self._client_rules

    def sweep(self, now: int, unix_s: float) -> None:
        """Drain connections whose client would not come in any more."""
        self.certified.look(now, unix_s)

    async def reopen(self) -> None:
        """Accept with new servers; each begins before the old one of its queue stops."""
        for number, sock in list(self._sockets.items()):
            server = await self._serve(sock)
            old = self._servers.get(number)
            if old is None:
                stop_serving(server)  # released meanwhile
                continue
            self._servers[number] = server
            stop_serving(old)

    async def _serve(self, sock: socket.socket) -> asyncio.Server:
        """A server over a descriptor of its own: a server closes what it accepts from."""
        loop = asyncio.get_running_loop()
        protocol = self._protocol()
        own = sock.dup()
        try:
            own.listen(BACKLOG)  # uvloop does not say when it cannot be
            return await loop.create_server(protocol, sock=own, backlog=BACKLOG)
        except BaseException:
            own.close()
            raise

    def _protocol(self) -> Callable[[], asyncio.BaseProtocol]:
        """What a new connection begins as."""
        first = ProxyHeader if self.spec.proxy_protocol else self.begins_as
        return partial(first, self)

    @property
    def begins_as(self) -> type[Http1Connection | Http2Connection | FirstBytes]:
        """What a connection is from a client's first byte on."""
        if self._tls is not None:
            return Handshake
        if self.spec.h2 is None:
            return Http1Connection
        return Detection if self.spec.http1 else Http2Connection

    def secured(self, handshake: Handshake) -> SecureTransport:
        """TLS for a connection, which tells it to this protocol. Of a listener that has given it up
        meanwhile it is still the last."""
        assert self._last_tls is not None
        return self._last_tls.session(handshake, self.linger_for_alert)

    @property
    def patience_ns(self) -> int:
        """How long a new connection has to begin; one that was accepted just before the listener
        closed only as long as what is on its way takes."""
        if self.draining:
            return min(self.header_timeout_ns, DRAIN_QUIET_NS)
        return self.header_timeout_ns

    @property
    def h2(self) -> Http2Spec:
        """How HTTP/2 is spoken; only asked by connections that do."""
        assert self._h2 is not None
        return self._h2

    def h2_codec(self, now: int, *, secure: bool) -> ServerCodec:
        """A codec for a new connection that speaks HTTP/2."""
        assert self._new_h2_codec is not None
        return self._new_h2_codec(self.codec_limits, secure, now)

    @property
    def address(self) -> str:
        """Where it listens, as a URL; the port is the real one when 0 was asked for."""
        return url_of(self.spec, next(iter(self._sockets.values())))

    def peer_of(self, peername: object) -> Peer:
        """Who is at the other end, from what the transport says."""
        return self._engine.peer(*end_of(peername))

    def knows(self, peername: object) -> bool:
        """Whether there is a client: one that has reset the connection before it was accepted has
        no address, and is not to be taken for one of a unix socket, who has none either."""
        return peername is not None or self.spec.unix_path is not None

    def announced(self, data: bytes) -> tuple[int, Peer | None] | None:
        """The header of the PROXY protocol, as the core reads it. Raises `CodecError`."""
        return self._engine.announced(data)

    def refused(self, answer: Answer, peer: Peer, *, sent: bool = True) -> None:
        """Count, and log, an answer given before there was a request, or why it was cut."""
        self.stack.refused(answer, sent)
        if self.driver.observer is not None:
            self.driver.observer.refused(self.stack, answer, sent, peer)

    def tls_failed(self, error: TlsError) -> None:
        """Count it, by its alert."""
        self.stack.handshake_failed(error.word, error.by_peer)

    def accept(self, connection: Established, peername: object) -> None:
        """Let in whom the loop accepted, without TLS; or cut it."""
        if self.knows(peername) and self.admit(connection):
            self.came_plain(connection)
        else:
            connection.abort()

    def admit(self, connection: Connection) -> bool:
        """Take a connection in as soon as it is accepted; false when the listener is full, or at
        its end: then it is to be cut, and takes no place until it is."""
        if self.stack.connected() > self.spec.max_connections or self._ended:
            self.stack.disconnected()
            return False
        if not self._connections:
            self._idle.clear()
        self._connections[connection] = True
        return True

    @property
    def ends_tls(self) -> bool:
        """Whether a new connection begins with a handshake."""
        return self._tls is not None

    def admit_handshake(self, connection: Shaking, crowd: int) -> bool:
        """Take one in that is no connection before its TLS is agreed; false at the listener's end.
        One too many ends another, as `Handshakes` says; ``crowd`` stands for the client."""
        if self._ended:
            return False
        if not self._connections:
            self._idle.clear()
        self._connections[connection] = False
        under_way = self.handshakes.begin(connection, crowd, now := self.now_ns())
        self.stack.handshake_began()
        if self._alert_readers:
            self._limit_alert_readers(self.spec.max_handshakes)
        if under_way > self.spec.max_handshakes:
            one = self.handshakes.next_to_go(now)
            self._end_handshake(one)
            one.make_place()
        return True

    def linger_for_alert(self, transport: asyncio.Transport) -> None:
        """A client was told by an alert why it is refused: let it read that. It has no place any
        more, and makes way for any handshake; the two together are no more than those may be."""
        reader = AlertReader(self, transport)
        self._connections[reader] = False
        self._alert_readers[reader] = None
        self._limit_alert_readers(self.spec.max_handshakes + 1)  # its place is about to be free

    def _limit_alert_readers(self, most: int) -> None:
        while self._alert_readers and len(self._alert_readers) + len(self.handshakes) > most:
            eldest = next(iter(self._alert_readers))
            del self._alert_readers[eldest]
            eldest.abort()

    def announced_handshake(self, connection: Shaking, crowd: int) -> None:
        """It is known now whose handshake is to come."""
        if connection in self.handshakes:
            self.handshakes.rename(connection, crowd)

    def _end_handshake(self, connection: object) -> bool:
        is_ended = self.handshakes.end(connection)
        if is_ended:
            self.stack.handshake_ended()
        return is_ended

    def replace(self, connection: Connection, by: Connection) -> bool:
        """It is known now what the connection speaks. False when its TLS is agreed, and there are
        as many connections as there may be: then it is to be cut."""
        has_place = self._connections.pop(connection, False)
        self._connections[by] = has_place
        if isinstance(by, Handshake):
            if connection in self.handshakes:  # not if it came before there was TLS
                self.handshakes.pass_on(connection, by)
            return True
        if not self._end_handshake(connection) or self.admit(by):
            return True
        self._forget(by)
        return False

    def leave(self, connection: Connection) -> None:
        """A connection is gone. One that was not let in had no place."""
        if connection in self._connections:
            self._forget(connection)

    def _forget(self, connection: Connection) -> None:
        self.certified.discard(connection)
        if self._connections.pop(connection):
            self.stack.disconnected()
        elif isinstance(connection, AlertReader):
            self._alert_readers.pop(connection, None)
        else:
            self._end_handshake(connection)
        if not self._connections:
            self._idle.set()

    @property
    def connections(self) -> int:
        """Open connections, those whose handshake is under way among them."""
        return len(self._connections)

    def stop_accepting(self) -> None:
        """Close the sockets. Connections go on."""
        for number in list(self._sockets):
            self.release(number)

    def drain(self, drain_ns: int) -> None:
        """Tell every connection, and every one that is still accepted, to take no request but those
        that are on their way; `drained` when the last is gone, and it has ``drain_ns``."""
        self.draining = True
        now = self.drained_since_ns = self.now_ns()
        self.tell_by_ns = now + drain_ns // 2  # the rest is for what the client asked until then
        for connection in list(self._connections):
            connection.drain(now)

    async def drained(self) -> None:
        """Wait until the last connection is closed."""
        await until_made()
        await self._idle.wait()

    def end(self, now: int) -> None:
        """The time to drain is over: end what is under way with the reason ``draining``, and cut
        what is not gone when that had its time to go out. No new connection comes in."""
        self._ended = True
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
