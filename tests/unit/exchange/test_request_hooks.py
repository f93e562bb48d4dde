"""Layers that see no more than requests' heads: run in one call, and nobody can tell."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Generator, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from typing import Any, cast

import hypothesis.strategies as st
import pytest
from hypothesis import given

from meshcore import Answer, Layer, Request, Response
from tests.unit.exchange import test_at_once, test_at_once_h2
from tests.unit.exchange.peers import HELLO, ask
from tests.unit.exchange.test_at_once import AT_ONCE, Play, Socketed, calls, served
from tests.unit.exchange.test_at_once_h2 import H2Play
from tests.unit.exchange.test_places import ONE, PLAIN, PLAIN_GET, busy
from tests.unit.exchange.world import World

WHO: ContextVar[str] = ContextVar("who", default="nobody")


def through(*names: str, text: str = PLAIN) -> str:
    """A mesh whose route has these layers, and no others."""
    layers = ", ".join(f'{{python: "test:{name}"}}' for name in names)
    return text.replace("    timeout: 5s\n", f"    timeout: 5s\n    layers: [{layers}]\n")


LAYERED = {
    "one": through("Looks"),
    "two": through("Looks", "Marks"),
    "before one that sees more": through("Looks", "Marks", "Probe"),
    "behind one that sees more": through("Probe", "Looks"),
}


class Turn:
    """Is over a turn later."""

    def __await__(self) -> Generator[None, None, None]:
        yield


class Marks(Layer):
    """Writes down who was there before it in this request's context."""

    def on_request(self, request: Request) -> None:
        request.set_header("x-mark", WHO.get())
        WHO.set("marks")


class Looks(Layer):
    """Does what a request's number asks for, and takes its time."""

    def __init__(self) -> None:
        self.world: World | None = None

    def on_request(self, request: Request) -> Any:
        if self.world is not None:
            self.world.now += 70_000_000
        digits = "".join(x for x in request.path if x.isdigit())
        wish = int(digits or 0) % 9
        WHO.set(f"looks {WHO.get()}")
        request.set_header("x-look", WHO.get())
        if wish == 1:
            return Answer(299)
        if wish == 2:
            raise ValueError("as asked")
        if wish == 3:
            return self._wait(None)
        if wish == 4:
            return self._wait(Answer(298))
        if wish == 5:
            return "no answer"
        if wish == 6:
            raise asyncio.CancelledError
        if wish == 7:
            return self._raise()
        return None

    async def _wait(self, answer: Answer | None) -> Answer | None:
        await Turn()
        return answer

    async def _raise(self) -> None:
        raise ValueError("as asked, later")


class Looked(Play):
    """With these layers."""

    def __init__(self, text: str, way: str) -> None:
        looks = Looks()
        super().__init__(text, way, {"test:Looks": looks, "test:Marks": Marks()})
        looks.world = self.world


class H2Looked(H2Play):
    """The same over HTTP/2."""

    def __init__(self, text: str, way: str) -> None:
        looks = Looks()
        super().__init__(text, way, {"test:Looks": looks, "test:Marks": Marks()})
        looks.world = self.world


def play_both_ways(
    kind: Callable[[str, str], Play], text: str, orders: list[tuple[str, int, int, int]]
) -> None:
    """In one call, and step by step. What is sent natively takes a turn more than a hook may."""
    seen = []
    for way in ("at once", "stepped"):
        play = kind(text, way)
        for order in orders:
            play.do(*order)
        seen.append(play.end())
    assert seen[0] == seen[1]


@pytest.mark.timeout(600)
@pytest.mark.parametrize("text", LAYERED.values(), ids=LAYERED)
@given(st.lists(test_at_once.ORDERS, max_size=25))
def test_nobody_can_tell_how_layers_were_run(
    text: str, orders: list[tuple[str, int, int, int]]
) -> None:
    play_both_ways(Looked, text, orders)


@pytest.mark.timeout(600)
@pytest.mark.parametrize("text", LAYERED.values(), ids=LAYERED)
@given(st.lists(test_at_once_h2.ORDERS, max_size=25))
def test_nobody_can_tell_how_layers_of_streams_were_run(
    text: str, orders: list[tuple[str, int, int, int]]
) -> None:
    play_both_ways(H2Looked, text, orders)


@contextmanager
def world_with(text: str, **given: Layer) -> Iterator[World]:
    world = World(text, layers={f"test:{name}": layer for name, layer in given.items()})
    try:
        yield world
    finally:
        world.close()


def told(world: World) -> bytes:
    """What endpoints were."""
    return b"".join(bytes(wire.written) for wire in world.endpoints)


def test_layers_of_a_request_share_a_context_that_no_other_has() -> None:
    with world_with(LAYERED["two"], Looks=Looks(), Marks=Marks()) as world:
        for _ in range(3):
            assert served(world).written.endswith(b"hello")
        asked = told(world)
        assert asked.count(b"x-look: looks nobody\r\n") == 3
        assert asked.count(b"x-mark: looks nobody\r\n") == 3
        assert world.metric(AT_ONCE) == 3
    assert WHO.get() == "nobody"


class Sees(Layer):
    """And the response."""

    def on_request(self, request: Request) -> None:
        request.set_header("x-sees", WHO.get())

    def on_response(self, request: Request, response: Response) -> None:
        response.set_header("x-sees", WHO.get())


def test_a_layer_behind_them_has_their_context() -> None:
    with world_with(through("Marks", "Sees"), Marks=Marks(), Sees=Sees()) as world:
        client = served(world)
        assert b"x-sees: marks\r\n" in client.written
        assert b"x-sees: marks\r\n" in told(world)


class Ends(Layer):
    """While it has the request, its client leaves."""

    def __init__(self) -> None:
        self.world: World | None = None
        self.result: object = None

    def on_request(self, request: Request) -> Any:
        assert self.world is not None
        self.world.clients[-1].end()
        if isinstance(self.result, Exception):
            raise self.result
        return self.result


@pytest.mark.parametrize("result", [None, Answer(299), ValueError("late"), "no answer"])
@pytest.mark.parametrize("way", ["at once", "stepped"])
def test_a_request_that_ended_while_a_layer_had_it_goes_nowhere(way: str, result: object) -> None:
    layer = Ends()
    layer.result = result
    play = Play(through("Ends", "Marks"), way, {"test:Ends": layer, "test:Marks": Marks()})
    layer.world = play.world
    client = ask(play.world, PLAIN_GET)
    assert not client.written
    assert not play.world.connecting
    assert play.world.metric("meshcore_upstream_requests_in_flight") == 0
    lines = [line for line in play.told.lines if isinstance(line, dict)]
    assert [line["reason"] for line in lines] == ["client_gone"]
    play.end()


class Interrupts(Layer):
    """A handler of a signal raises within it."""

    def on_request(self, request: Request) -> None:
        raise KeyboardInterrupt


@pytest.mark.parametrize("way", ["at once", "stepped"])
def test_what_ends_the_program_ends_the_request_too(way: str) -> None:
    play = Play(through("Stops"), way, {"test:Stops": Interrupts()})
    with pytest.raises(KeyboardInterrupt):
        ask(play.world, PLAIN_GET)
    play.world.turn()
    assert play.world.clients[0].written.startswith(b"HTTP/1.1 500 ")
    play.end()


class OfItsOwn(BaseException):
    """What some library raises, to pass by who catches an `Exception`."""


class Unasked:
    """Its class is not to be known."""

    @property  # type: ignore[misc]  # on purpose
    def __class__(self) -> Any:
        raise RuntimeError("no class")


ODD: dict[str, Callable[[], object]] = {
    "own": lambda: OfItsOwn("x"),
    "exit": GeneratorExit,
    "group": lambda: BaseExceptionGroup("x", [OfItsOwn("y")]),
    "unasked": Unasked,
}


@pytest.mark.parametrize("make", ODD.values(), ids=ODD)
@pytest.mark.parametrize("way", ["at once", "stepped"])
def test_whatever_a_layer_raises_ends_its_request_alone(
    way: str, make: Callable[[], object]
) -> None:
    class Odd(Layer):
        def on_request(self, request: Request) -> Any:
            given = make()
            if issubclass(type(given), BaseException):
                raise cast("BaseException", given)
            return given

    play = Play(through("Odd"), way, {"test:Odd": Odd()})
    client = ask(play.world, PLAIN_GET)
    assert client.written.startswith(b"HTTP/1.1 500 ")
    assert not client.closing
    lines = [line for line in play.told.lines if isinstance(line, dict)]
    assert [(line["reason"], line["by"]) for line in lines] == [("layer_error", "proxy")]
    play.end()


def test_a_layer_that_sets_a_field_takes_one_call(monkeypatch: pytest.MonkeyPatch) -> None:
    """Beside its own, and what a plain request takes."""
    monkeypatch.setattr("tests.unit.exchange.world.Wire", Socketed)
    with world_with(through("Marks", text=ONE), Marks=Marks()) as world:
        for _ in range(12):
            client = served(world)

        def serve() -> None:
            client.protocol.data_received(PLAIN_GET)
            busy(world)[0].protocol.data_received(HELLO)

        counts = calls(serve)
        assert client.written.endswith(b"hello")
        assert world.metric(AT_ONCE) == 13
        assert counts["python"] <= 13
        assert counts["core"] <= 5
        for wire in (*world.clients, *world.endpoints):
            assert isinstance(wire, Socketed)
            wire.shut()
