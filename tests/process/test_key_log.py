"""Secrets of TLS are written when the command line says so, as NSS and OpenSSL write them."""

from __future__ import annotations

import re
import socket
import ssl
import stat
import subprocess
import sys
import threading
from pathlib import Path

import pytest
import trustme

from tests.process.program import Program

MESH = """\
version: 1
drain: 5s
listeners: {{edge: {{bind: "127.0.0.1:0", tls: {{cert: cert.pem, key: key.pem}}}}}}
upstreams: {{there: {{endpoints: ["127.0.0.1:{port}"], tls: {{ca: ca.pem}}}}}}
routes: [{{name: on, upstream: there}}]
"""
# draft-ietf-tls-keylogfile §2.
LINE = re.compile(r"[A-Z_0-9]+ [0-9a-f]{64} ([0-9a-f]{64}|[0-9a-f]{96})")
# Each worker connects for itself, and one connection is served at a time.
ANSWER = b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\nconnection: close\r\n\r\nhi"
LATER = "EXPORTER_SECRET"  # of which one library tells and the other does not


class Endpoint:
    """Answers over TLS, and writes down its secrets itself."""

    def __init__(self, pair: trustme.LeafCert, log: Path) -> None:
        self._context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
        pair.configure_cert(self._context)
        self._context.keylog_filename = str(log)
        self._sock = socket.create_server(("127.0.0.1", 0))
        self.port = self._sock.getsockname()[1]
        self._thread = threading.Thread(target=self._serve, daemon=True)
        self._thread.start()

    def _serve(self) -> None:
        while True:
            try:
                plain, _ = self._sock.accept()
            except OSError:
                return
            with self._context.wrap_socket(plain, server_side=True) as secure:
                if secure.recv(65_536):
                    secure.sendall(ANSWER)

    def close(self) -> None:
        self._sock.shutdown(socket.SHUT_RDWR)
        self._sock.close()
        self._thread.join(10)


def ask(url: str, authority: trustme.CA, version: ssl.TLSVersion, log: Path) -> None:
    context = ssl.create_default_context()
    authority.configure_trust(context)
    context.minimum_version = context.maximum_version = version
    context.keylog_filename = str(log)
    host, port = url.removeprefix("https://").split(":")
    with (
        socket.create_connection((host, int(port))) as sock,
        context.wrap_socket(sock, server_hostname="127.0.0.1") as secure,
    ):
        secure.sendall(b"GET / HTTP/1.1\r\nhost: a\r\nconnection: close\r\n\r\n")
        answer = b""
        while piece := secure.recv(65_536):
            answer += piece
    assert answer.endswith(b"hi")


def secrets(log: Path) -> set[str]:
    lines = log.read_text().splitlines() if log.exists() else []
    return {x for x in lines if not x.startswith("#") and not x.startswith(LATER)}


@pytest.mark.parametrize("wanted", [True, False])
def test_secrets_are_written_with_the_flag_alone(tmp_path: Path, wanted: bool) -> None:
    authority = trustme.CA()
    pair = authority.issue_cert("127.0.0.1")
    authority.cert_pem.write_to_path(tmp_path / "ca.pem")
    pair.cert_chain_pems[0].write_to_path(tmp_path / "cert.pem")
    pair.private_key_pem.write_to_path(tmp_path / "key.pem")
    ours, clients, endpoints = (tmp_path / f"{x}.log" for x in ("ours", "clients", "endpoints"))
    endpoint = Endpoint(pair, endpoints)
    file = tmp_path / "mesh.yaml"
    file.write_text(MESH.format(port=endpoint.port))
    flags = ["--workers", "2", *(["--key-log"] if wanted else [])]
    try:
        with Program(file, *flags, SSLKEYLOGFILE=str(ours)) as program:
            url = program.url()
            for version in (ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3):
                ask(url, authority, version, clients)
            told = [line for line in program.lines if str(ours) in line]
            assert program.stop() == 0
    finally:
        endpoint.close()
    if not wanted:
        assert not ours.exists()
        assert told == []
        return
    assert told == [f"SECRETS OF TLS ARE WRITTEN TO {ours}: with it all traffic can be read"]
    assert stat.S_IMODE(ours.stat().st_mode) == 0o600
    assert all(LINE.fullmatch(line) for line in ours.read_text().splitlines())
    assert secrets(clients)
    assert secrets(endpoints)
    assert secrets(ours) == secrets(clients) | secrets(endpoints)


@pytest.mark.parametrize("where", [None, "/none/there"])
def test_a_flag_without_a_file_begins_nothing(tmp_path: Path, where: str | None) -> None:
    file = tmp_path / "mesh.yaml"
    file.write_text("version: 1\nlisteners: {edge: {bind: '127.0.0.1:0'}}\n")
    command = [sys.executable, "-m", "meshcore", "run", str(file), "--key-log"]
    environment = {} if where is None else {"SSLKEYLOGFILE": where}
    ended = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=30)
    assert ended.returncode == (2 if where is None else 1)
    assert (
        "SSLKEYLOGFILE names no file" if where is None else "/none/there: No such"
    ) in ended.stderr
