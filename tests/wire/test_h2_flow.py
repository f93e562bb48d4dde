"""Windows and buffers: who is slow waits alone, and costs a bounded amount of memory."""

from __future__ import annotations

import asyncio
import os
import socket
from contextlib import AsyncExitStack
from pathlib import Path

import pytest
from h2.settings import SettingCodes

from tests.wire.client import Client
from tests.wire.conftest import Run, Serve
from tests.wire.h2_client import H2Client
from tests.wire.h2_mesh import Mesh
from tests.wire.h2_origin import Call, H2Origin
from tests.wire.h2_peer import LARGEST_WINDOW, Stream
from tests.wire.origin import Origin, Visit

PIECE = b"x" * 65_536
WHOLE = 10 << 20
LARGER = 2 << 20  # than all windows of a stream


def resident() -> int:
    """Bytes of memory that this process has: proxy, client and origin."""
    return int(Path("/proc/self/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")


class Tap:
    """An endpoint, in either protocol, that gives as much as it is let and counts it."""

    def __init__(self, whole: int = WHOLE) -> None:
        self._whole = whole
        self.given = 0
        self.asked = 0

    async def h2(self, call: Call) -> None:
        if call.path == "/small":
            return await call.answer(b"small")
        self.asked += 1
        call.send_head((":status", "200"))
        for _ in range(self._whole // len(PIECE)):
            await call.send(PIECE)
            self.given += len(PIECE)
        await call.send(b"", end=True)

    async def h1(self, visit: Visit) -> None:
        # What the kernel holds is not the proxy's: let it be little.
        sock = visit.writer.get_extra_info("socket")
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, len(PIECE))
        visit.writer.transport.set_write_buffer_limits(high=len(PIECE))
        while True:
            if b" /small " in await visit.head():
                await visit.send(b"HTTP/1.1 200 OK\r\ncontent-length: 5\r\n\r\nsmall")
                continue
            self.asked += 1
            await visit.send(b"HTTP/1.1 200 OK\r\ncontent-length: %d\r\n\r\n" % self._whole)
            for _ in range(self._whole // len(PIECE)):
                await visit.send(PIECE)
                self.given += len(PIECE)

    def origin(self, protocol: str) -> Origin | H2Origin:
        return H2Origin(self.h2) if protocol == "h2" else Origin(self.h1)

    async def settled(self, asked: int) -> int:
        """What was given once no more is taken."""
        before, same = -1, 0
        while same < 10 or self.asked < asked:
            same = same + 1 if before == self.given else 0
            before = self.given
            await asyncio.sleep(0.02)
        return self.given


@pytest.fixture(params=["http1", "h2"])
def protocol(request: pytest.FixtureRequest) -> str:
    """What the endpoint speaks."""
    return str(request.param)


@pytest.mark.parametrize("deaf", [False, True], ids=["no-window", "no-reading"])
def test_a_client_that_takes_nothing_costs_little_and_its_neighbour_nothing(
    run: Run, serve: Serve, engine: str, protocol: str, deaf: bool
) -> None:
    """CVE-2019-9511, CVE-2019-9517: 100 streams of 10 MiB each, which would be 1 GiB."""

    async def go() -> None:
        tap = Tap()
        window = LARGEST_WINDOW if deaf else 1
        settings = {SettingCodes.INITIAL_WINDOW_SIZE: window}
        async with (
            tap.origin(protocol) as origin,
            serve(str(Mesh(engine, origin.port).to(protocol))) as proxy,
            H2Client(proxy.addresses["edge"], credit=False, settings=settings) as client,
            H2Client(proxy.addresses["edge"]) as neighbour,
        ):
            assert (await neighbour.get("/small")).body == b"small"
            await client.until(lambda: client.settled)
            if deaf:
                client.h2.increment_flow_control_window(LARGEST_WINDOW - 65_535)
                client.fall_silent()
            before = resident()
            for _ in range(100):
                client.ask("/large")
            given = await tap.settled(100)
            # 4 MiB of the connection; of each stream a read of the loop's or a window, both
            # 256 KiB; and what the kernel holds of the connections to the endpoint.
            assert given < (100 << 20 if protocol == "http1" else 48 << 20)
            assert resident() - before < 64 << 20
            async with asyncio.timeout(5):
                assert (await neighbour.get("/small")).body == b"small"

    run(go())


@pytest.mark.parametrize("slow", [1, 3, 8])
def test_a_slow_stream_does_not_stall_its_neighbours(
    run: Run, serve: Serve, engine: str, protocol: str, slow: int
) -> None:
    async def go() -> None:
        tap = Tap(LARGER)
        async with (
            tap.origin(protocol) as origin,
            serve(str(Mesh(engine, origin.port).to(protocol))) as proxy,
            H2Client(proxy.addresses["edge"]) as client,
        ):
            waiting = []
            for _ in range(slow):
                waiting.append(client.ask("/large"))
                waiting[-1].credit = False
            await tap.settled(slow)
            async with asyncio.timeout(5):
                assert (await client.get("/small")).body == b"small"
                assert len((await client.get("/large")).body) == LARGER
            # Whoever was slow gets all of it in the end.
            for stream in waiting:
                give(client, stream)
            for stream in waiting:
                assert len(await stream.whole()) == LARGER

    run(go())


def give(client: H2Client, stream: Stream) -> None:
    """Open the window that was withheld."""
    stream.credit = True
    client.h2.increment_flow_control_window(len(stream.body) or 1, stream.number)
    client.flush()


@pytest.mark.parametrize("clients", [3, 8])
def test_slow_clients_do_not_stall_others_of_their_endpoint(
    run: Run, serve: Serve, engine: str, clients: int
) -> None:
    """Clients that know nothing of each other share a connection to the endpoint."""

    async def go() -> None:
        tap = Tap(LARGER)
        async with (
            tap.origin("h2") as origin,
            serve(str(Mesh(engine, origin.port).to("h2"))) as proxy,
            Client(proxy.addresses["edge"]) as neighbour,
            AsyncExitStack() as leaving,
        ):
            for _ in range(clients):
                client = H2Client(proxy.addresses["edge"], credit=False)
                (await leaving.enter_async_context(client)).ask("/large")
            await tap.settled(clients)
            async with asyncio.timeout(5):
                assert (await neighbour.get("/small")).body == b"small"

    run(go())


@pytest.mark.parametrize("slow", [1, 3, 8])
def test_an_upload_that_nobody_takes_does_not_stall_its_neighbours(
    run: Run, serve: Serve, engine: str, protocol: str, slow: int
) -> None:
    release = asyncio.Event()

    async def h1(visit: Visit) -> None:
        while True:
            if b" /slow " in await visit.head():
                await release.wait()
            await visit.body(1 << 20)
            await visit.send(b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok")

    async def h2(call: Call) -> None:
        if call.path == "/slow":
            call.credit = False
            await release.wait()
            give_back = len(call.body)
            call.credit = True
            call.visit.h2.increment_flow_control_window(give_back, call.number)
            call.visit.flush()
        await call.whole()
        await call.answer(b"ok")

    async def go() -> None:
        origin = H2Origin(h2) if protocol == "h2" else Origin(h1)
        body = b"y" * (1 << 20)
        length = ("content-length", str(len(body)))
        async with (
            origin,
            serve(str(Mesh(engine, origin.port).to(protocol))) as proxy,
            H2Client(proxy.addresses["edge"]) as client,
        ):
            stalled = [asyncio.create_task(client.post("/slow", body, length)) for _ in range(slow)]
            async with asyncio.timeout(5):
                for _ in range(2):
                    assert (await client.post("/fast", body, length)).body == b"ok"
            release.set()
            for task in stalled:
                assert (await task).body == b"ok"

    run(go())


def test_a_window_of_one_byte_is_filled_and_a_padded_one_too(
    run: Run, serve: Serve, engine: str
) -> None:
    async def echo(call: Call) -> None:
        await call.answer(await call.whole())

    async def go() -> None:
        settings = {SettingCodes.INITIAL_WINDOW_SIZE: 1}
        async with (
            H2Origin(echo) as origin,
            serve(str(Mesh(engine, origin.port).to("h2"))) as proxy,
            H2Client(proxy.addresses["edge"], settings=settings) as client,
        ):
            stream = client.ask("/", method="POST", end=False)
            for _ in range(300):
                await stream.send(b"abc", pad=200)
            await stream.send(b"", end=True)
            assert await stream.whole() == b"abc" * 300

    run(go())


def test_a_window_that_shrinks_below_what_was_sent_is_waited_for(
    run: Run, serve: Serve, engine: str
) -> None:
    async def go() -> None:
        tap = Tap(1 << 20)
        async with (
            tap.origin("h2") as origin,
            serve(str(Mesh(engine, origin.port).to("h2"))) as proxy,
            H2Client(proxy.addresses["edge"]) as client,
        ):
            stream = client.ask("/large")
            stream.credit = False
            await stream.until(lambda: len(stream.body) == 65_535)
            client.h2.update_settings({SettingCodes.INITIAL_WINDOW_SIZE: 100})
            client.flush()
            assert (await client.get("/small")).body == b"small"
            give(client, stream)
            assert len(await stream.whole()) == 1 << 20

    run(go())
