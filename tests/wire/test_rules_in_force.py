"""A reload changes who comes in: open connections are judged by what is in force."""

from __future__ import annotations

import asyncio
import json
import ssl
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from itertools import cycle
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pytest
import trustme

from meshcore import Proxy
from meshcore.config.load import load_text
from meshcore.downstream.listener import Listener
from tests.ports import free_port
from tests.wire import either
from tests.wire.conftest import Run, eventually, trusting
from tests.wire.h2_mesh import Keys, Mesh
from tests.wire.identities import Holder, Signer
from tests.wire.test_misdirected import Asker, asking
from tests.wire.tls_streams import TlsStreams, shaken

WEB = "spiffe://one/ns/shop/sa/web"
BOTH = pytest.mark.parametrize("h2", [False, True], ids=["h1", "h2"])
OK, MISDIRECTED = (200, None), (421, "misdirected")


class World:
    """A listener's certificate, and two authorities of clients."""

    def __init__(self, folder: Path) -> None:
        self._authority = trustme.CA()
        made = self._authority.issue_cert("a.test", "open.test", "edge.test")
        self.pair = {"cert": str(folder / "cert.pem"), "key": str(folder / "key.pem")}
        made.cert_chain_pems[0].write_to_path(self.pair["cert"])
        made.private_key_pem.write_to_path(self.pair["key"])
        # As `Holder` wants one that makes contexts, and no more than that is asked of it.
        self.one = Signer(folder, "one", self)  # type: ignore[arg-type]
        self.two = Signer(folder, "two", self)  # type: ignore[arg-type]
        self.web, self.other = self.one.issue(WEB), self.two.issue(WEB)

    def client(self, *alpn: str) -> ssl.SSLContext:
        """One without a certificate."""
        return trusting(self._authority, *alpn)

    def tls(self, default: Keys | None = None, **sni: Keys) -> Keys:
        """Of a listener: what it asks of clients, and what names do (``a`` is a.test)."""
        names = {f"{name}.test": self.pair | keys for name, keys in sni.items()}
        return self.pair | (default or {}) | {"sni": names}

    def auth(self, **keys: Any) -> Keys:
        """Whom the first authority vouches for."""
        return {"client_auth": {"ca": self.one.ca} | keys}


@pytest.fixture
def world(tmp_path: Path) -> World:
    return World(tmp_path)


def mesh(tls: Keys | None, **listener: Any) -> str:
    keys = {"tls": tls} if tls is not None else {}
    made = Mesh("native", 1).listen(**keys, **listener)
    made.route.pop("upstream")
    made.route["respond"] = {"body": "hi"}
    made.top["access_log"] = "json"
    return str(made)


@asynccontextmanager
async def running(tls: Keys | None) -> AsyncIterator[Proxy]:
    async with Proxy(load_text(mesh(tls))) as proxy:
        yield proxy


@dataclass
class Case:
    """A reload, a client that was there before, and what it gets behind it."""

    before: Callable[[World], Keys]
    after: Callable[[World], Keys]
    name: str  # that it asks for in its handshake
    shown: Callable[[World], Holder | World]
    answers: Mapping[str, tuple[int, str | None]]
    drained: bool = False


def nobody(world: World) -> World:
    return world


def web(world: World) -> Holder:
    return world.web


NONE_SERVED = {"a.test": MISDIRECTED, "open.test": MISDIRECTED}
CASES = {
    "another name has a rule now": Case(
        lambda w: w.tls(open={}),
        lambda w: w.tls(open={}, a=w.auth()),
        *("open.test", nobody, {"a.test": MISDIRECTED, "open.test": OK}),
    ),
    "its name has a rule now": Case(
        lambda w: w.tls(open={}, a={}),
        lambda w: w.tls(open={}, a=w.auth()),
        *("a.test", nobody, NONE_SERVED, True),
    ),
    "its name asks now, and does not require": Case(
        lambda w: w.tls(open={}, a={}),
        lambda w: w.tls(open={}, a=w.auth(mode="request")),
        *("a.test", nobody, {"a.test": OK, "open.test": MISDIRECTED}),
    ),
    "its name requires what it only asked for": Case(
        lambda w: w.tls(a=w.auth(mode="request")),
        lambda w: w.tls(a=w.auth()),
        *("a.test", nobody, NONE_SERVED, True),
    ),
    "the listener has a rule now": Case(
        lambda w: w.tls(open={}),
        lambda w: w.tls(w.auth(), open={}),
        *("open.test", nobody, NONE_SERVED, True),
    ),
    "the listener's rule is another's now": Case(
        lambda w: w.tls(w.auth()),
        lambda w: w.tls({"client_auth": {"ca": w.two.ca}}),
        *("a.test", web, NONE_SERVED, True),
    ),
    "its name believes another authority": Case(
        lambda w: w.tls(a=w.auth()),
        lambda w: w.tls(a={"client_auth": {"ca": w.two.ca}}),
        *("a.test", web, NONE_SERVED, True),
    ),
    "its name lets others in": Case(
        lambda w: w.tls(a=w.auth()),
        lambda w: w.tls(a=w.auth(match={"spiffe": "spiffe://one/ns/shop/sa/db"})),
        *("a.test", web, NONE_SERVED, True),
    ),
    "its name lets fewer in, and it among them": Case(
        lambda w: w.tls(a=w.auth()),
        lambda w: w.tls(a=w.auth(match={"spiffe": "spiffe://one/**"})),
        *("a.test", web, {"a.test": OK, "open.test": MISDIRECTED}),
    ),
    "a trust domain has another authority": Case(
        lambda w: w.tls(a={"client_auth": {"trust_domains": {"one": w.one.ca}}}),
        lambda w: w.tls(a={"client_auth": {"trust_domains": {"one": w.two.ca}}}),
        *("a.test", web, NONE_SERVED, True),
    ),
    "it is revoked for its name": Case(
        lambda w: w.tls(a=w.auth()),
        lambda w: w.tls(a=w.auth(crl=w.one.revoke(w.web))),
        *("a.test", web, NONE_SERVED, True),
    ),
    "another one is revoked for its name": Case(
        lambda w: w.tls(a=w.auth()),
        lambda w: w.tls(a=w.auth(crl=w.one.revoke(w.one.issue("dns:x")))),
        *("a.test", web, {"a.test": OK}),
    ),
    "its name has the listener's rule again": Case(
        lambda w: w.tls({"client_auth": {"ca": w.two.ca}}, a=w.auth()),
        lambda w: w.tls({"client_auth": {"ca": w.two.ca}}),
        *("a.test", web, NONE_SERVED, True),
    ),
    "nobody is asked any more": Case(
        lambda w: w.tls(a=w.auth()),
        lambda w: w.tls(),
        *("a.test", web, {"a.test": OK, "open.test": OK}),
    ),
    "other names have changed": Case(
        lambda w: w.tls(a=w.auth(), open={}),
        lambda w: w.tls(a=w.auth(), open={"client_auth": {"ca": w.two.ca}}),
        *("a.test", web, {"a.test": OK, "open.test": MISDIRECTED}),
    ),
}


@BOTH
@pytest.mark.parametrize("case", CASES.values(), ids=CASES)
def test_an_open_connection_is_checked_by_the_rules_in_force(
    run: Run, world: World, case: Case, h2: bool
) -> None:
    async def go() -> None:
        async with running(case.before(world)) as proxy:
            context = case.shown(world).client("h2" if h2 else "http/1.1")
            # The first refusal of one that is drained ends its connection.
            many = len(case.answers) if case.drained else 1
            async with AsyncExitStack() as stack:
                clients = [
                    await stack.enter_async_context(asking(proxy, context, case.name, h2=h2))
                    for _ in range(many)
                ]
                for client in clients:
                    assert await client.ask(case.name) == OK
                await proxy.reload(load_text(mesh(case.after(world))))
                for client, (host, expected) in zip(
                    cycle(clients), case.answers.items(), strict=False
                ):
                    assert await client.ask(host) == expected, host
                if case.drained:
                    await eventually(lambda: proxy.connections == 0)
                    return
                # What was judged is left in peace: two looks of the worker.
                await asyncio.sleep(2.2)
                assert await clients[0].ask(case.name) == OK
                assert proxy.connections == 1

    run(go())


@BOTH
def test_who_asked_nothing_meanwhile_is_served_when_the_rules_are_as_before(
    run: Run, world: World, monkeypatch: pytest.MonkeyPatch, h2: bool
) -> None:
    monkeypatch.setattr("meshcore.downstream.certified._AT_ONCE", 0)  # nor was it looked at

    async def go() -> None:
        plain, strict = world.tls(open={}), world.tls(world.auth(), open={})
        async with running(plain) as proxy:
            context = world.client("h2" if h2 else "http/1.1")
            async with asking(proxy, context, "open.test", h2=h2) as client:
                await proxy.reload(load_text(mesh(strict)))
                await proxy.reload(load_text(mesh(plain)))
                assert await client.ask("open.test") == OK

    run(go())


def test_nobody_vouches_for_who_is_not_asked_any_more(
    run: Run, world: World, capsys: pytest.CaptureFixture[str]
) -> None:
    async def go() -> None:
        async with (
            running(world.tls(world.auth())) as proxy,
            asking(proxy, world.web.client(), "a.test") as client,
        ):
            assert await client.ask("a.test") == OK
            await proxy.reload(load_text(mesh(world.tls())))
            assert await client.ask("a.test") == OK

    run(go())
    lines = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    assert [line.get("identity") for line in lines] == [WEB, None]


# A drained connection of HTTP/2 without streams ends as soon as its client has heard of it.
REFUSED: dict[str, list[int | None]] = {"http1": [421], "h2": [421, None]}


async def refusal(ask: either.Ask) -> int | None:
    """The status of an answer, if there is one before the end."""
    try:
        return (await ask(either.request())).status
    except ConnectionError:
        return None


@pytest.mark.parametrize("protocol", ["http1", "h2"])
def test_a_client_without_tls_counts_as_one_without_certificate(
    run: Run, world: World, protocol: str
) -> None:
    async def go() -> None:
        async with (
            running(None) as proxy,
            either.asking(protocol, proxy.addresses["edge"]) as ask,
        ):
            at = urlsplit(proxy.addresses["edge"])
            silent, writer = await asyncio.open_connection(at.hostname, at.port)
            assert (await ask(either.request())).status == 200
            await eventually(lambda: proxy.connections == 2)
            tls = world.tls(open={}, a=world.auth())
            await proxy.reload(load_text(mesh(tls)))
            assert await refusal(ask) in REFUSED[protocol]
            assert await silent.read() == b""
            writer.close()
            await eventually(lambda: proxy.connections == 0)

    run(go())


@pytest.mark.parametrize("protocol", ["http1", "h2"])
def test_a_listener_that_is_bound_anew_checks_those_that_it_drains(
    run: Run, world: World, protocol: str
) -> None:
    async def go() -> None:
        strict = world.tls(world.auth(), open={})
        async with running(world.tls(open={})) as proxy:
            url = proxy.addresses["edge"].replace("http:", "https:")
            async with either.asking(protocol, url, world) as ask:  # type: ignore[arg-type]
                assert (await ask(either.request())).status == 200
                await proxy.reload(load_text(mesh(strict, bind="127.0.0.2:0")))
                assert await refusal(ask) in REFUSED[protocol]

    run(go())


class Interrupted(TlsStreams):
    """A client that does something else between the other side's first words and its answer."""

    meanwhile: Callable[[], Awaitable[object]] | None = None

    async def _exchange(self) -> bool:
        came = await super()._exchange()
        if (meanwhile := self.meanwhile) is not None:
            self.meanwhile = None
            await meanwhile()
        return came


def test_a_handshake_that_began_before_a_reload_lets_nobody_in_by_old_rules(
    run: Run, world: World
) -> None:
    async def go() -> None:
        async with running(world.tls(a={})) as proxy:
            at = urlsplit(proxy.addresses["edge"])
            reader, writer = await asyncio.open_connection(at.hostname, at.port)
            strict = load_text(mesh(world.tls(a=world.auth())))
            streams = Interrupted(reader, writer, world.client(), server_name="a.test")
            streams.meanwhile = lambda: proxy.reload(strict)
            try:
                await streams.shake()
                assert await Asker(streams, h2=False).ask("a.test") == MISDIRECTED
                await eventually(lambda: proxy.connections == 0)
            finally:
                streams.close()

    run(go())


def test_a_ticket_of_a_name_opens_no_more_when_the_name_has_a_rule(run: Run, world: World) -> None:
    async def go() -> None:
        context = world.client()
        context.maximum_version = ssl.TLSVersion.TLSv1_2
        async with running(world.tls(a={})) as proxy:
            url = proxy.addresses["edge"]
            session = (await shaken(url, context, "a.test", None)).session
            assert (await shaken(url, context, "a.test", session)).resumed
            await proxy.reload(load_text(mesh(world.tls(a=world.auth()))))
            with pytest.raises(ssl.SSLError):
                await shaken(url, context, "a.test", session)
            await proxy.reload(load_text(mesh(world.tls(a=world.auth(mode="request")))))
            assert not (await shaken(url, context, "a.test", session)).resumed

    run(go())


def test_nobody_vouches_for_who_stays_when_a_listener_gives_up_tls(
    run: Run, world: World, capsys: pytest.CaptureFixture[str]
) -> None:
    async def go() -> None:
        async with (
            running(world.tls(world.auth())) as proxy,
            asking(proxy, world.web.client(), "a.test") as client,
        ):
            assert await client.ask("a.test") == OK
            await proxy.reload(load_text(mesh(None)))
            assert await client.ask("a.test") == OK
            await proxy.reload(load_text(mesh(world.tls({"client_auth": {"ca": world.two.ca}}))))
            assert await client.ask("a.test") == MISDIRECTED

    run(go())
    lines = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    assert [line.get("identity") for line in lines] == [WEB, None, WEB]


def renamed(text: str) -> str:
    tree = json.loads(text)
    tree["listeners"]["other"] = tree["listeners"].pop("edge")
    return json.dumps(tree)


def elsewhere(text: str) -> str:
    tree = json.loads(text)
    tree["listeners"]["edge"]["bind"] = "127.0.0.2:0"
    return json.dumps(tree)


MOVED = pytest.mark.parametrize("moved", [renamed, elsewhere])


@MOVED
def test_a_listener_that_leaves_hears_of_later_rules(
    run: Run, world: World, moved: Callable[[str], str]
) -> None:
    async def go() -> None:
        revoked = world.tls(world.auth(crl=world.one.revoke(world.web)))
        at = f"127.0.0.1:{free_port()}"
        before = mesh(world.tls(world.auth()), bind=at)
        async with (
            Proxy(load_text(before)) as proxy,
            asking(proxy, world.web.client(), "a.test") as client,
        ):
            assert await client.ask("a.test") == OK
            await proxy.reload(load_text(moved(before)))
            await proxy.reload(load_text(moved(mesh(revoked, bind=at))))
            assert await client.ask("a.test") == MISDIRECTED

    run(go())


@MOVED
def test_so_it_does_that_there_is_no_tls_any_more(
    run: Run, world: World, moved: Callable[[str], str], capsys: pytest.CaptureFixture[str]
) -> None:
    async def go() -> None:
        at = f"127.0.0.1:{free_port()}"
        async with (
            Proxy(load_text(mesh(world.tls(world.auth()), bind=at))) as proxy,
            asking(proxy, world.web.client(), "a.test") as client,
        ):
            assert await client.ask("a.test") == OK
            await proxy.reload(load_text(moved(mesh(None, bind=at))))
            assert await client.ask("a.test") == OK

    run(go())
    lines = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    assert [line.get("identity") for line in lines] == [WEB, None]


def test_no_rule_applies_to_a_plain_connection_of_a_removed_listener(
    run: Run, world: World
) -> None:
    """The name has TLS now, at another address; its old one is another listener's."""

    async def go() -> None:
        async with (
            running(None) as proxy,
            either.asking("http1", proxy.addresses["edge"]) as ask,
        ):
            assert (await ask(either.request())).status == 200
            tree = json.loads(elsewhere(mesh(world.tls(world.auth()))))
            tree["listeners"]["http"] = json.loads(mesh(None))["listeners"]["edge"]
            await proxy.reload(load_text(json.dumps(tree)))
            assert (await ask(either.request())).status == 200

    run(go())


@pytest.mark.parametrize("protocol", ["http1", "h2"])
@pytest.mark.parametrize("detects", [True, False], ids=["either", "one"])
def test_a_plain_connection_is_checked_while_its_listener_gets_tls(
    run: Run, world: World, protocol: str, detects: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    other = {"http1": "h2", "h2": "http1"}[protocol]
    protocols: dict[str, Any] = {} if detects else {"protocols": {other: "off"}}
    reopen = Listener.reopen
    seen: list[int | None] = []

    async def go() -> None:
        async with Proxy(load_text(mesh(None, **protocols))) as proxy:
            url = proxy.addresses["edge"]

            async def last_moment(listener: Listener) -> None:
                """The old server accepts until the new one does."""
                async with either.asking(protocol, url) as ask:
                    seen.append(await refusal(ask))
                    await reopen(listener)
                await eventually(lambda: proxy.connections == 0)

            monkeypatch.setattr(Listener, "reopen", last_moment)
            strict = mesh(world.tls(world.auth()), **protocols)
            await proxy.reload(load_text(strict))

    run(go())
    assert seen[0] in REFUSED[protocol]
