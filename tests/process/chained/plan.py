"""What one request is, what is done with it on its way and how it is answered: thrown from a seed,
its client and its number, so that a seed repeats it."""

from __future__ import annotations

import random
from dataclasses import dataclass, field

from tests.process.chained import own

NATURES = ("steady", "wild", "guarded")
"""``steady``: its endpoints make no mistake; ``wild``: they do, with no breaker; ``guarded``: with
one that opens for a moment."""
WAYS = ("11", "12", "21", "22")
"""The protocols of the two hops behind the first proxy."""
UNSAFE = ("POST", "PATCH")
BODILESS = (204, 304)
EDGES = (65_535, 65_536, 65_537, 131_072)
LARGEST = 300_000

H1_FAULTS = (
    "cut-before",
    "cut-reading",
    "cut-head",
    "cut-body",
    "long-length",
    "short-length",
    "behind",
    "garbage",
    "two-lengths",
    "close-after",
    "busy",
)
H2_FAULTS = (
    "refuse",
    "cut-before",
    "cut-reading",
    "cut-body",
    "long-length",
    "short-length",
    "behind",
    "close-after",
    "reset-after",
    "goaway",
    "goaway-above",
    "abort",
    "busy",
)


@dataclass(slots=True)
class Side:
    """A body on its way: how long, how it is framed, in which pieces."""

    size: int
    chunked: bool
    trailers: bool
    pieces: int
    pause_s: float
    """Between two pieces."""


@dataclass(slots=True)
class Plan:
    """One request."""

    name: str
    """Its id: in the path, in fields, and the seed of all its bytes."""
    speaks: str
    way: str
    nature: str
    kind: str
    """``plain``, ``grpc`` or ``tunnel``."""
    method: str
    sends: Side
    answer: Side
    expects: bool
    status: int
    interim: int
    """How many 103 come before the response."""
    early: float | None
    """The part of the request's body after which the endpoint answers already."""
    does: tuple[str, ...]
    """What layers do: ``a.in.wait``, ``b.out.raise``, ..."""
    fault: str
    fault_at: float
    fault_tries: int
    """How many of its attempts meet the fault."""
    leaves: str
    """When the client leaves: ``sending``, ``waiting``, ``reading`` or never."""
    leaves_at: float
    aborts: bool
    """Whether it leaves with a reset."""
    lingers_s: float
    """How long the client reads nothing in the midst of a response."""
    pad: int
    body_size: int = field(init=False)

    def __post_init__(self) -> None:
        self.body_size = len(self.body())

    @property
    def path(self) -> str:
        """What is asked for."""
        return f"/{self.way}/{self.nature}/{self.name}"

    @property
    def is_unsafe(self) -> bool:
        """Whether it may be done only once."""
        return self.method in UNSAFE

    def body(self) -> bytes:
        """Of the request; of a tunnel what the client says."""
        data = own.stream(own.REQUEST, self.name, self.sends.size)
        return own.framed(data) if self.kind == "grpc" else data

    def answered(self, what: str = own.ANSWER) -> bytes:
        """The body of the response."""
        if what == own.BUSY:
            return own.stream(what, self.name, 200)
        data = own.stream(what, self.name, self.answer.size)
        return own.framed(data) if self.kind == "grpc" else data

    @property
    def has_body(self) -> bool:
        """Whether its response has one, if the endpoint gives it."""
        return self.method != "HEAD" and self.status not in BODILESS

    def fields(self) -> list[tuple[str, str]]:
        """What its head says beside what frames it."""
        found = [("x-id", self.name), ("x-pad", own.pad(self.name, self.pad))]
        if self.does:
            found.append(("x-do", " ".join(self.does)))
        if self.kind == "grpc":
            found += [("content-type", "application/grpc"), ("te", "trailers")]
        return found


def plan_of(seed: int, client: str, number: int) -> Plan:
    """The one of a client with this number; the client's name begins with its protocol."""
    dice = random.Random(f"{seed} {client} {number}")
    speaks = client[:2]
    name = f"{client}-{number}-{dice.getrandbits(40):010x}"
    kind = dice.choices(("plain", "grpc", "tunnel"), (85, 10 if speaks == "h2" else 0, 5))[0]
    nature = dice.choices(NATURES, (50, 35, 15))[0]
    way = "22" if kind == "grpc" else dice.choice(WAYS)
    method = _method(dice, kind)
    sends = _side(dice, 0.5 if method in ("GET", "HEAD", "DELETE") and kind == "plain" else 1.0)
    sends.trailers = sends.trailers and sends.chunked
    answer = _side(dice, 1.0)
    status = dice.choice((200, 200, 200, 200, 201, 404, 418, 500, 204, 304))
    may_leave = kind != "tunnel" or speaks == "h1"
    leaves = dice.choice(("sending", "waiting", "reading")) if dice.random() < 0.08 else ""
    # The package `h2` cannot take what is interim on a stream that it has reset.
    may_hint = not (leaves and speaks == "h2")
    return Plan(
        name=name,
        speaks=speaks,
        way=way,
        nature=nature,
        kind=kind,
        method=method,
        sends=sends,
        answer=answer,
        expects=kind == "plain" and sends.size > 0 and may_hint and dice.random() < 0.15,
        status=status if kind == "plain" else 200,
        interim=dice.choice((0, 0, 0, 0, 1, 2)) if kind == "plain" and may_hint else 0,
        early=dice.random() if kind == "plain" and dice.random() < 0.15 else None,
        does=_does(dice, kind),
        fault=_fault(dice, nature, way[1]),
        fault_at=dice.random(),
        fault_tries=dice.choice((1, 1, 1, 99)),
        leaves=leaves if may_leave else "",
        leaves_at=dice.random(),
        aborts=dice.random() < 0.5,
        lingers_s=dice.uniform(0.05, 0.4) if dice.random() < 0.04 else 0.0,
        pad=dice.choice((0, 10, 100, 1000, 4000)),
    )


def _method(dice: random.Random, kind: str) -> str:
    if kind != "plain":
        return "POST" if kind == "grpc" else "GET"
    methods = ("GET", "HEAD", "POST", "PUT", "DELETE", "PATCH")
    return dice.choices(methods, (30, 8, 30, 15, 10, 7))[0]


def _side(dice: random.Random, has_body: float) -> Side:
    size = 0
    if dice.random() < has_body * 0.9:
        most = dice.choices((1, 200, 4096, 40_000, LARGEST), (5, 40, 30, 15, 10))[0]
        size = dice.randint(1, most) if dice.random() < 0.95 else dice.choice(EDGES)
    return Side(
        size=size,
        chunked=dice.random() < 0.5,
        trailers=dice.random() < 0.3,
        pieces=dice.choice((1, 1, 1, 2, 3, 6)),
        pause_s=dice.choice((0.0, 0.0, 0.001, 0.01)),
    )


def _does(dice: random.Random, kind: str) -> tuple[str, ...]:
    found = []
    for at in ("a", "b"):
        for side in ("in", "out"):
            if dice.random() < 0.2:
                found.append(f"{at}.{side}.wait")
            if dice.random() < 0.01:
                found.append(f"{at}.{side}.{dice.choice(('raise', 'raise-late'))}")
        if kind == "plain" and dice.random() < 0.015:
            found.append(f"{at}.in.{dice.choice(('answer', 'answer-late'))}")
    return tuple(found)


def _fault(dice: random.Random, nature: str, last: str) -> str:
    if nature == "steady" or dice.random() < 0.5:
        return ""
    return dice.choice(H1_FAULTS if last == "1" else H2_FAULTS)
