"""Layers that see bodies: in both protocols and both directions, piece by piece and in order."""

from __future__ import annotations

import asyncio
from collections import defaultdict
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager

import pytest

from meshcore import Layer, Outcome, Proxy, Request, Response
from meshcore.config.load import load_text
from tests.wire.blame import Turn, calling, every_endpoint, every_way, hosting
from tests.wire.conftest import Run, eventually, gauges
from tests.wire.either import Message, asking, request, response, service
from tests.wire.h2_mesh import Mesh
from tests.wire.h2_peer import Field

ALPHABET = bytes(range(97, 123)) * 40_000


class Loud(Layer):
    """Writes in capitals, and a word at the end; remembers what it got."""

    def __init__(self, *, waits: bool = False) -> None:
        self.waits = waits
        self.pieces: dict[str, list[tuple[bytes, bool]]] = defaultdict(list)
        self.outcomes: list[Outcome] = []

    def _made(self, way: str, piece: bytes, end: bool) -> bytes:
        self.pieces[way].append((piece, end))
        return piece.upper() + (f" {way}!".encode() if end else b"")

    async def _later(self, made: bytes) -> bytes:
        await asyncio.sleep(0)
        return made

    def on_request_body(self, request: Request, piece: bytes, end: bool):  # type: ignore[no-untyped-def]
        made = self._made("in", piece, end)
        return self._later(made) if self.waits else made

    def on_response_body(self, request: Request, response: Response, piece: bytes, end: bool):  # type: ignore[no-untyped-def]
        made = self._made("out", piece, end)
        return self._later(made) if self.waits else made

    def on_end(self, request: Request, outcome: Outcome) -> None:
        self.outcomes.append(outcome)

    def got(self, way: str) -> bytes:
        """All of it, whose end was said once and last."""
        pieces = self.pieces[way]
        assert [end for _, end in pieces] == [False] * (len(pieces) - 1) + [True]
        assert all(piece for piece, end in pieces if not end)
        return b"".join(piece for piece, _ in pieces)


@asynccontextmanager
async def layered(mesh: Mesh, *layers: Layer) -> AsyncIterator[Proxy]:
    """A proxy with these layers, from the listener inwards; on leaving it holds nothing."""
    names = {f"test:Layer{n}": layer for n, layer in enumerate(layers)}
    mesh.via(layers=[{"python": name} for name in names])
    async with Proxy(load_text(str(mesh)), layers=names) as proxy:
        yield proxy
    assert gauges(proxy) == {}


def echo(message: Message) -> Message:
    return response(message.body, ("content-length", str(len(message.body))))


@every_way
@pytest.mark.parametrize("waits", [False, True], ids=["plain", "async"])
@pytest.mark.parametrize("size", [11, 1_000_000])
@pytest.mark.parametrize("sized", [False, True], ids=["open", "length"])
def test_both_bodies_are_changed(
    run: Run, engine: str, client: str, endpoint: str, waits: bool, size: int, sized: bool
) -> None:
    async def go() -> None:
        body, loud = ALPHABET[:size], Loud(waits=waits)
        fields: list[Field] = [("content-length", str(size))] if sized else []
        async with (
            service(endpoint, echo) as origin,
            layered(Mesh(engine, origin.port).to(endpoint), loud) as proxy,
            asking(client, proxy.addresses["edge"]) as ask,
        ):
            for _ in range(2):
                loud.pieces.clear()
                answer = await ask(request("PUT", "/", *fields, body=body))
                assert loud.got("in") == body
                asked = origin.asked[-1]
                assert asked.body == body.upper() + b" in!"
                assert "content-length" not in asked.fields
                assert loud.got("out") == asked.body
                assert answer.body == asked.body.upper() + b" out!"
                assert "content-length" not in answer.fields
        assert {outcome.reason for outcome in loud.outcomes} == {None}
        assert origin.connections == 1

    run(go())


@every_way
def test_ten_megabytes_pass_through_two_layers(
    run: Run, engine: str, client: str, endpoint: str
) -> None:
    """The listener's sees the request first, and the response last."""

    class Mark(Layer):
        def __init__(self, mark: bytes) -> None:
            self.mark = mark

        async def on_request_body(self, request: Request, piece: bytes, end: bool) -> bytes | None:
            return piece + self.mark if end else None

        def on_response_body(
            self, request: Request, response: Response, piece: bytes, end: bool
        ) -> bytes | None:
            return piece + self.mark if end else None

    async def go() -> None:
        body = ALPHABET * 10
        async with (
            service(endpoint, echo) as origin,
            layered(Mesh(engine, origin.port).to(endpoint), Mark(b"1"), Mark(b"2")) as proxy,
            asking(client, proxy.addresses["edge"]) as ask,
        ):
            answer = await ask(request("POST", body=body))
            assert answer.body == body + b"1221"

    run(go())


@every_way
def test_what_has_no_body_is_not_shown(run: Run, engine: str, client: str, endpoint: str) -> None:
    async def go() -> None:
        loud = Loud()
        told = {
            "/head": response(b"", ("content-length", "5")),
            "/204": response(status=204),
            "/304": response(b"", ("content-length", "5"), status=304),
            "/none": response(b"", ("content-length", "0")),
        }
        async with (
            service(endpoint, lambda asked: told[asked.fields[":path"]]) as origin,
            layered(Mesh(engine, origin.port).to(endpoint), loud) as proxy,
            asking(client, proxy.addresses["edge"]) as ask,
        ):
            for path in told:
                answer = await ask(request("HEAD" if path == "/head" else "GET", path))
                assert answer.fields.get("content-length", "0") == "0", path
                assert answer.body == b""
            assert loud.pieces == {}
            assert all("transfer-encoding" not in asked.fields for asked in origin.asked)

    run(go())


def test_answers_of_the_proxy_are_not_shown(run: Run, engine: str) -> None:
    async def go() -> None:
        loud = Loud()
        mesh = Mesh(engine, 1).via(respond={"status": 200, "body": "as it is"})
        mesh.beside("rest", upstream=mesh.route.pop("upstream"))
        async with layered(mesh, loud) as proxy, asking("http1", proxy.addresses["edge"]) as ask:
            answer = await ask(request("POST", body=b"hello"))
            assert answer.body == b"as it is"
            assert loud.pieces == {}

    run(go())


@every_way
def test_a_layer_that_keeps_the_length_leaves_it(
    run: Run, engine: str, client: str, endpoint: str
) -> None:
    class Same(Loud):
        keeps_length = True

        def _made(self, way: str, piece: bytes, end: bool) -> bytes:
            super()._made(way, piece, end)
            return piece.upper()

    async def go() -> None:
        body, same = ALPHABET[:300_000], Same()
        async with (
            service(endpoint, echo) as origin,
            layered(Mesh(engine, origin.port).to(endpoint), same) as proxy,
            asking(client, proxy.addresses["edge"]) as ask,
        ):
            answer = await ask(request("POST", "/", ("content-length", "300000"), body=body))
            assert origin.asked[0].fields["content-length"] == "300000"
            assert answer.fields["content-length"] == "300000"
            assert (answer.body, same.got("in"), same.got("out")) == (
                body.upper(), body, body.upper(),
            )  # fmt: skip

    run(go())


@every_way
def test_a_layer_may_swallow_all(run: Run, engine: str, client: str, endpoint: str) -> None:
    class Nothing(Layer):
        async def on_request_body(self, request: Request, piece: bytes, end: bool) -> bytes:
            return b""

        def on_response_body(
            self, request: Request, response: Response, piece: bytes, end: bool
        ) -> bytes:
            return b""

    async def go() -> None:
        async with (
            service(endpoint, lambda asked: response(b"long" * 1_000)) as origin,
            layered(Mesh(engine, origin.port).to(endpoint), Nothing()) as proxy,
            asking(client, proxy.addresses["edge"]) as ask,
        ):
            for _ in range(2):
                answer = await ask(request("PUT", body=ALPHABET))
                assert (answer.status, answer.body) == (200, b"")
                assert origin.asked[-1].body == b""
            assert origin.connections == 1

    run(go())


def test_a_client_of_http_1_0_reads_to_the_end(run: Run, engine: str) -> None:
    async def go() -> None:
        async with (
            service("http1", echo) as origin,
            layered(Mesh(engine, origin.port), Loud()) as proxy,
        ):
            url = proxy.addresses["edge"].rpartition("//")[2].split(":")
            reader, writer = await asyncio.open_connection(url[0], int(url[1]))
            writer.write(b"POST / HTTP/1.0\r\ncontent-length: 2\r\n\r\nhi")
            head, _, body = (await reader.read()).partition(b"\r\n\r\n")
            assert body == b"HI IN! out!"
            assert b"content-length" not in head
            assert b"transfer-encoding" not in head
            writer.close()

    run(go())


class Waits(Layer):
    """Holds every piece of one direction until it may go on."""

    def __init__(self, way: str) -> None:
        self.way = way
        self.sizes: list[int] = []
        self.may_pass = asyncio.Event()
        self.reached = asyncio.Event()
        self.cancelled = False

    async def _hold(self, way: str, piece: bytes) -> None:
        if way != self.way:
            return
        self.sizes.append(len(piece))
        self.reached.set()
        try:
            await self.may_pass.wait()
        except asyncio.CancelledError:
            self.cancelled = True
            raise

    async def on_request_body(self, request: Request, piece: bytes, end: bool) -> None:
        await self._hold("in", piece)

    async def on_response_body(
        self, request: Request, response: Response, piece: bytes, end: bool
    ) -> None:
        await self._hold("out", piece)


async def stalls(sent: Callable[[], int]) -> int:
    """What was sent once nothing more is taken."""
    last = -1
    while sent() != last:
        last = sent()
        await asyncio.sleep(0.2)
    return last


@every_way
@pytest.mark.parametrize("way", ["in", "out"])
def test_a_sender_waits_for_a_hook(
    run: Run, engine: str, client: str, endpoint: str, way: str
) -> None:
    """Sockets and windows hold some megabytes at most; then it stalls, and all comes in the end."""
    size, piece = 40_000_000, bytes(100_000)
    sent = 0

    async def pour(say: Callable[[bytes], object]) -> None:
        nonlocal sent
        while sent < size:
            await say(piece)  # type: ignore[misc]  # whichever it is, it waits
            sent += len(piece)

    async def answer(turn: Turn) -> None:
        if way == "out":
            await turn.begin()
            await pour(turn.say)
            await turn.end()
        else:
            got = await turn.read()
            await turn.answer(str(len(got)).encode())

    async def go() -> None:
        waits = Waits(way)
        async with (
            hosting(endpoint, answer) as host,
            layered(Mesh(engine, host.port).to(endpoint).via(timeout="30s"), waits) as proxy,
            calling(client, proxy) as caller,
        ):
            call = await caller.begin(
                request("POST", body=b"x" if way == "out" else b""), end=way == "out"
            )
            upload = asyncio.ensure_future(asyncio.sleep(0))
            if way == "in":
                upload = asyncio.ensure_future(pour(call.send))
            await waits.reached.wait()
            assert await stalls(lambda: sent) < size // 2
            assert len(waits.sizes) == 1
            waits.may_pass.set()
            if way == "in":
                await upload
                await call.send(b"", end=True)
                assert (await call.whole()).body == str(size).encode()
            else:
                assert len((await call.whole()).body) == size
            assert sum(waits.sizes) == size
            assert max(waits.sizes) <= 2_000_000

    run(go())


@every_endpoint
@pytest.mark.parametrize("way", ["in", "out"])
@pytest.mark.parametrize("client", ["http1", "h2"])
def test_a_client_that_leaves_cancels_a_hook(
    run: Run, engine: str, client: str, endpoint: str, way: str
) -> None:
    async def answer(turn: Turn) -> None:
        if way == "out":
            await turn.answer(b"hello")
        await turn.left()

    async def go() -> None:
        waits = Waits(way)
        async with (
            hosting(endpoint, answer) as host,
            layered(Mesh(engine, host.port).to(endpoint), waits) as proxy,
            calling(client, proxy) as caller,
        ):
            call = await caller.begin(request("POST", body=b"hello"))
            await waits.reached.wait()
            call.leave()
            await eventually(lambda: waits.cancelled)

    run(go())
