"""The native half of meshcore: every decision, no input or output.

All times are integers of nanoseconds of ``CLOCK_MONOTONIC``, read with `now_ns` and handed in;
sizes are bytes. Classes without a constructor come from others' methods.
"""

import asyncio
import contextvars
from collections.abc import Callable, Sequence
from enum import IntEnum
from os import PathLike
from types import CoroutineType, TracebackType
from typing import Any, Final, Literal, ParamSpec, Self, TypeVar, final

from typing_extensions import disjoint_base

from meshcore.errors import TlsError

_P = ParamSpec("_P")
_R = TypeVar("_R")

# A field list of HTTP/2, pseudo fields first.
_Fields = Sequence[tuple[bytes, bytes]]
_WholeTo = tuple[ServerCodec, asyncio.Transport, IdleTime, int] | tuple[H2ServerCodec, int]

__all__ = [
    "Answer",
    "Attempt",
    "BalancerCore",
    "Body",
    "BreakerCore",
    "BucketCore",
    "BudgetCore",
    "By",
    "Cause",
    "Charge",
    "Chunk",
    "ClientCodec",
    "ClientRules",
    "ClientsCore",
    "CodecLimits",
    "DeadlineCore",
    "DeadlineTable",
    "Due",
    "Engine",
    "ErrorCode",
    "Finally",
    "FoundRoute",
    "GuardCore",
    "H2Begun",
    "H2ClientCodec",
    "H2Config",
    "H2Meter",
    "H2Schedule",
    "H2ServerCodec",
    "IdleTime",
    "Inbox",
    "Keep",
    "KeyLog",
    "ListenerStack",
    "LogLines",
    "Next",
    "Outbox",
    "Outcome",
    "Passed",
    "Peer",
    "Permit",
    "Phase",
    "Prepared",
    "Reason",
    "Request",
    "RequestHooks",
    "Reset",
    "Response",
    "RetryCall",
    "RetryCore",
    "RoutesCore",
    "SecureTransport",
    "Segment",
    "ServerCodec",
    "SharedWords",
    "Signal",
    "Ticket",
    "TicketRing",
    "TlsClient",
    "TlsFacts",
    "TlsList",
    "TlsServer",
    "TlsTrust",
    "TlsUnlisted",
    "Trace",
    "Verdict",
    "Words",
    "WorkerSlot",
    "__version__",
    "body_of",
    "check_path",
    "check_regex",
    "check_tls_name",
    "emit_all",
    "give_back_pages",
    "h2_about",
    "h2_add_body",
    "h2_check_list",
    "h2_check_trailers",
    "h2_list_bytes",
    "h2_priority",
    "h2_read_body",
    "h2_read_request",
    "h2_read_response",
    "h2_write_informational",
    "h2_write_reply",
    "h2_write_request",
    "h2_write_response",
    "h2_write_trailers",
    "has_body",
    "has_written_all",
    "is_codecs_own",
    "is_tls_name",
    "is_trust_domain",
    "misdirected",
    "now_ns",
    "retry_after_ns",
    "surely",
    "tls_facts",
    "tls_is_for_host",
    "tls_is_late",
    "tls_listing",
    "tls_lists",
    "tls_lists_fault",
    "tls_pair_fault",
    "tls_roots_fault",
    "tls_staple",
    "tls_system_roots",
    "unseen_field",
]

__version__: Final[str]

def check_path(path: str) -> None:
    """Raise `ValueError` for an exact path or prefix that no request can match. O(path)."""

def check_regex(pattern: str) -> None:
    """Raise `ValueError` for an expression that does not compile, or to more than 1 MiB."""

def unseen_field(name: str) -> Literal["host", "connection", "twin"] | None:
    """Why no rule can go by a field of requests: the host is said in other ways too; what is about
    one connection, and other spellings of what a proxy writes or takes out, is taken out first."""

def is_codecs_own(name: str) -> bool:
    """Whether a field frames a message, names its host or steers its connection: only the codec
    writes it."""

def now_ns() -> int:
    """Nanoseconds of ``CLOCK_MONOTONIC``: the clock that every ``now_ns`` argument is read from."""

class Reason(IntEnum):
    """Why a request, or an attempt of it, ended: ``x-mesh-reason`` in upper case
    (rust/meshcore-core/src/error.rs has who ended it and what follows)."""

    BAD_REQUEST = 0
    METHOD_NOT_ALLOWED = 1
    REQUEST_TIMEOUT = 2
    BODY_TOO_LARGE = 3
    URI_TOO_LONG = 4
    EXPECTATION_FAILED = 5
    HEADERS_TOO_LARGE = 6
    UNKNOWN_TRANSFER_CODING = 7
    VERSION_NOT_SUPPORTED = 8
    NO_ROUTE = 9
    RATE_LIMITED = 10
    BREAKER_OPEN = 11
    NO_HEALTHY_ENDPOINT = 12
    OVERFLOW = 13
    UPSTREAM_CONNECT = 14
    UPSTREAM_RESET = 15
    UPSTREAM_PROTOCOL = 16
    UPSTREAM_TIMEOUT = 17
    LAYER_ERROR = 18
    INTERNAL_ERROR = 19
    DRAINING = 20
    REDIRECT = 21
    DIRECT_RESPONSE = 22
    LAYER_RESPONSE = 23
    CLIENT_GONE = 24
    RESPONSE_TOO_LARGE = 25
    UPSTREAM_REFUSED = 26
    UPSTREAM_STALE = 27
    UPSTREAM_TRY_TIMEOUT = 28
    UPSTREAM_IDLE = 29
    UPSTREAM_RESOLVE = 30
    QUEUE_TIMEOUT = 31
    NO_RESOURCES = 32
    DEADLINE_EXCEEDED = 33
    CLIENT_IDLE = 34
    TUNNEL_IDLE = 35
    UPSTREAM_STATUS = 36
    ANSWERED = 37
    UPGRADE_UNSUPPORTED = 38
    MAX_FORWARDS = 39
    LOOP_DETECTED = 40
    MISDIRECTED = 41
    FORBIDDEN = 42

class Phase(IntEnum):
    """Where a request stands, or ended."""

    HEAD = 0
    LAYERS = 1
    WAITING = 2
    ASKED = 3
    LOOKING = 4
    ANSWERING = 5
    TUNNEL = 6
    OVER = 7

class By(IntEnum):
    """Who ended a request."""

    CLIENT = 0
    ENDPOINT = 1
    PROXY = 2

class Verdict(IntEnum):
    """What is to be done with a request."""

    FORWARD = 0
    ANSWER = 1
    PAUSE = 2
    AWAIT = 3
    BIND = 4

class Next(IntEnum):
    """What follows an attempt that failed: another one, now or later, the same on a new connection,
    or an answer."""

    AGAIN = 0
    LATER = 1
    FRESH = 2
    ANSWER = 3

class Passed(IntEnum):
    """What follows a response's head."""

    RELAY = 0
    TUNNEL = 1
    AGAIN = 2
    LATER = 3
    TOO_EARLY = 4

class Keep(IntEnum):
    """What is to be done with a piece of a request's body."""

    YES = 0
    FULL = 1
    NO = 2

class Due(IntEnum):
    """What a passed deadline means."""

    NOT_YET = 0
    OVER = 1
    ATTEMPT = 2

class Signal(IntEnum):
    """What an HTTP/2 connection tells beside messages."""

    WRITABLE = 0
    SENT = 1
    GOING_AWAY = 2
    PONG = 3
    HEARD = 4
    CLOSED = 5
    RESET = 6
    REFUSED = 7
    MALFORMED = 8

class ErrorCode(IntEnum):
    """The error codes of HTTP/2 (RFC 9113 §7)."""

    NO_ERROR = 0
    PROTOCOL_ERROR = 1
    INTERNAL_ERROR = 2
    FLOW_CONTROL_ERROR = 3
    SETTINGS_TIMEOUT = 4
    STREAM_CLOSED = 5
    FRAME_SIZE_ERROR = 6
    REFUSED_STREAM = 7
    CANCEL = 8
    COMPRESSION_ERROR = 9
    CONNECT_ERROR = 10
    ENHANCE_YOUR_CALM = 11
    INADEQUATE_SECURITY = 12
    HTTP_1_1_REQUIRED = 13

@final
class Answer:
    """A response made here instead of by an endpoint."""

    def __new__(
        cls, status: int, headers: list[tuple[str, str]] = ..., body: bytes = ...
    ) -> Answer:
        """An answer of a layer's own: status 200 to 599, fields, body.

        Framing and connection fields are added; a 204, 205 or 304 has no body. Raises
        `ValueError` for a status out of range or a field that is not one line (RFC 9110 §5.5).
        """

    @classmethod
    def for_reason(cls, reason: int, detail: str = "", code: int | None = None) -> Answer:
        """The answer for a `Reason`; ``detail`` is for the log. ``code``: what the endpoint's
        RST_STREAM says to a gRPC call, in place of the reason. `ValueError` for an unknown one."""

    @classmethod
    def with_detail(cls, reason: int, detail: str) -> Answer:
        """The answer for a `Reason` whose body says more: ``detail``, a text of ours. `ValueError`
        for an unknown one, and for quotes, backslashes and control characters."""

    @classmethod
    def for_codec_error(cls, error: BaseException) -> Answer:
        """The answer for a `CodecError`."""

    def about(self, request: Request) -> Answer:
        """The same, to a request that was read and is refused: the log says which."""

    @property
    def number(self) -> int:
        """Its `Reason`."""

    def trailers(self) -> Body:
        """The end of a gRPC response under way: an empty piece with its status as trailers."""

    @property
    def status(self) -> int:
        """The HTTP status."""

    @property
    def reason(self) -> str:
        """The stable reason, as in ``x-mesh-reason``."""

    @property
    def detail(self) -> str:
        """Which rule was broken, in few words; empty unless it answers what may not pass."""

    def as_response(self, request: Request) -> Response:
        """It as layers see it: to a gRPC call as trailers-only."""

    def with_head_of(self, request: Request, response: Response) -> Answer:
        """It with the head that layers left of what `as_response` gave."""

@final
class Body:
    """More of a message's body."""

    @property
    def data(self) -> bytes:
        """The bytes, without chunk framing; may be empty."""

    @property
    def end(self) -> bool:
        """Whether the message ends here."""

    @property
    def trailers(self) -> list[tuple[str, str]]:
        """Those that came with the end."""

    @staticmethod
    def ending(trailers: list[tuple[str, str]]) -> Body:
        """The end of a body, with these trailers. Raises `ValueError` for fields that are no
        layer's to write, or may not be trailers."""

@final
class Chunk:
    """Pieces of a body as HTTP/2 brought them; ``bytes(chunk)`` joins them in one copy."""

    def __len__(self) -> int:
        """How many bytes."""

    def __bytes__(self) -> bytes:
        """The bytes."""

@final
class Trace:
    """A request's part in a distributed trace."""

    @property
    def trace_id(self) -> str:
        """32 hexadecimal digits, in lower case."""

    @property
    def span_id(self) -> str:
        """Of our span for the request: 16 hexadecimal digits. What a layer calls is its child."""

    @property
    def sampled(self) -> bool:
        """Whether it is sampled."""

@final
class Request:
    """A request's head, and the part of its body that came with it.

    A layer may read and change its fields before it is sent on.
    """

    @property
    def method(self) -> str:
        """The method as sent."""

    @property
    def path(self) -> str:
        """The path in its normal form: what routes, limits and the log see too."""

    @property
    def raw_path(self) -> str:
        """The path as it came."""

    @property
    def query(self) -> str | None:
        """What follows ``?``; ``None`` without one."""

    @property
    def host(self) -> str:
        """The host in lower case, without port."""

    @property
    def scheme(self) -> str:
        """``http`` or ``https``."""

    @property
    def client(self) -> str | None:
        """The client's address as limits and the log know it: behind trusted proxies, whatever
        layers make of what those said; ``unknown`` over a unix socket. `None` before the first
        layer."""

    @property
    def peer(self) -> Peer | None:
        """Who is connected to us, which may be a proxy: its address, and who it is by its
        certificate. `None` before the first layer."""

    @property
    def route(self) -> str | None:
        """The name of its route; `None` before routing."""

    @property
    def trace(self) -> Trace | None:
        """Its part in a trace, as that was when a layer saw it first. `None` where no part is taken
        in traces, and before the first layer."""

    @property
    def state(self) -> dict[str, Any]:
        """A place for what the layers of this request share."""

    @property
    def http_version(self) -> str:
        """``1.0``, ``1.1`` or ``2``."""

    @property
    def end(self) -> bool:
        """Whether the request ends with what is here."""

    @property
    def chunked(self) -> bool:
        """Whether its body goes out in chunks."""

    @property
    def tunnel(self) -> bool:
        """Whether it asks for a tunnel: an upgrade or CONNECT."""

    @property
    def idempotent(self) -> bool:
        """Whether its method may be repeated (RFC 9110 §9.2.2)."""

    @property
    def expects_continue(self) -> bool:
        """Whether the client waits for ``100 Continue`` (RFC 9110 §10.1.1)."""

    def header(self, name: str) -> str | None:
        """The first value of a field. Octets that are not UTF-8 are lone surrogates, as
        `os.fsdecode` makes them, and octets again when they are set. ``host`` is what the request
        names in whichever way, as it is sent on: in lower case, with its port. O(fields)."""

    def headers(self) -> list[tuple[str, str]]:
        """Every field, names in lower case: ``host`` first, the others in order."""

    def add_header(self, name: str, value: str) -> None:
        """Add a field to what is there, and take nothing out. Raises as `set_header`."""

    def set_header(self, name: str, value: str) -> None:
        """Replace every field of that name by one.

        Those that a gateway interface takes for the same (``x_user`` for ``x-user``) go too, and
        none of them comes behind the body, in trailers.

        Raises `ValueError` for a name or value that is not valid (RFC 9110 §5), and for the
        fields that frame a message: ``content-length``, ``transfer-encoding``, ``connection`` and
        ``host``.
        """

    def remove_header(self, name: str) -> bool:
        """Remove every field of that name, as `set_header` does; says whether there was one."""

@final
class Response:
    """A response's head, and the part of its body that came with it."""

    @property
    def status(self) -> int:
        """The status code."""

    @property
    def reason(self) -> str | None:
        """Why it was made here, as in ``x-mesh-reason``; `None` for an endpoint's."""

    @property
    def informational(self) -> bool:
        """Whether it is a 1xx: the final response follows."""

    @property
    def authenticates(self) -> bool:
        """Whether it shows that its endpoint authenticates the connection it came on: by NTLM or
        Negotiate."""

    @property
    def begins_tunnel(self) -> bool:
        """Whether bytes of another protocol follow it (RFC 9110 §7.8, §9.3.6)."""

    @property
    def end(self) -> bool:
        """Whether the response ends with what is here."""

    def header(self, name: str) -> str | None:
        """The first value of a field. O(fields)."""

    def headers(self) -> list[tuple[str, str]]:
        """Every field in order, names in lower case."""

    def add_header(self, name: str, value: str) -> None:
        """Add a field, such as a second ``set-cookie``. Raises as `Request.set_header`."""

    def set_header(self, name: str, value: str) -> None:
        """Replace every field of that name by one, as `Request.set_header` does."""

    def remove_header(self, name: str) -> bool:
        """Remove every field of that name, as `Request.set_header` does; says whether there was
        one."""

@final
class CodecLimits:
    """What a listener allows of a request, or an upstream of a response; an absent one has its
    default."""

    def __new__(
        cls,
        *,
        header_bytes: int | None = None,
        headers: int | None = None,
        target: int | None = None,
        body: int | None = None,
        trailer_bytes: int | None = None,
        trailers: int | None = None,
        mesh: bool = False,
    ) -> CodecLimits:
        """Bytes of a head, number of its fields, bytes of the target and of the body; bytes and
        fields of trailers; whether an endpoint may set fields that begin with ``x-mesh-``."""

    def with_lenient(self, words: Sequence[str]) -> CodecLimits:
        """The same, with what is mended in an endpoint's heads: words of ``lenient``. Raises
        `ValueError` for what is none."""

    def with_case(self) -> CodecLimits:
        """The same, with the names of a request's fields kept as they were written, or, of an
        upstream, sent so."""

    def with_paths(self, refused: Sequence[str], keep_slashes: bool) -> CodecLimits:
        """The same, with the keys of ``paths`` that refuse something, and whether repeated slashes
        are kept. Raises `ValueError` for what is no such key."""

@final
class ServerCodec:
    """The client's side of a connection: requests in, responses out. For one thread."""

    def __new__(cls, limits: CodecLimits, secure: bool) -> ServerCodec:
        """A connection on which nothing was read; ``secure``: it came over TLS."""

    def receive(self, data: bytes) -> Request | bytes | Body | None:
        """What a read meant: a request begins, or more of its body; ``None``: nothing yet.

        A read that is body and nothing else is given back as it is. Raises `CodecError` for a
        request that may not pass; the connection must be answered and closed. O(bytes).
        """

    def begin(
        self,
        data: bytes,
        listener: ListenerStack,
        peer: Peer,
        deadlines: DeadlineTable,
        slot: int,
        now_ns: int,
    ) -> tuple[Request, Ticket] | bytes | Body | None:
        """`receive`, and with the head of a request what follows it: `ListenerStack.begin`. The
        slot is armed for a ticket whose verdict is ``FORWARD``."""

    def next_event(self) -> Request | bytes | Body | None:
        """The event of what was pipelined; call it after `start_next`. Raises as `receive`."""

    def about(self, answer: Answer) -> Answer:
        """An answer to the request that was refused, or whose head is not whole: it, with what is
        known of that, for the log."""

    def start_next(self) -> bool | None:
        """The response is out: be ready for the next request. Whether something of it is here;
        ``None``: close."""

    def receive_eof(self) -> Body | None:
        """The client sends no more: the end of its side of a tunnel. Raises `CodecError` inside of
        a request."""

    @property
    def wants_read(self) -> bool:
        """Whether more may be read: not while 16 KiB of pipelined requests wait."""

    @property
    def request_complete(self) -> bool:
        """Whether the current request was read to its end."""

    @property
    def pipelined(self) -> bool:
        """Whether something of a request behind the current one has come."""

    @property
    def started(self) -> bool:
        """Whether anything of a request was read."""

    @property
    def keep_alive(self) -> bool:
        """Whether the connection may serve another request."""

    @property
    def may_ask_again(self) -> bool:
        """Whether the client may send another request: it did not say that this one is its last."""

    @property
    def chunking(self) -> bool:
        """Whether the response's body goes out in chunks."""

    def send_response(
        self, request: Request, response: Response, ticket: Ticket, close: bool
    ) -> bytes:
        """A relayed head with the route's changes, and the body that came with it."""

    def begin_tunnel(self) -> bytes:
        """The response began a tunnel: what is received now is data; what came behind the request
        already is given here."""

    def chunked_end(self, body: Body, ticket: Ticket) -> bytes:
        """The last chunk and the trailer fields that the route lets pass (RFC 9112 §7.1)."""

    def send_informational(self, response: Response, ticket: Ticket) -> bytes:
        """A relayed 1xx; empty for a client that spoke HTTP/1.0."""

    def send_answer(self, request: Request | None, answer: Answer, keep_alive: bool) -> bytes:
        """A whole answer made here; closes when the request could not be read."""

@final
class ClientCodec:
    """The endpoint's side of a connection: requests out, responses in. For one thread."""

    def __new__(cls, limits: CodecLimits | None = None) -> ClientCodec:
        """A connection on which nothing was sent."""

    def send_request(self, request: Request, ticket: Ticket, peer: Peer, now_ns: int) -> bytes:
        """The head with the route's changes and what a proxy adds, and the body's first part."""

    def forward(
        self,
        request: Request,
        ticket: Ticket,
        peer: Peer,
        out: asyncio.Transport | None,
        now_ns: int,
    ) -> bytes | None:
        """`Ticket.sent`, and `send_request` to a transport with an outbox. What could not be held
        there is given back, for the caller to write."""

    def receive(self, data: bytes) -> Response | bytes | Body | None:
        """What a read meant, as `ServerCodec.receive`. After a 1xx ask `next_event`."""

    def relay(
        self,
        data: bytes,
        request: Request,
        ticket: Ticket,
        to: _WholeTo | None,
        now_ns: int,
    ) -> tuple[Response, int] | Response | bytes | int | Body | None:
        """`receive` while a response is awaited, and with the head of a final one what
        `Ticket.relay` makes of it."""

    def next_event(self) -> Response | bytes | Body | None:
        """The event of what is kept already."""

    def receive_eof(self) -> Body | None:
        """The endpoint sends no more: the end of a body without a length, or `CodecError`."""

    @property
    def response_began(self) -> bool:
        """Whether any byte of the response to the current request has come."""

    def chunked_end(self, body: Body, ticket: Ticket) -> bytes:
        """The last chunk and the trailer fields that the route lets pass (RFC 9112 §7.1)."""

    @property
    def in_tunnel(self) -> bool:
        """Whether the response began a tunnel."""

    @property
    def authenticates(self) -> bool:
        """Whether a response has shown that the endpoint authenticates this connection."""

    @property
    def can_reuse(self) -> bool:
        """Whether the connection may carry another request."""

@final
class Reset:
    """A stream is over without its message."""

    def __new__(cls, kind: int, code: int, detail: str) -> Reset:
        """For an engine that is not the core's."""

    @property
    def kind(self) -> int:
        """``RESET``, ``REFUSED`` or ``MALFORMED`` of `Signal`."""

    @property
    def code(self) -> int:
        """The error code (RFC 9113 §7)."""

    @property
    def detail(self) -> str:
        """Why, in few words; for logs, may change."""

@final
class H2Config:
    """What an HTTP/2 connection allows and asks for; an absent one has its default."""

    def __new__(
        cls,
        *,
        streams: int | None = None,
        stream_window: int | None = None,
        connection_window: int | None = None,
        resets: tuple[int, int] | None = None,
        control_frames: tuple[int, int] | None = None,
    ) -> H2Config:
        """Streams at one time, bytes of the windows, and how often (per second, at once) the peer
        may reset streams and send frames that carry nothing."""

@final
class H2ServerCodec:
    """`meshcore.codec.ServerCodec` of the core. For one thread."""

    def __new__(
        cls, limits: CodecLimits, secure: bool, config: H2Config, now_ns: int
    ) -> H2ServerCodec:
        """A connection on which nothing was read; ``secure``: it came over TLS."""

    def receive(self, data: bytes, now_ns: int) -> list[tuple[int, object]] | None:
        """What a read meant. O(bytes)."""

    def begin(
        self,
        data: bytes,
        listener: ListenerStack,
        peer: Peer,
        deadlines: DeadlineTable,
        now_ns: int,
    ) -> H2Begun | None:
        """`receive`, and with the head of each request what follows it, as `ServerCodec.begin`
        does: the request, its ticket, and a slot that is added for its deadline."""

    def receive_eof(self) -> list[tuple[int, object]] | None:
        """The peer sends no more."""

    def events(self) -> list[tuple[int, object]] | None:
        """What happened since the last call."""

    def take_output(self) -> bytes:
        """Bytes to send; empty when there are none."""

    @property
    def wants_read(self) -> bool:
        """False while what was read cannot be parsed."""

    @property
    def closed(self) -> bool:
        """Whether the connection is over."""

    @property
    def in_head(self) -> bool:
        """Whether a request's head has begun and is not there yet."""

    @property
    def flood(self) -> int | None:
        """The number of the flood that ended the connection."""

    @property
    def open_streams(self) -> int:
        """How many streams are open."""

    @property
    def queued(self) -> int:
        """Bytes of responses that wait."""

    def queued_on(self, stream: int) -> int:
        """Bytes that wait on one stream."""

    def send_response(
        self, stream: int, request: Request, response: Response, ticket: Ticket
    ) -> int:
        """A relayed head with the route's changes, and what of the body came with it."""

    def send_informational(self, stream: int, response: Response, ticket: Ticket) -> None:
        """A relayed 1xx."""

    def send_answer(self, stream: int, request: Request | None, answer: Answer) -> None:
        """A whole answer made here."""

    def send_data(self, stream: int, data: bytes | Chunk) -> int:
        """A piece of a body; bytes that wait."""

    def send_end(self, stream: int, body: Body, ticket: Ticket) -> None:
        """The end of a body."""

    def pause(self, stream: int) -> None:
        """Take no more of a body."""

    def resume(self, stream: int) -> None:
        """Take on."""

    def leave(self, stream: int) -> bool:
        """The owner is done with the stream; ``False``: it is still there."""

    def reset(self, stream: int, code: int) -> None:
        """End a stream at once."""

    def drain(self) -> None:
        """Begin to take no more streams, with a PING."""

    def warn(self) -> None:
        """Say that no more streams are taken."""

    def send_goaway(self, reason: bytes) -> None:
        """Say which stream is the last."""

    def abandon(self, code: int) -> None:
        """End every stream and the connection."""

    def ping(self) -> bool:
        """Ask for a sign of life."""

@final
class H2Begun:
    """Pairs of a stream and what happened on it. A request begins when its turn comes: what became
    of those before it may decide about it."""

    def __iter__(self) -> H2Begun:
        """Itself."""

    def __next__(self) -> tuple[int, object]:
        """The next one. O(the request)."""

@final
class H2ClientCodec:
    """`meshcore.codec.ClientCodec` of the core. For one thread."""

    def __new__(
        cls, limits: CodecLimits, secure: bool, config: H2Config, now_ns: int
    ) -> H2ClientCodec:
        """A connection whose preface waits to be sent; ``secure``: it is over TLS."""

    def receive(self, data: bytes, now_ns: int) -> list[tuple[int, object]] | None:
        """What a read meant. O(bytes)."""

    def receive_eof(self) -> list[tuple[int, object]] | None:
        """The endpoint sends no more."""

    def events(self) -> list[tuple[int, object]] | None:
        """What happened since the last call."""

    def take_output(self) -> bytes:
        """Bytes to send; empty when there are none."""

    @property
    def wants_read(self) -> bool:
        """False while what was read cannot be parsed."""

    @property
    def closed(self) -> bool:
        """Whether the connection is over."""

    @property
    def open_streams(self) -> int:
        """How many streams are open."""

    def can_open(self, now_ns: int) -> int:
        """How many more streams may be opened now."""

    def can_carry(self, now_ns: int) -> int:
        """The same of streams whose bodies would pass at once: none while the window is used up."""

    @property
    def authenticates(self) -> bool:
        """Whether a response has shown that the endpoint authenticates this connection."""

    @property
    def can_upgrade(self) -> bool:
        """Whether the endpoint takes an extended CONNECT."""

    @property
    def flood(self) -> int | None:
        """The number of the flood that ended the connection."""

    def send_request(self, request: Request, ticket: Ticket, peer: Peer, now_ns: int) -> int | None:
        """Open a stream with a request; ``None``: none can be opened, and nothing was sent."""

    def forward(self, request: Request, ticket: Ticket, peer: Peer, now_ns: int) -> int | None:
        """`Ticket.sent` and `send_request`."""

    def relay(
        self,
        stream: int,
        response: Response,
        request: Request,
        ticket: Ticket,
        to: _WholeTo | None,
        now_ns: int,
    ) -> tuple[Response, int] | bytes | bool | int | None:
        """`Ticket.relay`, and `leave` of a stream whose response is whole and was passed on.
        ``None``: it is interim, and the ticket was not asked."""

    @property
    def clogged(self) -> bool:
        """Whether the connection's window is used up."""

    def is_held_up(self, stream: int) -> bool:
        """Whether all of a stream's body waits for the window, which others used up."""

    def send_data(self, stream: int, data: bytes | Chunk) -> int:
        """A piece of a body; bytes that wait."""

    def send_end(self, stream: int, body: Body, ticket: Ticket) -> None:
        """The end of a body."""

    def pause(self, stream: int) -> None:
        """Take no more of a body."""

    def resume(self, stream: int) -> None:
        """Take on."""

    def leave(self, stream: int) -> None:
        """The owner is done with the stream."""

    def reset(self, stream: int, code: int) -> None:
        """End a stream at once."""

    def ping(self) -> bool:
        """Ask for a sign of life."""

def h2_list_bytes(limits: CodecLimits) -> int:
    """Bytes of a field list that are taken, for ``SETTINGS_MAX_HEADER_LIST_SIZE``."""

def h2_read_request(
    fields: _Fields, ended: bool, limits: CodecLimits, secure: bool
) -> Request | str:
    """The request that a field list is, without a body yet; ``ended``: none follows.

    Text for what is malformed (RFC 9113 §8.1.1), which says why: its stream ends with
    PROTOCOL_ERROR. Raises `CodecError` for what may not pass and is answered. O(bytes).
    """

def misdirected(data: bytes) -> str | None:
    """What the first bytes of a connection begin, where HTTP without TLS was expected and they are
    none: TLS, or a header of the PROXY protocol. For logs."""

def h2_about(answer: Answer, fields: _Fields, limits: CodecLimits) -> Answer:
    """The answer to a head that `h2_read_request` refused, with what it asked for, for the log."""

def h2_read_response(
    fields: _Fields, ended: bool, head_request: bool, limits: CodecLimits
) -> Response | str:
    """The response, interim or final, that a field list is; as `h2_read_request`."""

def h2_check_trailers(fields: _Fields, limits: CodecLimits, of_response: bool) -> str | None:
    """What is wrong with trailers if they are malformed; `CodecError` for too many or too large."""

def h2_read_body(
    data: bytes, end: bool, trailers: _Fields | None, limits: CodecLimits, received: int
) -> Body | str:
    """More of a body, not copied; ``received``: bytes of all of it so far, these included.

    Text for malformed trailers; raises `CodecError` for what may not pass.
    """

def h2_add_body(message: Request | Response, body: Body) -> None:
    """Give a message what of its body came in the same read."""

def has_body(message: Request | Response) -> bool:
    """Whether a message has a body, be it an empty one of no declared length."""

def body_of(message: Request | Response) -> Body:
    """What of a message's body came with it."""

def h2_write_request(
    request: Request,
    ticket: Ticket,
    peer: Peer,
    now_ns: int,
    secure: bool,
    can_upgrade: bool,
) -> tuple[list[tuple[bytes, bytes]], bool]:
    """A request to send, as `H2ClientCodec.send_request` does, and whether a tunnel's bytes follow.

    Raises `CodecError` for what HTTP/2 cannot say.
    """

def h2_check_list(fields: _Fields, most: int) -> None:
    """Raise `CodecError` for a field list of more than ``most`` bytes (RFC 9113 §6.5.2)."""

def h2_write_response(
    request: Request, response: Response, ticket: Ticket
) -> tuple[list[tuple[bytes, bytes]], bool]:
    """A response to send, and whether nothing may follow its head."""

def h2_write_informational(response: Response, ticket: Ticket) -> list[tuple[bytes, bytes]]:
    """A 1xx to send."""

def h2_write_reply(
    request: Request | None, answer: Answer
) -> tuple[list[tuple[bytes, bytes]], bytes]:
    """An answer to send, and the body that follows; without one it ends the stream."""

def h2_write_trailers(body: Body, ticket: Ticket, of_response: bool) -> list[tuple[bytes, bytes]]:
    """The trailers to send behind a body; empty when there are none."""

def h2_priority(value: bytes) -> tuple[int, bool]:
    """Urgency and whether incremental, of a ``priority`` field (RFC 9218 §4)."""

@final
class H2Meter:
    """Counts the frames that come in, and says when they are an attack. For one thread."""

    def __new__(
        cls, server: bool, resets: tuple[int, int], control_frames: tuple[int, int], now_ns: int
    ) -> H2Meter:
        """Rates are per second and at once; ``server``: the preface comes first."""

    def scan(self, data: bytes, now_ns: int) -> int | None:
        """Look at a read: the number of the flood that it completes, if it does. O(frames)."""

    def fault(self, now_ns: int) -> int | None:
        """A stream ended through a fault of the peer's, which costs a client alone; the number of
        the flood, if it is one."""

    def reset_of_closed(self, now_ns: int) -> int | None:
        """The peer reset a stream that was over, which costs an endpoint alone; the number of the
        flood, if it is one."""

    def padding_only(self, now_ns: int) -> int | None:
        """A DATA frame had only padding; the number of the flood, if it is one."""

    def sent_data(self, frames: int) -> None:
        """DATA frames went out: the peer may answer them with credit."""

    def take_priorities(self) -> list[tuple[int, tuple[int, bool]]]:
        """Priorities that came since the last call, by stream (RFC 9218 §7.1)."""

@final
class H2Schedule:
    """Streams that have something to send, in the order of RFC 9218. For one thread."""

    def __new__(cls) -> H2Schedule:
        """No stream."""

    def insert(self, stream: int, priority: tuple[int, bool]) -> None:
        """The place of a stream that was served, or came, just now. O(log streams)."""

    def next(self) -> int | None:
        """Take the stream whose turn it is."""

@final
class Peer:
    """Who is at the other end of a client's connection."""

    @property
    def address(self) -> str:
        """The address as text; ``unknown`` for a unix socket."""

    @property
    def key(self) -> int:
        """Stands for the client among others: one for all addresses that are one client's, as those
        of a /64."""

    @property
    def identity(self) -> str | None:
        """Who it is by its certificate: the SPIFFE ID, else the first DNS name, else the subject,
        else ``sha256:`` and the fingerprint. `None` for one that has shown none."""

    @property
    def names(self) -> list[str]:
        """All names of its certificate, as rules write them: ``spiffe://…``, ``dns:…``, ``uri:…``,
        ``ip:…``, ``email:…``."""

    @property
    def has_client_rules(self) -> bool:
        """Whether rules of its listener hold for it: its connection is one of TLS, or should be."""

    @property
    def is_admitted(self) -> bool:
        """Whether it would come in now, by the rules of its listener. O(1); O(verifying) once after
        its rule has changed."""

    def verify_again(self, unix_s: int) -> bool:
        """The same by a whole verification at this time, in seconds since 1970. O(verifying)."""

    @property
    def subject(self) -> str | None:
        """The subject of its certificate, as RFC 4514 writes it; may be empty."""

    @property
    def fingerprint(self) -> str | None:
        """SHA-256 of its certificate, in lower-case hex."""

@final
class ListenerStack:
    """A listener's stack; outlives reloads."""

    def begin(self, request: Request, peer: Peer, now_ns: int) -> Ticket:
        """Run the stack up to its first verdict: one call for a stack without Python layers."""

    def find(self, request: Request, peer: Peer) -> tuple[str, str] | None:
        """The route that a request takes, as `begin` finds it, and the host of it that matched;
        charges nothing, and asks no layer."""

    def connected(self) -> int:
        """A client connected; how many are there now, over all workers. O(workers)."""

    def hears(self, peer: Peer) -> bool:
        """Whether a peer may announce connections by the PROXY protocol."""

    def disconnected(self) -> None:
        """Count a client that left; once for each `connected`."""

    def refused(self, answer: Answer, sent: bool) -> None:
        """Count an answer that was given before a request began; or a cut for its reason, if it
        was not ``sent``."""

    def handshake_began(self) -> None:
        """A connection is there whose TLS is not agreed yet."""

    def handshake_ended(self) -> None:
        """Its TLS is agreed, or it is gone; once for each `handshake_began`."""

    def handshake_made(self, transport: SecureTransport) -> None:
        """Count a TLS handshake by what was agreed."""

    def handshake_failed(self, reason: str, by_peer: bool) -> None:
        """Count one that came to nothing, or TLS that failed behind it: for an alert, by its name
        in RFC 8446, ``timeout``, ``closed``, ``no_tls`` or ``overflow``; all else is ``other``.
        ``by_peer``: the client ended it."""

    def flooded(self, flood: int) -> None:
        """Count a connection that was ended for a flood (`H2ServerCodec.flood`)."""

@final
class Cause:
    """One thing that several requests may meet: the end of the connection that they share, its
    silence, a connect that failed. It counts once, for the first of them that is told of it as a
    failure."""

    def __new__(cls) -> Cause: ...
    @staticmethod
    def excused() -> Cause:
        """One that is counted already."""

    @property
    def counted(self) -> bool:
        """Whether it was counted, and counts no more."""

@final
class Ticket:
    """What a request holds of shared state; dropping it gives everything back."""

    @property
    def verdict(self) -> int:
        """What is to be done: a `Verdict`."""

    @property
    def endpoint(self) -> int:
        """The id of the endpoint to send to."""

    @property
    def layer(self) -> int:
        """The number of the Python layer to run."""

    @property
    def again_ns(self) -> int:
        """When the next attempt begins."""

    def proxy_header(self, peer: Peer, host: str | None, port: int, version: int) -> bytes:
        """What a connection begins with that is opened for the request's client, in version 1 or 2
        of the PROXY protocol; ``host`` and ``port`` are what ``peer`` is connected to, unless it
        was announced itself."""

    @property
    def cause(self) -> int:
        """The `Reason` for which the request is over, once `failed` said so."""

    @property
    def due_sooner(self) -> bool:
        """Whether `due` is worth asking before the moment that `arm` gave last."""

    @property
    def tunnel(self) -> bool:
        """Whether the request asks for a tunnel that its route allows."""

    @property
    def tunnels(self) -> bool:
        """Whether the endpoint has agreed to a tunnel."""

    @property
    def pending(self) -> bool:
        """Whether a gRPC status is still to come."""

    @property
    def knows_status(self) -> bool:
        """Whether a gRPC status is here."""

    @property
    def repeatable(self) -> bool:
        """Whether the request is sent again if a kept connection turns out to be stale."""

    @property
    def route(self) -> str:
        """The name of the route that matched; empty before one did."""

    @property
    def stands_at(self) -> tuple[bool, int] | None:
        """The layer that let the request pass no further, or not yet: whether it is the route's,
        and its place among those; `None` when all have."""

    @property
    def allowed_by(self) -> list[str]:
        """What each ``allow`` layer has found so far: the name of the rule that matched, or
        ``none``; behind ``shadow:`` if that layer refuses nothing."""

    @property
    def attempts(self) -> int:
        """Attempts so far."""

    def resume(self, request: Request, peer: Peer, now_ns: int) -> int:
        """Go on behind a Python layer, or the awaited body; the next `Verdict`."""

    def arm(self) -> int:
        """The next moment at which `due` is worth asking, to set a timer to; 2^63-1 for none."""

    def answer(self, request: Request) -> Answer:
        """The answer of a refusal, a redirect or a direct response."""

    def sent(self, now_ns: int) -> None:
        """The request, and what was kept of its body, is written to the endpoint now."""

    @property
    def keeps(self) -> bool:
        """Whether what was sent of the request's body is kept for another attempt."""

    def received(self, size: int, connected: bool, now_ns: int) -> int:
        """A piece of the request's body came; ``connected``: an endpoint takes it. A `Keep`."""

    def open_request(self, request: Request, keeps_length: bool) -> Body | None:
        """Layers make another body of the request's: takes out what of it came with its head, which
        says nothing of a length then, unless the new one is as long. `None`: it has no body."""

    def open_response(
        self, request: Request, response: Response, keeps_length: bool
    ) -> Body | None:
        """The same of the response; that to HEAD, and a 304, say no length either."""

    def came(self, size: int, now_ns: int) -> None:
        """A piece of the request's body came, for layers to change."""

    def made(self, size: int, connected: bool) -> int:
        """How much they made of it; a `Keep`, as in `received`."""

    def at_work(self, of_request: bool, on: bool, now_ns: int) -> None:
        """A layer has a piece of the request's body, or of the response's, and must be done in
        time; or it has none any more."""

    def trailers(self, body: Body, of_request: bool) -> list[tuple[str, str]] | None:
        """Of the last piece of a body, those that are sent on; `None`: there are none."""

    def trailers_changed(self, body: Body) -> None:
        """Layers changed the trailers of the response: what the client of a gRPC call is told."""

    def request_ended(self, now_ns: int) -> None:
        """The last byte of the request's body came: from now on the service is waited for."""

    def reading(self, on: bool, now_ns: int) -> None:
        """The client is read again, or not any more: time in which it is not read does not count
        against it."""

    def await_layer(self, now_ns: int) -> None:
        """A Python layer is at work, and must end in time."""

    def due(self, client_paused: bool, endpoint_paused: bool, now_ns: int) -> tuple[int, int, str]:
        """What it means that the moment of `arm` has passed: a `Due`, the `Reason` of what is over,
        and what in particular. Says which sides are not read."""

    def failed(self, why: int, cause: Cause | None, now_ns: int) -> int:
        """The attempt failed before its response's head; a `Next`.

        ``why`` is a `Reason`; ``cause``: what other requests may meet, too.
        Decided by policy, method, replay, budget, breaker, balance and time; never by limiters.
        """

    def responded(self, response: Response, now_ns: int) -> int:
        """The response head came: breaker and endpoint learn the outcome, or another attempt
        follows. A `Passed`."""

    def relay(
        self,
        response: Response,
        request: Request,
        to: _WholeTo | None,
        now_ns: int,
    ) -> tuple[Response, int] | bytes | bool | int:
        """A final response head came: it, and what `responded` says. Of one that is whole and
        passes, if there is a ``to``: that sends it to a client whose connection goes on, or to a
        stream of it, and the ticket is finished. Over HTTP/1.1 the next request is awaited then,
        and a truth says whether something of it is here; or, with nothing awaited, bytes are what
        the transport's outbox could not hold, none where the connection ends. Over HTTP/2 a number
        says how many wait on the stream, -1 that it is over and its slot given back."""

    def relayed(self, size: int, now_ns: int) -> None:
        """A piece of the response's body passed."""

    def trailed(self, body: Body, now_ns: int) -> None:
        """The response ended; the status of a gRPC call is among the trailers."""

    def decided(self, answer: Answer, at: int, cause: Cause | None, now_ns: int) -> None:
        """A local answer is to end the request: who is to blame for it is told. ``at`` and
        ``cause`` as in `answered`, which follows once layers have seen it."""

    def answered(
        self, request: Request, answer: Answer, at: int, cause: Cause | None, now_ns: int
    ) -> None:
        """An answer given here ends the request; ``at`` is the `Phase` in which, ``cause`` as in
        `failed`."""

    def ended_with(self, answer: Answer) -> None:
        """A gRPC response under way was ended with the status of an answer given here."""

    def cut(self, why: int, detail: str, at: int, cause: Cause | None, now_ns: int) -> None:
        """The request is over without an answer of ours, for a `Reason`, in a `Phase`; ``cause``
        as in `failed`."""

    def finish(self, now_ns: int) -> None:
        """The client has its whole answer; what is still held goes back. Idempotent."""

    def access_line(self, request: Request, peer: Peer, json: bool) -> str:
        """A line of the access log, with its line feed; after the end. O(bytes)."""

    def outcome(self) -> Outcome:
        """What the access log says of the end, for layers; after it."""

@final
class Outcome:
    """How a request ended: what the access log says of it."""

    @property
    def reason(self) -> str | None:
        """Why, as in ``x-mesh-reason``; `None` if the client has the endpoint's whole answer."""

    @property
    def by(self) -> str:
        """Who ended it: ``client``, ``endpoint`` or ``proxy``."""

    @property
    def phase(self) -> str | None:
        """Where it ended, such as ``asked``; `None` as the reason."""

    @property
    def detail(self) -> str:
        """What in particular: which rule, which limit, which error of the system; empty if there
        is nothing to add."""

    @property
    def status(self) -> int:
        """The status that the client got; 0 for none."""

    @property
    def grpc_status(self) -> int | None:
        """The status of a gRPC call that the client got, if it was told one."""

    @property
    def endpoint(self) -> str | None:
        """The address of the endpoint that was asked last, if one was."""

    @property
    def attempts(self) -> int:
        """How often an endpoint was chosen."""

    @property
    def seconds(self) -> float:
        """From the request's head to the end of its response."""

@final
class LogLines:
    """Lines of the access log that wait to be written. For any thread."""

    def __new__(cls, json: bool, most: int) -> Self:
        """``most``: of those that wait; further ones are dropped and counted."""

    def add(self, ticket: Ticket, request: Request, peer: Peer) -> bool:
        """The line of a request that is over. Whether it is the first that waits."""

    def add_refused(self, stack: ListenerStack, answer: Answer, sent: bool, peer: Peer) -> bool:
        """That of an answer given before there was a request, or of a cut, if not ``sent``."""

    def add_text(self, line: str) -> bool:
        """One as it is, with its line feed."""

    def take(self) -> list[tuple[bytes, int]]:
        """All that waits, in pieces that a pipe takes at once (PIPE_BUF), and how many lines each
        has."""

    @property
    def dropped(self) -> int:
        """How many lines did not find room."""

@final
class TicketRing:
    """The keys with which tickets are sealed; empty, there are none. For any thread."""

    def __new__(cls) -> Self: ...
    def set(self, keys: Sequence[bytes]) -> None:
        """These are in force from now on: the first seals, all open. 48 random bytes each."""

@final
class KeyLog:
    """A file to which secrets of TLS sessions are appended, as NSS writes them."""

    def __new__(cls, path: str | PathLike[str]) -> Self:
        """Opens it; one that is not there is made for its owner alone. Raises `OSError`."""

@final
class TlsTrust:
    """Whom to believe, and of them who comes in. Raises `ConfigError`."""

    def __new__(
        cls,
        ca: bytes | None = None,
        *,
        system: bool = False,
        domains: Sequence[tuple[str, bytes]] = ...,
        crl: bytes = ...,
        use_expired_crl: bool = False,
        names: Sequence[str] = ...,
        required: bool = True,
    ) -> Self:
        """``ca``: for certificates without SPIFFE ID, and where there are no ``domains`` for all;
        ``system``: without it the system's. ``names``: of which a certificate must have one. Not
        ``required``: also a client that has no certificate."""

@final
class TlsServer:
    """A listener's TLS. Made in a millisecond a certificate; raises `ConfigError`."""

    def __new__(
        cls,
        listener: str,
        certificates: Sequence[tuple[str | None, bytes, bytes, bytes | None, TlsTrust | None]],
        alpn: Sequence[str],
        min_version: str,
        clients: TlsTrust | None,
        tickets: TicketRing,
        key_log: KeyLog | None = None,
    ) -> Self:
        """``certificates``: name, chain, key and OCSP response of each, the first for all
        else too, and who comes in of clients that ask for it, if not ``clients``."""

    def session(
        self, protocol: object, linger: Callable[[Any], object] | None = None
    ) -> SecureTransport:
        """TLS for a connection that was accepted; ``protocol`` is told as a loop tells it. Where an
        alert of ours has ended it, ``linger`` is given the loop's transport, to close it when the
        other side has read that; else it is closed at once."""

@final
class ClientRules:
    """By which rules the clients of a listener are verified now; its connections keep it over
    reloads."""

    def __new__(cls, server: TlsServer) -> Self: ...
    def put(self, server: TlsServer) -> None:
        """Those of another configuration count from now on. O(1): each client is verified again
        when it next asks, or by `Peer.verify_again`."""

    def end(self) -> None:
        """There is no TLS any more: a client that came by it may stay, and its name is not
        verified."""

    def plain_peer(self, peer: Peer) -> Peer:
        """The same peer, whose connection began before its listener had TLS: treated as one that
        shows no certificate."""

@final
class TlsClient:
    """An upstream's TLS. Raises `ConfigError`."""

    def __new__(
        cls,
        trust: TlsTrust | None,
        certificate: tuple[bytes, bytes] | None,
        alpn: Sequence[str],
        min_version: str,
        key_log: KeyLog | None = None,
    ) -> Self:
        """``trust``: whom to believe; ``None``: any server."""

    def session(self, server_name: str, protocol: object) -> SecureTransport:
        """TLS for a connection to an endpoint of this name. Raises `ConfigError` for what is
        none."""

@final
class SecureTransport:
    """TLS between a transport of the loop and a protocol: a protocol to the one, a transport to the
    other. The protocol hears of the connection once its handshake is done; of one that fails it
    hears `connection_lost` with a `TlsError`. For the thread of the loop."""

    # As a protocol.
    def connection_made(self, transport: object) -> None: ...
    def data_received(self, data: bytes) -> None: ...
    def eof_received(self) -> bool: ...
    def connection_lost(self, error: Exception | None) -> None: ...
    def pause_writing(self) -> None: ...
    def resume_writing(self) -> None: ...

    # As a transport.
    def write(self, data: bytes) -> None: ...
    def writelines(self, pieces: Sequence[bytes]) -> None: ...
    def can_write_eof(self) -> bool: ...
    def write_eof(self) -> None:
        """End this side: close_notify, and the end of the stream. The other side may go on."""

    def close(self) -> None: ...
    def abort(self) -> None: ...
    def is_closing(self) -> bool: ...
    def pause_reading(self) -> None: ...
    def resume_reading(self) -> None: ...
    def is_reading(self) -> bool: ...
    def get_write_buffer_size(self) -> int: ...
    def set_write_buffer_limits(self, high: int | None = None, low: int | None = None) -> None: ...
    def get_extra_info(self, name: str, default: Any = None) -> Any:
        """Of the loop's transport. ``torn``: whether the other side's end came without its
        close_notify."""

    def set_protocol(self, protocol: object) -> None: ...
    def get_protocol(self) -> object: ...

    # What was agreed.
    @property
    def alpn(self) -> str | None:
        """The protocol that ALPN chose."""

    @property
    def server_name(self) -> str | None:
        """The host that the client asks for, in lower case, once it is known."""

    def certificate_ends_s(self) -> int | None:
        """The last second, since 1970, in which the client's certificate is valid; ``None`` without
        one."""

    @property
    def is_certified(self) -> bool:
        """Whether the client has shown a certificate, which was verified."""

    @property
    def is_quiet(self) -> bool:
        """Whether nothing came that was not told: neither a part of a record nor the other side's
        end."""

    @property
    def peer_closed(self) -> bool:
        """Whether the other side has said that nothing follows."""

    @property
    def lacks_certificate(self) -> bool:
        """Whether the endpoint has asked for a certificate, and got none for we have none; of a
        session that was resumed, whether any endpoint of its upstream has."""

    @property
    def failure(self) -> TlsError | None:
        """Why its TLS is over, unless it ended in order."""

    def agreed(self) -> dict[str, Any]:
        """``version``, ``suite``, ``resumed`` and ``server_name``. Raises `RuntimeError` while the
        handshake is under way."""

    def verified_peer(self, peer: Peer, rules: ClientRules) -> Peer:
        """The same peer, with what its certificate says, and verified by these rules: what it asks
        of a host whose clients are verified by another one than its own is answered with 421."""

    def open(self, data: bytes) -> bytes:
        """What these bytes say, of a connection that is lost. Nothing else is reported."""

def is_tls_name(name: str) -> bool:
    """Whether TLS can verify that an endpoint has this name, or address."""

@final
class TlsFacts:
    """What a certificate says of itself."""

    @property
    def names(self) -> list[str]:
        """Whose it is: host names, addresses and URIs."""

    @property
    def not_before_s(self) -> int:
        """Its first second, since 1970."""

    @property
    def not_after_s(self) -> int:
        """Its last."""

    @property
    def key_kind(self) -> str:
        """Of which kind its key is: ``RSA``, ``ECDSA``, ``Ed25519`` or ``other``."""

    @property
    def weakness(self) -> str | None:
        """Why others may not believe it."""

    @property
    def is_for_servers(self) -> bool:
        """Whether a server may show it (RFC 5280 §4.2.1.12)."""

    @property
    def is_authority(self) -> bool:
        """Whether it may sign others (RFC 5280 §4.2.1.9, §4.2.1.3)."""

    @property
    def wants_staple(self) -> bool:
        """Whether it says that servers staple an OCSP response to it (RFC 7633)."""

    @property
    def is_own_issuer(self) -> bool:
        """Whether it names itself as its issuer."""

    @property
    def next_is_issuer(self) -> bool:
        """Whether the certificate behind it has its issuer's name and key, or is none."""

def tls_facts(pem: bytes) -> list[TlsFacts]:
    """Of each certificate in a PEM text. Raises `ConfigError` where there is none."""

def tls_is_for_host(pem: bytes, host: str) -> bool:
    """Whether the certificate that begins a PEM text is of a host, or of each under ``*.`` of
    one."""

def tls_staple(chain_pem: bytes, ocsp_der: bytes) -> tuple[str, int, int | None] | None:
    """What an OCSP response says of the first certificate of a chain: ``good``, ``revoked`` or
    ``unknown``, since when, and until when there is to be another, in seconds since 1970; ``None``
    where it is about others alone. Raises `ConfigError` for what is none."""

def is_trust_domain(name: str) -> bool:
    """Whether this may be the name of a SPIFFE trust domain."""

def check_tls_name(text: str) -> None:
    """Raise `ValueError` for what is no name, or form of names, of certificates: ``dns:…``,
    ``uri:…``, ``ip:…``, ``email:…`` or ``spiffe://…``."""

@final
class TlsList:
    """What a list of revoked certificates says of itself."""

    @property
    def issuer(self) -> str:
        """Whose it is, as RFC 4514 writes names."""

    @property
    def this_update_s(self) -> int:
        """When it was made, in seconds since 1970."""

    @property
    def next_update_s(self) -> int | None:
        """When it is due to be followed by another, in seconds since 1970, if it says so."""

    @property
    def is_of_authorities(self) -> bool:
        """Whether it is about authorities alone (RFC 5280 §5.2.5)."""

    def is_of(self, ca_pem: bytes) -> bool:
        """Whether its issuer is among these authorities, or has issued one of these
        certificates. O(certificates)."""

def tls_lists(crl_pem: bytes, ca_pem: bytes) -> list[TlsList]:
    """Of each list of revoked certificates in a PEM text; certificates of authorities tell whose
    those of one name are. Raises `ConfigError`."""

def tls_lists_fault(crl_pem: bytes, ca_pem: bytes) -> tuple[str, str] | None:
    """What is wrong with lists of revoked certificates of authorities: a word and a sentence."""

@final
class TlsUnlisted:
    """An authority that has no list in force: none is of its key, where one is of its name, or it
    runs out. Times are in seconds since 1970."""

    @property
    def place(self) -> int:
        """The how manieth of the certificates it is, from 0."""

    @property
    def whose(self) -> str:
        """Its name and number."""

    @property
    def is_shut_out(self) -> bool:
        """Whether no client comes in that it signed, as far as its list is about them; else those
        do that it has revoked."""

    @property
    def is_forged(self) -> bool:
        """Whether a list says that its key has signed it, which has not."""

    @property
    def since_s(self) -> int:
        """The first second in which this is so, as long as nothing else is given."""

    @property
    def until_s(self) -> int:
        """Its last second."""

    @property
    def list_ends_s(self) -> int | None:
        """When its list runs out; ``None`` of one without."""

def tls_listing(crl_pem: bytes, ca_pem: bytes) -> tuple[list[TlsList], list[TlsUnlisted]]:
    """As `tls_lists`, but of no list too; and the authorities that have no list in force, at one
    time or another. Raises `ConfigError`. O(bytes + certificates · lists), without the GIL."""

def tls_is_late(next_update_s: int | None, unix_s: int) -> bool:
    """Whether a list, or an OCSP response, counts no more in this second: it is behind that by
    which the next one was due (RFC 5280 §5.1.2.5, RFC 6960 §4.2.2.1)."""

def tls_pair_fault(chain_pem: bytes, key_pem: bytes) -> tuple[str, str] | None:
    """What is wrong with a certificate and its key: a word and a sentence."""

def tls_system_roots() -> int:
    """How many authorities the system believes. Reads its files."""

def tls_roots_fault(ca_pem: bytes) -> tuple[str, str] | None:
    """What is wrong with certificates of authorities: a word and a sentence."""

@final
class Segment:
    """Shared words in a sealed memory file, by kind and name.

    The process that makes it writes its registry, through `Engine.control`; others open it and
    find what is there. For any thread.
    """

    @staticmethod
    def create(
        *, max_bytes: int, worker_slots: int, seed: int, like: bytes | None = None
    ) -> Segment:
        """A new one; pages cost nothing until they are used.

        ``seed`` (64 bits) keys the limiters' tables of every process; with an export in ``like``
        they get the key that its tables have. Raises `ConfigError` for numbers out of range,
        `OSError` if the system refuses, `ValueError` if ``like`` is no export.
        """

    @staticmethod
    def open(fd: int) -> Segment:
        """What another process made; ``fd`` is duplicated and stays the caller's.

        Raises `OSError`, or `SegmentLayoutError` if it is no segment or of another layout.
        """

    def fileno(self) -> int:
        """The descriptor to hand on; it is closed with this object."""

    @property
    def worker_slots(self) -> int:
        """How many workers there may be at one time."""

    @property
    def max_bytes(self) -> int:
        """The size of the file."""

    @property
    def reserved_bytes(self) -> int:
        """How much of it was ever used."""

    @property
    def objects(self) -> int:
        """Names in its registry, where that is written; elsewhere 0."""

    @property
    def retired(self) -> int:
        """Objects that no configuration in force uses and a worker's request still may.

        As of the last change; 0 where the registry is not written.
        """

    @property
    def retired_bytes(self) -> int:
        """How much these take. O(retired)."""

    @property
    def oldest_version(self) -> int | None:
        """The oldest version that a request of a living worker still holds."""

    def release(self) -> None:
        """Another process is to write the registry; from now on this one changes nothing of it.

        `Engine.prepare`, `Engine.apply` and `Engine.import_words` raise `ValueError` then, and a
        change that is being compiled is refused unless it has all that it needs; `clear` still
        works, for workers of this process. To write again, `open` the segment anew and adopt it:
        `Engine.control`. `ValueError` where the registry is not written, or not any more.
        """

    def export(self) -> bytes:
        """What is worth keeping, for `Engine.import_words` in a program of another layout.

        Counts are added up over the workers; what is only held at the moment is left out. Times
        are of this machine's monotonic clock. `ValueError` where the registry is not written.
        """

    def occupy(self, slot: int, pid: int, started_ns: int) -> None:
        """A process has a worker slot now. `ValueError` if another has it, or there is none."""

    def clear(self, slot: int) -> None:
        """The worker is dead: forget what it held, and free the slot. O(objects).

        What it counted stays. `ValueError` where the registry never was written.
        """

    def worker(self, slot: int) -> WorkerSlot:
        """What the worker of a slot says of itself. `ValueError` for a slot that is not there."""

@final
class WorkerSlot:
    """What a worker says of itself in its slot of a segment; all 0 in a free one."""

    def __new__(
        cls,
        pid: int = 0,
        started_ns: int = 0,
        heartbeat_ns: int = 0,
        version: int = 0,
        oldest_version: int = 0,
    ) -> Self: ...
    def __eq__(self, other: object, /) -> bool: ...
    @property
    def pid(self) -> int:
        """Its process; 0: the slot is free."""

    @property
    def started_ns(self) -> int:
        """When it started."""

    @property
    def heartbeat_ns(self) -> int:
        """When its loop last showed that it runs."""

    @property
    def version(self) -> int:
        """The configuration that it has in force; 0: none yet."""

    @property
    def oldest_version(self) -> int:
        """The oldest configuration that a request of it still ends by."""

@final
class Prepared:
    """A configuration that is compiled and not in force; see `Engine.prepare`."""

    @property
    def version(self) -> int:
        """Its number."""

    def python_layers(self) -> list[str | None]:
        """The names of Python layers, by the number of a pause; none for one that no stack has any
        more, be it of a request under way. `ValueError` once committed."""

    def upstreams(self) -> list[tuple[str, list[tuple[int, str]]]]:
        """Every upstream that the change sets, with id and address of its endpoints. `ValueError`
        once committed."""

@final
class Engine:
    """The compiled configuration of a process."""

    def __new__(cls, *, seed: int, segment_max: int = ...) -> Engine:
        """An engine without configuration.

        ``seed`` (64 bits) keys its tables and makes its choices repeatable; ``segment_max`` is
        the most that shared state may take, in bytes (256 MiB unless told).
        """

    @staticmethod
    def control(segment: Segment, *, seed: int, adopt: bool = False) -> Engine:
        """The engine that alone writes a segment's registry.

        With ``adopt`` it takes over what another process wrote (a program upgrade); names that no
        configuration asks for are kept until one is in force. `ValueError` for a segment that this
        process did not make, without ``adopt``; `SegmentLayoutError` for a damaged one.
        """

    @staticmethod
    def worker(segment: Segment, slot: int, *, seed: int) -> Engine:
        """The engine of the worker in a slot.

        It finds the blocks that control made for the same delta and never makes one: `apply` and
        `prepare` raise `ConfigError` for a name that is not there. The key of the limiters' tables
        is the segment's.
        """

    def prepare(self, delta: bytes) -> Prepared:
        """Compile a change off to the side, without the GIL; nothing is in force yet.

        Raises `ConfigError` as `apply` does, `ValueError` when the registry was handed over. To
        abort, drop the result.
        """

    def commit(self, prepared: Prepared) -> None:
        """Put in force what was prepared; never waits for a `prepare` that is under way.

        `ValueError` if it was committed before, comes from another engine, or was made from a
        configuration that is not in force any more.
        """

    def import_words(self, data: bytes) -> int:
        """Take over what `Segment.export` gave, before the first configuration.

        How many objects were kept: those whose words mean the same here. Make the segment with
        ``like=data``, or the tables of client limiters are worth nothing. `ValueError` for what is
        no export, and in a worker.
        """

    def report(self, now_ns: int) -> None:
        """Write into the worker's slot that it lives, and which versions it has and still holds.

        Control frees nothing that a version may use which a request still holds. Only for engines
        made by `worker`; on others it does nothing.
        """

    def apply(self, delta: bytes) -> None:
        """Compile a change (JSON, see ``rust/meshcore-core/src/snapshot.rs``) and put it in force.

        Without the GIL. Raises `ConfigError` with everything that is wrong, or if what was prepared
        before is committed meanwhile; nothing changes then.
        """

    @property
    def version(self) -> int:
        """The number of the configuration in force."""

    @property
    def oldest_version(self) -> int:
        """The number of the oldest configuration that a request still holds."""

    def listener(self, name: str) -> ListenerStack:
        """A listener's stack in the configuration in force; `ConfigError` for an unknown name."""

    def count(self, place: int, n: int = 1, *, upstream: str | None = None) -> None:
        """Add to a count that the configuration names, of the program or an upstream, by its place.
        Of an upstream that has left the configuration nothing is counted. `ValueError` for a place
        that is not there. O(1), from any thread."""

    def count_layer(self, layer: str, name: str, n: int) -> bool:
        """Add to what a layer in Python counts under a name; ``layer`` is what the configuration
        calls it, without arguments. Of one that has left the configuration nothing is counted.
        False where there is no place for another name: there are 64 for each layer, over all
        workers. O(1) expected, from any thread."""

    def layer_count(self, layer: str, name: str) -> int | None:
        """What a layer in Python has counted under a name, over all workers; ``None`` of one that
        the configuration does not have. O(workers)."""

    def handshake_made(self, upstream: str, transport: SecureTransport) -> None:
        """As of a listener, with an endpoint of an upstream. One that has left the configuration is
        not counted."""

    def handshake_failed(self, upstream: str, reason: str, by_peer: bool) -> None:
        """The same of one that came to nothing."""

    def python_layers(self) -> list[str | None]:
        """The names of Python layers, by the number of a pause, as of `Prepared`."""

    def breakers(
        self, now_ns: int, most: int
    ) -> tuple[list[tuple[str, str | None, str, int, tuple[int, int, int]]], int]:
        """How breakers stand over all workers: upstream, route (of a route's own), state, how long
        it stays open, and failures in a row, calls and failures of the window. At most ``most``,
        first those that are not closed, and how many there are."""

    def ejected(self, now_ns: int, most: int) -> tuple[list[tuple[str, str, int]], int]:
        """The endpoints that are ejected: upstream, address, and how long until it is probed. At
        most ``most``, and how many there are."""

    def set_breaker(self, name: str, *, of_route: bool, open_until_ns: int | None) -> bool:
        """Open a breaker by hand until then, or close it, for all workers; ``False``: there is no
        such breaker."""

    def peer(self, host: str | None, port: int = 0) -> Peer:
        """The peer at an address; ``None`` for a unix socket."""

    def named_peer(self, host: str | None, names: Sequence[str]) -> Peer:
        """The same, as if it had shown a certificate with these names, written as `Peer.names` has
        them. Raises `ValueError` for what no certificate may have."""

    @staticmethod
    def metrics_type(accept: str) -> str:
        """The ``Content-Type`` of the format that an ``Accept`` prefers; there are two."""

    def announced(self, data: bytes) -> tuple[int, Peer | None] | None:
        """The header of the PROXY protocol that ``data`` begins with: how many bytes it has, and
        whom it announces; ``None`` where it names no client. ``None`` while it is not whole. Raises
        `CodecError` for what cannot become one.
        """

    def metrics(
        self,
        accept: str,
        families: Sequence[tuple[str, bool, str, Sequence[tuple[Sequence[tuple[str, str]], float]]]]
        | None = None,
    ) -> tuple[bytes, str]:
        """All metrics and their content type, by an ``Accept`` field. Without the GIL.

        Prometheus text 0.0.4, or OpenMetrics 1.0. ``families`` come last: of each its name, whether
        it only grows, its help, and labels with figures. One that bears no name of a metric is left
        out.
        """

def has_written_all(transport: asyncio.Transport) -> bool:
    """Whether a transport is open and has written all that it was given. O(1)."""

def give_back_pages() -> None:
    """Give the pages back to the system that the core has no use for at the moment: by itself its
    allocator does when it is asked for others. O(pages): some milliseconds behind thousands of
    connections."""

@final
class RequestHooks:
    """The `on_request` of layers that have no other hook. For one thread."""

    def __new__(cls, context: contextvars.Context, clock: Callable[[], int]) -> Self:
        """None yet. Each request's run in a copy of the context."""

    def put_in_force(self, layers: Sequence[object | None]) -> None:
        """These, by the numbers that a ticket pauses with, are those in force from now on."""

    def run(self, ticket: Ticket, request: Request) -> Any:
        """Run the hook that a ticket pauses at, and those behind it, as long as they are such.

        The time, when the request goes on to an endpoint: its deadline is armed. Their context, if
        all let it pass and the ticket's verdict is another. Context, result and exception of the
        last, if it did otherwise. `None`, if nothing was done: the first is none of these, or the
        request was not begun with a deadline's place (`ServerCodec.begin`)."""

@final
class Inbox:
    """Reads sockets of one loop, in one callback a turn. For one thread.

    A socket is read once in a turn, and at most 256,000 bytes of it; of many that have something
    256, and the others next. What is paused is not read, and an end of file, or an error, the
    transport of the loop tells.
    """

    def __new__(cls, on: asyncio.AbstractEventLoop, after: int = 2) -> Inbox:
        """Empty. It takes to sockets when an outbox has sent enough messages to them, and calls
        protocols in the context of this call."""

    def turn(self) -> None:
        """What the loop calls when one of them can be read."""

    def close(self) -> None:
        """What it reads the loop does, from now on."""

@final
class Outbox:
    """What connections of one loop send at the end of its turn. For one thread.

    A small write costs a copy, and one system call at the end of the turn for all that a connection
    wrote in it. The transport of the loop has what the kernel did not take, in order, and so its
    flow control and its errors are as without; what is larger it has at once.
    """

    def __new__(cls, call_soon: Callable[..., object], inbox: Inbox | None = None) -> Outbox:
        """Empty; ``call_soon`` is the loop's. An ``inbox`` reads a connection again once it was
        written to."""

    def over(self, transport: asyncio.Transport) -> asyncio.Transport:
        """What stands for a connected transport of the loop from now on: nothing else may write to
        that, end or close it. A `SecureTransport` stays what it is, and sends what it seals so; so
        does one without a socket, which writes as before."""

    def turn_ends(self) -> None:
        """Send what is held. The loop calls it. Raises what a signal's handler raised meanwhile.
        O(connections that wrote)."""

@final
class DeadlineTable:
    """One deadline for each slot, looked through in one sweep. For one thread."""

    def __new__(cls) -> DeadlineTable:
        """No slot."""

    def add(self, deadline_ns: int) -> int:
        """A slot with this deadline."""

    def arm(self, slot: int, deadline_ns: int) -> None:
        """Replace a slot's deadline."""

    def remove(self, slot: int) -> None:
        """Give a slot back, once."""

    def expired(self, now_ns: int) -> list[int]:
        """Slots whose deadline has passed; each is disarmed. O(slots)."""

@final
class IdleTime:
    """How long a listener's clients may ask nothing. For one thread."""

    timeout_ns: int
    """0 at first."""

    def __new__(cls, deadlines: DeadlineTable) -> IdleTime:
        """For connections with slots of these."""

    def arm(self, slot: int, now_ns: int) -> None:
        """A request is awaited from now on."""

def surely(function: Callable[..., _R], /, *args: Any) -> _R:
    """Call a function, and again if a handler of a signal broke it off (three times at most); what
    it raised first is raised in the end. It must be one that may be called again then."""

@final
class Finally:
    """A block that surely ends: ``with Finally(end, begin):``, of one `with` statement only.

    `begin` is called and gives what the block gets; it has not begun if that raises or is false.
    However the block ends, `end` is called as by `surely`, also if a handler of a signal raises
    between two instructions of the statement itself.
    """

    def __new__(
        cls, end: Callable[[], object], begin: Callable[[], object] | None = None
    ) -> Finally: ...
    def __enter__(self) -> Any: ...
    def __exit__(self, *_raised: object) -> None: ...

class DeadlineCore:
    """The native half of `meshcore.Deadline`: its blocks begin whole or not at all, and surely end,
    also if a handler of a signal raises on the way."""

    def __new__(cls, *_args: object, **_kwargs: object) -> Self: ...
    def __enter__(self) -> Self:
        """Begin a block, whose time is inherited by what it calls."""

    def __exit__(
        self,
        _kind: type[BaseException] | None,
        _error: BaseException | None,
        _trace: TracebackType | None,
        /,
    ) -> None:
        """End it."""

    # As of a breaker.
    def __aenter__(self) -> CoroutineType[Any, Any, Self]:
        """As ``with``; what is awaited in the block is cut off when its time is over."""

    def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
        /,
    ) -> CoroutineType[Any, Any, None]:
        """End it, or raise `DeadlineExceeded` if it was cut off."""

@final
class Words:
    """The words of one part of a `SharedWords`."""

@final
class SharedWords:
    """A segment in a file that any process may add to: the native half of `SharedState`.

    A kind is ``token_bucket``, ``client_limiter``, ``circuit_breaker`` or ``retry_budget``.
    """

    @staticmethod
    def create(fd: int, size: int, seed: int) -> SharedWords:
        """Make a segment of a file of ``size`` zero bytes; it must not be in use before."""

    @staticmethod
    def open(fd: int) -> SharedWords:
        """What another process made; `SegmentLayoutError` for anything else."""

    @property
    def reserved_bytes(self) -> int:
        """How much of the file was ever used."""

    @staticmethod
    def clients(clients: int) -> int:
        """For how many clients a table has room that is made for this many."""

    def bytes_of(self, kind: str, name: str, clients: int) -> int:
        """The most that a part takes."""

    def names(self, kind: str) -> list[str]:
        """The names of a kind that are there, in order. O(parts)."""

    def find(self, kind: str, name: str) -> tuple[Words, str] | None:
        """The words of a name and the rules they were made with, if they are there. O(1)."""

    def make(self, kind: str, name: str, clients: int, rules: str) -> None:
        """Make the words of a name. The caller holds a lock that all who do so agree on. O(1).

        `ConfigError` if there is no room.
        """

    def retire(self, kind: str, name: str) -> bool:
        """Make the words of a name impossible to find, under the same lock. Whether there were
        any."""

@disjoint_base
class BucketCore:
    """The native half of `meshcore.TokenBucket`. For any thread; lock-free."""

    def __new__(
        cls,
        tokens: int,
        period_ns: int,
        burst: int,
        clock: Callable[[], int] | None = None,
        words: Words | None = None,
    ) -> Self:
        """``tokens`` in each ``period_ns``; `ValueError` when out of range."""

    def try_acquire(self, n: int = 1) -> bool:
        """Take ``n`` tokens, if they are there. O(1)."""

    def acquire(self, n: int = 1) -> None:
        """Take ``n`` tokens, or raise `RateLimited`, which says when to come back. O(1).

        Raises `ValueError` for more than the bucket ever holds. Waiters are passed.
        """

    def _charge(self, n: int) -> tuple[int, None]:
        """Take ``n`` tokens: 0, or the nanoseconds to wait. Not counted."""

    def give_back(self, n: int = 1) -> None:
        """Return tokens that were taken and not used."""

    @property
    def remaining(self) -> int:
        """Whole tokens that could be taken now."""

    @property
    def limit(self) -> int:
        """Tokens of a full bucket."""

    def _look(self) -> tuple[int, int]:
        """What is there, and the nanoseconds until the bucket is full."""

    def _refill(self) -> None:
        """Fill the bucket."""

    def _totals(self) -> tuple[int, int]:
        """Calls that were admitted and refused, by all who share it."""

    def _count(self, admitted: bool) -> None:
        """Count a call that has waited."""

    def _publish(self) -> None:
        """Add what was counted here to what all processes have counted."""

    def _forget(self) -> None:
        """Drop what was counted and not published: it is the parent's to publish."""

@final
class Charge:
    """What was taken of a client's bucket."""

@disjoint_base
class ClientsCore:
    """The native half of `meshcore.ClientLimiter`. For any thread; lock-free."""

    def __new__(
        cls,
        quota: tuple[int, int, int],
        clients: int,
        seed: int,
        clock: Callable[[], int] | None = None,
        words: Words | None = None,
    ) -> Self:
        """A table for about ``clients`` clients, keyed by ``seed`` (128 bits), or in ``words``.

        ``quota`` is tokens, their period in nanoseconds, and burst.
        """

    def try_acquire(self, client: str, n: int = 1) -> bool:
        """Take ``n`` tokens of a client's, if they are there. O(1)."""

    def acquire(self, client: str, n: int = 1) -> None:
        """Take ``n`` tokens of a client's, or raise as `TokenBucket.acquire`. O(1)."""

    def _acquire_of(self, key: int, n: int) -> None:
        """As `acquire`, of the client of this `_key`."""

    @staticmethod
    def _check_clients(clients: int) -> None:
        """Raise `ValueError` for a table of none, or more than 2^24."""

    def _charge(self, client: str, n: int) -> tuple[int, Charge | None]:
        """As of a `BucketCore`, with what can be given back."""

    def _return_charge(self, charge: Charge) -> None:
        """Give it back, once; nothing if its bucket is another client's by now."""

    def remaining(self, client: str) -> int:
        """Whole tokens that the client could take now."""

    @property
    def limit(self) -> int:
        """Tokens of a full bucket."""

    def _look(self, client: str) -> tuple[int, int]:
        """What is there, and the nanoseconds until the client's bucket is full."""

    def _refill(self, client: str) -> None:
        """Fill the client's bucket, and with it those that share it when the table is full."""

    def _busy(self) -> int:
        """How many clients have a bucket that is not full. O(clients of the table)."""

    def _totals(self) -> tuple[int, int]:
        """Calls that were admitted and refused, by all who share it."""

    def _count(self, admitted: bool) -> None:
        """Count a call that has waited."""

    def _publish(self) -> None:
        """Add what was counted here to what all processes have counted."""

    def _forget(self) -> None:
        """Drop what was counted and not published: it is the parent's to publish."""

    def _key(self, client: str) -> int:
        """What texts of the same client have in common."""

@disjoint_base
class GuardCore:
    """The native half of a breaker's guard: one block at a time, which surely ends."""

    def __new__(cls, breaker: BreakerCore, given: Permit | None = None) -> Self:
        """Asks for nothing yet, or goes by a permit that was given for its block."""

    def __enter__(self) -> Permit:
        """Ask for leave, or raise `meshcore.errors.BreakerOpen`."""

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: object,
        /,
    ) -> None:
        """Settle by how the block ended, unless the block has done so."""

@disjoint_base
class BreakerCore:
    """The native half of `meshcore.CircuitBreaker`. For any thread; lock-free."""

    def __new__(
        cls,
        rules: str,
        classifying: tuple[
            tuple[type[BaseException], ...],
            Callable[[BaseException], bool | None] | None,
            Callable[[Any], bool] | None,
        ],
        listening: tuple[
            tuple[tuple[Callable[[Any], object], ...], type] | None,
            tuple[tuple[Callable[[Any], object], ...], type] | None,
        ],
        seed: int,
        name: str | None,
        fallback: Callable[..., Any] | None,
        clock: Callable[[], int] | None = None,
        words: Words | None = None,
    ) -> Self:
        """``rules`` as JSON (`Breaker` of ``snapshot.rs``); `ValueError` for others.

        ``classifying``: classes of failures, a function that tells failures from answers and the
        rest, one that tells results that are failures. ``listening``: listeners to calls and to
        changes, each with the class of their events.
        """

    def acquire(self) -> Permit:
        """Leave for one call, or `meshcore.errors.BreakerOpen`. O(1)."""

    def call(self, function: Callable[_P, _R], /, *args: _P.args, **kwargs: _P.kwargs) -> _R:
        """Call a function that is not async (`TypeError`), and settle by how it ended.

        The future that it returns settles when it is done.
        """

    def _call_decorated(
        self,
        fallback: Callable[..., Any] | None,
        function: Callable[..., Any],
        /,
        *args: Any,
        **kwargs: Any,
    ) -> Any:
        """The same, and guard what goes on after the call until it is over."""

    def __enter__(self) -> None:
        """Ask for leave for a block, or `meshcore.errors.BreakerOpen`."""

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
        /,
    ) -> None:
        """Settle by how the block ended."""

    # What type checkers take an ``async def`` for, and with it every context manager's.
    def __aenter__(self) -> CoroutineType[Any, Any, None]:
        """As ``with``; never waits."""

    def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
        /,
    ) -> CoroutineType[Any, Any, None]:
        """As ``with``."""

    @property
    def state(self) -> str:
        """``closed``, ``open`` or ``half_open``."""

    @property
    def _rules_text(self) -> str:
        """Its rules as JSON, with those that were not said."""

    @property
    def name(self) -> str | None:
        """As it was made with."""

    @property
    def fallback(self) -> Callable[..., Any] | None:
        """As it was made with."""

    @property
    def _classifies_results(self) -> bool:
        """Whether results may be failures."""

    def _lose(self, block: object) -> None:
        """The block of an `ExitStack` that is gone, and never left it, says nothing."""

    def _figures(
        self,
    ) -> tuple[Literal["closed", "open", "half_open"], int, int, int, int, list[int]]:
        """State, nanoseconds that it stays open, failures in a row, calls that count, failures
        among them; successes, failures, calls that said nothing, and refusals of this process."""

    def force_closed(self) -> None:
        """Close it now."""

    def _force_open_ns(self, for_ns: int) -> None:
        """Open it for that long."""

@final
class Permit:
    """Leave to make one call; settled once, and given back when dropped unsettled."""

    def success(self) -> None:
        """The service did its work."""

    def failure(self) -> None:
        """It did not."""

    def cancel(self) -> None:
        """The call says nothing about the service."""

    def end(self, raised: BaseException | type[BaseException] | None, /) -> None:
        """What this says: the exception with which the call ended, or `None`."""

    def end_with(self, result: object, /) -> None:
        """What this says: the result with which the call ended."""

    @property
    def settled(self) -> bool:
        """Whether one of the five was called."""

    @property
    def is_probe(self) -> bool:
        """Whether the breaker is half-open, and this call finds out if the service is well."""

    @property
    def kind(self) -> int:
        """The same number for permits that are alike."""

@disjoint_base
class BudgetCore:
    """The native half of `meshcore.RetryBudget`. For any thread; lock-free."""

    def __new__(
        cls,
        percent: int,
        floor: int,
        clock: Callable[[], int] | None = None,
        words: Words | None = None,
    ) -> Self:
        """``percent`` of the calls under way, but never fewer than ``floor``."""

    @property
    def calls(self) -> int:
        """Calls under way, with all their attempts."""

    @property
    def retries(self) -> int:
        """Retries under way, with the pauses before them."""

@disjoint_base
class RetryCore:
    """The native half of `meshcore.Retry`. For any thread."""

    def __new__(
        cls,
        attempts: int,
        pauses: tuple[int, int, int],
        seed: int,
        budget: BudgetCore | None = None,
        clock: Callable[[], int] | None = None,
    ) -> Self:
        """``pauses`` in nanoseconds: the least, the most before the first retry, and at all."""

    def begin(self) -> RetryCall:
        """The first attempt of a call."""

    def _figures(self) -> tuple[list[int], list[list[int]], list[int]]:
        """Calls, retries and nanoseconds of pauses; of calls that were broken off, succeeded and
        failed how many without a retry and how many with; and of those that were given up how many
        for lack of attempts, for what was asked, for a deadline and for lack of budget."""

@final
class RetryCall:
    """One call with its attempts; over when it is ended, or dropped."""

    @property
    def attempts(self) -> int:
        """How many have begun."""

    def again(self, asked_ns: int | None = None, left_ns: int | None = None) -> int | None:
        """The attempt failed: the pause before another one, if there is to be one.

        ``asked_ns``: for how long who was asked wants to be left alone; ``left_ns``: until no
        caller waits for the call any more.
        """

    def succeed(self) -> None:
        """The call is over, with success."""

    def fail(self) -> None:
        """It ends with what no attempt follows."""

    def too_late(self) -> None:
        """The pause took until the call was not waited for any more: no attempt follows it."""

    def cut_off(self) -> None:
        """The attempt was, if nothing is known of its end."""

    def end(self) -> None:
        """The call is over."""

def emit_all(listeners: tuple[Callable[[Any], object], ...], event: object, /) -> None:
    """Tell each listener in turn; what one of them raises is reported to `sys.unraisablehook`."""

def retry_after_ns(value: str, date: str | None = None) -> int | None:
    """How long a ``retry-after`` asks to be left alone, in seconds or until a date; ``date``: that
    of its response, by whose clock it is then counted."""

@disjoint_base
class RoutesCore:
    """The native half of `meshcore.RouteMap`. For any thread; readers never wait."""

    def __new__(cls) -> Self: ...
    def apply(self, changes: list[tuple[str, str, str, Any]]) -> None:
        """Make all changes or none; `ValueError` tells every one that cannot be made.

        Each is a host, ``insert``, ``replace`` or ``remove``, the route as JSON (`Route` of
        ``snapshot.rs``; to remove it, its name) and its value.
        """

    def lookup(
        self,
        host: str,
        target: str,
        method: str = "GET",
        headers: list[tuple[str, str]] | None = None,
    ) -> FoundRoute | None:
        """The route that owns a request; `ValueError` for a path that may not pass."""

    def routes(self) -> list[tuple[str, str, Any]]:
        """Host, name and value of every route. O(routes)."""

    def __len__(self) -> int: ...

@final
class FoundRoute:
    """The route that owns a request."""

    @property
    def name(self) -> str:
        """Its name."""

    @property
    def value(self) -> Any:
        """What was stored with it."""

@disjoint_base
class BalancerCore:
    """The native half of `meshcore.Balancer`. For any thread; lock-free."""

    def __new__(
        cls,
        upstream: str,
        seed: int,
        failure_on: tuple[type[BaseException], ...],
        clock: Callable[[], int] | None = None,
    ) -> Self:
        """``upstream`` as JSON (`Upstream` of ``snapshot.rs``); `ValueError` for others."""

    def pick(self, tried: Sequence[Attempt] | None = None) -> Attempt:
        """An endpoint for one attempt, another than those of ``tried`` if there is one.

        O(1) expected. Raises `meshcore.errors.NoHealthyEndpoint` when the last one has just become
        ejected or draining; when all are, all are used.
        """

    def replace_endpoints(self, upstream: str) -> None:
        """Take the endpoints of ``upstream``; those that stay keep their state."""

    def set_draining(self, address: str, on: bool) -> None:
        """Give an endpoint no new work while another one does not drain, or again; `ValueError` if
        there is none of that name."""

    def endpoints(self) -> list[tuple[str, int, int, bool, bool]]:
        """Address, weight, attempts in flight, ejected, draining."""

@final
class Attempt:
    """One attempt at an endpoint, in flight until it is settled or dropped; settled once."""

    @property
    def address(self) -> str:
        """Where to connect."""

    def success(self) -> None:
        """The endpoint did its work."""

    def failure(self) -> None:
        """It did not."""

    def cancel(self) -> None:
        """The attempt says nothing about the endpoint."""

    def __enter__(self) -> Self: ...
    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        """Settle by how the block ended."""
