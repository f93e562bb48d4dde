"""Which idle connection makes room, and at what cost."""

from __future__ import annotations

import random
from typing import Any
from unittest import mock

import pytest

from meshcore.upstream.branch import Branch
from meshcore.upstream.cluster import REST_NS, Cluster
from meshcore.upstream.part import Part
from meshcore.upstream.pool import Pool
from meshcore.upstream.resting import SLACK
from tests.unit.upstream.test_turns import NOW, branch_of, cluster_of, open_, pool_of


class Shared:
    """A connection of HTTP/2, as far as a pool looks at it."""

    def __init__(self, pool: Pool, now_ns: int) -> None:
        self.pool = pool
        self.idle_since_ns = self.born_ns = now_ns
        self.is_idle = True

    def room(self, now_ns: int) -> int:
        return 10


def candidates(cluster: Cluster) -> list[tuple[int, Any]]:
    """All that may make room, and since when it counts as idle."""
    found: list[tuple[int, Any]] = []
    for pool in cluster.pools:
        found += [(each.idle_since_ns, each) for each in pool.idlest()]
        idle = [branch for branch in pool.part.resting if list(branch.idlest())]
        if idle:
            first = min(idle[0].idlest(), key=lambda each: each.idle_since_ns)
            found.append((idle[0].rests_ns, first))
    return [(since_ns, each) for since_ns, each in found if each not in cluster.leaving]


def by_looking_at_all(cluster: Cluster, part: Part, now_ns: int) -> int | None:
    """Since when what makes room for an endpoint is idle."""
    return min(
        (
            since_ns
            for since_ns, each in candidates(cluster)
            if each.pool.part is part
            or each.pool.part.held > part.held
            or now_ns - since_ns >= REST_NS
        ),
        default=None,
    )


class World:
    """Endpoints whose connections come, serve, idle and go."""

    def __init__(self, seed: int) -> None:
        self.random = random.Random(seed)
        self.cluster = cluster_of(40)
        self.roots = [pool_of(self.cluster) for _ in range(8)]
        branches = [branch_of(self.roots[n % 3], b"%d" % n) for n in range(6)]
        self.pools: list[Pool] = [*self.roots, *branches]
        self.lent: list[Any] = []
        self.shared: list[Shared] = []
        self.now_ns = NOW

    def step(self) -> None:
        pick, pool = self.random.choice, self.random.choice(self.pools)
        self.now_ns += pick([0, 1, REST_NS // 8])
        match self.random.randrange(7):
            case 0 if not self.cluster.is_full:
                self.lent += open_(pool, 1, self.now_ns)
            case 1 if not self.cluster.is_full:
                open_(pool, 1, self.now_ns)
                self.shared.append(Shared(pool, self.now_ns))
                pool.share(self.shared[-1], self.now_ns)  # type: ignore[arg-type]
            case 2 | 3 if self.lent:
                connection = self.lent.pop(self.random.randrange(len(self.lent)))
                connection.pool.put(connection, self.now_ns)
            case 4 if pool.idle:
                newest = pick([True, False])
                connection = list(pool.idle)[-newest]
                del pool.idle[connection]
                self.lent.append(connection)
            case 5 if self.shared:
                self.turn(pick(self.shared))
            case 6:
                self.close(pool)

    def turn(self, shared: Shared) -> None:
        """Its first stream begins, or its last one ends, of which it heard some time ago."""
        shared.is_idle = not shared.is_idle
        if shared.is_idle:
            shared.idle_since_ns = self.now_ns - self.random.choice([0, REST_NS // 2, 2 * REST_NS])
            shared.pool.rest(shared.idle_since_ns)

    def close(self, pool: Pool) -> None:
        for connection in list(pool.idle)[:1]:
            pool.remove(connection)
            self.cluster.end(pool, connection)
        for shared in [each for each in self.shared if each.pool is pool][:1]:
            self.shared.remove(shared)
            pool.remove_shared(shared)  # type: ignore[arg-type]
            self.cluster.end(pool, shared)


@pytest.mark.parametrize("seed", range(20))
def test_who_makes_room_is_who_would_be_found_by_looking_at_all(seed: int) -> None:
    world = World(seed)
    found = 0
    for _ in range(1500):
        world.step()
        if world.random.random() < 0.3:
            part = world.random.choice(world.roots).part
            best = by_looking_at_all(world.cluster, part, world.now_ns)
            connection = world.cluster.oldest_idle(part, world.now_ns)
            since = {id(each): since_ns for since_ns, each in candidates(world.cluster)}
            assert (None if connection is None else since[id(connection)]) == best
            found += connection is not None
    assert found > 100


def looks(cluster: Cluster, part: Part, now_ns: int) -> int:
    """How many pools are looked at for the connection that makes room."""
    found = 0

    def idlest(pool: Pool) -> Any:
        nonlocal found
        found += 1
        return plain(pool)

    plain = Pool.idlest
    with mock.patch.object(Pool, "idlest", idlest):
        cluster.oldest_idle(part, now_ns)
    return found


@pytest.mark.parametrize("is_branched", [False, True], ids=["pools", "branches"])
def test_room_costs_no_more_for_more_endpoints(is_branched: bool) -> None:
    cluster = cluster_of(2000)
    roots = [pool_of(cluster) for _ in range(1000)]
    pools: list[Pool] = [branch_of(root, b"1") if is_branched else root for root in roots]
    connections = [open_(pool)[0] for pool in pools]
    for number, connection in enumerate(connections):
        connection.pool.put(connection, NOW + number)
    looks(cluster, roots[0].part, NOW)
    for number, connection in enumerate(connections):
        pools[number].remove(connection)
        pools[number].put(connection, NOW + 1000 + number)
        # One has gone out of order, and one is found, and nobody makes room who has no more.
        assert looks(cluster, roots[-1].part, NOW + 2000) <= 6


def test_what_is_out_of_date_is_swept_out() -> None:
    cluster = cluster_of(2000)
    part, pools = pool_of(cluster).part, [pool_of(cluster) for _ in range(10)]
    for pool in pools:
        pool.put(open_(pool)[0], NOW)
    for _ in range(1000):
        for pool in pools[1:]:
            (other,) = open_(pool)
            cluster.oldest_idle(part, NOW)
            cluster.end(pool, other)
    assert sum(map(len, cluster.resting._levels.values())) <= 3 * (len(pools) + SLACK)
    for pool in pools:
        for connection in pool.drain():
            cluster.end(pool, connection)
    assert cluster.oldest_idle(part, NOW) is None
    assert not cluster.resting._levels


def test_a_branch_that_asks_comes_behind_the_others() -> None:
    cluster = cluster_of(3)
    root = pool_of(cluster)
    branches: list[Branch] = [branch_of(root, b"%d" % n) for n in range(2)]
    connections = [open_(branch)[0] for branch in branches]
    for number, connection in enumerate(connections):
        connection.pool.put(connection, NOW + number)
    other = pool_of(cluster).part
    assert cluster.oldest_idle(other, NOW + 2) is connections[0]
    branches[0].rest(NOW + 2)
    assert cluster.oldest_idle(other, NOW + 2) is connections[1]
