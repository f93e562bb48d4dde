"""One path for whoever decides, and the client's own spelling for the endpoint."""

from __future__ import annotations

import json
from typing import Any

import pytest

from meshcore import Layer, Request
from tests.wire.blame import PROTOCOLS, every_way
from tests.wire.conftest import Run
from tests.wire.either import Message, request
from tests.wire.h2_mesh import Mesh
from tests.wire.h2_peer import ResetError
from tests.wire.test_fields import through

every_client = pytest.mark.parametrize("client", PROTOCOLS)

# As it came, as it is matched, as it is sent on.
SPELLINGS = [
    ("/", "/", "/"),
    ("/admin", "/admin", "/admin"),
    ("//admin", "/admin", "/admin"),
    ("///admin//x", "/admin/x", "/admin//x"),
    ("/x/../%61dmin", "/admin", "/%61dmin"),
    ("/x/..//admin", "/admin", "/admin"),
    ("/%7Euser/%7euser", "/~user/~user", "/%7Euser/%7euser"),
    ("/caf%c3%a9/%C3%A9", "/caf%C3%A9/%C3%A9", "/caf%c3%a9/%C3%A9"),
    ("/a/./b/%2e%2E/c", "/a/c", "/a/c"),
    ("/[a]|{b}^", "/[a]|{b}^", "/[a]|{b}^"),
]
# Its text, the rule that it breaks, and the key that decides about that.
REFUSED: list[tuple[str, str, str | None]] = [
    ("/@scope%2fpkg", "encoded slash in path", "paths.encoded_slash"),
    ("/a%5Cb", "encoded backslash in path", "paths.encoded_backslash"),
    ("/100%", "% without two hex digits in path", "paths.bad_escapes"),
    ("/a%2f..%2fb", "encoded slash at a dot segment in path", None),
    ("/a%2F%2e%2e", "encoded slash at a dot segment in path", None),
    ("/a\\b", "backslash in path", None),
    ("/a#b", "# in path", None),
    ("/a?b#c", "# in query", None),
    ("/a%00", "%00 in path", None),
    ("/a//../b", ".. after an empty segment in path", None),
    ("/a/..;/b", "dot segment with parameters in path", None),
]
KEEPS = {
    "encoded_slash": "keep",
    "encoded_backslash": "keep",
    "repeated_slashes": "keep",
    "bad_escapes": "escape",
}


class Paths(Layer):
    """Writes down which paths it is shown."""

    def __init__(self) -> None:
        self.seen: list[tuple[str, str]] = []

    def on_request(self, request: Request) -> None:
        self.seen.append((request.path, request.raw_path))


def routed(mesh: Mesh, path: str) -> Mesh:
    """Of that path alone, and with a log."""
    mesh.top["access_log"] = "json"
    return mesh.via(match={"path": {"exact": path}})


@every_way
@pytest.mark.parametrize(("raw", "matched", "sent"), SPELLINGS)
def test_all_who_decide_see_one_path_and_the_endpoint_the_clients_own(
    run: Run,
    capsys: pytest.CaptureFixture[str],
    engine: str,
    client: str,
    endpoint: str,
    raw: str,
    matched: str,
    sent: str,
) -> None:
    layer = Paths()

    async def go() -> None:
        way = through(client, endpoint, engine, None, layer, lambda mesh: routed(mesh, matched))
        async with way as (ask, origin):
            assert (await ask(request("GET", raw + "?q=%7e"))).status == 200
            assert origin.asked[0].fields[":path"] == sent + "?q=%7e"

    run(go())
    assert layer.seen == [(matched, raw)]
    (line,) = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    assert (line["target"], line["route"]) == (matched + "?q=%7e", "all")


@every_way
@pytest.mark.parametrize(
    ("prefix", "to", "raw", "sent"),
    [
        ("/v1", "/", "/v1//evil.com", "/evil.com"),
        ("/v1", "/", "//v1///evil.com//x", "/evil.com//x"),
        ("/v1", "/", "/v1", "/"),
        ("/v1", "/v2/", "/v1/x", "/v2/x"),
        ("/v1", "/v2", "/%761/%7e", "/v2/%7e"),
        ("/~u/caf\u00e9", "/x", "/%7eu/caf%c3%a9/%c3%a9", "/x/%c3%a9"),
        ("/a/b", "/c", "/a///b/d", "/c/d"),
        ("/", "/in", "//a/../%62", "/in/%62"),
    ],
)
def test_a_rewrite_replaces_what_matched_however_it_is_spelt(
    run: Run, engine: str, client: str, endpoint: str, prefix: str, to: str, raw: str, sent: str
) -> None:
    def rewrites(mesh: Mesh) -> Mesh:
        return mesh.via(match={"path": {"prefix": prefix}}, rewrite={"path": to})

    async def go() -> None:
        async with through(client, endpoint, engine, mesh=rewrites) as (ask, origin):
            assert (await ask(request("GET", raw))).status == 200
            assert origin.asked[0].fields[":path"] == sent

    run(go())


def redirecting(mesh: Mesh) -> Mesh:
    del mesh.route["upstream"]
    mesh.route |= {"redirect": {"scheme": "https"}, "layers": []}
    return mesh


@every_client
def test_a_redirect_leads_to_the_path_as_it_would_be_sent_on(
    run: Run, engine: str, client: str
) -> None:
    async def go() -> None:
        async with through(client, client, engine, mesh=redirecting) as (ask, _):
            for raw, sent in (
                ("//evil.com/%7e", "/evil.com/%7e"),
                ("/a/../%7e//x?q", "/%7e//x?q"),
            ):
                found = await ask(request("GET", raw))
                assert found.fields["location"] == f"https://a.test{sent}"

    run(go())


# --- refusals -----------------------------------------------------------------------------------


def told(found: Message) -> tuple[int, str, str | None, str | None]:
    """Status, reason, rule and key of an answer."""
    assert found.fields["content-type"] == "application/problem+json"
    body = json.loads(found.body)
    assert body["reason"] == found.fields["x-mesh-reason"]
    return found.status, body["reason"], body.get("detail"), body.get("key")


@every_client
@pytest.mark.parametrize(("target", "rule", "key"), REFUSED)
def test_a_refusal_names_its_rule_and_the_key(
    run: Run, engine: str, client: str, target: str, rule: str, key: str | None
) -> None:
    async def go() -> None:
        async with through(client, client, engine) as (ask, origin):
            found = await ask(request("GET", target))
            assert told(found) == (400, "bad_request", rule, key)
            assert origin.asked == []

    run(go())


@every_client
@pytest.mark.parametrize(
    "target", ["/a b", "/a\x7f", "/a\tb", "/a\x01", "/caf\u00e9", "/a?\u00e9", "/a?b\x7f", "/a?b c"]
)
def test_bytes_that_no_url_has_are_refused_whatever_the_keys(
    run: Run, engine: str, client: str, target: str
) -> None:
    async def go() -> None:
        kept = through(client, client, engine, mesh=lambda mesh: mesh.listen(paths=KEEPS))
        async with kept as (ask, origin):
            # In a field of HTTP/2 control characters but for a tab are malformed (RFC 9113 §8.2.1).
            if client == "h2" and {"\x01", "\x7f"} & set(target):
                with pytest.raises(ResetError, match="reset with 1"):
                    await ask(request("GET", target))
            else:
                assert (await ask(request("GET", target))).status == 400
            assert origin.asked == []

    run(go())


@every_way
@pytest.mark.parametrize(
    ("target", "matched", "sent"),
    [
        ("/@scope%2fpkg", "/@scope%2Fpkg", "/@scope%2fpkg"),
        ("/api/queues/%2F/q", "/api/queues/%2F/q", "/api/queues/%2F/q"),
        ("/a/%5cb", "/a/%5Cb", "/a/%5cb"),
        ("/100%", "/100%25", "/100%25"),
        ("/bucket//key", "/bucket//key", "/bucket//key"),
        ("//bucket//key", "/bucket//key", "/bucket//key"),
    ],
)
def test_what_a_listener_keeps_is_part_of_its_segment(
    run: Run, engine: str, client: str, endpoint: str, target: str, matched: str, sent: str
) -> None:
    layer = Paths()

    async def go() -> None:
        way = through(client, endpoint, engine, None, layer, lambda mesh: mesh.listen(paths=KEEPS))
        async with way as (ask, origin):
            assert (await ask(request("GET", target))).status == 200
            assert origin.asked[0].fields[":path"] == sent
            # However much is kept.
            for hidden in ("/a%2f..%2fb", "/..%2fb", "/a%5c%2e.", "/a/..;x%2Fb", "/a//../b"):
                assert (await ask(request("GET", hidden))).status == 400
                if client == "http1":
                    break  # it was the connection's last

    run(go())
    assert layer.seen == [(matched, target)]


@every_client
@pytest.mark.parametrize(
    ("key", "value", "target"),
    [
        ("encoded_slash", "refuse", "/@scope%2fpkg"),
        ("encoded_backslash", "refuse", "/a%5cb"),
        ("repeated_slashes", "refuse", "/a//b"),
        ("bad_escapes", "refuse", "/100%"),
        ("strict_target", "on", "/[a]"),
        ("strict_target", "on", "/a?b|c"),
        ("strict_target", "on", "/a?100%"),
    ],
)
@pytest.mark.parametrize("place", ["listener", "route"])
def test_listeners_and_routes_refuse_by_key(
    run: Run, engine: str, client: str, key: str, value: str, target: str, place: str
) -> None:
    def refuses(mesh: Mesh) -> Mesh:
        keys: dict[str, Any] = {key: value}
        if place == "route":
            return mesh.listen(paths=KEEPS).via(paths=keys)
        return mesh.listen(paths=KEEPS | keys)

    async def go() -> None:
        async with through(client, client, engine, mesh=refuses) as (ask, origin):
            assert (await ask(request("GET", "/plain?a=%2F"))).status == 200
            found = await ask(request("GET", target))
            status, reason, _, named = told(found)
            assert (status, reason, named) == (400, "bad_request", f"paths.{key}")
            assert len(origin.asked) == 1
        kept = through(client, client, engine, mesh=lambda mesh: mesh.listen(paths=KEEPS))
        async with kept as (ask, origin):
            assert (await ask(request("GET", target))).status == 200

    run(go())


@every_client
def test_slashes_that_are_merged_may_be_refused_by_a_route(
    run: Run, engine: str, client: str
) -> None:
    async def go() -> None:
        refuses = {"repeated_slashes": "refuse"}
        async with through(client, client, engine, mesh=lambda m: m.via(paths=refuses)) as (ask, _):
            for target in ("/a//b", "//a"):
                found = await ask(request("GET", target))
                assert told(found)[2:] == ("repeated slashes in path", "paths.repeated_slashes")

    run(go())


@every_client
def test_a_trace_shows_the_path_that_came(run: Run, engine: str, client: str) -> None:
    def traces(mesh: Mesh) -> Mesh:
        return mesh.via(match={"path": {"exact": "/~x"}, "methods": ["TRACE"]})

    async def go() -> None:
        async with through(client, client, engine, mesh=traces) as (ask, _):
            found = await ask(request("TRACE", "//a/../%7ex?q", ("max-forwards", "0")))
            assert found.body.startswith(b"TRACE //a/../%7ex?q HTTP/1.1\r\n")

    run(go())
