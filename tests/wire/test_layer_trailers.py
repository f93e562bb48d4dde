"""Layers that see trailers: in both protocols and both directions, and gRPC's status among them."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable
from typing import Any

import pytest

from meshcore import Layer, Outcome, Request, Response
from tests.wire.blame import blamed, every_way, touchy
from tests.wire.conftest import Run, eventually
from tests.wire.either import Message, asking, request, response, service
from tests.wire.h2_client import H2Client
from tests.wire.h2_mesh import Mesh
from tests.wire.h2_origin import H2Origin
from tests.wire.test_h2_grpc import OK, UNAVAILABLE, begin, ending, message
from tests.wire.test_layer_body_ends import layered

Fields = list[tuple[str, str]]
BODY = b"0123456789" * 10_000


class Trails(Layer):
    """Adds to trailers, and remembers what came."""

    def __init__(self, word: str, *, waits: bool = False) -> None:
        self.word = word
        self.waits = waits
        self.came: list[tuple[str, Fields]] = []

    def _made(self, way: str, trailers: Fields) -> Any:
        self.came.append((way, trailers))
        made = [*trailers, (f"X-{self.word}", way)]
        return self._later(made) if self.waits else made

    async def _later(self, made: Fields) -> Fields:
        await asyncio.sleep(0)
        return made

    def on_request_trailers(self, request: Request, trailers: Fields) -> Any:
        return self._made("in", trailers)

    def on_response_trailers(self, request: Request, response: Response, trailers: Fields) -> Any:
        return self._made("out", trailers)


def trailing(message: Message) -> Message:
    return response(message.body or b"-", trailers={"x-sum": "2"} if message.trailers else {})


@every_way
@pytest.mark.parametrize("waits", [False, True], ids=["plain", "async"])
@pytest.mark.parametrize("body", [b"hello", BODY, b""], ids=["small", "large", "none"])
def test_trailers_are_changed_both_ways(
    run: Run, engine: str, client: str, endpoint: str, waits: bool, body: bytes
) -> None:
    async def go() -> None:
        outer, inner = Trails("outer", waits=waits), Trails("inner")
        async with (
            service(endpoint, trailing) as origin,
            layered(Mesh(engine, origin.port).to(endpoint), outer, inner) as proxy,
            asking(client, proxy.addresses["edge"]) as ask,
        ):
            got = await ask(request("PUT", body=body, trailers={"x-sum": "1"}))
            asked = origin.asked[0]
            assert asked.body == body
            assert asked.trailers == {"x-sum": "1", "x-outer": "in", "x-inner": "in"}
            assert got.body == (body or b"-")
            assert got.trailers == {"x-sum": "2", "x-outer": "out", "x-inner": "out"}
            assert [way for way, _ in outer.came] == ["in", "out"]
            assert outer.came[0][1] == [("x-sum", "1")]
            assert inner.came[1][1] == [("x-sum", "2")]
            await ask(request("PUT", body=body))
            assert len(outer.came) == 2, "none came"

    run(go())


@every_way
def test_a_layer_of_trailers_alone_leaves_the_length(
    run: Run, engine: str, client: str, endpoint: str
) -> None:
    def sized(asked: Message) -> Message:
        return response(asked.body, ("content-length", str(len(asked.body))))

    async def go() -> None:
        async with (
            service(endpoint, sized) as origin,
            layered(Mesh(engine, origin.port).to(endpoint), Trails("x")) as proxy,
            asking(client, proxy.addresses["edge"]) as ask,
        ):
            got = await ask(request("PUT", "/", ("content-length", str(len(BODY))), body=BODY))
            assert origin.asked[0].fields["content-length"] == str(len(BODY))
            assert got.fields["content-length"] == str(len(BODY))
            assert got.body == origin.asked[0].body == BODY

    run(go())


class Gives(Layer):
    """Gives these trailers."""

    def __init__(self, given: Any) -> None:
        self.given = given
        self.outcomes: list[Outcome] = []

    def on_request_trailers(self, request: Request, trailers: Fields) -> Any:
        return self.given

    def on_end(self, request: Request, outcome: Outcome) -> None:
        self.outcomes.append(outcome)


@pytest.mark.parametrize(
    "given",
    [
        [("content-length", "5")],
        [("transfer-encoding", "chunked")],
        [("host", "b")],
        [("cookie", "a=b")],
        [("a b", "c")],
        [("a", "b\r\nc: d")],
        [("a", "b", "c")],
        [(b"a", b"b")],
        "text",
        {"a": "b"},
        5,
    ],
    ids=repr,
)
def test_what_cannot_be_a_trailer_is_an_error(run: Run, given: Any) -> None:
    async def go() -> None:
        gives = Gives(given)
        async with (
            service("http1", trailing) as origin,
            layered(Mesh("native", origin.port), gives) as proxy,
            asking("http1", proxy.addresses["edge"]) as ask,
        ):
            got = await ask(request("PUT", body=b"hello", trailers={"x-sum": "1"}))
            assert (got.status, got.fields["x-mesh-reason"]) == (500, "layer_error")
            assert not origin.asked
        assert gives.outcomes[0].detail == "Gives"

    run(go())


def test_a_layer_takes_all_trailers_away(run: Run, engine: str) -> None:
    async def go() -> None:
        async with (
            service("h2", trailing) as origin,
            layered(Mesh(engine, origin.port).to("h2"), Gives([])) as proxy,
            asking("h2", proxy.addresses["edge"]) as ask,
        ):
            await ask(request("PUT", body=b"hello", trailers={"x-sum": "1"}))
            assert (origin.asked[0].body, origin.asked[0].trailers) == (b"hello", {})

    run(go())


class Status(Layer):
    """Tells another status."""

    def __init__(self, told: str) -> None:
        self.told = told

    async def on_response_trailers(
        self, request: Request, response: Response, trailers: Fields
    ) -> Fields:
        return [(n, self.told if n == "grpc-status" else v) for n, v in trailers]


@pytest.mark.parametrize(("said", "told"), [(UNAVAILABLE, OK), (OK, UNAVAILABLE)])
@pytest.mark.parametrize("how", ["head", "message", "later"])
def test_a_status_is_changed_and_its_own_counts_for_the_service(
    run: Run, engine: str, said: str, told: str, how: str, capsys: pytest.CaptureFixture[str]
) -> None:
    async def go() -> None:
        async with H2Origin(ending(said, how)) as origin:
            mesh = touchy(engine, "h2", origin.port)
            mesh.upstream["endpoints"] = [f"127.0.0.1:{origin.port}"]
            mesh.top["access_log"] = "json"
            async with (
                layered(mesh, Status(told)) as proxy,
                H2Client(proxy.addresses["edge"]) as client,
            ):
                call = begin(client)
                await call.send(message(b"ask"), end=True)
                await call.whole()
                assert call.trailers is not None
                assert call.trailers["grpc-status"] == told
                # A message before it is the service's answer.
                blame = {"breaker"} if said != OK and how == "head" else set()
                await eventually(lambda: blamed(proxy) == blame)

    run(go())
    (line,) = map(json.loads, capsys.readouterr().out.splitlines())
    assert line["grpc_status"] == int(told)


def test_messages_of_a_stream_pass_both_ways_at_once(run: Run, engine: str) -> None:
    """Pieces are of the stream: a layer of bodies holds up neither direction for the other."""

    class Sees(Layer):
        async def on_request_body(self, request: Request, piece: bytes, end: bool) -> None:
            await asyncio.sleep(0)

        async def on_response_body(
            self, request: Request, response: Response, piece: bytes, end: bool
        ) -> None:
            await asyncio.sleep(0)

    async def talk(call: Any) -> None:
        call.send_head((":status", "200"), ("content-type", "application/grpc"))
        for n in range(5):
            await call.until(lambda n=n: len(call.body) == (n + 1) * len(message(b"ask")))
            await call.send(message(b"answer"))
        call.send_head(("grpc-status", "0"), end=True)

    async def go() -> None:
        async with (
            H2Origin(talk) as origin,
            layered(Mesh(engine, origin.port).to("h2"), Sees()) as proxy,
            H2Client(proxy.addresses["edge"]) as client,
        ):
            call = begin(client)
            for n in range(5):
                await call.send(message(b"ask"))
                await call.until(many(call, n + 1))
            await call.until(lambda: call.trailers is not None)

    def many(call: Any, n: int) -> Callable[[], bool]:
        return lambda: len(call.body) == n * len(message(b"answer"))

    run(go())
