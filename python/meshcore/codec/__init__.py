"""The two engines of HTTP/2 behind one interface.

``native`` is the core's own; ``python`` is made of the package ``h2``, and
shows what the native one should do: every wire test runs against both. Heads, bodies and answers
are the core's objects either way, read and written by the same rules.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final, Protocol

if TYPE_CHECKING:
    from meshcore._core import Answer, Body, Chunk, Peer, Request, Response, Ticket

__all__ = ["STREAM_HIGH_WATER", "ClientCodec", "Codec", "ServerCodec"]

STREAM_HIGH_WATER: Final = 64 << 10
"""Bytes that wait on one stream, beyond which its other side is read no further
(the same in rust/meshcore-core/src/codec/h2/outbox.rs)."""

Events = list[tuple[int, object]] | None
"""Pairs of stream (0: the connection) and event: a head, a `Chunk` or ``bytes``, a `Body` that is
the last, an `Answer` to what may not pass, a `Reset`, or a `Signal`. ``None``: there is none."""


class Codec(Protocol):
    """One connection, either side. For one thread."""

    @property
    def wants_read(self) -> bool:
        """False while what was read cannot be parsed: the peer takes none of our answers."""

    @property
    def closed(self) -> bool:
        """Whether the connection is over."""

    @property
    def flood(self) -> int | None:
        """The number of the flood that ended the connection."""

    @property
    def open_streams(self) -> int:
        """How many streams are open."""

    def receive(self, data: bytes, now_ns: int) -> Events:
        """What a read meant. O(bytes)."""

    def receive_eof(self) -> Events:
        """The peer sends no more: every stream is over."""

    def events(self) -> Events:
        """What happened since the last call."""

    def take_output(self) -> bytes:
        """Bytes to send, some 128 KiB at most; empty when there are none."""

    def send_data(self, stream: int, data: bytes | Chunk) -> int:
        """A piece of a body. Bytes that wait on the stream: beyond `STREAM_HIGH_WATER` send no more
        until `Signal.WRITABLE`."""

    def send_end(self, stream: int, body: Body, ticket: Ticket) -> None:
        """The end of a body, with those of its trailers that the route lets pass. Behind that of a
        client's side of a tunnel `Signal.SENT` follows."""

    def pause(self, stream: int) -> None:
        """Take no more of a body: its window closes."""

    def resume(self, stream: int) -> None:
        """Take on; what waited is among the next `events`."""

    def reset(self, stream: int, code: int) -> None:
        """End a stream at once with an error code."""

    def ping(self) -> bool:
        """Ask for a sign of life; `Signal.PONG` follows. ``False``: one is asked for already."""


class ServerCodec(Codec, Protocol):
    """The client's side: requests in, responses out."""

    @property
    def in_head(self) -> bool:
        """Whether a request's head has begun and is not there yet."""

    @property
    def queued(self) -> int:
        """Bytes of responses that wait for window or for the socket."""

    def queued_on(self, stream: int) -> int:
        """Bytes that wait on one stream."""

    def send_response(
        self, stream: int, request: Request, response: Response, ticket: Ticket
    ) -> int:
        """A relayed head with the route's changes, and what of the body came with it; as
        `send_data`."""

    def send_informational(self, stream: int, response: Response, ticket: Ticket) -> None:
        """A relayed 1xx."""

    def send_answer(self, stream: int, request: Request | None, answer: Answer) -> None:
        """A whole answer made here; of trailers only for a gRPC call."""

    def leave(self, stream: int) -> bool:
        """The owner is done with the stream; what is queued goes out. ``False``: it is
        still there, and `Signal.SENT` follows."""

    def drain(self) -> None:
        """Begin to take no more streams (RFC 9113 §6.8), with a PING: `Signal.HEARD` follows, which
        tells how long the way to the client is."""

    def warn(self) -> None:
        """The first GOAWAY: open no more streams. Those that are on their way are taken."""

    def send_goaway(self, reason: bytes) -> None:
        """Say which stream is the last, once; again only to give a reason, which goes out as debug
        data of GOAWAY. `Signal.CLOSED` follows the last stream's end."""

    def abandon(self, code: int) -> None:
        """End every stream and the connection."""


class ClientCodec(Codec, Protocol):
    """The endpoint's side: requests out, responses in."""

    def can_open(self, now_ns: int) -> int:
        """How many more streams may be opened now: none before the endpoint's SETTINGS came, and
        none that could be a reset too many for it (rust/meshcore-core/src/codec/h2/resets.rs)."""

    def can_carry(self, now_ns: int) -> int:
        """The same of streams whose bodies would pass at once: none while the window is used up."""

    @property
    def authenticates(self) -> bool:
        """Whether a response has shown that the endpoint authenticates this connection."""

    @property
    def can_upgrade(self) -> bool:
        """Whether the endpoint takes an extended CONNECT (RFC 8441 §3)."""

    def send_request(self, request: Request, ticket: Ticket, peer: Peer, now_ns: int) -> int | None:
        """Open a stream with a request and what of its body came with it; its number, or ``None``
        when none can be opened and nothing was sent. Raises `CodecError` for what HTTP/2 cannot
        say, or the endpoint does not take; nothing was sent then, either."""

    def forward(self, request: Request, ticket: Ticket, peer: Peer, now_ns: int) -> int | None:
        """`Ticket.sent` and `send_request`."""

    def relay(
        self,
        stream: int,
        response: Response,
        request: Request,
        ticket: Ticket,
        to: Any,
        now_ns: int,
    ) -> tuple[Response, int] | bytes | bool | int | None:
        """`Ticket.relay`, and `leave` of a stream whose response is whole and was passed on.
        ``None``: it is interim, and the ticket was not asked."""

    @property
    def clogged(self) -> bool:
        """Whether the connection's window is used up."""

    def is_held_up(self, stream: int) -> bool:
        """Whether all of a stream's body waits for the window, which others used up."""

    def leave(self, stream: int) -> None:
        """The owner is done with the stream: it ends, with CANCEL unless it is over."""
