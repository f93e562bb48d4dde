"""What a client of a listener with TLS gets: its whole response, the alert, the reason."""

from __future__ import annotations

import asyncio
import json
import ssl
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from typing import Any
from urllib.parse import urlsplit

import pytest

from meshcore import Proxy
from tests.wire.balancer import v1
from tests.wire.client import Client
from tests.wire.conftest import Certificates, Run, Serve, eventually, gauges, metric
from tests.wire.h2_mesh import Mesh
from tests.wire.origin import Origin, response
from tests.wire.tls_streams import TlsStreams

WITHIN_S = 20
GET = b"GET / HTTP/1.1\r\nhost: a.test\r\n\r\n"
MUCH = bytes(range(250)) * 24_000


@asynccontextmanager
async def secured(
    serve: Serve, certificates: Certificates, answer: bytes = b"hi", **listener: Any
) -> AsyncIterator[Proxy]:
    async with Origin(response(answer)) as origin:
        mesh = Mesh("native", origin.port).listen(tls=certificates.listener | {}, **listener)
        mesh.top["access_log"] = "json"
        async with serve(str(mesh)) as proxy:
            yield proxy


@asynccontextmanager
async def streams(
    proxy: Proxy, context: ssl.SSLContext, first: bytes = b"", buffer: int = 0
) -> AsyncIterator[TlsStreams]:
    """A client of OpenSSL; ``first`` goes before the handshake."""
    at = urlsplit(proxy.addresses["edge"])
    reader, writer = await asyncio.open_connection(
        at.hostname, at.port, **({"limit": buffer} if buffer else {})
    )
    writer.write(first)
    made = TlsStreams(reader, writer, context, server_name="127.0.0.1")
    try:
        yield made
    finally:
        made.close()


async def met(client: TlsStreams) -> None:
    """A client of TLS 1.3 hears behind its handshake what the other side thinks of it."""
    await client.shake()
    await client.read()


def logged(capsys: pytest.CaptureFixture[str]) -> list[dict[str, Any]]:
    return [json.loads(line) for line in capsys.readouterr().out.splitlines()]


@pytest.mark.parametrize("wrong", ["alpn", "version", "certificate"])
def test_a_handshake_that_fails_tells_both_sides(
    run: Run,
    serve: Serve,
    certificates: Certificates,
    capsys: pytest.CaptureFixture[str],
    caplog: pytest.LogCaptureFixture,
    wrong: str,
) -> None:
    alert = {
        "alpn": "no application protocol",
        "version": "protocol version",
        "certificate": "certificate required",
    }[wrong]
    extra = {"version": {"min_version": "1.3"}, "certificate": {"client_ca": certificates.ca}}
    context = certificates.client(*(["spdy/3"] if wrong == "alpn" else []))
    if wrong == "version":
        context.maximum_version = ssl.TLSVersion.TLSv1_2

    async def go() -> None:
        tls = certificates.listener | extra.get(wrong, {})
        async with Origin(response(b"hi")) as origin:
            mesh = Mesh("native", origin.port).listen(tls=tls)
            mesh.top["access_log"] = "json"
            async with serve(str(mesh)) as proxy:
                async with streams(proxy, context) as client:
                    with pytest.raises(ssl.SSLError, match=alert.replace(" ", ".")):
                        await met(client)
                await eventually(lambda: gauges(proxy) == {})

    with caplog.at_level("INFO", "meshcore.tls"):
        run(go())
    assert logged(capsys) == []  # it was no request
    (told,) = caplog.messages
    assert told.startswith("listener edge: TLS with 127.0.0.1:")
    assert " failed: " in told


def test_of_many_handshakes_that_fail_some_are_told(
    run: Run, serve: Serve, certificates: Certificates, caplog: pytest.LogCaptureFixture
) -> None:
    async def go() -> None:
        async with secured(serve, certificates) as proxy:
            context = ssl.create_default_context()
            for _ in range(40):
                async with streams(proxy, context) as client:
                    with suppress(ssl.SSLError):
                        await client.shake()
            await eventually(lambda: gauges(proxy) == {})

    with caplog.at_level("INFO", "meshcore.tls"):
        run(go())
    assert 10 <= len(caplog.messages) < 40


def test_a_client_that_leaves_within_its_handshake_is_no_line(
    run: Run, serve: Serve, certificates: Certificates, capsys: pytest.CaptureFixture[str]
) -> None:
    async def go() -> None:
        async with secured(serve, certificates) as proxy:
            async with Client(proxy.addresses["edge"]) as client:
                await client.send(b"\x16\x03\x01")
            await eventually(lambda: gauges(proxy) == {})

    run(go())
    assert logged(capsys) == []


def test_the_proxy_protocol_comes_before_the_handshake(
    run: Run, serve: Serve, certificates: Certificates, capsys: pytest.CaptureFixture[str]
) -> None:
    async def go() -> None:
        trusted = {"trusted": ["127.0.0.0/8"]}
        async with (
            secured(serve, certificates, proxy_protocol=trusted) as proxy,
            streams(proxy, certificates.client(), v1("192.0.2.7")) as client,
        ):
            await client.shake()
            client.write(GET)
            assert (await client.readuntil(b"hi")).startswith(b"HTTP/1.1 200")

    run(go())
    (line,) = logged(capsys)
    assert line["client"] == "192.0.2.7"


@pytest.mark.parametrize("asks_no_more", [False, True])
def test_a_slow_client_has_all_of_a_response(
    run: Run, serve: Serve, certificates: Certificates, asks_no_more: bool
) -> None:
    """Also one that has said close_notify, where such are served."""

    async def go() -> None:
        serves = {"half_close": "serve"} if asks_no_more else {}
        async with (
            secured(serve, certificates, MUCH, **serves) as proxy,
            streams(proxy, certificates.client()) as client,
        ):
            await client.shake()
            client.write(GET.replace(b"\r\n\r\n", b"\r\nconnection: close\r\n\r\n"))
            if asks_no_more:
                client.write_eof()
            await client.readuntil(b"\r\n\r\n")
            body = bytearray()
            while piece := await asyncio.wait_for(client.read(100_000), WITHIN_S):
                body += piece
                await asyncio.sleep(0.001)  # slower than what comes
            assert (len(body), body == MUCH, client.clean) == (len(MUCH), True, True)

    run(go())


def test_a_client_that_says_no_more_has_left_where_such_are_not_served(
    run: Run, serve: Serve, certificates: Certificates
) -> None:
    async def go() -> None:
        reached = asyncio.Event()

        async def wait(visit: Any) -> None:
            await visit.head()
            reached.set()
            await visit.reader.read()

        async with Origin(wait) as origin:
            mesh = Mesh("native", origin.port).listen(tls=certificates.listener)
            async with (
                serve(str(mesh)) as proxy,
                streams(proxy, certificates.client()) as client,
            ):
                await client.shake()
                client.write(GET)
                await reached.wait()
                client.write_eof()
                assert await asyncio.wait_for(client.read(), WITHIN_S) == b""
                cut = "meshcore_requests_cut_total"
                await eventually(lambda: metric(proxy, cut, reason="client_gone") == 1)

    run(go())


def test_a_session_is_resumed(run: Run, serve: Serve, certificates: Certificates) -> None:
    async def go() -> None:
        context = certificates.client()
        context.maximum_version = ssl.TLSVersion.TLSv1_2  # whose session is there at once
        async with secured(serve, certificates) as proxy:
            async with streams(proxy, context) as first:
                await first.shake()
                session = first.session
                assert not first.resumed
            async with streams(proxy, context) as again:
                again.session = session
                await again.shake()
                assert again.resumed
                again.write(GET)
                assert (await again.readuntil(b"hi")).startswith(b"HTTP/1.1 200")

    run(go())


def test_a_ticket_of_a_program_s_own_proxy_is_not_for_ever(
    run: Run, serve: Serve, certificates: Certificates, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Two keys later nobody can open it: also one that was stolen."""
    monkeypatch.setattr("meshcore.process.tickets.LIFETIME_S", 0.1)

    async def go() -> None:
        context = certificates.client()
        context.maximum_version = ssl.TLSVersion.TLSv1_2
        async with secured(serve, certificates) as proxy:
            async with streams(proxy, context) as first:
                await first.shake()
                session = first.session
            resumed = True
            async with asyncio.timeout(WITHIN_S):
                while resumed:
                    async with streams(proxy, context) as again:
                        again.session = session
                        await again.shake()
                        resumed = again.resumed

    run(go())
