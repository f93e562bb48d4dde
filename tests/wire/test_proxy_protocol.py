"""Connections that a balancer announces by the PROXY protocol."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest

from meshcore import Layer, Proxy, Request
from meshcore.config.load import load_text
from meshcore.downstream import first_bytes
from tests.wire.balancer import V2, Balancer, local, v1, v2
from tests.wire.blame import every_way
from tests.wire.client import Client
from tests.wire.conftest import Run, Serve, eventually, metric
from tests.wire.either import Service, asking, request, response, service
from tests.wire.h2_client import H2Client
from tests.wire.h2_mesh import Mesh
from tests.wire.origin import Origin
from tests.wire.origin import response as raw

TRUSTED = {"trusted": ["127.0.0.0/8"]}
NOBODY = {"trusted": ["192.0.2.0/24"]}
GET = b"GET / HTTP/1.1\r\nhost: a.test\r\n\r\n"
ALPN = b"\x01\x00\x02h2"


class Seen(Layer):
    """Notes who asks."""

    def __init__(self) -> None:
        self.clients: list[str | None] = []

    def on_request(self, request: Request) -> None:
        self.clients.append(request.client)


@asynccontextmanager
async def announced(
    endpoint: str, engine: str, layer: Layer | None = None, **listener: Any
) -> AsyncIterator[tuple[Proxy, Service]]:
    """A proxy behind a balancer; it admits one request an hour from each address, and logs."""
    async with service(endpoint, lambda _: response(b"hi")) as origin:
        mesh = Mesh(engine, origin.port).to(endpoint)
        mesh.listen(**({"proxy_protocol": TRUSTED} | listener))
        mesh.top["access_log"] = "json"
        python = [{"python": "a:Seen"}] if layer else []
        mesh.via(layers=[*python, {"client_limit": {"rate": "1/h", "burst": 1}}])
        layers = {"a:Seen": layer} if layer else {}
        async with Proxy(load_text(str(mesh)), layers=layers) as proxy:
            yield proxy, origin


def logged(capsys: pytest.CaptureFixture[str]) -> list[dict[str, Any]]:
    return [json.loads(line) for line in capsys.readouterr().out.splitlines()]


HEADERS = pytest.mark.parametrize("header", [v1, v2], ids=["v1", "v2"])


# --- who the client is -------------------------------------------------------------------------


@every_way
@HEADERS
@pytest.mark.parametrize("pieces", [False, True], ids=["whole", "byte by byte"])
def test_the_announced_address_is_the_peer(
    run: Run,
    engine: str,
    capsys: pytest.CaptureFixture[str],
    client: str,
    endpoint: str,
    header: Any,
    pieces: bool,
) -> None:
    layer = Seen()
    sources = ["192.0.2.1", "192.0.2.1", "2001:db8::1", "192.0.2.2"]

    async def go() -> None:
        headers = [header(source) for source in sources]
        async with (
            announced(endpoint, engine, layer) as (proxy, origin),
            Balancer(proxy.addresses["edge"], *headers, pieces=pieces) as balancer,
        ):
            for status in (200, 429, 200, 200):
                async with asyncio.timeout(5), asking(client, balancer.url) as ask:
                    field = ("x-forwarded-for", "6.6.6.6")
                    assert (await ask(request("GET", "/", field))).status == status
            told = [asked.fields["x-forwarded-for"] for asked in origin.asked]
            assert told == [sources[0], sources[2], sources[3]]

    run(go())
    assert layer.clients == sources
    assert [line["client"] for line in logged(capsys)] == sources


@every_way
@HEADERS
def test_proxies_before_the_balancer_name_the_client(
    run: Run, engine: str, client: str, endpoint: str, header: Any
) -> None:
    layer = Seen()

    async def go() -> None:
        trust = {"trusted": ["192.0.2.0/24"]}
        async with (
            announced(endpoint, engine, layer, client_address=trust) as (proxy, origin),
            Balancer(
                proxy.addresses["edge"], header("192.0.2.1"), header("198.51.100.1")
            ) as balancer,
        ):
            for _ in range(2):
                async with asking(client, balancer.url) as ask:
                    await ask(request("GET", "/", ("x-forwarded-for", "1.1.1.1")))
            told = [asked.fields["x-forwarded-for"] for asked in origin.asked]
            assert told == ["1.1.1.1, 192.0.2.1", "198.51.100.1"]

    run(go())
    assert layer.clients == ["1.1.1.1", "198.51.100.1"]


@pytest.mark.parametrize(
    "header",
    [
        local(),
        b"PROXY UNKNOWN\r\n",
        V2 + b"\x21\x00\x00\x00",
        V2 + b"\x21\x31\x00\xd8" + b"x" * 216,
    ],
    ids=["LOCAL", "UNKNOWN", "no family", "a unix socket"],
)
@pytest.mark.parametrize("client", ["http1", "h2"])
def test_where_no_address_is_named_the_sockets_stays(
    run: Run, engine: str, client: str, header: bytes
) -> None:
    layer = Seen()

    async def go() -> None:
        async with (
            announced("http1", engine, layer) as (proxy, _),
            Balancer(proxy.addresses["edge"], header) as balancer,
            asking(client, balancer.url) as ask,
        ):
            assert (await ask(request())).status == 200

    run(go())
    assert layer.clients == ["127.0.0.1"]


def test_the_networks_of_client_address_are_enough(run: Run) -> None:
    layer = Seen()

    async def go() -> None:
        keys = {"proxy_protocol": True, "client_address": TRUSTED}
        async with (
            announced("http1", "native", layer, **keys) as (proxy, _),
            Balancer(proxy.addresses["edge"], v2("192.0.2.1", ALPN)) as balancer,
            asking("http1", balancer.url) as ask,
        ):
            await ask(request())

    run(go())
    assert layer.clients == ["192.0.2.1"]


@pytest.mark.parametrize(
    ("protocols", "client"), [({"h2": "off"}, "http1"), ({"http1": "off"}, "h2")]
)
def test_a_listener_of_one_protocol(run: Run, protocols: dict[str, str], client: str) -> None:
    layer = Seen()

    async def go() -> None:
        async with (
            announced("http1", "native", layer, protocols=protocols) as (proxy, _),
            Balancer(proxy.addresses["edge"], v1("192.0.2.1"), pieces=True) as balancer,
            asking(client, balancer.url) as ask,
        ):
            assert (await ask(request())).status == 200

    run(go())
    assert layer.clients == ["192.0.2.1"]


def test_a_unix_socket_hears_whom_its_mode_lets_in(run: Run, tmp_path: Path) -> None:
    layer = Seen()
    path = str(tmp_path / "edge")

    async def go() -> None:
        keys = {"bind": f"unix:{path}", "proxy_protocol": {"trusted": ["unix"]}}
        async with announced("http1", "native", layer, **keys):
            reader, writer = await asyncio.open_unix_connection(path)
            writer.write(v1("192.0.2.1") + GET)
            assert (await reader.readline()).split()[1] == b"200"
            writer.close()

    run(go())
    assert layer.clients == ["192.0.2.1"]


def test_one_header_is_for_the_whole_connection(run: Run, serve: Serve) -> None:
    """What follows is the client's: a second header is no request."""

    async def go() -> None:
        async with Origin(raw(b"hi")) as origin:
            mesh = Mesh("native", origin.port).listen(proxy_protocol=TRUSTED)
            async with serve(str(mesh)) as proxy, Client(proxy.addresses["edge"]) as client:
                await client.send(v1("192.0.2.1") + GET + GET)
                assert (await client.reply()).status == 200
                assert (await client.reply()).status == 200
                await client.send(v1("192.0.2.2") + GET)
                assert (await client.reply()).status == 400
            seen = origin.seen
            assert seen.count(b"x-forwarded-for: 192.0.2.1\r\n") == 2
            assert b"192.0.2.2" not in seen

    run(go())


# --- who is refused ----------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("sent", "detail"),
    [
        (GET, "no PROXY header"),
        (b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", "no PROXY header"),
        (b"PROXY TCP4 192.0.2.1 192.0.2.2 1\r\n" + GET, "malformed PROXY header"),
        (b"PROXY " + b"x" * 200, "PROXY header too long"),
        (V2 + b"\x21\x11\x00\x04abcd" + GET, "malformed PROXY header"),
        (V2 + b"\x21\x11\xff\xff", "PROXY header too long"),
    ],
)
def test_what_begins_with_no_header_is_cut_and_logged(
    run: Run, capsys: pytest.CaptureFixture[str], sent: bytes, detail: str
) -> None:
    async def go() -> None:
        async with (
            announced("http1", "native") as (proxy, origin),
            Client(proxy.addresses["edge"]) as client,
        ):
            await client.send(sent)
            assert await _end(client) == b""
            assert not origin.asked
            assert metric(proxy, "meshcore_requests_cut_total", reason="bad_request") == 1
            assert metric(proxy, "meshcore_local_answers_total") == 0
            await eventually(lambda: metric(proxy, "meshcore_listener_connections") == 0)

    run(go())
    (line,) = logged(capsys)
    assert (line["status"], line["reason"], line["by"]) == (0, "bad_request", "client")
    assert line["detail"] == detail
    assert line["client"] == "127.0.0.1"


async def _end(client: Client) -> bytes:
    """What comes until the proxy cuts."""
    try:
        return await client.closed()
    except ConnectionError:
        return b""


@pytest.mark.parametrize("sent", [v1("192.0.2.1") + GET, v2("192.0.2.1") + GET, GET, b""])
def test_a_peer_that_is_not_trusted_is_not_heard(
    run: Run, capsys: pytest.CaptureFixture[str], sent: bytes
) -> None:
    async def go() -> None:
        async with (
            announced("http1", "native", proxy_protocol=NOBODY) as (proxy, origin),
            Client(proxy.addresses["edge"]) as client,
        ):
            client.writer.write(sent)
            assert await _end(client) == b""
            assert not origin.asked
            await eventually(lambda: metric(proxy, "meshcore_listener_connections") == 0)

    run(go())
    (line,) = logged(capsys)
    assert line["detail"] == "PROXY header from a peer that is not trusted"


@pytest.mark.parametrize("sent", [b"", b"PROXY", V2, v2("192.0.2.1")[:-1], v1("192.0.2.1")])
def test_a_header_has_the_time_of_a_head(run: Run, serve: Serve, sent: bytes) -> None:
    async def go() -> None:
        async with Origin(raw(b"hi")) as origin:
            mesh = Mesh("native", origin.port)
            mesh.listen(proxy_protocol=TRUSTED, timeouts={"header": "200ms"})
            async with serve(str(mesh)) as proxy, Client(proxy.addresses["edge"]) as client:
                await client.send(sent)
                async with asyncio.timeout(5):
                    await _end(client)
                timeouts = {"reason": "request_timeout", "by": "client"}
                whole = sent == v1("192.0.2.1")  # then it is a request that does not come
                assert metric(proxy, "meshcore_requests_cut_total", **timeouts) == (not whole)
            assert not origin.visits

    run(go())


def test_a_listener_that_is_full_takes_no_header(run: Run, serve: Serve) -> None:
    async def go() -> None:
        async with Origin(raw(b"hi")) as origin:
            mesh = Mesh("native", origin.port)
            mesh.listen(proxy_protocol=TRUSTED, limits={"connections": 1})
            async with serve(str(mesh)) as proxy, Client(proxy.addresses["edge"]) as first:
                await first.send(v1("192.0.2.1") + GET)
                assert (await first.reply()).status == 200
                async with Client(proxy.addresses["edge"]) as second:
                    assert await _end(second) == b""
                await first.send(GET)
                assert (await first.reply()).status == 200

    run(go())


# --- changes and ends ----------------------------------------------------------------------------


def test_a_reload_switches_it_on_and_off(run: Run) -> None:
    async def go() -> None:
        async with Origin(raw(b"hi")) as origin:

            def config(**keys: Any) -> Any:
                return load_text(str(Mesh("native", origin.port).listen(**keys)))

            async with Proxy(config()) as proxy:
                for keys, header in (
                    ({"proxy_protocol": TRUSTED}, v1("192.0.2.1")),
                    ({"proxy_protocol": False}, b""),
                ):
                    await proxy.reload(config(**keys))
                    async with Client(proxy.addresses["edge"]) as client:
                        await client.send(header + GET)
                        assert (await client.reply()).status == 200
            assert origin.seen.count(b"x-forwarded-for: 192.0.2.1\r\n") == 1
            assert origin.seen.count(b"x-forwarded-for: 127.0.0.1\r\n") == 1

    run(go())


@pytest.mark.parametrize("sent", [b"", v1("192.0.2.1"), v2("192.0.2.1")[:20]])
def test_a_drain_does_not_wait_for_a_header(
    run: Run, serve: Serve, monkeypatch: pytest.MonkeyPatch, sent: bytes
) -> None:
    monkeypatch.setattr(first_bytes, "DRAIN_QUIET_NS", 50_000_000)

    async def go() -> None:
        async with Origin(raw(b"hi")) as origin:
            mesh = Mesh("native", origin.port).listen(proxy_protocol=TRUSTED)
            async with serve(str(mesh)) as proxy, Client(proxy.addresses["edge"]) as client:
                client.writer.write(sent)
                await eventually(lambda: metric(proxy, "meshcore_listener_connections") == 1)
                async with asyncio.timeout(10):
                    await proxy.stop()
                    assert await _end(client) == b""

    run(go())


def test_many_streams_of_one_announced_connection(run: Run, serve: Serve, engine: str) -> None:
    async def go() -> None:
        async with Origin(raw(b"hi")) as origin:
            mesh = Mesh(engine, origin.port).listen(proxy_protocol=TRUSTED)
            async with (
                serve(str(mesh)) as proxy,
                Balancer(proxy.addresses["edge"], v2("192.0.2.1", ALPN)) as balancer,
                H2Client(balancer.url) as client,
            ):
                streams = [client.ask("/") for _ in range(20)]
                await asyncio.gather(*(stream.whole() for stream in streams))
                assert {stream.status for stream in streams} == {200}
            assert origin.seen.count(b"x-forwarded-for: 192.0.2.1\r\n") == 20

    run(go())
