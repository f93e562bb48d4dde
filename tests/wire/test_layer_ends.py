"""`on_end`: told once of each request that is over, in the words of the access log."""

from __future__ import annotations

import asyncio
import contextvars
import json
import logging
from collections.abc import Awaitable, Callable
from typing import Any

import pytest

from meshcore import Answer, Layer, LayerError, Outcome, Proxy, Request, Response
from meshcore.config.load import load_text
from tests.wire.blame import GRPC, Caller, Turn, calling, every_way, hosting, idle
from tests.wire.conftest import Run, eventually, gauges
from tests.wire.either import request
from tests.wire.h2_mesh import Mesh
from tests.wire.h2_peer import ResetError

CLIENTS = pytest.mark.parametrize("client", ["http1", "h2"])
mine = contextvars.ContextVar[str]("mine", default="nobody's")


class Ends(Layer):
    """Does what the request's `x-do` and the response's say, and is told of the end."""

    def __init__(self) -> None:
        self.began = asyncio.Event()
        self.ended: list[tuple[str, Outcome]] = []
        self.seen: list[str] = []

    def on_request(self, request: Request) -> Any:
        mine.set(request.path)
        return self._do(request.header("x-do"))

    def on_response(self, request: Request, response: Response) -> Any:
        return self._do(response.header("x-do"))

    def _do(self, wish: str | None) -> Any:
        match wish:
            case "answer":
                return Answer(403, [], b"no")
            case "raise":
                raise ValueError("as asked")
            case "wait":
                return self._wait()
        return None

    async def _wait(self) -> None:
        self.began.set()
        await asyncio.Event().wait()

    def on_end(self, request: Request, outcome: Outcome) -> None:
        self.seen.append(mine.get())
        self.ended.append((request.path, outcome))


def said(outcome: Outcome) -> dict[str, Any]:
    """As the access log has it."""
    return {
        "status": outcome.status,
        "reason": outcome.reason or "",
        "by": outcome.by,
        "phase": outcome.phase or "",
        "detail": outcome.detail,
        "endpoint": outcome.endpoint or "",
        "attempts": outcome.attempts,
    } | ({} if outcome.grpc_status is None else {"grpc_status": outcome.grpc_status})


def logged(capsys: pytest.CaptureFixture[str]) -> dict[str, Any]:
    (line,) = map(json.loads, capsys.readouterr().out.splitlines())
    kept = {"status", "reason", "by", "phase", "detail", "endpoint", "attempts", "grpc_status"}
    return {key: value for key, value in line.items() if key in kept}


def layered(mesh: Mesh, *more: str) -> str:
    mesh.top |= {"access_log": "json", "drain": "100ms"}
    layers: list[Any] = [{"python": "a:Ends"}, *({"python": name} for name in more)]
    return str(mesh.listen(layers=layers))


Scene = Callable[[Caller, Ends], Awaitable[None]]


async def whole(caller: Caller, ends: Ends) -> None:
    assert (await caller.ask(request())).status == 200


async def own_answer(caller: Caller, ends: Ends) -> None:
    assert (await caller.ask(request("GET", "/", ("x-do", "answer")))).status == 403


async def own_fault(caller: Caller, ends: Ends) -> None:
    assert (await caller.ask(request("GET", "/", ("x-do", "raise")))).status == 500


async def fault_over_response(caller: Caller, ends: Ends) -> None:
    assert (await caller.ask(request("GET", "/raises"))).status == 500


async def own_replacement(caller: Caller, ends: Ends) -> None:
    assert (await caller.ask(request("GET", "/answers"))).status == 403


async def no_route(caller: Caller, ends: Ends) -> None:
    assert (await caller.ask(request("GET", "/none"))).status == 404


async def cut_short(caller: Caller, ends: Ends) -> None:
    call = await caller.begin(request("GET", "/cut"))
    with pytest.raises((ConnectionError, EOFError, ResetError, ValueError)):
        await call.whole()


async def left_while_asked(caller: Caller, ends: Ends) -> None:
    call = await caller.begin(request("GET", "/never"))
    await ends.began.wait()
    call.leave()


async def left_while_awaited(caller: Caller, ends: Ends) -> None:
    call = await caller.begin(request("GET", "/", ("x-do", "wait")))
    await ends.began.wait()
    call.leave()


async def grpc(caller: Caller, ends: Ends) -> None:
    assert (await caller.ask(request("POST", "/grpc", GRPC))).trailers["grpc-status"] == "5"


async def early(caller: Caller, ends: Ends) -> None:
    reply = await (await caller.begin(request("POST", "/early"), end=False)).whole()
    assert reply.body == b"enough"


SCENES: dict[Scene, tuple[str | None, str, str | None]] = {
    whole: (None, "endpoint", None),
    own_answer: ("layer_response", "proxy", "layers"),
    own_fault: ("layer_error", "proxy", "layers"),
    fault_over_response: ("layer_error", "proxy", "looking"),
    own_replacement: ("layer_response", "proxy", "looking"),
    no_route: ("no_route", "proxy", "layers"),
    cut_short: ("upstream_reset", "endpoint", "answering"),
    left_while_asked: ("client_gone", "client", "asked"),
    left_while_awaited: ("client_gone", "client", "layers"),
    grpc: (None, "endpoint", None),
    early: (None, "endpoint", None),
}


@pytest.mark.parametrize("scene", SCENES, ids=lambda scene: scene.__name__)
@every_way
def test_each_end_is_told_as_it_is_logged(
    run: Run,
    engine: str,
    client: str,
    endpoint: str,
    scene: Scene,
    capsys: pytest.CaptureFixture[str],
) -> None:
    ends: list[Ends] = []

    async def handle(turn: Turn) -> None:
        path = turn.fields[":path"]
        if path == "/never":
            ends[0].began.set()
            await turn.left()
        elif path == "/cut":
            await turn.begin()
            await turn.say(b"part")
            turn.reset()
        elif path == "/early":
            await turn.answer(b"enough")
            await turn.left()
        elif path == "/grpc":
            await turn.read()
            await turn.begin(GRPC)
            await turn.end(("grpc-status", "5"))
        else:
            do = {"/raises": "raise", "/answers": "answer"}.get(path, "nothing")
            await turn.answer(b"x", ("x-do", do))

    async def go() -> None:
        ends.append(Ends())
        async with hosting(endpoint, handle) as host:
            mesh = Mesh(engine, host.port).to(endpoint).via(retry="off")
            mesh.route["match"] = {"path": {"regex": "/(?:|raises|answers|never|cut|grpc|early)"}}
            text = layered(mesh)
            async with Proxy(load_text(text), layers={"a:Ends": ends[0]}) as proxy:
                async with calling(client, proxy) as caller:
                    await scene(caller, ends[0])
                    await eventually(lambda: bool(ends[0].ended))
                await idle(proxy)
                assert gauges(proxy) == {}

    run(go())
    ((path, outcome),) = ends[0].ended
    assert ends[0].seen == [path], "in the request's own context"
    assert said(outcome) == logged(capsys)
    assert (outcome.reason, outcome.by, outcome.phase) == SCENES[scene]
    assert 0 < outcome.seconds < 50
    if scene in (whole, grpc):
        assert (outcome.status, outcome.attempts) == (200, 1)
    assert scene is not early or outcome.detail == "request not sent whole"
    if scene is grpc:
        assert outcome.grpc_status == (5 if client == "h2" else None)


@CLIENTS
@pytest.mark.parametrize("where", ["layer", "answering"])
def test_the_end_of_a_drain_is_told_before_stop_returns(
    run: Run, engine: str, client: str, where: str, capsys: pytest.CaptureFixture[str]
) -> None:
    async def go() -> None:
        ends = Ends()

        async def handle(turn: Turn) -> None:
            await turn.begin()
            await turn.say(b"part")
            ends.began.set()
            await turn.left()

        async with hosting("http1", handle) as host:
            text = layered(Mesh(engine, host.port))
            async with (
                Proxy(load_text(text), layers={"a:Ends": ends}) as proxy,
                calling(client, proxy) as caller,
            ):
                fields = [("x-do", "wait")] if where == "layer" else []
                await caller.begin(request("GET", "/", *fields))
                await ends.began.wait()
                await proxy.stop()
                ((_, outcome),) = ends.ended
                assert outcome.reason == "draining"
                assert said(outcome) == logged(capsys)

    run(go())


def test_each_layer_is_told_once_whatever_the_others_do(
    run: Run, caplog: pytest.LogCaptureFixture
) -> None:
    """One that was never asked is not told; what one raises, or returns, is its own."""

    class Fails(Ends):
        def on_end(self, request: Request, outcome: Outcome) -> None:
            super().on_end(request, outcome)
            raise ValueError("at the end")

    class Cancels(Ends):
        def on_end(self, request: Request, outcome: Outcome) -> None:
            super().on_end(request, outcome)
            raise asyncio.CancelledError

    class Awaits(Ends):
        def on_end(self, request: Request, outcome: Outcome) -> Any:
            super().on_end(request, outcome)
            return self._wait()

    class Without(Layer):
        pass

    async def go() -> None:
        first, fails, cancels, awaits, last = Ends(), Fails(), Cancels(), Awaits(), Ends()
        layers: dict[str, Layer] = {
            "a:Ends": first, "a:Fails": fails, "a:Cancels": cancels,
            "a:Awaits": awaits, "a:Last": last, "a:Without": Without(),
        }  # fmt: skip
        mesh = Mesh("native", 9).listen()
        mesh.route = {"name": "all", "respond": {"body": "x"}}
        # The first stands in both lists: it is one layer.
        mesh.via(layers=[{"python": name} for name in ("a:Ends", "a:Last")])
        names = ("a:Fails", "a:Cancels", "a:Without", "a:Awaits")
        async with (
            Proxy(load_text(layered(mesh, *names)), layers=layers) as proxy,
            calling("http1", proxy) as caller,
        ):
            told = [first, fails, cancels, awaits, last]
            assert (await caller.ask(request())).status == 200
            await eventually(lambda: all(len(each.ended) == 1 for each in told))
            assert (await caller.ask(request("GET", "/", ("x-do", "answer")))).status == 403
            await eventually(lambda: len(first.ended) == 2)
            assert [len(each.ended) for each in told] == [2, 1, 1, 1, 1]

    with caplog.at_level(logging.ERROR, "meshcore.layers"):
        run(go())
    assert [record.message for record in caplog.records] == [
        "layer Fails failed at the end of a request",
        "layer Cancels failed at the end of a request",
        "layer Awaits: on_end is async, and is not awaited",
    ]


def test_one_that_is_async_is_refused_when_it_is_made() -> None:
    class Late(Layer):
        async def on_end(self, request: Request, outcome: Outcome) -> None: ...  # type: ignore[override]

    config = load_text(layered(Mesh("native", 9)))
    with pytest.raises(LayerError, match="python layer a:Ends: on_end is async: make it plain"):
        Proxy(config, layers={"a:Ends": Late()})


def test_what_ends_the_program_does(run: Run) -> None:
    class Exits(Layer):
        def on_end(self, request: Request, outcome: Outcome) -> None:
            raise SystemExit(3)

    async def go() -> None:
        mesh = Mesh("native", 9)
        mesh.route = {"name": "all", "respond": {"body": "x"}}
        async with (
            Proxy(load_text(layered(mesh)), layers={"a:Ends": Exits()}) as proxy,
            calling("http1", proxy) as caller,
        ):
            await caller.ask(request())
            await asyncio.Event().wait()

    with pytest.raises(SystemExit, match="3"):
        run(go())


def test_without_layers_that_ask_for_it_nothing_is_run(
    run: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Plain(Layer):
        pass

    def never(*_: object) -> None:
        raise AssertionError

    async def go() -> None:
        monkeypatch.setattr("meshcore.process.worker.Worker.emit_layer_ends", never)
        mesh = Mesh("native", 9)
        mesh.route = {"name": "all", "respond": {"body": "x"}}
        async with (
            Proxy(load_text(layered(mesh)), layers={"a:Ends": Plain()}) as proxy,
            calling("http1", proxy) as caller,
        ):
            assert (await caller.ask(request())).status == 200

    run(go())
