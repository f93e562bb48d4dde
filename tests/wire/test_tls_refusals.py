"""Who is refused within the handshake hears why, also when it still sends behind it."""

from __future__ import annotations

import asyncio
import json
import logging
import ssl
from typing import Any
from urllib.parse import urlsplit

import pytest

from meshcore import Proxy
from tests.wire.client import Client
from tests.wire.conftest import Certificates, Run, Serve, eventually, metric
from tests.wire.h2_mesh import Mesh
from tests.wire.test_tls_told import FAILED, GET, secured, streams
from tests.wire.tls_streams import TlsStreams

UNDER_WAY = "meshcore_listener_handshakes"
OPEN = "meshcore_listener_connections"
PREFACE = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n" + bytes(9)


async def failed(proxy: Proxy, times: int) -> None:
    """So many were refused."""
    await eventually(lambda: metric(proxy, FAILED) == times)


async def hears(client: TlsStreams) -> str:
    """The alert, to who does not look before it has sent a lot, a part at a time."""
    await client.shake()
    for _ in range(5):
        client.write(PREFACE)
        await asyncio.sleep(0.001)  # so that they are packets of their own
        assert not client.transport.is_closing(), "reset, or ended, before it could hear"
    with pytest.raises(ssl.SSLError) as told:
        await client.read()
    return str(told.value.reason)


@pytest.mark.parametrize("times", [200])
def test_a_client_that_sends_on_behind_its_handshake_hears_why_it_is_refused(
    run: Run, serve: Serve, certificates: Certificates, times: int
) -> None:
    async def go() -> None:
        tls = {"client_ca": certificates.ca}
        async with secured(serve, certificates, tls) as proxy:
            context = certificates.client("h2")
            for _ in range(times):
                async with streams(proxy, context) as client:
                    assert await hears(client) == "TLSV13_ALERT_CERTIFICATE_REQUIRED"
            assert metric(proxy, FAILED, reason="certificate_required") == times
            assert metric(proxy, UNDER_WAY) == metric(proxy, OPEN) == 0
            await eventually(lambda: proxy.connections == 0)

    run(go())


@pytest.mark.parametrize("alpn", ["http/1.1", "h2"])
def test_a_bad_record_gets_its_alert_behind_the_handshake_too(
    run: Run, serve: Serve, certificates: Certificates, alpn: str
) -> None:
    async def go() -> None:
        async with secured(serve, certificates) as proxy:
            async with streams(proxy, certificates.client(alpn)) as client:
                await client.shake()
                await eventually(lambda: metric(proxy, OPEN) == 1)
                bad = b"\x17\x03\x03\x00\x20" + bytes(32)
                for _ in range(5):
                    client.transport.write(bad)
                    await asyncio.sleep(0.001)
                    assert not client.transport.is_closing()
                await eventually(lambda: metric(proxy, OPEN) == 0)
                assert proxy.connections == 1
                with pytest.raises(ssl.SSLError, match="BAD_RECORD_MAC"):
                    await client.read()
            await eventually(lambda: proxy.connections == 0)
            assert metric(proxy, FAILED, reason="bad_record_mac", by="proxy") == 1

    run(go())


@pytest.mark.parametrize("alpn", ["http/1.1", "h2"])
def test_a_bad_record_beside_the_clients_last_message_gets_its_alert(
    run: Run, serve: Serve, certificates: Certificates, alpn: str
) -> None:
    async def go() -> None:
        async with secured(serve, certificates) as proxy:
            async with streams(proxy, certificates.client(alpn)) as client:
                await client.shake(behind=b"\x17\x03\x03\x00\x20" + bytes(32))
                with pytest.raises(ssl.SSLError, match="BAD_RECORD_MAC"):
                    await client.read()
            await eventually(lambda: proxy.connections == 0)
            assert metric(proxy, FAILED, reason="bad_record_mac", by="proxy") == 1

    run(go())


def test_who_hears_it_and_stays_holds_no_place_and_goes_soon(
    run: Run, serve: Serve, certificates: Certificates, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("meshcore.downstream.lingering.ALERT_NS", 300_000_000)

    async def go() -> None:
        tls = {"client_ca": certificates.ca}
        async with (
            secured(serve, certificates, tls) as proxy,
            streams(proxy, certificates.client()) as client,
        ):
            await client.shake()
            await failed(proxy, 1)
            assert metric(proxy, UNDER_WAY) == metric(proxy, OPEN) == 0
            assert proxy.connections == 1
            await eventually(lambda: proxy.connections == 0)

    run(go())


def test_those_who_stay_make_way_for_handshakes(
    run: Run, serve: Serve, certificates: Certificates
) -> None:
    """Together they are no more than handshakes may be."""

    async def go() -> None:
        tls: dict[str, Any] = {"client_ca": certificates.ca}
        limits = {"connections": 9, "handshakes": 3}
        async with secured(serve, certificates, tls, limits=limits) as proxy:
            stay: list[Any] = []
            for number in range(1, 8):
                opened = streams(proxy, certificates.client())
                client = await opened.__aenter__()
                stay.append(opened)
                await client.shake()
                await failed(proxy, number)
                assert proxy.connections <= 3
            async with Client(proxy.addresses["edge"]) as silent:
                await eventually(lambda: metric(proxy, UNDER_WAY) == 1)
                assert proxy.connections <= 3
                assert metric(proxy, FAILED, reason="overflow") == 0
                await silent.send(b"")
            for opened in stay:
                await opened.__aexit__(None, None, None)

    run(go())


async def refused_by_client(proxy: Proxy, name: str) -> None:
    at = urlsplit(proxy.addresses["edge"])
    reader, writer = await asyncio.open_connection(at.hostname, at.port)
    client = TlsStreams(reader, writer, ssl.create_default_context(), server_name=name)
    with pytest.raises(ssl.SSLError):
        await client.shake()
    client.close()


def test_the_log_says_who_said_what_to_whom(
    run: Run, serve: Serve, certificates: Certificates, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO, "meshcore.tls")

    async def go() -> None:
        tls = {"client_ca": certificates.ca}
        async with secured(serve, certificates, tls) as proxy:
            async with streams(proxy, certificates.client()) as client:
                await hears(client)
                host, port = client.transport.get_extra_info("sockname")
            await refused_by_client(proxy, "Edge.test")
            await eventually(lambda: len(caplog.messages) == 2)
            assert caplog.messages[0] == (
                f"listener edge: TLS with {host}:{port} failed: it shows no certificate "
                "(told certificate_required)"
            )
            assert (
                ", which asks for edge.test, failed: the client says alert unknown_ca"
                in (caplog.messages[1])
            )

    run(go())


def test_the_log_says_why_those_failed_that_it_leaves_out(
    run: Run,
    serve: Serve,
    certificates: Certificates,
    caplog: pytest.LogCaptureFixture,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    caplog.set_level(logging.INFO, "meshcore.tls")
    monkeypatch.setattr("meshcore.downstream.handshake._MOST_LOGGED", 1)
    monkeypatch.setattr("meshcore.downstream.handshake._SECOND_NS", 1 << 62)

    async def go() -> None:
        async with secured(serve, certificates) as proxy:
            for count in range(1, 4):
                await refused_by_client(proxy, "edge.test")
                await failed(proxy, count)
            monkeypatch.setattr("meshcore.downstream.handshake._SECOND_NS", 0)
            await refused_by_client(proxy, "edge.test")
            await eventually(lambda: len(caplog.messages) == 3)
            assert caplog.messages[1] == (
                "listener edge: 2 more TLS handshakes failed: 2 of unknown_ca by the client"
            )

    run(go())


def test_plain_http_is_told_what_the_port_speaks(
    run: Run, serve: Serve, certificates: Certificates
) -> None:
    async def go() -> None:
        async with secured(serve, certificates) as proxy, Client(proxy.addresses["edge"]) as plain:
            await plain.send(GET)
            answer = await plain.closed()
            assert answer.startswith(b"HTTP/1.1 400 ")
            assert b'"detail":"HTTP without TLS on a listener with tls"' in answer

    run(go())


def test_a_client_that_is_too_old_is_told_of_as_such(
    run: Run, serve: Serve, certificates: Certificates, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO, "meshcore.tls")

    async def go() -> None:
        context = certificates.client()
        context.maximum_version = ssl.TLSVersion.TLSv1_2
        async with secured(serve, certificates, {"policy": "modern"}) as proxy:
            async with streams(proxy, context) as client:
                with pytest.raises(ssl.SSLError):
                    await client.shake()
            await failed(proxy, 1)
            assert caplog.messages[0].endswith(
                "failed: it speaks no TLS 1.3, the least here (told protocol_version)"
            )

    run(go())


@pytest.mark.parametrize("says", [b"HTTP/1.1 400 Bad Request\r\n\r\n", b"SSH-2.0-x\r\n"])
def test_an_endpoint_that_speaks_no_tls_is_called_so(
    run: Run,
    serve: Serve,
    certificates: Certificates,
    capsys: pytest.CaptureFixture[str],
    says: bytes,
) -> None:
    async def visit(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.read(1)
        writer.write(says)
        await reader.read()
        writer.close()

    async def go() -> None:
        server = await asyncio.start_server(visit, "127.0.0.1", 0)
        mesh = Mesh("native", server.sockets[0].getsockname()[1]).to(tls={"ca": certificates.ca})
        mesh.top["access_log"] = "json"
        async with serve(str(mesh)) as proxy, Client(proxy.addresses["edge"]) as client:
            assert (await client.get()).status == 502
            name = "meshcore_upstream_tls_failures_total"
            found = metric(proxy, name, reason="no_tls", by="endpoint")
            assert found == metric(proxy, name) > 0
        server.close()

    run(go())
    line = json.loads(capsys.readouterr().out.splitlines()[0])
    assert line["reason"] == "upstream_connect"
    assert "what answered speaks no TLS" in line["detail"]
