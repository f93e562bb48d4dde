"""What is held for a stream of HTTP/2: it comes while a layer looks, as long as there is window."""

from __future__ import annotations

from collections.abc import Callable

import pytest
from h2.errors import ErrorCodes
from hyperframe.frame import RstStreamFrame

from tests.unit.exchange.h2_peers import H2_MESH, Peer, h2_client, h2_endpoint
from tests.unit.exchange.peers import GET, ask, counted, messages, opened
from tests.unit.exchange.world import World

BODY = counted(1, 200_000)
BOUND = 500_000  # two windows of a stream, less than the body
LOOKED_AT = ("x-out", "wait")


@pytest.fixture
def world(world_of: Callable[[str], World]) -> World:
    return world_of(H2_MESH)


def asked(world: World, *fields: tuple[str, str]) -> tuple[Peer, Peer]:
    """A client that asked on its first stream, and the endpoint that has the request."""
    client = h2_client(world)
    client.begin(1, *fields, method="GET")
    return client, h2_endpoint(world, opened(world))


def finish(endpoint: Peer, how: str) -> None:
    """The end of a body, and what may follow it."""
    endpoint.say(1, BODY[20:30], end=True)
    if how == "reset":
        endpoint.send(RstStreamFrame(1, error_code=ErrorCodes.NO_ERROR))
    elif how == "cut":
        endpoint.wire.end()
        endpoint.world.turn()


@pytest.mark.parametrize("how", ["end", "reset", "cut"])
def test_a_body_that_comes_while_a_layer_looks_follows_its_head(world: World, how: str) -> None:
    client, endpoint = asked(world, LOOKED_AT)
    endpoint.answer(1)
    endpoint.say(1, BODY[:10])
    endpoint.say(1, BODY[10:20])
    finish(endpoint, how)
    client.talk()
    assert not client.streams[1].head
    world.settle(world.probe.gates[0], None)
    client.talk()
    assert client.streams[1].body == BODY[:30]
    assert client.streams[1].ended


def test_a_client_of_http1_gets_it_likewise(world: World) -> None:
    client = ask(world, GET + b"x-out: wait\r\n\r\n")
    endpoint = h2_endpoint(world, opened(world))
    endpoint.answer(1)
    endpoint.say(1, BODY[:20])
    finish(endpoint, "reset")
    assert not client.written
    world.settle(world.probe.gates[0], None)
    assert [message.body for message in messages(bytes(client.written))] == [BODY[:30]]


def test_a_body_that_is_reset_while_a_layer_looks_is_no_answer(world: World) -> None:
    client, endpoint = asked(world, LOOKED_AT)
    endpoint.answer(1)
    endpoint.say(1, BODY[:10])
    endpoint.reset(1, ErrorCodes.INTERNAL_ERROR)
    client.talk()
    assert client.streams[1].head[":status"] == "502"
    assert not world.loop.tasks


@pytest.mark.parametrize("looked_at", [True, False])
def test_a_client_that_takes_nothing_stops_its_endpoint(world: World, looked_at: bool) -> None:
    body, said = counted(1, 2_000_000), 0
    client, endpoint = asked(world, *([LOOKED_AT] if looked_at else []))
    endpoint.answer(1)
    while endpoint.engine.local_flow_control_window(1):
        endpoint.say(1, body[said : said + 100_000])
        client.talk()
        said = endpoint.streams[1].said
        assert said <= BOUND
    for gate in world.probe.gates:
        world.settle(gate, None)
    while not client.streams[1].ended:
        if endpoint.streams[1].speaks:
            endpoint.say(1, body[endpoint.streams[1].said :], end=True)
        client.take()
    assert client.streams[1].body == body
