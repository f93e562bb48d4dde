"""Orders of events that once went wrong, one by one."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from tests.unit.exchange.peers import GET, HELLO, PUT, ask, opened
from tests.unit.exchange.world import MESH, Wire, World

# What the core allows (rust/meshcore-core/src/exchange/body.rs, deadline.rs).
REPLAY_BYTES = 65_536
LAYER_NS = 30_000_000_000


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
    assert opened(world).endpoint.exchange is not None
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


def test_a_connection_that_says_too_much_while_a_layer_looks_is_parted_with(world: World) -> None:
    client = ask(world, GET + b"x-out: wait\r\n\r\n")
    endpoint = opened(world)
    endpoint.rest.append(HELLO)
    world.deliver(endpoint)
    connection = endpoint.endpoint
    assert connection.exchange is not None
    connection.data_received(HELLO)
    world.turn()
    assert connection.exchange is None
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


@pytest.mark.parametrize(("method", "answers"), [(b"POST", 1), (b"GET", 3)])
def test_the_last_answer_that_would_be_retried_is_relayed_whole(
    world: World, method: bytes, answers: int
) -> None:
    client = ask(world, method + b" / HTTP/1.1\r\nhost: a\r\n\r\n")
    for _ in range(answers):
        assert not client.written
        endpoint = opened(world)
        endpoint.rest.append(b"HTTP/1.1 503 Later\r\ncontent-length: 5\r\n\r\n")
        world.deliver(endpoint)
        if client.written:
            endpoint.rest.append(b"later")
            world.deliver(endpoint)
        world.advance(300_000_000)
    assert client.written.startswith(b"HTTP/1.1 503 ")
    assert client.written.endswith(b"later")
    assert world.metric("meshcore_endpoint_requests") == 0


def test_a_free_place_goes_to_a_request_that_waits_at_any_endpoint(
    world_of: Callable[[str], World],
) -> None:
    world = world_of(
        MESH.replace("connections: 3", "connections: 1").replace("retries: 2", "retries: 0")
    )
    clients = [ask(world, GET + b"\r\n") for _ in range(3)]
    under_way = [client.client._exchange for client in clients]
    pools = {each.ticket.endpoint for each in under_way if each is not None and each.ticket}
    assert len(pools) == 2, "the seed sends them to both endpoints"
    for _ in clients:
        assert len(world.connecting) == 1
        world.settle(world.connecting[0], ConnectionRefusedError())
    assert all(client.written.startswith(b"HTTP/1.1 502 ") for client in clients)
    assert world.metric('meshcore_local_answers_total{listener="edge",reason="upstream_conn') == 3


def test_who_waits_for_our_own_cap_says_nothing_about_the_endpoint(
    world_of: Callable[[str], World],
) -> None:
    text = MESH.replace("connections: 3", "connections: 1").replace("ejection: off", "")
    world = world_of(text.replace("pending: 3", "pending: 30"))
    holder = ask(world, GET + b"\r\n")
    opened(world)
    waiting = [ask(world, GET + b"\r\n") for _ in range(20)]
    world.advance(4_900_000_000)
    holder.left = True
    world.advance(200_000_000)
    assert all(client.written.startswith(b"HTTP/1.1 504 ") for client in waiting)
    # The one that was asked and did not answer has failed once; the ejection needs five.
    assert world.metric("meshcore_endpoint_available") == 2


def test_a_client_that_we_do_not_read_is_not_blamed(world: World) -> None:
    client = ask(world, PUT, b"x" * 40_000)
    endpoint = opened(world, narrow=True)
    assert endpoint.protocol.choked
    world.advance(31_000_000_000)
    assert client.written.startswith(b"HTTP/1.1 504 ")


def test_a_client_that_stalls_is(world: World) -> None:
    client = ask(world, PUT, b"x" * 400)
    opened(world)
    world.advance(31_000_000_000)
    assert client.written.startswith(b"HTTP/1.1 408 ")


def leave(world: World, client: Wire) -> None:
    client.left = True
    client.close()
    world.turn()


@pytest.mark.parametrize("asked", [False, True])
@pytest.mark.parametrize("slow", [False, True])
def test_clients_that_leave_open_no_breaker_unless_it_counts_slow_calls(
    world_of: Callable[[str], World], asked: bool, slow: bool
) -> None:
    rules = "{failures: 3, slow_call: 2s, on: [slow]}" if slow else "{failures: 3}"
    world = world_of(MESH.replace("circuit_breaker: off", f"circuit_breaker: {rules}"))
    for _ in range(12):
        body = [b"x"] if asked else []
        client = ask(world, PUT.replace(b"100000", b"1" if asked else b"100000"), *body)
        if not world.connecting:
            break  # refused: it is open
        opened(world)
        world.advance(3_000_000_000)
        leave(world, client)
    # Metrics are told by the machine's own clock, which may be ahead of this world's: half open.
    assert (world.metric("meshcore_breaker_state") > 0) is (asked and slow)


def test_a_slow_client_has_time_for_the_end_as_long_as_it_takes_some(world: World) -> None:
    client = ask(world, GET + b"connection: close\r\n\r\n")
    endpoint = opened(world)
    endpoint.rest.append(HELLO)
    client.queued = 100_000
    world.deliver(endpoint)
    assert client.written.endswith(b"hello")
    for left in (60_000, 30_000):
        world.advance(73_000_000_000)
        assert not client.aborted
        client.queued = left
        world.advance(2_000_000_000)
        assert not client.aborted
    world.advance(80_000_000_000)
    assert client.aborted


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


@pytest.mark.parametrize("begun", [False, True])
def test_an_endpoint_is_not_blamed_for_the_end_of_a_drain(
    world_of: Callable[[str], World], begun: bool
) -> None:
    text = MESH.replace("ejection: off", "ejection: {failures: 1}")
    world = world_of(text.replace("circuit_breaker: off", "circuit_breaker: {failures: 1}"))
    client = ask(world, GET + b"\r\n")
    endpoint = opened(world)
    if begun:
        endpoint.rest.append(HELLO[:-1])
        world.deliver(endpoint)
    world.listener.drain(0)
    world.advance(6_000_000_000 if begun else 4_000_000_000)
    world.listener.end(world.now)
    world.turn()
    assert client.lost if begun else b"\r\nx-mesh-reason: draining\r\n" in client.written
    assert client.aborted is begun
    assert endpoint.lost
    assert world.metric("meshcore_endpoint_available") == 2
    assert world.metric("meshcore_breaker_state") == 0
