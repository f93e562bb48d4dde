"""Any order of what peers, layers and time can do: nothing hangs, tears or stays held."""

from __future__ import annotations

import re
from typing import Any, cast

import hypothesis.strategies as st
import pytest
from hypothesis import HealthCheck, settings
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from meshcore.downstream.deadlines import NEVER
from meshcore.downstream.http1_phase import CLOSING
from meshcore.downstream.http1_phase import ENDED as NO_MORE
from meshcore.downstream.http1_phase import EXCHANGE as BY_EXCHANGE
from meshcore.exchange.exchange import Exchange
from meshcore.exchange.flow import Flow
from meshcore.exchange.phase import (
    ASKED,
    FULL,
    HOOKED,
    LOOKED_AT,
    LOOKING,
    OVER,
    TUNNEL,
    UNTAKEN,
)
from meshcore.upstream.http1 import Http1Connection
from tests.unit.exchange.peers import KINDS, RESPONSES, counted, messages, request, responses
from tests.unit.exchange.world import MESH, Bodies, Wire, World

# What is found is made small before it is told.
pytestmark = pytest.mark.timeout(600)

KEPT = 65_536  # body.rs
LATE_NS = 100_000_000  # two ticks of the deadlines
BINDS = b"authorization: NTLM a\r\n"
MACHINE = (
    MESH.replace('0.1:0"}', '0.1:0", client_address: {trusted_hops: 1}, half_close: serve}')
    .replace("when: [connect", "per_try: 2s, when: [connect")
    .replace("layers:", "upgrade: [websocket]\n    layers:")
    + "buffer_total: 64KiB\n"
)


def inward(exchange: Exchange) -> Flow | None:
    """The request's body, while layers have some of it."""
    return None if exchange.layers is None else exchange.layers.inward


def outward(exchange: Exchange) -> Flow | None:
    """The response's, likewise."""
    return None if exchange.layers is None else exchange.layers.outward


def hooked(flow: Flow | None) -> bool:
    """Whether a layer is at it."""
    return flow is not None and flow.task is not None


class Observer:
    """Hears of every request when it begins and when it is over."""

    def __init__(self) -> None:
        self.under_way: list[Exchange] = []

    def began(self, exchange: Exchange, now_ns: int) -> None:
        assert exchange not in self.under_way
        self.under_way.append(exchange)

    def ended(self, exchange: Exchange) -> None:
        assert exchange.phase == OVER
        self.under_way.remove(exchange)  # raises if it ended before

    def refused(self, stack: object, answer: object, sent: bool, peer: object) -> None:
        """What was no request ended nothing."""


class ExchangeMachine(RuleBasedStateMachine):
    """Clients, endpoints, layers and time, in whatever order."""

    def __init__(self) -> None:
        super().__init__()
        self.world = self.made()
        self.observer = Observer()
        self.world.worker.observer = cast("Any", self.observer)
        self.asked: dict[int, list[int]] = {}  # numbers of the requests of each client
        self.said: dict[int, set[int]] = {}  # lengths of whole answers to each request
        self.tunnels: set[int] = set()  # clients that asked for one
        self.said_all: set[int] = set()  # clients that ask nothing more
        self.number = 0

    def made(self) -> World:
        """Where it happens."""
        return World(MACHINE)

    def through(self, body: bytes) -> bytes:
        """A body as it comes out of the proxy."""
        return body

    # --- clients --------------------------------------------------------------------------------

    def exchange_of(self, wire: Wire) -> Exchange | None:
        return wire.client._exchange

    def clients(self) -> list[Wire]:
        return [wire for wire in self.world.clients if not wire.closing]

    @precondition(lambda self: len(self.clients()) < 5)
    @rule(
        kind=st.sampled_from(KINDS),
        on_request=st.sampled_from(["", "", "", "", "wait", "raise", "answer", "wait and answer"]),
        on_response=st.sampled_from(["", "", "pass", "wait", "wait", "raise"]),
        deadline=st.sampled_from(["", "", "", "70", "5000"]),
        where=st.sampled_from(["new", "kept", "pipelined"]),
        binds=st.sampled_from([b"", b"", b"", BINDS]),
    )
    def ask(
        self,
        kind: str,
        on_request: str,
        on_response: str,
        deadline: str,
        where: str,
        binds: bytes,
    ) -> None:
        """A request: on a connection of its own, on one that waits for it, or behind another."""
        wires = [w for w in self.clients() if id(w) not in self.tunnels | self.said_all]
        if where == "kept":
            wires = [w for w in wires if self.exchange_of(w) is None and not w.rest]
        wire = wires[0] if wires and where != "new" else self.world.connect_client()
        if wire.client._phase == CLOSING:
            return
        fields = b"x-answer: 1\r\n" if "answer" in on_request else b""
        wish = "" if on_request == "answer" else on_request.split(" ")[0]
        for name, value in (("in", wish), ("out", on_response), ("mesh-deadline-ms", deadline)):
            fields += f"x-{name}: {value}\r\n".encode() if value else b""
        self.say_request(wire, kind, fields + binds)

    @precondition(lambda self: len(self.clients()) < 5 and not self.world.connecting)
    @rule(
        kind=st.sampled_from(KINDS),
        on_response=st.sampled_from(["pass", "wait"]),
        answers=st.tuples(
            st.sampled_from(RESPONSES),
            st.sampled_from(["tunnel", "tunnel that ends", "tunnel that ends"]),
        ),
        narrow=st.booleans(),
        binds=st.sampled_from([b"", BINDS]),
    )
    def ask_and_be_answered(
        self, kind: str, on_response: str, answers: tuple[str, str], narrow: bool, binds: bytes
    ) -> None:
        """As far as the first read of the answer: what makes the rest likely to be reached."""
        before = len(self.world.endpoints)
        wire = self.world.connect_client()
        self.say_request(wire, kind, f"x-out: {on_response}\r\n".encode() + binds)
        if kind == "POST":
            self.say_rest(wire)  # it is awaited
        for gate in self.world.connecting:
            gate.narrow = narrow
            self.world.settle(gate, None)
        for endpoint in self.world.endpoints[before:]:
            self.answer(endpoint, answers[kind == "TUNNEL"])

    def say_request(self, wire: Wire, kind: str, fields: bytes) -> None:
        self.number += 1
        wire.rest.extend(request(kind, self.number, fields))
        self.asked.setdefault(id(wire), []).append(self.number)
        if kind == "TUNNEL":
            self.tunnels.add(id(wire))
        if wire.reading:
            self.world.deliver(wire)

    def say_rest(self, wire: Wire) -> None:
        while wire.rest and wire.reading and not wire.closing:
            self.world.deliver(wire)

    def asking(self) -> list[Wire]:
        return [wire for wire in self.clients() if wire.rest and wire.reading]

    @precondition(lambda self: self.asking())
    @rule(data=st.data())
    def client_goes_on(self, data: Any) -> None:
        self.world.deliver(data.draw(st.sampled_from(self.asking())))

    @precondition(lambda self: any(id(w) not in self.said_all for w in self.clients()))
    @rule(data=st.data())
    def client_shuts_its_sending_side(self, data: Any) -> None:
        """Behind what it still has to say, or in the middle of it."""
        open_ones = [w for w in self.clients() if id(w) not in self.said_all]
        wire = data.draw(st.sampled_from(open_ones))
        if data.draw(st.booleans()):
            wire.rest.clear()
        wire.rest.append(b"")
        self.said_all.add(id(wire))
        if wire.reading:
            self.world.deliver(wire)

    @precondition(lambda self: self.clients())
    @rule(data=st.data())
    def client_leaves(self, data: Any) -> None:
        wire = data.draw(st.sampled_from(self.clients()))
        wire.left = True
        wire.close()
        self.world.turn()

    @rule(data=st.data())
    def somebody_is_full_or_has_room(self, data: Any) -> None:
        wires = [wire for wire in self.clients() if self.exchange_of(wire) or wire.client.choked]
        wires += [wire for wire in self.endpoints() if wire.endpoint.exchange]
        if wires:
            protocol = data.draw(st.sampled_from(wires)).protocol
            (protocol.resume_writing if protocol.choked else protocol.pause_writing)()
            self.world.turn()

    # --- endpoints ------------------------------------------------------------------------------

    def endpoints(self) -> list[Wire]:
        return [wire for wire in self.world.endpoints if not wire.closing]

    @precondition(lambda self: self.world.connecting)
    @rule(
        data=st.data(),
        end=st.sampled_from(["open", "open", "open", "closes", "fails"]),
        narrow=st.booleans(),
    )
    def connect_ends(self, data: Any, end: str, narrow: bool) -> None:
        gate = data.draw(st.sampled_from(self.world.connecting))
        gate.narrow, gate.closes = narrow, end == "closes"
        self.world.settle(gate, ConnectionRefusedError() if end == "fails" else None)

    def lent(self) -> list[Wire]:
        """Those that may answer, also before they have all of the request."""
        lent = ((wire, wire.endpoint.exchange) for wire in self.endpoints() if not wire.rest)
        return [w for w, e in lent if e is not None and not e.ticket.tunnels]

    def sending(self) -> list[Wire]:
        return [wire for wire in self.endpoints() if wire.rest and wire.reading]

    @precondition(lambda self: self.lent())
    @rule(data=st.data(), kind=st.sampled_from(RESPONSES))
    def endpoint_answers(self, data: Any, kind: str) -> None:
        self.answer(data.draw(st.sampled_from(self.lent())), kind)

    def answer(self, wire: Wire, kind: str) -> None:
        number = list(messages(bytes(wire.written)))[-1].number
        wire.rest.extend(responses(number)[kind])
        length = {"large": 90_000, "interim": 0, "more than asked": 0}.get(kind, 10)
        self.said.setdefault(number, set()).add(length)
        if wire.reading:
            self.world.deliver(wire)

    @precondition(lambda self: self.sending())
    @rule(data=st.data())
    def endpoint_goes_on(self, data: Any) -> None:
        self.world.deliver(data.draw(st.sampled_from(self.sending())))

    @precondition(lambda self: self.endpoints())
    @rule(data=st.data(), what=st.sampled_from([b"unasked", b""]))
    def endpoint_says_more_than_it_should(self, data: Any, what: bytes) -> None:
        idle = [w for w in self.endpoints() if w.endpoint.exchange is None]
        if idle:
            wire = data.draw(st.sampled_from(idle))
            wire.rest.append(what)
            self.world.receive(wire)

    @precondition(lambda self: self.endpoints())
    @rule(data=st.data())
    def endpoint_dies(self, data: Any) -> None:
        data.draw(st.sampled_from(self.endpoints())).end()
        self.world.turn()

    @precondition(lambda self: self.endpoints())
    @rule(data=st.data())
    def a_write_finds_an_endpoint_dead(self, data: Any) -> None:
        """What it had said waits in the socket."""
        wires = [wire for wire in self.endpoints() if wire.rest] or self.endpoints()
        wire = data.draw(st.sampled_from(wires))
        wire.fail(b"".join(wire.rest))
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

    @invariant()
    def what_has_begun_and_is_not_over_is_somebodys(self) -> None:
        held = [self.exchange_of(wire) for wire in self.world.clients]
        assert {*map(id, self.observer.under_way)} == {id(each) for each in held if each}
        assert not any(exchange.phase == OVER for exchange in self.observer.under_way)

    @invariant()
    def lent_connections_and_exchanges_agree(self) -> None:
        for wire in self.world.endpoints:
            exchange = wire.endpoint.exchange
            if exchange is not None:
                assert exchange.up is wire.protocol
                assert exchange.phase != OVER

    @invariant()
    def who_asks_or_answers_has_a_connection(self) -> None:
        for exchange in self.observer.under_way:
            # Then it needs none if all of the response is there.
            if exchange.phase != LOOKING and not outward(exchange):
                assert (exchange.up is not None) is (exchange.phase >= ASKED)

    @invariant()
    def what_is_closing_is_not_lent(self) -> None:
        for pool in self.world.worker.pools.pools.values():
            assert all(cast("Http1Connection", each).is_open for each in pool.idle)

    @invariant()
    def what_is_under_way_is_timed(self) -> None:
        for wire in self.clients():
            if self.exchange_of(wire) is not None:
                armed = self.world.armed[wire.client._slot]
                assert self.world.now - LATE_NS < armed < NEVER

    @invariant()
    def a_client_is_read_unless_there_is_a_reason(self) -> None:
        for wire in self.clients():
            exchange, client = self.exchange_of(wire), wire.client
            if client._phase == CLOSING:
                continue
            assert wire.reading is not bool(client._pauses)
            if exchange is None:
                assert wire.reading or client.choked
                continue
            why, up, done = exchange.client_pauses, exchange.up, exchange.request_done
            assert bool(why) is bool(client._pauses & BY_EXCHANGE)
            ended = client._pauses & NO_MORE
            assert wire.reading or why or ended or not client.codec.wants_read
            assert bool(why & FULL) is (up is not None and up.choked and not done)
            assert bool(why & HOOKED) is (hooked(inward(exchange)) and not done)
            assert not why & UNTAKEN or (up is None and not done)
            kept = sum(map(len, exchange._kept or ())) if up is None else 0
            assert why or done or kept <= KEPT

    @invariant()
    def an_endpoint_is_read_unless_there_is_a_reason(self) -> None:
        for wire in self.endpoints():
            exchange = wire.endpoint.exchange
            if exchange is None or exchange.phase < LOOKING:
                assert wire.reading
                continue
            why = exchange.endpoint_pauses
            assert wire.reading is not bool(why)
            assert bool(why & FULL) is exchange.down.choked
            assert bool(why & LOOKED_AT) is (exchange.phase == LOOKING)
            assert bool(why & HOOKED) is hooked(outward(exchange))

    @invariant()
    def an_end_in_a_tunnel_is_passed_on_and_no_other(self) -> None:
        for wire in self.clients():
            exchange = self.exchange_of(wire)
            if exchange is not None and exchange.phase == TUNNEL:
                (far,) = [w for w in self.world.endpoints if w.protocol is exchange.up]
                assert far.ended is exchange.request_done is bool(wire.client._pauses & NO_MORE)
                assert wire.ended is exchange.endpoint_ended
                assert not (wire.ended and far.ended) or far.endpoint.choked
            elif exchange is not None:
                assert not wire.ended

    @invariant()
    def clients_read_what_endpoints_said_or_see_the_tear(self) -> None:
        for wire in self.world.clients:
            asked = self.asked.get(id(wire), [])
            found = list(messages(bytes(wire.written)))
            # A wait for a request that timed out is answered too.
            assert len(found) <= len(asked) + 1
            for response, number in zip(found, asked, strict=False):
                if response.status in (101, 200, 413):
                    expected = counted(number, 90_000)
                    if response.status != 101:
                        expected = self.through(expected)
                    assert expected.startswith(response.body)
                if response.status == 200 and response.whole:
                    assert len(response.body) in self.said[number]
            for response in found[:-1]:
                assert response.whole
            if found and wire.closing and not (wire.aborted or wire.left):
                assert found[-1].whole or found[-1].status == 101

    @invariant()
    def endpoints_read_what_clients_wrote(self) -> None:
        for wire in self.world.endpoints:
            for message in messages(bytes(wire.written)):
                expected = counted(message.number, 100_000)
                if b"upgrade: " not in message.fields:
                    expected = self.through(expected)
                assert expected.startswith(message.body)
            exchange = None if wire.closing else wire.endpoint.exchange
            if exchange is not None and exchange._is_sent() and not exchange.ticket.tunnel:
                assert message.whole

    @invariant()
    def what_a_client_authenticated_is_its_alone(self) -> None:
        whose = {number: client for client, asked in self.asked.items() for number in asked}
        for wire in self.world.endpoints:
            came = list(messages(bytes(wire.written)))
            if any(b"authorization: ntlm" in message.fields for message in came):
                assert len({whose[message.number] for message in came}) == 1

    @invariant()
    def what_is_not_idempotent_is_sent_once(self) -> None:
        sent = [
            number
            for wire in self.world.endpoints
            for number in re.findall(rb"POST /(\d+) ", bytes(wire.written))
        ]
        assert len(sent) == len(set(sent))

    def teardown(self) -> None:
        try:
            self.end_all()
            self.nothing_is_held()
            self.all_room_for_bodies_is_free()
        finally:
            self.world.close()

    def end_all(self) -> None:
        world = self.world
        for wire in self.clients():
            wire.left = True
            wire.close()
        world.turn()
        for gate in list(world.connecting):
            world.settle(gate, ConnectionRefusedError())
        world.advance(1_000_000_000)
        for wire in self.endpoints():
            wire.close()
        world.turn()
        assert not world.connecting

    def nothing_is_held(self) -> None:
        world = self.world
        assert not self.observer.under_way
        held = [
            line
            for line in world.engine.metrics("")[0].decode().splitlines()
            if re.match(r"meshcore_(upstream_(requests|retries)|endpoint_requests)[{ ]", line)
        ]
        assert held
        assert all(line.endswith(" 0") for line in held), held
        cluster = next(iter(world.worker.pools.pools.values())).cluster
        assert (cluster.connections, cluster.pending) == (0, 0)
        assert all(not pool.waiting and not pool.idle for pool in cluster.pools)
        assert not cluster.branches
        assert not any(pool.branches for pool in cluster.pools)
        assert not world.loop.tasks
        assert world.listener.connections == 0
        assert world.probe.is_told_of_each_end()

    def all_room_for_bodies_is_free(self) -> None:
        """A body that needs all of it is awaited."""
        wire = self.world.connect_client()
        wire.rest.append(b"PUT /0 HTTP/1.1\r\nhost: a\r\ncontent-length: 65536\r\n\r\n")
        self.world.deliver(wire)
        assert not self.world.connecting


class BodyMachine(ExchangeMachine):
    """The same with a layer that changes both bodies."""

    def made(self) -> World:
        self.bodies = Bodies()
        return World(MACHINE, self.bodies)

    def through(self, body: bytes) -> bytes:
        return body.translate(Bodies.digits)

    @invariant()
    def layers_get_each_byte_once(self) -> None:
        for (_, path), body in self.bodies.came.items():
            assert counted(int(path[1:]), 100_000).startswith(body)


class DrainMachine(ExchangeMachine):
    """The same while the listener drains; clients still come, and the end may come at any time."""

    @precondition(lambda self: not self.world.listener.draining)
    @rule()
    def drain(self) -> None:
        self.world.listener.drain(0)
        self.world.turn()

    @precondition(lambda self: self.world.listener.draining)
    @rule()
    def end(self) -> None:
        self.world.listener.end(self.world.now)
        self.world.turn()
        for wire in self.world.clients:
            assert wire.lost or wire.client._phase == CLOSING
            assert wire.lost or self.exchange_of(wire) is None


class PlainMachine(DrainMachine):
    """The same without layers: what is whole goes through at once."""

    def made(self) -> World:
        return World(MACHINE.replace('layers: [{python: "test:Probe"}]', ""))

    @invariant()
    def what_is_under_way_is_timed(self) -> None:
        for wire in self.clients():
            exchange = self.exchange_of(wire)
            if exchange is not None:  # the call that began it armed it, too
                assert not exchange.ticket.due_sooner


# How fast examples are made depends on the machine, not on what is tested.
MACHINE_SETTINGS = settings(
    max_examples=200,
    stateful_step_count=40,
    suppress_health_check=[HealthCheck.too_slow],
)
TestExchange = ExchangeMachine.TestCase
TestDrain = DrainMachine.TestCase
TestPlain = PlainMachine.TestCase
TestBodies = BodyMachine.TestCase
TestExchange.settings = TestDrain.settings = TestPlain.settings = MACHINE_SETTINGS
# Each of its steps takes thrice as long.
BODIES_SETTINGS = settings(MACHINE_SETTINGS, max_examples=70)
TestBodies.settings = BODIES_SETTINGS
