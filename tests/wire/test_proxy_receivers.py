"""What nginx and HAProxy take our headers of the PROXY protocol to say."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from tests.conformance.programs import Program
from tests.ports import free_port
from tests.wire.client import Client
from tests.wire.conftest import Certificates, Run, Serve, eventually
from tests.wire.either import asking, request
from tests.wire.h2_mesh import Mesh
from tests.wire.test_proxy_to_upstreams import BEHIND, VERSIONS, Door, cluster_of

NGINX = """
daemon off;
master_process off;
pid {folder}/nginx.pid;
error_log {folder}/error.log;
events {{ worker_connections 64; }}
http {{
  access_log off;
  client_body_temp_path {folder}/body;
  proxy_temp_path {folder}/proxy;
  fastcgi_temp_path {folder}/fastcgi;
  uwsgi_temp_path {folder}/uwsgi;
  scgi_temp_path {folder}/scgi;
  server {{
    listen 127.0.0.1:{port} proxy_protocol {keys};
    {tls}
    return 200 "$proxy_protocol_addr $proxy_protocol_port $proxy_protocol_server_addr";
  }}
}}
"""
HAPROXY = """
global
  nbthread 1
defaults
  mode http
  timeout connect 5s
  timeout client 20s
  timeout server 20s
frontend edge
  bind 127.0.0.1:{port} accept-proxy {keys}
  http-request return status 200 content-type text/plain lf-string "%[src] %[src_port] %[dst]"
"""
PROTOCOLS = pytest.mark.parametrize("protocol", ["http1", "h2"])
RECEIVERS = pytest.mark.parametrize("receiver", ["nginx", "haproxy"])
SECURE = pytest.mark.parametrize("secure", [False, True], ids=["plain", "tls"])


@contextmanager
def receiving(
    receiver: str, folder: Path, protocol: str, certificates: Certificates | None
) -> Iterator[int]:
    """The port at which it tells who asks."""
    path = f"{os.environ.get('PATH', '')}:/usr/sbin:/sbin"
    command = shutil.which(receiver, path=path)
    if command is None:
        pytest.fail(f"missing: {receiver} (Debian: apt-get install {receiver})")
    port, file, h2 = free_port(), folder / f"{receiver}.conf", protocol == "h2"
    if receiver == "nginx":
        keys = f"{'http2' if h2 else ''} {'ssl' if certificates else ''}"
        tls = certificates
        pair = f"ssl_certificate {tls.cert}; ssl_certificate_key {tls.key};" if tls else ""
        file.write_text(NGINX.format(port=port, folder=folder, keys=keys, tls=pair))
        arguments = ["-p", str(folder), "-c", str(file)]
    else:
        keys = "proto h2" if h2 and not certificates else ""
        if certificates:
            both = folder / "both.pem"
            both.write_bytes(
                b"".join(Path(x).read_bytes() for x in (certificates.cert, certificates.key))
            )
            keys = f"ssl crt {both} alpn {'h2' if h2 else 'http/1.1'}"
        file.write_text(HAPROXY.format(port=port, keys=keys))
        arguments = ["-db", "-f", str(file)]
    with Program(receiver, [command, *arguments], folder / f"{receiver}.log") as program:
        program.listens(port)
        yield port


@RECEIVERS
@PROTOCOLS
@VERSIONS
@SECURE
def test_clients_are_told_apart(
    run: Run,
    serve: Serve,
    tmp_path: Path,
    certificates: Certificates,
    receiver: str,
    protocol: str,
    version: str,
    secure: bool,
) -> None:
    async def go(port: int) -> None:
        mesh = Mesh("native", port).to(protocol, proxy_protocol=version)
        if secure:
            mesh.to(protocol, tls={"ca": certificates.ca})
        async with (
            serve(str(mesh)) as proxy,
            Client(proxy.addresses["edge"], "127.0.0.7") as one,
            Client(proxy.addresses["edge"], "127.0.0.8") as other,
        ):
            cluster = cluster_of(proxy)
            for client in (one, other, one, other):
                host, at = client.writer.get_extra_info("sockname")
                reply = await client.get()
                assert reply.status == 200
                assert reply.body.decode() == f"{host} {at} 127.0.0.1"
        await eventually(lambda: cluster.connections == 0)  # TLS ends with two words

    with receiving(receiver, tmp_path, protocol, certificates if secure else None) as port:
        run(go(port))


@RECEIVERS
@VERSIONS
def test_a_client_of_the_other_family_than_the_listener(
    run: Run, serve: Serve, tmp_path: Path, receiver: str, version: str
) -> None:
    async def go(port: int) -> None:
        mesh = Mesh("native", port).to(proxy_protocol=version).listen(**BEHIND)
        async with serve(str(mesh)) as proxy, asking("http1", proxy.addresses["edge"]) as ask:
            reply = await ask(request("GET", "/", ("x-forwarded-for", "2001:db8::1")))
            assert reply.body.decode() == "2001:db8::1  ::"  # as either writes a port of 0

    with receiving(receiver, tmp_path, "http1", None) as port:
        run(go(port))


@RECEIVERS
@VERSIONS
def test_a_client_without_an_address(
    run: Run, serve: Serve, tmp_path: Path, receiver: str, version: str
) -> None:
    path = str(tmp_path / "edge.sock")

    async def go(port: int) -> None:
        mesh = Mesh("native", port).to(proxy_protocol=version).listen(bind=f"unix:{path}")
        async with (
            serve(str(mesh)),
            Door(path) as door,
            asking("http1", f"http://127.0.0.1:{door.port}") as ask,
        ):
            reply = await ask(request())
        assert reply.status == 200
        # HAProxy has the socket's own address then, nginx none.
        assert reply.body.decode().split()[:1] == ([] if receiver == "nginx" else ["127.0.0.1"])

    with receiving(receiver, tmp_path, "http1", None) as port:
        run(go(port))
