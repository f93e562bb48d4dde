"""While a layer has a piece of a body: who is read, who is timed, and what ends it."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any, cast

import pytest

from meshcore import Answer, Request, Response
from meshcore.exchange.exchange import Exchange
from meshcore.exchange.phase import HOOKED
from tests.unit.exchange.peers import GET, HELLO, ask, chunk, counted, messages, opened, say
from tests.unit.exchange.world import MESH, Gate, Probe, Wire, World

SECOND = 1_000_000_000
OPEN = GET.replace(b"GET", b"PUT") + b"transfer-encoding: chunked\r\n\r\n"
CHUNKS = b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n"
BODY = counted(1, 5_000)


class Held(Probe):
    """Holds each piece of one way until its gate opens, and gives back what the test says."""

    def __init__(self, way: str) -> None:
        super().__init__()
        self.way = way
        self.saw: list[int] = []
        self.pieces: list[tuple[bytes, bool]] = []
        self.made: Callable[[bytes], Any] = lambda piece: piece.replace(b" ", b"  ")

    def on_response(self, request: Request, response: Response) -> Any:
        self.saw.append(response.status)
        return super().on_response(request, response)

    async def _held(self, gate: Gate, piece: bytes) -> Any:
        await gate
        return self.made(piece)

    def _piece(self, way: str, piece: bytes, end: bool) -> Any:
        if way != self.way:
            return None
        self.pieces.append((piece, end))
        self.gates.append(Gate())
        return self._held(self.gates[-1], piece)

    def on_request_body(self, request: Request, piece: bytes, end: bool) -> Any:
        return self._piece("in", piece, end)

    def on_response_body(
        self, request: Request, response: Response, piece: bytes, end: bool
    ) -> Any:
        return self._piece("out", piece, end)


Make = Callable[..., tuple[World, Held]]


@pytest.fixture
def holding() -> Iterator[Make]:
    """Makes a world whose layer holds bodies of one way."""
    worlds: list[World] = []

    def make(way: str, text: str = MESH) -> tuple[World, Held]:
        held = Held(way)
        worlds.append(World(text, held))
        return worlds[-1], held

    yield make
    for world in worlds:
        world.close()


def exchange_of(wire: Wire) -> Exchange:
    found = wire.client._exchange
    assert found is not None
    return found


def body_of(wire: Wire) -> bytes:
    (message,) = messages(bytes(wire.written))
    return message.body


def release(world: World, error: Exception | None = None) -> None:
    """The hook that is at work ends."""
    (gate,) = world.probe.gates
    world.settle(gate, error)


def test_pieces_wait_in_order_and_the_client_is_not_read(holding: Make) -> None:
    world, held = holding("in")
    client = ask(world, OPEN + chunk(BODY[:1_000]))
    endpoint = opened(world)
    assert not client.reading
    assert body_of(endpoint) == b""
    # What the loop had read before it was told to stop.
    client.client.data_received(chunk(BODY[1_000:2_000]))
    client.client.data_received(chunk(BODY[2_000:]))
    assert held.pieces == [(BODY[:1_000], False)]
    for before, after in ((1_000, 2_000), (2_000, 5_000)):
        release(world)
        assert body_of(endpoint) == held.made(BODY[:before])
        assert held.pieces[-1] == (BODY[before:after], False)
        assert not client.reading
    release(world)
    assert client.reading
    say(world, client, chunk(b""))
    assert held.pieces[-1] == (b"", True)
    assert client.reading, "all of the request is read: who leaves is seen"
    assert not next(messages(bytes(endpoint.written))).whole
    release(world)
    assert next(messages(bytes(endpoint.written))).whole
    assert body_of(endpoint) == held.made(BODY)


def test_pieces_of_a_response_wait_in_order_and_its_endpoint_is_not_read(holding: Make) -> None:
    world, held = holding("out")
    client = ask(world, GET + b"\r\n")
    endpoint = opened(world)
    say(world, endpoint, CHUNKS + chunk(BODY[:1_000]))
    assert client.written.startswith(b"HTTP/1.1 200 "), "the head waits for nobody"
    assert not endpoint.reading
    endpoint.endpoint.data_received(chunk(BODY[1_000:]) + chunk(b""))
    assert held.pieces == [(BODY[:1_000], False)]
    release(world)
    assert body_of(client) == held.made(BODY[:1_000])
    assert held.pieces[-1] == (BODY[1_000:], True)
    release(world)
    assert body_of(client) == held.made(BODY)
    say(world, client, GET + b"\r\n")
    assert len(world.endpoints) == 1, "its connection was given back, and is read"
    assert endpoint.reading


@pytest.mark.parametrize("ends", ["close", "keep"])
def test_an_endpoint_is_free_when_all_of_its_response_is_here(holding: Make, ends: str) -> None:
    world, _ = holding("out", MESH.replace(', "127.0.0.1:2"', ""))
    client = ask(world, GET + b"\r\n")
    endpoint = opened(world)
    say(world, endpoint, HELLO)
    if ends == "close":
        endpoint.end()
        world.turn()
    else:
        other = ask(world, GET + b"\r\n")
        assert not world.connecting, "it has the connection"
        assert not other.written
    release(world)
    assert body_of(client) == b"hello"


@pytest.mark.parametrize("way", ["in", "out"])
def test_a_hook_has_thirty_seconds(holding: Make, way: str) -> None:
    world, held = holding(way)
    client = ask(world, OPEN + chunk(BODY) if way == "in" else GET + b"\r\n")
    endpoint = opened(world)
    if way == "out":
        say(world, endpoint, CHUNKS + chunk(BODY))
    world.advance(29 * SECOND)
    release(world)
    if way == "in":
        say(world, client, chunk(BODY))
    else:
        say(world, endpoint, chunk(BODY))
    world.advance(29 * SECOND)
    assert not client.closing
    assert not endpoint.closing
    world.advance(2 * SECOND)
    assert endpoint.lost
    assert not world.loop.tasks
    if way == "in":
        assert not held.saw, "what a layer fails with is for others to see"
        assert client.written.startswith(b"HTTP/1.1 500 ")
        assert b"x-mesh-reason: layer_error" in client.written
    else:
        assert not next(messages(bytes(client.written))).whole
        assert client.aborted


def test_a_client_has_its_time_behind_a_hook(holding: Make) -> None:
    """Thirty seconds between two pieces, and so much a second; it is neither's time."""
    world, _ = holding("in")
    client = ask(world, OPEN + chunk(BODY[:1]))
    opened(world)
    for _ in range(4):
        world.advance(28 * SECOND)
        release(world)
        world.advance(4 * SECOND)
        assert not client.written
        say(world, client, chunk(BODY[:1]))
    release(world)
    world.advance(10 * SECOND)
    assert client.written.startswith(b"HTTP/1.1 408 "), "five bytes in 26 s are too few"


def test_an_endpoint_has_its_time_behind_a_hook(holding: Make) -> None:
    world, _ = holding("in")
    client = ask(world, OPEN + chunk(BODY) + chunk(b""))
    opened(world)
    world.advance(28 * SECOND)
    release(world)
    world.advance(4_800_000_000)
    assert not client.written
    world.advance(300_000_000)
    assert client.written.startswith(b"HTTP/1.1 504 ")


def test_silence_does_not_count_while_a_hook_has_the_response(holding: Make) -> None:
    world, _ = holding("out", MESH.replace("timeout: 5s", "timeout: 5s\n    idle_timeout: 3s"))
    client = ask(world, GET + b"\r\n")
    endpoint = opened(world)
    say(world, endpoint, CHUNKS + chunk(BODY))
    world.advance(20 * SECOND)
    release(world)
    world.advance(2_800_000_000)
    assert not client.closing
    world.advance(300_000_000)
    assert client.aborted


@pytest.mark.parametrize("made", [5, "text", Answer(200), ValueError()])
def test_what_is_no_piece_ends_a_response(holding: Make, made: object) -> None:
    world, held = holding("out")
    held.made = lambda piece: made
    client = ask(world, GET + b"\r\n")
    say(world, opened(world), HELLO)
    release(world, made if isinstance(made, Exception) else None)
    assert client.aborted
    assert not next(messages(bytes(client.written))).whole


def test_a_piece_of_another_length_ends_it_where_the_length_is_kept(holding: Make) -> None:
    world, held = holding("out")
    cast("Any", held).keeps_length = True
    client = ask(world, GET + b"\r\n")
    held.made = lambda piece: piece + b"!"
    say(world, opened(world), HELLO)
    assert b"content-length: 5\r\n" in client.written
    release(world)
    assert client.aborted


@pytest.mark.parametrize("late", ["result", "error"])
def test_a_hook_that_ends_behind_its_request_changes_nothing(holding: Make, late: str) -> None:
    world, _ = holding("in")
    client = ask(world, OPEN + chunk(BODY))
    endpoint = opened(world)
    exchange = exchange_of(client)
    say(world, endpoint, HELLO)
    assert body_of(client) == b"hello"
    written = bytes(endpoint.written), bytes(client.written)
    for gate in world.probe.gates:
        world.settle(gate, ValueError() if late == "error" else None)
    assert (bytes(endpoint.written), bytes(client.written)) == written
    assert not exchange.endpoint_pauses & HOOKED
    assert not world.loop.tasks


def test_a_hooked_piece_is_kept_for_the_next_attempt(holding: Make) -> None:
    """The first attempt fails while the layer has the rest."""
    world, held = holding("in")
    client = ask(world, OPEN + chunk(BODY[:1_000]))
    first = opened(world)
    release(world)
    assert body_of(first) == held.made(BODY[:1_000])
    say(world, client, chunk(BODY[1_000:]) + chunk(b""))
    first.end()
    world.turn()
    world.advance(SECOND)
    second = opened(world)
    assert body_of(second) == held.made(BODY[:1_000])
    release(world)
    assert body_of(second) == held.made(BODY)
    say(world, second, HELLO)
    assert body_of(client) == b"hello"
    assert b"".join(piece for piece, _ in held.pieces) == BODY


def test_more_than_may_be_kept_is_not_sent_again(holding: Make) -> None:
    """By what layers make of it."""
    world, held = holding("in")
    held.made = lambda piece: piece * 20
    client = ask(world, OPEN + chunk(BODY) + chunk(b""))
    first = opened(world)
    release(world)
    assert body_of(first) == BODY * 20
    first.end()
    world.turn()
    world.advance(SECOND)
    assert client.written.startswith(b"HTTP/1.1 502 ")
    assert not world.connecting
