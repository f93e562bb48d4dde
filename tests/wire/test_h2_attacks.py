"""Frames that only cost: each flood has its end, its name in the metrics, and no victims."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager
from dataclasses import dataclass

import hpack
import pytest
from hyperframe.frame import (
    ContinuationFrame,
    DataFrame,
    Frame,
    HeadersFrame,
    PingFrame,
    PriorityFrame,
    RstStreamFrame,
    SettingsFrame,
    WindowUpdateFrame,
)

from meshcore import Proxy
from tests.wire.conftest import Run, Serve, eventually, metric
from tests.wire.h2_client import H2Client, RawClient, frame
from tests.wire.h2_mesh import Mesh
from tests.wire.h2_origin import Call, H2Origin

PROTOCOL_ERROR, FLOW_CONTROL_ERROR, STREAM_CLOSED, REFUSED, CALM = 1, 3, 5, 7, 11
# The largest number of requests that an attacker may cost the endpoint: streams at one time, and
# the resets that are given at once; and those that each second brings.
BOUND, A_SECOND = 400, 100


@dataclass
class Scene:
    """A proxy with an endpoint, an attacker, and somebody else."""

    proxy: Proxy
    origin: H2Origin
    raw: RawClient
    began: float
    """Before its connection."""
    served: int = 0

    def asked(self) -> int:
        """What the attacker cost the endpoint."""
        return sum(call.path != "/neighbour" for call in self.origin.calls)

    def ended(self, reason: str = "") -> int:
        """How many connections were ended for this, or at all."""
        labels = {"reason": reason} if reason else {}
        return metric(self.proxy, "meshcore_listener_h2_ended_total", **labels)

    async def calmed(self, reason: str = "") -> None:
        """The attacker is told, counted and gone."""
        assert await self.raw.ended() in (CALM, None)
        assert self.ended(reason) == 1
        assert self.asked() <= BOUND + A_SECOND * (time.monotonic() - self.began)


class Scenes:
    """Makes scenes."""

    def __init__(self, serve: Serve, engine: str) -> None:
        self._serve = serve
        self._engine = engine

    @asynccontextmanager
    async def begin(self, settings: dict[int, int] | None = None) -> AsyncIterator[Scene]:
        """While it lasts a neighbour on another connection is served, within half a minute each
        time: attacker, proxy and endpoint have one loop, and the machine has other work."""

        async def answer(call: Call) -> None:
            await call.whole()
            await call.answer(b"hi")

        async def go_on(scene: Scene, neighbour: H2Client) -> None:
            while True:
                async with asyncio.timeout(30):
                    assert (await neighbour.get("/neighbour")).body == b"hi"
                scene.served += 1

        began = time.monotonic()
        async with (
            H2Origin(answer) as origin,
            self._serve(str(Mesh(self._engine, origin.port).to("h2"))) as proxy,
            H2Client(proxy.addresses["edge"]) as neighbour,
            RawClient(proxy.addresses["edge"], settings) as raw,
        ):
            scene = Scene(proxy, origin, raw, began)
            going = asyncio.create_task(go_on(scene, neighbour))
            await eventually(lambda: scene.served > 0)
            served = scene.served
            yield scene
            await eventually(lambda: scene.served > served or going.done())
            assert not going.done(), going.exception()
            going.cancel()
            await asyncio.gather(going, return_exceptions=True)


@pytest.fixture
def scenes(serve: Serve, engine: str) -> Scenes:
    return Scenes(serve, engine)


async def flood(raw: RawClient, frames: list[Frame | bytes], at_once: int) -> None:
    """Write so many frames at a time, and let the proxy read, until it has enough."""
    for at in range(0, len(frames), at_once):
        if raw.lost:
            return
        await raw.send(*frames[at : at + at_once])
        await asyncio.sleep(0)


def heads(count: int, *, end: bool = True) -> Iterator[tuple[int, bytes]]:
    """Of so many requests, each with its stream."""
    made = RawClient("")
    for stream in range(1, 2 * count, 2):
        yield stream, made.head(stream, end=end).serialize()


AT_ONCE = pytest.mark.parametrize("at_once", [100_000, 20], ids=["one-read", "many-reads"])


# --- resets -----------------------------------------------------------------------------------


@AT_ONCE
def test_rapid_resets(run: Run, scenes: Scenes, at_once: int) -> None:
    """CVE-2023-44487."""

    # Made before there is anybody: the neighbour would else wait for this process.
    frames: list[Frame | bytes] = []
    for stream, head in heads(10_000):
        frames += [head, RstStreamFrame(stream, 8).serialize()]

    async def go() -> None:
        async with scenes.begin() as scene:
            await flood(scene.raw, frames, at_once)
            await scene.calmed("rapid_reset")

    run(go())


def test_a_client_that_cancels_all_it_has_is_no_attacker(run: Run, scenes: Scenes) -> None:
    async def go() -> None:
        async with scenes.begin() as scene:
            raw = scene.raw
            streams = range(1, 201, 2)
            await raw.send(*(raw.head(n, end=False) for n in streams))
            await eventually(lambda: scene.asked() == 100)
            await raw.send(*(RstStreamFrame(n, 8) for n in streams))
            await raw.send(raw.head(201))
            assert await raw.status(201) == 200
            assert scene.ended("rapid_reset") == 0

    run(go())


def window_of_nothing(raw: RawClient, stream: int) -> list[Frame | bytes]:
    return [raw.head(stream, end=False), frame(8, stream, bytes(4))]


def too_much_window(raw: RawClient, stream: int) -> list[Frame | bytes]:
    return [raw.head(stream, end=False), *[WindowUpdateFrame(stream, 2**31 - 1)] * 2]


def data_behind_the_end(raw: RawClient, stream: int) -> list[Frame | bytes]:
    return [raw.head(stream), DataFrame(stream, b"more")]


def depends_on_itself(raw: RawClient, stream: int) -> list[Frame | bytes]:
    return [raw.head(stream, end=False), PriorityFrame(stream, depends_on=stream)]


def more_than_declared(raw: RawClient, stream: int) -> list[Frame | bytes]:
    return [raw.head(stream, ("content-length", "1"), end=False), DataFrame(stream, b"more")]


def trailers_without_end(raw: RawClient, stream: int) -> list[Frame | bytes]:
    return [raw.head(stream, end=False), raw.only(stream, ("x", "y"), end=False)]


def malformed(raw: RawClient, stream: int) -> list[Frame | bytes]:
    return [raw.head(stream, ("connection", "close"))]


@pytest.mark.parametrize(
    "illegal",
    [
        window_of_nothing,
        too_much_window,
        data_behind_the_end,
        depends_on_itself,
        more_than_declared,
        trailers_without_end,
        malformed,
    ],
)
def test_resets_that_illegal_frames_provoke(
    run: Run, scenes: Scenes, illegal: Callable[[RawClient, int], list[Frame | bytes]]
) -> None:
    """CVE-2025-8671: what the client does not reset itself it makes us reset."""

    async def go() -> None:
        async with scenes.begin() as scene:
            raw = scene.raw
            for stream in range(1, 4_001, 2):
                if raw.lost:
                    break
                await raw.send(*illegal(raw, stream))
                await asyncio.sleep(0)
            # As one may judge the frame: an error of the connection at once, or of each stream,
            # and of the connection when there are too many.
            code = await raw.ended()
            assert scene.asked() <= BOUND
            if code not in (PROTOCOL_ERROR, FLOW_CONTROL_ERROR, STREAM_CLOSED):
                await scene.calmed()

    run(go())


# --- heads ------------------------------------------------------------------------------------


@pytest.mark.parametrize("size", [0, 4, 16_384])
@AT_ONCE
def test_a_head_that_goes_on_and_on(run: Run, scenes: Scenes, size: int, at_once: int) -> None:
    """CVE-2024-27316, CVE-2024-27919, CVE-2023-45288: CONTINUATION without an end."""

    async def go() -> None:
        async with scenes.begin() as scene:
            raw = scene.raw
            head = HeadersFrame(1, raw.block())  # without END_HEADERS
            fields = b"\x00\x01x\x00" * (size // 4)  # `x` without a value, and so on
            more = ContinuationFrame(1, fields)
            await flood(raw, [head, *[more] * (100_000 if size < 5 else 100)], at_once)
            await scene.calmed("field_block_flood" if size < 5 else "")
            assert scene.asked() == 0

    run(go())


def pieces(block: bytes, stream: int) -> list[Frame]:
    """A head in as many frames as it takes."""
    parts = [block[at : at + 16_384] for at in range(0, len(block), 16_384)]
    frames: list[Frame] = [HeadersFrame(stream, parts[0], flags=["END_STREAM"])]
    frames += [ContinuationFrame(stream, part) for part in parts[1:]]
    frames[-1].flags.add("END_HEADERS")
    return frames


def one_large(raw: RawClient) -> bytes:
    return raw.block() + raw.block((("x-large", "a~" * 40_000),))


def many_tiny(raw: RawClient) -> bytes:
    return raw.block() + raw.block(tuple((f"x{n % 7}", "") for n in range(1_500)))


@pytest.mark.parametrize("block", [one_large, many_tiny])
def test_a_head_that_is_too_large_is_refused(
    run: Run, scenes: Scenes, block: Callable[[RawClient], bytes]
) -> None:
    async def go() -> None:
        async with scenes.begin() as scene:
            raw = scene.raw
            await raw.send(*pieces(block(raw), 1))
            assert await raw.status(1) == 431
            assert scene.asked() == 0
            # It was one request that asked too much: the connection goes on.
            await raw.send(raw.head(3))
            assert await raw.status(3) == 200

    run(go())


def bomb(raw: RawClient) -> bytes:
    """An entry of the table, 4,000 bytes long, and 4,000 times a byte that means it."""
    large = hpack.Encoder().encode([("x-bomb", "~" * 4_000)], huffman=False)
    return raw.block() + large + b"\xbe" * 4_000


def test_what_is_decoded_counts_and_not_what_is_sent(run: Run, scenes: Scenes) -> None:
    """CVE-2016-6581: 16 MB of fields in 8 KB; again and again, if it is let."""

    async def go() -> None:
        async with scenes.begin() as scene:
            raw = scene.raw
            for stream in range(1, 2_001, 2):
                if raw.lost:
                    break
                await raw.send(*pieces(bomb(raw), stream))
                await asyncio.sleep(0)
            await scene.calmed()
            assert scene.asked() == 0

    run(go())


# --- frames that carry nothing ----------------------------------------------------------------

CHEAP: dict[str, tuple[Callable[[], Frame | bytes], str]] = {
    "ping": (lambda: PingFrame(0, b"12345678"), "control_flood"),
    "settings": (lambda: SettingsFrame(0), "control_flood"),
    "table-size": (lambda: SettingsFrame(0, settings={1: 0}), "control_flood"),
    "empty-data": (lambda: DataFrame(1, b""), "empty_frames"),
    "padding": (lambda: DataFrame(1, b"", pad_length=8, flags=["PADDED"]), "empty_frames"),
    "window-update": (lambda: WindowUpdateFrame(0, 1), "window_update_flood"),
    "stream-window": (lambda: WindowUpdateFrame(1, 1), "window_update_flood"),
    "priority": (lambda: PriorityFrame(1, depends_on=0), "priority_flood"),
    "priority-update": (lambda: frame(0x10, 0, b"\0\0\0\x01u=1"), "priority_flood"),
    "unknown": (lambda: frame(0xEE, 0, b"what"), "unknown_frames"),
    "unknown-of-stream": (lambda: frame(0xEE, 1), "unknown_frames"),
}


@pytest.mark.parametrize("kind", CHEAP)
@AT_ONCE
def test_frames_that_carry_nothing(run: Run, scenes: Scenes, kind: str, at_once: int) -> None:
    """CVE-2019-9512, 9513, 9515, 9518; ten thousand of a kind, on a stream that is open."""

    async def go() -> None:
        async with scenes.begin() as scene:
            raw = scene.raw
            await raw.send(raw.head(1, (":method", "POST"), end=False))
            await eventually(lambda: scene.asked() == 1)
            make, reason = CHEAP[kind]
            await flood(raw, [make() for _ in range(10_000)], at_once)
            await scene.calmed(reason)

    run(go())


@pytest.mark.parametrize("kind", CHEAP)
def test_a_few_of_them_are_no_attack(run: Run, scenes: Scenes, kind: str) -> None:
    """docs/configuration.md: 1000 at once."""

    async def go() -> None:
        async with scenes.begin() as scene:
            raw = scene.raw
            await raw.send(raw.head(1, (":method", "POST"), end=False))
            make, _ = CHEAP[kind]
            await flood(raw, [make() for _ in range(500)], 50)
            await raw.send(DataFrame(1, b"", flags=["END_STREAM"]))
            assert await raw.status(1) == 200
            assert scene.ended() == 0

    run(go())


@pytest.mark.parametrize("kind", ["ping", "settings"])
def test_answers_are_not_collected_for_a_client_that_takes_none(
    run: Run, scenes: Scenes, kind: str
) -> None:
    async def go() -> None:
        async with scenes.begin() as scene:
            raw = scene.raw
            raw.fall_silent()
            make, reason = CHEAP[kind]
            await flood(raw, [make() for _ in range(10_000)], 500)
            await eventually(lambda: scene.ended(reason) == 1)

    run(go())


def test_a_body_of_single_bytes_is_slow_and_whole(run: Run, scenes: Scenes) -> None:
    async def go() -> None:
        async with scenes.begin() as scene:
            raw = scene.raw
            await raw.send(raw.head(1, (":method", "POST"), end=False))
            await flood(raw, [DataFrame(1, b"x")] * 50_000, 1_000)
            await raw.send(DataFrame(1, b"", flags=["END_STREAM"]))
            assert await raw.status(1) == 200
            call = next(x for x in scene.origin.calls if x.path == "/")
            assert len(call.body) == 50_000

    run(go())


def test_more_streams_than_there_may_be_are_refused(run: Run, scenes: Scenes) -> None:
    async def go() -> None:
        async with scenes.begin() as scene:
            raw = scene.raw
            await raw.send(*(raw.head(n, end=False) for n in range(1, 231, 2)))
            refused = await raw.until(RstStreamFrame, 201)
            assert refused.error_code == REFUSED
            await eventually(lambda: scene.asked() == 100)
            await raw.send(DataFrame(1, b"", flags=["END_STREAM"]))
            assert await raw.status(1) == 200

    run(go())


def test_who_goes_on_opening_refused_streams_is_ended(run: Run, scenes: Scenes) -> None:
    frames: list[Frame | bytes] = [head for _stream, head in heads(10_000, end=False)]

    async def go() -> None:
        async with scenes.begin() as scene:
            raw = scene.raw
            await flood(raw, frames, 50)
            await scene.calmed()
            assert scene.asked() == 100

    run(go())
