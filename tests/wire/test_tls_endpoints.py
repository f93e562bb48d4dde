"""What endpoints are told at the end of TLS, and what their refusal of our certificate means."""

from __future__ import annotations

import asyncio
import contextlib
import re
import ssl
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from tests.wire.conftest import Certificates, Run, eventually
from tests.wire.either import asking, request
from tests.wire.h2_mesh import Mesh
from tests.wire.identities import Signer
from tests.wire.origin import response
from tests.wire.test_identity import BOTH, logged, running
from tests.wire.tls_streams import TlsStreams


@pytest.fixture
def signer(tmp_path: Path, certificates: Certificates) -> Signer:
    return Signer(tmp_path, "one", certificates)


@asynccontextmanager
async def hearing(
    context: ssl.SSLContext, said: bytes, heard: list[bool], *, ends: bool
) -> AsyncIterator[int]:
    """An origin that answers, and notes whether the other side's end was said."""

    async def visit(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        streams = TlsStreams(reader, writer, context)
        await streams.shake()
        await streams.readuntil(b"\r\n\r\n")
        streams.write(said)
        if ends:
            streams.write_eof()
        with contextlib.suppress(ConnectionError):
            await streams.read()
        heard.append(streams.clean)
        writer.close()

    server = await asyncio.start_server(visit, "127.0.0.1", 0)
    try:
        yield server.sockets[0].getsockname()[1]
    finally:
        server.close()


ANSWERS = {
    "close": (response(b"hi", "200 OK", "connection: close"), False),
    "without a length": (b"HTTP/1.1 200 OK\r\n\r\nhi", True),
    "close, and its end": (response(b"hi", "200 OK", "connection: close"), True),
    "kept": (response(b"hi"), False),
}


@pytest.mark.parametrize("kind", ANSWERS)
def test_an_endpoint_hears_the_end_of_each_connection(
    run: Run, certificates: Certificates, kind: str
) -> None:
    """RFC 8446 §6.1."""
    said, ends = ANSWERS[kind]
    heard: list[bool] = []

    async def go() -> None:
        async with hearing(certificates.origin("http/1.1"), said, heard, ends=ends) as port:
            made = Mesh("native", port).to("http1", tls={"ca": certificates.ca})
            async with running(made) as proxy, asking("http1", proxy.addresses["edge"]) as ask:
                answer = await ask(request())
                assert (answer.status, answer.body) == (200, b"hi")
                if kind != "kept":
                    await eventually(lambda: heard == [True])
            await eventually(lambda: heard == [True])

    run(go())


@pytest.mark.parametrize("version", ["1.2", "1.3"])
@pytest.mark.parametrize("method", ["GET", "POST"])
@BOTH
def test_an_endpoint_that_refuses_our_certificate_was_not_connected_to(
    run: Run,
    certificates: Certificates,
    signer: Signer,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    protocol: str,
    method: str,
    version: str,
) -> None:
    """With TLS 1.3 it says so behind our side of the handshake, when the request is on its way."""
    context = certificates.origin("h2" if protocol == "h2" else "http/1.1")
    context.verify_mode = ssl.CERT_REQUIRED
    context.load_verify_locations(signer.ca)
    if version == "1.2":
        context.maximum_version = ssl.TLSVersion.TLSv1_2
    other = Signer(tmp_path, "two", certificates).issue("dns:a.example")
    own = {"cert": other.cert, "key": other.key}

    async def visit(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with pytest.raises(ssl.SSLError):
            await TlsStreams(reader, writer, context).shake()
        with contextlib.suppress(ConnectionError):
            await reader.read()
        writer.close()

    async def go() -> None:
        server = await asyncio.start_server(visit, "127.0.0.1", 0)
        port = server.sockets[0].getsockname()[1]
        for tls in ({}, own):
            made = Mesh("native", port).to(protocol, tls={"ca": certificates.ca, **tls})
            made.via(retry="off")
            made.top["access_log"] = "json"
            async with (
                running(made) as proxy,
                asking("http1", proxy.addresses["edge"]) as ask,
            ):
                assert (await ask(request(method, body=b"hi" * (method == "POST")))).status == 502
        server.close()

    run(go())
    lines = logged(capsys)
    assert [line["reason"] for line in lines] == ["upstream_connect"] * 2
    assert all(re.fullmatch("alert [a-z_]+", line["detail"]) for line in lines)
    assert lines[1]["detail"] == "alert unknown_ca"
