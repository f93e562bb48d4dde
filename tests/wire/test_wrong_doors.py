"""Who speaks another protocol than a listener does is told of in the log."""

from __future__ import annotations

import asyncio
import contextlib
import json
import ssl
from typing import Any
from urllib.parse import urlsplit

import pytest

from tests.wire.conftest import Certificates, Run, Serve
from tests.wire.h2_mesh import Mesh

HELLO = b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03" + bytes(500)
PROXY_1 = b"PROXY TCP4 192.0.2.1 192.0.2.2 1 2\r\nGET / HTTP/1.1\r\nhost: a\r\n\r\n"
PROXY_2 = b"\r\n\r\n\0\r\nQUIT\n\x21\x11\x00\x0c" + bytes(12) + b"GET / HTTP/1.1\r\nhost: a\r\n\r\n"
TLS = "TLS on a listener without tls"
PROXY = "a PROXY header on a listener without proxy_protocol"


async def said(url: str, data: bytes) -> bytes:
    """What a listener says to these bytes until it closes."""
    at = urlsplit(url)
    reader, writer = await asyncio.open_connection(at.hostname, at.port)
    writer.write(data)
    answer = b""
    with contextlib.suppress(ConnectionError):
        answer = await reader.read()
    writer.close()
    return answer


def logged(engine: str, **keys: Any) -> Mesh:
    mesh = Mesh(engine, 9).listen(**keys)
    mesh.top["access_log"] = "json"
    return mesh


def line_of(capsys: pytest.CaptureFixture[str]) -> dict[str, Any]:
    (line,) = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    assert (line["listener"], line["client"]) == ("edge", "127.0.0.1")
    assert (line["reason"], line["by"]) == ("bad_request", "client")
    return dict(line)


@pytest.mark.parametrize(
    ("sent", "detail"), [(HELLO, TLS), (PROXY_1, PROXY), (PROXY_2, PROXY)], ids=["tls", "v1", "v2"]
)
@pytest.mark.parametrize("speaks", ["both", "http1", "h2"])
def test_on_a_plain_listener(
    run: Run,
    engine: str,
    serve: Serve,
    capsys: pytest.CaptureFixture[str],
    sent: bytes,
    detail: str,
    speaks: str,
) -> None:
    h2 = {"engine": engine}
    protocols = {
        "both": {"h2": h2},
        "http1": {"h2": "off"},
        "h2": {"http1": False, "h2": h2},
    }

    async def go() -> None:
        async with serve(str(logged(engine, protocols=protocols[speaks]))) as proxy:
            answer = await said(proxy.addresses["edge"], sent)
            assert answer.startswith(b"HTTP/1.1 400 ") is (speaks != "h2")

    run(go())
    line = line_of(capsys)
    assert line["detail"] == detail
    assert line["status"] == (0 if speaks == "h2" else 400)


@pytest.mark.parametrize(
    ("sent", "detail"),
    [
        (b"GET / HTTP/1.1\r\nhost: a\r\n\r\n", "HTTP without TLS on a listener with tls"),
        (b"CONNECT a:1 HTTP/1.1\r\nhost: a\r\n\r\n", "HTTP without TLS on a listener with tls"),
        (PROXY_1, "no TLS on a listener with tls"),
        (PROXY_2, "no TLS on a listener with tls"),
    ],
    ids=["get", "connect", "v1", "v2"],
)
def test_on_a_listener_with_tls(
    run: Run,
    serve: Serve,
    certificates: Certificates,
    capsys: pytest.CaptureFixture[str],
    sent: bytes,
    detail: str,
) -> None:
    async def go() -> None:
        async with serve(str(logged("native", tls=certificates.listener))) as proxy:
            await said(proxy.addresses["edge"], sent)

    run(go())
    line = line_of(capsys)
    assert (line["detail"], line["status"]) == (detail, 0)


def test_a_handshake_that_fails_has_no_line(
    run: Run, serve: Serve, certificates: Certificates, capsys: pytest.CaptureFixture[str]
) -> None:
    async def go() -> None:
        async with serve(str(logged("native", tls=certificates.listener))) as proxy:
            at = urlsplit(proxy.addresses["edge"])
            with pytest.raises(ssl.SSLCertVerificationError):
                await asyncio.open_connection(
                    at.hostname, at.port, ssl=ssl.create_default_context(), server_hostname="a.test"
                )

    run(go())
    assert capsys.readouterr().out == ""
