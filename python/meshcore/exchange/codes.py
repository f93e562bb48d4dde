"""Numbers that the exchange and the core agree on (`rust/meshcore-py/src/ticket.rs`)."""

from typing import Final


class Verdict:
    """What the core says is to be done."""

    FORWARD: Final = 0
    ANSWER: Final = 1
    PAUSE: Final = 2


class Failure:
    """How an attempt failed."""

    CONNECT: Final = 0
    RESET: Final = 1
    TIMEOUT: Final = 2
    PROTOCOL: Final = 3
    STATUS: Final = 4
    CANCELLED: Final = 5
    ABANDONED: Final = 6
    REFUSED: Final = 7
    """The endpoint processed nothing of it."""
    GRPC: Final = 8
    """A gRPC status that the route retries."""
    DEADLINE: Final = 9
    """The client's own."""


class Signal:
    """What an HTTP/2 connection tells beside messages (`rust/meshcore-py/src/h2_codec.rs`)."""

    WRITABLE: Final = 0
    """The stream takes more."""
    SENT: Final = 1
    """All of a stream that was left is sent."""
    GOING_AWAY: Final = 2
    """The peer takes no more streams."""
    PONG: Final = 3
    CLOSED: Final = 4
    RESET: Final = 5
    """The stream is over without its message."""
    REFUSED: Final = 6
    """As `RESET`; nothing of it was processed."""
    MALFORMED: Final = 7
    """As `RESET`; what the peer sent made no sense."""


class ErrorCode:
    """RFC 9113 §7."""

    NO_ERROR: Final = 0
    INTERNAL_ERROR: Final = 2
    ENHANCE_YOUR_CALM: Final = 11
