"""Whatever ends a request while layers have its bodies: nothing torn looks whole, nobody else is
blamed, and nothing is left."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Any

import pytest

from meshcore import Answer, Layer, Outcome, Proxy, Request, Response
from meshcore.config.load import load_text
from tests.wire.blame import Turn, blamed, calling, every_way, hosting, touchy
from tests.wire.conftest import Run, eventually, gauges, nobody
from tests.wire.either import asking, request, response, service
from tests.wire.h2_client import H2Client
from tests.wire.h2_mesh import Mesh
from tests.wire.h2_origin import Call, H2Origin
from tests.wire.h2_peer import ResetError
from tests.wire.test_h2_grpc import HEAD, begin, message

BODY = b"0123456789" * 20_000


class Ill(Layer):
    """Does what it is told with the piece in which it finds a word."""

    def __init__(self, way: str, does: Callable[[], Any]) -> None:
        self.way = way
        self.does = does
        self.outcomes: list[Outcome] = []

    def _run(self, way: str, piece: bytes) -> Any:
        return self.does() if way == self.way and b"word" in piece else None

    def on_request_body(self, request: Request, piece: bytes, end: bool) -> Any:
        return self._run("in", piece)

    def on_response_body(
        self, request: Request, response: Response, piece: bytes, end: bool
    ) -> Any:
        return self._run("out", piece)

    def on_end(self, request: Request, outcome: Outcome) -> None:
        self.outcomes.append(outcome)


class Sees(Layer):
    """Remembers the answers that it saw; stands outside of the other."""

    def __init__(self) -> None:
        self.seen: list[tuple[int, str | None]] = []

    def on_response(self, request: Request, response: Response) -> None:
        self.seen.append((response.status, response.reason))
        response.set_header("x-seen", "yes")


@asynccontextmanager
async def layered(mesh: Mesh, *layers: Layer) -> AsyncIterator[Proxy]:
    """A proxy with these layers; on leaving it holds nothing."""
    names = {f"test:Layer{n}": layer for n, layer in enumerate(layers)}
    mesh.via(layers=[{"python": name} for name in names])
    async with Proxy(load_text(str(mesh)), layers=names) as proxy:
        yield proxy
    assert gauges(proxy) == {}


async def later(does: Callable[[], Any]) -> Any:
    await asyncio.sleep(0)
    return does()


def raises() -> None:
    raise ValueError("as asked")


def cancels() -> None:
    raise asyncio.CancelledError


ILLS: dict[str, Callable[[], Any]] = {
    "raises": raises,
    "cancels": cancels,
    "text": lambda: "no bytes",
    "number": lambda: 5,
    "raises later": lambda: later(raises),
    "cancels later": lambda: later(cancels),
    "text later": lambda: later(lambda: "no bytes"),
}


@every_way
@pytest.mark.parametrize("does", ILLS.values(), ids=ILLS)
@pytest.mark.parametrize("late", [False, True], ids=["at once", "late"])
def test_a_request_whose_layer_fails_is_a_500(
    run: Run, engine: str, client: str, endpoint: str, does: Callable[[], Any], late: bool
) -> None:
    """``late``: the endpoint has some of it already."""
    reached = asyncio.Event()

    async def answer(turn: Turn) -> None:
        reached.set()
        await turn.left()

    async def go() -> None:
        ill, sees = Ill("in", does), Sees()
        async with (
            hosting(endpoint, answer) as host,
            layered(touchy(engine, endpoint, host.port), sees, ill) as proxy,
            calling(client, proxy) as caller,
        ):
            call = await caller.begin(request("POST", body=BODY if late else b"a word"), end=False)
            if late:
                await reached.wait()
                await call.send(b"a word")
            answered = await call.whole()
            assert (answered.status, answered.fields["x-mesh-reason"]) == (500, "layer_error")
            assert answered.fields["x-seen"] == "yes"
            await eventually(lambda: bool(ill.outcomes))
            assert blamed(proxy) == set()
        assert sees.seen == [(500, "layer_error")]
        (outcome,) = ill.outcomes
        assert (outcome.reason, outcome.detail, outcome.by) == ("layer_error", "Ill", "proxy")
        assert len(host.turns) == late

    run(go())


@every_way
@pytest.mark.parametrize("does", ILLS.values(), ids=ILLS)
@pytest.mark.parametrize("late", [False, True], ids=["at once", "late"])
def test_a_response_whose_layer_fails_never_looks_whole(
    run: Run, engine: str, client: str, endpoint: str, does: Callable[[], Any], late: bool
) -> None:
    seen = asyncio.Event()

    async def answer(turn: Turn) -> None:
        await turn.begin()
        if late:
            await turn.say(b"first")
            await seen.wait()
        await turn.say(b"a word")
        await turn.end()

    async def go() -> None:
        ill = Ill("out", does)
        async with (
            hosting(endpoint, answer) as host,
            layered(touchy(engine, endpoint, host.port), ill) as proxy,
            calling(client, proxy) as caller,
        ):
            call = await caller.begin(request("GET"))
            assert (await call.head())[":status"] == "200"
            seen.set()
            with pytest.raises((ResetError, asyncio.IncompleteReadError, ConnectionError)):
                await call.whole()
            await eventually(lambda: bool(ill.outcomes))
            assert blamed(proxy) == set()
        (outcome,) = ill.outcomes
        assert (outcome.reason, outcome.detail, outcome.status) == ("layer_error", "Ill", 200)

    run(go())


@pytest.mark.parametrize("does", ILLS.values(), ids=ILLS)
@pytest.mark.parametrize("at_end", [False, True], ids=["within", "at-the-end"])
def test_a_call_of_grpc_whose_layer_fails_ends_with_a_status(
    run: Run, engine: str, does: Callable[[], Any], at_end: bool, capsys: pytest.CaptureFixture[str]
) -> None:
    """Also when the service's own status is there already: its client has not been told."""

    async def answer(call: Call) -> None:
        await call.whole()
        call.send_head(*HEAD)
        await call.send(message(b"a word"))
        if at_end:
            call.send_head(("grpc-status", "0"), end=True)

    async def go() -> None:
        ill = Ill("out", does)
        async with H2Origin(answer) as origin:
            mesh = touchy(engine, "h2", origin.port)
            mesh.upstream["endpoints"] = [f"127.0.0.1:{origin.port}"]
            mesh.top["access_log"] = "json"
            async with layered(mesh, ill) as proxy, H2Client(proxy.addresses["edge"]) as client:
                call = begin(client)
                await call.send(message(b"ask"), end=True)
                assert await call.whole() == b""
                assert call.trailers is not None
                assert call.trailers["grpc-status"] == "13"
                assert blamed(proxy) == set()

    run(go())
    (line,) = map(json.loads, capsys.readouterr().out.splitlines())
    told = (line["status"], line["grpc_status"], line["reason"], line["detail"])
    assert told == (200, 13, "layer_error", "Ill")


@every_way
@pytest.mark.parametrize("later_on", [False, True], ids=["plain", "async"])
def test_a_layer_answers_an_upload_by_what_is_in_it(
    run: Run, engine: str, client: str, endpoint: str, later_on: bool
) -> None:
    async def go() -> None:
        refusal = Answer(422, [("x-why", "word")], b"no words")
        ill = Ill("in", (lambda: later(lambda: refusal)) if later_on else (lambda: refusal))
        sees = Sees()
        async with (
            service(endpoint, lambda asked: response(b"taken")) as origin,
            layered(Mesh(engine, origin.port).to(endpoint), sees, ill) as proxy,
            asking(client, proxy.addresses["edge"]) as ask,
        ):
            refused = await ask(request("POST", body=b"a word"))
            assert (refused.status, refused.body) == (422, b"no words")
            assert (refused.fields["x-why"], refused.fields["x-seen"]) == ("word", "yes")
            taken = await ask(request("POST", body=b"nothing"))
            assert taken.body == b"taken"
            assert [asked.body for asked in origin.asked] == [b"nothing"]
            assert blamed(proxy) == set()
        assert [outcome.reason for outcome in ill.outcomes] == ["layer_response", None]
        assert sees.seen == [(422, "layer_response"), (200, None)]

    run(go())


@pytest.mark.parametrize("client", ["http1", "h2"])
def test_an_answer_behind_the_response_is_an_error(run: Run, engine: str, client: str) -> None:
    async def answer(turn: Turn) -> None:
        await turn.begin()
        await turn.left()

    async def go() -> None:
        ill = Ill("in", lambda: Answer(422))
        async with (
            hosting("h2", answer) as host,
            layered(touchy(engine, "h2", host.port), ill) as proxy,
            calling(client, proxy) as caller,
        ):
            call = await caller.begin(request("POST", body=b"first"), end=False)
            await call.head()
            await call.send(b"a word")
            with pytest.raises((ResetError, asyncio.IncompleteReadError, ConnectionError)):
                await call.whole()
            await eventually(lambda: bool(ill.outcomes))
        assert ill.outcomes[0].reason == "layer_error"

    run(go())


class Counts(Layer):
    """Sees each piece once."""

    def __init__(self, *, waits: bool) -> None:
        self.waits = waits
        self.seen = b""

    def on_request_body(self, request: Request, piece: bytes, end: bool) -> Any:
        self.seen += piece
        made = piece.replace(b"a", b"bb")
        return later(lambda: made) if self.waits else made


@every_way
@pytest.mark.parametrize("waits", [False, True], ids=["plain", "async"])
@pytest.mark.parametrize("how", ["connect", "reset", "status"])
def test_what_layers_made_is_sent_again(
    run: Run, engine: str, client: str, endpoint: str, waits: bool, how: str
) -> None:
    first = True

    async def answer(turn: Turn) -> None:
        nonlocal first
        body, before = await turn.read(), first
        first = False
        if before and how == "reset":
            turn.reset()
        elif before and how == "status":
            await turn.answer(status=503)
        else:
            await turn.answer(body)

    async def go() -> None:
        counts = Counts(waits=waits)
        with nobody() as closed:
            async with hosting(endpoint, answer) as host:
                mesh = Mesh(engine, host.port).to(endpoint, balance="round_robin")
                mesh.via(retry={"retries": 3, "when": ["connect", "reset", 503]})
                ports = [closed, host.port] if how == "connect" else [host.port]
                mesh.upstream["endpoints"] = [f"127.0.0.1:{port}" for port in ports]
                async with (
                    layered(mesh, counts) as proxy,
                    asking(client, proxy.addresses["edge"]) as ask,
                ):
                    for _ in range(2):
                        counts.seen = b""
                        got = await ask(request("PUT", body=b"banana" * 2_000))
                        assert (got.status, got.body) == (200, b"bbbnbbnbb" * 2_000)
                        assert counts.seen == b"banana" * 2_000
            if how != "connect":
                assert len(host.turns) == 3

    run(go())


@pytest.mark.parametrize("client", ["http1", "h2"])
@pytest.mark.parametrize("endpoint", ["http1", "h2"])
def test_a_whole_response_ends_what_layers_do_with_its_request(
    run: Run, engine: str, client: str, endpoint: str
) -> None:
    """A late piece goes nowhere, and the endpoint's connection is given up."""
    held, cancelled = asyncio.Event(), asyncio.Event()

    async def hold() -> None:
        held.set()
        try:
            await asyncio.sleep(60)
        finally:
            cancelled.set()

    async def answer(turn: Turn) -> None:
        await held.wait()
        await turn.answer(b"enough", status=413)
        await turn.left()

    async def go() -> None:
        ill = Ill("in", hold)
        async with (
            hosting(endpoint, answer) as host,
            layered(touchy(engine, endpoint, host.port), ill) as proxy,
            calling(client, proxy) as caller,
        ):
            call = await caller.begin(request("POST", body=b"a word"))
            got = await call.whole()
            assert (got.status, got.body) == (413, b"enough")
            await asyncio.wait_for(cancelled.wait(), 5)
            assert blamed(proxy) == set()
        (outcome,) = ill.outcomes
        assert outcome.reason is None

    run(go())


@every_way
def test_an_endpoint_that_resets_while_a_layer_has_the_request_is_not_blamed(
    run: Run, engine: str, client: str, endpoint: str
) -> None:
    async def answer(turn: Turn) -> None:
        turn.reset()

    async def go() -> None:
        ill = Ill("in", lambda: asyncio.sleep(60))
        async with (
            hosting(endpoint, answer) as host,
            layered(touchy(engine, endpoint, host.port), ill) as proxy,
            calling(client, proxy) as caller,
        ):
            for _ in range(4):
                got = await caller.ask(request("POST", body=b"a word"))
                assert got.fields["x-mesh-reason"] == "upstream_reset"
            assert blamed(proxy) == set()

    run(go())


@every_way
def test_an_endpoint_that_is_done_leaves_while_layers_have_its_response(
    run: Run, engine: str, client: str, endpoint: str
) -> None:
    """All of it is here: its connection may close."""
    go_on, closed = asyncio.Event(), asyncio.Event()

    async def hold() -> bytes:
        await go_on.wait()
        return b"made"

    async def answer(turn: Turn) -> None:
        await turn.begin()
        await turn.say(b"a word")
        await turn.end()
        try:
            await turn.close()
        finally:  # a stream may be over by then
            closed.set()

    async def go() -> None:
        ill = Ill("out", hold)
        async with (
            hosting(endpoint, answer) as host,
            layered(touchy(engine, endpoint, host.port), ill) as proxy,
            calling(client, proxy) as caller,
        ):
            call = await caller.begin(request("GET"))
            await call.head()
            await closed.wait()
            go_on.set()
            assert (await call.whole()).body == b"made"

    run(go())


@pytest.mark.parametrize("way", ["in", "out"])
@pytest.mark.parametrize("client", ["http1", "h2"])
def test_a_reload_leaves_hooks_alone(run: Run, engine: str, client: str, way: str) -> None:
    go_on, reached = asyncio.Event(), asyncio.Event()

    async def hold() -> bytes:
        reached.set()
        await go_on.wait()
        return b"made"

    async def go() -> None:
        ill = Ill(way, hold)
        async with service("http1", lambda asked: response(b"word" + asked.body)) as origin:
            mesh = Mesh(engine, origin.port)
            async with layered(mesh, ill) as proxy, asking(client, proxy.addresses["edge"]) as ask:
                asked = asyncio.ensure_future(ask(request("POST", body=b"a word")))
                await reached.wait()
                mesh.via(layers=[])
                await proxy.reload(load_text(str(mesh)))
                go_on.set()
                answered = await asked
                assert answered.body == (b"wordmade" if way == "in" else b"made")
                plain = await ask(request("POST", body=b"a word"))
                assert plain.body == b"worda word"

    run(go())


@pytest.mark.parametrize("way", ["in", "out"])
@pytest.mark.parametrize("client", ["http1", "h2"])
def test_the_end_of_a_drain_ends_hooks(run: Run, engine: str, client: str, way: str) -> None:
    reached, cancelled = asyncio.Event(), asyncio.Event()

    async def hold() -> None:
        reached.set()
        try:
            await asyncio.sleep(60)
        finally:
            cancelled.set()

    async def go() -> None:
        ill = Ill(way, hold)
        async with service("http1", lambda asked: response(b"a word")) as origin:
            mesh = Mesh(engine, origin.port)
            mesh.top["drain"] = "100ms"
            async with layered(mesh, ill) as proxy, calling(client, proxy) as caller:
                call = await caller.begin(request("POST", body=b"a word"))
                await reached.wait()
                await proxy.stop()
                assert cancelled.is_set()
                if way == "in":
                    assert (await call.whole()).fields["x-mesh-reason"] == "draining"
        (outcome,) = ill.outcomes
        assert outcome.reason == "draining"

    run(go())
