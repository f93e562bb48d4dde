"""Orders of events that once went wrong, one by one."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from meshcore.exchange.exchange import LAYER_NS, REPLAY_BYTES
from tests.unit.exchange.world import Wire, World

GET = b"GET / HTTP/1.1\r\nhost: a\r\n"
PUT = b"PUT / HTTP/1.1\r\nhost: a\r\ncontent-length: 100000\r\n\r\n"
HELLO = b"HTTP/1.1 200 OK\r\ncontent-length: 5\r\n\r\nhello"


@pytest.fixture
def world() -> Iterator[World]:
    made = World()
    yield made
    made.close()


def ask(world: World, *parts: bytes) -> Wire:
    wire = world.connect_client()
    for part in parts:
        wire.rest.append(part)
        world.deliver(wire)
    return wire


def opened(world: World, *, narrow: bool = False) -> Wire:
    """The connection that the oldest exchange waits for."""
    gate = world.connecting[0]
    gate.narrow = narrow
    world.settle(gate, None)
    return world.endpoints[-1]


def test_a_client_is_not_read_while_its_new_connection_is_choked(world: World) -> None:
    client = ask(world, PUT, b"x" * 40_000)
    endpoint = opened(world, narrow=True)
    assert endpoint.protocol.choked
    assert not client.reading
    endpoint.protocol.resume_writing()
    assert client.reading


def test_a_client_is_read_on_when_a_retry_finds_room(world: World) -> None:
    client = ask(world, PUT, b"x" * 40_000)
    opened(world, narrow=True).end()
    world.turn()
    assert not client.reading
    world.advance(300_000_000)
    assert opened(world).protocol.exchange is not None  # type: ignore[union-attr]
    assert client.reading


def test_what_nobody_takes_is_not_read(world: World) -> None:
    client = ask(world, PUT, b"x" * (REPLAY_BYTES - 1), b"xx")
    assert not client.reading
    endpoint = opened(world)
    assert client.reading
    endpoint.end()
    world.turn()
    assert client.written.startswith(b"HTTP/1.1 502 ")  # too much was sent to be sent twice


def test_a_whole_response_outlives_its_connection(world: World) -> None:
    client = ask(world, GET + b"x-out: wait\r\n\r\n")
    endpoint = opened(world)
    endpoint.rest.append(HELLO)
    world.deliver(endpoint)
    endpoint.end()
    world.turn()
    assert not client.written
    world.settle(world.probe.gates[0], None)
    assert client.written.endswith(b"hello")


def test_a_torn_response_ends_the_layer_that_looks_at_it(world: World) -> None:
    client = ask(world, GET + b"x-out: wait\r\n\r\n")
    endpoint = opened(world)
    endpoint.rest.append(HELLO[:-1])
    world.deliver(endpoint)
    endpoint.end()
    world.turn()
    assert client.written.startswith(b"HTTP/1.1 502 ")
    assert not world.loop.tasks


@pytest.mark.parametrize("side", [b"x-in", b"x-out"])
def test_a_hung_layer_is_ended(world: World, side: bytes) -> None:
    client = ask(world, GET + side + b": wait\r\n\r\n")
    if side == b"x-out":
        endpoint = opened(world)
        endpoint.rest.append(HELLO)
        world.deliver(endpoint)
    world.advance(LAYER_NS - 1_000_000_000)
    assert not client.written
    world.advance(2_000_000_000)
    assert client.written.startswith(b"HTTP/1.1 500 ")
    assert not world.loop.tasks


def test_the_upstream_has_its_time_after_a_slow_layer(world: World) -> None:
    client = ask(world, GET + b"x-in: wait\r\n\r\n")
    world.advance(20_000_000_000)
    world.settle(world.probe.gates[0], None)
    endpoint = opened(world)
    world.advance(4_000_000_000)
    endpoint.rest.append(HELLO)
    world.deliver(endpoint)
    assert client.written.endswith(b"hello")


def test_a_connection_that_closes_before_it_is_lent_is_a_failed_connect(world: World) -> None:
    client = ask(world, GET + b"\r\n")
    world.connecting[0].closes = True
    opened(world)
    world.advance(300_000_000)
    endpoint = opened(world)
    endpoint.rest.append(HELLO)
    world.deliver(endpoint)
    assert client.written.endswith(b"hello")
    assert len(world.endpoints) == 2


def test_one_owner_that_fails_does_not_stop_the_clock_of_the_others(
    world: World, caplog: pytest.LogCaptureFixture
) -> None:
    class Broken:
        def on_deadline(self, now: int) -> None:
            raise ValueError("as made")

    world.worker.deadlines.add(Broken(), world.now)
    client = world.connect_client()
    world.advance(60_000_000_000)
    assert client.lost
    assert "a deadline failed" in caplog.text
