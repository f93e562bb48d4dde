"""What a resolver does is no failure of a service, and nobody but who needs a name waits for it."""

from __future__ import annotations

import asyncio
import json
import socket
import threading
from collections.abc import Iterator
from typing import Any

import pytest
import uvloop

from meshcore.upstream import dial, dns
from tests.wire.blame import Turn, blamed, calling, every_endpoint, every_way, hosting, touchy
from tests.wire.conftest import Run, Serve
from tests.wire.either import request
from tests.wire.h2_mesh import Mesh


class NameServer:
    """Stands for the system's resolver: what begins with `mute` is never answered."""

    def __init__(self) -> None:
        self.asked: list[str] = []
        self.over = threading.Event()

    def look_up(self, name: str) -> Any:
        """Called in a thread."""
        self.asked.append(name)
        if name.startswith("mute"):
            self.over.wait()
        if name.startswith("good"):
            addresses = ("127.0.0.2", "127.0.0.1") if "two" in name else ("127.0.0.1",)
            return [
                (socket.AF_INET, socket.SOCK_STREAM, socket.IPPROTO_TCP, "", (address, 0))
                for address in addresses
            ]
        raise socket.gaierror(socket.EAI_NONAME, "Name or service not known")


@pytest.fixture
def names(monkeypatch: pytest.MonkeyPatch) -> Iterator[NameServer]:
    """A name server that the test's proxies ask."""
    server = NameServer()
    monkeypatch.setattr(dns, "system_look_up", server.look_up)
    yield server
    server.over.set()


def with_names(engine: str, protocol: str, bad: list[str], **good: str) -> str:
    """A mesh with an upstream of names, at `/bad`, and others by the first part of the path."""
    mesh = touchy(engine, protocol).to(protocol, connect_timeout="300ms")
    text = json.loads(str(mesh))
    one = mesh.upstream
    text["upstreams"] = {"bad": one | {"endpoints": bad}} | {
        name: one | {"endpoints": [address], "pool": {"idle": "0"}}
        for name, address in good.items()
    }
    text["routes"] = [
        mesh.route | {"name": name, "match": {"path": {"prefix": f"/{name}"}}, "upstream": name}
        for name in text["upstreams"]
    ]
    return json.dumps(text)


async def fine(turn: Turn) -> None:
    await turn.answer(b"fine")


@every_way
@pytest.mark.parametrize("how", ["unknown", "mute"])
def test_a_name_that_is_not_resolved_is_no_failure_of_a_service(
    run: Run,
    serve: Serve,
    names: NameServer,
    engine: str,
    client: str,
    endpoint: str,
    how: str,
) -> None:
    async def go() -> None:
        mesh = touchy(engine, endpoint).to(endpoint, connect_timeout="100ms")
        mesh.upstream["endpoints"] = [f"{how}1.test:80", f"{how}2.test:80"]
        async with serve(str(mesh)) as proxy, calling(client, proxy) as caller:
            for _ in range(3):
                reply = await caller.ask(request())
                assert (reply.status, reply.fields["x-mesh-reason"]) == (503, "upstream_resolve")
            assert blamed(proxy) == set()
        # Whoever comes after the first waits for what was asked for it.
        assert sorted(names.asked) == sorted(
            ["mute1.test", "mute2.test"]
            if how == "mute"
            else ["unknown1.test", "unknown1.test", "unknown2.test"]
        )

    run(go())


@every_endpoint
@pytest.mark.parametrize("client", ["http1", "h2"])
def test_a_request_whose_time_is_over_while_a_name_is_looked_up_blames_nobody(
    run: Run, serve: Serve, names: NameServer, engine: str, client: str, endpoint: str
) -> None:
    async def go() -> None:
        mesh = touchy(engine, endpoint).to(endpoint, connect_timeout="60s").via(timeout="100ms")
        mesh.upstream["endpoints"] = ["mute1.test:80", "mute2.test:80"]
        async with serve(str(mesh)) as proxy, calling(client, proxy) as caller:
            for _ in range(3):
                reply = await caller.ask(request())
                assert (reply.status, reply.fields["x-mesh-reason"]) == (503, "upstream_resolve")
            assert blamed(proxy) == set()

    run(go())


@every_endpoint
@pytest.mark.parametrize("client", ["http1", "h2"])
def test_a_mute_name_server_holds_up_nobody_else(
    run: Run, serve: Serve, names: NameServer, engine: str, client: str, endpoint: str
) -> None:
    """More names than there are places for look-ups, and then names and addresses that are good."""

    async def go() -> None:
        bad = [f"mute{n}.test:80" for n in range(dns.PLACES + 2)]
        async with hosting(endpoint, fine) as host:
            good = {"name": f"good.test:{host.port}", "number": f"127.0.0.1:{host.port}"}
            async with (
                serve(with_names(engine, endpoint, bad, **good)) as proxy,
                calling(client, proxy) as caller,
            ):
                calls = [await caller.begin(request("GET", "/bad")) for _ in bad]
                assert (await caller.ask(request("GET", "/number"))).body == b"fine"
                for call in calls:
                    assert (await call.whole()).fields["x-mesh-reason"] == "upstream_resolve"
                # Once one of those that hang is taken for it, whoever is next has its place.
                while (reply := await caller.ask(request("GET", "/name"))).status == 503:
                    assert reply.fields["x-mesh-reason"] == "upstream_resolve"
                assert reply.body == b"fine"
                assert blamed(proxy) == set()

    run(go())


@every_endpoint
def test_the_time_that_a_name_took_is_not_its_endpoints(
    run: Run,
    serve: Serve,
    names: NameServer,
    engine: str,
    endpoint: str,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Both together take longer than either may."""
    connect = dial.connect_socket

    def look_up(name: str) -> Any:
        names.over.wait(0.6)
        return names.look_up(name)

    async def connect_late(*arguments: Any) -> None:
        await asyncio.sleep(0.6)
        await connect(*arguments)

    monkeypatch.setattr(dns, "system_look_up", look_up)
    monkeypatch.setattr(dial, "connect_socket", connect_late)

    async def go() -> None:
        async with hosting(endpoint, fine) as host:
            mesh = touchy(engine, endpoint).to(endpoint, connect_timeout="1s")
            mesh.upstream["endpoints"] = [f"good.test:{host.port}"]
            async with serve(str(mesh)) as proxy, calling("http1", proxy) as caller:
                assert (await caller.ask(request())).body == b"fine"
                assert blamed(proxy) == set()

    run(go())


def deaf(kind: Any) -> Any:
    """A loop that resolves nothing once it is told so, as when all of its threads hang."""

    class Deaf(kind):  # type: ignore[misc]
        told = False

        async def getaddrinfo(self, *arguments: Any, **keys: Any) -> Any:
            if self.told:
                await asyncio.Event().wait()
            return await super().getaddrinfo(*arguments, **keys)

    return Deaf()


@pytest.mark.parametrize("kind", [uvloop.Loop, asyncio.SelectorEventLoop])
@pytest.mark.parametrize("host", ["127.0.0.1", "good.test", "good.two.test"])
@every_endpoint
def test_the_loops_own_resolver_is_asked_nothing(
    serve: Serve, names: NameServer, kind: Any, host: str, endpoint: str
) -> None:
    async def go() -> None:
        async with hosting(endpoint, fine) as origin:
            mesh = Mesh("native").to(endpoint)
            mesh.upstream["endpoints"] = [f"{host}:{origin.port}"]
            async with (
                asyncio.timeout(10),
                serve(str(mesh)) as proxy,
                calling("http1", proxy) as caller,
            ):
                call = await caller.begin(request("POST"), end=False)  # its client is there
                loop: Any = asyncio.get_running_loop()
                loop.told = True
                await call.send(b"x", end=True)
                assert (await call.whole()).body == b"fine"

    with asyncio.Runner(loop_factory=lambda: deaf(kind)) as runner:
        runner.run(go())
