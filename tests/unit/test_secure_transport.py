"""TLS between two ends in memory: what each end's protocol hears, and at what cost."""

from __future__ import annotations

import asyncio
import gc
import ssl
import sys
from collections import deque
from itertools import repeat
from pathlib import Path
from types import FrameType
from typing import Any

import pytest
import trustme

from meshcore._core import SecureTransport, TicketRing, TlsClient, TlsServer, TlsTrust
from meshcore.errors import ConfigError, TlsError


class Wire:
    """A transport of a loop, as far as it is used: what is written waits until it is carried."""

    def __init__(self) -> None:
        self.waiting: list[bytes] = []
        self.asked: list[str] = []
        self.buffered = 0

    def write(self, data: bytes) -> None:
        if "write_eof" in self.asked:
            raise RuntimeError("as every loop's does")
        self.waiting.append(data)

    def write_eof(self) -> None:
        self.asked.append("write_eof")

    def close(self) -> None:
        self.asked.append("close")

    def abort(self) -> None:
        self.asked.append("abort")

    def pause_reading(self) -> None:
        self.asked.append("pause")

    def resume_reading(self) -> None:
        self.asked.append("resume")

    def is_closing(self) -> bool:
        return "close" in self.asked or "abort" in self.asked

    def get_write_buffer_size(self) -> int:
        return self.buffered

    def get_extra_info(self, name: str, default: Any = None) -> Any:
        return {"peername": ("192.0.2.1", 1)}.get(name, default)


class Heard:
    """A protocol that notes what it is told."""

    def __init__(self) -> None:
        self.told: list[Any] = []
        self.transport: Any = None
        self.stays = False

    def connection_made(self, transport: Any) -> None:
        self.transport = transport
        self.told.append("made")

    def data_received(self, data: bytes) -> None:
        self.told.append(data)

    def eof_received(self) -> bool:
        self.told.append("eof")
        return self.stays

    def connection_lost(self, error: Exception | None) -> None:
        self.told.append(error)

    def pause_writing(self) -> None:
        self.told.append("full")

    def resume_writing(self) -> None:
        self.told.append("room")


class End:
    """One side: the loop's transport, TLS on it, and who is above."""

    def __init__(self, made: TlsServer | TlsClient, name: str | None = None) -> None:
        self.wire, self.heard = Wire(), Heard()
        self.seen_off: list[Wire] = []
        self.tls: SecureTransport
        if isinstance(made, TlsClient):
            self.tls = made.session(name or "a.test", self.heard)
        else:
            self.tls = made.session(self.heard)
        self.tls.connection_made(self.wire)


@pytest.fixture(scope="module")
def authority() -> trustme.CA:
    return trustme.CA()


@pytest.fixture(scope="module")
def server(authority: trustme.CA) -> TlsServer:
    pair = authority.issue_cert("a.test")
    chain = b"".join(each.bytes() for each in pair.cert_chain_pems)
    certificates = [(None, chain, pair.private_key_pem.bytes(), None, None)]
    return TlsServer("edge", certificates, ["h2", "http/1.1"], "1.2", None, TicketRing())


@pytest.fixture
def ends(authority: trustme.CA, server: TlsServer) -> tuple[End, End]:
    client = TlsClient(TlsTrust(authority.cert_pem.bytes()), None, ["h2"], "1.2")
    return End(client), End(server)


def carry(*ends: End) -> None:
    """Until nobody says more."""
    one, other = ends
    while one.wire.waiting or other.wire.waiting:
        for sender, receiver in ((one, other), (other, one)):
            waiting, sender.wire.waiting = sender.wire.waiting, []
            for data in waiting:
                receiver.tls.data_received(data)


def shake(peer: ssl.SSLObject, came: ssl.MemoryBIO, said: ssl.MemoryBIO, end: End) -> None:
    """OpenSSL as a client."""
    for _ in range(3):
        try:
            peer.do_handshake()
        except ssl.SSLWantReadError:
            end.tls.data_received(said.read())
            came.write(b"".join(end.wire.waiting))
            end.wire.waiting.clear()


def test_each_protocol_hears_what_it_would_without(ends: tuple[End, End]) -> None:
    client, server = ends
    carry(*ends)
    assert client.heard.told == server.heard.told == ["made"]
    assert client.tls.alpn == server.tls.alpn == "h2"
    assert server.tls.agreed()["server_name"] == "a.test"
    client.heard.transport.write(b"one")
    client.heard.transport.writelines([b"two", b" ", b"three"])
    carry(*ends)
    assert b"".join(server.heard.told[1:]) == b"onetwo three"
    server.tls.pause_writing()
    server.tls.resume_writing()
    assert server.heard.told[-2:] == ["full", "room"]
    assert server.tls.get_extra_info("peername") == ("192.0.2.1", 1)
    assert server.tls.get_extra_info("other", 5) == 5
    server.tls.pause_reading()
    assert server.wire.asked == ["pause"]


def test_who_is_full_from_the_handshake_is_told_with_the_connection(ends: tuple[End, End]) -> None:
    _, server = ends
    server.tls.pause_writing()  # by a long ticket: the loop says it once
    carry(*ends)
    assert server.heard.told == ["made", "full"]
    server.tls.resume_writing()
    assert server.heard.told == ["made", "full", "room"]


def test_who_had_room_again_before_the_connection_was_there_is_told_nothing(
    ends: tuple[End, End],
) -> None:
    _, server = ends
    server.tls.pause_writing()
    server.tls.resume_writing()
    carry(*ends)
    assert server.heard.told == ["made"]


def test_behind_our_end_nothing_is_said_and_all_that_came_is_told(ends: tuple[End, End]) -> None:
    client, server = ends
    carry(*ends)
    server.tls.write_eof()
    client.tls.write(b"last words")
    (sealed,) = client.wire.waiting
    bad_record = b"\x17\x03\x03\x00\x20" + bytes(32)
    server.tls.data_received(sealed + bad_record)
    assert server.heard.told == ["made", b"last words"]
    assert server.wire.asked == ["write_eof", "close"]


@pytest.mark.timeout(600)
def test_keys_that_are_worn_out_end_the_connection_and_say_so(server: TlsServer) -> None:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
    context.maximum_version = ssl.TLSVersion.TLSv1_2
    context.set_ciphers("ECDHE+AESGCM")
    came, said = ssl.MemoryBIO(), ssl.MemoryBIO()
    peer, end = context.wrap_bio(came, said), End(server)
    shake(peer, came, said, end)
    last: deque[bytes] = deque(maxlen=2)
    end.wire.write = last.append  # type: ignore[method-assign, assignment]
    write = end.tls.write
    for _ in repeat(None, 2**24 + 1):
        write(b"x")
    assert [record[0] for record in last] == [23, 21]  # data, an alert
    assert end.wire.asked == ["close"]
    assert end.tls.is_closing()
    end.tls.connection_lost(None)
    assert isinstance(end.heard.told[-1], TlsError)
    assert "worn out" in str(end.heard.told[-1])


def test_a_protocol_may_write_and_close_within_what_it_is_told(ends: tuple[End, End]) -> None:
    client, server = ends
    carry(*ends)

    class Answers(Heard):
        def data_received(self, data: bytes) -> None:
            server.tls.write(data.upper())
            server.tls.set_protocol(server.heard)
            server.tls.close()
            server.tls.write(b"too late")

    server.tls.set_protocol(Answers())
    client.tls.write(b"ask")
    carry(*ends)
    assert client.heard.told == ["made", b"ASK", "eof"]
    assert server.wire.asked == ["close"]
    assert server.tls.is_closing()


def test_what_came_with_the_handshake_is_not_told_to_who_closed_at_once(
    ends: tuple[End, End],
) -> None:
    client, server = ends

    class Refuses(asyncio.BaseProtocol):
        def connection_made(self, transport: Any) -> None:
            transport.abort()

    server.tls.set_protocol(Refuses())
    for data in client.wire.waiting:
        server.tls.data_received(data)
    client.tls.data_received(b"".join(server.wire.waiting))
    client.tls.write(b"early")
    server.tls.data_received(b"".join(client.wire.waiting[1:]))
    assert server.wire.asked == ["abort"]


@pytest.mark.parametrize("stays", [False, True])
def test_an_end_that_is_said_is_one(ends: tuple[End, End], stays: bool) -> None:
    client, server = ends
    carry(*ends)
    server.heard.stays = stays
    client.tls.write_eof()
    assert client.wire.asked == ["write_eof"]
    carry(*ends)
    assert server.tls.eof_received() is stays
    assert server.heard.told == ["made", "eof"]  # once
    assert server.tls.get_extra_info("torn") is False
    assert server.wire.asked == ([] if stays else ["close"])
    if stays:
        server.tls.write(b"answer")
        carry(*ends)
        assert client.heard.told == ["made", b"answer"]
    client.tls.connection_lost(None)
    assert client.heard.told[-1] is None


def test_an_end_that_nobody_said_is_torn(ends: tuple[End, End]) -> None:
    _, server = ends
    carry(*ends)
    server.heard.stays = True
    assert server.tls.eof_received()
    assert server.heard.told == ["made", "eof"]
    assert server.tls.get_extra_info("torn") is True


def test_a_failure_is_told_once_with_its_alert(authority: trustme.CA, server: TlsServer) -> None:
    stranger = TlsTrust(trustme.CA().cert_pem.bytes())
    client, far = End(TlsClient(stranger, None, [], "1.2")), End(server)
    carry(client, far)
    for end, by_peer in ((client, False), (far, True)):
        assert end.wire.asked == ["close"]
        end.tls.connection_lost(None)
        (error,) = end.heard.told
        assert isinstance(error, TlsError)
        assert (error.alert, error.by_peer) == ("unknown_ca", by_peer)
        assert error.reason == "tls"


class Minding(End):
    """A server's that lets its clients read alerts."""

    def __init__(self, made: TlsServer) -> None:
        super().__init__(made)
        self.tls = made.session(self.heard, self.seen_off.append)
        self.tls.connection_made(self.wire)


def test_another_protocol_takes_over_after_an_alert_of_ours(
    authority: trustme.CA, server: TlsServer
) -> None:
    """In the handshake and behind it; the protocol hears of it at once."""
    early = Minding(server)
    early.tls.data_received(b"\x16\x03\x01\x00\x02no TLS at all")
    late, client = Minding(server), TlsClient(TlsTrust(authority.cert_pem.bytes()), None, [], "1.2")
    peer = End(client)
    carry(peer, late)
    peer.tls.write(b"good")
    (good,) = peer.wire.waiting
    late.tls.data_received(good + b"\x17\x03\x03\x00\x20" + bytes(32))
    for end, before in ((early, []), (late, ["made", b"good"])):
        assert end.seen_off == [end.wire]
        assert end.wire.waiting, "the alert"
        assert end.wire.asked == [], "the transport is another's now"
        *told, error = end.heard.told
        assert told == before
        assert isinstance(error, TlsError)
        assert end.tls.is_closing()
        end.tls.write(b"nobody")
        end.tls.close()
        assert end.wire.asked == []


def test_nobody_takes_over_what_the_other_side_has_ended(server: TlsServer) -> None:
    stranger = TlsTrust(trustme.CA().cert_pem.bytes())
    client, far = End(TlsClient(stranger, None, [], "1.2")), Minding(server)
    carry(client, far)
    assert (far.seen_off, far.wire.asked) == ([], ["close"])
    full = Minding(server)
    full.wire.buffered = 1
    full.tls.data_received(b"no TLS at all")
    assert (full.seen_off, full.wire.asked) == ([], ["abort"])


def test_an_alert_that_is_not_taken_is_not_waited_for(ends: tuple[End, End]) -> None:
    _, server = ends
    server.wire.buffered = 1
    server.tls.data_received(b"no TLS at all")
    assert server.wire.asked == ["abort"]


def test_an_idle_connection_holds_no_room_of_a_long_read(
    authority: trustme.CA, server: TlsServer
) -> None:
    def rss_kib() -> int:
        status = Path("/proc/self/status").read_text()
        return int(status.partition("VmRSS:")[2].split()[0])

    client = TlsClient(TlsTrust(authority.cert_pem.bytes()), None, [], "1.2")
    idle: list[tuple[End, End]] = []
    for _ in range(250):
        one, other = End(client), End(server)
        carry(one, other)
        one.tls.write(bytes(250_000))
        sealed = b"".join(one.wire.waiting)
        one.wire.waiting.clear()
        if not idle:
            before_kib = rss_kib()
        other.tls.data_received(sealed[:10])
        other.tls.data_received(sealed[10:-10])  # ends within a record, too
        assert sum(map(len, other.heard.told[1:])) >= 230_000
        other.heard.told.clear()
        idle.append((one, other))
    assert rss_kib() - before_kib < 250 * 100  # a record of 16 KiB and both sessions


def test_what_the_loop_says_of_an_end_stays(ends: tuple[End, End]) -> None:
    carry(*ends)
    client, _ = ends
    error = ConnectionResetError("gone")
    client.tls.connection_lost(error)
    assert client.heard.told == ["made", error]
    client.tls.write(b"nobody")  # and nothing is raised
    client.tls.close()
    client.tls.abort()
    assert client.tls.is_closing()


def test_what_came_before_a_loss_can_still_be_read(ends: tuple[End, End]) -> None:
    client, server = ends
    carry(*ends)
    server.tls.write(b"413")
    (sealed,) = server.wire.waiting
    assert client.tls.open(sealed[:5]) == b""
    assert client.tls.open(sealed[5:]) == b"413"


def test_an_end_holds_nobody(ends: tuple[End, End]) -> None:
    client, _ = ends
    carry(*ends)
    client.tls.connection_lost(None)
    assert client.tls.get_protocol() is None
    assert not gc.is_tracked(client.tls) or client.heard not in gc.get_referents(client.tls)


def test_a_name_that_is_none_is_an_error(authority: trustme.CA) -> None:
    client = TlsClient(TlsTrust(authority.cert_pem.bytes()), None, [], "1.2")
    with pytest.raises(ConfigError, match="no server's name"):
        client.session("not a name", Heard())


def test_openssl_hears_the_same(authority: trustme.CA, server: TlsServer) -> None:
    context = ssl.create_default_context()
    authority.configure_trust(context)
    came, said = ssl.MemoryBIO(), ssl.MemoryBIO()
    peer, end = context.wrap_bio(came, said, server_hostname="a.test"), End(server)
    shake(peer, came, said, end)
    peer.write(b"ping")
    end.tls.data_received(said.read())
    assert end.heard.told == ["made", b"ping"]
    end.tls.write(b"pong")
    end.tls.close()
    came.write(b"".join(end.wire.waiting))
    assert peer.read(10) == b"pong"
    assert peer.read(10) == b""


def test_a_read_costs_no_frame_of_python_more_than_without(ends: tuple[End, End]) -> None:
    """So that connections over TLS cost what the cipher costs."""
    client, server = ends
    carry(*ends)

    class Echo(Heard):
        def data_received(self, data: bytes) -> None:
            self.transport.write(data)

    def frames(receive: Any, data: bytes) -> list[str]:
        entered: list[str] = []

        def note(frame: FrameType, event: str, _: Any) -> None:
            if event == "call":
                entered.append(frame.f_code.co_name)

        sys.setprofile(note)
        try:
            receive(data)
        finally:
            sys.setprofile(None)
        return entered

    plain = Echo()
    plain.transport = Wire()
    echo = Echo()
    echo.transport = server.tls
    server.tls.set_protocol(echo)
    client.tls.write(b"ping")
    (sealed,) = client.wire.waiting
    without = frames(plain.data_received, b"ping")
    assert frames(server.tls.data_received, sealed) == without == ["data_received", "write"]
