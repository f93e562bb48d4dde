"""The layer `allow`: who may ask what, by its certificate, its address, method and path."""

from __future__ import annotations

import json
import socket
import struct
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pytest

from meshcore import Proxy
from meshcore.config.load import load_text
from tests.wire.balancer import Balancer, v1
from tests.wire.client import Client
from tests.wire.conftest import Certificates, Run, Serve, metric
from tests.wire.either import Message, asking, request, response, service
from tests.wire.h2_client import H2Client
from tests.wire.h2_mesh import Keys, Mesh
from tests.wire.identities import Holder, Signer
from tests.wire.test_identity import from_, logged, running
from tests.wire.tunnel_ends import h1_request, h2_request

WEB, DB = "spiffe://one/ns/shop/sa/web", "spiffe://one/ns/shop/sa/db"
GRPC = ("content-type", "application/grpc")
BOTH = pytest.mark.parametrize("protocol", ["http1", "h2"])
WEB_READS = {
    "name": "web-reads",
    "identities": {"spiffe": "spiffe://one/ns/*/sa/web"},
    "methods": ["GET", "HEAD"],
    "paths": [{"prefix": "/v1"}],
}


@pytest.fixture
def signer(tmp_path: Path, certificates: Certificates) -> Signer:
    return Signer(tmp_path, "one", certificates)


def allow(*rules: Keys, **more: Any) -> Keys:
    return {"layers": [{"allow": {"rules": list(rules)} | more}]}


def secure(certificates: Certificates, signer: Signer, port: int, **listener: Any) -> Mesh:
    """Clients may show a certificate."""
    tls = certificates.listener | {"client_auth": {"ca": signer.ca, "mode": "request"}}
    made = Mesh("native", port).listen(tls=tls, **listener)
    made.top["access_log"] = "json"
    return made


def plain(port: int, engine: str = "native") -> Mesh:
    made = Mesh(engine, port)
    made.top["access_log"] = "json"
    return made


def answer(_: Message) -> Message:
    return response(b"hi")


def is_forbidden(got: Message) -> None:
    """What the client hears, and no more than that."""
    assert (got.status, got.fields["x-mesh-reason"]) == (403, "forbidden")
    assert json.loads(got.body) == {"title": "forbidden", "status": 403, "reason": "forbidden"}


def is_judged(got: Message, passes: bool) -> None:
    if passes:
        assert got.status == 200
    else:
        is_forbidden(got)


def judged(lines: list[dict[str, Any]]) -> list[tuple[object, ...]]:
    return [(line["status"], line["reason"], line.get("allow")) for line in lines]


PASSED, REFUSED = (200, "", "web-reads"), (403, "forbidden", "none")
# What a client may write of itself.
LIES = [
    ("x-forwarded-client-cert", f"Hash=aa;URI={WEB}"),
    ("x-forwarded-for", "10.0.0.1"),
    ("forwarded", "for=10.0.0.1"),
    ("x-real-ip", "10.0.0.1"),
    ("x-original-url", "/v1"),
    ("x-rewrite-url", "/v1"),
    ("x-http-method-override", "GET"),
]


@BOTH
@pytest.mark.parametrize("place", ["listener", "route"])
def test_who_may_ask_is_known_by_its_certificate(
    run: Run,
    certificates: Certificates,
    signer: Signer,
    capsys: pytest.CaptureFixture[str],
    protocol: str,
    place: str,
) -> None:
    web, db = signer.issue(WEB), signer.issue(DB)
    asked: list[tuple[Certificates | Holder, str, str, bool]] = [
        (web, "GET", "/v1", True),
        (web, "HEAD", "/v1/x?y=/", True),
        (web, "POST", "/v1", False),
        (web, "GET", "/v2", False),
        (db, "GET", "/v1", False),
        (signer.issue("dns:web.example"), "GET", "/v1", False),
        (certificates, "GET", "/v1", False),
    ]

    async def main() -> None:
        async with service("http1", answer) as origin:
            made = secure(certificates, signer, origin.port)
            (made.listen if place == "listener" else made.via)(**allow(WEB_READS))
            async with running(made) as proxy:
                for who, method, path, passes in asked:
                    async with from_(who, protocol, proxy) as ask:
                        for fields in ((), LIES):
                            got = await ask(request(method, path, *fields))
                            is_judged(got, passes)
                owner = {place: "edge" if place == "listener" else "all"}
                for outcome, count in (("allowed", 4), ("denied", 10)):
                    labels = owner | {"outcome": outcome}
                    assert metric(proxy, "meshcore_allow_total", **labels) == count
            assert len(origin.asked) == 4

    run(main())
    lines = logged(capsys)
    assert judged(lines[::2]) == [PASSED if passes else REFUSED for *_, passes in asked]
    assert judged(lines[1::2]) == judged(lines[::2])
    detail = f"allow of the {place}"
    assert {line["detail"] for line in lines if line["status"] == 403} == {detail}


@BOTH
def test_any_identity_is_one_that_was_shown(
    run: Run, certificates: Certificates, signer: Signer, protocol: str
) -> None:
    async def main() -> None:
        async with service("http1", answer) as origin:
            rule = {"name": "known", "identities": "any"}
            made = secure(certificates, signer, origin.port, **allow(rule))
            async with running(made) as proxy:
                for who in (signer.issue(DB), signer.issue("dns:a.example"), signer.issue()):
                    async with from_(who, protocol, proxy) as ask:
                        assert (await ask(request())).status == 200
                async with from_(certificates, protocol, proxy) as ask:
                    is_forbidden(await ask(request("GET", "/", *LIES)))

    run(main())


def test_a_call_is_told_permission_denied(
    run: Run,
    certificates: Certificates,
    signer: Signer,
    capsys: pytest.CaptureFixture[str],
) -> None:
    """A call is a POST, and its method the path."""
    rule = WEB_READS | {"methods": ["POST"], "paths": [{"exact": "/shop.Items/Get"}]}

    async def main() -> None:
        async with service("h2", answer) as origin:
            made = secure(certificates, signer, origin.port, **allow(rule)).to("h2")
            async with running(made) as proxy, from_(signer.issue(WEB), "h2", proxy) as ask:
                call = request("POST", "/shop.Items/Get", GRPC, body=b"\0\0\0\0\0")
                assert (await ask(call)).body == b"hi"
                for path in ("/shop.Items/Set", "/shop.items/Get", "/shop.Items/Get/"):
                    got = await ask(request("POST", path, GRPC, body=b"\0\0\0\0\0"))
                    told = got.fields
                    assert (told[":status"], told["grpc-status"]) == ("200", "7")
                    assert (told["grpc-message"], got.body) == ("forbidden", b"")
                    assert told["content-type"] == "application/grpc"
            assert len(origin.asked) == 1

    run(main())
    refused = logged(capsys)[1:]
    assert judged(refused) == [REFUSED] * 3
    assert {line["grpc_status"] for line in refused} == {7}


@BOTH
def test_in_shadow_mode_nothing_is_refused_and_all_is_told(
    run: Run,
    certificates: Certificates,
    signer: Signer,
    capsys: pytest.CaptureFixture[str],
    protocol: str,
) -> None:
    strict = {"allow": {"rules": [WEB_READS], "shadow": "on"}}
    known = {"allow": {"rules": [{"name": "known", "identities": "any"}]}}

    async def main() -> None:
        async with service("http1", answer) as origin:
            made = secure(certificates, signer, origin.port, layers=[strict])
            made.via(layers=[known, strict])
            async with running(made) as proxy:
                for who, path, status in (
                    (signer.issue(WEB), "/v1", 200),
                    (signer.issue(DB), "/v1", 200),
                    (certificates, "/v1", 403),
                ):
                    async with from_(who, protocol, proxy) as ask:
                        assert (await ask(request("GET", path))).status == status
                counts = [
                    metric(proxy, "meshcore_allow_total", **{owner: name, "outcome": outcome})
                    for owner, name in (("listener", "edge"), ("route", "all"))
                    for outcome in ("allowed", "denied", "shadow_allowed", "shadow_denied")
                ]
                assert counts == [0, 0, 1, 2, 2, 1, 1, 1]

    run(main())
    assert judged(logged(capsys)) == [
        (200, "", "shadow:web-reads,known,shadow:web-reads"),
        (200, "", "shadow:none,known,shadow:none"),
        (403, "forbidden", "shadow:none,none"),
    ]


@BOTH
def test_a_reload_counts_for_the_next_request_of_an_open_connection(
    run: Run, certificates: Certificates, signer: Signer, protocol: str
) -> None:
    async def main() -> None:
        async with service("http1", answer) as origin:

            def made(*rules: Keys) -> Any:
                return load_text(str(secure(certificates, signer, origin.port, **allow(*rules))))

            async with (
                Proxy(made(WEB_READS)) as proxy,
                from_(signer.issue(WEB), protocol, proxy) as ask,
            ):
                assert (await ask(request("GET", "/v1"))).status == 200
                await proxy.reload(made(WEB_READS | {"methods": ["PUT"]}))
                is_forbidden(await ask(request("GET", "/v1")))
                await proxy.reload(made())
                is_forbidden(await ask(request("PUT", "/v1")))
                await proxy.reload(load_text(str(secure(certificates, signer, origin.port))))
                assert (await ask(request("GET", "/v1"))).status == 200
                # Nobody vouches for its certificate any more: it is nobody's.
                bare = plain(origin.port).listen(tls=certificates.listener)
                await proxy.reload(load_text(str(bare.listen(**allow(WEB_READS)))))
                is_forbidden(await ask(request("GET", "/v1")))
                assert metric(proxy, "meshcore_listener_connections_total") == 1

    run(main())


# --- addresses ---------------------------------------------------------------------------------

OFFICE = {"name": "office", "networks": ["192.0.2.0/24", "2001:db8::/32"]}


@BOTH
def test_networks_hold_the_client_that_limits_and_log_see(
    run: Run, serve: Serve, capsys: pytest.CaptureFixture[str], protocol: str, engine: str
) -> None:
    """Of a proxy that is trusted; else the socket's, whatever a client writes."""
    sent = [
        ("192.0.2.1", True),
        ("198.51.100.1, 192.0.2.1", True),
        ("192.0.2.1, 198.51.100.1", False),
        ("::ffff:192.0.2.9", True),
        ("2001:db8::9", True),
        ("unknown", False),
    ]

    async def main(trusted: list[str]) -> None:
        async with service("http1", answer) as origin:
            made = plain(origin.port, engine).listen(**allow(OFFICE))
            made.listen(client_address={"trusted": trusted})
            async with (
                serve(str(made)) as proxy,
                asking(protocol, proxy.addresses["edge"]) as ask,
            ):
                for value, passes in sent:
                    got = await ask(request("GET", "/", ("x-forwarded-for", value)))
                    passes = passes and trusted == ["127.0.0.1"]
                    is_judged(got, passes)

    run(main(["127.0.0.1"]))
    run(main(["10.0.0.0/8"]))
    assert {line["client"] for line in logged(capsys)[len(sent) :]} == {"127.0.0.1"}


@BOTH
def test_networks_hold_whom_a_balancer_announces(run: Run, engine: str, protocol: str) -> None:
    sources = [("192.0.2.1", 200), ("198.51.100.1", 403), ("2001:db8::1", 200)]

    async def main() -> None:
        async with service("http1", answer) as origin:
            made = plain(origin.port, engine).listen(**allow(OFFICE))
            made.listen(proxy_protocol={"trusted": ["127.0.0.1"]})
            headers = [v1(source) for source, _ in sources]
            async with (
                running(made) as proxy,
                Balancer(proxy.addresses["edge"], *headers) as balancer,
            ):
                for _, status in sources:
                    async with asking(protocol, balancer.url) as ask:
                        got = await ask(request("GET", "/", ("x-forwarded-for", "192.0.2.1")))
                        assert got.status == status

    run(main())


def test_who_is_gone_when_it_is_accepted_is_not_at_a_unix_socket(
    run: Run, serve: Serve, capsys: pytest.CaptureFixture[str]
) -> None:
    """A reset leaves what was sent to be read, and no address."""

    async def main() -> None:
        async with service("http1", answer) as origin:
            rule = {"name": "local", "networks": ["unix", "10.0.0.0/8"]}
            made = plain(origin.port).listen(**allow(rule))
            made.listen(client_address={"trusted": ["unix"]})
            async with serve(str(made)) as proxy:
                url = urlsplit(proxy.addresses["edge"])
                # Without a turn of the loop: it accepts when all of this has happened.
                gone = socket.create_connection((url.hostname, url.port))
                gone.sendall(b"GET / HTTP/1.1\r\nhost: a\r\nx-forwarded-for: 10.0.0.1\r\n\r\n")
                gone.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
                gone.close()
                async with asking("http1", proxy.addresses["edge"]) as ask:
                    is_forbidden(await ask(request()))
            assert not origin.asked

    run(main())
    lines = logged(capsys)
    assert {line["allow"] for line in lines} == {"none"}
    assert {line["client"] for line in lines} == {"127.0.0.1"}


# --- paths and methods -------------------------------------------------------------------------

ADMIN = {"name": "admin", "identities": "any"}
PUBLIC = {"name": "public", "paths": [{"prefix": "/public"}, {"exact": "/health"}]}
TRICKS = {
    "/public": 200,
    "/public/": 200,
    "/public/x": 200,
    "//public": 200,
    "/%70ublic": 200,
    "/x/../public": 200,
    "/public/./y": 200,
    "/health": 200,
    "/public?/../admin": 200,
    "/admin": 403,
    "//admin": 403,
    "/%61dmin": 403,
    "/a/../admin": 403,
    "/public/../admin": 403,
    "/public/%2e%2e/admin": 403,
    "/public/x/../../admin/../public": 200,
    "/public/..": 403,
    "/PUBLIC": 403,
    "/publicity": 403,
    "/public;x=y": 403,
    "/public%3Bx": 403,
    "/health/": 403,
    "/health;x": 403,
    "/admin?/public": 403,
    "/": 403,
    # These are no paths that are judged at all.
    "/admin%2f": 400,
    "/public%2f..%2fadmin": 400,
    "/public/..;/admin": 400,
    "/public/..%3b/admin": 400,
    "/public%5c..%5cadmin": 400,
    "/public%00": 400,
    "/public//../admin": 400,
}


@BOTH
def test_a_path_is_matched_as_routes_match_it(
    run: Run, serve: Serve, engine: str, protocol: str
) -> None:
    async def main() -> None:
        async with service("http1", answer) as origin:
            made = plain(origin.port, engine).listen(**allow(PUBLIC, ADMIN))
            async with serve(str(made)) as proxy:
                for path, status in TRICKS.items():
                    async with asking(protocol, proxy.addresses["edge"]) as ask:
                        assert (await ask(request("GET", path))).status == status, path
            assert not [each for each in origin.asked if each.fields[":path"].startswith("/admin")]

    run(main())


@BOTH
def test_a_slash_that_is_kept_is_of_its_segment(
    run: Run, serve: Serve, engine: str, protocol: str
) -> None:
    async def main() -> None:
        async with service("http1", answer) as origin:
            made = plain(origin.port, engine).listen(**allow(PUBLIC))
            made.listen(paths={"encoded_slash": "keep", "repeated_slashes": "keep"})
            async with serve(str(made)) as proxy:
                for path, status in {
                    "/public/a%2Fb": 200,
                    "/public%2fadmin": 403,
                    "/public%2F..%2fadmin": 400,
                    "/admin%2F": 403,
                    "//public": 200,
                    "/x//public": 403,
                }.items():
                    async with asking(protocol, proxy.addresses["edge"]) as ask:
                        assert (await ask(request("GET", path))).status == status, path

    run(main())


READS = {"name": "reads", "methods": ["GET"], "paths": [{"prefix": "/"}]}


def test_methods_are_what_they_are(run: Run, serve: Serve, engine: str) -> None:
    async def main() -> None:
        async with service("http1", answer) as origin:
            made = plain(origin.port, engine).listen(**allow(READS)).via(upgrade=["connect"])
            async with serve(str(made)) as proxy:
                url = proxy.addresses["edge"]
                for line, status in {
                    "GET / HTTP/1.1": 200,
                    "GET http://a.test/x HTTP/1.1": 200,
                    "GET http://a.test HTTP/1.1": 200,
                    "get / HTTP/1.1": 403,
                    "Get / HTTP/1.1": 403,
                    "OPTIONS / HTTP/1.1": 403,
                    "OPTIONS * HTTP/1.1": 403,
                    "OPTIONS http://a.test HTTP/1.1": 403,
                    "TRACE / HTTP/1.1": 403,
                    "GETS / HTTP/1.1": 403,
                }.items():
                    async with Client(url) as client:
                        await client.send(f"{line}\r\nhost: a.test\r\n\r\n".encode())
                        assert (await client.reply()).status == status, line
                async with Client(url) as client:
                    await client.send(b"CONNECT a.test:443 HTTP/1.1\r\nhost: a.test:443\r\n\r\n")
                    assert (await client.reply()).status == 403
                for protocol in ("http1", "h2"):
                    async with asking(protocol, url) as ask:
                        for method in ("get", "OPTIONS", "HEAD"):
                            assert (await ask(request(method, "/"))).status == 403

    run(main())


def test_what_has_no_path_needs_a_rule_without_paths(run: Run, serve: Serve, engine: str) -> None:
    async def main() -> None:
        async with service("http1", answer) as origin:
            for rule, status in (
                ({"name": "a", "methods": ["OPTIONS"]}, 200),
                ({"name": "a", "paths": [{"regex": "\\*"}]}, 200),
                ({"name": "a", "paths": [{"prefix": "/"}]}, 403),
            ):
                made = plain(origin.port, engine).listen(**allow(rule))
                async with serve(str(made)) as proxy, Client(proxy.addresses["edge"]) as client:
                    await client.send(b"OPTIONS * HTTP/1.1\r\nhost: a.test\r\n\r\n")
                    assert (await client.reply()).status == status

    run(main())


@pytest.mark.parametrize(
    ("methods", "statuses"),
    [(["GET"], (404, 403)), (["CONNECT"], (403, 404)), (["GET", "CONNECT"], (404, 404))],
)
def test_an_upgrade_is_a_get_over_http1_and_a_connect_over_http2(
    run: Run, serve: Serve, engine: str, methods: list[str], statuses: tuple[int, int]
) -> None:
    """404 is the origin's, which was asked."""
    rule = {"name": "chat", "methods": methods, "paths": [{"exact": "/chat"}]}

    async def main() -> None:
        async with service("http1", lambda _: response(b"no", status=404)) as origin:
            made = plain(origin.port, engine).listen(**allow(rule)).via(upgrade=["websocket"])
            async with (
                serve(str(made)) as proxy,
                Client(proxy.addresses["edge"]) as client,
                H2Client(proxy.addresses["edge"]) as client2,
            ):
                await client.send(h1_request("websocket"))
                assert (await client.reply()).status == statuses[0]
                stream = client2.open(*h2_request("websocket"), end=False)
                await stream.whole()
                assert stream.status == statuses[1]
            assert len(origin.asked) == statuses.count(404)

    run(main())


# --- what a refusal is to others ---------------------------------------------------------------


@BOTH
def test_a_refusal_is_nobodys_failure_and_takes_nothing_behind_it(
    run: Run, serve: Serve, engine: str, protocol: str
) -> None:
    async def main() -> None:
        async with service("http1", answer) as origin:
            made = plain(origin.port, engine).to(circuit_breaker={"failures": 1, "min_calls": 1})
            behind: list[Keys] = [
                {"limit": {"rate": "1/h", "burst": 1}},
                {"in_flight": {"max": 1}},
            ]
            made.via(layers=allow(READS)["layers"] + behind)
            async with (
                serve(str(made)) as proxy,
                asking(protocol, proxy.addresses["edge"]) as ask,
            ):
                for body in (b"", b"small", b"x" * 20_000):
                    for _ in range(3):
                        is_forbidden(await ask(request("PUT", "/", body=body)))
                        # Its body is read to its end, and the connection goes on.
                assert metric(proxy, "meshcore_breaker_state") == 0
                assert metric(proxy, "meshcore_listener_connections_total") == 1
                assert (await ask(request("GET", "/"))).status == 200
                assert (await ask(request("GET", "/"))).status == 429
                assert metric(proxy, "meshcore_local_answers_total", reason="forbidden") == 9

    run(main())


@BOTH
def test_what_stands_before_it_is_charged(
    run: Run, serve: Serve, engine: str, protocol: str
) -> None:
    """Whoever tries names has as many tries as a limit in front allows."""

    async def main() -> None:
        async with service("http1", answer) as origin:
            limit = {"client_limit": {"rate": "2/h", "burst": 2}}
            made = plain(origin.port, engine).listen(layers=[limit, *allow(READS)["layers"]])
            async with (
                serve(str(made)) as proxy,
                asking(protocol, proxy.addresses["edge"]) as ask,
            ):
                for status in (403, 403, 429):
                    assert (await ask(request("PUT", "/"))).status == status

    run(main())
