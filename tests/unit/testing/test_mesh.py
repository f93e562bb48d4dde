"""A mesh under test says what the proxy would do, by the same core."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Callable
from datetime import timedelta
from pathlib import Path
from typing import Any, Literal

import pytest

import meshcore
from meshcore.testing import Decision, Mesh, RouteMatch, request, response

LISTENERS = """
version: 1
listeners:
  edge: {bind: "127.0.0.1:0"}
"""
UPSTREAMS = """
upstreams:
  one: {endpoints: ["10.0.0.1:80"]}
"""
PLAIN = f"""{LISTENERS}
routes:
  - {{name: all, upstream: one}}
{UPSTREAMS}"""
GET = "GET https://a.example/v1?x=1"


ALONE = 'endpoints: ["10.0.0.1:80"]'
PAIR = 'endpoints: ["10.0.0.1:80", "10.0.0.2:80"]'


def mesh_of(route: str = "", upstream: str = "", listener: str = "", endpoints: str = PAIR) -> Mesh:
    return Mesh(f"""
version: 1
listeners:
  edge: {{bind: "127.0.0.1:0", {listener}}}
routes:
  - {{name: all, upstream: one, {route}}}
upstreams:
  one: {{{endpoints}, {upstream}}}
""")


def statuses(
    mesh: Mesh, times: int, text: str = GET, client: str = "192.0.2.7"
) -> list[int | None]:
    return [mesh.decide(text, client=client).status for _ in range(times)]


# --- routes -----------------------------------------------------------------------------------

ROUTES = Mesh(f"""{LISTENERS}
routes:
  - name: v1
    match: {{host: ["*.example", "b.test"], path: {{prefix: /v1}}}}
    upstream: one
  - name: canary
    match: {{host: "*.example", path: {{prefix: /v1}}, headers: {{x-canary: "1"}}}}
    upstream: one
  - name: old
    match: {{host: "*.example", path: {{exact: /old}}, query: {{a: b}}}}
    redirect: {{path: /new}}
  - name: post
    match: {{host: "c.test", methods: [POST]}}
    respond: {{status: 204}}
{UPSTREAMS}""")


@pytest.mark.parametrize(
    ("text", "headers", "found"),
    [
        (GET, {}, RouteMatch("v1", "one", "*.example", "prefix /v1")),
        ("PUT http://b.test:8080/v1/x", {}, RouteMatch("v1", "one", "b.test", "prefix /v1")),
        (GET, {"X-Canary": "1"}, RouteMatch("canary", "one", "*.example", "prefix /v1")),
        ("GET http://a.example/%6Fld?a=b", {}, RouteMatch("old", None, "*.example", "exact /old")),
        ("POST http://c.test", {}, RouteMatch("post", None, "c.test", None)),
        ("GET http://c.test?x", {}, None),
        ("GET https://a.example/v10", {}, None),
    ],
)
def test_a_route_is_found_as_the_core_finds_it(
    text: str, headers: dict[str, str], found: RouteMatch | None
) -> None:
    assert ROUTES.route(text, headers=headers) == found
    assert ROUTES.decide(text, headers=headers).route == (found and found.name)


def test_finding_a_route_charges_nothing() -> None:
    mesh = mesh_of(listener="layers: [{client_limit: {rate: 1/s, burst: 1}}]")
    for _ in range(5):
        assert mesh.route(GET) is not None
    assert statuses(mesh, 2) == [None, 429]


def test_what_clients_may_not_say_of_themselves_matches_nothing() -> None:
    mesh = Mesh(
        f"""{LISTENERS}
routes:
  - {{name: of user, match: {{headers: {{x-user: a}}}}, upstream: one}}
{UPSTREAMS}""".replace("of user", "user")
    )
    assert mesh.route(GET, headers={"x-user": "a"}) is not None
    assert mesh.route(GET, headers={"x_user": "a"}) is None


def test_what_a_listener_refuses_before_routing_has_no_route() -> None:
    mesh = mesh_of()
    with pytest.raises(ValueError, match="refused before routing: "):
        mesh.route("GET https://a.example/%00")
    decision = mesh.decide("GET https://a.example/%00")
    assert (decision.action, decision.status, decision.reason) == ("answer", 400, "bad_request")
    assert decision.route is None


# --- limits -----------------------------------------------------------------------------------


def test_the_eleventh_is_refused_and_passes_later() -> None:
    mesh = mesh_of(route="layers: [{client_limit: {rate: 10/s, burst: 10}}]")
    assert statuses(mesh, 10) == [None] * 10
    refused = mesh.decide(GET, client="192.0.2.7")
    assert (refused.action, refused.status, refused.reason) == ("answer", 429, "rate_limited")
    assert refused.decided_by == "routes[0].layers[0].client_limit"
    assert refused.retry_after == 1
    assert refused.header("RateLimit-Limit") == "10"
    assert b"rate limited" in refused.body
    assert refused.sent is None
    assert mesh.decide(GET, client="192.0.2.8").forwarded
    mesh.advance("100ms")
    assert statuses(mesh, 2) == [None, 429]
    mesh.advance(0.1)
    assert statuses(mesh, 2) == [None, 429]
    mesh.advance(timedelta(seconds=1))
    assert statuses(mesh, 11) == [None] * 10 + [429]


def test_the_layer_that_refuses_is_named_where_it_stands() -> None:
    listener = "layers: [{in_flight: {max: 5}}, {limit: {rate: 3/s, burst: 3}}]"
    mesh = mesh_of("layers: [{in_flight: {max: 1}}]", listener=listener)
    with mesh.holding():
        assert mesh.decide(GET).forwarded
        full = mesh.decide(GET)
    assert (full.status, full.reason, full.detail) == (503, "overflow", "in_flight of the route")
    assert full.decided_by == "routes[0].layers[0].in_flight"
    assert mesh.decide(GET).forwarded
    assert mesh.decide(GET).decided_by == "listeners.edge.layers[1].limit"


def test_a_cap_is_named_as_a_limiter_is() -> None:
    mesh = mesh_of("layers: [{in_flight: {max: 1}}, {limit: {rate: 1/s, name: all}}]")
    named = mesh_of(listener="layers: [{in_flight: {max: 1, name: all}}]")
    with mesh.holding(), named.holding():
        assert mesh.decide(GET).forwarded
        assert named.decide(GET).forwarded
        assert mesh.decide(GET).detail == "in_flight of the route"
        assert named.decide(GET).detail == "layer all of the listener"
    assert mesh.decide(GET).detail == "layer all of the route"


def test_what_is_forwarded_holds_its_place_within_the_block_only() -> None:
    mesh = mesh_of(upstream="limits: {requests: 2, client_share: 100}")
    assert [mesh.decide(GET).forwarded for _ in range(5)] == [True] * 5
    with mesh.holding():
        held = [mesh.decide(GET) for _ in range(3)]
        assert [each.forwarded for each in held] == [True, True, False]
        assert held[2].decided_by == "upstreams.one.limits.requests"
        assert mesh.succeed(held[0]).status == 200
        assert mesh.decide(GET).forwarded
    assert mesh.look(held[1]).action == "cut"
    with mesh.holding():
        assert [mesh.decide(GET).forwarded for _ in range(3)] == [True, True, False]


def test_one_client_takes_its_share_alone() -> None:
    mesh = mesh_of(upstream="limits: {requests: 4, client_share: 50}")
    with mesh.holding():
        found = [mesh.decide(GET, client="192.0.2.7") for _ in range(3)]
        assert mesh.decide(GET, client="192.0.2.8").forwarded
    assert [each.forwarded for each in found] == [True, True, False]
    assert found[2].decided_by == "upstreams.one.limits.client_share"


# --- outcomes ---------------------------------------------------------------------------------

BREAKER = "circuit_breaker: {failures: 3, open_for: 30s, on: [connect, reset, 503]}"


@pytest.mark.parametrize("by", ["connect", "reset", 503])
def test_failures_open_a_breaker_and_time_lets_probes_through(
    by: Literal["connect", "reset"] | int,
) -> None:
    mesh = mesh_of("retry: off", f"{BREAKER}, ejection: off", endpoints=ALONE)
    for _ in range(3):
        assert mesh.fail(mesh.decide(GET), by).status == (503 if by == 503 else 502)
    refused = mesh.decide(GET)
    assert (refused.status, refused.reason) == (503, "breaker_open")
    assert refused.decided_by == "upstreams.one.circuit_breaker"
    assert refused.retry_after is not None
    assert 24 <= refused.retry_after <= 36  # by chance
    mesh.advance(refused.retry_after - 1)
    assert not mesh.decide(GET).forwarded
    mesh.advance(1)
    with mesh.holding():
        probe = mesh.decide(GET)
        assert probe.forwarded
        assert not mesh.decide(GET).forwarded  # one probe at a time
        done = mesh.succeed(probe)
    assert (done.action, done.status, done.reason) == ("relay", 200, None)
    mesh.succeed(mesh.decide(GET))
    with mesh.holding():
        assert [mesh.decide(GET).forwarded for _ in range(3)] == [True] * 3


def test_a_breaker_of_a_route_is_named_as_such() -> None:
    mesh = mesh_of(
        f"retry: off, layers: [{{limit: {{rate: 9/s}}}}, {{{BREAKER}}}]", endpoints=ALONE
    )
    for _ in range(3):
        mesh.fail(mesh.decide(GET))
    assert mesh.decide(GET).decided_by == "routes[0].layers[1].circuit_breaker"


def test_what_is_given_back_says_nothing_of_a_service() -> None:
    mesh = mesh_of("retry: off", "circuit_breaker: {failures: 1}")
    for _ in range(20):
        assert mesh.decide(GET).forwarded
    mesh.advance("1h")
    assert mesh.decide(GET).forwarded


def test_an_endpoint_that_fails_is_ejected_for_its_time() -> None:
    ejection = "ejection: {failures: 2, eject_for: 10s, max_percent: 50}, circuit_breaker: off"
    mesh = mesh_of("retry: off", ejection)
    told = 0
    while told < 2:
        decision = mesh.decide(GET)
        if decision.endpoint == "10.0.0.1:80":
            mesh.fail(decision)
            told += 1
    assert {mesh.decide(GET).endpoint for _ in range(30)} == {"10.0.0.2:80"}
    mesh.advance("15s")
    assert {mesh.decide(GET).endpoint for _ in range(30)} == {"10.0.0.1:80", "10.0.0.2:80"}


def test_a_failure_is_tried_again_as_the_policy_says() -> None:
    mesh = mesh_of("retry: {retries: 2, when: [connect, 503]}", "circuit_breaker: off")
    first = mesh.decide(GET)
    second = mesh.fail(first)
    assert (second.action, second.attempt, second.pause) == ("forward", 2, 0)
    assert second.endpoint != first.endpoint
    third = mesh.fail(second, 503)
    assert (third.action, third.attempt) == ("forward", 3)
    assert third.pause > 0
    last = mesh.fail(third)
    assert (last.action, last.status, last.reason) == ("answer", 502, "upstream_connect")
    assert last.decided_by is None
    relayed = mesh.fail(mesh.decide(GET), 500)
    assert (relayed.action, relayed.status, relayed.attempt) == ("relay", 500, 1)


def test_a_request_that_may_not_be_repeated_is_not() -> None:
    mesh = mesh_of("retry: {retries: 2, when: [connect, reset]}")
    asked = mesh.decide("POST https://a.example/v1", body=b"hello")
    assert asked.forwarded
    assert mesh.fail(asked, "reset").reason == "upstream_reset"
    assert mesh.fail(mesh.decide("POST https://a.example/v1", body=b"hello")).attempt == 2


def test_a_service_that_is_silent_is_given_up_by_the_clock() -> None:
    breaker = "circuit_breaker: {failures: 1, open_for: 1m}"
    mesh = mesh_of("retry: off, timeout: 5s", breaker, endpoints=ALONE)
    with mesh.holding():
        asked = mesh.decide(GET)
        mesh.advance(4.9)
        assert mesh.look(asked).forwarded
        mesh.advance(0.2)
        over = mesh.look(asked)
        assert (over.action, over.status, over.reason) == ("answer", 504, "upstream_timeout")
    assert mesh.decide(GET).reason == "breaker_open"


def test_slow_answers_open_a_breaker_that_minds_them() -> None:
    breaker = "circuit_breaker: {failures: 2, slow_call: 1s, on: [slow]}"
    mesh = mesh_of("retry: off", breaker, endpoints=ALONE)
    for seconds in (0.5, 2, 2):
        assert mesh.decide(GET).forwarded
        with mesh.holding():
            asked = mesh.decide(GET)
            mesh.advance(seconds)
            assert mesh.succeed(asked).action == "relay"
    assert mesh.decide(GET).reason == "breaker_open"


def test_a_held_request_outlives_inner_blocks_and_other_questions() -> None:
    mesh = mesh_of(upstream="limits: {requests: 2, client_share: 100}")
    with mesh.holding():
        outer = mesh.decide(GET)
        with mesh.holding():
            inner = mesh.decide(GET)
            assert not mesh.decide(GET).forwarded
        assert mesh.look(inner).action == "cut"
        assert mesh.route(GET) is not None
        mesh.advance(1)
        assert mesh.look(outer).forwarded
        assert mesh.decide(GET).forwarded
        assert not mesh.decide(GET).forwarded
    assert mesh.look(outer).reason == "client_gone"


def test_the_pause_before_an_attempt_passes_for_all_that_is_held() -> None:
    retry = "retry: {retries: 3, when: [503]}, timeout: 0"
    mesh = mesh_of(retry, "circuit_breaker: off, ejection: off", endpoints=ALONE)
    with mesh.holding():
        first, other = mesh.decide(GET), mesh.decide(GET)
        pauses = []
        while first.forwarded:
            first = mesh.fail(first, 503)
            pauses.append(first.pause)
        assert (first.action, first.status, first.attempt) == ("relay", 503, 4)
        assert all(pause > 0 for pause in pauses[:3])
        assert mesh.succeed(other).status == 200


def test_each_try_has_its_time_and_another_follows() -> None:
    retry = "retry: {retries: 1, per_try: 1s, when: [reset]}, timeout: 5s"
    mesh = mesh_of(retry, "circuit_breaker: off, ejection: off")
    with mesh.holding():
        asked = mesh.decide(GET)
        mesh.advance("1.5s")
        second = mesh.look(asked)
        assert (second.action, second.attempt) == ("forward", 2)
        mesh.advance("1.5s")
        assert mesh.look(asked).status == 504


def test_what_an_endpoint_gets_and_a_client_gets() -> None:
    changes = "request_headers: {set: {x-tenant: a}, remove: [cookie]}, rewrite: {path: /api}"
    mesh = mesh_of(f"match: {{path: {{prefix: /v1}}}}, {changes}")
    decision = mesh.decide("PUT https://a.example/v1/x?y", headers=[("cookie", "c")], body=b"b")
    sent = decision.sent
    assert sent is not None
    assert (sent.method, sent.target) == ("PUT", "/api/x?y")
    assert (sent.header("X-Tenant"), sent.header("cookie")) == ("a", None)
    assert sent.header("x-forwarded-for") == "192.0.2.1"
    assert sent.header("content-length") == "1"
    done = mesh.succeed(decision, 201, headers={"Location": "/v1/x"})
    assert (done.status, done.header("location")) == (201, "/v1/x")


@pytest.mark.parametrize(
    ("status", "text"), [(204, GET), (304, GET), (200, "HEAD http://a.example/")]
)
def test_responses_without_a_body_end(status: int, text: str) -> None:
    mesh = mesh_of()
    assert mesh.succeed(mesh.decide(text), status).action == "relay"


def test_a_tunnel_is_relayed_once_it_is_agreed_to() -> None:
    mesh = mesh_of("upgrade: [websocket]", "limits: {requests: 1}")
    upgrade = {"connection": "upgrade", "upgrade": "websocket"}
    for _ in range(2):
        asked = mesh.decide(GET, headers=upgrade)
        done = mesh.succeed(asked, 101, headers=upgrade)
        assert (done.action, done.status, done.reason) == ("relay", 101, None)


def test_a_call_of_grpc_is_refused_in_its_own_words() -> None:
    mesh = mesh_of("layers: [{limit: {rate: 1/s, burst: 1}}]")
    call = "POST https://a.example/shop.Orders/Get"
    headers = {"content-type": "application/grpc", "te": "trailers"}
    assert mesh.decide(call, headers=headers).forwarded
    refused = mesh.decide(call, headers=headers)
    assert (refused.status, refused.reason) == (200, "rate_limited")
    assert refused.header("grpc-status") == "8"
    mesh.advance(1)
    asked = mesh.decide(call, headers=headers, body=b"\0\0\0\0\1a")
    assert asked.sent is not None
    assert asked.sent.header("te") == "trailers"
    done = mesh.succeed(asked, headers={"content-type": "application/grpc", "grpc-status": "5"})
    assert (done.action, done.header("grpc-status")) == ("relay", "5")


def test_a_client_behind_a_trusted_proxy_is_the_one_that_counts() -> None:
    trusted = "client_address: {trusted: [10.0.0.0/8], header: x-forwarded-for}"
    mesh = mesh_of("layers: [{client_limit: {rate: 1/s, burst: 1}}]", listener=trusted)
    for peer, status in (("10.0.0.1", None), ("10.0.0.2", 429), ("192.0.2.9", None)):
        asked = mesh.decide(GET, headers={"x-forwarded-for": "192.0.2.7"}, client=peer)
        assert asked.status == status


def test_a_connect_is_asked_for_by_host_and_port() -> None:
    assert mesh_of().decide("CONNECT a.example:443").status == 405
    assert mesh_of("upgrade: [connect]").decide("CONNECT a.example:443").forwarded


def test_redirects_and_fixed_answers_are_answers() -> None:
    old = ROUTES.decide("GET https://a.example/old?a=b")
    assert (old.action, old.reason, old.decided_by) == ("answer", "redirect", None)
    assert old.header("location") is not None
    assert ROUTES.decide("POST http://c.test/").status == 204
    assert ROUTES.decide("GET http://nobody.test/").reason == "no_route"


def test_choices_by_chance_are_the_same_in_every_run() -> None:
    def chosen(seed: int) -> list[str | None]:
        mesh = Mesh(PLAIN.replace('["10.0.0.1:80"]', '["a:1", "b:1", "c:1"]'), seed=seed)
        return [mesh.decide(GET).endpoint for _ in range(20)]

    assert chosen(1) == chosen(1)
    assert chosen(1) != chosen(2)


TELLINGS: list[Callable[[Mesh, Decision], Decision]] = [
    lambda mesh, decision: mesh.fail(decision, "reset"),
    lambda mesh, decision: mesh.fail(decision, 503),
    lambda mesh, decision: mesh.succeed(decision),
    lambda mesh, decision: mesh.succeed(decision, 404),
]


@pytest.mark.parametrize("seed", range(10))
def test_whatever_is_told_in_the_end_nothing_is_held(seed: int) -> None:
    chance = random.Random(seed)
    mesh = mesh_of(
        "upgrade: [websocket], timeout: 3s, layers: [{in_flight: {max: 4}}],"
        "retry: {retries: 3, per_try: 1s, when: [connect, reset, 503]}",
        "circuit_breaker: {failures: 4, open_for: 2s}, limits: {requests: 4, client_share: 100}",
    )
    upgrade = {"upgrade": "websocket", "connection": "upgrade"}
    for _ in range(60):
        with mesh.holding():
            held: list[Decision] = []
            for _ in range(8):
                if chance.random() < 0.2:
                    mesh.advance(chance.random())
                text = f"{chance.choice(['GET', 'POST', 'HEAD', 'TRACE'])} https://a.example/"
                held.append(mesh.decide(text, headers=chance.choice([{}, upgrade])))
                decision = mesh.look(chance.choice(held))
                while decision.forwarded and chance.random() < 0.9:
                    decision = chance.choice(TELLINGS)(mesh, decision)
        assert not any(mesh.look(each).forwarded for each in held)
    mesh.advance("1h")
    mesh.succeed(mesh.decide(GET))  # a breaker that was open is half-open
    mesh.succeed(mesh.decide(GET))
    with mesh.holding():
        assert [mesh.decide(GET).forwarded for _ in range(5)] == [True] * 4 + [False]


# --- layers -----------------------------------------------------------------------------------


class Tenant(meshcore.Layer):
    def on_request(self, request: meshcore.Request) -> meshcore.Answer | None:
        if request.header("x-tenant") is None:
            return meshcore.Answer(401, [("x-why", "no tenant")], b"who?")
        request.set_header("x-seen", request.client or "")
        return None

    def on_response(
        self, request: meshcore.Request, response: meshcore.Response
    ) -> meshcore.Answer | None:
        response.set_header("x-layer", str(response.reason))
        return meshcore.Answer(418) if response.status == 500 else None


class Later(meshcore.Layer):
    async def on_request(self, request: meshcore.Request) -> meshcore.Answer | None:
        await asyncio.sleep(0)
        request.set_header("x-later", "1")
        return None

    async def on_response(self, request: meshcore.Request, response: meshcore.Response) -> None:
        response.set_header("x-later", "1")


class Faulty(meshcore.Layer):
    def on_request(self, request: meshcore.Request) -> None:
        raise KeyError("as made")


class Ends(meshcore.Layer):
    def on_request(self, request: meshcore.Request) -> None:
        raise KeyboardInterrupt


def with_layer(layer: meshcore.Layer) -> Mesh:
    text = PLAIN.replace('bind: "127.0.0.1:0"', 'bind: "127.0.0.1:0", layers: [{python: "a:B"}]')
    limited = text.replace("upstream: one}", "upstream: one, layers: [{limit: {rate: 1/s}}]}")
    return Mesh(limited, layers={"a:B": layer})


def test_layers_see_requests_and_what_becomes_of_them() -> None:
    mesh = with_layer(Tenant())
    refused = mesh.decide(GET)
    assert (refused.status, refused.reason, refused.body) == (401, "layer_response", b"who?")
    assert refused.decided_by == "listeners.edge.layers[0].python"
    asked = mesh.decide(GET, headers={"x-tenant": "t"}, client="2001:db8::1")
    assert asked.sent is not None
    assert asked.sent.header("x-seen") == "2001:db8::1"
    assert mesh.succeed(asked).header("x-layer") == "None"
    assert mesh.decide(GET, headers={"x-tenant": "t"}).header("x-layer") == "rate_limited"
    mesh.advance(1)
    replaced = mesh.fail(mesh.decide(GET, headers={"x-tenant": "t"}), 500)
    assert (replaced.action, replaced.status) == ("answer", 418)


def test_an_async_layer_runs_to_its_end() -> None:
    mesh = with_layer(Later())
    asked = mesh.decide(GET)
    assert asked.sent is not None
    assert asked.sent.header("x-later") == "1"
    assert mesh.succeed(asked).header("x-later") == "1"


async def test_one_that_waits_cannot_where_a_loop_runs_and_that_is_said() -> None:
    mesh = with_layer(Later())
    with pytest.raises(RuntimeError, match=r"asyncio\.to_thread"):
        mesh.decide(GET)
    assert (await asyncio.to_thread(with_layer(Later()).decide, GET)).forwarded
    assert with_layer(Tenant()).decide(GET, headers={"x-tenant": "t"}).forwarded


def test_what_a_layer_raises_is_told() -> None:
    decision = with_layer(Faulty()).decide(GET)
    assert (decision.status, decision.reason) == (500, "layer_error")
    assert isinstance(decision.error, KeyError)
    with pytest.raises(KeyboardInterrupt):
        with_layer(Ends()).decide(GET)


def test_layers_are_loaded_beside_the_file(tmp_path: Path) -> None:
    (tmp_path / "beside_mesh.py").write_text(
        "import meshcore\n"
        "class Only(meshcore.Layer):\n"
        "    def on_request(self, request):\n"
        "        return meshcore.Answer(299)\n"
    )
    text = PLAIN.replace("upstream: one}", 'upstream: one, layers: [{python: "beside_mesh:Only"}]}')
    (tmp_path / "mesh.yaml").write_text(text)
    assert Mesh(tmp_path / "mesh.yaml").decide(GET).status == 299
    assert Mesh(str(tmp_path / "mesh.yaml")).decide(GET).status == 299


# --- configurations ---------------------------------------------------------------------------


def test_a_loaded_configuration_is_taken_as_it_is() -> None:
    assert Mesh(meshcore.load_text(PLAIN)).decide(GET).route == "all"


def test_no_certificate_key_or_token_is_opened() -> None:
    mesh = Mesh("""
version: 1
admin: {bind: "127.0.0.1:9901", token_file: /nowhere/token}
listeners:
  plain: {bind: "127.0.0.1:0"}
  tls: {bind: "127.0.0.1:0", tls: {cert: /nowhere/a.pem, key: /nowhere/a.key}}
routes:
  - {name: plain, listeners: [plain], redirect: {scheme: https}}
  - {name: tls, listeners: [tls], upstream: one}
upstreams:
  one: {endpoints: ["10.0.0.1:80"], tls: {ca: /nowhere/ca.pem}}
""")
    assert mesh.decide("GET http://a.example/").route == "plain"
    secure = mesh.decide("GET https://a.example/")
    assert secure.route == "tls"
    assert secure.sent is not None
    assert secure.sent.header("x-forwarded-proto") == "https"
    # Behind a balancer that ends TLS:
    assert mesh.decide("GET https://a.example/", listener="plain").route == "plain"


def test_what_is_wrong_with_a_file_is_told_as_by_check(tmp_path: Path) -> None:
    (tmp_path / "mesh.yaml").write_text("version: 1\nlisteners: {edge: {bnd: x}}\n")
    with pytest.raises(meshcore.ConfigError, match=r"mesh\.yaml:2:20: .*bnd"):
        Mesh(tmp_path / "mesh.yaml")
    with pytest.raises(FileNotFoundError):
        Mesh("nowhere.yaml")


def test_variables_are_put_in_where_asked_for(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("WHERE", "10.9.9.9:80")
    mesh = Mesh(PLAIN.replace('"10.0.0.1:80"', '"${WHERE}"'), env=True)
    assert mesh.decide(GET).endpoint == "10.9.9.9:80"


# --- what is wrong ----------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("", "is no request: expected a method and a URL"),
        ("GET", "is no request: expected a method and a URL"),
        ("https://a.example/", "is no request: expected a method and a URL"),
        ("G(T https://a.example/", "'G(T' is no method of HTTP: expected one word"),
        ("get https://a.example/", "'get' is no method of HTTP: write GET"),
        ("GET /v1", "'/v1' is no URL that a request names"),
        ("GET ftp://a.example/", "'ftp://a.example/' is no URL"),
        ("GET https://u@a.example/", "without user"),
        ("GET https://a.example/#top", "fragment"),
        ("GET https://a.example/a b", "spaces"),
        ("GET https://a.example/a\r\nx: y", "spaces"),
        ("GET https://a.example/é", "percent-encode"),
        ("CONNECT https://a.example/", "expected a.example:443"),
    ],
)
def test_what_is_no_request_is_an_error(text: str, told: str) -> None:
    for ask in (ROUTES.route, ROUTES.decide):
        with pytest.raises(ValueError, match=r".") as raised:
            ask(text)
        assert told in str(raised.value)


@pytest.mark.parametrize(
    "headers",
    [{"a b": "c"}, {"a": "b\r\nc: d"}, {"a": "\0"}, {"Host": "b"}, [("content-length", "1")]],
)
def test_what_is_no_field_is_an_error(headers: dict[str, str]) -> None:
    with pytest.raises(ValueError, match=r"no header field|the URL says the host"):
        ROUTES.decide(GET, headers=headers)


def test_unknown_listeners_clients_and_layers_are_errors() -> None:
    mesh = Mesh(PLAIN.replace("listeners:\n", 'listeners:\n  two: {bind: "127.0.0.1:0"}\n'))
    with pytest.raises(ValueError, match="no listener 'three': there is two, edge"):
        mesh.decide(GET, listener="three")
    with pytest.raises(ValueError, match="several listeners: say which by listener=…, one of two"):
        mesh.route(GET)
    assert mesh.decide(GET, listener="two").forwarded
    with pytest.raises(ValueError, match="'nobody' does not appear to be an IPv4 or IPv6 address"):
        mesh.decide(GET, listener="two", client="nobody")
    with pytest.raises(ValueError, match="the configuration has no layer 'a:B'"):
        Mesh(PLAIN, layers={"a:B": Tenant()})


def test_what_is_of_another_type_is_named() -> None:
    wrong: Any
    for wrong, told in (
        ({"body": "text"}, r"^body: expected bytes, got 'text': write text.encode\(\)$"),
        ({"headers": {"x": 1}}, "^headers: expected texts, got 'x': 1$"),
        ({"headers": [1]}, "^headers: expected a mapping, or pairs of texts, got a list$"),
    ):
        with pytest.raises(TypeError, match=told):
            ROUTES.decide(GET, **wrong)
        with pytest.raises(TypeError, match=told):
            response(**wrong)
    for tell in (ROUTES.succeed, ROUTES.fail, ROUTES.look):
        with pytest.raises(
            TypeError, match=r"^decision: expected what `decide` gave, got nothing$"
        ):
            tell(None)  # type: ignore[arg-type]
    ask: Any
    for ask in (ROUTES.route, ROUTES.decide, request):
        with pytest.raises(TypeError, match=r"^request: expected a text, GET .*, got nothing$"):
            ask(None)
        with pytest.raises(TypeError, match=r"^client: expected the text of an address, got 5$"):
            ask(GET, client=5)
        with pytest.raises(ValueError, match=r"^client: 'x' does not appear"):
            ask(GET, client="x")
    with pytest.raises(ValueError, match=r"^time: '5 sec' is not a duration \(write 5s\)$"):
        ROUTES.advance("5 sec")


def test_times_that_are_none_are_errors() -> None:
    for wrong in ("soon", -1, float("nan"), True):
        with pytest.raises(ValueError, match=r"duration|less than no time"):
            ROUTES.advance(wrong)


def test_what_is_over_cannot_be_told_of() -> None:
    mesh = mesh_of("layers: [{limit: {rate: 2/s}}], retry: {retries: 1, when: [connect]}")
    asked = mesh.decide(GET)

    def told(decision: Decision, match: str) -> None:
        for tell in (mesh.fail, mesh.succeed):
            with pytest.raises(ValueError, match=match):
                tell(decision)

    second = mesh.fail(asked)
    told(asked, "this attempt is over")
    told(mesh.succeed(second), "the action is relay")
    told(second, "the request is over")
    other = mesh.decide(GET)
    told(mesh.decide(GET), "nothing was asked of an endpoint: the action is answer")
    told(other, "within `with mesh.holding")
    mesh.advance(1)
    late = mesh.decide(GET)
    mesh.advance(0)
    told(late, "before the clock goes on|the clock goes on")
    with pytest.raises(ValueError, match="'gone' is no failure"):
        mesh.fail(late, "gone")  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="99 is no status"):
        mesh.fail(late, 99)


def test_a_connection_that_was_made_is_not_refused_later() -> None:
    mesh = mesh_of("retry: off")
    with mesh.holding():
        asked = mesh.decide(GET)
        mesh.advance(1)
        with pytest.raises(ValueError, match="say by='reset'"):
            mesh.fail(asked)
        assert mesh.fail(asked, "reset").status == 502
