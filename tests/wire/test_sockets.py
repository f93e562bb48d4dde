"""Unix sockets on both sides, TLS to the endpoint, and a port that is not to be had."""

from __future__ import annotations

import asyncio
import os
import socket
import ssl
import stat
import textwrap
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import trustme

from meshcore import ConfigError, Proxy, load_text
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


def test_a_file_in_a_sockets_place_is_left(run: Run, tmp_path: Path) -> None:
    async def go() -> None:
        precious = tmp_path / "precious.txt"
        precious.write_text("years of work")
        with pytest.raises(OSError, match=f"cannot listen on {precious}: Address already in use"):
            await Proxy(load_text(mesh(1).replace("127.0.0.1:0", f"unix:{precious}"))).start()
        assert precious.read_text() == "years of work"

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

    monkeypatch.setattr("meshcore.process.socket_groups.bound_socket", bound)
    with other:
        run(main())


# --- who may connect to a unix socket ---------------------------------------------------------


def modes_when_bound(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """What the file of each unix socket was when it came to be, before anything else."""
    found: list[int] = []

    class Watched(socket.socket):
        def bind(self, address: Any) -> None:
            super().bind(address)
            if self.family == socket.AF_UNIX:
                found.append(mode_of(Path(address)))

    monkeypatch.setattr("meshcore.downstream.sockets.socket.socket", Watched)
    return found


def mode_of(path: Path) -> int:
    return stat.S_IMODE(path.stat().st_mode)


@pytest.fixture(params=[0o022, 0o077, 0])
def umask(request: pytest.FixtureRequest) -> Iterator[int]:
    """Of this process, whatever it is where the tests run."""
    before = os.umask(request.param)
    yield request.param
    os.umask(before)


@pytest.mark.parametrize(
    ("key", "expected"), [("", 0o600), (', mode: "0660"', 0o660), (', mode: "0o606"', 0o606)]
)
def test_a_unix_socket_lets_in_whom_its_mode_says(
    run: Run,
    serve: Serve,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    umask: int,
    key: str,
    expected: int,
) -> None:
    """From the moment on when it is there, and whatever the umask."""
    edge = tmp_path / "edge.sock"
    born = modes_when_bound(monkeypatch)

    async def go() -> None:
        async with serve(mesh(1).replace('"127.0.0.1:0"', f'"unix:{edge}"{key}')):
            assert mode_of(edge) == expected
            assert born == [expected & ~umask]

    run(go())


def test_a_reload_changes_the_mode_of_a_socket_that_stays(
    run: Run, serve: Serve, tmp_path: Path
) -> None:
    edge = tmp_path / "edge.sock"

    def text(key: str) -> str:
        return mesh(1).replace('"127.0.0.1:0"', f'"unix:{edge}"{key}')

    async def go() -> None:
        async with serve(text("")) as proxy:
            inode = edge.stat().st_ino
            for key, expected in ((', mode: "0666"', 0o666), ("", 0o600)):
                await proxy.reload(load_text(textwrap.dedent(text(key))))
                assert (mode_of(edge), edge.stat().st_ino) == (expected, inode)

    run(go())


def test_octal_digits_are_a_mode() -> None:
    for text, mode in (("0o660", 0o660), ('"660"', 0o660), ("0606", 0o606), ("660", 0o660)):
        config = load_text(f"version: 1\nlisteners: {{a: {{bind: 'unix:/a', mode: {text}}}}}")
        assert config.listeners["a"].mode == mode


@pytest.mark.parametrize(
    ("mode", "wrong"),
    [
        ("66", "expected the mode of a file, such as 0600"),
        ('"0888"', "expected the mode of a file, such as 0600"),
        ('"660 "', "expected the mode of a file, such as 0600"),
        ('"4660"', "expected the mode of a file, such as 0600"),
        ('""', "expected the mode of a file, such as 0600"),
        ("432", "432 keeps its owner out"),
        ('"0007"', "0007 keeps its owner out"),
    ],
)
def test_what_is_no_mode(mode: str, wrong: str) -> None:
    text = "version: 1\nlisteners: {a: {bind: 'unix:/a', mode: %s}}"
    with pytest.raises(ConfigError, match=wrong):
        load_text(text % mode)


def test_a_port_has_no_mode() -> None:
    with pytest.raises(ConfigError, match="mode is for a unix socket"):
        load_text('version: 1\nlisteners: {a: {bind: "a:1", mode: "0600"}}')
