"""Whoever dribbles holds nothing that others want, and whoever is not read is not blamed."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from tests.unit.exchange.peers import GET, HELLO, PUT, ask, opened, refuse, say
from tests.unit.exchange.world import MESH, Wire, World

SECOND = 1_000_000_000
GRACE, IDLE = 20 * SECOND, 30 * SECOND  # body.rs
HALF_OPEN = MESH.replace(', "127.0.0.1:2"]', "]").replace("retries: 2", "retries: 0")
HALF_OPEN = HALF_OPEN.replace(
    "circuit_breaker: off", "circuit_breaker: {failures: 1, open_for: 1s}"
)
SLOW = b"\r\nx-mesh-reason: request_timeout\r\n"


def dribble(world: World, client: Wire, seconds: int) -> None:
    """A byte a second, as long as the client is heard."""
    for _ in range(seconds):
        world.advance(SECOND)
        if client.written or client.closing:
            break
        say(world, client, b"x")


def is_refused(world: World, request: bytes) -> bool:
    client = ask(world, request)
    return b"\r\nx-mesh-reason: breaker_open\r\n" in client.written


def test_a_probe_is_given_back_when_the_body_takes_too_long(
    world_of: Callable[[str], World],
) -> None:
    world = world_of(HALF_OPEN)
    ask(world, GET + b"\r\n")
    refuse(world)
    world.advance(2 * SECOND)
    client = ask(world, PUT)
    opened(world)
    dribble(world, client, 4)
    assert is_refused(world, PUT), "it is the probe of those that are not whole"
    dribble(world, client, 2)
    assert not is_refused(world, PUT)
    assert not is_refused(world, GET + b"\r\n")
    assert not client.written


def test_a_body_has_a_least_rate(world: World) -> None:
    client = ask(world, PUT)
    endpoint = opened(world)
    dribble(world, client, GRACE // SECOND)
    assert not client.written
    dribble(world, client, 2)
    assert client.written.startswith(b"HTTP/1.1 408 ")
    assert SLOW in client.written
    assert endpoint.aborted


def test_a_body_that_is_fast_enough_may_take_its_time(world: World) -> None:
    client = ask(world, PUT)
    opened(world)
    for _ in range(40):
        world.advance(SECOND)
        say(world, client, b"x" * 600)
    assert not client.written


def test_a_body_has_a_least_rate_while_nobody_takes_it_yet(world: World) -> None:
    client = ask(world, PUT)
    world.advance(SECOND)
    assert world.connecting
    dribble(world, client, GRACE // SECOND + 2)
    assert SLOW in client.written


def test_the_rate_does_not_count_while_the_client_is_not_read(world: World) -> None:
    client = ask(world, PUT)
    endpoint = opened(world)
    dribble(world, client, 10)
    endpoint.protocol.pause_writing()
    assert not client.reading
    world.advance(IDLE - 2 * SECOND)
    endpoint.protocol.resume_writing()
    dribble(world, client, 9)
    assert not client.written
    dribble(world, client, 3)
    assert SLOW in client.written


@pytest.mark.parametrize("ends", ["half-closed", "draining"])
def test_who_takes_its_time_with_a_response_has_the_next_that_it_asked_for(
    world_of: Callable[[str], World], ends: str
) -> None:
    """All of it was read long ago: it is no head that came too slowly."""
    world = world_of(MESH.replace('0.1:0"}', '0.1:0", half_close: serve}'))
    client = ask(world, GET + b"\r\n" + GET + b"\r\n")
    client.narrow = True
    endpoint = opened(world)
    if ends == "draining":
        client.client.drain(world.now)
    else:
        say(world, client, b"")
    body = bytes(90_000)
    say(world, endpoint, b"HTTP/1.1 200 OK\r\ncontent-length: 90000\r\n\r\n" + body)
    assert client.client.choked
    world.advance(5 * SECOND)
    client.client.resume_writing()
    world.turn()
    if world.connecting:
        endpoint = opened(world)
    say(world, endpoint, HELLO)
    assert client.written.count(b"HTTP/1.1 200 OK") == 2


@pytest.mark.parametrize("kind", [b"grpc-web", b"grpc-web+proto", b"connect+proto"])
def test_a_stream_of_messages_has_no_least_rate(world: World, kind: bytes) -> None:
    head = PUT.replace(b"PUT", b"POST").replace(
        b"content-length", b"content-type: application/%b\r\ncontent-length" % kind
    )
    client = ask(world, head)
    opened(world)
    dribble(world, client, 60)
    assert not client.written


def test_the_rate_does_not_count_once_a_response_came(world: World) -> None:
    client = ask(world, PUT)
    endpoint = opened(world)
    say(world, endpoint, HELLO[:-1])
    for _ in range(40):
        world.advance(SECOND)
        say(world, client, b"x")
    assert not client.closing
    say(world, endpoint, HELLO[-1:])
    assert client.written.endswith(b"hello")
