"""Who comes in by a certificate, what it is called, and who hears of it; in both protocols."""

from __future__ import annotations

import datetime
import json
import ssl
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest
from cryptography.x509.oid import ExtendedKeyUsageOID

from meshcore import Layer, Proxy, Request
from meshcore.config.load import load_text
from tests.wire.conftest import Certificates, Run
from tests.wire.either import Ask, Message, Service, asking, request, response, service
from tests.wire.h2_mesh import Keys, Mesh
from tests.wire.identities import Holder, Signer
from tests.wire.test_tls_listeners import met, streams

WEB = "spiffe://one/ns/shop/sa/web"
BOTH = pytest.mark.parametrize("protocol", ["http1", "h2"])
LONG_AGO = datetime.timedelta(days=-2)


class Told(Layer):
    """Writes down who came."""

    def __init__(self) -> None:
        self.seen: list[tuple[str | None, list[str]]] = []

    async def on_request(self, request: Request) -> None:
        assert request.peer is not None
        self.seen.append((request.peer.identity, request.peer.names))
        assert (request.peer.fingerprint is None) == (request.peer.identity is None)
        assert request.peer.address == request.client


@pytest.fixture
def signer(tmp_path: Path, certificates: Certificates) -> Signer:
    return Signer(tmp_path, "one", certificates)


def mesh(certificates: Certificates, auth: Keys | None, *ports: int, **listener: Any) -> Mesh:
    tls: Keys = dict(certificates.listener)
    if auth is not None:
        tls["client_auth"] = auth
    made = Mesh("native", *ports).listen(tls=tls, **listener)
    made.top["access_log"] = "json"
    return made


@asynccontextmanager
async def running(made: Mesh, told: Told | None = None) -> AsyncIterator[Proxy]:
    layers = {"test:Told": told} if told is not None else {}
    async with Proxy(load_text(str(made)), layers=layers) as proxy:
        yield proxy


@asynccontextmanager
async def from_(who: Certificates | Holder, protocol: str, proxy: Proxy) -> AsyncIterator[Ask]:
    """Requests of somebody on one connection."""
    url = proxy.addresses["edge"].replace("http:", "https:")
    async with asking(protocol, url, who) as ask:  # type: ignore[arg-type]  # makes contexts
        yield ask


def answer(_: Message) -> Message:
    return response(b"hi")


def logged(capsys: pytest.CaptureFixture[str]) -> list[dict[str, Any]]:
    return [json.loads(line) for line in capsys.readouterr().out.splitlines()]


async def alert(who: Certificates | Holder, proxy: Proxy) -> str:
    """What somebody is told who does not come in."""
    async with streams(proxy, who.client("http/1.1")) as client:
        with pytest.raises(ssl.SSLError) as caught:
            await met(client)
    return str(caught.value.reason).lower()


@BOTH
def test_everybody_hears_who_it_is(
    run: Run,
    certificates: Certificates,
    signer: Signer,
    capsys: pytest.CaptureFixture[str],
    protocol: str,
) -> None:
    web = signer.issue(WEB, "dns:web.example")
    named = signer.issue("dns:Api.example", "ip:10.0.0.1", "email:jo@a.example")
    bare = signer.issue(subject="web, the old one")
    told = Told()

    async def main() -> None:
        auth = {"ca": signer.ca, "mode": "request"}
        async with service("h2", answer) as origin:
            made = mesh(certificates, auth, origin.port, forwarded_client_cert="append")
            made.listen(layers=[{"python": "test:Told"}]).to("h2")
            async with running(made, told) as proxy:
                for who in (web, named, bare, certificates):
                    async with from_(who, protocol, proxy) as ask:
                        for _ in range(2):
                            assert (await ask(request())).status == 200
            sent = [each.fields.get("x-forwarded-client-cert", "") for each in origin.asked]
        ends = [
            f";URI={WEB};DNS=web.example",
            ";DNS=api.example",
            r';Subject="CN=web\, the old one"',
        ]
        for value, end in zip(sent[:6:2], ends, strict=True):
            assert value.startswith("Hash=")
            assert value.endswith(end), value
        assert sent[6:] == ["", ""]

    run(main())
    names = ["dns:api.example", "ip:10.0.0.1", "email:jo@a.example"]
    who = [
        (WEB, [WEB, "dns:web.example"]),
        ("api.example", names),
        (r"CN=web\, the old one", []),
        (None, []),
    ]
    assert told.seen[::2] == who
    assert told.seen[1::2] == who
    assert [line.get("identity") for line in logged(capsys)[::2]] == [name for name, _ in who]


@BOTH
def test_who_does_not_come_in_is_told_of_by_both_names(
    run: Run,
    tmp_path: Path,
    certificates: Certificates,
    signer: Signer,
    caplog: pytest.LogCaptureFixture,
    protocol: str,
) -> None:
    other = Signer(tmp_path, "other", certificates)
    rules = {"spiffe": "spiffe://one/ns/*/sa/web", "san": ["dns:*.a.example"]}

    async def main() -> None:
        async with service("http1", answer) as origin:
            auth = {"ca": [signer.ca], "match": rules, "mode": "request"}
            async with running(mesh(certificates, auth, origin.port)) as proxy:
                for names in ([WEB], ["dns:x.a.example"]):
                    async with from_(signer.issue(*names), protocol, proxy) as ask:
                        assert (await ask(request())).status == 200
                async with from_(certificates, protocol, proxy) as ask:
                    assert (await ask(request())).status == 200
                db = signer.issue("spiffe://one/ns/shop/sa/db")
                assert "access_denied" in await alert(db, proxy)
                assert "unknown_ca" in await alert(other.issue(WEB), proxy)
                two = signer.issue(WEB, "spiffe://one/other")
                assert "bad_certificate" in await alert(two, proxy)
            auth = {"ca": [signer.ca, other.ca], "match": rules}
            async with running(mesh(certificates, auth, origin.port)) as proxy:
                async with from_(other.issue(WEB), protocol, proxy) as ask:
                    assert (await ask(request())).status == 200
                assert "certificate_required" in await alert(certificates, proxy)

    with caplog.at_level("INFO", "meshcore.tls"):
        run(main())
    denied = next(each for each in caplog.messages if "ns/shop/sa/db" in each)
    wanted = (
        "of spiffe://one/ns/shop/sa/db, and wanted is spiffe://one/ns/*/sa/web, dns:*.a.example"
    )
    assert wanted in denied


@BOTH
def test_a_trust_domain_vouches_for_its_own(
    run: Run, tmp_path: Path, certificates: Certificates, signer: Signer, protocol: str
) -> None:
    other = Signer(tmp_path, "other", certificates)

    async def main() -> None:
        auth = {"trust_domains": {"one": signer.ca, "two": [other.ca]}}
        async with (
            service("http1", answer) as origin,
            running(mesh(certificates, auth, origin.port)) as proxy,
        ):
            for who in (signer.issue(WEB), other.issue("spiffe://two/web")):
                async with from_(who, protocol, proxy) as ask:
                    assert (await ask(request())).status == 200
            for who in (other.issue(WEB), signer.issue("spiffe://two/web")):
                assert "unknown_ca" in await alert(who, proxy)
            assert "unknown_ca" in await alert(signer.issue("spiffe://three/web"), proxy)
            assert "unknown_ca" in await alert(signer.issue("dns:web.example"), proxy)

    run(main())


def test_who_is_revoked_resumes_nothing(
    run: Run, certificates: Certificates, signer: Signer
) -> None:
    web, db = signer.issue(WEB), signer.issue("dns:db.example")

    async def main() -> None:
        async with service("http1", answer) as origin:

            def listed(*revoked: Holder, **more: Any) -> str:
                auth = {"ca": signer.ca, "crl": signer.revoke(*revoked, **more)}
                return str(mesh(certificates, auth, origin.port))

            context = web.client("http/1.1")
            context.maximum_version = ssl.TLSVersion.TLSv1_2  # whose session is there at once
            async with Proxy(load_text(listed(db))) as proxy:
                async with streams(proxy, context) as first:
                    await first.shake()
                    session = first.session
                async with streams(proxy, context) as again:
                    again.session = session
                    await again.shake()
                    assert again.resumed
                assert "revoked" in await alert(db, proxy)
                await proxy.reload(load_text(listed(db, web)))
                async with streams(proxy, context) as gone:
                    gone.session = session
                    with pytest.raises(ssl.SSLError, match="revoked"):
                        await met(gone)
                assert "revoked" in await alert(web, proxy)
                await proxy.reload(load_text(listed(ends_in=LONG_AGO)))
                assert "unknown_ca" in await alert(web, proxy)

    run(main())


@BOTH
def test_a_limit_counts_by_identity(
    run: Run, certificates: Certificates, signer: Signer, protocol: str
) -> None:
    async def main() -> None:
        auth = {"ca": signer.ca, "mode": "request"}
        limit = {"limit": {"rate": "1/m", "burst": 1, "key": "identity"}}
        async with service("http1", answer) as origin:
            made = mesh(certificates, auth, origin.port, layers=[limit])
            async with running(made) as proxy:
                # Two certificates of one identity share; so do those who have none.
                asked: list[tuple[Certificates | Holder, list[int]]] = [
                    (signer.issue(WEB), [200, 429]),
                    (signer.issue(WEB), [429]),
                    (signer.issue("dns:db.example"), [200, 429]),
                    (certificates, [200, 429]),
                    (certificates, [429]),
                ]
                for who, statuses in asked:
                    async with from_(who, protocol, proxy) as ask:
                        for status in statuses:
                            assert (await ask(request())).status == status

    run(main())


RECEIVED = 'Hash=aa;URI="spiffe://old/a,b"'


@BOTH
@pytest.mark.parametrize("is_trusted", [True, False])
@pytest.mark.parametrize("mode", ["sanitize", "forward", "append", "set", None])
def test_what_endpoints_hear_of_certificates(
    run: Run,
    certificates: Certificates,
    signer: Signer,
    protocol: str,
    mode: str | None,
    is_trusted: bool,
) -> None:
    async def heard(origin: Service, made: Mesh, who: Certificates | Holder) -> str:
        fields = [
            ("x-forwarded-client-cert", RECEIVED),
            ("x_forwarded_client_cert", "twin"),
            ("X-Forwarded-Client_Cert".lower(), "twin"),
        ]
        async with running(made) as proxy, from_(who, protocol, proxy) as ask:
            assert (await ask(request("GET", "/", *fields))).status == 200
        (asked,) = origin.asked
        origin.asked.clear()
        assert "twin" not in asked.fields.values()
        return asked.fields.get("x-forwarded-client-cert", "")

    async def main() -> None:
        more: Keys = {} if mode is None else {"forwarded_client_cert": mode}
        if is_trusted:
            more["client_address"] = {"trusted": ["127.0.0.1"]}
        auth = {"ca": signer.ca, "mode": "request"}
        async with service("h2", answer) as origin:
            made = mesh(certificates, auth, origin.port, **more).to("h2")
            keeps = is_trusted and mode in ("forward", "append")
            without = await heard(origin, made, certificates)
            assert without == (RECEIVED if keeps else "")
            whole = await heard(origin, made, signer.issue(WEB))
            assert whole.startswith(RECEIVED) == keeps
            assert whole.endswith(f";URI={WEB}") == (mode in ("append", "set"))

    run(main())


def test_a_subject_cannot_say_what_it_is_not(
    run: Run, certificates: Certificates, signer: Signer
) -> None:
    """Nothing in a certificate ends the value that it is in, however that is read."""
    evil = 'a";URI=spiffe://one/admin;x="\\'
    who = signer.issue(subject=evil)

    async def main() -> None:
        auth = {"ca": signer.ca}
        async with service("h2", answer) as origin:
            made = mesh(certificates, auth, origin.port, forwarded_client_cert="set").to("h2")
            async with running(made) as proxy, from_(who, "http1", proxy) as ask:
                assert (await ask(request())).status == 200
            value = origin.asked[0].fields["x-forwarded-client-cert"]
            assert value.count('"') == 2
            assert value.endswith('"')
            assert "\\\\" not in value

    run(main())


@BOTH
def test_endpoints_hear_of_clients_of_which_a_name_alone_asks_certificates(
    run: Run, certificates: Certificates, signer: Signer, protocol: str
) -> None:
    async def main() -> None:
        async with service("http1", answer) as origin:
            made = mesh(certificates, None, origin.port, forwarded_client_cert="set")
            own = {**certificates.listener, "client_auth": {"ca": signer.ca}}
            made.listener["tls"]["sni"] = {"edge.test": own}
            async with (
                running(made) as proxy,
                from_(signer.issue(WEB), protocol, proxy) as ask,
            ):
                asked = request("GET", "/", (":authority", "edge.test"))
                assert (await ask(asked)).status == 200
            assert f"uri={WEB}" in origin.asked[-1].fields["x-forwarded-client-cert"]

    run(main())


ANY, SERVER, CLIENT = (
    ExtendedKeyUsageOID.ANY_EXTENDED_KEY_USAGE,
    ExtendedKeyUsageOID.SERVER_AUTH,
    ExtendedKeyUsageOID.CLIENT_AUTH,
)


@BOTH
def test_a_certificate_may_be_for_any_use(
    run: Run, certificates: Certificates, signer: Signer, protocol: str
) -> None:
    """RFC 5280 §4.2.1.12."""
    auth = {"ca": signer.ca}

    async def main() -> None:
        for usage, is_client, is_endpoint in [
            ([ANY], True, True),
            ([SERVER, ANY], True, True),
            ([CLIENT], True, False),
            ([SERVER], False, True),
        ]:
            who = signer.issue("dns:a.example", usage=usage)
            tls = auth | {"peer": {"san": "dns:a.example"}}
            async with service(protocol, answer, who) as origin:  # type: ignore[arg-type]  # as above
                made = mesh(certificates, auth, origin.port).to(protocol, tls=tls)
                made.via(retry="off")
                async with running(made) as proxy:
                    if not is_client:
                        assert "unsupported_certificate" in await alert(who, proxy)
                    someone = who if is_client else signer.issue("dns:b.example")
                    async with from_(someone, protocol, proxy) as ask:
                        assert (await ask(request())).status == (200 if is_endpoint else 502)

    run(main())


@BOTH
def test_an_endpoint_is_known_by_its_names(
    run: Run,
    certificates: Certificates,
    signer: Signer,
    capsys: pytest.CaptureFixture[str],
    protocol: str,
) -> None:
    db = signer.issue("spiffe://one/db", "dns:other.example")
    revoked = signer.revoke(signer.issue())

    async def main() -> None:
        made = Mesh("native")
        async with service(protocol, answer, db) as origin:  # type: ignore[arg-type]  # as above
            for tls, status in [
                ({"ca": signer.ca, "peer": {"spiffe": "spiffe://one/*"}}, 200),
                ({"ca": signer.ca, "peer": {"san": "dns:other.example"}, "crl": revoked}, 200),
                ({"trust_domains": {"one": signer.ca}, "peer": {"spiffe": "spiffe://one/db"}}, 200),
                ({"ca": signer.ca, "peer": {"spiffe": ["spiffe://one/web"]}}, 502),
                ({"trust_domains": {"two": signer.ca}, "peer": {"spiffe": "spiffe://two/**"}}, 502),
                ({"ca": signer.ca}, 502),
                ({"ca": signer.ca, "peer": {"spiffe": "spiffe://one/*"}}, 200),
            ]:
                made = Mesh("native", origin.port).to(protocol, tls=tls).via(retry="off")
                made.top["access_log"] = "json"
                async with (
                    running(made) as proxy,
                    asking("http1", proxy.addresses["edge"]) as ask,
                ):
                    assert (await ask(request())).status == status, tls

    run(main())
    lines = [line for line in logged(capsys) if line["status"] == 502]
    assert {line["reason"] for line in lines} == {"upstream_connect"}
    wanted = "of spiffe://one/db, dns:other.example, and wanted is spiffe://one/web"
    assert wanted in lines[0]["detail"]
    assert "known is two" in lines[1]["detail"]
