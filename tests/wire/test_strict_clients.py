"""Clients on the package `h2` take nothing behind a GOAWAY (https://github.com/python-hyper/h2/issues/1181):
a drain breaks none of their requests for that."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from types import TracebackType
from typing import Self

import pytest
from h2 import events
from h2.connection import H2Connection

from tests.wire.conftest import Certificates, Run, Serve, eventually
from tests.wire.h2_client import connect
from tests.wire.h2_origin import Call, H2Origin
from tests.wire.origin import Origin, response
from tests.wire.test_drain import mixed, never, stopping


class StrictClient:
    """As httpx does it: each read is given to the package as it came, and only a client that waits
    for a response reads."""

    def __init__(self, url: str, tls: object = None) -> None:
        self._url, self._tls = url, tls
        self._h2 = H2Connection()
        self.statuses: dict[int, int] = {}
        self.whole: set[int] = set()
        self.last: int | None = None  # stream of GOAWAY, when that came

    async def __aenter__(self) -> Self:
        self._reader, self._writer = await connect(self._url, self._tls)  # type: ignore[arg-type]
        self._h2.initiate_connection()
        self._write()
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._writer.close()

    def ask(self, path: str = "/", *, method: str = "GET", end: bool = True) -> int:
        number = self._h2.get_next_available_stream_id()
        head = [(":method", method), (":scheme", "http" if self._tls is None else "https")]
        head += [(":authority", "a.test"), (":path", path)]
        self._h2.send_headers(number, head, end_stream=end)
        self._write()
        return number

    def send(self, number: int, data: bytes, *, end: bool) -> None:
        self._h2.send_data(number, data, end_stream=end)
        self._write()

    async def until(self, met: Callable[[], bool]) -> None:
        async with asyncio.timeout(30):
            while not met():
                data = await self._reader.read(65536)
                if not data:
                    raise ConnectionResetError("the proxy left")
                self._take(data)

    async def answer(self, number: int) -> int:
        """The status of a whole response. Raises `RuntimeError` if the connection ends before."""

        def met() -> bool:
            if number not in self.whole and self.last is not None:
                raise RuntimeError(f"GOAWAY {self.last} before the response to {number}")
            return number in self.whole

        await self.until(met)
        return self.statuses[number]

    async def ended(self) -> None:
        """Read to the end of the connection."""
        async with asyncio.timeout(30):
            while data := await self._reader.read(65536):
                self._take(data)

    def _take(self, data: bytes) -> None:
        for event in self._h2.receive_data(data):  # raises for all that is behind a GOAWAY
            match event:
                case events.ResponseReceived(stream_id=number, headers=fields):
                    self.statuses[number] = int(dict(fields)[b":status"])
                case events.DataReceived(stream_id=number, flow_controlled_length=size):
                    self._h2.acknowledge_received_data(size, number)
                case events.StreamEnded(stream_id=number):
                    self.whole.add(number)
                case events.ConnectionTerminated(last_stream_id=last):
                    self.last = last
        self._write()

    def _write(self) -> None:
        self._writer.write(self._h2.data_to_send())


@pytest.mark.parametrize("secure", [False, True], ids=["plain", "tls"])
def test_requests_in_flight_are_answered_before_the_goaway(
    run: Run, serve: Serve, engine: str, secure: bool, certificates: Certificates
) -> None:
    release = [asyncio.Event(), asyncio.Event()]

    async def held(call: Call) -> None:
        call.send_head((":status", "200"))
        await call.send(b"begun ")
        await release[call.number > 1].wait()
        await call.send(b"done", end=True)

    async def go() -> None:
        async with H2Origin(held) as origin:
            text = mixed(engine, origin.port).to("h2")
            if secure:
                text.listen(tls=certificates.listener)
            tls = certificates.client("h2") if secure else None
            async with (
                serve(str(text)) as proxy,
                StrictClient(proxy.addresses["edge"], tls) as client,
            ):
                first, second = client.ask(), client.ask()
                await origin.reached(2)
                async with stopping(proxy) as since:
                    # Beyond every wait for a sign of life: what it opens no more, it need not hear.
                    await client.until(lambda: len(client.statuses) == 2)
                    await asyncio.sleep(1.3)
                    release[0].set()
                    assert await client.answer(first) == 200
                    assert client.last is None
                    release[1].set()
                    assert await client.answer(second) == 200
                    await client.ended()
                    assert client.last == second
                    assert since() < 10

    run(go())


def test_a_request_under_way_ends_as_it_was_sent(run: Run, serve: Serve, engine: str) -> None:
    async def go() -> None:
        async with (
            Origin(response(b"hi")) as origin,
            serve(str(mixed(engine, origin.port))) as proxy,
            StrictClient(proxy.addresses["edge"]) as client,
        ):
            number = client.ask(method="POST", end=False)
            client.send(number, b"half ", end=False)
            await origin.reached.wait()
            async with stopping(proxy):
                client.send(number, b"done", end=True)
                assert await client.answer(number) == 200
                await client.ended()
                assert client.last == number

    run(go())


def test_an_idle_client_that_does_not_read_may_ask_or_knows_that_it_was_not_asked(
    run: Run, serve: Serve, engine: str
) -> None:
    async def go() -> None:
        async with (
            Origin(response(b"hi")) as origin,
            serve(str(mixed(engine, origin.port))) as proxy,
            StrictClient(proxy.addresses["edge"]) as asks,
            StrictClient(proxy.addresses["edge"]) as late,
        ):
            for client in (asks, late):
                assert await client.answer(client.ask()) == 200
            async with stopping(proxy):
                await asyncio.sleep(0.2)
                assert await asks.answer(asks.ask()) == 200
                await eventually(lambda: proxy.connections == 0)
            unheard = late.ask()
            with pytest.raises(RuntimeError):
                await late.answer(unheard)
            assert late.last is not None
            assert late.last < unheard  # so it may be sent again (RFC 9113 §8.7)

    run(go())


def test_who_asks_on_and_on_is_told_at_a_quiet_moment(run: Run, serve: Serve, engine: str) -> None:
    async def go() -> None:
        async with (
            Origin(response(b"hi")) as origin,
            serve(str(mixed(engine, origin.port))) as proxy,
            StrictClient(proxy.addresses["edge"]) as client,
        ):
            assert await client.answer(client.ask()) == 200
            async with stopping(proxy):
                while client.last is None:
                    assert await client.answer(client.ask()) == 200
                await client.ended()

    run(go())


def test_the_end_of_the_drain_is_an_answer(run: Run, serve: Serve, engine: str) -> None:
    async def go() -> None:
        async with (
            H2Origin(never) as origin,
            serve(str(mixed(engine, origin.port, drain="200ms").to("h2"))) as proxy,
            StrictClient(proxy.addresses["edge"]) as client,
        ):
            number = client.ask()
            await origin.reached(1)
            async with stopping(proxy):
                await origin.calls[0].reset()  # it is over, and the client read nothing yet
                assert await client.answer(number) == 503
                await client.ended()
                assert client.last == number

    run(go())
