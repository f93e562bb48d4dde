"""When a request is tried again, where, and what an attempt that failed says of its endpoint."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from tests.unit.exchange.peers import GET, HELLO, ask, opened, refuse, say
from tests.unit.exchange.world import MESH, Wire, World

MS = 1_000_000
LEAST_PAUSE, LONGEST_PAUSE = 25 * MS, 250 * MS  # attempt.rs
STALE = 5 * MS  # socket_state.py
SOLE = MESH.replace(', "127.0.0.1:2"]', "]")
# One failure is enough to be seen: it opens the breaker.
FRAGILE = SOLE.replace("circuit_breaker: off", "circuit_breaker: {failures: 1}")
POST = b"POST / HTTP/1.1\r\nhost: a\r\ncontent-length: 0\r\n"
PER_TRY = "per_try: 2s, when: [connect"


def endpoint_of(client: Wire) -> int:
    exchange = client.client._exchange
    assert exchange is not None
    return exchange.ticket.endpoint


def is_blamed(world: World) -> bool:
    """Whether the breaker of a fragile mesh lets nothing pass."""
    return b"\r\nx-mesh-reason: breaker_open\r\n" in ask(world, GET + b"\r\n").written


def test_the_first_retry_goes_elsewhere_at_once_and_the_second_waits(
    world_of: Callable[[str], World],
) -> None:
    world = world_of(MESH.replace('"127.0.0.1:2"]', '"127.0.0.1:2", "127.0.0.1:3"]'))
    client = ask(world, GET + b"\r\n")
    first = endpoint_of(client)
    refuse(world)
    assert world.connecting
    second = endpoint_of(client)
    refuse(world)
    assert len({first, second, endpoint_of(client)}) == 3
    world.advance(LEAST_PAUSE - MS)
    assert not world.connecting
    world.advance(LONGEST_PAUSE)
    assert world.connecting


def test_a_retry_of_the_same_endpoint_waits(world_of: Callable[[str], World]) -> None:
    world = world_of(SOLE)
    ask(world, GET + b"\r\n")
    refuse(world)
    world.advance(LEAST_PAUSE - MS)
    assert not world.connecting
    world.advance(LONGEST_PAUSE)
    assert world.connecting


def test_a_retry_of_what_was_sent_waits(world: World) -> None:
    ask(world, GET + b"\r\n")
    opened(world).end()
    world.turn()
    world.advance(LEAST_PAUSE - MS)
    assert not world.connecting
    world.advance(LONGEST_PAUSE)
    assert world.connecting


def test_a_connection_that_has_still_to_write_is_not_kept(world: World) -> None:
    """Its endpoint answered without all of the body, and may never take it: whatever is sent behind
    that waits, and so does the end."""
    client = ask(world, POST + b"\r\n")
    endpoint = opened(world)
    endpoint.queued = 1
    say(world, endpoint, HELLO)
    assert client.written.startswith(b"HTTP/1.1 200")
    assert endpoint.aborted


def cut_on_a_kept_connection(world: World, head: bytes, after: int) -> Wire:
    """A request on a kept connection, which is cut so long after it was sent."""
    ask(world, GET + b"\r\n")
    endpoint = opened(world)
    say(world, endpoint, HELLO)
    world.advance(100 * MS)
    ask(world, GET + b"\r\n")
    say(world, endpoint, HELLO)  # it keeps connections
    world.advance(100 * MS)
    client = ask(world, head + b"\r\n")
    assert not world.connecting, "it is on the kept connection"
    world.advance(after)
    endpoint.end()
    world.turn()
    return client


def test_a_stale_connection_is_replaced_at_once_and_nobody_is_blamed(
    world_of: Callable[[str], World],
) -> None:
    world = world_of(FRAGILE)
    client = cut_on_a_kept_connection(world, GET, STALE)
    assert not client.written
    say(world, opened(world), HELLO)
    assert client.written.endswith(b"hello")
    assert not is_blamed(world)


@pytest.mark.parametrize(("head", "retries"), [(POST, 2), (GET, 0)])
def test_what_may_not_be_repeated_is_not_sent_again_after_a_stale_connection(
    world_of: Callable[[str], World], head: bytes, retries: int
) -> None:
    world = world_of(FRAGILE.replace("retries: 2", f"retries: {retries}"))
    client = cut_on_a_kept_connection(world, head, STALE)
    world.advance(LONGEST_PAUSE)
    assert client.written.startswith(b"HTTP/1.1 502 ")
    assert not world.connecting
    assert not is_blamed(world)


def test_an_endpoint_that_worked_for_a_while_and_closed_has_failed(
    world_of: Callable[[str], World],
) -> None:
    world = world_of(FRAGILE)
    client = cut_on_a_kept_connection(world, POST, 2_000 * MS)
    assert client.written.startswith(b"HTTP/1.1 502 ")
    assert is_blamed(world)


def test_an_endpoint_that_had_said_something_was_not_stale(
    world_of: Callable[[str], World],
) -> None:
    world = world_of(FRAGILE)
    ask(world, GET + b"\r\n")
    endpoint = opened(world)
    say(world, endpoint, HELLO)
    client = ask(world, GET + b"\r\n")
    say(world, endpoint, b"HTTP/1.1 2")
    endpoint.end()
    world.turn()
    assert client.written.startswith(b"HTTP/1.1 502 ")


def test_an_answer_that_came_before_a_write_failed_is_used(
    world_of: Callable[[str], World],
) -> None:
    world = world_of(FRAGILE)
    client = ask(world, POST.replace(b": 0", b": 90000") + b"\r\n", b"x" * 40_000)
    early = HELLO.replace(b"200 OK", b"413 Too Large")
    opened(world).fail(early)
    world.turn()
    assert client.written.startswith(b"HTTP/1.1 413 ")
    assert client.written.endswith(b"hello")
    assert not is_blamed(world)


@pytest.fixture
def tried(world_of: Callable[[str], World]) -> World:
    """A world in which an attempt has two seconds."""
    return world_of(MESH.replace("when: [connect", PER_TRY))


def test_an_attempt_has_its_time_and_another_follows(tried: World) -> None:
    client = ask(tried, GET + b"\r\n")
    slow, first = opened(tried), endpoint_of(client)
    tried.advance(1_900 * MS)
    assert not slow.closing
    tried.advance(200 * MS)
    assert slow.aborted
    tried.advance(LONGEST_PAUSE)
    assert endpoint_of(client) != first
    say(tried, opened(tried), HELLO)
    assert client.written.endswith(b"hello")


def test_an_attempt_that_took_its_time_is_the_last_of_what_may_not_be_repeated(
    tried: World,
) -> None:
    client = ask(tried, POST + b"\r\n")
    opened(tried)
    tried.advance(2_100 * MS)
    assert b"\r\nx-mesh-reason: upstream_try_timeout\r\n" in client.written


def test_the_pause_before_an_attempt_is_none_of_its_time(
    world_of: Callable[[str], World],
) -> None:
    world = world_of(SOLE.replace("when: [connect", "per_try: 20ms, when: [connect"))
    ask(world, GET + b"\r\n")
    refuse(world)
    exchange = world.clients[0].client._exchange
    assert exchange is not None
    again_ns = exchange.ticket.again_ns
    world.advance(again_ns - MS - world.now)
    assert exchange.ticket.attempts == 2
    world.advance(2 * MS)
    assert exchange.ticket.attempts == 2
    assert world.connecting


def test_who_waits_for_our_own_cap_all_its_time_blames_nobody(
    world_of: Callable[[str], World],
) -> None:
    text = FRAGILE.replace("when: [connect", PER_TRY).replace("connections: 3", "connections: 1")
    world = world_of(text)
    ask(world, POST.replace(b": 0", b": 90000") + b"\r\n")
    opened(world)  # which its request keeps
    waiting = ask(world, POST + b"\r\n")
    world.advance(2_100 * MS)
    assert not waiting.written  # it has not been sent: no attempt has its time yet
    world.advance(3_000 * MS)
    assert b"\r\nx-mesh-reason: queue_timeout\r\n" in waiting.written
    assert not is_blamed(world)
