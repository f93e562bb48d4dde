"""The same over HTTP/2, on either side: nobody can tell which way a request took."""

from __future__ import annotations

from collections.abc import Callable, Mapping

import hypothesis.strategies as st
import pytest
from h2.errors import ErrorCodes
from h2.settings import SettingCodes
from hypothesis import given

from meshcore import Layer
from meshcore.downstream.http2 import Http2Connection
from tests.unit.exchange.h2_peers import H2_MESH, Peer, frames, h2_client, h2_endpoint
from tests.unit.exchange.peers import HELLO, counted, say
from tests.unit.exchange.test_at_once import AT_ONCE, VARIES, Play, Seen, calls, play_all_ways
from tests.unit.exchange.test_places import ONE, PLAIN, PLAIN_GET, busy
from tests.unit.exchange.world import MESH, Wire, World

H2_PLAIN = PLAIN.replace("    endpoints:", "    protocol: h2\n    endpoints:")
H2_ONE = ONE.replace("    endpoints:", "    protocol: h2\n    endpoints:")
BODY = 100_000
DATA = 0
CODES = [ErrorCodes.NO_ERROR, ErrorCodes.REFUSED_STREAM, ErrorCodes.CANCEL]


def told(data: bytes) -> list[tuple[int, bytes, int]]:
    """Kind, flags with the stream, and of DATA the length of each frame: heads have the time of the
    day."""
    parts = frames(data)
    return [(kind, part[4:9], len(part) if kind == DATA else 0) for kind, part in parts]


class H2Play(Play):
    """Clients over HTTP/2; endpoints over either."""

    def __init__(self, text: str, way: str, layers: Mapping[str, Layer] | None = None) -> None:
        super().__init__(text, way, layers)
        self.over_h2 = "protocol: h2" in text
        self.peers: list[Peer] = []
        self.servers: list[Peer] = []

    def do(self, order: str, which: int, kind: int, cut: int) -> None:
        """As over HTTP/1.1; and what HTTP/2 has beside it."""
        peers = [x for x in self.peers if not (x.wire.closing or x.protocol.closing)]
        if order == "ask":
            peer = peers[which % len(peers)] if peers and which % 3 else self._client()
            self._ask(peer, kind, cut)
        elif order == "serve":
            peer = peers[which % len(peers)] if peers else self._client()
            self._ask(peer, kind, cut)
            while self.world.connecting:
                self.world.settle(self.world.connecting[0], None)
            self._meet()
            self.do("answer", which, kind, cut)
        elif order == "reset" and peers:
            peer = peers[which % len(peers)]
            if under_way := [number for number, x in peer.streams.items() if not x.over]:
                peer.reset(under_way[kind % len(under_way)])
        elif order == "say" and peers:
            self._go_on(peers[which % len(peers)], kind, BODY)
        elif order == "full" and peers:
            wire = peers[which % len(peers)].wire
            (
                wire.protocol.resume_writing
                if wire.protocol.choked
                else wire.protocol.pause_writing
            )()
            self.world.turn()
        elif order == "take" and peers:
            peers[which % len(peers)].take()
        elif order == "leave" and peers:
            wire = peers[which % len(peers)].wire
            wire.left = True
            wire.protocol.eof_received()
            wire.close()
            self.world.turn()
        elif order == "answer" and self.over_h2:
            self._answer(which, kind, cut)
        elif order in ("answer", "connect", "break", "wait", "drain"):
            super().do(order, which, kind, cut)
        self._meet()
        for peer in [*self.peers, *self.servers]:
            peer.talk()

    def _client(self) -> Peer:
        self.peers.append(h2_client(self.world))
        return self.peers[-1]

    def _meet(self) -> None:
        """Endpoints whose connections are open say hello."""
        known = {id(x.wire) for x in self.servers}
        for wire in self.world.endpoints:
            if self.over_h2 and id(wire) not in known and not wire.lost:
                self.servers.append(h2_endpoint(self.world, wire))

    def _ask(self, peer: Peer, kind: int, cut: int) -> None:
        """Some requests in one read, or two; perhaps one of them is given up within it."""
        numbers = [self._head(peer, "PUT" if kind % 4 == 3 else "GET") for _ in range(1 + kind % 5)]
        if kind % 7 == 6:
            number = numbers[cut % len(numbers)]
            peer.streams[number].reset = ErrorCodes.CANCEL
            peer.engine.reset_stream(number, ErrorCodes.CANCEL)
        self._deliver(peer, cut)

    def _head(self, peer: Peer, method: str) -> int:
        self.asked += 1
        return peer.begin(self.asked, method=method, talks=False)

    def _deliver(self, peer: Peer, cut: int) -> None:
        data = peer.engine.data_to_send()
        for part in (data[:cut], data[cut:]):
            if part and not (peer.wire.closing or peer.wire.lost):
                peer.wire.protocol.data_received(part)
                self.world.turn()

    def _go_on(self, peer: Peer, kind: int, size: int) -> None:
        open_ones = [n for n, x in peer.streams.items() if x.speaks]
        if open_ones:
            number = open_ones[kind % len(open_ones)]
            said = peer.streams[number].said
            peer.say(number, counted(1, size)[said : said + 40_000], end=kind % 3 > 0)

    def _answer(self, which: int, kind: int, cut: int) -> None:
        """All in one read, or two, or its head alone; a reset; or more of a body."""
        servers = [x for x in self.servers if not (x.wire.closing or x.protocol.closing)]
        asked = [
            (peer, number)
            for peer in servers
            for number, x in peer.streams.items()
            if x.head and not x.answered and x.reset is None
        ]
        if kind % 8 == 7 and servers:
            self._go_on(servers[which % len(servers)], kind, BODY)
        elif not asked:
            return
        else:
            peer, number = asked[which % len(asked)]
            if kind % 8 == 6:
                peer.reset(number, CODES[cut % len(CODES)])
                return
            self._head_of_answer(peer, number, kind)
            self._deliver(peer, cut)

    def _head_of_answer(self, peer: Peer, number: int, kind: int) -> None:
        stream, engine = peer.streams[number], peer.engine
        stream.answered = True
        status = "503" if kind % 8 == 5 else "200"
        if kind % 8 == 4:
            engine.send_headers(number, [(":status", "103")])
        stream.done = kind % 8 != 3
        engine.send_headers(number, [(":status", status)], end_stream=kind % 8 == 2)
        if stream.done and kind % 8 != 2:
            engine.send_data(number, b"hello", end_stream=kind % 8 != 1)
        if kind % 8 == 1:
            engine.send_headers(number, [("x-sum", "5")], end_stream=True)

    def end(self) -> Seen:
        """Beside what is held: each frame, and what peers have read."""
        for peer in [*self.peers, *self.servers]:
            peer.hear()
        read = [
            [
                (number, _steady(x.head), bytes(x.body), x.hints, x.ended, x.reset)
                for number, x in peer.streams.items()
            ]
            for peer in [*self.peers, *self.servers]
        ]
        wires = [*self.world.clients, *self.world.endpoints]
        h2 = {id(peer.wire) for peer in [*self.peers, *self.servers]}
        seen = [(self._written(x, h2), x.closing, x.aborted, x.reading) for x in wires]
        return (seen, read, *super().end()[1:])

    @staticmethod
    def _written(wire: Wire, h2: set[int]) -> object:
        data = bytes(wire.written)
        return told(data) if id(wire) in h2 else VARIES.sub(b"", data)


def _steady(head: dict[str, str]) -> dict[str, str]:
    return {name: head[name] for name in head if name not in ("date", "x-request-id")}


ORDERS = st.tuples(
    st.sampled_from(
        ["ask"] * 3
        + ["connect"] * 2
        + ["answer"] * 4
        + ["serve"] * 3
        + ["reset", "say", "full", "take", "leave", "break", "wait", "drain"]
    ),
    st.integers(0, 5),
    st.integers(0, 40),
    st.integers(0, 200),
)


@pytest.mark.timeout(600)
@pytest.mark.parametrize(
    "text", [PLAIN, H2_PLAIN, MESH, H2_MESH], ids=["to http1", "to h2", "layers", "layers to h2"]
)
@given(st.lists(ORDERS, max_size=25))
def test_nobody_can_tell_which_way_a_request_took(
    text: str, orders: list[tuple[str, int, int, int]]
) -> None:
    play_all_ways(H2Play, text, orders)


def answer(endpoint: Peer) -> None:
    """All that it was asked: each whole, all in one read."""
    endpoint.hear()
    engine = endpoint.engine
    for number, stream in endpoint.streams.items():
        if not stream.answered:
            stream.answered = stream.done = True
            engine.send_headers(number, [(":status", "200")])
            engine.send_data(number, b"hello", end_stream=True)


def test_whole_responses_go_through_at_once_to_streams(world_of: Callable[[str], World]) -> None:
    world = world_of(PLAIN)
    client = h2_client(world)
    for number in (1, 2, 3):
        stream = client.begin(1, method="GET")
        while world.connecting:
            world.settle(world.connecting[0], None)
        say(world, busy(world)[0], HELLO)
        assert world.metric(AT_ONCE) == number
        client.talk()
        assert client.streams[stream].body == b"hello"
        assert client.streams[stream].ended


def test_whole_responses_go_through_at_once_from_streams(world_of: Callable[[str], World]) -> None:
    world = world_of(H2_ONE)
    wire = world.connect_client()
    say(world, wire, PLAIN_GET)
    world.settle(world.connecting[0], None)
    endpoint = h2_endpoint(world, world.endpoints[0])
    client = h2_client(world)
    stream = client.begin(1, method="GET")
    answer(endpoint)
    endpoint.talk()
    client.talk()
    assert world.metric(AT_ONCE) == 2
    assert wire.written.endswith(b"hello")
    assert client.streams[stream].body == b"hello"


def test_a_stream_takes_few_calls(world_of: Callable[[str], World]) -> None:
    """Where each read has ten requests, or their answers."""
    world = world_of(H2_ONE)
    client = h2_client(world)
    client.begin(1, method="GET")
    world.settle(world.connecting[0], None)
    endpoint = h2_endpoint(world, world.endpoints[0])
    for _ in range(10):
        client.begin(1, method="GET", talks=False)

    def read(peer: Peer) -> None:
        peer.protocol.data_received(peer.engine.data_to_send())
        world.turn()

    counts = calls(lambda: read(client))
    answer(endpoint)
    counts += calls(lambda: read(endpoint))
    client.hear()
    assert [bytes(x.body) for x in client.streams.values()] == [b"hello"] * 11
    assert world.metric(AT_ONCE) == 11
    assert counts["python"] <= 165
    assert counts["core"] <= 47


@pytest.mark.parametrize("way", ["at once", "stepped"])
def test_what_waits_for_its_client_holds_nothing_of_its_request(way: str) -> None:
    """Nor the configuration that it was decided by, which a client could hold for ever."""
    play = H2Play(H2_ONE, way)
    world = play.world
    client = h2_client(world)
    client.engine.update_settings({SettingCodes.INITIAL_WINDOW_SIZE: 0})
    number = client.begin(1, method="GET")
    world.settle(world.connecting[0], None)
    endpoint = h2_endpoint(world, world.endpoints[0])
    answer(endpoint)
    endpoint.talk()
    client.talk()
    assert isinstance(client.protocol, Http2Connection)
    stream = client.protocol.streams[number]
    assert stream.exchange is None
    assert not client.streams[number].body
    client.engine.increment_flow_control_window(5, number)
    client.talk()
    assert client.streams[number].body == b"hello"
    assert not client.protocol.streams
    play.end()
