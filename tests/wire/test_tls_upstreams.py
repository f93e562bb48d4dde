"""TLS towards endpoints: whom it believes, and what an end means."""

from __future__ import annotations

import asyncio
import contextlib
import ssl
import subprocess
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest

from meshcore import Proxy
from tests.wire.client import Client, Reply
from tests.wire.conftest import Certificates, Run, Serve, eventually, gauges, metric
from tests.wire.h2_mesh import Mesh
from tests.wire.origin import Origin, response
from tests.wire.tls_streams import TlsStreams

WITHIN_S = 20
GET = b"GET / HTTP/1.1\r\nhost: a.test\r\n\r\n"


@asynccontextmanager
async def served(serve: Serve, port: int, tls: dict[str, Any]) -> AsyncIterator[Proxy]:
    mesh = Mesh("native", port).to("http1", tls=tls)
    async with serve(str(mesh)) as proxy:
        yield proxy


async def answer(proxy: Proxy) -> Reply:
    async with Client(proxy.addresses["edge"]) as client:
        await client.send(GET)
        return await client.reply()


@asynccontextmanager
async def origin(context: ssl.SSLContext, said: bytes, *, clean: bool) -> AsyncIterator[int]:
    """Says a response and ends the connection, with a word of it or without."""

    async def visit(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        streams = TlsStreams(reader, writer, context)
        with contextlib.suppress(ConnectionError, asyncio.IncompleteReadError):
            await streams.shake()
            await streams.readuntil(b"\r\n\r\n")
            streams.write(said)
            if clean:
                streams.write_eof()
        writer.close()

    server = await asyncio.start_server(visit, "127.0.0.1", 0)
    try:
        yield server.sockets[0].getsockname()[1]
    finally:
        server.close()


@pytest.mark.parametrize("clean", [True, False], ids=["said", "unsaid"])
@pytest.mark.parametrize("length", [True, False], ids=["length", "no-length"])
def test_a_response_without_length_needs_an_end_that_was_said(
    run: Run, serve: Serve, certificates: Certificates, clean: bool, length: bool
) -> None:
    """RFC 9112 §9.8."""
    head = b"HTTP/1.1 200 OK\r\n" + (b"content-length: 5\r\n" if length else b"")

    async def go() -> None:
        context = certificates.origin("http/1.1")
        async with (
            origin(context, head + b"\r\nwhole", clean=clean) as port,
            served(serve, port, {"ca": certificates.ca}) as proxy,
        ):
            if clean or length:
                assert (await answer(proxy)).body == b"whole"
                assert metric(proxy, "meshcore_requests_cut_total") == 0
            else:
                with pytest.raises((ConnectionError, asyncio.IncompleteReadError)):
                    await answer(proxy)
                cut = "meshcore_requests_cut_total"
                assert metric(proxy, cut, reason="upstream_reset") == metric(proxy, cut) == 1
            await eventually(lambda: gauges(proxy) == {})

    run(go())


def test_an_end_that_came_with_the_answer_is_seen_before_the_next_request(
    run: Run, serve: Serve, certificates: Certificates
) -> None:
    """In one read: the socket's own end comes later."""
    asked = 0

    async def visit(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        nonlocal asked
        streams = TlsStreams(reader, writer, certificates.origin("http/1.1"))
        await streams.shake()
        await streams.readuntil(b"\r\n\r\n")
        asked += 1
        streams.write_together(response(b"once"))
        with contextlib.suppress(ConnectionError):
            await reader.read()
        writer.close()

    async def go() -> None:
        server = await asyncio.start_server(visit, "127.0.0.1", 0)
        port = server.sockets[0].getsockname()[1]
        async with (
            served(serve, port, {"ca": certificates.ca}) as proxy,
            Client(proxy.addresses["edge"]) as client,
        ):
            for turn in range(5):
                await client.send(b"POST / HTTP/1.1\r\nhost: a.test\r\ncontent-length: 0\r\n\r\n")
                assert (await client.reply()).body == b"once", turn
            assert asked == 5
        server.close()

    run(go())


def self_signed(folder: Path, name: str) -> tuple[str, str]:
    """What `openssl req -x509` makes."""
    cert, key = str(folder / f"{name}.pem"), str(folder / f"{name}.key")
    subprocess.run(
        (
            *("openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256"),
            *("-nodes", "-keyout", key, "-out", cert, "-days", "2", "-subj", f"/CN={name}"),
            *("-addext", f"subjectAltName=DNS:{name}"),
        ),
        check=True,
        capture_output=True,
    )
    return cert, key


def test_a_certificate_that_signed_itself_is_believed_as_its_own_ca(
    run: Run, serve: Serve, tmp_path: Path
) -> None:
    cert, key = self_signed(tmp_path, "svc.test")
    other, _ = self_signed(tmp_path, "other.test")
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    context.load_cert_chain(cert, key)

    async def go() -> None:
        async with Origin(response(b"hi"), tls=context) as far:
            for tls, status in (
                ({"ca": cert, "server_name": "svc.test"}, 200),
                ({"ca": cert, "server_name": "other.test"}, 502),
                ({"ca": other, "server_name": "svc.test"}, 502),
                ({"insecure": True}, 200),
            ):
                async with served(serve, far.port, tls) as proxy:
                    reply = await answer(proxy)
                    assert reply.status == status, tls
                    if status == 502:
                        assert reply.fields["x-mesh-reason"] == "upstream_connect"

    run(go())
