"""Names of fields as clients wrote them, where an upstream wants them so."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import pytest

from meshcore import Layer, Proxy, Request
from meshcore.config.load import load_text
from tests.wire.client import Client
from tests.wire.conftest import Run, Serve
from tests.wire.either import asking, request, response, service
from tests.wire.h2_mesh import Mesh
from tests.wire.origin import Origin, Visit
from tests.wire.origin import response as raw

WRITTEN = (
    b"GET / HTTP/1.1\r\nHOST: a.test\r\nX-Dup: 1\r\naccept: X-Dup\r\nx-DUP: 2\r\nUSER-agent:t\r\n"
)
# What we add, in the order in which we do.
MADE = [
    "via",
    "x-forwarded-for",
    "x-forwarded-proto",
    "x-forwarded-host",
    "x-request-id",
]


def names(head: bytes) -> list[str]:
    """Of a head or of trailers, in their order."""
    lines = head.decode().split("\r\n")
    return [line.partition(":")[0] for line in lines if ":" in line.partition(" ")[0]]


def cased(*ports: int, **keys: Any) -> Mesh:
    return Mesh("native", *ports).to(**({"preserve_case": "on"} | keys))


@asynccontextmanager
async def asked(text: Mesh, layers: dict[str, Layer] | None = None) -> AsyncIterator[Client]:
    async with (
        Proxy(load_text(str(text)), layers=layers or {}) as proxy,
        Client(proxy.addresses["edge"]) as client,
    ):
        yield client


def origin() -> Origin:
    return Origin(raw(b"hi"))


# --- what goes out ------------------------------------------------------------------------------


@pytest.mark.parametrize("cut", [False, True], ids=["whole", "byte by byte"])
@pytest.mark.parametrize(
    ("on", "expected"),
    [
        (True, ["Host", "X-Dup", "accept", "x-DUP", "USER-agent"]),
        (False, ["host", "x-dup", "accept", "x-dup", "user-agent"]),
    ],
)
def test_names_go_out_as_they_came(run: Run, on: bool, expected: list[str], cut: bool) -> None:
    async def go() -> None:
        async with origin() as end, asked(cased(end.port, preserve_case=on)) as client:
            for _ in range(2):
                data = WRITTEN + b"\r\n"
                for piece in [bytes([b]) for b in data] if cut else [data]:
                    await client.send(piece)
                    if cut:
                        await asyncio.sleep(0)
                assert (await client.reply()).body == b"hi"
        heads = end.seen.split(b"\r\n\r\n")[:-1]
        assert [names(head) for head in heads] == [expected + MADE] * 2
        assert b"accept: X-Dup\r\n" in heads[0]
        assert b"\r\nUSER-agent: t\r\n" in heads[0] or not on

    run(go())


def test_what_belongs_to_the_codec_has_one_spelling(run: Run) -> None:
    async def go() -> None:
        async with origin() as end, asked(cased(end.port)) as client:
            head = b"POST / HTTP/1.1\r\nHoSt: A.test\r\nCONTENT-Length: 2\r\nTe: trailers\r\n"
            await client.send(head + b"CoNNection: te, x\r\nX: 1\r\n\r\nab")
            assert (await client.reply()).body == b"hi"
        head = end.seen.partition(b"\r\n\r\n")[0]
        assert b"\r\nHost: a.test\r\n" in head
        assert b"\r\nContent-Length: 2\r\nTE: trailers\r\nConnection: te\r\n" in head
        assert names(head) == ["Host", "Content-Length", "TE", "Connection", *MADE]

    run(go())


async def one_spelling(visit: Visit) -> None:
    """An endpoint that knows `Content-Length` and `Expect` alone; a name in another case is nothing
    to it."""
    while True:
        head = await visit.head()
        fields = dict(line.split(": ", 1) for line in head.decode().split("\r\n")[1:] if line)
        if "Expect" in fields:
            await visit.send(b"HTTP/1.1 100 Continue\r\n\r\n")
        body = await visit.body(int(fields.get("Content-Length", 0)))
        await visit.send(raw(head.partition(b" HTTP")[0] + b" " + body))


HIDDEN = b"GET /hidden HTTP/1.1\r\nHost: a\r\nX: "


def test_a_client_cannot_hide_a_body_from_its_endpoint(run: Run) -> None:
    async def go() -> None:
        async with Origin(one_spelling) as end, asked(cased(end.port)) as client:
            for _ in range(3):  # so that its connection is trusted to stay open
                assert (await client.get("/first")).body == b"GET /first "
            head = f"POST / HTTP/1.1\r\nHost: a\r\ncOntent-length: {len(HIDDEN)}\r\n\r\n"
            await client.send(head.encode() + HIDDEN)
            assert (await client.reply()).body == b"POST / " + HIDDEN
            assert (await client.get("/next")).body == b"GET /next "
            assert b"GET /next" in end.visits[0].seen

    run(go())


def test_nor_over_http2(run: Run, serve: Serve) -> None:
    async def go() -> None:
        async with (
            Origin(one_spelling) as end,
            serve(str(cased(end.port))) as proxy,
            asking("h2", proxy.addresses["edge"]) as ask,
        ):
            sent = request("POST", "/", ("content-length", str(len(HIDDEN))), body=HIDDEN)
            assert (await ask(sent)).body == b"POST / " + HIDDEN
            assert (await ask(request("GET", "/next"))).body == b"GET /next "

    run(go())


def test_an_expectation_is_understood(run: Run) -> None:
    async def go() -> None:
        async with Origin(one_spelling) as end, asked(cased(end.port)) as client:
            head = b"POST / HTTP/1.1\r\nHost: a\r\nEXPECT: 100-continue\r\n"
            await client.send(head + b"content-length: 2\r\n\r\n")
            assert (await client.head()).status == 100
            await client.send(b"ab")
            assert (await client.reply()).body == b"POST / ab"

    run(go())


@pytest.mark.parametrize("at_once", [True, False], ids=["in one read", "later"])
@pytest.mark.parametrize("on", [True, False])
def test_chunks_and_trailers(run: Run, on: bool, at_once: bool) -> None:
    seen: list[bytes] = []

    async def main() -> None:
        begun = asyncio.Event()

        async def handler(visit: Visit) -> None:
            seen.append(await visit.head())
            begun.set()
            seen.append(await visit.reader.readuntil(b"\r\n\r\n"))
            await visit.send(raw(b"hi"))

        async with Origin(handler) as end, asked(cased(end.port, preserve_case=on)) as client:
            head = b"POST / HTTP/1.1\r\nHost: a\r\nTransfer-ENCODING: chunked\r\n\r\n2\r\nab\r\n"
            rest = b"0\r\nX-Sum: 1\r\nx-REMOVED: 1\r\nX-SUM: 2\r\n\r\n"
            await client.send(head + rest if at_once else head)
            if not at_once:
                await asyncio.wait_for(begun.wait(), 5)
                await client.send(rest)
            assert (await client.reply()).body == b"hi"
        assert (b"\r\nTransfer-Encoding: chunked\r\n" in seen[0]) is on
        expected = ["X-Sum", "x-REMOVED", "X-SUM"]
        assert names(seen[1]) == (expected if on else [name.lower() for name in expected])

    run(main())


def test_an_upgrade(run: Run) -> None:
    async def go() -> None:
        async def handler(visit: Visit) -> None:
            await visit.head()
            agreed = b"HTTP/1.1 101 x\r\nupgrade: websocket\r\nconnection: upgrade\r\n\r\nhello"
            await visit.send(agreed)
            await visit.reader.read()

        mesh = Mesh("native").via(upgrade=["websocket"])
        async with (
            Origin(handler) as end,
            asked(mesh.to(preserve_case="on", endpoints=[f"127.0.0.1:{end.port}"])) as client,
        ):
            head = b"GET / HTTP/1.1\r\nHost: a\r\nUPGRADE: WebSocket\r\nConnection: Upgrade\r\n"
            await client.send(head + b"Sec-WebSocket-Key: x\r\n\r\n")
            assert (await client.head()).status == 101
            assert await client.reader.readexactly(5) == b"hello"
        assert b"\r\nUpgrade: websocket\r\nConnection: upgrade\r\n" in end.seen
        assert names(end.seen)[:4] == ["Host", "Sec-WebSocket-Key", "Upgrade", "Connection"]

    run(go())


# --- what others do to it -----------------------------------------------------------------------


def test_what_a_route_sets_and_adds_is_called_as_we_write_it(run: Run) -> None:
    async def go() -> None:
        changes = {"set": {"X-Set": "ours"}, "remove": ["X-Gone"], "add": {"X-Add": "ours"}}
        async with origin() as end, asked(cased(end.port).via(request_headers=changes)) as client:
            fields = ["X-SET: theirs", "X-GONE: 1", "X-ADD: theirs", "X_Set: 1", "X-Kept: 1"]
            assert (await client.get("/", *fields)).body == b"hi"
        head = end.seen
        assert names(head) == ["Host", "X-ADD", "X-Kept", *MADE, "x-set", "x-add"]
        assert b"theirs" in head
        assert b"\r\nx-set: ours\r\nx-add: ours\r\n" in head

    run(go())


def test_what_nobody_may_say_is_called_as_we_write_it(run: Run) -> None:
    async def go() -> None:
        async with origin() as end, asked(cased(end.port)) as client:
            fields = ["X-Forwarded-For: 1.1.1.1", "X-FORWARDED-HOST: b", "X-Request-ID: a b"]
            await client.get("/", *fields, "VIA: 1.1 other", "Connection: X-Hop", "X-Hop: 1")
        assert names(end.seen) == ["Host", "VIA", *MADE]

    run(go())


class Copies(Layer):
    """Copies fields, replaces one, adds one and takes one out."""

    def __init__(self) -> None:
        self.seen: list[str] = []

    def on_request(self, request: Request) -> None:
        fields = request.headers()
        self.seen = [name for name, _ in fields]
        for name, value in fields:
            if name == "x-source":
                request.set_header("X-Copy", value)
        request.set_header("X-REPLACED", "ours")
        request.add_header("X-Dup", "ours")
        request.remove_header("X-Gone")


def test_layers_see_lower_case_and_change_what_they_name(run: Run) -> None:
    layer = Copies()

    async def go() -> None:
        async with origin() as end:
            text = cased(end.port).via(layers=[{"python": "a:Copies"}])
            async with asked(text, {"a:Copies": layer}) as client:
                fields = ["X-Source: 1", "X-Replaced: 1", "X-DUP: theirs", "X-GONE: 1", "X-Last: 1"]
                assert (await client.get("/", *fields)).body == b"hi"
        kept = ["Host", "X-Source", "X-DUP", "X-Last", "x-copy", "x-replaced", "x-dup"]
        assert names(end.seen) == kept + MADE

    run(go())
    assert layer.seen == ["host", "x-source", "x-replaced", "x-dup", "x-gone", "x-last"]


@pytest.mark.parametrize("method", ["GET", "PUT"])
def test_every_attempt_says_the_same(run: Run, method: str) -> None:
    heads: list[bytes] = []

    async def main() -> None:
        async def handler(visit: Visit) -> None:
            heads.append(await visit.head())
            await visit.body(2)
            if len(heads) > 1:
                await visit.send(raw(b"hi"))

        async with Origin(handler) as one, asked(cased(one.port, ejection="off")) as client:
            head = f"{method} / HTTP/1.1\r\nHost: a\r\nX-Case: 1\r\nContent-Length: 2\r\n\r\nab"
            await client.send(head.encode())
            assert (await client.reply()).body == b"hi"
        assert len(heads) == 2
        assert heads[0] == heads[1]
        assert names(heads[0])[:3] == ["Host", "X-Case", "Content-Length"]

    run(main())


# --- other ways ---------------------------------------------------------------------------------


async def whole(visit: Visit) -> None:
    """Reads requests with their chunks, and answers them."""
    while True:
        head = await visit.head()
        if b"hunked\r\n" in head:
            visit.seen += await visit.reader.readuntil(b"\r\n\r\n")
        await visit.send(raw(b"hi"))


def test_only_the_upstream_that_wants_it(run: Run, serve: Serve) -> None:
    async def go() -> None:
        async with Origin(whole) as one, Origin(whole) as other:
            text = f"""
                version: 1
                listeners: {{edge: {{bind: 127.0.0.1:0}}}}
                routes:
                  - {{name: one, match: {{path: {{prefix: /one}}}}, upstream: one}}
                  - {{name: other, upstream: other}}
                upstreams:
                  one: {{endpoints: ["127.0.0.1:{one.port}"], preserve_case: on}}
                  other: {{endpoints: ["127.0.0.1:{other.port}"]}}
                """
            async with serve(text) as proxy, Client(proxy.addresses["edge"]) as client:
                for path in ("/one", "/other", "/one"):
                    head = f"POST {path} HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n"
                    await client.send(head.encode() + b"0\r\nX-End: 1\r\n\r\n")
                    assert (await client.reply()).body == b"hi"
        for field in (b"\r\nHost: a", b"\r\nTransfer-Encoding: chunked", b"\r\nX-End: 1"):
            assert one.seen.count(field) == 2
            assert other.seen.count(field.lower()) == 1

    run(go())


def test_http2_has_lower_case_on_either_side(run: Run, serve: Serve, engine: str) -> None:
    async def go() -> None:
        async with origin() as end:
            mesh = Mesh(engine, end.port).to(preserve_case="on")
            async with serve(str(mesh)) as proxy, asking("h2", proxy.addresses["edge"]) as ask:
                assert (await ask(request("GET", "/", ("x-case", "1")))).body == b"hi"
            assert names(end.seen) == ["Host", "x-case", *MADE]
        async with service("h2", lambda _: response(b"hi")) as h2, origin() as end:
            mesh = Mesh(engine, h2.port).to("h2")
            text = str(mesh).replace(
                '"upstreams": {',
                f'"upstreams": {{"b": {{"endpoints": ["127.0.0.1:{end.port}"], '
                '"preserve_case": "on"}, ',
            )
            async with serve(text) as proxy, Client(proxy.addresses["edge"]) as client:
                assert (await client.get("/", "X-Case: 1")).body == b"hi"
            assert "x-case" in h2.asked[0].fields

    run(go())


def test_http_1_0(run: Run) -> None:
    async def go() -> None:
        async with origin() as end, asked(cased(end.port)) as client:
            await client.send(b"GET / HTTP/1.0\r\nX-Case: 1\r\nHost: a\r\n\r\n")
            assert (await client.reply()).status == 200
        assert names(end.seen)[:2] == ["Host", "X-Case"]

    run(go())


def test_a_change_reaches_new_connections(run: Run, serve: Serve) -> None:
    async def go() -> None:
        async with origin() as end:
            mesh = Mesh("native", end.port)
            async with serve(str(mesh)) as proxy, Client(proxy.addresses["edge"]) as before:
                found = []
                for on in ("off", "on", "off"):
                    await proxy.reload(load_text(str(mesh.to(preserve_case=on))))
                    async with Client(proxy.addresses["edge"]) as client:
                        for each in (before, client):
                            await each.get("/", "X-Case: 1")
                            found.append("X-Case" in names(end.visits[-1].seen))
            assert found == [False, False, False, True, False, False]

    run(go())
