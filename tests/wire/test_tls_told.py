"""What is told of TLS: metrics of handshakes, and of certificates."""

from __future__ import annotations

import asyncio
import contextlib
import json
import ssl
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pytest
from cryptography import x509

from meshcore import Proxy
from tests.wire.client import Client
from tests.wire.conftest import Certificates, Run, Serve, eventually, metric
from tests.wire.h2_mesh import Mesh
from tests.wire.origin import Origin, response
from tests.wire.tls_streams import TlsStreams

GET = b"GET / HTTP/1.1\r\nhost: a.test\r\n\r\n"
MADE = "meshcore_listener_tls_handshakes_total"
FAILED = "meshcore_listener_tls_failures_total"


@asynccontextmanager
async def secured(
    serve: Serve, certificates: Certificates, tls: dict[str, Any] | None = None, **listener: Any
) -> AsyncIterator[Proxy]:
    async with Origin(response(b"hi")) as origin:
        tls = certificates.listener | (tls or {})
        async with serve(str(Mesh("native", origin.port).listen(tls=tls, **listener))) as proxy:
            yield proxy


@asynccontextmanager
async def streams(proxy: Proxy, context: ssl.SSLContext) -> AsyncIterator[TlsStreams]:
    at = urlsplit(proxy.addresses["edge"])
    reader, writer = await asyncio.open_connection(at.hostname, at.port)
    made = TlsStreams(reader, writer, context, server_name="127.0.0.1")
    try:
        yield made
    finally:
        made.close()


async def met(client: TlsStreams) -> None:
    """A client of TLS 1.3 hears behind its handshake what the other side thinks of it."""
    await client.shake()
    await client.read()


def test_handshakes_are_counted_by_what_was_agreed(
    run: Run, serve: Serve, certificates: Certificates
) -> None:
    async def go() -> None:
        context = certificates.client("h2")
        old = certificates.client()
        old.maximum_version = ssl.TLSVersion.TLSv1_2
        old.set_ciphers("ECDHE-ECDSA-AES128-GCM-SHA256:ECDHE-RSA-AES128-GCM-SHA256")
        async with secured(serve, certificates) as proxy:
            async with streams(proxy, context) as client:
                await client.shake()
            await eventually(lambda: metric(proxy, MADE, alpn="h2") == 1)
            assert metric(proxy, MADE, version="1.3", kind="full", listener="edge") == 1
            async with streams(proxy, old) as client:
                await client.shake()
                session = client.session
            async with streams(proxy, old) as client:
                client.session = session
                await client.shake()
            await eventually(lambda: metric(proxy, MADE) == 3)
            for kind in ("full", "resumed"):
                assert metric(proxy, MADE, version="1.2", kind=kind, alpn="") == 1
            keys = ("ECDSA", "RSA")  # whichever the test's certificate has
            suites = [f"TLS_ECDHE_{key}_WITH_AES_128_GCM_SHA256" for key in keys]
            assert sum(metric(proxy, MADE, suite=suite) for suite in suites) == 2
            assert metric(proxy, MADE) == 3
            assert metric(proxy, FAILED) == 0

    run(go())


@pytest.mark.parametrize(
    ("wrong", "reason", "by"),
    [
        ("alpn", "no_application_protocol", "proxy"),
        ("version", "protocol_version", "proxy"),
        ("suite", "handshake_failure", "proxy"),
        ("certificate", "certificate_required", "proxy"),
        ("authority", "unknown_ca", "client"),
    ],
)
def test_handshakes_that_fail_are_counted_by_alert_and_by_whom(
    run: Run, serve: Serve, certificates: Certificates, wrong: str, reason: str, by: str
) -> None:
    extra = {"version": {"min_version": "1.3"}, "certificate": {"client_ca": certificates.ca}}
    context = certificates.client(*(["spdy/3"] if wrong == "alpn" else []))
    if wrong == "authority":
        context = ssl.create_default_context()
    if wrong in ("version", "suite"):
        context.maximum_version = ssl.TLSVersion.TLSv1_2
    if wrong == "suite":
        context.set_ciphers("ECDHE-ECDSA-AES128-SHA:ECDHE-RSA-AES128-SHA")

    async def go() -> None:
        async with secured(serve, certificates, extra.get(wrong)) as proxy:
            async with streams(proxy, context) as client:
                with pytest.raises(ssl.SSLError):
                    await met(client)
            await eventually(lambda: metric(proxy, FAILED, reason=reason, by=by) == 1)
            assert metric(proxy, FAILED) == 1
            assert metric(proxy, MADE) == 0

    run(go())


def test_silence_departures_and_plain_http_are_counted_too(
    run: Run, serve: Serve, certificates: Certificates
) -> None:
    async def go() -> None:
        async with secured(serve, certificates, timeouts={"tls_handshake": "300ms"}) as proxy:
            url = proxy.addresses["edge"]
            async with Client(url) as silent, Client(url) as slow:
                await slow.send(b"\x16\x03\x01")
                assert await silent.closed() == b""
                await slow.closed()
            assert metric(proxy, FAILED, reason="timeout", by="client") == 2
            async with Client(url) as gone:
                await gone.send(b"\x16\x03\x01")
            await eventually(lambda: metric(proxy, FAILED, reason="closed", by="client") == 1)
            async with Client(url) as plain:
                await plain.send(GET)
                assert b" 400 " in await plain.closed()
            assert metric(proxy, FAILED, reason="no_tls", by="client") == 1
            async with Client(url):
                pass  # a probe of a balancer is no handshake
            await eventually(lambda: metric(proxy, "meshcore_listener_connections") == 0)
            assert metric(proxy, FAILED) == 4

    run(go())


@pytest.mark.parametrize("trusted", [True, False])
def test_handshakes_with_endpoints_are_counted_by_upstream(
    run: Run, serve: Serve, certificates: Certificates, trusted: bool
) -> None:
    async def go() -> None:
        context = certificates.origin("http/1.1")
        async with Origin(response(b"hi"), tls=context) as origin:
            mesh = Mesh("native", origin.port)
            mesh.upstream["tls"] = {"ca": certificates.ca} if trusted else {}
            mesh.upstream["circuit_breaker"] = "off"
            async with serve(str(mesh)) as proxy, Client(proxy.addresses["edge"]) as client:
                await client.send(GET)
                status = 200 if trusted else 502
                assert (await client.reply()).status == status
                made = "meshcore_upstream_tls_handshakes_total"
                failed = "meshcore_upstream_tls_failures_total"
                assert metric(proxy, made, alpn="http/1.1", kind="full") == int(trusted)
                found = metric(proxy, failed, reason="unknown_ca", by="proxy")
                assert (found > 0) is not trusted
                assert metric(proxy, failed) == found

    run(go())


def test_an_endpoint_that_wants_a_certificate_is_counted_behind_the_handshake(
    run: Run, serve: Serve, certificates: Certificates
) -> None:
    """In TLS 1.3 it says so when we think that all is well."""

    context = certificates.origin("http/1.1")
    context.verify_mode = ssl.CERT_REQUIRED

    async def visit(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with contextlib.suppress(ssl.SSLError, ConnectionError):
            await TlsStreams(reader, writer, context).shake()
        writer.write_eof()
        await reader.read()
        writer.close()

    async def go() -> None:
        server = await asyncio.start_server(visit, "127.0.0.1", 0)
        mesh = Mesh("native", server.sockets[0].getsockname()[1])
        mesh.upstream["tls"] = {"ca": certificates.ca}
        async with serve(str(mesh)) as proxy, Client(proxy.addresses["edge"]) as client:
            assert (await client.get()).status == 502
            failed = "meshcore_upstream_tls_failures_total"
            labels = {"reason": "certificate_required", "by": "endpoint"}
            assert metric(proxy, failed, **labels) == metric(proxy, failed) > 0
        server.close()

    run(go())


@pytest.mark.parametrize("asks", [True, False])
@pytest.mark.parametrize("ends", ["close_notify", "fin", "reset"])
@pytest.mark.parametrize("protocol", ["http1", "h2"])
def test_an_endpoint_that_ends_without_a_word_may_have_wanted_a_certificate(
    run: Run,
    serve: Serve,
    certificates: Certificates,
    capsys: pytest.CaptureFixture[str],
    asks: bool,
    ends: str,
    protocol: str,
) -> None:
    context = certificates.origin("h2" if protocol == "h2" else "http/1.1")
    if asks:
        context.verify_mode = ssl.CERT_OPTIONAL
        context.load_verify_locations(certificates.ca)

    async def visit(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        peer = TlsStreams(reader, writer, context)
        with contextlib.suppress(ssl.SSLError, ConnectionError, asyncio.IncompleteReadError):
            await peer.shake()
            await peer.readexactly(1)  # of a request
        if ends == "close_notify":
            peer.close()
        elif ends == "reset":
            writer.transport.abort()
        writer.close()

    async def go() -> None:
        server = await asyncio.start_server(visit, "127.0.0.1", 0)
        mesh = Mesh("native", server.sockets[0].getsockname()[1])
        mesh.to(protocol, tls={"ca": certificates.ca})
        mesh.top["access_log"] = "json"
        async with serve(str(mesh)) as proxy, Client(proxy.addresses["edge"]) as client:
            assert (await client.get()).status == 502
        server.close()

    run(go())
    (line,) = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    assert line["status"] == 502
    wanted = ": it asked for a certificate, and none is given"
    assert line["detail"].endswith(wanted) == asks
    assert line["detail"] != wanted


def test_the_end_of_each_certificate_is_a_metric(
    run: Run, serve: Serve, certificates: Certificates
) -> None:
    end = x509.load_pem_x509_certificate(Path(certificates.cert).read_bytes()).not_valid_after_utc

    async def go() -> None:
        sni = {"*.a.test": certificates.listener}
        async with secured(serve, certificates, {"sni": sni}) as proxy:
            name = "meshcore_certificate_not_after_seconds"
            for server_name in ("", "*.a.test"):
                labels = {"listener": "edge", "server_name": server_name}
                assert metric(proxy, name, **labels) == int(end.timestamp())

    run(go())
