"""TLS sessions are resumed at whichever worker their client meets."""

from __future__ import annotations

import os
import signal
import socket
import ssl
from pathlib import Path

import pytest
import trustme

from meshcore.process.tickets import LIFETIME_S, OwnKeys, TicketKeys
from tests.process.program import Program

MESH = """\
version: 1
drain: 5s
listeners: {edge: {bind: "127.0.0.1:0", tls: {cert: cert.pem, key: key.pem}}}
routes: [{name: hello, respond: {body: hello}}]
"""


def ask(
    at: tuple[str, int], context: ssl.SSLContext, session: ssl.SSLSession | None
) -> tuple[bool, ssl.SSLSession | None]:
    """Whether a session was resumed, and the next one."""
    with (
        socket.create_connection(at) as sock,
        context.wrap_socket(sock, server_hostname="127.0.0.1", session=session) as secure,
    ):
        secure.sendall(b"GET / HTTP/1.1\r\nhost: a\r\nconnection: close\r\n\r\n")
        answer = b""
        while piece := secure.recv(65_536):
            answer += piece
        assert answer.endswith(b"hello")
        return bool(secure.session_reused), secure.session


def test_a_client_resumes_at_any_worker_also_at_one_that_came_later(tmp_path: Path) -> None:
    authority = trustme.CA()
    pair = authority.issue_cert("127.0.0.1")
    pair.cert_chain_pems[0].write_to_path(tmp_path / "cert.pem")
    pair.private_key_pem.write_to_path(tmp_path / "key.pem")
    context = ssl.create_default_context()
    authority.configure_trust(context)
    file = tmp_path / "mesh.yaml"
    file.write_text(MESH)
    with Program(file, "--workers", "3") as program:
        host, port = program.url().removeprefix("https://").split(":")
        at = (host, int(port))
        resumed, session = ask(at, context, None)
        assert not resumed
        for _ in range(12):  # to each of three, as good as surely
            resumed, session = ask(at, context, session)
            assert resumed
        before = program.workers()
        for pid in before.values():
            os.kill(pid, signal.SIGKILL)
        program.until(
            lambda: (
                len(program.workers()) == 3
                and not set(program.workers().values()) & set(before.values())
            )
        )
        assert ask(at, context, session)[0]
        assert program.stop() == 0


def test_a_new_key_seals_and_the_one_before_it_opens() -> None:
    tickets = TicketKeys()
    first = tickets.keys
    assert [len(key) for key in first] == [48]
    tickets.renew()
    second = tickets.keys
    assert second[1:] == first
    tickets.renew()
    assert tickets.keys[1:] == second[:1]
    assert len({*tickets.keys, *second}) == 3


class Ring:
    """What is in force."""

    def __init__(self) -> None:
        self.keys: tuple[bytes, ...] = ()

    def set(self, keys: tuple[bytes, ...]) -> None:
        self.keys = keys


def test_keys_of_a_process_are_renewed_once_however_many_look(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    ring = Ring()
    monkeypatch.setattr("meshcore.process.tickets.TICKETS", ring)
    monkeypatch.setattr("time.monotonic", lambda: 1_000.0)
    own = OwnKeys()
    first = ring.keys
    assert own.look(1_000.0) == LIFETIME_S
    assert own.look(999.0 + LIFETIME_S) == 1.0
    assert ring.keys == first
    assert own.look(1_010.0 + LIFETIME_S) == LIFETIME_S
    second = ring.keys
    assert second[1:] == first
    assert own.look(1_011.0 + LIFETIME_S) == LIFETIME_S - 1
    assert ring.keys == second
