"""What is torn looks torn, and tears nothing else: whole responses before it are the client's."""

from __future__ import annotations

import asyncio
import socket
import ssl
from typing import Any

import pytest

from meshcore import Answer, Layer, Proxy, Request
from tests.wire.conftest import Certificates, Run, Serve, eventually, metric
from tests.wire.h2_mesh import Mesh
from tests.wire.origin import Origin, Visit, response
from tests.wire.test_drain import stopping
from tests.wire.test_lingering import narrow

# More than a narrow client's kernel takes, so that most of it waits in the proxy.
WHOLE = b"w" * 240_000
# More than the kernels of both sides hold.
HUGE = 12_000_000
RESET, EOF = "reset", "eof"


def get(path: str, version: str = "1.1", *fields: str) -> bytes:
    return "\r\n".join([f"GET {path} HTTP/{version}", "host: a.test", *fields, "", ""]).encode()


KEPT = "connection: keep-alive"
PIPELINED = {
    "1.1": get("/whole") + get("/torn"),
    "1.0": get("/whole", "1.0", KEPT) + get("/torn", "1.0", KEPT),  # its end is the connection's
}


def mesh(port: int, idle: str = "5s", **listener: Any) -> str:
    text = Mesh("native", port).listen(timeouts={"idle": idle}, **listener)
    text.listener["protocols"] = {"h2": "off"}
    text.top["drain"] = "5s"
    return str(text)


class Torn:
    """Answers `/whole` with all of it, and any other request with a head and some of the body; then
    cuts the connection when it may."""

    def __init__(self) -> None:
        self.begun = asyncio.Event()
        self.go_on = asyncio.Event()

    async def __call__(self, visit: Visit) -> None:
        while (await visit.head()).startswith(b"GET /whole"):
            await visit.send(response(WHOLE))
        await visit.send(b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n9\r\nabc")
        self.begun.set()
        await self.go_on.wait()
        visit.writer.transport.abort()


class Huge(Layer):
    """Answers at once."""

    def on_request(self, request: Request) -> Answer:
        return Answer(200, body=b"x" * HUGE)


def dial(proxy: Proxy, trusting: ssl.SSLContext | None) -> socket.socket:
    """A narrow client, over TLS if it trusts somebody."""
    sock = narrow(proxy.addresses["edge"])
    if trusting is None:
        return sock
    return trusting.wrap_socket(sock, server_hostname="edge.test", suppress_ragged_eofs=False)


def read(sock: socket.socket) -> tuple[bytes, str]:
    """All that the client gets, and how it ends."""
    got = b""
    try:
        while data := sock.recv(16_384):
            got += data
    except (ConnectionError, ssl.SSLEOFError):  # over TLS: without close_notify
        return got, RESET
    return got, EOF


def split(got: bytes) -> tuple[int, bytes]:
    """How much of the whole response came, and what behind it."""
    body = got.partition(b"\r\n\r\n")[2]
    return len(body[: len(WHOLE)]), body[len(WHOLE) :]


def cuts(proxy: Proxy) -> int:
    return metric(proxy, "meshcore_requests_cut_total")


def answered(proxy: Proxy) -> int:
    return metric(proxy, "meshcore_route_responses_total")


def drains(proxy: Proxy) -> bool:
    assert proxy._worker is not None
    return proxy._worker.listeners["edge"].draining


@pytest.mark.parametrize("secure", [False, True], ids=["plain", "secure"])
@pytest.mark.parametrize("version", PIPELINED)
def test_a_cut_tears_no_response_before_it(
    run: Run, serve: Serve, certificates: Certificates, version: str, secure: bool
) -> None:
    tls: dict[str, Any] = {"tls": certificates.listener} if secure else {}
    trusting = certificates.client("http/1.1") if secure else None

    async def main() -> None:
        torn = Torn()
        async with Origin(torn) as origin, serve(mesh(origin.port, **tls)) as proxy:
            with await asyncio.to_thread(dial, proxy, trusting) as sock:
                sock.sendall(PIPELINED[version])
                await torn.begun.wait()
                torn.go_on.set()
                await eventually(lambda: cuts(proxy) == 1)
                got, end = await asyncio.to_thread(read, sock)
                assert split(got)[0] == len(WHOLE)
                assert end == RESET

    run(main())


def test_a_client_that_takes_nothing_of_it_is_cut_in_time(run: Run, serve: Serve) -> None:
    async def main() -> None:
        torn = Torn()
        async with Origin(torn) as origin, serve(mesh(origin.port, idle="300ms")) as proxy:
            with narrow(proxy.addresses["edge"]) as sock:
                sock.sendall(PIPELINED["1.1"])
                await torn.begun.wait()
                torn.go_on.set()
                await eventually(lambda: cuts(proxy) == 1)
                await eventually(lambda: proxy.connections == 0, 2.0)
                got, end = await asyncio.to_thread(read, sock)
                assert split(got)[0] < len(WHOLE)
                assert end == RESET

    run(main())


@pytest.mark.parametrize("version", PIPELINED)
def test_a_response_that_its_client_leaves_looks_torn(run: Run, serve: Serve, version: str) -> None:
    """A client that shuts its half has left, and may still look at what comes."""

    async def main() -> None:
        torn = Torn()
        async with Origin(torn) as origin, serve(mesh(origin.port)) as proxy:
            with narrow(proxy.addresses["edge"]) as sock:
                sock.sendall(PIPELINED[version])
                await torn.begun.wait()
                sock.shutdown(socket.SHUT_WR)
                await eventually(lambda: cuts(proxy) == 1)
                got, end = await asyncio.to_thread(read, sock)
                assert split(got)[0] == len(WHOLE)
                assert end == RESET
                torn.go_on.set()

    run(main())


@pytest.mark.parametrize("version", ["1.0", "1.1"])
def test_a_client_that_stalls_at_the_end_sees_the_tear(
    run: Run, serve: Serve, version: str
) -> None:
    """All of it is written, and logged so; what the client has after its time is not all."""

    async def main() -> None:
        local = Mesh("native", 1).listen(timeouts={"idle": "300ms"})
        local.via(layers=[{"python": "tests.wire.test_torn:Huge"}])
        async with serve(str(local)) as proxy:
            with narrow(proxy.addresses["edge"]) as sock:
                sock.sendall(get("/", version))
                await eventually(lambda: metric(proxy, "meshcore_local_answers_total") == 1)
                await eventually(lambda: proxy.connections == 0, 5.0)
                got, end = await asyncio.to_thread(read, sock)
                assert len(got) < HUGE
                assert end == RESET

    run(main())


# --- a request that was on its way ------------------------------------------------------------


@pytest.mark.parametrize("secure", [False, True], ids=["plain", "secure"])
def test_a_request_on_its_way_does_not_tear_the_last_response_of_a_drain(
    run: Run, serve: Serve, certificates: Certificates, secure: bool
) -> None:
    tls: dict[str, Any] = {"tls": certificates.listener} if secure else {}
    trusting = certificates.client("http/1.1") if secure else None

    async def main() -> None:
        go_on, asked = asyncio.Event(), asyncio.Event()

        async def late(visit: Visit) -> None:
            await visit.head()
            asked.set()
            await go_on.wait()
            await visit.send(response(WHOLE))

        async with Origin(late) as origin, serve(mesh(origin.port, **tls)) as proxy:
            with await asyncio.to_thread(dial, proxy, trusting) as sock:
                sock.sendall(get("/whole"))
                await asked.wait()
                async with stopping(proxy) as since:
                    await eventually(lambda: drains(proxy))
                    go_on.set()
                    await eventually(lambda: answered(proxy) == 1)
                    sock.sendall(get("/next"))
                    got, end = await asyncio.to_thread(read, sock)
                    sock.close()
                    assert b"connection: close" in got
                    assert (split(got), end) == ((len(WHOLE), b""), EOF)
                assert since() < 1.5  # the client closed, too: nothing is waited for

    run(main())


def test_nor_does_it_when_a_client_was_idle_for_too_long(run: Run, serve: Serve) -> None:
    async def main() -> None:
        async with (
            Origin(response(WHOLE)) as origin,
            serve(mesh(origin.port, idle="1s")) as proxy,
        ):
            with narrow(proxy.addresses["edge"]) as sock:
                sock.sendall(get("/whole"))
                await eventually(lambda: answered(proxy) == 1)
                await asyncio.sleep(1.4)  # its time is over, and not that to take the response
                sock.sendall(get("/next"))
                got, end = await asyncio.to_thread(read, sock)
                assert (split(got), end) == ((len(WHOLE), b""), EOF)

    run(main())


def test_a_client_that_does_not_close_is_waited_for_two_seconds(run: Run, serve: Serve) -> None:
    async def main() -> None:
        asked, go_on = asyncio.Event(), asyncio.Event()

        async def late(visit: Visit) -> None:
            await visit.head()
            asked.set()
            await go_on.wait()
            await visit.send(response(b"hi"))

        async with Origin(late) as origin, serve(mesh(origin.port)) as proxy:
            with narrow(proxy.addresses["edge"]) as sock:
                sock.sendall(get("/"))
                await asked.wait()
                async with stopping(proxy) as since:
                    await eventually(lambda: drains(proxy))
                    go_on.set()
                    got, end = await asyncio.to_thread(read, sock)
                    assert (got[-2:], end) == (b"hi", EOF)
                    assert since() < 1
                assert 1.8 < since() < 3

    run(main())
