"""What connections of clients ask of the listener that they belong to."""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    from collections.abc import Callable

    from meshcore._core import Answer, CodecLimits, IdleTime, ListenerStack, Outbox, Peer
    from meshcore.codec import ServerCodec
    from meshcore.config.snapshot import Http2Spec
    from meshcore.downstream.certified import Certified
    from meshcore.downstream.deadlines import DeadlineTimer
    from meshcore.downstream.established import Connection, Established
    from meshcore.errors import TlsError
    from meshcore.exchange.ports import Driver


class ServerContext(Protocol):
    """What all connections of a listener share. Limits of time may change while one is open."""

    driver: Driver
    now_ns: Callable[[], int]
    """The clock of all connections."""
    deadlines: DeadlineTimer
    idle: IdleTime
    """How long a client may say nothing."""
    outbox: Outbox
    stack: ListenerStack
    """Of the configuration in force, as long as the listener is in it."""
    draining: bool
    tell_by_ns: int
    """When clients are told of that at the latest."""
    certified: Certified
    codec_limits: CodecLimits
    header_timeout_ns: int
    serves_half_closed: bool
    """Whether a client that has ended its side is answered still."""

    @property
    def patience_ns(self) -> int:
        """How long a new connection has to begin."""

    @property
    def h2(self) -> Http2Spec:
        """How HTTP/2 is spoken; only asked by connections that do."""

    def h2_codec(self, now: int, *, secure: bool) -> ServerCodec:
        """A codec for a new connection that speaks HTTP/2."""

    def peer_of(self, peername: object) -> Peer:
        """Who is at the other end, from what the transport says."""

    def accept(self, connection: Established, peername: object) -> None:
        """Let in whom the loop accepted, without TLS; or cut it."""

    def leave(self, connection: Connection) -> None:
        """A connection is gone. One that was not let in had no place."""

    def refused(self, answer: Answer, peer: Peer, *, sent: bool = True) -> None:
        """Count, and log, an answer given before there was a request, or why it was cut."""

    def tls_failed(self, error: TlsError) -> None:
        """Count what ended TLS, by its alert."""
