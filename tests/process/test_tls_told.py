"""TLS of all workers as one: metrics of handshakes, and certificates in the status."""

from __future__ import annotations

import datetime
import socket
import ssl
from pathlib import Path

from click.testing import CliRunner

from meshcore.cli import main
from tests.process.program import Program
from tests.process.test_workers import get
from tests.wire.conftest import Certificates
from tests.wire.identities import Signer
from tests.wire.test_ocsp import Authority

MESH = """\
version: 1
drain: 5s
admin: {bind: "127.0.0.1:0"}
listeners:
  edge:
    bind: "127.0.0.1:0"
    layers: [allow: {shadow: on, rules: []}]
    tls:
      cert: 127.0.0.1.pem
      key: 127.0.0.1.key
      ocsp: 127.0.0.1.der
      policy: modern
      sni:
        a.test:
          cert: 127.0.0.1.pem
          key: 127.0.0.1.key
          certificates: [{cert: 127.0.0.1.rsa.pem, key: 127.0.0.1.rsa.key}]
        b.test: {cert: 127.0.0.1.pem, key: 127.0.0.1.key, client_ca: ca.pem}
        c.test:
          cert: 127.0.0.1.pem
          key: 127.0.0.1.key
          client_auth: {ca: ca.pem, mode: request}
        d.test:
          cert: 127.0.0.1.pem
          key: 127.0.0.1.key
          client_auth: {ca: [old/one/ca.pem, new/one/ca.pem], crl: new/one/crl.pem}
        e.test:
          cert: 127.0.0.1.pem
          key: 127.0.0.1.key
          client_auth: {ca: late/two/ca.pem, crl: late/two/crl.pem}
upstreams:
  there: {endpoints: ["127.0.0.1:1"], tls: {ca: ca.pem, cert: 127.0.0.1.pem, key: 127.0.0.1.key}}
routes:
  - {name: hello, respond: {body: hello}}
  - {name: on, match: {path: {prefix: /on}}, upstream: there}
"""
TIMES = 12
NAMES = ("a.test", "b.test", "c.test", "d.test", "e.test")


def test_handshakes_of_all_workers_are_one_count_and_status_shows_certificates(
    tmp_path: Path,
) -> None:
    authority = Authority(tmp_path)
    authority.says(authority.pair("127.0.0.1", "a.test"))
    authority.pair("127.0.0.1", "a.test", is_rsa=True)
    believed = tmp_path / "believed"
    believed.mkdir()
    for key in ("old", "new"):
        Signer(tmp_path / key, "one", Certificates(believed)).revoke()
    late = Signer(tmp_path / "late", "two", Certificates(believed))
    late.revoke(ends_in=-datetime.timedelta(days=1))
    context = ssl.create_default_context()
    authority.believed_by(context)
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
        assert len(ends) == 8
        certificates = program.status()["certificates"]
        where = {(x["listener"], x["upstream"], x["server_name"], x["key"]) for x in certificates}
        ecdsa = {("edge", None, name, "ECDSA") for name in (None, *NAMES)}
        rsa = ("edge", None, "a.test", "RSA")
        assert where == {(None, "there", None, "ECDSA"), *ecdsa, rsa}
        assert {tuple(x["names"]) for x in certificates} == {("127.0.0.1", "a.test")}
        assert all(x["days_left"] > 0 for x in certificates)
        assert {x["ocsp"] and x["ocsp"]["status"] for x in certificates} == {None, "good"}
        assert program.status()["tls"] == {
            "edge": {
                "min_version": "1.3",
                "client_auth": None,
                "client_auth_by_name": {
                    "b.test": "require",
                    "c.test": "request",
                    "d.test": "require",
                    "e.test": "require",
                },
                "ocsp": True,
            }
        }
        shown = CliRunner().invoke(main, ["status", str(file)]).output
        for kind, owner in (
            ("ECDSA", "listener edge"),
            ("ECDSA", "listener edge for a.test"),
            ("RSA", "listener edge for a.test"),
            ("ECDSA", "upstream there"),
        ):
            assert f"{kind} certificate of {owner}: 127.0.0.1, a.test, until " in shown
        assert (
            "(TLS from 1.3 on, client certificates of b.test: require, client certificates of "
            "c.test: request, client certificates of d.test: require, client certificates of "
            "e.test: require)"
        ) in shown
        assert (
            "authority CN=one (serial 01) of listener edge for d.test: no revocation list of its "
            "key, whom it has revoked comes in\n"
        ) in shown
        assert "authority CN=two (serial 01) of listener edge for e.test: its revocation list " in (
            shown
        )
        assert " EXPIRED at " in shown
        assert ", nobody whom it is about comes in\n" in shown
        line = program.line(r"listener edge for e.test: the revocation list of CN=two .*")[0]
        assert line.endswith(": nobody whom it is about comes in")
        assert " days left, OCSP good until " in shown
        assert "allow of listener edge: in shadow, refuses nothing\n" in shown
        assert program.stop() == 0
