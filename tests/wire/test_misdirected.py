"""Names with authorities of their own: who may ask for which, and over which connection."""

from __future__ import annotations

import asyncio
import json
import ssl
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import h2.config
import h2.connection
import h2.events
import pytest
import trustme

from meshcore import Proxy
from tests.wire.conftest import Run, Serve, metric, trusting
from tests.wire.h2_mesh import Mesh
from tests.wire.origin import Origin, response
from tests.wire.tls_streams import TlsStreams, shaken

HOSTS = ("open.test", "a.test", "b.test", "x.b.test", "like-a.test", "match.test", "strict.test")


class World:
    """A certificate for all hosts, and two authorities of clients."""

    def __init__(self, folder: Path) -> None:
        self._authority, self._folder = trustme.CA(), folder
        self._clients = {name: trustme.CA() for name in ("one", "two")}
        pair = self._authority.issue_cert(*HOSTS, "*.b.test", "other.test")
        pair.cert_chain_pems[0].write_to_path(folder / "cert.pem")
        pair.private_key_pem.write_to_path(folder / "key.pem")
        for name, authority in self._clients.items():
            authority.cert_pem.write_to_path(folder / f"{name}.pem")

    @property
    def tls(self) -> dict[str, Any]:
        """Of a listener: nobody is asked but for these names."""
        pair = {"cert": str(self._folder / "cert.pem"), "key": str(self._folder / "key.pem")}
        one, two = ({"client_ca": str(self._folder / f"{x}.pem")} for x in ("one", "two"))
        match = {"ca": one["client_ca"], "mode": "request", "match": {"san": "dns:client.test"}}
        strict = match | {"match": {"san": "dns:nobody.test"}}
        return pair | {
            "sni": {
                "open.test": pair,
                "a.test": pair | one,
                "like-a.test": pair | one,
                "*.b.test": pair | two,
                "b.test": pair | two,
                "open.b.test": pair,
                "match.test": pair | {"client_auth": match},
                "strict.test": pair | {"client_auth": strict},
            }
        }

    def client(self, vouched: str | None, *alpn: str) -> ssl.SSLContext:
        """One that an authority vouches for, if any does."""
        context = trusting(self._authority, *alpn)
        if vouched is not None:
            self._clients[vouched].issue_cert("client.test").configure_cert(context)
        return context


@pytest.fixture
def world(tmp_path: Path) -> World:
    return World(tmp_path)


@asynccontextmanager
async def served(serve: Serve, world: World, **keys: Any) -> AsyncIterator[Proxy]:
    async with Origin(response(b"hi")) as origin:
        mesh = Mesh("native", origin.port).listen(tls=world.tls, **keys)
        mesh.top["access_log"] = "json"
        async with serve(str(mesh)) as proxy:
            yield proxy


class Asker:
    """A connection for a name, over which requests for any host go."""

    def __init__(self, streams: TlsStreams, h2: bool) -> None:
        self._streams = streams
        self._h2 = h2_connection() if h2 else None

    async def ask(self, host: str) -> tuple[int, str | None]:
        """Status and reason."""
        if self._h2 is not None:
            return await self._ask_h2(self._h2, host)
        self._streams.write(f"GET / HTTP/1.1\r\nhost: {host}\r\n\r\n".encode())
        head = (await self._streams.readuntil(b"\r\n\r\n")).decode().lower()
        fields = dict(line.split(": ", 1) for line in head.split("\r\n")[1:-2])
        await self._streams.readexactly(int(fields["content-length"]))
        return int(head.split()[1]), fields.get("x-mesh-reason")

    async def _ask_h2(self, h2c: h2.connection.H2Connection, host: str) -> tuple[int, str | None]:
        stream = h2c.get_next_available_stream_id()
        asked = [(":method", "GET"), (":scheme", "https"), (":path", "/"), (":authority", host)]
        h2c.send_headers(stream, asked, end_stream=True)
        fields: dict[str, str] = {}
        while True:
            self._streams.write(h2c.data_to_send())
            for event in h2c.receive_data(await self._streams.read(65_536)):
                if isinstance(event, h2.events.ResponseReceived):
                    fields = {str(name): str(value) for name, value in event.headers or []}
                elif isinstance(event, h2.events.StreamEnded):
                    return int(fields[":status"]), fields.get("x-mesh-reason")


def h2_connection() -> h2.connection.H2Connection:
    config = h2.config.H2Configuration(header_encoding="utf-8")
    made = h2.connection.H2Connection(config)
    made.initiate_connection()
    return made


@asynccontextmanager
async def asking(
    proxy: Proxy, context: ssl.SSLContext, name: str, *, h2: bool = False
) -> AsyncIterator[Asker]:
    at = urlsplit(proxy.addresses["edge"])
    reader, writer = await asyncio.open_connection(at.hostname, at.port)
    streams = TlsStreams(reader, writer, context, server_name=name)
    try:
        await streams.shake()
        yield Asker(streams, h2)
    finally:
        streams.close()


@pytest.mark.parametrize("h2", [False, True], ids=["h1", "h2"])
@pytest.mark.parametrize(
    ("vouched", "name", "served_hosts"),
    [
        (None, "open.test", {"open.test", "other.test", "open.b.test", "127.0.0.1"}),
        (None, "other.test", {"open.test", "other.test", "open.b.test", "127.0.0.1"}),
        ("one", "a.test", {"a.test", "A.Test.", "a.test:443", "like-a.test"}),
        ("two", "b.test", {"b.test", "x.b.test", "y.b.test"}),
        ("two", "x.b.test", {"b.test", "x.b.test", "y.b.test"}),
        ("one", "match.test", {"match.test"}),
        (None, "match.test", {"match.test"}),
        (None, "strict.test", {"strict.test"}),
    ],
)
def test_a_request_for_a_host_with_another_rule_is_misdirected(
    run: Run,
    serve: Serve,
    world: World,
    capsys: pytest.CaptureFixture[str],
    vouched: str | None,
    name: str,
    served_hosts: set[str],
    h2: bool,
) -> None:
    hosts = {
        *("open.test", "other.test", "open.b.test", "127.0.0.1", "a.test", "A.Test.", "a.test:443"),
        *("like-a.test", "b.test", "x.b.test", "y.b.test", "match.test", "strict.test"),
    }

    async def go() -> None:
        context = world.client(vouched, "h2" if h2 else "http/1.1")
        # A limit that one misdirected request would use up: it is charged for nothing.
        layers = [{"client_limit": {"rate": "1/h", "burst": len(served_hosts)}}]
        async with (
            served(serve, world, layers=layers) as proxy,
            asking(proxy, context, name, h2=h2) as client,
        ):
            for host in sorted(hosts - served_hosts):
                assert await client.ask(host) == (421, "misdirected"), host
            for host in sorted(served_hosts):
                assert await client.ask(host) == (200, None), host
            refused = len(hosts - served_hosts)
            assert metric(proxy, "meshcore_local_answers_total", reason="misdirected") == refused

    run(go())
    lines = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    told = [
        (line["status"], line["by"], line["detail"])
        for line in lines
        if line.get("reason") == "misdirected"
    ]
    why = "clients of this host are verified by another rule than its connection's"
    assert told == [(421, "client", why)] * len(hosts - served_hosts)


@pytest.mark.parametrize(
    ("vouched", "name"),
    [
        *((None, "a.test"), ("two", "a.test")),
        *(("one", "b.test"), ("one", "x.b.test"), (None, "b.test")),
        *(("two", "match.test"), ("one", "strict.test")),
    ],
)
def test_who_is_not_vouched_for_is_not_let_in(
    run: Run, serve: Serve, world: World, vouched: str | None, name: str
) -> None:
    async def go() -> None:
        async with served(serve, world) as proxy:
            with pytest.raises((ssl.SSLError, asyncio.IncompleteReadError, ConnectionError)):
                async with asking(proxy, world.client(vouched), name) as client:
                    await client.ask(name)

    run(go())


def test_a_ticket_is_of_its_name_s_rule(run: Run, serve: Serve, world: World) -> None:
    """Resumed under another name it would bring a client in that was never verified."""

    async def go() -> None:
        context = world.client(None)
        context.maximum_version = ssl.TLSVersion.TLSv1_2
        async with served(serve, world) as proxy:
            url = proxy.addresses["edge"]
            session = (await shaken(url, context, "open.test", None)).session
            assert (await shaken(url, context, "open.test", session)).resumed
            assert not (await shaken(url, context, "other.test", session)).resumed  # RFC 6066 §3
            with pytest.raises(ssl.SSLError):
                await shaken(url, context, "a.test", session)

    run(go())
