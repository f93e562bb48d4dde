"""Whether a kept connection may be lent again is never a reason to lose it."""

from __future__ import annotations

import errno
import socket
from collections.abc import Iterator
from unittest import mock

import pytest

from meshcore._core import CodecLimits, Outbox
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
    pools = mock.Mock(outbox=Outbox(mock.Mock()))
    connection = Http1Connection(pools, pool)
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
    shared.configure_mock(streams={}, heard_ns=0, looked_ns=0, born_ns=1, idle_since_ns=1)
    shared.configure_mock(had_room=50, **{"room.return_value": 50})
    exchange.ticket.repeatable = False
    pool = Pool(0, "127.0.0.1:1", cluster)
    now = 1_000 * PEEK_AFTER_UNSAFE_NS
    pool.share(shared, now)
    for _ in range(16):
        assert pool.lend(exchange, now) is shared.lend.return_value
    assert shared.is_alive.call_count == 1
    pool.lend(exchange, now + PEEK_AFTER_UNSAFE_NS)
    assert shared.is_alive.call_count == 2
    exchange.ticket.repeatable = True
    pool.lend(exchange, now + 9 * PEEK_AFTER_UNSAFE_NS)
    assert shared.is_alive.call_count == 2


def pool_of(kind: str, lifetime_ns: int = 0) -> Pool:
    cluster = mock.Mock()
    spec = {"protocol": kind, "pool_idle_ns": 10**12, "pool_lifetime_ns": lifetime_ns}
    cluster.spec.configure_mock(**spec)
    cluster.spec.h2.streams = 100
    return Pool(0, "127.0.0.1:1", cluster)


def test_any_number_of_old_connections_is_passed_over() -> None:
    pool, exchange = pool_of("h2", lifetime_ns=1), mock.Mock()
    room = mock.Mock(return_value=1)
    old = [mock.Mock(room=room, streams={}, born_ns=1, idle_since_ns=1) for _ in range(5_000)]
    for connection in old:
        connection.retire.side_effect = lambda c=connection: pool.remove_shared(c)
        pool.share(connection, 1)
    fresh = mock.Mock(room=room, streams={}, born_ns=10**9, idle_since_ns=1)
    fresh.configure_mock(heard_ns=0, looked_ns=0, had_room=1)
    pool.share(fresh, 1)
    assert pool.lend(exchange, 10**9) is fresh.lend.return_value
    assert pool.shared == [fresh]


def test_one_stale_connection_costs_none_that_is_well() -> None:
    pool = pool_of("http1")
    for alive in (True, False, True):
        pool.put(mock.Mock(is_alive=mock.Mock(return_value=alive)), 1)
    well = [connection for connection in pool.idle if connection.is_alive()]
    (gone,) = pool.sweep_idle(10**9)
    assert not gone.is_alive()
    assert list(pool.idle) == well
    looks = [connection.is_alive.call_count for connection in pool.idle]  # type: ignore[attr-defined]
    assert pool.sweep_idle(10**9 + 1) == [], "not again at once"
    assert [c.is_alive.call_count for c in pool.idle] == looks  # type: ignore[attr-defined]


def test_one_that_was_never_used_is_kept_as_well(ends: tuple[socket.socket, socket.socket]) -> None:
    connection = kept(ends[0])
    assert not connection.kept
    pool_of("http1").put(connection, 1)
    assert connection.kept
