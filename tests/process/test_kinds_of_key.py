"""Both kinds of key at all workers: as files change, and as the program is replaced."""

from __future__ import annotations

import socket
import ssl
from pathlib import Path
from typing import Any

from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import rsa

from tests.process.program import Program
from tests.process.test_upgrade import end, upgraded
from tests.wire.test_ocsp import Authority

MESH = """\
version: 1
drain: 5s
watch: on
admin: {bind: "127.0.0.1:0"}
listeners:
  edge:
    bind: "127.0.0.1:0"
    tls:
      cert: a.test.pem
      key: a.test.key
      certificates: [{cert: a.test.rsa.pem, key: a.test.rsa.key}]
routes: [{name: hello, respond: {body: hello}}]
"""
TIMES = 8


class Client:
    """One that can verify one kind, as its suites of TLS 1.2 say."""

    def __init__(self, authority: Authority, kind: str) -> None:
        self._kind = kind
        self._context = ssl.create_default_context()
        authority.believed_by(self._context)
        self._context.maximum_version = ssl.TLSVersion.TLSv1_2
        self._context.set_ciphers(f"ECDHE-{kind}-AES128-GCM-SHA256")
        self.session: Any = None

    def meet(self, program: Program) -> tuple[int, bool]:
        """Which certificate it is shown, and whether the session before went on."""
        host, port = program.url().removeprefix("https://").split(":")
        with (
            socket.create_connection((host, int(port))) as sock,
            self._context.wrap_socket(
                sock, server_hostname="a.test", session=self.session
            ) as secure,
        ):
            self.session = secure.session
            seen = secure.getpeercert(binary_form=True)
            assert seen is not None
            read = x509.load_der_x509_certificate(seen)
            assert isinstance(read.public_key(), rsa.RSAPublicKey) is (self._kind == "RSA")
            return read.serial_number, bool(secure.session_reused)


def test_both_are_shown_on_as_files_and_programs_change(tmp_path: Path) -> None:
    authority = Authority(tmp_path)
    for is_rsa in (False, True):
        authority.pair("a.test", is_rsa=is_rsa)
    file = tmp_path / "mesh.yaml"
    file.write_text(MESH)
    with Program(file, "--workers", "2") as program:
        clients = [Client(authority, kind) for kind in ("ECDSA", "RSA")]
        first = [client.meet(program)[0] for client in clients]
        for client, number in zip(clients, first, strict=True):
            assert {client.meet(program) for _ in range(TIMES)} == {(number, True)}
        authority.pair("a.test", is_rsa=True)
        ecdsa, rsa_alone = clients

        def is_new() -> bool:
            rsa_alone.session = None
            return rsa_alone.meet(program)[0] != first[1]

        program.until(is_new)
        program.until(lambda: all(is_new() for _ in range(TIMES)))
        assert ecdsa.meet(program) == (first[0], True), "who has a ticket comes in by it"
        pid = upgraded(program)
        assert ecdsa.meet(program) == (first[0], True), "its keys of tickets go along"
        assert is_new()
        assert {rsa_alone.meet(program)[1] for _ in range(TIMES)} == {True}
        end(program, pid)
