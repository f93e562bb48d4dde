"""TLS sessions are resumed at whichever worker their client meets."""

from __future__ import annotations

import base64
import hashlib
import json
import os
import signal
import socket
import ssl
from pathlib import Path
from typing import Any, cast

import pytest
import trustme

from meshcore.config.load import load_text
from meshcore.config.ticket_keys import keys_in
from meshcore.errors import ConfigError
from meshcore.process.tickets import LIFETIME_S, Renewal, TicketKeys
from tests.process.program import Program
from tests.process.test_upgrade import end, upgraded

MESH = """\
version: 1
drain: 5s
listeners: {edge: {bind: "127.0.0.1:0", tls: {cert: cert.pem, key: key.pem}}}
routes: [{name: hello, respond: {body: hello}}]
"""


def some_bytes(count: int, seed: int = 0) -> bytes:
    """As random as keys, and the same in each process of the tests."""
    return hashlib.shake_256(bytes([seed])).digest(count)


KEYS = [base64.b64encode(some_bytes(48, n)).decode() for n in range(9)]
MAKE = "`openssl rand -base64 48`"


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


def sealed(folder: Path) -> tuple[trustme.CA, ssl.SSLContext]:
    """A certificate in a folder, and a client that believes it; its sessions are there at once."""
    authority = trustme.CA()
    pair = authority.issue_cert("127.0.0.1")
    pair.cert_chain_pems[0].write_to_path(folder / "cert.pem")
    pair.private_key_pem.write_to_path(folder / "key.pem")
    context = ssl.create_default_context()
    authority.configure_trust(context)
    context.maximum_version = ssl.TLSVersion.TLSv1_2
    return authority, context


def at_of(program: Program) -> tuple[str, int]:
    host, port = program.url().removeprefix("https://").split(":")
    return host, int(port)


def written(keys: list[bytes]) -> str:
    return "".join(f"{base64.b64encode(key).decode()}\n" for key in keys)


def test_hosts_with_one_file_of_keys_resume_one_another_s_sessions(tmp_path: Path) -> None:
    _, context = sealed(tmp_path)
    first, second = os.urandom(48), os.urandom(48)
    (tmp_path / "tickets").write_text(written([first]))
    file = tmp_path / "mesh.yaml"
    file.write_text(MESH + "ticket_keys: tickets\n")
    beside = tmp_path / "beside.yaml"
    beside.write_text(MESH + "ticket_keys: tickets\n")
    with Program(file, "--workers", "2") as one, Program(beside, "--workers", "2") as other:
        _, session = ask(at_of(one), context, None)
        assert [ask(at_of(other), context, session)[0] for _ in range(6)] == [True] * 6
        # Renewed at one after the other, no session is lost.
        (tmp_path / "tickets").write_text(written([second, first]))
        one.process.send_signal(signal.SIGHUP)
        one.line("is in force")
        resumed, session = ask(at_of(one), context, session)
        assert resumed
        other.process.send_signal(signal.SIGHUP)
        other.line("is in force")
        assert [ask(at_of(other), context, session)[0] for _ in range(6)] == [True] * 6
        # Without the old one its tickets are worth nothing.
        (tmp_path / "tickets").write_text(written([os.urandom(48)]))
        after = len(one.lines)
        one.process.send_signal(signal.SIGHUP)
        one.line("is in force", after=after)
        assert [ask(at_of(one), context, session)[0] for _ in range(6)] == [False] * 6
        assert one.stop() == other.stop() == 0


def test_an_upgrade_carries_the_keys(tmp_path: Path) -> None:
    _, context = sealed(tmp_path)
    file = tmp_path / "mesh.yaml"
    file.write_text(MESH)
    with Program(file, "--workers", "2") as program:
        _, session = ask(at_of(program), context, None)
        pid = upgraded(program)
        assert [ask(at_of(program), context, session)[0] for _ in range(6)] == [True] * 6
        assert "tickets" not in json.dumps(program.status())
        end(program, pid)


@pytest.mark.parametrize(
    ("content", "told"),
    [
        ("", f"holds no key: {MAKE} makes one"),
        ("# nothing\n", f"holds no key: {MAKE} makes one"),
        ("*\n", f"line 1 is no Base64: {MAKE} makes a key"),
        ("# one\nAAAA\n", f"line 2 holds 3 bytes: a key has 48: {MAKE} makes one"),
        (f"# one\n{KEYS[0]}\n{KEYS[1]}\n{KEYS[0]}\n", "holds a key twice, in lines 2 and 4"),
        ("\n".join(KEYS), "holds 9 keys: at most 8"),
        ("x" * 5000, "holds more than keys: at most 4096 bytes"),
        (
            base64.b64encode(b"\0" * 48).decode(),
            f"line 1 is no random key: {MAKE} makes one",
        ),
        (
            base64.b64encode(some_bytes(80)).decode(),
            "line 1 holds 80 bytes: a key has 48, and those of other programs are of no use here: "
            f"{MAKE} makes one",
        ),
        (
            base64.encodebytes(some_bytes(80)).decode().replace("\n", "")[:64] + f"\n{'A' * 43}=\n",
            "line 2 holds 32 bytes: a key has 48 and a line of its own, so a longer one that is "
            f"folded is none: {MAKE} makes one",
        ),
        (
            b"\xff" + some_bytes(47),
            "holds 48 bytes that are no text: keys are in Base64, `openssl base64 -A -in FILE` "
            "makes a line of a key of 48 bytes",
        ),
        (
            b"\xff" + some_bytes(79),
            f"holds 80 bytes that are no text: keys are in Base64, {MAKE} makes another",
        ),
    ],
)
def test_a_file_that_holds_no_keys_is_refused(
    tmp_path: Path, content: str | bytes, told: str
) -> None:
    raw = content if isinstance(content, bytes) else content.encode()
    (tmp_path / "tickets").write_bytes(raw)
    text = MESH.replace(", tls: {cert: cert.pem, key: key.pem}", "") + "ticket_keys: tickets\n"
    with pytest.raises(ConfigError) as caught:
        load_text(text, "m", tmp_path)
    (problem,) = caught.value.problems
    assert (problem.path, problem.message) == ("ticket_keys", f"{tmp_path / 'tickets'} {told}")


def test_a_mark_of_the_order_of_bytes_is_no_key() -> None:
    assert keys_in(b"\xef\xbb\xbf" + KEYS[0].encode()) == (base64.b64decode(KEYS[0]),)


@pytest.mark.parametrize("value", [KEYS[0], f'"{KEYS[0]} {KEYS[1]}"', some_bytes(48).hex()])
def test_a_key_in_place_of_its_file_is_not_repeated(tmp_path: Path, value: str) -> None:
    text = MESH.replace(", tls: {cert: cert.pem, key: key.pem}", "") + f"ticket_keys: {value}\n"
    with pytest.raises(ConfigError) as caught:
        load_text(text, "m", tmp_path)
    assert str(caught.value) == (
        "m:5:14: ticket_keys: expected the name of a file: what stands here may be a key, and is "
        "not shown (write it to a file that its user alone may read, and name that)"
    )


def test_a_name_that_looks_like_a_key_is_said_where_its_folder_is(tmp_path: Path) -> None:
    missing = tmp_path / f"Vault2-{'a' * 50}"
    text = MESH.replace(", tls: {cert: cert.pem, key: key.pem}", "") + f"ticket_keys: {missing}\n"
    with pytest.raises(ConfigError, match=f"cannot read {missing}: No such file or directory"):
        load_text(text, "m", tmp_path)


def test_a_new_key_seals_and_the_one_before_it_opens() -> None:
    tickets = TicketKeys(100.0)
    first = tickets.keys
    assert [len(key) for key in first] == [48]
    assert not tickets.look(99.0 + LIFETIME_S)
    assert tickets.look(100.0 + LIFETIME_S)
    second = tickets.keys
    assert second[1:] == first
    assert not tickets.look(101.0 + LIFETIME_S)
    assert tickets.look(101.0 + 2 * LIFETIME_S)
    assert tickets.keys[1:] == second[:1]
    assert len({*tickets.keys, *second}) == 3


def test_keys_of_another_program_go_on_as_old_as_they_are() -> None:
    tickets = TicketKeys(100.0)
    tickets.look(100.0 + LIFETIME_S)
    taken = TicketKeys.imported(tickets.exported(), 200.0 + LIFETIME_S)
    assert (taken.keys, taken.since_s) == (tickets.keys, tickets.since_s)


def test_the_age_of_keys_that_is_not_told_is_none() -> None:
    taken = TicketKeys.imported({"keys": [b"x" * 48], "since_s": None}, 7.0)
    assert (taken.keys, taken.since_s) == ((b"x" * 48,), 7.0)


@pytest.mark.parametrize(
    "given", [None, {}, [], {"keys": []}, {"keys": [b"short"]}, {"keys": ["x" * 48]}]
)
def test_keys_that_are_not_understood_are_made_anew(given: object) -> None:
    found = TicketKeys.imported(given, 7.0)
    assert (len(found.keys), found.since_s) == (1, 7.0)


class Ring:
    """What is in force."""

    def __init__(self) -> None:
        self.keys: tuple[bytes, ...] = ()

    def set(self, keys: tuple[bytes, ...]) -> None:
        self.keys = keys


def test_proxies_of_a_process_have_its_keys_or_their_own(monkeypatch: pytest.MonkeyPatch) -> None:
    now_s = 1_000.0
    monkeypatch.setattr("time.monotonic", lambda: now_s)
    monkeypatch.setattr(Renewal, "own", None)
    rings = [Ring(), Ring(), Ring()]
    given: list[tuple[bytes, ...] | None] = [None, None, (b"k" * 48,)]
    renewals = [
        Renewal(cast("Any", ring), lambda keys=keys: keys)  # type: ignore[misc]
        for ring, keys in zip(rings, given, strict=True)
    ]
    assert [each.look() for each in renewals] == [LIFETIME_S] * 3
    first = rings[0].keys
    assert rings[1].keys == first
    assert rings[2].keys == given[2]
    now_s += LIFETIME_S + 10
    assert [each.look() for each in renewals] == [LIFETIME_S] * 3
    assert rings[0].keys == rings[1].keys
    assert rings[0].keys[1:] == first
    assert rings[2].keys == given[2]
