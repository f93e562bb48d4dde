"""Any order of what peers, layers and time can do: nothing hangs, tears or stays held."""

from __future__ import annotations

import re
from typing import Any, cast

import hypothesis.strategies as st
from hypothesis import HealthCheck, settings
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from meshcore.exchange.exchange import NEVER, Exchange
from meshcore.upstream.http1 import Http1Connection
from tests.unit.exchange.world import Wire, World

LATE_NS = 100_000_000  # two ticks of the deadlines
HEADS = {
    "GET": b"GET /%d HTTP/1.1\r\nhost: a\r\n",
    "POST": b"POST /%d HTTP/1.1\r\nhost: a\r\ncontent-length: 10\r\n",
    "PUT": b"PUT /%d HTTP/1.1\r\nhost: a\r\ntransfer-encoding: chunked\r\n",
    "LARGE": b"PUT /%d HTTP/1.1\r\nhost: a\r\ncontent-length: 80000\r\n",
}
BODIES = {
    "GET": [],
    "POST": [b"01234", b"56789"],
    "PUT": [b"5\r\n01234\r\n", b"5\r\n56789\r\n0\r\n\r\n"],
    "LARGE": [b"x" * 40_000, b"x" * 40_000],
}
RESPONSES = {
    "whole": [b"HTTP/1.1 200 OK\r\ncontent-length: 5\r\n\r\nhello"],
    "pieces": [b"HTTP/1.1 200 OK\r\n", b"content-length: 5\r\n\r\nhe", b"llo"],
    "chunks": [
        b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n5\r\nhel",
        b"lo\r\n0\r\n\r\n",
    ],
    "to the end": [b"HTTP/1.1 200 OK\r\n\r\nhe", b"llo", b""],
    "interim": [b"HTTP/1.1 103 Early Hints\r\n\r\nHTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n"],
    "error": [b"HTTP/1.1 503 Service Unavailable\r\ncontent-length: 0\r\n\r\n"],
    "torn": [b"HTTP/1.1 200 OK\r\ncontent-length: 5\r\n\r\nhe", b""],
    "nothing": [b""],
    "nonsense": [b"220 mail.example.test ESMTP\r\n"],
    "more than asked": [b"HTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\nHTTP/1.1 200 OK\r\n\r\n"],
}
HEAD = re.compile(rb"HTTP/1\.1 (\d+) .*?\r\n\r\n", re.DOTALL)


def responses(data: bytes) -> tuple[list[tuple[int, bytes]], bytes]:
    """Whole final responses, and what is left of a torn one."""
    found = []
    while head := HEAD.match(data):
        fields, rest = head[0].lower(), data[head.end() :]
        status = int(head[1])
        if status < 200:
            data = rest
            continue
        if b"transfer-encoding: chunked" in fields:
            end = rest.find(b"0\r\n\r\n")
            if end < 0:
                break
            body, rest = rest[:end], rest[end + 5 :]
            body = b"".join(re.findall(rb"[0-9a-f]+\r\n(.*?)\r\n", body, re.DOTALL))
        else:
            length = re.search(rb"content-length: (\d+)", fields)
            size = int(length[1]) if length else 0
            if len(rest) < size:
                break
            body, rest = rest[:size], rest[size:]
        found.append((status, body))
        data = rest
    return found, data


class ExchangeMachine(RuleBasedStateMachine):
    """Clients, endpoints, layers and time, in whatever order."""

    def __init__(self) -> None:
        super().__init__()
        self.world = World()
        self.asked: dict[int, int] = {}
        self.number = 0

    # --- clients --------------------------------------------------------------------------------

    def exchange_of(self, wire: Wire) -> Exchange | None:
        return wire.client._exchange

    def clients(self) -> list[Wire]:
        return [wire for wire in self.world.clients if not wire.closing]

    @precondition(lambda self: len(self.clients()) < 5)
    @rule(
        kind=st.sampled_from(list(HEADS)),
        on_request=st.sampled_from(["", "", "", "", "wait", "raise", "answer", "wait and answer"]),
        on_response=st.sampled_from(["", "", "", "wait", "raise"]),
        kept=st.booleans(),
    )
    def ask(self, kind: str, on_request: str, on_response: str, kept: bool) -> None:
        """A request, on a connection that waits for one if there is one."""
        idle = [w for w in self.clients() if self.exchange_of(w) is None and not w.rest]
        wire = idle[0] if kept and idle else self.world.connect_client()
        if wire.client._closing:
            return
        self.number += 1
        head = HEADS[kind] % self.number
        for name, value in (("x-in", on_request.split(" ")[0]), ("x-out", on_response)):
            head += f"{name}: {value}\r\n".encode() if value and value != "answer" else b""
        if "answer" in on_request:
            head += b"x-answer: 1\r\n"
        wire.rest.extend([head + b"\r\n", *BODIES[kind]])
        self.asked[id(wire)] = self.asked.get(id(wire), 0) + 1
        self.world.deliver(wire)

    def asking(self) -> list[Wire]:
        return [wire for wire in self.clients() if wire.rest and wire.reading]

    @precondition(lambda self: self.asking())
    @rule(data=st.data())
    def client_goes_on(self, data: Any) -> None:
        self.world.deliver(data.draw(st.sampled_from(self.asking())))

    @precondition(lambda self: self.clients())
    @rule(data=st.data())
    def client_leaves(self, data: Any) -> None:
        wire = data.draw(st.sampled_from(self.clients()))
        wire.left = True
        wire.close()
        self.world.turn()

    @rule(data=st.data(), full=st.booleans())
    def somebody_is_slow(self, data: Any, full: bool) -> None:
        wires = [w for w in self.clients() + self.endpoints() if w.protocol.choked != full]
        if wires:
            protocol = data.draw(st.sampled_from(wires)).protocol
            (protocol.pause_writing if full else protocol.resume_writing)()
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
        return [
            wire
            for wire in self.endpoints()
            if wire.endpoint.exchange is not None and not wire.rest
        ]

    def sending(self) -> list[Wire]:
        return [wire for wire in self.endpoints() if wire.rest and wire.reading]

    @precondition(lambda self: self.lent())
    @rule(data=st.data(), kind=st.sampled_from(list(RESPONSES)))
    def endpoint_answers(self, data: Any, kind: str) -> None:
        wire = data.draw(st.sampled_from(self.lent()))
        wire.rest.extend(RESPONSES[kind])
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

    # --- layers and time ------------------------------------------------------------------------

    @precondition(lambda self: self.world.probe.gates)
    @rule(data=st.data(), fails=st.booleans())
    def layer_ends(self, data: Any, fails: bool) -> None:
        error = ValueError("as asked") if fails else None
        self.world.settle(data.draw(st.sampled_from(self.world.probe.gates)), error)

    @rule(span_ms=st.sampled_from([1, 60, 300, 6_000, 40_000]))
    def time_passes(self, span_ms: int) -> None:
        self.world.advance(span_ms * 1_000_000)

    # --- what always holds ----------------------------------------------------------------------

    @invariant()
    def lent_connections_and_exchanges_agree(self) -> None:
        for wire in self.world.endpoints:
            exchange = wire.endpoint.exchange
            if exchange is not None:
                assert exchange.up is wire.protocol
                assert not exchange.over

    @invariant()
    def what_is_closing_is_not_lent(self) -> None:
        for pool in self.world.worker.pools.pools.values():
            assert all(cast("Http1Connection", each).is_open for each in pool.idle)

    @invariant()
    def what_is_under_way_is_timed_and_paced(self) -> None:
        for wire in self.clients():
            exchange = self.exchange_of(wire)
            if exchange is None:
                continue
            assert not exchange.over
            armed = self.world.armed[wire.client._slot]
            assert self.world.now - LATE_NS < armed < NEVER
            up = exchange.up
            if up is not None and not exchange._request_done and not wire.protocol.choked:
                assert wire.reading is not up.choked

    @invariant()
    def clients_read_whole_responses_or_see_the_tear(self) -> None:
        for wire in self.world.clients:
            found, rest = responses(bytes(wire.written))
            # A wait for a request that timed out is answered too.
            assert len(found) <= self.asked.get(id(wire), 0) + 1
            for status, body in found:
                assert status != 200 or body in (b"hello", b"")
            if wire.closing and not (wire.aborted or wire.left):
                assert not rest

    @invariant()
    def what_is_not_idempotent_is_sent_once(self) -> None:
        sent = [
            number
            for wire in self.world.endpoints
            for number in re.findall(rb"POST /(\d+) ", bytes(wire.written))
        ]
        assert len(sent) == len(set(sent))

    @invariant()
    def endpoints_read_what_clients_wrote(self) -> None:
        for wire in self.world.endpoints:
            for part in re.split(rb"POST /\d+ ", bytes(wire.written))[1:]:
                body = part.split(b"\r\n\r\n", 1)[1][:10]
                assert b"0123456789".startswith(re.split(rb"GET|PUT", body)[0])

    def teardown(self) -> None:
        world = self.world
        try:
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
            assert not world.loop.tasks
            assert world.listener.connections == 0
        finally:
            world.close()


class DrainMachine(ExchangeMachine):
    """The same while the listener drains; clients still come, and the end may come at any time."""

    @precondition(lambda self: not self.world.listener.draining)
    @rule()
    def drain(self) -> None:
        self.world.listener.drain()
        self.world.turn()

    @precondition(lambda self: self.world.listener.draining)
    @rule()
    def end(self) -> None:
        self.world.listener.end(self.world.now)
        self.world.turn()
        for wire in self.world.clients:
            assert wire.lost or wire.client._closing
            assert wire.lost or self.exchange_of(wire) is None


TestExchange = ExchangeMachine.TestCase
TestDrain = DrainMachine.TestCase
# How fast examples are made depends on the machine, not on what is tested.
TestExchange.settings = TestDrain.settings = settings(
    max_examples=200,
    stateful_step_count=40,
    deadline=None,
    suppress_health_check=[HealthCheck.too_slow],
)
