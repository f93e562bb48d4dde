"""Nothing of a body leaves before its head, and what waits is in order, bounded, and read on."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from tests.unit.exchange.peers import (
    GET,
    HELLO,
    UPGRADE,
    ask,
    chunk,
    counted,
    messages,
    opened,
    say,
)
from tests.unit.exchange.world import MESH, Wire, World

KEPT = 65_536  # body.rs
LOOKED_AT = GET + b"x-out: wait\r\n\r\n"
BODY = counted(1, 3_000)
HEAD = b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n"


def bodies(wire: Wire) -> list[bytes]:
    """Of the messages that a peer got, each with its head before it."""
    return [message.body for message in messages(bytes(wire.written))]


def receive(wire: Wire, data: bytes) -> None:
    """What the loop had read before it was told to stop."""
    wire.endpoint.data_received(data)


@pytest.mark.parametrize("chunked", [True, False])
def test_a_body_that_comes_while_a_layer_looks_follows_its_head(
    world: World, chunked: bool
) -> None:
    client = ask(world, LOOKED_AT)
    endpoint = opened(world)
    parts = BODY[:1_000], BODY[1_000:2_000], BODY[2_000:]
    head = HEAD if chunked else b"HTTP/1.1 200 OK\r\ncontent-length: 3000\r\n\r\n"
    first, second, third = map(chunk, parts) if chunked else parts
    say(world, endpoint, head + first)
    assert not endpoint.reading
    receive(endpoint, second)
    endpoint.fail(third + chunk(b"") if chunked else third)
    world.turn()
    assert not client.written
    world.settle(world.probe.gates[0], None)
    assert bodies(client) == [BODY]
    assert not client.closing


@pytest.mark.parametrize("how", ["end", "fail"])
def test_a_body_that_is_cut_while_a_layer_looks_is_no_answer(world: World, how: str) -> None:
    client = ask(world, LOOKED_AT)
    endpoint = opened(world)
    say(world, endpoint, HEAD + chunk(BODY))
    endpoint.end() if how == "end" else endpoint.fail(b"3\r\nab")
    world.turn()
    assert client.written.startswith(b"HTTP/1.1 502 ")
    assert not world.loop.tasks


def test_a_client_with_room_gets_nothing_before_the_head(world: World) -> None:
    client = ask(world, LOOKED_AT)
    endpoint = opened(world)
    client.protocol.pause_writing()
    say(world, endpoint, HEAD + chunk(BODY[:1_000]))
    client.protocol.resume_writing()
    world.turn()
    receive(endpoint, chunk(BODY[1_000:2_000]))
    assert not endpoint.reading, "the layer still looks"
    assert not client.written
    world.settle(world.probe.gates[0], None)
    assert endpoint.reading
    say(world, endpoint, chunk(BODY[2_000:]) + chunk(b""))
    assert bodies(client) == [BODY]


def test_a_client_that_is_full_when_the_layer_has_looked_is_waited_for(world: World) -> None:
    client = ask(world, LOOKED_AT)
    endpoint = opened(world)
    say(world, endpoint, HEAD + chunk(BODY[:1_000]))
    client.protocol.pause_writing()
    world.settle(world.probe.gates[0], None)
    assert not endpoint.reading
    client.protocol.resume_writing()
    assert endpoint.reading


def test_a_client_that_was_full_before_there_was_a_response_is_waited_for(world: World) -> None:
    client = ask(world, GET + b"\r\n")
    endpoint = opened(world)
    client.protocol.pause_writing()
    assert endpoint.reading, "the head is awaited"
    say(world, endpoint, HEAD + chunk(BODY))
    assert not endpoint.reading
    client.protocol.resume_writing()
    assert endpoint.reading


def test_a_body_that_comes_while_a_layer_looks_at_its_request_is_kept_in_order(
    world: World,
) -> None:
    body = counted(1, 100_000)
    head = GET.replace(b"GET", b"PUT") + b"content-length: 100000\r\nx-in: wait\r\n\r\n"
    client = ask(world, head + body[:100], body[100:40_000])
    assert client.reading
    say(world, client, body[40_000:KEPT])
    assert client.reading
    say(world, client, body[KEPT : KEPT + 101])
    assert not client.reading, "more than may be kept"
    world.settle(world.probe.gates[0], None)
    assert not client.reading
    endpoint = opened(world)
    assert client.reading
    say(world, client, body[KEPT + 101 :])
    assert bodies(endpoint) == [body]


def test_a_client_whose_request_is_whole_is_read(world: World) -> None:
    """Else nobody sees it leave."""
    head = GET.replace(b"GET", b"PUT") + b"transfer-encoding: chunked\r\n\r\n"
    client = ask(world, head, chunk(counted(1, KEPT + 1)) + chunk(b""))
    assert world.connecting
    assert client.reading


def test_the_rest_of_a_request_that_was_pipelined_is_read_in_its_turn(world: World) -> None:
    body = counted(1, 100_000)
    head = GET.replace(b"GET", b"PUT") + b"content-length: 100000\r\n\r\n"
    client = ask(world, GET + b"\r\n", head + body[:60_000])
    assert not client.reading, "enough waits for its turn"
    endpoint = opened(world)
    say(world, endpoint, HELLO)
    assert client.reading
    say(world, client, body[60_000:])
    assert bodies(endpoint) == [b"", body]


@pytest.fixture
def tunnels(world_of: Callable[[str], World]) -> World:
    return world_of(MESH.replace("layers:", "upgrade: [websocket]\n    layers:"))


SWITCH = b"HTTP/1.1 101 Switching Protocols\r\n" + UPGRADE + b"\r\n"


def test_what_comes_early_passes_a_tunnel_first(tunnels: World) -> None:
    said, heard = counted(1, 60_000), counted(2, 60_000)
    client = ask(tunnels, GET + UPGRADE + b"\r\n", said[:20_000])
    assert not client.reading, "it could be another request"
    endpoint = opened(tunnels)
    assert bodies(endpoint) == [b""]
    say(tunnels, endpoint, SWITCH + heard[:10])
    assert client.reading
    say(tunnels, client, said[20_000:])
    say(tunnels, endpoint, heard[10:])
    assert bodies(endpoint) == [said]
    assert bodies(client) == [heard]


def test_an_endpoint_that_was_full_before_the_tunnel_is_waited_for(tunnels: World) -> None:
    client = ask(tunnels, GET + UPGRADE + b"\r\n")
    endpoint = opened(tunnels)
    endpoint.protocol.pause_writing()
    say(tunnels, endpoint, SWITCH)
    assert not client.reading
    endpoint.protocol.resume_writing()
    assert client.reading


@pytest.mark.parametrize("by_client", [True, False])
def test_a_tunnel_is_over_when_both_ends_say_no_more(tunnels: World, by_client: bool) -> None:
    client = ask(tunnels, GET + UPGRADE + b"\r\n")
    endpoint = opened(tunnels)
    say(tunnels, endpoint, SWITCH + b"hello")
    first, other = (client, endpoint) if by_client else (endpoint, client)
    say(tunnels, first, b"")
    assert other.ended
    assert not any((first.ended, first.reading, first.closing))
    say(tunnels, other, b"more", b"")
    assert first.written.endswith(b"more")
    tunnels.advance(5_000_000_000)
    assert client.lost
    assert endpoint.lost
    assert tunnels.metric("meshcore_upstream_requests") == 0


def test_what_waits_for_the_endpoint_keeps_a_tunnel(tunnels: World) -> None:
    client = ask(tunnels, GET + UPGRADE + b"\r\n")
    endpoint = opened(tunnels)
    say(tunnels, endpoint, SWITCH, b"")
    endpoint.queued = 5
    say(tunnels, client, b"hello", b"")
    assert endpoint.ended
    assert not any((client.lost, endpoint.aborted))
    assert tunnels.metric("meshcore_upstream_requests") == 1
    endpoint.queued = 0
    endpoint.protocol.resume_writing()
    assert not endpoint.aborted  # in a turn of its own
    tunnels.turn()
    assert client.lost
    assert endpoint.lost
    assert tunnels.metric("meshcore_requests_cut_total") == 0


@pytest.mark.parametrize("by_client", [True, False])
def test_a_half_closed_tunnel_has_the_idle_time_from_its_end_on(
    tunnels: World, by_client: bool
) -> None:
    client = ask(tunnels, GET + UPGRADE + b"\r\n")
    endpoint = opened(tunnels)
    say(tunnels, endpoint, SWITCH)
    tunnels.advance(299_000_000_000)
    say(tunnels, client if by_client else endpoint, b"")
    tunnels.advance(299_000_000_000)
    assert not any((client.lost, endpoint.lost))
    tunnels.advance(2_000_000_000)
    assert client.lost
    assert endpoint.lost
    assert tunnels.metric("meshcore_requests_cut_total") == 1
