"""Which connection of an endpoint is lent, which is closed, and who waits: no socket, no clock."""

from __future__ import annotations

from dataclasses import dataclass, field
from types import SimpleNamespace
from typing import Any, cast
from unittest import mock

import pytest

from meshcore._core import Reason
from meshcore.config.snapshot import UpstreamSpec
from meshcore.exchange.exchange import Exchange
from meshcore.upstream.cluster import Cluster
from meshcore.upstream.pool import (
    DOUBTS_OF_HASTY,
    HASTY_FOR_NS,
    HASTY_NS,
    PEEK_AFTER_NS,
    PEEK_AFTER_UNSAFE_NS,
    SWEEP_AFTER_NS,
    Pool,
    Pooled,
)

NOW = 1_000_000_000_000
SECOND = 1_000_000_000
IDLE_NS = 60 * SECOND


@dataclass(eq=False)
class Kept:
    """A connection over HTTP/1.1 that carries no request."""

    pool: Any = None
    born_ns: int = NOW
    idle_since_ns: int = NOW
    alive: bool = True
    looks: int = 0
    closed: bool = False
    kept: bool = False

    def is_alive(self) -> bool:
        self.looks += 1
        return self.alive

    def close(self) -> None:
        self.closed = True


@dataclass(eq=False)
class Streams:
    """A connection over HTTP/2 with room for so many more streams."""

    free: int
    clogged: int = 0  # how many of them only when what is sent on it waits
    born_ns: int = NOW
    heard_ns: int = NOW
    looked_ns: int = 0
    had_room: int = 0
    idle_since_ns: int = NOW
    alive: bool = True
    retired: bool = False
    streams: list[object] = field(default_factory=list)

    def room(self, now_ns: int) -> int:
        assert now_ns >= NOW
        return self.free

    def lend(self, now_ns: int, clogged: bool) -> Streams | None:
        assert now_ns >= NOW
        self.had_room = self.free if clogged else self.free - self.clogged
        if self.had_room <= 0:
            return None
        self.free -= 1
        self.streams.append(object())
        return self

    def discard(self) -> None:
        self.free += 1
        self.streams.pop()

    def is_alive(self) -> bool:
        return self.alive

    def retire(self) -> None:
        self.retired = True


def pool_of(protocol: str = "http1", **spec: Any) -> Pool:
    settings = {
        "max_connections": 4,
        "max_pending": 2,
        "protocol": protocol,
        "pool_idle_ns": IDLE_NS,
        "pool_lifetime_ns": 0,
        "proxy_protocol": None,
        "h2": SimpleNamespace(streams=8),
    }
    made = cast("UpstreamSpec", mock.Mock(**{**settings, **spec}))
    cluster = Cluster(made, None, mock.Mock())
    pool = Pool(0, "127.0.0.1:1", cluster)
    cluster.pools[pool] = None
    return pool


def exchange(*, repeatable: bool = True) -> Exchange:
    ticket = SimpleNamespace(repeatable=repeatable)
    return cast("Exchange", mock.Mock(ticket=ticket))


def take(pool: Pool, asking: Exchange, now_ns: int) -> Any:
    return pool.take(asking, now_ns)


def lend(pool: Pool, asking: Exchange, now_ns: int, since_ns: int | None = None) -> Any:
    return pool.lend(asking, now_ns, since_ns)


def keep(pool: Pool, *idle_since: int, born_ns: int = NOW) -> list[Kept]:
    """Idle connections of an endpoint that is not in doubt."""
    pool.doubts = 0
    made = [Kept(pool, born_ns) for _ in idle_since]
    for connection, since_ns in zip(made, idle_since, strict=True):
        pool.put(cast("Pooled", connection), since_ns)
    return made


def gone(connections: list[Pooled]) -> list[Any]:
    return list(connections)


# --- HTTP/1.1 -------------------------------------------------------------------------------------


def test_the_one_used_last_is_lent_first() -> None:
    pool = pool_of()
    older, newer = keep(pool, NOW, NOW + 1)
    assert [take(pool, exchange(), NOW + 2) for _ in range(3)] == [newer, older, None]
    assert older.kept
    assert not older.closed


@pytest.mark.parametrize(
    ("quiet_ns", "repeatable", "looks"),
    [
        (PEEK_AFTER_NS - 1, True, 0),
        (PEEK_AFTER_NS, True, 1),
        (PEEK_AFTER_UNSAFE_NS - 1, False, 0),
        (PEEK_AFTER_UNSAFE_NS, False, 1),
    ],
)
def test_what_was_quiet_for_long_is_looked_into(
    quiet_ns: int, repeatable: bool, looks: int
) -> None:
    pool = pool_of()
    (kept,) = keep(pool, NOW)
    assert take(pool, exchange(repeatable=repeatable), NOW + quiet_ns) is kept
    assert kept.looks == looks


def test_one_that_has_ended_is_closed_and_the_next_is_lent() -> None:
    pool = pool_of()
    good, ended = keep(pool, NOW, NOW + 1)
    ended.alive = False
    assert take(pool, exchange(), NOW + 1 + PEEK_AFTER_NS) is good
    assert (ended.closed, good.closed) == (True, False)


@pytest.mark.parametrize("case", ["idle", "lifetime", "renewed"])
def test_what_is_past_its_time_is_not_lent(case: str) -> None:
    pool = pool_of(pool_lifetime_ns=5 * SECOND)
    (kept,) = keep(pool, NOW + IDLE_NS if case != "idle" else NOW, born_ns=NOW + IDLE_NS - SECOND)
    if case == "renewed":
        pool.renewed_ns = NOW + IDLE_NS
    later_ns = NOW + IDLE_NS + (5 * SECOND if case == "lifetime" else 0)
    assert take(pool, exchange(), later_ns) is None
    assert kept.closed


def test_those_idle_for_too_long_are_taken_out_and_all_of_an_endpoint_that_left() -> None:
    pool = pool_of()
    old, young = keep(pool, NOW, NOW + 1)
    assert gone(pool.expired(NOW + IDLE_NS)) == [old]
    pool.retired = True
    assert gone(pool.expired(NOW + IDLE_NS)) == [young]
    assert pool.is_empty


def test_an_endpoint_that_ends_what_it_has_answered_on_is_doubted_for_a_while() -> None:
    pool = pool_of()
    (ended,) = keep(pool, NOW)
    pool.ended(cast("Pooled", ended), NOW + HASTY_NS)
    assert pool.doubts == DOUBTS_OF_HASTY
    pool.idle.clear()
    (fresh,) = keep(pool, NOW)
    pool.doubts = DOUBTS_OF_HASTY
    # One that may be about to end is not lent, one that has outlived that is.
    assert take(pool, exchange(), NOW + HASTY_NS - 1) is None
    assert not fresh.closed
    assert take(pool, exchange(), NOW + HASTY_NS) is fresh
    pool.prefers_new(exchange(), NOW + HASTY_NS + HASTY_FOR_NS + 1)
    assert not pool.is_hasty


def test_an_end_long_after_the_answer_is_no_haste() -> None:
    pool = pool_of()
    (ended,) = keep(pool, NOW)
    pool.ended(cast("Pooled", ended), NOW + HASTY_NS + 1)
    assert not pool.is_hasty


def test_all_that_is_idle_is_looked_into_now_and_then() -> None:
    pool = pool_of()
    good, ended = keep(pool, NOW, NOW)
    ended.alive = False
    assert gone(pool.sweep_idle(NOW)) == [ended]
    good.alive = False
    assert gone(pool.sweep_idle(NOW + SWEEP_AFTER_NS - 1)) == []
    assert gone(pool.sweep_idle(NOW + SWEEP_AFTER_NS)) == [good]


# --- those who wait -------------------------------------------------------------------------------


def test_a_full_queue_refuses_whom_nothing_is_made_for() -> None:
    pool = pool_of(max_connections=1)
    pool.cluster.begin(pool)
    waiting = [exchange() for _ in range(4)]
    # The first has the connection in the making; two wait for nothing in particular.
    assert [pool.wait(each, None, NOW) for each in waiting] == [True, True, False, False]
    assert pool.next_waiting() is waiting[0]
    assert pool.lacks == 0


def test_what_held_up_who_gives_up_is_told() -> None:
    pool = pool_of(max_connections=2, max_pending=9)
    served, unserved, late = exchange(), exchange(), exchange()
    for each in (served, unserved, late):
        pool.wait(each, None, NOW)
    pool.cluster.begin(pool)
    pool.cluster.begin(pool)
    pool.resolving = 1
    assert pool.forget(late) is Reason.QUEUE_TIMEOUT
    assert pool.forget(unserved) is Reason.UPSTREAM_RESOLVE
    assert pool.forget(served) is None
    assert pool.forget(served) is None, "it was handed something already"


def test_who_wants_a_new_connection_is_passed_by_those_who_take_any() -> None:
    pool = pool_of(max_pending=9)
    choosy, other = exchange(), exchange()
    pool.wait(choosy, NOW, NOW)
    pool.wait(other, None, NOW)
    assert pool.first_not_fresh() is other
    pool.leave(other)
    assert pool.first_not_fresh() is None
    assert pool.lacks_fresh()
    pool.cluster.begin(pool)
    assert not pool.lacks_fresh()


# --- HTTP/2 ---------------------------------------------------------------------------------------


def share(pool: Pool, *connections: Streams) -> None:
    for each in connections:
        pool.share(cast("Any", each), NOW)


def test_the_first_with_room_lends_until_it_is_full() -> None:
    pool = pool_of("h2")
    first, second = Streams(2), Streams(8)
    share(pool, first, second)
    assert [lend(pool, exchange(), NOW) for _ in range(3)] == [first, first, second]


def test_a_clogged_one_lends_only_where_no_other_may_be_opened() -> None:
    pool = pool_of("h2", max_connections=1)
    clogged = Streams(4, clogged=4)
    share(pool, clogged)
    assert lend(pool, exchange(), NOW) is None
    pool.cluster.begin(pool)
    assert lend(pool, exchange(), NOW) is clogged


def test_a_silent_one_is_looked_into_before_what_is_not_repeated() -> None:
    pool = pool_of("h2")
    silent, good = Streams(4, alive=False), Streams(4)
    share(pool, silent, good)
    later_ns = NOW + PEEK_AFTER_UNSAFE_NS
    assert lend(pool, exchange(repeatable=False), later_ns) is good
    assert silent.retired
    assert good.looked_ns == later_ns


def test_who_was_let_down_takes_only_what_was_heard_since() -> None:
    pool = pool_of("h2")
    silent, heard = Streams(4), Streams(4, heard_ns=NOW + 5)
    share(pool, silent, heard)
    assert lend(pool, exchange(), NOW + 9, NOW + 5) is heard
    heard.heard_ns = NOW
    assert lend(pool, exchange(), NOW + 9, NOW + 5) is None


def test_a_spare_is_wanted_when_few_streams_are_left() -> None:
    pool = pool_of("h2")
    share(pool, connection := Streams(16))
    assert pool.streams_each == 16
    connection.free = 2
    assert not pool.wants_spare(NOW)
    connection.free = 1
    assert pool.wants_spare(NOW)
    pool.cluster.begin(pool)
    assert not pool.wants_spare(NOW), "one is on its way"


def test_without_keeping_each_stream_has_a_connection_of_its_own() -> None:
    pool = pool_of("h2", pool_idle_ns=0)
    share(pool, once := Streams(8))
    assert (lend(pool, exchange(), NOW), once.retired, pool.streams_each) == (once, True, 1)
