"""The PROXY protocol as HAProxy sends it: both versions, extensions, its checks of health."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import pytest

from tests.conformance.programs import Program
from tests.ports import free_port
from tests.wire.client import Client
from tests.wire.conftest import Run, Serve, eventually
from tests.wire.either import asking, request, response, service
from tests.wire.h2_mesh import Mesh

# HAProxy's own address: the clients' is another one.
BALANCER = "127.0.0.9"
CONFIG = """
global
  nbthread 1
defaults
  mode tcp
  timeout connect 5s
  timeout client 20s
  timeout server 20s
listen edge
  bind 127.0.0.1:{port}
  unique-id-format %[uuid()]
  {keys}
  server one 127.0.0.1:{to} source {balancer} {sends}
"""
SENDS = {
    "v1": "send-proxy",
    "v2": "send-proxy-v2",
    "v2-checksum": "send-proxy-v2 proxy-v2-options crc32c",
    "v2-extensions": "send-proxy-v2 proxy-v2-options crc32c,unique-id",
}


@contextmanager
def haproxy(folder: Path, to: int, sends: str, keys: str = "") -> Iterator[str]:
    """Where it takes clients."""
    path = f"{os.environ.get('PATH', '')}:/usr/sbin:/sbin"
    command = shutil.which("haproxy", path=path)
    if command is None:
        pytest.fail("missing: haproxy (Debian: apt-get install haproxy)")
    port = free_port()
    file = folder / "haproxy.cfg"
    text = CONFIG.format(port=port, to=to, balancer=BALANCER, sends=sends, keys=keys)
    file.write_text(text)
    with Program("haproxy", [command, "-db", "-f", str(file)], folder / "haproxy.log") as program:
        program.listens(port)
        yield f"http://127.0.0.1:{port}"


def mesh(engine: str, port: int) -> Mesh:
    return Mesh(engine, port).listen(proxy_protocol={"trusted": [BALANCER]})


def port_of(url: str) -> int:
    return int(url.rpartition(":")[2])


@pytest.mark.parametrize("client", ["http1", "h2"])
@pytest.mark.parametrize("sends", SENDS)
def test_a_client_behind_haproxy(
    run: Run, serve: Serve, engine: str, tmp_path: Path, client: str, sends: str
) -> None:
    async def go() -> None:
        async with (
            service("http1", lambda _: response(b"hi")) as origin,
            serve(str(mesh(engine, origin.port))) as proxy,
        ):
            to = port_of(proxy.addresses["edge"])
            with haproxy(tmp_path, to, SENDS[sends]) as url:
                async with asking(client, url) as ask:
                    assert (await ask(request())).status == 200
            assert [asked.fields["x-forwarded-for"] for asked in origin.asked] == ["127.0.0.1"]

    run(go())


def test_clients_are_told_apart(run: Run, serve: Serve, tmp_path: Path) -> None:
    async def go() -> None:
        async with service("http1", lambda _: response(b"hi")) as origin:
            text = mesh("native", origin.port)
            text.listen(layers=[{"client_limit": {"rate": "1/h", "burst": 1}}])
            async with serve(str(text)) as proxy:
                to = port_of(proxy.addresses["edge"])
                with haproxy(tmp_path, to, SENDS["v2"]) as url:
                    found = []
                    for source in ("127.0.0.2", "127.0.0.2", "127.0.0.3"):
                        async with Client(url, source) as client:
                            found.append((await client.get()).status)
                    assert found == [200, 429, 200]

    run(go())


@pytest.mark.parametrize("sends", ["v1", "v2"])
def test_checks_of_health_are_the_balancers_own(
    run: Run, serve: Serve, tmp_path: Path, sends: str
) -> None:
    checks = f"{SENDS[sends]} check check-send-proxy inter 50ms"

    async def go() -> None:
        async with (
            service("http1", lambda _: response(b"hi")) as origin,
            serve(str(mesh("native", origin.port))) as proxy,
        ):
            to = port_of(proxy.addresses["edge"])
            keys = "option httpchk GET /health"
            with haproxy(tmp_path, to, checks, keys):
                await eventually(lambda: len(origin.asked) >= 2)
            told = {asked.fields["x-forwarded-for"] for asked in origin.asked}
            assert told == {BALANCER}

    run(go())


def test_haproxy_that_announces_nobody_is_refused(run: Run, serve: Serve, tmp_path: Path) -> None:
    async def go() -> None:
        async with (
            service("http1", lambda _: response(b"hi")) as origin,
            serve(str(mesh("native", origin.port))) as proxy,
        ):
            with haproxy(tmp_path, port_of(proxy.addresses["edge"]), "") as url:
                async with Client(url) as client:
                    await client.send(b"GET / HTTP/1.1\r\nhost: a.test\r\n\r\n")
                    with suppress(ConnectionError):
                        assert await client.closed() == b""
            assert not origin.asked

    run(go())
