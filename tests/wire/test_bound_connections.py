"""Endpoints that authenticate connections, as NTLM and Negotiate do: whose each connection is."""

from __future__ import annotations

import asyncio
import json
from collections import defaultdict
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from typing import Any

import pytest

from meshcore import Proxy
from meshcore._core import now_ns
from meshcore.config.load import load_text
from meshcore.exchange.owner import Owner
from meshcore.upstream.cluster import Cluster
from tests.wire.balancer import Receiver
from tests.wire.blame import Host, Turn, blamed, every_endpoint, every_way, hosting, touchy
from tests.wire.client import Client, Reply
from tests.wire.conftest import Run, Serve, eventually
from tests.wire.either import Ask, Message, asking, request
from tests.wire.h2_client import H2Client
from tests.wire.h2_mesh import Mesh

SCHEMES = ("NTLM", "ntlm", "Negotiate", "NEGOTIATE")


def end_of(turn: Turn) -> tuple[str, int]:
    """Which connection of the endpoint's a request came on."""
    visit = turn.visit if not hasattr(turn, "call") else turn.call.visit
    host, port = visit.writer.get_extra_info("sockname")
    return f"{host}:{port}", visit.writer.get_extra_info("peername")[1]


class Guard:
    """What authenticates connections: to `hello` it answers with a challenge, which is accepted on
    the same connection alone, with a name; from then on all that comes there is that user's. One
    leg is enough for whoever is `known`."""

    def __init__(self) -> None:
        self.challenges: dict[object, str] = {}
        self.users: dict[object, str] = {}
        self.clients: defaultdict[object, set[str]] = defaultdict(set)
        """Who asked on each connection, as the tests' clients call themselves."""
        self.held: asyncio.Event | None = None
        self.dies: set[str] = set()
        self.host: Host

    async def __call__(self, turn: Turn) -> None:
        on, fields = end_of(turn), turn.fields
        body = b""
        if "content-length" in fields or "transfer-encoding" in fields:
            body = await turn.read()
        self.clients[on].add(fields.get("x-client", ""))
        if fields[":path"] in self.dies:
            self.dies.discard(fields[":path"])
            turn.die()
            return
        if fields[":path"] == "/held" and self.held is not None:
            await self.held.wait()
        if credentials := fields.get("authorization"):
            scheme, _, token = credentials.partition(" ")
            if token == "hello":
                self.challenges[on] = str(len(self.challenges) + 1)
                challenge = ("www-authenticate", f"{scheme} {self.challenges[on]}")
                await turn.answer(b"", challenge, status=401)
                return
            proof, _, user = token.partition(".")
            if proof == "known" or proof == self.challenges.pop(on, None):
                self.users[on] = user
            else:
                self.users.pop(on, None)
        user, said = self.users.get(on, ""), [("x-on", f"{on[0]}-{on[1]}")]
        if not user:
            said.append(("www-authenticate", "Negotiate, NTLM"))
        elif credentials and proof == "known":
            said.append(("www-authenticate", f"{scheme} welcome"))
        await turn.answer(user.encode() + body, *said, status=200 if user else 401)

    @property
    def shared(self) -> list[set[str]]:
        """Connections that somebody was authenticated on and that not one client alone used."""
        return [who for on, who in self.clients.items() if on in self.users and len(who) != 1]


@asynccontextmanager
async def guarded(
    endpoint: str, engine: str = "native", endpoints: int = 1, **keys: Any
) -> AsyncIterator[tuple[Mesh, Guard]]:
    guard = Guard()
    async with hosting(endpoint, guard) as host:
        guard.host = host
        mesh = Mesh(engine).to(endpoint, balance="round_robin", **keys)
        mesh.upstream["endpoints"] = [f"127.0.0.{n + 1}:{host.port}" for n in range(endpoints)]
        yield mesh, guard
    assert guard.shared == []


class User:
    """A client's connection: what it asks with."""

    def __init__(self, ask: Ask, name: str) -> None:
        self._ask = ask
        self.name = name

    async def ask(
        self, path: str = "/", *fields: tuple[str, str], method: str = "GET", body: bytes = b""
    ) -> Message:
        """A request that says whose it is to the test alone."""
        length = [("content-length", str(len(body)))] if method == "POST" else []
        named = [("x-client", self.name), *length, *fields]
        return await self._ask(request(method, path, *named, body=body))

    async def sign_in(self, scheme: str = "NTLM", path: str = "/", method: str = "GET") -> str:
        """Both legs; on which connection that was."""
        first = await self.ask(path, ("authorization", f"{scheme} hello"), method=method)
        assert first.status == 401
        challenge = first.fields["www-authenticate"].split()[-1]
        token = f"{scheme} {challenge}.{self.name}"
        second = await self.ask(path, ("authorization", token), method=method)
        assert (second.status, second.body) == (200, self.name.encode())
        return second.fields["x-on"]

    async def known(self) -> Message:
        """One leg."""
        return await self.ask("/", ("authorization", f"Negotiate known.{self.name}"))


@asynccontextmanager
async def users(protocol: str, proxy: Proxy, *names: str) -> AsyncIterator[list[User]]:
    """Clients with a connection each."""
    async with AsyncExitStack() as stack:
        url = proxy.addresses["edge"]
        yield [User(await stack.enter_async_context(asking(protocol, url)), n) for n in names]


def cluster_of(proxy: Proxy) -> Cluster:
    assert proxy._worker is not None
    return proxy._worker._clusters["one"]


def owners(proxy: Proxy) -> list[Owner]:
    """Of the clients that are connected now."""
    assert proxy._worker is not None
    connections = proxy._worker.listeners["edge"]._connections
    found = [getattr(connection, "owner", None) for connection in connections]
    return [owner for owner in found if owner is not None]


def is_forgotten(proxy: Proxy) -> bool:
    """Whether nothing is left of any client."""
    cluster = cluster_of(proxy)
    branches = [branch for pool in cluster.pools for branch in pool.branches]
    return not (cluster.connections or cluster.pending or cluster.branches or branches)


# --- whose a connection is ----------------------------------------------------------------------


@every_way
def test_what_a_client_authenticated_is_its_alone(
    run: Run, serve: Serve, engine: str, client: str, endpoint: str
) -> None:
    async def go() -> None:
        async with (
            guarded(endpoint, engine) as (mesh, _),
            serve(str(mesh)) as proxy,
            users(client, proxy, "one", "two", "three") as (one, two, three),
        ):
            home = await one.sign_in()
            for _ in range(3):
                reply = await one.ask()  # without credentials
                assert (reply.body, reply.fields["x-on"]) == (b"one", home)
                assert (await two.ask()).status == 401
            assert await two.sign_in() != home
            for user in (one, two, two, one):
                assert (await user.ask()).body == user.name.encode()
                assert (await three.ask()).status == 401

    run(go())


@every_way
@pytest.mark.parametrize("scheme", SCHEMES)
def test_a_connection_that_others_used_is_not_authenticated(
    run: Run, serve: Serve, engine: str, client: str, endpoint: str, scheme: str
) -> None:
    async def go() -> None:
        async with (
            guarded(endpoint, engine) as (mesh, guard),
            serve(str(mesh)) as proxy,
            users(client, proxy, "one", "two") as (one, two),
        ):
            assert (await two.ask()).status == 401
            assert (await one.ask()).status == 401  # on the same one: it carried nothing yet
            assert [*guard.clients.values()] == [{"one", "two"}]
            await one.sign_in(scheme)
            assert (await two.ask()).status == 401
            assert guard.host.connections == 2

    run(go())


@pytest.mark.parametrize("field", ["Basic b25l", "Bearer NTLM", "NTLMv2 a", "Digest negotiate"])
def test_other_credentials_bind_nothing(run: Run, serve: Serve, field: str) -> None:
    async def go() -> None:
        async with (
            guarded("http1") as (mesh, guard),
            serve(str(mesh)) as proxy,
            users("http1", proxy, "one", "two") as (one, two),
        ):
            for user in (one, two, one):
                await user.ask("/", ("authorization", field))
            assert guard.host.connections == 1
            assert not cluster_of(proxy).branches

    run(go())


@every_endpoint
def test_credentials_that_a_route_adds_bind_nothing(run: Run, serve: Serve, endpoint: str) -> None:
    async def go() -> None:
        async with guarded(endpoint) as (mesh, guard):
            mesh.via(request_headers={"set": {"authorization": "Negotiate known.all"}})
            async with serve(str(mesh)) as proxy, users("http1", proxy, *"ab") as (one, two):
                for user in (one, two, one):
                    assert (await user.ask()).body == b"all"
            assert guard.host.connections == 1
            guard.users.clear()  # that it is shared is the operator's choice

    run(go())


def test_pipelined_requests_are_one_clients(run: Run, serve: Serve) -> None:
    async def go() -> None:
        head = "GET / HTTP/1.1\r\nhost: a.test\r\nx-client: {}\r\n{}\r\n"
        signed = head.format("one", "authorization: Negotiate known.one\r\n")
        async with (
            guarded("http1") as (mesh, guard),
            serve(str(mesh)) as proxy,
            Client(proxy.addresses["edge"]) as one,
            Client(proxy.addresses["edge"]) as two,
        ):
            plain = [head.format(name, "") for name in ("one", "two")]
            await two.send(plain[1].encode())
            assert (await two.reply()).status == 401
            await one.send((plain[0] + signed + plain[0] + plain[0]).encode())
            await two.send(plain[1].encode() * 2)
            got: list[Reply] = [await one.reply() for _ in range(4)]
            assert [reply.body for reply in got] == [b"", b"one", b"one", b"one"]
            assert len({reply.fields["x-on"] for reply in got[1:]}) == 1
            assert [(await two.reply()).status for _ in range(2)] == [401, 401]
            assert len(guard.users) == 1

    run(go())


def test_streams_of_one_client_at_one_time(run: Run, serve: Serve) -> None:
    async def go() -> None:
        async with (
            guarded("http1") as (mesh, guard),
            serve(str(mesh)) as proxy,
            H2Client(proxy.addresses["edge"]) as one,
            users("http1", proxy, "two") as (two,),
        ):
            known = ("authorization", "Negotiate known.one")
            streams = [one.ask("/", ("x-client", "one"), known) for _ in range(8)]
            streams += [one.ask("/", ("x-client", "one")) for _ in range(8)]
            for stream in streams:
                await stream.whole()
            for _ in range(4):
                assert (await two.ask()).status == 401
            assert len(guard.users) > 1  # over HTTP/1.1 each has its own

    run(go())


@every_endpoint
def test_a_body_goes_where_the_handshake_was(run: Run, serve: Serve, endpoint: str) -> None:
    """What may not be repeated takes a connection that was kept, though its endpoint is not known
    to keep any."""

    async def go() -> None:
        async with (
            guarded(endpoint) as (mesh, _),
            serve(str(mesh)) as proxy,
            users("http1", proxy, "one") as (one,),
        ):
            home = await one.sign_in(method="POST")
            reply = await one.ask(method="POST", body=b" and more")
            assert (reply.body, reply.fields["x-on"]) == (b"one and more", home)

    run(go())


@every_way
def test_clients_behind_one_proxy(
    run: Run, serve: Serve, engine: str, client: str, endpoint: str
) -> None:
    """As whom an endpoint is told of a client does not say whose connection it is, nor the other
    way round."""

    async def go() -> None:
        async with guarded(endpoint, engine) as (mesh, guard), Receiver(guard.host.port) as door:
            mesh.to(endpoint, endpoints=[f"127.0.0.1:{door.port}"], proxy_protocol="v1")
            mesh.listen(client_address={"trusted": ["127.0.0.0/8"]})
            async with (
                serve(str(mesh)) as proxy,
                users(client, proxy, "one", "two") as (one, two),
            ):
                here, there = (("x-forwarded-for", f"192.0.2.{n}") for n in (1, 2))
                known = ("authorization", "Negotiate known.one")
                assert (await one.ask("/", here)).status == 401
                assert (await one.ask("/", here, known)).body == b"one"
                assert (await one.ask("/", here)).body == b"one"
                assert (await one.ask("/", there)).status == 401
                assert (await two.ask("/", here)).status == 401
                assert (await one.ask("/", here)).body == b"one"
            sources = [header.split()[2] for header in door.headers]
            assert sources == [b"192.0.2.1", b"192.0.2.1", b"192.0.2.2"]

    run(go())


# --- where its requests go ----------------------------------------------------------------------


@every_way
def test_a_client_stays_with_the_endpoint_that_knows_it(
    run: Run, serve: Serve, engine: str, client: str, endpoint: str
) -> None:
    async def go() -> None:
        async with (
            guarded(endpoint, engine, endpoints=2) as (mesh, guard),
            serve(str(mesh)) as proxy,
            users(client, proxy, "one", "two") as (one, two),
        ):
            first = await one.ask("/", ("authorization", "NTLM hello"))
            seen = {(await two.ask()).fields["x-on"]}
            token = f"NTLM {first.fields['www-authenticate'].split()[-1]}.one"
            home = (await one.ask("/", ("authorization", token))).fields["x-on"]
            for _ in range(4):
                seen.add((await two.ask()).fields["x-on"])
                reply = await one.ask()
                assert (reply.body, reply.fields["x-on"]) == (b"one", home)
            assert {on.partition(":")[0] for on in seen} == {"127.0.0.1", "127.0.0.2"}
            assert guard.host.connections == 3

    run(go())


@pytest.mark.parametrize("client", ["http1", "h2"])
def test_a_client_of_two_upstreams(run: Run, serve: Serve, client: str) -> None:
    async def go() -> None:
        async with guarded("http1", endpoints=2) as (mesh, guard):
            keys = json.loads(str(mesh))
            keys["upstreams"]["other"] = keys["upstreams"]["one"]
            route = {"name": "other", "match": {"path": {"prefix": "/other"}}, "upstream": "other"}
            keys["routes"].insert(0, route)
            async with (
                serve(json.dumps(keys)) as proxy,
                users(client, proxy, "one", "two") as (one, two),
            ):
                homes = {path: await one.sign_in(path=path) for path in ("/", "/other/a")}
                for _ in range(3):
                    for path, home in homes.items():
                        assert (await two.ask(path)).status == 401
                        assert (await one.ask(path)).fields["x-on"] == home
            assert guard.host.connections == 2 + 4

    run(go())


@every_way
def test_another_attempt_shares_nothing(
    run: Run, serve: Serve, engine: str, client: str, endpoint: str
) -> None:
    async def go() -> None:
        async with (
            guarded(endpoint, engine, endpoints=2, ejection="off") as (mesh, guard),
            serve(str(mesh.via(retry={"retries": 2, "when": ["connect", "reset"]}))) as proxy,
            users(client, proxy, "one", "two") as (one, two),
        ):
            homes = [await user.sign_in() for user in (one, two)]
            guard.dies.add("/fatal")
            reply = await one.ask("/fatal")
            assert reply.status == 401  # elsewhere nobody knows it
            assert reply.fields["x-on"] not in homes
            assert (await two.ask()).fields["x-on"] == homes[1]
            home = await one.sign_in()  # where it was asked last
            assert home == reply.fields["x-on"]
            assert (await one.ask()).body == b"one"

    run(go())


# --- how long it lasts --------------------------------------------------------------------------


@every_way
def test_a_clients_connections_end_with_its(
    run: Run, serve: Serve, engine: str, client: str, endpoint: str
) -> None:
    async def go() -> None:
        async with (
            guarded(endpoint, engine, endpoints=2) as (mesh, guard),
            serve(str(mesh)) as proxy,
            users("http1", proxy, "two") as (two,),
        ):
            async with users(client, proxy, "one") as (one,):
                await one.sign_in()
                assert (await two.ask()).status == 401
                assert cluster_of(proxy).connections == 2
            await eventually(lambda: not cluster_of(proxy).branches)
            assert cluster_of(proxy).connections == 1  # the other's, which is kept
            assert guard.host.connections == 2
            assert not any(pool.branches for pool in cluster_of(proxy).pools)

    run(go())


@every_way
def test_a_client_that_leaves_within_a_request(
    run: Run, serve: Serve, engine: str, client: str, endpoint: str
) -> None:
    async def go() -> None:
        guard = Guard()
        guard.held = asyncio.Event()
        async with hosting(endpoint, guard) as host:
            mesh = touchy(engine, endpoint, host.port)
            async with serve(str(mesh)) as proxy, users("http1", proxy, "two") as (two,):
                async with users(client, proxy, "one") as (one,):
                    await one.sign_in()
                    asked = asyncio.ensure_future(one.ask("/held"))
                    await host.reached(3)
                    asked.cancel()
                    await asyncio.gather(asked, return_exceptions=True)
                await eventually(lambda: is_forgotten(proxy))
                guard.held.set()
                for _ in range(4):
                    assert (await two.ask()).status == 401
                assert blamed(proxy) == set()
        assert guard.shared == []

    run(go())


@every_endpoint
def test_a_client_that_leaves_while_it_waits(run: Run, serve: Serve, endpoint: str) -> None:
    async def go() -> None:
        async with guarded(endpoint, limits={"connections": 1}) as (mesh, guard):
            guard.held = asyncio.Event()
            async with serve(str(mesh)) as proxy, users("http1", proxy, "two") as (two,):
                asked = asyncio.ensure_future(two.ask("/held"))
                await guard.host.reached(1)
                async with Client(proxy.addresses["edge"]) as one:
                    token = "authorization: NTLM hello"
                    await one.send(f"GET / HTTP/1.1\r\nhost: a.test\r\n{token}\r\n\r\n".encode())
                    await eventually(lambda: cluster_of(proxy).pending == 1)
                await eventually(lambda: not cluster_of(proxy).branches)
                assert cluster_of(proxy).pending == 0
                guard.held.set()
                assert (await asked).status == 401

    run(go())


@every_way
def test_one_that_is_idle_for_long_is_closed(
    run: Run, serve: Serve, engine: str, client: str, endpoint: str
) -> None:
    async def go() -> None:
        async with (
            guarded(endpoint, engine, pool={"idle": "60s"}) as (mesh, guard),
            serve(str(mesh)) as proxy,
            users(client, proxy, "one", "two") as (one, two),
        ):
            await one.sign_in("Negotiate")
            (owner,) = owners(proxy)
            assert len(owner.branches) == 1
            assert proxy._worker is not None
            proxy._worker.pools.sweep(now_ns() + 61_000_000_000)
            await eventually(lambda: is_forgotten(proxy))
            assert not owner.branches
            reply = await one.ask()
            assert reply.status == 401
            assert (await two.ask()).fields["x-on"] != reply.fields["x-on"]
            assert guard.host.connections == 3

    run(go())


@every_way
def test_what_was_opened_in_another_way_is_not_used_again(
    run: Run, serve: Serve, engine: str, client: str, endpoint: str
) -> None:
    async def go() -> None:
        async with (
            guarded(endpoint, engine) as (mesh, _),
            serve(str(mesh)) as proxy,
            users(client, proxy, "one", "two") as (one, two),
        ):
            homes = [await one.sign_in()]
            mesh.to(endpoint, connect_timeout="2s")
            await proxy.reload(load_text(str(mesh)))
            assert (await two.ask()).status == 401
            assert (await one.ask()).status == 401
            homes.append(await one.sign_in())
            assert len(set(homes)) == 2
            assert (await two.ask()).status == 401
            assert (await one.ask()).fields["x-on"] == homes[1]

    run(go())


@every_way
def test_where_no_connection_is_kept_none_is_shared(
    run: Run, serve: Serve, engine: str, client: str, endpoint: str
) -> None:
    async def go() -> None:
        async with (
            guarded(endpoint, engine, pool={"idle": "0"}) as (mesh, guard),
            serve(str(mesh)) as proxy,
            users(client, proxy, "one", "two") as (one, two),
        ):
            first = await one.ask("/", ("authorization", "NTLM hello"))
            token = f"NTLM {first.fields['www-authenticate'].split()[-1]}.one"
            assert (await one.ask("/", ("authorization", token))).status == 401
            assert (await one.known()).body == b"one"
            for user in (one, two, one):
                assert (await user.ask()).status == 401
            assert guard.host.connections == 6

    run(go())


# --- bounds -------------------------------------------------------------------------------------


@every_way
def test_one_that_is_idle_makes_room(
    run: Run, serve: Serve, engine: str, client: str, endpoint: str
) -> None:
    limits = {"connections": 1}

    async def go() -> None:
        async with (
            guarded(endpoint, engine, limits=limits) as (mesh, guard),
            serve(str(mesh)) as proxy,
            users(client, proxy, "one", "two", "three") as (one, two, three),
        ):
            homes = [await one.sign_in()]
            assert (await three.ask()).status == 401
            homes.append(await two.sign_in())
            assert (await one.ask()).status == 401
            homes.append(await one.sign_in())
            assert (await three.ask()).status == 401
            assert len(set(homes)) == 3
            assert guard.host.connections == 5
            assert cluster_of(proxy).connections <= 1

    run(go())


@every_way
def test_who_waits_is_not_given_what_another_client_gives_back(
    run: Run, serve: Serve, engine: str, client: str, endpoint: str
) -> None:
    async def go() -> None:
        async with guarded(endpoint, engine, limits={"connections": 1}) as (mesh, guard):
            guard.held = asyncio.Event()
            async with (
                serve(str(mesh)) as proxy,
                users(client, proxy, "one", "two", "three") as (one, two, three),
            ):
                await one.sign_in()
                asked = [asyncio.ensure_future(one.ask("/held"))]
                await guard.host.reached(3)
                asked += [asyncio.ensure_future(x) for x in (two.ask(), three.known())]
                await eventually(lambda: cluster_of(proxy).pending == 2)
                guard.held.set()
                assert [(await x).body for x in asked] == [b"one", b"", b"three"]

    run(go())


def test_the_connection_that_is_idle_longest_makes_room_whosever_it_is(
    run: Run, serve: Serve
) -> None:
    async def go() -> None:
        async with (
            guarded("http1", limits={"connections": 3}) as (mesh, _),
            serve(str(mesh)) as proxy,
            users("http1", proxy, *"abcde") as (first, plain, second, third, fourth),
        ):
            await first.sign_in()
            await plain.ask()
            await second.sign_in()
            await first.ask()
            await third.sign_in()  # in place of the one that is shared
            for user in (second, first, third):
                assert (await user.ask()).body == user.name.encode()
            await fourth.sign_in()  # in place of the second's
            for user in (first, third, fourth):
                assert (await user.ask()).body == user.name.encode()
            assert (await second.ask()).status == 401

    run(go())


@every_way
def test_many_clients_within_few_connections(
    run: Run, serve: Serve, engine: str, client: str, endpoint: str
) -> None:
    limits = {"connections": 4, "client_share": "100%"}

    async def go() -> None:
        async with (
            guarded(endpoint, engine, endpoints=2, limits=limits) as (mesh, guard),
            serve(str(mesh.via(retry="off", timeout="100s"))) as proxy,
        ):

            async def visit(number: int) -> None:
                for turn in range(3):
                    async with users(client, proxy, f"{number}.{turn}") as (user,):
                        for step in range(5):
                            signs = (number + turn + step) % 3 == 0
                            reply = await (user.known() if signs else user.ask())
                            assert reply.body in (b"", user.name.encode())
                            assert (reply.status == 401) is (reply.body == b"")

            await asyncio.gather(*(visit(number) for number in range(10)))
            assert cluster_of(proxy).connections <= 4
            await eventually(lambda: not cluster_of(proxy).branches)
            assert len(guard.users) >= 20

    run(go())
