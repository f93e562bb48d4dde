"""Unix sockets on both sides, TLS to the endpoint, and a port that is not to be had."""

from __future__ import annotations

import asyncio
import socket
import ssl
from pathlib import Path
from typing import Any

import pytest
import trustme

from meshcore import Proxy, load_text
from meshcore.downstream.sockets import bound_socket
from tests.wire.client import Client
from tests.wire.conftest import Run, Serve
from tests.wire.test_forward import mesh

REPLY = b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nhi"


async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    try:
        while True:
            await reader.readuntil(b"\r\n\r\n")
            writer.write(REPLY)
    except (asyncio.IncompleteReadError, ConnectionError):
        pass
    finally:
        writer.close()


def test_unix_sockets_on_both_sides(run: Run, serve: Serve, tmp_path: Path) -> None:
    async def go() -> None:
        service, edge = tmp_path / "service.sock", tmp_path / "edge.sock"
        text = mesh(1).replace('"127.0.0.1:1"', f'"unix:{service}"')
        text = text.replace("127.0.0.1:0", f"unix:{edge}")
        async with await asyncio.start_unix_server(answer, service), serve(text) as proxy:
            assert proxy.addresses["edge"] == f"http+unix:{edge}"
            for _ in range(2):
                reader, writer = await asyncio.open_unix_connection(edge)
                writer.write(b"GET / HTTP/1.1\r\nhost: a\r\nconnection: close\r\n\r\n")
                assert (await reader.read()).endswith(b"\r\n\r\nhi")
                writer.close()
        assert not edge.exists()

    run(go())


@pytest.fixture
def authority(tmp_path: Path) -> trustme.CA:
    ca = trustme.CA()
    ca.cert_pem.write_to_path(tmp_path / "ca.pem")
    return ca


@pytest.mark.parametrize(
    ("options", "status"),
    [
        ("ca: {ca}, server_name: api.internal", 200),
        ("ca: {ca}, server_name: other.internal", 502),
        ("server_name: api.internal", 502),  # not of the system's authorities
        ("insecure: true", 200),
    ],
)
def test_an_endpoint_over_tls_is_verified(
    run: Run, serve: Serve, tmp_path: Path, authority: trustme.CA, options: str, status: int
) -> None:
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    authority.issue_cert("api.internal").configure_cert(context)

    async def go() -> None:
        async with await asyncio.start_server(answer, "127.0.0.1", 0, ssl=context) as service:
            port = service.sockets[0].getsockname()[1]
            tls = f"tls: {{{options.format(ca=tmp_path / 'ca.pem')}}}"
            async with (
                serve(mesh(port, upstream=tls, route="retry: off")) as proxy,
                Client(proxy.addresses["edge"]) as client,
            ):
                reply = await client.get()
                reason = None if status == 200 else "upstream_connect"
                assert (reply.status, reply.fields.get("x-mesh-reason")) == (status, reason)

    run(go())


def test_an_endpoint_that_speaks_no_tls_is_a_failed_connect(run: Run, serve: Serve) -> None:
    async def go() -> None:
        async with await asyncio.start_server(answer, "127.0.0.1", 0) as service:
            port = service.sockets[0].getsockname()[1]
            text = mesh(port, upstream="tls: {insecure: true}\n        connect_timeout: 300ms")
            async with serve(text) as proxy, Client(proxy.addresses["edge"]) as client:
                assert (await client.get()).status == 502

    run(go())


def test_a_port_that_another_listens_on_first_is_an_error(
    run: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    other = socket.socket()

    def bound(spec: Any, *, reuse_port: bool = False) -> socket.socket:
        """Bound, as another program's, which listens before we do."""
        ours = bound_socket(spec, reuse_port=reuse_port)
        other.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        other.bind(ours.getsockname())
        other.listen()
        return ours

    async def main() -> None:
        proxy = Proxy(load_text(mesh(1)))
        with pytest.raises(OSError, match="in use"):
            await proxy.start()
        await proxy.stop()

    monkeypatch.setattr("meshcore.process.doors.bound_socket", bound)
    with other:
        run(main())
