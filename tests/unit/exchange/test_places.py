"""Places under an upstream's cap, as those who wait for one find them."""

from __future__ import annotations

import sys
from collections.abc import Callable

import pytest

from meshcore.upstream.cluster import PATIENCE_NS, REST_NS, Cluster
from tests.unit.exchange.peers import GET, HELLO, ask, opened, say
from tests.unit.exchange.world import MESH, Gate, Wire, World

PLAIN = MESH.replace('    layers: [{python: "test:Probe"}]\n', "").replace(
    "retries: 2", "retries: 0"
)
ROUND = PLAIN.replace("    ejection: off", "    balance: round_robin\n    ejection: off")
CAPS = "{connections: 3, pending: 3}"
TWO = ROUND.replace(CAPS, "{connections: 6, pending: 1000}")
ONE = PLAIN.replace(', "127.0.0.1:2"]', "]").replace(CAPS, "{connections: 2, pending: 5000}")
PLAIN_GET = GET + b"\r\n"
NTLM = GET + b"authorization: NTLM x\r\n\r\n"


def cluster_of(world: World) -> Cluster:
    return next(iter(world.worker.pools.pools.values())).cluster


def held(world: World) -> list[int]:
    return [pool.part.held for pool in cluster_of(world).pools]


def connects(world: World, port: int) -> list[Gate]:
    return [gate for gate in world.connecting if gate.address == f"127.0.0.1:{port}"]


def open_all(world: World) -> None:
    """The first endpoint takes connections, the second hangs."""
    while gates := connects(world, 1):
        world.settle(gates[0], None)


def sweep(world: World, span_ns: int) -> None:
    """So much time passes, at the end of which all is looked after."""
    world.advance(span_ns)
    world.worker.pools.sweep(world.now)
    world.turn()


def busy(world: World) -> list[Wire]:
    return [
        wire for wire in world.endpoints if not wire.lost and wire.endpoint.exchange is not None
    ]


def serve_on(world: World, rounds: int) -> int:
    """The first endpoint answers what it was asked, each time 150 ms later; how many it did."""
    answered = 0
    for _ in range(rounds):
        sweep(world, PATIENCE_NS * 3 // 2)
        open_all(world)
        for wire in busy(world):
            say(world, wire, HELLO)
            answered += 1
        open_all(world)
    return answered


def test_a_hung_endpoint_takes_no_more_than_its_share(world_of: Callable[[str], World]) -> None:
    world = world_of(TWO)
    for _ in range(100):
        ask(world, PLAIN_GET)
    open_all(world)
    assert held(world) == [3, 3]
    assert serve_on(world, 10) == 30
    assert held(world) == [3, 3]


def test_a_hung_endpoint_gives_back_what_it_took_while_the_other_had_no_use_for_it(
    world_of: Callable[[str], World],
) -> None:
    world = world_of(TWO)
    for _ in range(26):
        ask(world, PLAIN_GET)
    open_all(world)
    while busy(world):
        serve_on(world, 1)
    assert held(world) == [3, 3], "they are idle, but not for long"
    sweep(world, REST_NS)
    assert held(world) == [0, 6]
    oldest = connects(world, 2)[0]
    clients = [ask(world, PLAIN_GET) for _ in range(20)]
    sweep(world, PATIENCE_NS // 2)
    assert held(world) == [0, 6], "they have not waited long"
    sweep(world, PATIENCE_NS)
    assert held(world) == [3, 3]
    assert oldest in world.connecting
    assert serve_on(world, 4) == 10
    assert sum(b" 200 OK" in bytes(client.written) for client in clients) == 10
    world.settle(oldest, ConnectionRefusedError())
    assert sum(b" 502 " in bytes(client.written) for client in world.clients) == 1


def calls(step: Callable[..., object], *arguments: object) -> int:
    """How many functions a step calls, and generators it goes on with."""
    count = 0

    def called(_frame: object, event: str, _argument: object) -> None:
        nonlocal count
        count += event in ("call", "c_call")

    sys.setprofile(called)
    try:
        step(*arguments)
    finally:
        sys.setprofile(None)
    return count


@pytest.mark.parametrize("head", [PLAIN_GET, NTLM], ids=["plain", "bound"])
def test_who_waits_costs_the_same_however_many_clients_wait(
    world_of: Callable[[str], World], head: bytes
) -> None:
    few, many = (costs(world_of(ONE), others, head) for others in (10, 400))
    for one, other in zip(few, many, strict=True):
        assert other <= one + 20  # of a heap


def costs(world: World, others: int, head: bytes) -> list[int]:
    """Of one who waits, of one who leaves, and of a connection that is given back."""
    for _ in range(others):
        ask(world, NTLM)
    while world.connecting:
        opened(world)
    assert len(cluster_of(world).branches) == others
    client, served = world.connect_client(), busy(world)[0]
    client.rest.append(head)
    served.rest.append(HELLO)
    return [
        calls(world.receive, client),
        calls(client.end),
        calls(world.deliver, served),
    ]
