"""Who has the next place under an upstream's cap, and who leaves one: no socket, no clock."""

from __future__ import annotations

from typing import Any, cast
from unittest import mock

import pytest

from meshcore.config.snapshot import UpstreamSpec
from meshcore.exchange.exchange import Exchange
from meshcore.upstream.branch import Branch, Key
from meshcore.upstream.cluster import PATIENCE_NS, REST_NS, Cluster
from meshcore.upstream.part import SLACK
from meshcore.upstream.pool import Pool, Pooled

NOW = 1_000_000_000_000
LATER = NOW + 2 * REST_NS


def cluster_of(cap: int, pending: int = 1000) -> Cluster:
    spec = mock.Mock(max_connections=cap, max_pending=pending, protocol="http1", pool_idle_ns=1)
    return Cluster(cast("UpstreamSpec", spec), None, mock.Mock())


def pool_of(cluster: Cluster) -> Pool:
    pool = Pool(len(cluster.pools), "127.0.0.1:1", cluster)
    cluster.pools[pool] = None
    return pool


def branch_of(pool: Pool, name: bytes) -> Branch:
    branch = Branch(pool, Key(None, name))
    pool.cluster.branches[branch] = None
    return branch


def wait(pool: Pool, number: int = 1, now_ns: int = NOW) -> list[Exchange]:
    waiting = [cast("Exchange", mock.Mock()) for _ in range(number)]
    for exchange in waiting:
        assert pool.wait(exchange, None, now_ns)
    return waiting


def open_(pool: Pool, number: int = 1, now_ns: int = NOW) -> list[Any]:
    """Connections that carry requests."""
    for _ in range(number):
        pool.cluster.begin(pool)
        pool.opening -= 1
        pool.recount()
    return [
        mock.Mock(spec=Pooled, pool=pool, opened_ns=now_ns, idle_since_ns=now_ns)
        for _ in range(number)
    ]


def give_back(connection: Any, now_ns: int = LATER) -> Pool | None:
    """A connection has served its request: whom it leaves its place to."""
    pool = connection.pool
    successor = pool.cluster.successor(connection, pool.first_not_fresh(), now_ns)
    if successor is not None:
        pool.cluster.leave(connection, successor)
    return cast("Pool | None", successor)


def take_room(cluster: Cluster) -> list[Pool]:
    """Who gets the places that are free."""
    got = []
    while not cluster.is_full and (part := cluster.neediest()) is not None:
        got.append(part.first())
        cluster.begin(got[-1])
    return got


def held(*pools: Pool) -> list[int]:
    return [pool.part.held for pool in pools]


# --- endpoints ----------------------------------------------------------------------------------


def test_a_free_place_goes_to_who_has_fewest_and_then_in_turn() -> None:
    cluster = cluster_of(9)
    one, two, three = (pool_of(cluster) for _ in range(3))
    open_(one, 3)
    open_(two, 1)
    for pool in (one, two, three):
        wait(pool, 10)
    assert take_room(cluster) == [three, two, three, two, three]
    assert held(one, two, three) == [3, 3, 3]


def test_places_are_taken_from_others_as_far_as_that_evens_them_out() -> None:
    cluster = cluster_of(8)
    busy, hung = pool_of(cluster), pool_of(cluster)
    connections = open_(busy, 8)
    wait(busy, 20)
    wait(hung, 20)
    assert [give_back(each) for each in connections] == [hung] * 4 + [None] * 4
    for connection in connections[:4]:
        successor = cluster.end(busy, connection)
        assert successor is hung
        cluster.begin(successor)
    assert held(busy, hung) == [4, 4]
    assert [give_back(each) for each in connections[4:]] == [None] * 4
    # What the busy one loses for another reason is its own again.
    assert cluster.end(busy, connections[4]) is None
    assert take_room(cluster) == [busy]


def test_as_many_leave_as_are_lacking() -> None:
    cluster = cluster_of(8)
    busy, other = pool_of(cluster), pool_of(cluster)
    connections = open_(busy, 8)
    wait(busy, 20)
    wait(other)
    assert [give_back(each) for each in connections].count(other) == 1


def test_who_has_none_has_a_turn_at_the_only_place() -> None:
    cluster = cluster_of(1)
    one, two = pool_of(cluster), pool_of(cluster)
    (connection,) = open_(one)
    wait(one, 9, NOW - 100)
    wait(two, 9, NOW + 1)
    assert give_back(connection, NOW + PATIENCE_NS) is None  # not all of 100 ms
    assert give_back(connection, NOW + PATIENCE_NS + 2) is two
    assert cluster.end(one, connection) is two
    (connection,) = open_(two, 1, NOW + PATIENCE_NS + 2)
    assert give_back(connection, NOW + 2 * PATIENCE_NS) is None, "it is new"
    assert give_back(connection, NOW + 3 * PATIENCE_NS) is one


def test_all_have_turns_where_there_are_fewer_places_than_endpoints() -> None:
    cluster = cluster_of(2)
    pools = [pool_of(cluster) for _ in range(5)]
    for pool in pools:
        wait(pool, 100)
    turns = take_room(cluster)
    for n in range(1, 11):
        now_ns = NOW + n * 2 * PATIENCE_NS
        owner = turns[-2]
        connection = mock.Mock(spec=Pooled, pool=owner, opened_ns=now_ns - PATIENCE_NS)
        successor = give_back(connection, now_ns)
        assert successor is not None
        assert cluster.end(owner, connection) is successor
        cluster.begin(successor)
        turns.append(successor)
    assert turns == [*pools, *pools, *pools[:2]]


def test_the_place_of_who_waits_no_more_is_free() -> None:
    cluster = cluster_of(1)
    one, two = pool_of(cluster), pool_of(cluster)
    (connection,) = open_(one)
    wait(one, 2)
    (gone,) = wait(two)
    assert give_back(connection) is two
    two.forget(gone)
    assert cluster.end(one, connection) is None
    assert take_room(cluster) == [one]
    assert held(one, two) == [1, 0]


# --- idle connections ---------------------------------------------------------------------------


def idle(pool: Pool, number: int, now_ns: int = NOW) -> list[Any]:
    connections = open_(pool, number, now_ns)
    for connection in connections:
        pool.put(connection, now_ns)
    return connections


def yielded(own: Pool, now_ns: int) -> list[Any]:
    """Those that make room, in their order."""
    found = []
    cluster = own.cluster
    while (next_ := cluster.yielding(own.part, now_ns)) is not None:
        connection, successor = next_
        cluster.leave(connection, successor)
        heir_pool = connection.pool
        heir_pool.remove(cast("Pooled", connection))
        found.append(connection)
    return found


def test_an_idle_connection_yields_to_a_client_with_fewer_and_after_a_second_to_any() -> None:
    cluster = cluster_of(6)
    healthy, greedy = pool_of(cluster), pool_of(cluster)
    kept = idle(healthy, 4)
    open_(greedy, 2)
    wait(greedy, 10)
    assert yielded(greedy, NOW + REST_NS - 1) == kept[:1]  # three each then
    assert yielded(greedy, NOW + REST_NS) == kept[1:]


def test_it_yields_at_once_where_nobody_may_wait() -> None:
    cluster = cluster_of(2, pending=0)
    healthy, other = pool_of(cluster), pool_of(cluster)
    kept = idle(healthy, 1)
    open_(other)
    wait(other)
    assert yielded(other, NOW) == kept


def test_of_single_clients_who_asked_nothing_for_the_longest_time_yields() -> None:
    cluster = cluster_of(3)
    root = pool_of(cluster)
    branches = [branch_of(root, b"%d" % n) for n in range(3)]
    connections = [idle(branch, 1)[0] for branch in branches]
    branches[0].rest(NOW)  # it asks again
    wait(branch_of(root, b"new"), 2)
    assert cluster.yielding(root.part, NOW) == (connections[1], mock.ANY)
    assert yielded(root, NOW) == connections[1:]


# --- one endpoint -------------------------------------------------------------------------------


def test_of_one_endpoint_who_has_waited_longest_comes_first_in_whichever_branch() -> None:
    cluster = cluster_of(0)
    root = pool_of(cluster)
    one, two = branch_of(root, b"1"), branch_of(root, b"2")
    order = [root, one, root, two, two, one, root]
    for n, pool in enumerate(order):
        wait(pool, 1, NOW + n // 2)  # some at the same time
    cast("Any", cluster.spec).max_connections = len(order)
    assert take_room(cluster) == order


def test_many_branches_are_one_endpoint() -> None:
    cluster = cluster_of(10)
    bound, other = pool_of(cluster), pool_of(cluster)
    for n in range(50):
        wait(branch_of(bound, b"%d" % n))
    wait(other, 5, NOW + 1)
    assert take_room(cluster).count(other) == 5


def test_a_connection_goes_on_to_who_came_before_those_of_other_branches() -> None:
    cluster = cluster_of(1)
    root = pool_of(cluster)
    (connection,) = open_(root)
    first, _ = wait(root, 2)
    branch = branch_of(root, b"1")
    wait(branch, 1, NOW + 1)
    wait(root, 1, NOW + 2)
    assert give_back(connection) is None
    root.leave(first)
    assert give_back(connection) is None
    root.leave(root.waiting[0])
    assert give_back(connection) is branch
    assert give_back(connection) is None, "one has left"


def test_turns_that_are_over_are_swept_out() -> None:
    cluster = cluster_of(0)
    root = pool_of(cluster)
    wait(root)
    for n in range(1000):
        branch = branch_of(root, b"%d" % n)
        (gone,) = wait(branch)
        branch.forget(gone)
    assert len(root.part._turns) <= 2 + SLACK
    assert root.part.first() is root


@pytest.mark.parametrize("cap", [3, 10])
def test_the_count_of_what_is_lacking_holds_whatever_happens(cap: int) -> None:
    cluster = cluster_of(cap)
    roots = [pool_of(cluster) for _ in range(3)]
    pools: list[Pool] = [*roots, *(branch_of(roots[0], b"%d" % n) for n in range(3))]
    made: list[Any] = []
    state = 1
    for _ in range(3000):
        state = state * 1103515245 + 12345 & 0x7FFFFFFF
        pool, what = pools[state // 7 % 6], state // 64 % 5
        if what <= 1:
            wait(pool)
        elif what == 2 and pool.waiting:
            pool.forget(pool.waiting[state // 1024 % len(pool.waiting)])
        elif what == 3 and made:
            connection = made[state // 1024 % len(made)]
            if connection not in cluster.leaving:
                give_back(connection)
        elif made:
            connection = made.pop(state // 1024 % len(made))
            cluster.end(connection.pool, connection)
        for each in take_room(cluster):
            made.append(mock.Mock(spec=Pooled, pool=each, opened_ns=NOW))
            each.opening -= 1
            each.recount()
        assert sum(held(*roots)) == cluster.connections
        coming = [pool.coming for pool in pools]
        assert sum(coming) == len(cluster.leaving)
        for root in roots:
            parts = [pool for pool in pools if pool.part is root.part]
            assert root.part.lacks == sum(max(0, len(pool.waiting) - pool.coming) for pool in parts)
            assert (root.part.level is None) == (not root.part.lacks)
            assert root.part.held >= 0
        assert sum(map(len, cluster.lacking.values())) == sum(
            map(bool, (r.part.lacks for r in roots))
        )


# --- a place is one -----------------------------------------------------------------------------


def test_a_place_is_left_once() -> None:
    cluster = cluster_of(2)
    one, two = pool_of(cluster), pool_of(cluster)
    first, _ = open_(one, 2)
    wait(two)
    for _ in range(2):
        cluster.leave(first, two)
    assert (two.coming, two.lacks, held(one, two)) == (1, 0, [1, 1])
    assert cluster.end(one, first) is two
    assert (two.coming, two.lacks, held(one, two)) == (0, 1, [1, 0])
    assert take_room(cluster) == [two]


def test_what_leaves_makes_no_room_again() -> None:
    cluster = cluster_of(1)
    one, two = pool_of(cluster), pool_of(cluster)
    (idle,) = open_(one)
    one.put(idle, NOW)
    wait(two)
    assert cluster.yielding(None, LATER) == (idle, two)
    cluster.leave(idle, two)
    wait(two, 200)
    assert cluster.yielding(None, LATER) is None


def test_what_was_gone_before_it_could_leave_keeps_no_place() -> None:
    cluster = cluster_of(2)
    one, two = pool_of(cluster), pool_of(cluster)
    cluster.begin(one)
    making: Any = mock.Mock(pool=one, began_ns=NOW)
    wait(two)
    cluster.leave(making, two)
    lost = mock.Mock(pool=one)
    assert cluster.end(one, lost) is None, "what it had opened was lost first"
    cluster.keep_place(making)
    assert (cluster.leaving, two.coming, held(one, two), cluster.connections) == ({}, 0, [0, 0], 0)
