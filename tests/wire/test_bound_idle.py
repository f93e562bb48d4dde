"""What stays open for a client whose credentials authenticate connections: anybody may send them,
to any endpoint."""

from __future__ import annotations

import asyncio

import pytest

from meshcore.exchange.owner import MOST_IDLE
from tests.wire.blame import Turn, every_endpoint, every_way, hosting
from tests.wire.conftest import Run, Serve, eventually
from tests.wire.h2_client import H2Client
from tests.wire.h2_mesh import Mesh
from tests.wire.test_bound_connections import cluster_of, end_of, guarded, is_forgotten, users

NTLM = ("authorization", "NTLM x")


class Deaf:
    """Takes no credentials of connections; says these fields."""

    def __init__(self, *fields: tuple[str, str]) -> None:
        self.fields = fields

    async def __call__(self, turn: Turn) -> None:
        host, port = end_of(turn)
        await turn.answer(b"", ("x-on", f"{host}-{port}"), *self.fields)


@every_way
def test_what_its_endpoint_does_not_authenticate_is_closed(
    run: Run, serve: Serve, engine: str, client: str, endpoint: str
) -> None:
    async def go() -> None:
        async with (
            hosting(endpoint, Deaf(("www-authenticate", "Basic"))) as host,
            serve(str(Mesh(engine, host.port).to(endpoint))) as proxy,
            users(client, proxy, "one", "two") as (one, two),
        ):
            seen = {(await one.ask("/", NTLM)).fields["x-on"] for _ in range(3)}
            seen.add((await one.ask()).fields["x-on"])  # it is bound from then on
            assert len(seen) == 4
            await eventually(lambda: is_forgotten(proxy))
            kept = {(await two.ask()).fields["x-on"] for _ in range(3)}
            assert len(kept) == 1
            assert not kept & seen
            assert host.connections == 5

    run(go())


@every_endpoint
def test_streams_at_one_time_leave_nothing_idle(run: Run, serve: Serve, endpoint: str) -> None:
    async def go() -> None:
        async with (
            hosting(endpoint, Deaf()) as host,
            serve(str(Mesh("native", host.port).to(endpoint))) as proxy,
            H2Client(proxy.addresses["edge"]) as one,
        ):
            for stream in [one.ask("/", NTLM) for _ in range(20)]:
                await stream.whole()
            await eventually(lambda: is_forgotten(proxy))

    run(go())


@every_way
@pytest.mark.parametrize(
    "shown",
    [
        ("www-authenticate", "Negotiate oYG1"),
        ("www-authenticate", "Basic realm=a, NTLM"),
        ("persistent-auth", "true"),
    ],
    ids=["token", "challenge", "persistent"],
)
def test_what_its_endpoint_shows_to_authenticate_stays(
    run: Run, serve: Serve, engine: str, client: str, endpoint: str, shown: tuple[str, str]
) -> None:
    async def go() -> None:
        deaf = Deaf(shown)
        async with (
            hosting(endpoint, deaf) as host,
            serve(str(Mesh(engine, host.port).to(endpoint))) as proxy,
            users(client, proxy, "one") as (one,),
        ):
            home = (await one.ask("/", NTLM)).fields["x-on"]
            deaf.fields = ()  # it was shown on this connection
            for _ in range(3):
                assert (await one.ask()).fields["x-on"] == home

    run(go())


def test_a_client_keeps_so_many_idle(run: Run, serve: Serve) -> None:
    """Of them those that were used last."""

    async def go() -> None:
        async with guarded("http1") as (mesh, guard):
            guard.held = asyncio.Event()
            async with serve(str(mesh)) as proxy, H2Client(proxy.addresses["edge"]) as one:
                known = ("authorization", "Negotiate known.one")
                count = 2 * MOST_IDLE
                streams = [one.ask("/held", ("x-client", "one"), known) for _ in range(count)]
                await guard.host.reached(count)
                guard.held.set()
                for stream in streams:
                    await stream.whole()
                await eventually(lambda: cluster_of(proxy).connections == MOST_IDLE)
                await one.ask("/", ("x-client", "one")).whole()
                assert guard.host.connections == count

    run(go())


@every_endpoint
def test_who_waits_for_a_place_has_what_is_closed(run: Run, serve: Serve, endpoint: str) -> None:
    async def go() -> None:
        async with (
            hosting(endpoint, Deaf()) as host,
            serve(str(Mesh("native", host.port).to(endpoint, limits={"connections": 1}))) as proxy,
            H2Client(proxy.addresses["edge"]) as one,
            users("http1", proxy, "two", "three") as others,
        ):
            streams = [one.ask("/", NTLM) for _ in range(4)]
            asked = [asyncio.ensure_future(user.ask()) for user in others]
            for stream in streams:
                await stream.whole()
            assert [(await each).status for each in asked] == [200, 200]
            assert cluster_of(proxy).connections <= 1

    run(go())
