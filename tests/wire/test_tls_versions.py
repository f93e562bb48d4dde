"""Which TLS is spoken, as `min_version` and `policy` say: towards clients and endpoints."""

from __future__ import annotations

import asyncio
import ssl
from typing import Any
from urllib.parse import urlsplit

import pytest

from tests.wire.client import Client
from tests.wire.conftest import Certificates, Run, Serve, metric
from tests.wire.h2_mesh import Mesh
from tests.wire.origin import Origin, response
from tests.wire.tls_streams import TlsStreams

MODERN = [{"policy": "modern"}, {"min_version": "1.3"}, {"policy": "modern", "min_version": "1.3"}]
INTERMEDIATE = [{}, {"policy": "intermediate"}, {"policy": "intermediate", "min_version": "1.2"}]
BOTH = [(keys, True) for keys in MODERN] + [(keys, False) for keys in INTERMEDIATE]


@pytest.mark.parametrize(("keys", "is_modern"), BOTH)
def test_a_listener_speaks_what_its_policy_says(
    run: Run, serve: Serve, certificates: Certificates, keys: dict[str, str], is_modern: bool
) -> None:
    async def go() -> None:
        mesh = Mesh("native", 1).listen(tls=certificates.listener | keys)
        async with serve(str(mesh)) as proxy:
            at = urlsplit(proxy.addresses["edge"])
            for version in (ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3):
                context = certificates.client()
                context.minimum_version = context.maximum_version = version
                reader, writer = await asyncio.open_connection(at.hostname, at.port)
                client = TlsStreams(reader, writer, context, server_name="127.0.0.1")
                if is_modern and version is ssl.TLSVersion.TLSv1_2:
                    with pytest.raises(ssl.SSLError, match="PROTOCOL_VERSION"):
                        await client.shake()
                else:
                    await client.shake()
                client.close()

    run(go())


@pytest.mark.parametrize(("keys", "is_modern"), BOTH)
def test_an_endpoint_is_spoken_to_as_the_policy_says(
    run: Run, serve: Serve, certificates: Certificates, keys: dict[str, str], is_modern: bool
) -> None:
    async def go() -> None:
        context = certificates.origin("http/1.1")
        context.maximum_version = ssl.TLSVersion.TLSv1_2
        async with Origin(response(b"hi"), tls=context) as origin:
            tls: dict[str, Any] = {"ca": certificates.ca} | keys
            async with serve(str(Mesh("native", origin.port).to(tls=tls))) as proxy:
                async with Client(proxy.addresses["edge"]) as client:
                    assert (await client.get()).status == (502 if is_modern else 200)
                made = "meshcore_upstream_tls_handshakes_total"
                assert metric(proxy, made, version="1.2") == int(not is_modern)

    run(go())
