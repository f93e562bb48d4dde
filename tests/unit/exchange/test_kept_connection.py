"""Whether a kept connection may be lent again is never a reason to lose it."""

from __future__ import annotations

import errno
import socket
from collections.abc import Iterator
from unittest import mock

import pytest

from meshcore._core import CodecLimits
from meshcore.upstream.http1 import Http1Connection
from meshcore.upstream.pool import PEEK_AFTER_UNSAFE_NS, Pool


@pytest.fixture
def ends() -> Iterator[tuple[socket.socket, socket.socket]]:
    ours, theirs = socket.socketpair()
    with ours, theirs:
        yield ours, theirs


def kept(sock: socket.socket) -> Http1Connection:
    pool = mock.Mock()
    pool.cluster.spec.codec_limits.return_value = CodecLimits()
    connection = Http1Connection(mock.Mock(), pool)
    transport = mock.Mock()
    transport.is_closing.return_value = False
    transport.get_extra_info.return_value = sock
    connection.connection_made(transport)
    return connection


def test_quiet_is_alive_and_bytes_or_an_end_are_not(
    ends: tuple[socket.socket, socket.socket],
) -> None:
    ours, theirs = ends
    connection = kept(ours)
    assert connection.is_alive()
    theirs.send(b"unasked")
    assert not connection.is_alive()
    assert ours.recv(7) == b"unasked", "nothing was taken out"
    assert connection.is_alive()
    theirs.close()
    assert not connection.is_alive()


def test_looking_spends_no_descriptor(ends: tuple[socket.socket, socket.socket]) -> None:
    connection = kept(ends[0])
    with mock.patch("socket.dup", side_effect=OSError(errno.EMFILE, "too many open files")):
        assert connection.is_alive()


def test_one_look_serves_those_who_come_together() -> None:
    """A look is system calls: a batch of calls on a silent connection needs one, not one each."""
    cluster, shared, exchange = mock.Mock(), mock.Mock(), mock.Mock()
    cluster.spec.configure_mock(protocol="h2", pool_idle_ns=1, pool_lifetime_ns=0)
    cluster.spec.h2.streams = 100
    shared.configure_mock(room=50, streams={}, heard_ns=0, looked_ns=0, born_ns=1)
    exchange.ticket.repeatable = False
    pool = Pool(0, "127.0.0.1:1", cluster)
    pool.share(shared)
    now = 1_000 * PEEK_AFTER_UNSAFE_NS
    for _ in range(16):
        assert pool.lend(exchange, now) is shared.lend.return_value
    assert shared.is_alive.call_count == 1
    pool.lend(exchange, now + PEEK_AFTER_UNSAFE_NS)
    assert shared.is_alive.call_count == 2
    exchange.ticket.repeatable = True
    pool.lend(exchange, now + 9 * PEEK_AFTER_UNSAFE_NS)
    assert shared.is_alive.call_count == 2
