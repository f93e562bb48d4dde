"""In which steps a client over HTTP/2 is told to go, and when (RFC 9113 §6.8)."""

from __future__ import annotations

from enum import Enum, auto
from typing import Final

from meshcore.downstream.deadlines import NEVER

GOAWAY_NS: Final = 1_000_000_000
"""So long a client has to show that it reads what it is sent, and to go on as if nothing were when
it opens streams."""


class Step(Enum):
    """What is to be said now."""

    NOTHING = auto()
    WARN = auto()
    SAY_LAST = auto()


class _Stage(Enum):
    ASKED = auto()  # by a PING
    HEARD = auto()
    WARNED = auto()
    OVER = auto()


class Leaving:
    """One connection that takes its last streams; without sockets or a clock.

    A PING first: the time to its answer is the round trip that the two GOAWAYs are to lie apart.
    The first waits until no stream is open. It says nothing about those that are, and there are
    clients that take nothing behind it and so lose them (https://github.com/python-hyper/h2/issues/1181).
    It follows the end of a response, which is read with it. A client that is quiet may read neither
    GOAWAY before it has asked for more, and would not know that this was taken: it is told the last
    stream at once, so that what it asks for behind that can be repeated. A client that goes on to
    open streams has to hear of it a second after the first of them, and all by ``warn_by_ns``.
    """

    __slots__ = ("_active", "_asked_ns", "_round_ns", "_stage", "_warn_by_ns", "due_ns")

    def __init__(self, now_ns: int, warn_by_ns: int) -> None:
        self._asked_ns = now_ns
        self._warn_by_ns = warn_by_ns
        self._round_ns = GOAWAY_NS
        self._stage = _Stage.ASKED
        self._active = False  # a stream was open since the client was heard
        self.due_ns = now_ns + GOAWAY_NS  # when to ask for the next step

    @property
    def has_warned(self) -> bool:
        """Whether a GOAWAY was sent."""
        return self._stage in (_Stage.WARNED, _Stage.OVER)

    def heard(self, now_ns: int, quiet: bool) -> None:
        """The PING was answered; ``quiet``: no stream is open."""
        if self._stage is _Stage.ASKED:
            self._round_ns = now_ns - self._asked_ns
            self._stage, self._active = _Stage.HEARD, not quiet
            self.due_ns = now_ns + self._round_ns if quiet else self._warn_by_ns

    def opened(self, now_ns: int) -> None:
        """The client began a stream."""
        self._warn_by_ns = min(self._warn_by_ns, now_ns + GOAWAY_NS)
        if self._stage is _Stage.HEARD:
            self._active, self.due_ns = True, self._warn_by_ns

    def step(self, now_ns: int, quiet: bool) -> Step:
        """What to say now; ``quiet``: no stream is open."""
        late = now_ns >= self.due_ns
        if self._stage is _Stage.ASKED and late:
            if quiet:  # it reads nothing: of the first step it would hear no earlier
                return self._end()
            self._stage, self._active, self.due_ns = _Stage.HEARD, True, self._warn_by_ns
            late = now_ns >= self.due_ns
        if self._stage is _Stage.HEARD and (late or (quiet and self._active)):
            if quiet and not self._active:  # it may not read before it has asked: see above
                return self._end()
            self._stage, self.due_ns = _Stage.WARNED, now_ns + self._round_ns
            return Step.WARN
        if self._stage is _Stage.WARNED and late:
            return self._end()
        return Step.NOTHING

    def _end(self) -> Step:
        self._stage, self.due_ns = _Stage.OVER, NEVER
        return Step.SAY_LAST
