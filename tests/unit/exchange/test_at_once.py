"""A request that goes through in few calls, and the same step by step: nobody can tell which."""

from __future__ import annotations

import json
import re
import socket
import sys
import types
from collections import Counter
from collections.abc import Callable, Mapping
from contextlib import ExitStack, suppress
from typing import Any
from unittest import mock

import hypothesis.strategies as st
import pytest
from hypothesis import given

from meshcore import Layer
from meshcore._core import Answer, ListenerStack, Outcome, Peer, Request
from meshcore.exchange.exchange import Exchange
from tests.stepped import step_by_step
from tests.unit.exchange.peers import GET, HELLO, KINDS, RESPONSES, ask, request, responses, say
from tests.unit.exchange.test_places import ONE, PLAIN, PLAIN_GET, busy
from tests.unit.exchange.world import MESH, Wire, World

AT_ONCE = "meshcore_listener_relayed_at_once_total"
NATIVELY = "meshcore_listener_sent_natively_total"
# Of the clock of the day, or drawn by chance.
VARIES = re.compile(rb"(date|x-request-id): [^\r]*", re.I)


class Socketed(Wire):
    """Has a socket, and so its connection writes to that at the end of a turn."""

    def __init__(self, world: World) -> None:
        self._came = bytearray()
        self._ours, self._theirs = socket.socketpair()
        for each in (self._ours, self._theirs):
            each.setblocking(False)
        self._pipe = types.SimpleNamespace(fileno=self._fileno)
        super().__init__(world)

    def _fileno(self) -> int:
        self._drain()  # the peer's kernel takes all at once
        return self._ours.fileno()

    def _drain(self) -> None:
        with suppress(OSError):
            while data := self._theirs.recv(65_536):
                self._came += data

    @property
    def written(self) -> bytearray:
        """In the order in which it came, whichever way."""
        self._drain()
        return self._came

    @written.setter
    def written(self, data: bytearray) -> None:
        self._came = data

    def get_extra_info(self, name: str, default: object = None) -> object:
        if name == "socket" and self._socket is None and not self.lost:
            return self._pipe
        return super().get_extra_info(name)

    def is_reading(self) -> bool:
        """What comes is the play's to say, and no inbox's."""
        return False

    def set_write_buffer_limits(self, high: int, low: int | None = None) -> None:
        super().set_write_buffer_limits(high)

    def end(self, error: Exception | None = None) -> None:
        super().end(error)
        self.shut()

    def shut(self) -> None:
        """Its descriptor is another's from now on."""
        self._drain()
        self._ours.close()
        self._theirs.close()


# Of each wire what was written, then how it stands; and what else there is to see.
Seen = tuple[list[tuple[Any, ...]], *tuple[Any, ...]]


class Told:
    """What an access log hears, but for times."""

    def __init__(self) -> None:
        self.lines: list[object] = []

    def began(self, exchange: Exchange, now_ns: int) -> None:
        self.lines.append(("began", exchange.phase, now_ns))

    def ended(self, exchange: Exchange) -> None:
        line = json.loads(exchange.ticket.access_line(exchange.request, exchange.down.peer, True))
        self.lines.append({key: line[key] for key in line if key not in ("time", "request_id")})

    def refused(self, stack: ListenerStack, answer: Answer, sent: bool, peer: Peer) -> None:
        self.lines.append(("refused", answer.number, sent))


class Play:
    """Clients and endpoints that do what they are told, and what became of it."""

    def __init__(self, text: str, way: str, layers: Mapping[str, Layer] | None = None) -> None:
        self._made = ExitStack()
        if way == "natively":
            self._made.enter_context(mock.patch("tests.unit.exchange.world.Wire", Socketed))
        elif way == "stepped":
            self._made.enter_context(step_by_step())
        self.world = World(text, layers=layers)
        self._made.callback(self.world.close)
        self.told = Told()
        self.world.worker.observer = self.told  # type: ignore[assignment]  # an Observer
        self.asked = 0

    def do(self, order: str, which: int, kind: int, cut: int) -> None:
        """One thing that may happen; what cannot now does not."""
        world = self.world
        clients = [x for x in world.clients if not x.closing and not x.left]
        if order == "ask":
            wire = clients[which % len(clients)] if clients and which % 3 else None
            wire = wire or world.connect_client()
            self.asked += 1
            self._say(wire, b"".join(request(KINDS[kind % len(KINDS)], self.asked)), cut)
        elif order == "connect" and world.connecting:
            error = ConnectionRefusedError() if kind % 5 == 0 else None
            world.settle(world.connecting[which % len(world.connecting)], error)
        elif order == "answer" and (asked := busy(world)):
            name = RESPONSES[kind % len(RESPONSES)]
            parts = responses(1)[name]
            wire = asked[which % len(asked)]
            self._say(wire, b"".join(parts), cut)
            if not parts[-1] and wire.reading and not wire.closing:
                say(world, wire, b"")
        elif order == "leave" and clients:
            say(world, clients[which % len(clients)], b"")
        elif order == "break" and (open_ones := [x for x in world.endpoints if not x.lost]):
            open_ones[which % len(open_ones)].end(ConnectionResetError())
            world.turn()
        elif order == "wait":
            world.advance(kind * 300_000_000)
        elif order == "drain":
            world.listener.drain(0)

    def _say(self, wire: Wire, data: bytes, cut: int) -> None:
        for part in (data[:cut], data[cut:]):
            if part and wire.reading and not wire.closing and not wire.left:
                say(self.world, wire, part)

    def end(self) -> Seen:
        """What everybody has seen, and what is held."""
        world = self.world
        wires = (*world.clients, *world.endpoints)
        lines = world.engine.metrics("")[0].decode().splitlines()
        metrics = [x for x in lines if not x.startswith((AT_ONCE, NATIVELY, "#"))]
        seen = [(VARIES.sub(b"", bytes(x.written)), x.closing, x.aborted, x.reading) for x in wires]
        self._made.close()
        for wire in wires:
            if isinstance(wire, Socketed):
                wire.shut()
        return seen, metrics, self.told.lines


def play_all_ways(
    kind: Callable[[str, str], Play], text: str, orders: list[tuple[str, int, int, int]]
) -> None:
    """Nobody can tell them apart."""
    seen = []
    for way in ("at once", "stepped", "natively"):
        play = kind(text, way)
        for order in orders:
            play.do(*order)
        seen.append(play.end())
    assert_alike(*seen)


def assert_alike(at_once: Seen, stepped: Seen, natively: Seen) -> None:
    """Wires first, then the rest."""
    for one, other, third in zip(at_once[1:], stepped[1:], natively[1:], strict=True):
        assert one == other == third
    assert at_once[0] == stepped[0]
    for one, third in zip(at_once[0], natively[0], strict=True):
        # What was to go out at the end of a turn is dropped when the connection is cut within it.
        cut = one[2] and one[0][: len(third[0])] == third[0]
        assert third[0] == one[0] or cut
        assert third[1:] == one[1:]


ORDERS = st.tuples(
    st.sampled_from(
        ["ask", "ask", "connect", "answer", "answer", "leave", "break", "wait", "drain"]
    ),
    st.integers(0, 5),
    st.integers(0, 20),
    st.integers(0, 200),
)


@pytest.mark.timeout(600)
@pytest.mark.parametrize("text", [PLAIN, MESH], ids=["plain", "layered"])
@given(st.lists(ORDERS, max_size=25))
def test_nobody_can_tell_which_way_a_request_took(
    text: str, orders: list[tuple[str, int, int, int]]
) -> None:
    play_all_ways(Play, text, orders)


def served(world: World, head: bytes = PLAIN_GET, answer: bytes = HELLO) -> Wire:
    """A client whose request is answered."""
    client = ask(world, head)
    while world.connecting:
        world.settle(world.connecting[0], None)
    say(world, busy(world)[0], answer)
    return client


def test_whole_messages_go_through_at_once_and_others_are_seen_not_to(
    world_of: Callable[[str], World],
) -> None:
    world = world_of(PLAIN)
    put = b"PUT / HTTP/1.1\r\nhost: a\r\ncontent-length: 3\r\n\r\nabc"
    for number, head in enumerate((PLAIN_GET, put, GET + b"accept: a/b\r\n\r\n"), 1):
        assert served(world, head).written.endswith(b"hello")
        assert world.metric(AT_ONCE) == number
    for answer in (
        b"HTTP/1.1 103 Early Hints\r\n\r\n" + HELLO,
        HELLO[:-1],
        b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n5\r\nhello\r\n",
    ):
        served(world, PLAIN_GET, answer)
        assert world.metric(AT_ONCE) == 3
    world.listener.drain(0)
    served(world)
    assert world.metric(AT_ONCE) == 3


def test_messages_go_out_natively_where_there_is_a_socket(
    world_of: Callable[[str], World], monkeypatch: pytest.MonkeyPatch
) -> None:
    assert served(world_of(PLAIN)).written.endswith(b"hello")
    monkeypatch.setattr("tests.unit.exchange.world.Wire", Socketed)
    world = world_of(PLAIN)
    for number in (1, 2):
        client = served(world)
        assert client.written.endswith(b"hello")
        assert world.metric(NATIVELY + '{listener="edge",to="upstream"}') == number
        assert world.metric(NATIVELY + '{listener="edge",to="downstream"}') == number
    large = b"HTTP/1.1 200 OK\r\ncontent-length: 100000\r\n\r\n" + b"x" * 100_000
    client = served(world, PLAIN_GET, large)
    assert client.written.endswith(b"x" * 100_000)
    assert world.metric(NATIVELY + '{listener="edge",to="downstream"}') == 2
    for wire in (*world.clients, *world.endpoints):
        assert isinstance(wire, Socketed)
        wire.shut()


class Marks(Layer):
    """Looks at requests alone."""

    def __init__(self) -> None:
        self.hears = 0
        self.gates: list[object] = []  # it waits for none

    def on_request(self, request: Request) -> None:
        request.set_header("x-mark", "1")


class MarksAndHears(Marks):
    """And at the end."""

    def on_end(self, request: Request, outcome: Outcome) -> None:
        self.hears += 1


@pytest.mark.parametrize("kind", [Marks, MarksAndHears])
def test_what_a_layer_sees_no_more_of_goes_through_at_once(
    world_of: Callable[[str], World], monkeypatch: pytest.MonkeyPatch, kind: type[Marks]
) -> None:
    layer = kind()
    monkeypatch.setattr("tests.unit.exchange.world.Probe", lambda: layer)
    world = world_of(MESH)
    for number in (1, 2):
        assert served(world).written.endswith(b"hello")
        assert busy(world) == []
        assert world.metric(AT_ONCE) == (number if kind is Marks else 0)
        assert layer.hears == (0 if kind is Marks else number)
    assert all(b"x-mark: 1\r\n" in wire.written for wire in world.endpoints)


def test_a_layer_sees_a_response_before_it_goes_out(world_of: Callable[[str], World]) -> None:
    world = world_of(MESH)
    served(world)
    assert world.metric(AT_ONCE) == 0


def calls(what: Callable[[], object]) -> Counter[str]:
    """How many calls of Python, and of the core."""
    counts: Counter[str] = Counter()

    def called(frame: Any, event: str, argument: Any) -> None:
        module = frame.f_globals.get("__name__", "")
        if module.startswith("meshcore."):
            counts["python"] += event == "call"
            native = (
                getattr(argument, "__module__", None)
                or type(getattr(argument, "__self__", None)).__module__
            )
            counts["core"] += event == "c_call" and native == "meshcore._core"

    sys.setprofile(called)
    try:
        what()
    finally:
        sys.setprofile(None)
    return counts


RULE = "{name: web, networks: [0.0.0.0/0, '::/0', unix], methods: [GET], paths: [{prefix: /}]}"
ALLOWED = ONE.replace(
    "    timeout: 5s\n", f"    timeout: 5s\n    layers: [{{allow: {{rules: [{RULE}]}}}}]\n"
)


@pytest.mark.parametrize("text", [ONE, ALLOWED], ids=["bare", "allow"])
def test_a_plain_request_takes_few_calls(
    world_of: Callable[[str], World], text: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Each is some tens of nanoseconds of a request's few microseconds. A layer of the core takes
    none."""
    monkeypatch.setattr("tests.unit.exchange.world.Wire", Socketed)
    world = world_of(text)
    for _ in range(12):
        client = served(world)  # in doubt at first connections are looked into

    def serve() -> None:
        client.protocol.data_received(PLAIN_GET)
        busy(world)[0].protocol.data_received(HELLO)

    counts = calls(serve)
    assert client.written.endswith(b"hello")
    assert world.metric(AT_ONCE) == 13
    assert world.metric("meshcore_allow_total") == (0 if text is ONE else 13)
    assert counts["python"] <= 13
    assert counts["core"] <= 4  # beside the clock, which is the world's
    for wire in (*world.clients, *world.endpoints):
        assert isinstance(wire, Socketed)
        wire.shut()
