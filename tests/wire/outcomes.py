"""One request through a proxy, in each protocol, and all that must be told of its end.

A `Row` says what the client and the endpoint do and what is told; `check` runs it. The endpoint
speaks HTTP/1.1 to clients of HTTP/1.1, and HTTP/2 to the others.
"""

from __future__ import annotations

import asyncio
import json
import re
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from dataclasses import dataclass, field
from typing import Any

import pytest
from h2.settings import SettingCodes

from meshcore import Answer, Layer, Proxy, Request, Response
from meshcore._core import now_ns
from meshcore.config.load import load_text
from meshcore.exchange.exchange import Exchange
from tests.wire.conftest import Run, eventually, gauges, metric
from tests.wire.h2_mesh import Mesh
from tests.wire.h2_origin import Call, H2Origin
from tests.wire.origin import Origin, Visit
from tests.wire.outcomes_client import BEGUN, Asker, Got, asking

ALL = ("h1", "h2", "grpc")
PATH = "/it"
SETTINGS = {SettingCodes.ENABLE_CONNECT_PROTOCOL: 1}
# What a local answer may say in HTTP; nothing of the detail is among it.
FIELDS = {
    "allow",
    "connection",
    "content-length",
    "content-type",
    "date",
    "ratelimit-limit",
    "ratelimit-remaining",
    "ratelimit-reset",
    "retry-after",
    "server",
    "x-mesh-reason",
}


@dataclass
class Place:
    """The endpoint's side of a request whose head came."""

    bench: Bench
    path: str
    side: Visit | Call

    async def begin(self) -> None:
        """Answer with a head and some of the body."""
        if isinstance(self.side, Visit):
            head = b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n%x\r\n%b\r\n"
            await self.side.send(head % (len(BEGUN), BEGUN))
        else:
            self.side.send_head((":status", "200"), *self._type())
            await self.side.send(BEGUN)

    async def answer(self, *fields: tuple[str, str], status: int = 200) -> None:
        """Answer with a whole response without a body."""
        if isinstance(self.side, Visit):
            lines = "".join(f"{name}: {value}\r\n" for name, value in fields)
            await self.side.send(
                f"HTTP/1.1 {status} x\r\ncontent-length: 0\r\n{lines}\r\n".encode()
            )
        else:
            await self.side.answer(b"", *self._type(), *fields, status=status)

    def _type(self) -> tuple[tuple[str, str], ...]:
        return (("content-type", "application/grpc"),) if self.bench.speaks == "grpc" else ()

    def cut(self) -> None:
        """End the connection with a reset."""
        writer = self.side.writer if isinstance(self.side, Visit) else self.side.visit.writer
        writer.transport.abort()

    async def hold(self) -> None:
        """Say nothing more, until the proxy gives it up."""
        if isinstance(self.side, Visit):
            await self.side.reader.read()
        else:
            await self.side.reset()


Service = Callable[[Place], Awaitable[None]]


class Probe(Layer):
    """Does with a request and its response what the row says."""

    def __init__(self, asked: str = "", answered: str = "") -> None:
        self._asked, self._answered = asked, answered
        self.at_work = asyncio.Event()

    async def on_request(self, request: Request) -> Answer | None:
        if self._asked == "answer":
            return Answer(418, [("x-from", "layer")], b"tea")
        await self._do(self._asked)
        return None

    async def on_response(self, request: Request, response: Response) -> None:
        await self._do(self._answered)

    async def _do(self, what: str) -> None:
        if what == "raise":
            raise ValueError("as asked")
        if what == "wait":
            self.at_work.set()
            await asyncio.Event().wait()


@dataclass
class Bench:
    """A proxy, an endpoint and a client for one request."""

    speaks: str
    mesh: Mesh
    probe: Probe
    patch: pytest.MonkeyPatch
    proxy: Proxy = field(init=False)
    client: Asker = field(init=False)
    port: int = 0
    asked: asyncio.Event = field(default_factory=asyncio.Event)
    """The endpoint has the request."""
    seen: asyncio.Event = field(default_factory=asyncio.Event)
    """The client has a part of the response."""
    got: Got | None = None

    def _side(self) -> tuple[Any, Exchange | None]:
        """The client's side of the request, as the proxy sees it."""
        worker = self.proxy._worker
        assert worker is not None
        for connection in list(worker.listeners["edge"]._connections):
            for side in list(getattr(connection, "streams", {0: connection}).values()):
                exchange = getattr(side, "exchange", None) or getattr(side, "_exchange", None)
                if exchange is not None and exchange.request.path == PATH:
                    return side, exchange
        return None, None

    def later(self, seconds: float) -> None:
        """So much time has passed for the request."""
        self._side()[0].on_deadline(now_ns() + int(seconds * 1e9))

    def is_choked(self) -> bool:
        """Whether its endpoint is not read."""
        exchange = self._side()[1]
        return exchange is not None and exchange.endpoint_pauses > 0

    def another(self) -> AbstractAsyncContextManager[Asker]:
        """Another client."""
        return asking(self.speaks, self.proxy)

    async def ask(self, *fields: tuple[str, str], **how: Any) -> None:
        """Ask, and take the whole answer."""
        await self.client.ask(PATH, *fields, **how)
        self.got = await self.client.got()


async def fine(place: Place) -> None:
    """Answer."""
    await place.answer(*(("grpc-status", "0"),) * (place.bench.speaks == "grpc"))


async def simply(bench: Bench) -> None:
    """Ask, and take what comes."""
    await bench.ask()


@dataclass(frozen=True)
class Row:
    """How a request ends, and what is told of it."""

    name: str
    reason: str
    """In the log; empty where the endpoint's answer was passed on."""
    end: str
    """`answer`, `cut` or `passed`; `refused`: there was never a request."""
    by: str
    phase: str
    status: int
    """Of the answer, or what was out of one when it was cut; 0: nothing."""
    grpc: int | None = None
    """What a gRPC client is told."""
    detail: str = ""
    """A regular expression for all of it."""
    attempts: int = 1
    """0: no endpoint was asked."""
    header: bool = True
    """Whether `x-mesh-reason` says why: not where the configuration or a layer answers."""
    mesh: Callable[[Bench], None] = lambda bench: None
    service: Service = fine
    client: Callable[[Bench], Awaitable[None]] = simply
    protocols: tuple[str, ...] = ALL
    probe: tuple[str, str] | None = None
    settings: dict[SettingCodes, int] = field(default_factory=dict)

    def tells(self) -> dict[str, Any]:
        """What does not depend on the protocol."""
        return {"status": self.status, "reason": self.reason, "by": self.by, "phase": self.phase}


def each(rows: list[Row]) -> list[Any]:
    """The rows in their protocols, for `parametrize`."""
    pairs = [(row, speaks) for row in rows for speaks in row.protocols]
    return [pytest.param(row, speaks, id=f"{row.name}-{speaks}") for row, speaks in pairs]


@asynccontextmanager
async def serving(bench: Bench, row: Row) -> AsyncIterator[None]:
    """The endpoint and the proxy."""

    async def visited(visit: Visit) -> None:
        while True:
            path = (await visit.head()).split()[1].decode()
            await placed(Place(bench, path, visit))

    async def called(call: Call) -> None:
        await placed(Place(bench, call.fields.get(":path", ""), call))

    async def placed(place: Place) -> None:
        bench.asked.set()
        await row.service(place)

    settings = SETTINGS | row.settings
    async with (
        Origin(visited) if bench.speaks == "h1" else H2Origin(called, settings=settings) as origin
    ):
        bench.port = origin.port
        bench.mesh.upstream["endpoints"] = [f"127.0.0.1:{bench.port}"]
        row.mesh(bench)
        layers = {"a:Probe": bench.probe} if row.probe is not None else {}
        async with Proxy(load_text(str(bench.mesh)), layers=layers) as proxy:
            bench.proxy = proxy
            yield
        assert gauges(proxy) == {}


def made(speaks: str, row: Row, patch: pytest.MonkeyPatch) -> Bench:
    """What the row begins with: one endpoint, no second attempt, a log."""
    mesh = Mesh("native").to("http1" if speaks == "h1" else "h2").via(retry="off")
    mesh.top["access_log"] = "json"
    if row.probe is not None:
        mesh.via(layers=[{"python": "a:Probe"}])
    # What is stale is told from a reset by time: of that there shall be enough.
    patch.setattr("meshcore.upstream.socket_state.STALE_NS", 10**10)
    return Bench(speaks, mesh, Probe(*(row.probe or ())), patch)


def check(
    run: Run,
    capsys: pytest.CaptureFixture[str],
    patch: pytest.MonkeyPatch,
    row: Row,
    speaks: str,
) -> None:
    """The client's answer, the metric and the log's line of a row."""

    async def go() -> None:
        bench = made(speaks, row, patch)
        async with serving(bench, row), asking(speaks, bench.proxy) as bench.client:
            await row.client(bench)
            if row.end in ("answer", "refused"):
                check_answer(bench.got, row, speaks)
            elif row.end == "cut" and bench.got is not None:
                check_ending(bench.got, row)
            await eventually(lambda: counted(bench.proxy, row) == counts(row))
        lines = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
        if row.end == "refused":
            (line,) = (line for line in lines if "head_bytes" in line)
            seen = line["reason"], line["by"], line["status"], line["phase"], line["client"]
            assert seen == (row.reason, row.by, row.status, "head", "127.0.0.1")
            assert line["detail"]
            assert line["method"]
        else:
            (line,) = (line for line in lines if line["target"] in (PATH, ""))
            check_line(line, bench, row)

    run(go())


def counted(proxy: Proxy, row: Row) -> tuple[int, int]:
    """Answers and cuts for the reason of a row; where there is none, for any."""
    labels = {"reason": row.reason} if row.reason else {}
    by = {"by": row.by} if row.reason else {}
    return (
        metric(proxy, "meshcore_local_answers_total", **labels),
        metric(proxy, "meshcore_requests_cut_total", **labels, **by),
    )


def counts(row: Row) -> tuple[int, int]:
    """What is expected of them."""
    return (int(row.end in ("answer", "refused")), int(row.end == "cut"))


def check_answer(got: Got | None, row: Row, speaks: str) -> None:
    """The status and the reason, and nothing beside them."""
    assert got is not None
    if speaks == "grpc" and row.end == "answer":
        assert (got.status, got.grpc) == (200, str(row.grpc))
    else:
        assert (got.status, got.grpc) == (row.status, None)
    assert got.fields.get("x-mesh-reason") == (row.reason if row.header else None)
    if not row.header:
        return
    words = row.reason.replace("_", " ")
    if got.grpc is not None:
        assert set(got.fields) <= FIELDS | {":status", "grpc-status", "grpc-message"}
        assert (got.fields["grpc-message"], got.body) == (words, b"")
        return
    assert set(got.fields) <= FIELDS | {":status"}
    if row.status == 200:
        assert got.body == b""
        return
    body = {"title": words, "status": row.status, "reason": row.reason}
    assert json.loads(got.body) == body


def check_ending(got: Got, row: Row) -> None:
    """A call that had begun ends with a status, behind what had come of it."""
    assert (got.status, got.body, got.grpc) == (200, BEGUN, str(row.grpc))
    assert got.fields["grpc-message"] == row.reason.replace("_", " ")


def check_line(line: dict[str, Any], bench: Bench, row: Row) -> None:
    """What the log tells."""
    assert {key: line[key] for key in row.tells()} == row.tells()
    assert line.get("grpc_status") == (row.grpc if bench.speaks == "grpc" else None)
    assert re.fullmatch(row.detail, line["detail"]), line["detail"]
    assert line["client"] == "127.0.0.1"
    assert line["attempts"] == row.attempts
    (endpoint,) = bench.mesh.upstream["endpoints"]
    assert line["endpoint"] == (endpoint if row.attempts else "")
