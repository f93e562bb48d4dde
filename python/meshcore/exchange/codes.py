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
