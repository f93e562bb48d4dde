"""The same over HTTP/2 on both sides: any order of frames, layers and time."""

from __future__ import annotations

import re
from typing import Any, cast

import hypothesis.strategies as st
import pytest
from h2.errors import ErrorCodes
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from meshcore.downstream.http2_stream import Http2Stream
from meshcore.exchange.exchange import Exchange
from meshcore.exchange.phase import FULL, HOOKED, LOOKED_AT, LOOKING, OVER, UNTAKEN
from tests.unit.exchange.h2_peers import H2_MESH, Peer, Stream, h2_client, h2_endpoint
from tests.unit.exchange.peers import counted
from tests.unit.exchange.test_exchange_machine import (
    BODIES_SETTINGS,
    MACHINE_SETTINGS,
    Observer,
    hooked,
    inward,
    outward,
)
from tests.unit.exchange.world import Bodies, Gate, World

# What is found is made small before it is told.
pytestmark = pytest.mark.timeout(600)

SIZE = 300_000
TEXT = H2_MESH.replace("when: [connect", "per_try: 2s, when: [connect")
BINDS = {"authorization": "NTLM a"}
CODES = [ErrorCodes.NO_ERROR, ErrorCodes.REFUSED_STREAM, ErrorCodes.INTERNAL_ERROR]


def number_of(stream: Stream) -> int:
    return int(stream.head[":path"][1:])


class Http2Machine(RuleBasedStateMachine):
    """Clients and endpoints, each with several streams of a connection."""

    def __init__(self) -> None:
        super().__init__()
        self.world = self.made()
        self.observer = Observer()
        self.world.worker.observer = cast("Any", self.observer)
        self.clients: list[Peer] = []
        self.endpoints: list[Peer] = []
        self.asked: dict[tuple[int, int], int] = {}  # the number of a client's stream
        self.number = 0

    def made(self) -> World:
        """Where it happens."""
        return World(TEXT)

    def through(self, body: bytes) -> bytes:
        """A body as it comes out of the proxy."""
        return body

    # --- clients --------------------------------------------------------------------------------

    def open(self, peers: list[Peer]) -> list[Peer]:
        return [peer for peer in peers if not (peer.wire.closing or peer.protocol.closing)]

    @rule(
        new=st.booleans(),
        method=st.sampled_from(["GET", "PUT", "POST"]),
        on_request=st.sampled_from(["", "", "", "wait", "answer"]),
        on_response=st.sampled_from(["", "wait", "wait", "raise"]),
        binds=st.sampled_from([{}, {}, {}, BINDS]),
    )
    def ask(
        self, new: bool, method: str, on_request: str, on_response: str, binds: dict[str, str]
    ) -> None:
        fields = {"x-in": on_request, "x-out": on_response}
        if on_request == "answer":
            fields = {"x-answer": "1"}
        self.say_request(self.client(new), method, fields | binds)

    @precondition(lambda self: not self.world.connecting)
    @rule(
        new=st.booleans(),
        method=st.sampled_from(["GET", "PUT"]),
        on_response=st.sampled_from(["", "wait"]),
        binds=st.sampled_from([{}, BINDS]),
    )
    def ask_and_be_answered(
        self, new: bool, method: str, on_response: str, binds: dict[str, str]
    ) -> None:
        """As far as the head of the answer: what makes the rest likely to be reached."""
        self.say_request(self.client(new), method, {"x-out": on_response} | binds)
        for gate in self.world.connecting:
            self.settle(gate, None)
        for peer, stream in self.unanswered()[-1:]:
            peer.answer(stream)

    def client(self, new: bool) -> Peer:
        clients = self.open(self.clients)
        if (new and len(clients) < 3) or not clients:
            clients = [h2_client(self.world)]
            self.clients += clients
        return clients[0]

    def say_request(self, peer: Peer, method: str, fields: dict[str, str]) -> None:
        self.number += 1
        given = [(name, value) for name, value in fields.items() if value]
        stream = peer.begin(self.number, *given, method=method)
        self.asked[id(peer), stream] = self.number

    def speaking(self, peers: list[Peer]) -> list[tuple[Peer, int]]:
        return [
            (peer, number)
            for peer in self.open(peers)
            for number, stream in peer.streams.items()
            if stream.speaks and peer.engine.local_flow_control_window(number) > 0
        ]

    @precondition(lambda self: self.speaking(self.clients))
    @rule(data=st.data(), size=st.sampled_from([10, 150_000]), end=st.booleans())
    def client_says(self, data: Any, size: int, end: bool) -> None:
        peer, stream = data.draw(st.sampled_from(self.speaking(self.clients)))
        said = peer.streams[stream].said
        number = self.asked[id(peer), stream]
        peer.say(stream, counted(number, SIZE)[said : said + size], end=end)

    @precondition(lambda self: self.open(self.clients))
    @rule(data=st.data(), gone=st.booleans())
    def client_gives_up(self, data: Any, gone: bool) -> None:
        peer = data.draw(st.sampled_from(self.open(self.clients)))
        under_way = [number for number, s in peer.streams.items() if not s.over]
        if gone:
            peer.wire.left = True
            peer.wire.close()
            self.world.turn()
        elif under_way:
            peer.reset(data.draw(st.sampled_from(under_way)))

    @precondition(lambda self: self.open(self.clients + self.endpoints))
    @rule(data=st.data())
    def somebody_takes_what_came(self, data: Any) -> None:
        data.draw(st.sampled_from(self.open(self.clients + self.endpoints))).take()

    @precondition(lambda self: self.open(self.clients + self.endpoints))
    @rule(data=st.data())
    def a_socket_is_full_or_has_room(self, data: Any) -> None:
        peer = data.draw(st.sampled_from(self.open(self.clients + self.endpoints)))
        protocol = peer.wire.protocol
        (protocol.resume_writing if protocol.choked else protocol.pause_writing)()
        self.world.turn()
        peer.talk()

    # --- endpoints ------------------------------------------------------------------------------

    @precondition(lambda self: self.world.connecting)
    @rule(data=st.data(), fails=st.sampled_from([False, False, True]))
    def connect_ends(self, data: Any, fails: bool) -> None:
        gate = data.draw(st.sampled_from(self.world.connecting))
        self.settle(gate, ConnectionRefusedError() if fails else None)

    def settle(self, gate: Gate, error: Exception | None) -> None:
        before = len(self.world.endpoints)
        self.world.settle(gate, error)
        for wire in self.world.endpoints[before:]:
            self.endpoints.append(h2_endpoint(self.world, wire))

    def unanswered(self) -> list[tuple[Peer, int]]:
        return [
            (peer, number)
            for peer in self.open(self.endpoints)
            for number, stream in peer.streams.items()
            if stream.head and not stream.answered and stream.reset is None
        ]

    @precondition(lambda self: self.unanswered())
    @rule(data=st.data(), status=st.sampled_from([200, 200, 200, 503]))
    def endpoint_answers(self, data: Any, status: int) -> None:
        peer, stream = data.draw(st.sampled_from(self.unanswered()))
        peer.answer(stream, status)

    @precondition(lambda self: self.speaking(self.endpoints))
    @rule(data=st.data(), size=st.sampled_from([10, 150_000]), end=st.booleans())
    def endpoint_says(self, data: Any, size: int, end: bool) -> None:
        peer, stream = data.draw(st.sampled_from(self.speaking(self.endpoints)))
        known = peer.streams[stream]
        body = counted(number_of(known), SIZE)[known.said : known.said + size]
        peer.say(stream, body, end=end)
        if end and not known.over:
            peer.reset(stream, ErrorCodes.NO_ERROR)  # RFC 9113 §8.1

    @precondition(lambda self: self.open(self.endpoints))
    @rule(data=st.data(), code=st.sampled_from(CODES))
    def endpoint_resets(self, data: Any, code: ErrorCodes) -> None:
        peer = data.draw(st.sampled_from(self.open(self.endpoints)))
        under_way = [number for number, s in peer.streams.items() if s.reset is None and not s.done]
        if under_way:
            peer.reset(data.draw(st.sampled_from(under_way)), code)

    @precondition(lambda self: self.open(self.endpoints))
    @rule(data=st.data(), how=st.sampled_from(["says so", "is cut", "is found out"]))
    def endpoint_goes(self, data: Any, how: str) -> None:
        peer = data.draw(st.sampled_from(self.open(self.endpoints)))
        if how == "says so":
            peer.go_away()
        elif how == "is cut":
            peer.wire.end()
        else:
            peer.wire.fail(b"")
        self.world.turn()

    # --- layers and time ------------------------------------------------------------------------

    @precondition(lambda self: self.world.probe.gates)
    @rule(data=st.data(), fails=st.sampled_from([False, False, True]))
    def layer_ends(self, data: Any, fails: bool) -> None:
        error = ValueError("as asked") if fails else None
        self.world.settle(data.draw(st.sampled_from(self.world.probe.gates)), error)

    @rule(span_ms=st.sampled_from([1, 1, 60, 60, 300, 300, 2_100, 6_000, 40_000]))
    def time_passes(self, span_ms: int) -> None:
        self.world.advance(span_ms * 1_000_000)

    # --- what always holds ----------------------------------------------------------------------

    def exchanges(self) -> list[Exchange]:
        return self.observer.under_way

    @invariant()
    def all_is_said(self) -> None:
        for peer in self.open(self.clients + self.endpoints):
            peer.talk()

    @invariant()
    def what_has_begun_and_is_not_over_has_a_stream(self) -> None:
        for exchange in self.exchanges():
            assert exchange.phase != OVER
            down = cast("Http2Stream", exchange.down)
            assert down._connection.streams[down.number] is down

    @invariant()
    def no_side_is_paused_without_a_reason(self) -> None:
        for exchange in self.exchanges():
            why, up, done = exchange.client_pauses, exchange.up, exchange.request_done
            assert bool(why & FULL) is (up is not None and up.choked and not done)
            assert not why & UNTAKEN or (up is None and not done)
            assert bool(why & HOOKED) is (hooked(inward(exchange)) and not done)
            behind = exchange.endpoint_pauses
            assert bool(behind & HOOKED) is hooked(outward(exchange))
            assert bool(behind & FULL) is exchange.down.choked
            looked_at = exchange.phase == LOOKING and up is not None
            assert bool(behind & LOOKED_AT) is looked_at or up is None

    @invariant()
    def clients_read_what_endpoints_said(self) -> None:
        for peer in self.clients:
            for number, stream in peer.streams.items():
                if stream.head.get(":status") == "200" and "x-mesh-reason" not in stream.head:
                    body = self.through(counted(self.asked[id(peer), number], SIZE))
                    assert body.startswith(stream.body)

    @invariant()
    def endpoints_read_what_clients_wrote(self) -> None:
        for peer in self.endpoints:
            for stream in peer.streams.values():
                if stream.head:
                    body = self.through(counted(number_of(stream), SIZE))
                    assert body.startswith(stream.body)

    @invariant()
    def what_a_client_authenticated_is_its_alone(self) -> None:
        whose = {number: client for (client, _), number in self.asked.items()}
        for peer in self.endpoints:
            came = [stream for stream in peer.streams.values() if stream.head]
            if any("authorization" in stream.head for stream in came):
                assert len({whose[number_of(stream)] for stream in came}) == 1

    @invariant()
    def a_whole_response_was_said_whole(self) -> None:
        said = {
            (number_of(stream), stream.said)
            for peer in self.endpoints
            for stream in peer.streams.values()
            if stream.done
        }
        for peer in self.clients:
            for number, stream in peer.streams.items():
                if stream.ended and stream.head[":status"] == "200":
                    assert (self.asked[id(peer), number], len(stream.body)) in said

    def teardown(self) -> None:
        world = self.world
        try:
            for peer in self.open(self.clients):
                peer.wire.left = True
                peer.wire.close()
            world.turn()
            for gate in list(world.connecting):
                world.settle(gate, ConnectionRefusedError())
            world.advance(1_000_000_000)
            for peer in self.open(self.endpoints):
                peer.wire.end()
            world.turn()
            for wire in world.endpoints:
                assert wire.lost
            assert not self.exchanges()
            held = [
                line
                for line in world.engine.metrics("")[0].decode().splitlines()
                if re.match(r"meshcore_(upstream_(requests|retries)|endpoint_requests)[{ ]", line)
            ]
            assert held
            assert all(line.endswith(" 0") for line in held), held
            cluster = next(iter(world.worker.pools.pools.values())).cluster
            assert (cluster.connections, cluster.pending) == (0, 0)
            assert not cluster.branches
            assert not any(pool.branches for pool in cluster.pools)
            assert not world.loop.tasks
            assert world.listener.connections == 0
            assert world.probe.is_told_of_each_end()
        finally:
            world.close()


class Http2BodyMachine(Http2Machine):
    """The same with a layer that changes both bodies."""

    def made(self) -> World:
        self.bodies = Bodies()
        return World(TEXT, self.bodies)

    def through(self, body: bytes) -> bytes:
        return body.translate(Bodies.digits)

    @invariant()
    def layers_get_each_byte_once(self) -> None:
        for (_, path), body in self.bodies.came.items():
            assert counted(int(path[1:]), SIZE).startswith(body)


TestExchangeOverHttp2 = Http2Machine.TestCase
TestBodiesOverHttp2 = Http2BodyMachine.TestCase
TestExchangeOverHttp2.settings = MACHINE_SETTINGS
TestBodiesOverHttp2.settings = BODIES_SETTINGS
