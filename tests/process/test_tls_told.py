"""TLS of all workers as one: metrics of handshakes, and certificates in the status."""

from __future__ import annotations

import socket
import ssl
from pathlib import Path

import trustme
from click.testing import CliRunner

from meshcore.cli import main
from tests.process.program import Program
from tests.process.test_workers import get

MESH = """\
version: 1
drain: 5s
admin: {bind: "127.0.0.1:0"}
listeners:
  edge:
    bind: "127.0.0.1:0"
    tls: {cert: cert.pem, key: key.pem, sni: {a.test: {cert: cert.pem, key: key.pem}}}
upstreams:
  there: {endpoints: ["127.0.0.1:1"], tls: {ca: ca.pem, cert: cert.pem, key: key.pem}}
routes:
  - {name: hello, respond: {body: hello}}
  - {name: on, match: {path: {prefix: /on}}, upstream: there}
"""
TIMES = 12


def test_handshakes_of_all_workers_are_one_count_and_status_shows_certificates(
    tmp_path: Path,
) -> None:
    authority = trustme.CA()
    pair = authority.issue_cert("127.0.0.1", "a.test")
    authority.cert_pem.write_to_path(tmp_path / "ca.pem")
    pair.cert_chain_pems[0].write_to_path(tmp_path / "cert.pem")
    pair.private_key_pem.write_to_path(tmp_path / "key.pem")
    context = ssl.create_default_context()
    authority.configure_trust(context)
    file = tmp_path / "mesh.yaml"
    file.write_text(MESH)
    with Program(file, "--workers", "2") as program:
        host, port = program.url().removeprefix("https://").split(":")
        for _ in range(TIMES):
            with (
                socket.create_connection((host, int(port))) as sock,
                context.wrap_socket(sock, server_hostname="a.test") as secure,
            ):
                secure.sendall(b"GET / HTTP/1.1\r\nhost: a\r\nconnection: close\r\n\r\n")
                while secure.recv(65_536):
                    pass
        labels = 'listener="edge",version="1.3"'
        admin = program.line(r"listening (\S+) \(admin\)")[1]
        metrics = get(admin + "/metrics")[1].decode().splitlines()
        lines = [line for line in metrics if f"handshakes_total{{{labels}" in line]
        assert sum(int(line.rsplit(" ", 1)[1]) for line in lines) == TIMES
        ends = [x for x in metrics if x.startswith("meshcore_certificate_not_after_seconds{")]
        assert len(ends) == 3
        certificates = program.status()["certificates"]
        where = {(x["listener"], x["upstream"], x["server_name"]) for x in certificates}
        assert where == {("edge", None, None), ("edge", None, "a.test"), (None, "there", None)}
        assert {tuple(x["names"]) for x in certificates} == {("127.0.0.1", "a.test")}
        assert all(x["days_left"] > 0 for x in certificates)
        shown = CliRunner().invoke(main, ["status", str(file)]).output
        for owner in ("listener edge", "listener edge for a.test", "upstream there"):
            assert f"certificate of {owner}: 127.0.0.1, a.test, until " in shown
        assert program.stop() == 0
